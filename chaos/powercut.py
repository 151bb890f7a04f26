"""Power cuts, from what a real service asked of its disk (catalogue K04, K05, K08; F2, F4).

A service receives a folder, and every change it asks of the disk is recorded,
SQLite's included; in half of the recordings it is killed on the way, started
anew, and receives the rest.  ``chaos.crashdisk`` says what a disk may hold
when the power goes after the n-th of these changes.  On such a disk the
service is started as after any crash, and the same folder is sent again.
"""

from __future__ import annotations

import random
import select
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
from attrs import define, frozen

from chaos.crashdisk import CrashDisk, Luck, Operation, Said
from chaos.figures import Figures
from chaos.forked import ChaosFailed, spawn, warm
from chaos.pair import Place, Service, last_words, place, send, service_of
from chaos.plants import PLANTS, plant
from chaos.proof import Tree, Verdict
from chaos.recording import Recording
from chaos.tracing import KILL, Answer, Call, Tracer, unsupported

PATIENCE = 30.0
PER_RECORDING = 50
"""Images that are drawn from one recording."""

CHECKPOINT = 64 * 1024
"""Less than in earnest, so that a file that fits into a test has some."""

TOGETHER = 8
"""Small files that are synced together; some runs have more of them, and some have fewer."""


def _prepare(bug: str | None) -> None:
    from lanxfer.storage import batches
    from lanxfer.wire import limits

    limits.CHECKPOINT = CHECKPOINT
    batches.TOGETHER = TOGETHER
    batches.IN_NEW = 2  # few go into each folder here
    plant(bug)


@frozen
class _Recorded:
    """One recording: from where it starts, what was asked, and what was sent."""

    tree: Tree
    start: CrashDisk
    operations: list[Operation]
    roots: dict[int, str]


def _record(rng: random.Random, here: Place, bug: str | None) -> _Recorded:
    sizes = [rng.randrange(12_000) for _ in range(rng.randrange(3, 14))]
    sizes += [rng.randrange(260_000, 500_000) for _ in range(rng.randrange(1, 3))]
    rng.shuffle(sizes)
    taken = rng.choice((0, rng.randrange(4)))  # where none is, folders are new
    tree = Tree.make(rng, here.root / "tree", sizes, here.inbox, taken=taken)
    receiver = here.inbox.parent
    recording = Recording([receiver])
    port = 0
    for last in (_Life.draw(rng), _Life()):
        service = Service(here, port=port, before=lambda: _prepare(bug))
        if _run(recording, service, tree, here, last):
            break
        port = service.port
    else:
        raise ChaosFailed(f"Nothing arrived. {last_words(here, 'service.said')}")
    root = {receiver.stat().st_ino: receiver.name}
    return _Recorded(tree, recording.start, recording.operations, root)


@define
class _Life:
    """When the service is killed while it is recorded, if it is: at a call, or at a sync."""

    calls: int = 0
    syncs: int = 0

    @classmethod
    def draw(cls, rng: random.Random) -> _Life:
        """A long life, or one of two kinds of short ones."""
        kinds = (cls(), cls(), cls(calls=rng.randrange(1, 700)), cls(syncs=rng.randrange(1, 40)))
        return rng.choice(kinds)

    def over(self, call: Call) -> bool:
        """Whether this call is one too many."""
        syncs = call.name in ("fsync", "fdatasync", "syncfs")
        self.syncs -= syncs
        return call.number == self.calls or (syncs and self.syncs == 0)


def _run(recording: Recording, service: Service, tree: Tree, here: Place, life: _Life) -> bool:
    """One life of the service; whether everything was received in it."""

    def before(call: Call) -> Answer:
        if life.over(call):
            return KILL
        recording.before(call)
        return None

    tracer = Tracer(service.start(held=True), before, recording.after, recording.alone)
    tracer.run(lambda: bool(select.select([service.ready], [], [], 0)[0]), PATIENCE)
    code: int | None = None
    if service.listening(0.0):
        sender = send(here, service.port, [tree.path], "recorded")
        tracer.resume(sender.over, PATIENCE)
        code = sender.wait()
        sender.kill()
    tracer.kill()
    return code == 0


def _images(
    rng: random.Random, recorded: _Recorded, number: int
) -> Iterator[tuple[CrashDisk, Luck, dict[str, str], int]]:
    """The disk at so many moments, drawn by chance, with what was acknowledged until then."""
    cuts = Counter(rng.randrange(len(recorded.operations) + 1) for _ in range(number))
    disk, told = recorded.start, dict[str, str]()
    for at, operation in enumerate([*recorded.operations, None]):
        for _ in range(cuts[at]):
            yield disk, rng.choice(list(Luck)), told, at
        if isinstance(operation, Said):
            told[operation.stored] = operation.digest
        elif operation is not None:
            disk.apply(operation)


@define
class _Recovery:
    """A service and a sender on what a cut left, both in one process."""

    here: Place
    tree: Tree
    said: str

    def run(self) -> int | None:
        """Start, send, stop; the exit code."""
        process = spawn(self._work, self.here.file(self.said))
        code = process.wait(PATIENCE)
        process.kill()
        return code

    def _work(self) -> int:
        from lanxfer.cli.choices import Choices
        from lanxfer.cli.running import run

        return run(self._both, Choices(), logs=True)

    async def _both(self, here: Any) -> int:
        from lanxfer.client import connect

        service = service_of(self.here, here.reactor)
        service.startService()
        try:
            (address,) = await service.when_listening()
            client = await connect(
                here.reactor, address, state=self.here.sender, plain=True, patience=0.0
            )
            sent = await client.send_paths([self.tree.path])
            await client.close()
        finally:
            await service.stopService()
        for path, error in sent.failed:
            here.out.warn(f"{path}: {error}")
        return 1 if sent.failed else 0


@define
class _Judge:
    """Looks at one image after the other."""

    verdict: Verdict
    stuck: list[str]

    def look(self, here: Place, recorded: _Recorded, told: dict[str, str], when: str) -> None:
        """What was promised is there before anybody mends anything, and the rest comes again."""
        tree = recorded.tree
        self.verdict.examine(here.inbox, tree, told, when)
        code = _Recovery(here, tree, "recovery").run()
        if code == 0:
            parts = here.parts()
            self.verdict.examine_end(here.inbox, tree, parts, f"{when}, sent again")
        else:
            self.stuck.append(f"{when}: {code}, {last_words(here, 'recovery')}")


@click.command()
@click.option("--images", default=2000, show_default=True, help="Disks that are looked at.")
@click.option("--plant", "bug", type=click.Choice(list(PLANTS)), help="A bug to be noticed.")
@click.option("--seed", type=int, default=None, help="For the same again.")
def command(images: int, bug: str | None, seed: int | None) -> None:
    """Cut the power anywhere: 0 files lost, damaged or doubled, and a rerun completes."""
    seed = random.randrange(2**32) if seed is None else seed
    rng = random.Random(seed)
    figures = Figures(seed)
    if reason := unsupported():
        print(f"skipped: {reason}")
        return
    warm()
    judge = _Judge(Verdict(), [])
    done = recordings = operations = promises = 0
    lucks: Counter[Luck] = Counter()
    while done < images:
        with place(plain=True) as here:
            recorded = _record(rng, here, bug)
            recordings += 1
            operations += len(recorded.operations)
            several = min(PER_RECORDING, images - done)
            for disk, luck, told, at in _images(rng, recorded, several):
                root = here.root / f"image-{done}"
                disk.image(rng, luck, {node: root / name for node, name in recorded.roots.items()})
                shutil.copytree(here.sender, root / "sender")
                (root / "sender").chmod(0o700)
                when = f"recording {recordings}, cut after {at}, {luck.value}"
                judge.look(Place(root, plain=True), recorded, told, when)
                shutil.rmtree(root)
                done, promises = done + 1, promises + len(told)
                lucks[luck] += 1
                figures.tell(done, images, "images")
    figures.add("images", done)
    figures.add("recordings", recordings)
    figures.add("changes of the disk recorded", operations)
    figures.add("promises looked for", promises)
    judge.verdict.show(figures)
    figures.add("sends that never went through", len(judge.stuck), most=0)
    for each in judge.stuck[:5]:
        print(f"  {each}")
    figures.finish()
