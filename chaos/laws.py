"""What must hold in a world whatever happens in it (security catalogue, I1-I8).

A breach is a sentence, noted and not raised: the code under test would
otherwise take it for an error of its own.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from blake3 import blake3

from chaos.world import Device, Life, World
from lanxfer.errors import Cancelled, LanxferError
from lanxfer.node import Message
from lanxfer.transfers import Direction, Kind, Snapshot, State

_ORDER = {
    State.OFFERED: {State.ACCEPTED, State.OFFERED, State.WAITING},
    State.WAITING: {State.ACCEPTED, State.OFFERED, State.WAITING},
    State.ACCEPTED: {State.MOVING, State.PAUSED, State.COMMITTING, State.OFFERED},
    State.MOVING: {State.MOVING, State.PAUSED, State.COMMITTING, State.OFFERED},
    State.PAUSED: {State.PAUSED, State.MOVING, State.COMMITTING, State.OFFERED},
    # A file that travels with its request seems to be on its way until the other side asks.
    State.COMMITTING: {State.COMMITTING, State.OFFERED, State.WAITING},
}
"""Where a transfer may be next, as its listeners see it; it may finish from anywhere."""


@define(eq=False)
class Job:
    """Something one device is to bring to the other; ``versions`` are all its contents so far.

    A folder has none: its files are jobs as well, sent ``within`` it.
    """

    number: int
    device: Device
    kind: Kind
    name: str
    path: str = ""
    conflict: Any = None
    queued: bool = False
    versions: list[bytes] = field(factory=list)
    within: Job | None = None
    outcome: object = None
    crashed: bool = False
    closed: bool = False
    """Its client was closed meanwhile, which tries nothing again."""
    calm: bool = False
    """Decided when there had been no faults for a while, and patience had begun anew."""

    @property
    def unsure(self) -> bool:
        """Whether it was said that nobody knows: not allowed once there are no faults."""
        told = isinstance(self.outcome, Cancelled) and self.outcome.reason != Cancelled().reason
        return told and (self.closed or not self.calm)

    def contents(self) -> set[bytes]:
        return {each for each in self.versions if each}


class Watched(dict[str, bytes]):
    """The files of one device; every new one is looked at as it appears."""

    def __init__(self, laws: Laws, place: int) -> None:
        super().__init__()
        self._laws = laws
        self._place = place

    def __setitem__(self, name: str, content: bytes) -> None:
        self._laws.appeared(self._place, name, content, self.get(name))
        super().__setitem__(name, content)


class Laws:
    """The memory of one world: what was promised in it, and what was broken."""

    def __init__(self) -> None:
        self.breaches: list[str] = []
        self.jobs: list[Job] = []
        self.acknowledged = 0
        self.world: World
        self._last: dict[str, Snapshot] = {}
        self._texts: dict[str, int] = {}
        self._places = 0
        self._again: set[str] = set()

    def breach(self, what: str) -> None:
        self.breaches.append(what)

    def files(self) -> Watched:
        """The files of the next device."""
        self._places += 1
        return Watched(self, self._places - 1)

    # At once.

    def appeared(self, place: int, name: str, content: bytes, before: bytes | None) -> None:
        """I2, I3: only whole files get a name, and no name is taken from one that has it."""
        if before is not None:
            self.breach(f"{name} was overwritten")
        sender = self.world.devices[1 - place]
        legit = any(content in job.versions for job in self.jobs if job.device is sender)
        if not legit:
            self.breach(f"{name} has {len(content)} bytes that nobody sent")

    def told(self, life: Life, now: Snapshot) -> None:
        """What a registry says goes one way, and ``done`` is true when it is said (I1, I7)."""
        before = self._last.get(now.id)
        self._last[now.id] = now
        if before is not None:
            if before.state.finished:
                self.breach(f"{now.id} went on after it was {before.state.value}")
            elif not now.state.finished and now.state not in _ORDER[before.state]:
                self.breach(f"{now.id} went from {before.state.value} to {now.state.value}")
        self._not_again(life, now)
        if now.done > now.size:
            self.breach(f"{now.id} has {now.done} bytes of {now.size}")
        if now.state is State.DONE and now.direction is Direction.OUT:
            self._acknowledged(life, now)
        open_here = now.id in life.registry._open
        if open_here is now.state.finished:
            self.breach(f"{now.id} is {now.state.value} and its place in the registry is wrong")

    def _not_again(self, life: Life, now: Snapshot) -> None:
        """What was given up is not sent once more."""
        transfer = life.registry._open.get(now.id)
        given_up = transfer is not None and transfer.given_up is not None
        if given_up and now.direction is Direction.OUT:
            if now.state is State.OFFERED:
                self._again.add(now.id)
            elif now.id in self._again:
                self.breach(f"{now.id} was cancelled and is sent again")

    def _acknowledged(self, life: Life, now: Snapshot) -> None:
        self.acknowledged += 1
        if now.kind is Kind.FILE:
            content = self.world.other(life.device).store.files.get(now.stored)
            if content is None:
                self.breach(f"{now.path} was acknowledged and is not there")
            elif blake3(content).hexdigest() != now.digest:
                self.breach(f"{now.path} was acknowledged and is another file")

    def message(self, device: Device, message: Message) -> None:
        """A text is handed over once."""
        count = self._texts[message.text] = self._texts.get(message.text, 0) + 1
        if count > 1:
            self.breach(f"the text {message.text} came twice")

    # At the end, when faults have stopped.

    def finished(self) -> None:
        """I4, I6: both sides agree, once each, and nothing is left open."""
        for job in self.jobs:
            self._agreed(job)
        for device in self.world.devices:
            self._once(device)
            self._nothing_open(device)

    def _agreed(self, job: Job) -> None:
        there = self.world.other(job.device)
        if job.outcome is None:
            self.breach(f"{job.name} never came to an end")
            return
        arrived = job.contents() & set(there.store.files.values())
        failed = isinstance(job.outcome, LanxferError)
        if job.kind is Kind.MESSAGE:
            kept = [each.path for each in there.journal.history(1000)]
            if not failed and job.name not in kept:
                self.breach(f"the text {job.name} was acknowledged and not kept")
            return
        if job.kind is Kind.FOLDER:
            return
        if not failed and not job.queued and not (arrived or b"" in job.versions):
            self.breach(f"{job.name} is done here and not there")
        others = {content for other in self.jobs if other is not job for content in other.versions}
        given_up = failed and job.outcome.code == "cancelled"  # type: ignore[attr-defined]
        # A source that changed between two tries is another file, and asked about as that.
        known = not (job.crashed or job.unsure or len(job.versions) > 1)
        if given_up and known and arrived - others:
            self.breach(f"{job.name} was cancelled here and is there")

    def _once(self, device: Device) -> None:
        for name, content in device.store.files.items():
            first = next(key for key, each in device.store.files.items() if each == content)
            same = _base(first) == _base(name)
            if content and first != name and same:
                self.breach(f"{first} is there again as {name}")

    def _nothing_open(self, device: Device) -> None:
        life = device.life
        if len(life.registry):
            self.breach(f"{len(life.registry)} transfers are left open on {device.name}")
        if device.store._open:
            self.breach(f"a part is still locked on {device.name}")
        if life.node._receiving.taken:
            self.breach(f"a place for receiving never came back on {device.name}")


def _base(name: str) -> str:
    """``name`` without the number that a second file of it gets."""
    stem, _, ending = name.rpartition(".")
    return f"{stem.partition(' (')[0]}.{ending}"
