"""Where the start of ``lanxfer send`` goes: what Python says of every module it imports."""

from __future__ import annotations

import sys
from collections import Counter

from bench.figures import Report
from bench.options import Options
from bench.peers.lanxfer import Lanxfer, command
from bench.place import Place
from bench.programs import free_port, run, serving

_SHOWN = 15


def measure(place: Place, options: Options) -> Report:
    """One cold send of 1 KiB under ``-X importtime``; modules by their package."""
    report = Report("", ("package", "modules", "ms of their own"))
    folder = place.several(1, 1024)
    with place.run() as there:
        port, peer = free_port(), Lanxfer()
        log = there.folder / "sender.log"
        with serving(peer.serve(there, port), port, there.folder / "service.log"):
            send = list(peer.send(there, port, [next(folder.iterdir())]))
            run([sys.executable, "-X", "importtime", command(), *send[1:]], log)
        said = log.read_text(errors="replace")
    place.remove(folder)
    spent: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for line in said.splitlines():
        kind, _, rest = line.partition(":")
        own, _, rest = rest.partition("|")
        name = rest.rpartition("|")[2]
        if kind == "import time" and own.strip().isdigit():
            package = name.strip().split(".")[0]
            spent[package] += int(own)
            count[package] += 1
    total = sum(spent.values()) / 1000
    report.title = (
        f"imports: lanxfer send imports {sum(count.values())} modules in {total:.0f} ms"
        " (measuring makes it slower)"
    )
    for package, own in spent.most_common(_SHOWN):
        report.rows.append((package, str(count[package]), f"{own / 1000:.1f}"))
    return report
