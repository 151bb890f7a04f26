"""A disk that fills up at every step of a transfer (catalogue R01, R03; F18).

The receiver's folder and its journal lie on a small file system in memory of
their own.  Before each transfer all but so many bytes of it are taken, from
none to 1 MiB;
then the space is given back, and the same is sent again to the same service.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import click
from attrs import define

from chaos.figures import Figures
from chaos.forked import warm
from chaos.mounting import mount, run_inside, unmount
from chaos.pair import Place, Service, acknowledged, last_words, send
from chaos.plants import PLANTS, plant
from chaos.proof import Tree, Verdict

KIB, MIB = 1024, 1024 * 1024
SIZES = (1, 500 * KIB, 5 * KIB, 150 * KIB, 90 * KIB, 20 * KIB)
"""Of the files of a transfer: less than 1 MiB, since the journal needs some, too."""

DISK = 24 * MIB
"""Room for the journal and for two transfers."""

ATTEMPTS = 20
"""To take what is free, while the service takes some of it as well."""


@define
class _Disk:
    """The small file system."""

    path: Path

    def mount(self) -> None:
        self.path.mkdir()
        mount("tmpfs", f"size={DISK},mode=0700", "lanxfer-chaos", self.path)

    @property
    def ballast(self) -> Path:
        return self.path / "ballast"

    def leave(self, free: int) -> None:
        """Take all but so many bytes.

        The service writes the last second of its history when it likes: what
        was free a moment ago may be too much to ask for, so it is asked again.
        """
        for _ in range(ATTEMPTS):
            self.give_back()
            found = os.statvfs(self.path)
            taken = found.f_bavail * found.f_frsize - free
            try:
                with open(self.ballast, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, taken)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return
        raise click.ClickException(f"The service took more space {ATTEMPTS} times in a row.")

    def give_back(self) -> None:
        self.ballast.unlink(missing_ok=True)


@define
class _Point:
    """One transfer into so much space."""

    here: Place
    disk: _Disk
    service: Service
    free: int
    verdict: Verdict
    complaints: dict[str, list[str]]

    def run(self, tree: Tree) -> bool:
        """Whether the space was enough."""
        when = f"{self.free // KIB} KiB free"
        self.disk.leave(self.free)
        code = self._send(tree, "short")
        told = acknowledged(self.here, "short")
        self.verdict.examine(self.here.inbox, tree, told, when)
        if code == 0 and set(told) != set(tree.wanted):
            self.complaints["wrong ok"].append(when)
        for error in self._errors("short"):
            if error != "disk-full":
                self.complaints["other errors"].append(f"{when}: {error}")
        self.disk.give_back()
        if self._send(tree, "room") == 0:
            parts = self.here.parts()
            self.verdict.examine_end(self.here.inbox, tree, parts, f"{when}, sent again")
        else:
            words = last_words(self.here, "room")
            self.complaints["never went through"].append(f"{when}: {words}")
        if not self.service.listening():
            self.complaints["services that ended"].append(when)
            self.service.begin()
        return code == 0

    def _send(self, tree: Tree, said: str) -> int | None:
        for each in (said, f"{said}.errors"):
            Path(self.here.file(each)).unlink(missing_ok=True)
        sender = send(self.here, self.service.port, [tree.path], said)
        code = sender.wait()
        sender.kill()
        return code

    def _errors(self, said: str) -> list[str]:
        rows = Path(self.here.file(said)).read_text().splitlines()
        return [row["error"] for row in map(json.loads, rows) if "error" in row]


KINDS = ("wrong ok", "other errors", "never went through", "services that ended")


@click.command()
@click.option("--step", default=4 * KIB, show_default=True, help="Bytes from point to point.")
@click.option("--plant", "bug", type=click.Choice(list(PLANTS)), help="A bug to be noticed.")
@click.option("--seed", type=int, default=None, help="For the same again.")
@click.option("--inside", is_flag=True, hidden=True, help="The place for mounting is there.")
def command(step: int, bug: str | None, seed: int | None, inside: bool) -> None:
    """Fill the disk at each step of 1 MiB: no wrong ok, and all goes on once there is space."""
    seed = random.randrange(2**32) if seed is None else seed
    if inside:
        _run(step, bug, seed)
    args = ["--step", str(step), "--seed", str(seed)]
    run_inside("full", args if bug is None else [*args, "--plant", bug])


def _run(step: int, bug: str | None, seed: int) -> None:
    rng = random.Random(seed)
    figures = Figures(seed)
    verdict = Verdict()
    complaints: dict[str, list[str]] = {kind: [] for kind in KINDS}
    enough: Counter[bool] = Counter()
    warm()
    root = Path(tempfile.mkdtemp(prefix="lanxfer-chaos-"))
    here, disk = Place(root), _Disk(root / "receiver")
    disk.mount()
    service = Service(here, before=lambda: plant(bug))
    points = range(0, MIB + 1, step)
    try:
        here.pair()
        service.begin()
        for number, free in enumerate(points):
            sizes = rng.sample(SIZES, len(SIZES))
            tree = Tree.make(rng, root / f"tree-{number}", sizes, here.inbox, taken=number % 2)
            point = _Point(here, disk, service, free, verdict, complaints)
            enough[point.run(tree)] += 1
            tree.clear(here.inbox)
            figures.tell(number + 1, len(points), "points")
    finally:
        service.kill()
        unmount(disk.path)
        shutil.rmtree(root, ignore_errors=True)
    figures.add("points", len(points))
    figures.add("points with too little space", enough[False], least=1)
    figures.add("points with enough", enough[True], least=1)
    verdict.show(figures)
    for kind, found in complaints.items():
        figures.add(kind, len(found), most=0)
        for each in found[:8]:
            print(f"  {kind}: {each}")
    figures.finish()
