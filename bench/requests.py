"""Small requests on one connection between two processes, beside cs.packetstream."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Bar, Report
from bench.options import Options
from bench.peers.ftp import ENVIRONMENT
from bench.place import Place
from bench.programs import free_port, run, serving
from bench.samples import Sample

OURS, THEIRS = "lanxfer", "cs.packetstream"
_HOW = ("sequential", "pipelined")
_PACKETSTREAM = str(Path(__file__).with_name("peers") / "with_packetstream.py")


def measure(place: Place, options: Options) -> Report:
    """Requests with a number or 64 bytes, each waiting for its answer and 200 at a time."""
    report = Report(
        "requests: small ones on one connection in clear, a second",
        ("", "sequential", "pipelined", "64 bytes, sequential", "64 bytes, pipelined"),
        unit="requests/s",
    )
    peers = {OURS: [sys.executable, "-m", "bench.peers.with_links"]}
    if _installed():
        peers[THEIRS] = [str(ENVIRONMENT), _PACKETSTREAM]
    else:
        report.notes.append(f"left out: {THEIRS}, not installed in .cache/bench-peers")
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
    for number in range(options.runs):
        for name, program in peers.items():
            options.tell(f"requests, run {number + 1} of {options.runs}: {name}")
            rates[name].append(_one(place, program, options.pings * 10))
    for name, found in rates.items():
        half = {each: statistics.median(row[each] for row in found) for each in found[0]}
        order = [f"{how} {what}" for what in ("number", "bytes") for how in _HOW]
        report.rows.append((name, *(f"{half[each]:,.0f}" for each in order)))
        report.bars.append(Bar(name, half["pipelined number"], name == OURS))
        for how in _HOW:
            report.samples[f"{name}, {how}"] = [Sample(1 / row[f"{how} number"]) for row in found]
    return report


def _installed() -> bool:
    return any(ENVIRONMENT.parents[1].glob("lib/python*/site-packages/cs/packetstream*"))


def _one(place: Place, program: Sequence[str], count: int) -> dict[str, float]:
    with place.run() as there:
        port, said = free_port(), there.folder / "asker.log"
        with serving([*program, "serve", str(port)], port, there.folder / "service.log"):
            run([*program, "ask", str(port), str(count)], said)
        found: dict[str, float] = json.loads(said.read_text(encoding="utf-8").splitlines()[-1])
        return found
