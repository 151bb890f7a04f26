"""kill -9 of either side at random moments, restart, send again (catalogue K01-K03, K08, K09; F1).

Both sides are real processes: a service, and ``lanxfer send``.  A cycle sends
a folder, kills a side once or a few times while it does, and sends the same
folder again until it went through.  After every kill the receiving folder is
looked at before anybody may tidy it.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import click
from attrs import define

from chaos.figures import Figures
from chaos.forked import ChaosFailed, Process, warm
from chaos.pair import Place, Service, acknowledged, last_words, place, send
from chaos.plants import PLANTS, plant
from chaos.proof import Tree, Verdict

SMALL, MIDDLE = 12_000, 600_000
"""The largest size of most files, and of the few that are streamed."""

RIDES = 0.05
"""The share of cycles in which the sender outlives the receiver and goes on by itself."""

PATIENT = 10.0
"""Seconds for which such a sender tries to connect."""

HEAVY = 0.03
"""The share of cycles with so many files that, under a limit, whole packs of them wait for their
turn when the receiver dies; the sender goes on by itself there."""
HEAVY_FILES, HEAVY_RATE, HEAVY_TIME = 1_200, "8M", 0.6
"""So many, bytes a second, and seconds in which the receiver dies."""

AGAIN, STARTING = 0.2, 0.04
"""The share of starts at which the service is killed once more, and the seconds one takes."""

_TRIES = 3


@define
class _Cycle:
    """One folder on its way, killed and sent again."""

    here: Place
    service: Service
    rng: random.Random
    number: int
    usual: float
    verdict: Verdict
    kills: int = 0
    came_early: int = 0
    runs: int = 0
    heavy: bool = False

    def run(self) -> float | None:
        """Seconds that the last run took, if it was a whole one; None if it did not go through."""
        self.heavy = self.rng.random() < HEAVY
        files = HEAVY_FILES if self.heavy else self.rng.randrange(4, 24)
        sizes = [self.rng.randrange(SMALL) for _ in range(files)]
        sizes += [self.rng.randrange(MIDDLE) for _ in range(self.rng.randrange(3))]
        self.rng.shuffle(sizes)
        path = self.here.root / f"cycle-{self.number}"
        tree = Tree.make(self.rng, path, sizes, self.here.inbox, taken=self.rng.randrange(2))
        try:
            for _ in range(1 if self.heavy else self.rng.choice((1, 1, 1, 1, 2, 3))):
                self._killed(tree)
            return self._whole(tree)
        finally:
            tree.clear(self.here.inbox)

    def _send(self, wait: float = 0.0, rate: str | None = None) -> tuple[Process, str]:
        self.runs += 1
        said = f"said-{self.number}-{self.runs}"
        port, paths = self.service.port, [self._path]
        return send(self.here, port, paths, said, wait=wait, rate=rate), said

    @property
    def _path(self) -> Path:
        return self.here.root / f"cycle-{self.number}"

    def _killed(self, tree: Tree) -> None:
        receiver = self.heavy or self.rng.random() < 0.5
        rides = self.heavy or (receiver and self.rng.random() < RIDES)
        rate, usual = (HEAVY_RATE, HEAVY_TIME) if self.heavy else (None, self.usual)
        sender, said = self._send(wait=PATIENT if rides else 0.0, rate=rate)
        time.sleep(self.rng.uniform(0.0, usual * 1.1))
        if receiver:
            self.service.kill()
        elif not sender.over():
            sender.kill()
        else:
            self.came_early += 1
        self.kills += 1
        when = f"cycle {self.number}, {'receiver' if receiver else 'sender'} killed"
        if not rides:
            self._end(sender, when)
        told = acknowledged(self.here, said)
        self.verdict.examine(self.here.inbox, tree, told, when)
        if receiver:
            self._start()
        if rides:
            self._end(sender, when)
            told = acknowledged(self.here, said)
            self.verdict.examine(self.here.inbox, tree, told, f"{when}, sender went on")

    def _start(self) -> None:
        """Start the service again, at times to be killed while it recovers."""
        if self.rng.random() < AGAIN:
            self.service.start()
            time.sleep(self.rng.uniform(0.0, STARTING))
            self.service.kill()
            self.kills += 1
        self.service.begin()

    def _end(self, sender: Process, when: str) -> None:
        if sender.wait() is None:
            sender.kill()
            raise ChaosFailed(f"The sender hangs: {when}.")

    def _whole(self, tree: Tree) -> float | None:
        for _ in range(_TRIES):
            began = time.perf_counter()
            sender, said = self._send()
            code = sender.wait()
            if code == 0:
                when = f"cycle {self.number}, sent again"
                self.verdict.examine_end(self.here.inbox, tree, self.here.parts(), when)
                return time.perf_counter() - began
            if code is None:
                sender.kill()
        click.echo(f"cycle {self.number}: {code}, {last_words(self.here, said)}", err=True)
        return None


@click.command()
@click.option("--cycles", default=300, show_default=True, help="Folders that are sent and killed.")
@click.option("--plant", "bug", type=click.Choice(list(PLANTS)), help="A bug to be noticed.")
@click.option("--seed", type=int, default=None, help="For the same again.")
def command(cycles: int, bug: str | None, seed: int | None) -> None:
    """Kill either side at random moments; 0 files lost, damaged, doubled or left over."""
    seed = random.randrange(2**32) if seed is None else seed
    rng = random.Random(seed)
    figures = Figures(seed)
    verdict = Verdict()
    kills = early = stuck = 0
    warm()
    with place() as here:
        service = Service(here, before=lambda: plant(bug))
        service.begin()
        usual = 0.06
        try:
            for number in range(cycles):
                cycle = _Cycle(here, service, rng, number, usual, verdict)
                took = cycle.run()
                kills, early = kills + cycle.kills, early + cycle.came_early
                if took is None:
                    stuck += 1
                elif not cycle.heavy:
                    usual += 0.1 * (min(took, 1.0) - usual)
                for each in here.root.glob("said-*"):
                    each.unlink()
                figures.tell(number + 1, cycles, f"cycles, {kills} kills")
        finally:
            service.kill()
    figures.add("cycles", cycles)
    figures.add("kills", kills)
    figures.add("kills that came after the end", early)
    verdict.show(figures)
    figures.add("sends that never went through", stuck, most=0)
    figures.finish()
