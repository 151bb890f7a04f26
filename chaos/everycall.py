"""A fault and a kill at every system call of either side (catalogue K01, K02, R05, R14; F3).

Three files are sent, a small one, one with a name that is taken, and a
streamed one.  Once for every system call of the service, its start included,
and of ``lanxfer send``, that call is the last one of its process, or fails
with each of the errors it can have.  Then the same is sent again without.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import time
from collections import Counter
from collections.abc import Generator
from errno import (
    EACCES,
    ECONNABORTED,
    ECONNREFUSED,
    ECONNRESET,
    EDQUOT,
    EIO,
    EMFILE,
    ENOBUFS,
    ENOLCK,
    ENOSPC,
    EPERM,
    EPIPE,
    EROFS,
)
from pathlib import Path

import click
from attrs import define, field, frozen

from chaos.figures import Figures
from chaos.forked import ChaosFailed, Process, warm
from chaos.pair import Place, Service, acknowledged, last_words, place, send
from chaos.plants import PLANTS, plant
from chaos.proof import Tree, Verdict
from chaos.tracing import KILL, Answer, Call, Tracer, named, unsupported

_OPEN = (EIO, ENOSPC, EMFILE, EACCES, EROFS)
_WRITE = (EIO, ENOSPC, EDQUOT)
_NAME = (EIO, ENOSPC, EROFS)

FAULTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("open", "openat"), _OPEN),
    **dict.fromkeys(("read", "pread64", "getdents64", "readlink", "statfs", "fstatfs"), (EIO,)),
    **dict.fromkeys(("newfstatat", "fstat", "stat", "statx", "lseek"), (EIO,)),
    **dict.fromkeys(("write", "writev", "pwrite64"), _WRITE),
    **dict.fromkeys(("ftruncate", "fallocate"), (EIO, ENOSPC)),
    **dict.fromkeys(("fsync", "fdatasync"), (EIO, ENOSPC)),
    **dict.fromkeys(("linkat", "renameat", "rename", "mkdir", "mkdirat", "symlinkat"), _NAME),
    **dict.fromkeys(("unlink", "unlinkat"), (EIO, EROFS)),
    **dict.fromkeys(("fchmod", "utimensat", "fchown"), (EIO, EPERM)),
    **dict.fromkeys(("flock", "fcntl"), (ENOLCK,)),
    **dict.fromkeys(("socket", "epoll_create1", "pipe2"), (EMFILE,)),
    **dict.fromkeys(("bind", "listen", "setsockopt", "getsockopt", "getsockname"), (ENOBUFS,)),
    "accept4": (EMFILE, ECONNABORTED),
    "connect": (ECONNREFUSED,),
    "sendto": (ECONNRESET, EPIPE, ENOBUFS),
    "recvfrom": (ECONNRESET,),
}
"""What a call can fail with.

A close always closes, and so does not fail here.  Nor does the waiting for events:
a reactor whose own calls fail is deaf, like a process that was stopped.
"""

_ON_FILES = {"read", "write", "writev", "fcntl", "fstat", "lseek"}

PATIENCE = 20.0
"""Seconds for one run with a fault in it; none takes a second without."""

SIDES = ("receiver", "sender")


@frozen
class Point:
    """Where it is cut: the n-th call of a side, and with what."""

    side: str
    number: int
    fault: int | str

    def __str__(self) -> str:
        what = "killed" if self.fault == KILL else named(int(self.fault))
        return f"{self.side} {what} at call {self.number}"


@define
class _Cut:
    """The process that is followed: names of its calls, and the one that is hit."""

    point: Point | None
    names: list[str] = field(factory=list)
    hit: str = ""

    def before(self, call: Call) -> Answer:
        name = _name(call)
        self.names.append(name)
        point = self.point
        if point is None or self.hit or call.number < point.number:
            return None
        # Where calls shift a little from run to run, the next one that can fail like that is hit.
        if point.fault != KILL and point.fault not in FAULTS.get(name, ()):
            return None
        self.hit = name
        return point.fault


def _name(call: Call) -> str:
    """What is called; on a pipe to oneself and the like nothing can go wrong, so that is apart."""
    if call.name not in _ON_FILES:
        return call.name
    try:
        target = os.readlink(f"/proc/{call.tid}/fd/{call.descriptor()}")
    except OSError:
        return call.name
    return call.name if target.startswith("/") else f"{call.name} on no file"


@define
class _Run:
    """One transfer with one fault in it, in a place of its own."""

    here: Place
    tree: Tree
    verdict: Verdict
    complaints: dict[str, list[str]]
    bug: str | None
    number: int = 0

    def calls(self, side: str) -> list[str]:
        """The calls of a side where nothing goes wrong."""
        cut = _Cut(None)
        service, sender, _ = self._transfer(side, cut)
        service.kill()
        if sender is None or sender.wait() != 0:
            raise ChaosFailed(f"It does not even work without faults. {self._words()}")
        self.verdict.examine_end(self.here.inbox, self.tree, self.here.parts(), "without faults")
        return cut.names

    def cut(self, point: Point) -> str:
        """Have it happen, look at what there is, and send again; the call that was hit."""
        cut = _Cut(point)
        service, sender, hung = self._transfer(point.side, cut)
        when = f"{point} ({cut.hit})"
        if hung:
            self._complain("hangs", when)
        told = acknowledged(self.here, f"said-{self.number}")
        if sender is not None and sender.wait() == 0 and set(told) != set(self.tree.wanted):
            self._complain("wrong ok", when)
        self.verdict.examine(self.here.inbox, self.tree, told, when)
        if "Traceback" in self._words():
            self._complain("tracebacks", f"{when}: {self._words()}")
        self._again(service, when)
        return cut.hit

    def _transfer(self, side: str, cut: _Cut) -> tuple[Service, Process | None, bool]:
        """A run of both sides, one of them followed; the sender if it came so far."""
        service = Service(self.here, before=lambda: plant(self.bug))
        if side == "sender":
            service.begin()
            sender = self._send(service, held=True)
            tracer = Tracer(sender, cut.before)
            tracer.run(lambda: False, PATIENCE)
            return service, sender, tracer.hung
        process = service.start(held=True)
        tracer = Tracer(process, cut.before)
        tracer.run(lambda: bool(select.select([service.ready], [], [], 0)[0]), PATIENCE)
        maybe: Process | None = None
        if service.listening(0.0):
            maybe = sender = self._send(service)
            tracer.resume(sender.over, PATIENCE)
            if not sender.over():
                tracer.hung = tracer.hung or sender.wait() is None
                sender.kill()
        tracer.kill()
        return service, maybe, tracer.hung

    def _send(self, service: Service, *, held: bool = False) -> Process:
        self.number += 1
        said = f"said-{self.number}"
        return send(self.here, service.port, [self.tree.path], said, held=held)

    def _again(self, service: Service, when: str) -> None:
        service.kill()  # whether it stood it or not, the next one must find all it needs
        service.begin()
        try:
            sender = self._send(service)
            code = sender.wait()
            if code != 0:
                sender.kill()
                self._complain("stuck", f"{when}: {code} {self._words()}")
            else:
                parts = self.here.parts()
                self.verdict.examine_end(self.here.inbox, self.tree, parts, f"{when}, sent again")
        finally:
            service.kill()

    def _complain(self, kind: str, what: str) -> None:
        self.complaints[kind].append(what)

    def _words(self) -> str:
        said = ("service.said", f"said-{self.number}")
        return " ".join(filter(None, (last_words(self.here, each) for each in said)))


def _template(rng: random.Random, here: Place) -> Tree:
    sizes = [2_000, 5_000, 400_000]
    return Tree.make(rng, here.root / "three", sizes, here.inbox, taken=1)


def _copy(template: Place, tree: Tree, bug: str | None) -> Generator[_Run, None, None]:
    """A run in a copy of the template, again and again."""
    number = 0
    verdict = Verdict()
    complaints: dict[str, list[str]] = {kind: [] for kind in KINDS}
    while True:
        number += 1
        root = template.root / f"copy-{number}"
        for each in ("receiver", "sender", "three"):
            shutil.copytree(template.root / each, root / each)
        (root / "sender").chmod(0o700)
        moved = Tree(Path(root, tree.path.name), tree.wanted, tree.before)
        yield _Run(Place(root), moved, verdict, complaints, bug)
        shutil.rmtree(root)


KINDS = ("wrong ok", "hangs", "stuck", "tracebacks")


def _points(rng: random.Random, calls: dict[str, list[str]], sample: int) -> list[Point]:
    points = []
    for side, names in calls.items():
        for number, name in enumerate(names, 1):
            if name in FAULTS:
                points += [Point(side, number, KILL)]
                points += [Point(side, number, each) for each in FAULTS[name]]
    if sample and sample < len(points):
        points = rng.sample(points, sample)
    return points


@click.command()
@click.option("--sample", default=0, help="Only so many of them, drawn by chance; 0 is all.")
@click.option("--side", type=click.Choice(SIDES), default=None, help="Only this one.")
@click.option("--at", nargs=2, type=int, default=None, metavar="CALL ERRNO", help="Only this one.")
@click.option("--plant", "bug", type=click.Choice(list(PLANTS)), help="A bug to be noticed.")
@click.option("--seed", type=int, default=None, help="For the same again.")
def command(
    sample: int, side: str | None, at: tuple[int, int] | None, bug: str | None, seed: int | None
) -> None:
    """Fail or kill at every system call: no wrong ok, no hang, nothing lost; a rerun completes."""
    seed = random.randrange(2**32) if seed is None else seed
    rng = random.Random(seed)
    figures = Figures(seed)
    if reason := unsupported():
        print(f"skipped: {reason}")
        return
    warm()
    hit: Counter[str] = Counter()
    slowest = (0.0, "")
    with place() as template:
        runs = _copy(template, _template(rng, template), bug)
        sides = SIDES if side is None else (side,)
        calls = {each: next(runs).calls(each) for each in sides}
        points = _points(rng, calls, sample)
        if at is not None:
            points = [Point(each, at[0], at[1] or KILL) for each in sides]
        for number, point in enumerate(points):
            run = next(runs)
            began = time.monotonic()
            hit[run.cut(point)] += 1
            slowest = max(slowest, (time.monotonic() - began, str(point)))
            figures.tell(number + 1, len(points), "faults")
        for each in sides:
            figures.add(f"calls of the {each}", len(calls[each]))
        figures.add("faults", len(points) - hit[""], least=1)
        figures.add(f"slowest ({slowest[1]})", slowest[0], "s")
        run.verdict.show(figures)
        for kind, found in run.complaints.items():
            # A traceback is no pleasure to read, and no lie.
            figures.add(kind, len(found), most=None if kind == "tracebacks" else 0)
            for each in found[:8]:
                print(f"  {kind}: {each}")
        runs.close()
    figures.finish()
