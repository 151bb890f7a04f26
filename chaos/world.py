"""Two devices and whatever lies between them, in memory: time, threads and the network stand still
until somebody moves them.

Everything that speaks is the real thing; the disks, the clocks and the wires
are those of ``lanxfer.testing``.  A device can lose its memory and begin anew
with its store and its journal, as after a crash.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer import ahead, bodies, testing, trees
from lanxfer.client import Client
from lanxfer.commands.dispatch import builtin
from lanxfer.commands.polled import Polled
from lanxfer.connecting import Target, greet
from lanxfer.errors import LanxferError, Lost, Unreachable
from lanxfer.journal import Journal
from lanxfer.node import Incoming, Message, ServiceNode, Taking
from lanxfer.outgoing import Outgoing
from lanxfer.policy import Principal, Standing
from lanxfer.protocol import LanxferProtocol
from lanxfer.rates import Rates, Speeds
from lanxfer.registry import Registry
from lanxfer.sessions.native import NativeSession
from lanxfer.storage.memory import MemoryStore
from lanxfer.testing import MemoryDisk, MemoryTransport, Wire, whole
from lanxfer.transfers import Snapshot
from lanxfer.wire import limits

SMALL = {
    "INLINE_MAX": 256,
    "UNIT": 256,
    "WINDOW": 1024,
    "CHECKPOINT": 512,
    "UNWRITTEN_MAX": 2048,
    "PACK_MAX": 4096,
    "PACKS_MAX": 6144,
}
"""Limits in bytes, small enough for a file of a few KiB to meet them all."""

SMALL_ELSEWHERE: tuple[tuple[Any, str, int], ...] = (
    (bodies.BodySender, "CHUNK_SIZE", SMALL["UNIT"]),
    (ahead, "ENOUGH", 1024),
    (trees, "ENOUGH", 1024),
    (ahead, "EACH", 4),
    (trees, "OPEN_BYTES", 4096),
    (trees, "PACK_BYTES", 3072),
    (testing, "HIGH_WATER", 2048),
)
"""The same of what is no such limit, or was reckoned from one."""

NOTICED = 50.0
"""Seconds after which a system gives up a connection on which nothing comes through."""


@contextmanager
def small_limits() -> Iterator[None]:
    """Everything that is counted in bytes becomes small, so that little files see it all."""
    small = [(limits, name, value) for name, value in SMALL.items()]
    kept = []
    try:
        for where, name, value in (*small, *SMALL_ELSEWHERE):
            kept.append((where, name, getattr(where, name)))
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in kept:
            setattr(where, name, value)


@define(eq=False)
class Link:
    """One connection between two lives; ``stalled`` since when nothing comes through."""

    wire: Wire
    ends: tuple[LanxferProtocol, LanxferProtocol]
    lives: tuple[Life, Life]
    stalled: float | None = None
    number: int = 0

    @property
    def over(self) -> bool:
        return not (self.wire.a.connected or self.wire.b.connected)

    def moving(self) -> list[MemoryTransport]:
        """The ends at which something can happen."""
        return [each for each in (self.wire.a, self.wire.b) if each.connected]


class Life:
    """One device from a start to the next crash: what is lost with it."""

    def __init__(self, world: World, device: Device) -> None:
        self.world = world
        self.device = device
        self.alive = True
        self.clock = Clock()
        self.clock.rightNow = world.now
        self.disk = MemoryDisk(held=True)
        registry = Registry(self.clock.seconds, world.new_id, self._complain)
        self.registry = registry
        log = Logger()
        self.node = ServiceNode(
            device=device.name,
            registry=registry,
            store=device.store,
            journal=device.journal,
            disk=self.disk,
            clock=self.clock,
            taking=Taking(),
            polled=Polled(self.clock.seconds),
            sender=self._send,
            about=lambda: {},
            on_offer=self._on_offer if world.asks else None,
            on_message=self._on_message,
        )
        self.outgoing = Outgoing(
            self.clock, self.disk, device.journal, lambda job: self.new_client(), log
        )
        self.client = self.new_client()
        self.rates = Rates(self.clock, Speeds(rate_out=world.rate_out))
        registry.subscribe(self._told)

    def new_client(self) -> Client:
        other = self.world.other(self.device)
        target = Target(other.name, (other.name,))
        return Client(
            self.clock,
            target,
            self._dial,
            self.disk,
            registry=self.registry,
        )

    async def _dial(self) -> LanxferProtocol:
        world, other = self.world, self.world.other(self.device)
        await deferLater(self.clock, 0.01, lambda: None)
        if world.down or not other.life.alive or not self.alive:
            raise Unreachable()
        ours, theirs = self._end(other, True), other.life._end(self.device, False)
        if world.rate_out is not None:
            ours.keep_to(self.rates)
        wire = Wire(ours, theirs)
        world.link(Link(wire, (ours, theirs), (self, other.life)))
        try:
            await greet(ours, self.device.name)
        except BaseException:
            ours.abort(Lost())
            raise
        return ours

    def _end(self, other: Device, opened: bool) -> LanxferProtocol:
        who = Principal(Standing.PEER, f"peer:{other.name}", other.name)
        return LanxferProtocol(
            NativeSession(known=opened),
            self.node,
            self.disk,
            self.world.table,
            self.clock,
            lambda transport: who,
        )

    async def _send(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self.outgoing.send(args)

    def _on_offer(self, offer: Incoming) -> Any:
        return self.world.on_offer(self, offer)

    def _on_message(self, message: Message) -> None:
        if self.alive:
            self.world.on_message(self.device, message)

    def _told(self, snapshot: Snapshot) -> None:
        if self.alive:
            self.world.on_told(self, snapshot)

    def _complain(self, error: Exception) -> None:
        raise error


@define(eq=False)
class Device:
    """What outlives a crash: a name, a store and a journal."""

    name: str
    store: MemoryStore
    journal: Journal
    life: Life = field(init=False)
    since: float = 0.0


def _nothing(*args: Any) -> None:
    return None


class World:
    """See the module; ``advance`` is the only thing that lets time pass.

    Where somebody ``asks`` about each offer, nothing goes together; ``rate_out`` is in bytes a
    second.
    """

    def __init__(
        self,
        rng: random.Random,
        files: Callable[[], dict[str, bytes]] = dict,
        asks: bool = True,
        rate_out: int | None = None,
    ) -> None:
        self.rng = rng
        self.asks = asks
        self.rate_out = rate_out
        self.now = 1_700_000_000.0
        self.down = False
        self.table = builtin()
        self.links: list[Link] = []
        self._ends: list[LanxferProtocol] = []
        self.buried: list[Life] = []
        self._last_id = 0
        self.on_offer: Callable[[Life, Incoming], Any] = _nothing
        self.on_message: Callable[[Device, Message], None] = _nothing
        self.on_told: Callable[[Life, Snapshot], None] = _nothing
        self.devices = (self._device("ada", files()), self._device("bob", files()))
        for each in self.devices:
            each.life = Life(self, each)

    def _device(self, name: str, files: dict[str, bytes]) -> Device:
        journal = Journal(":memory:", lambda: self.now)
        store = MemoryStore(receipts=journal)
        store.files = files
        return Device(name, store, journal)

    def new_id(self) -> str:
        self._last_id += 1
        return f"{self._last_id:08x}"

    def other(self, device: Device) -> Device:
        one, two = self.devices
        return two if device is one else one

    def lives(self) -> list[Life]:
        return [each.life for each in self.devices if each.life.alive]

    def link(self, link: Link) -> None:
        """A new connection."""
        self._ends += link.ends
        link.number = len(self._ends) // 2
        self.links.append(link)

    # What happens to them.

    def advance(self, seconds: float) -> None:
        """Let time pass for all who live."""
        self.now += seconds
        for life in self.lives():
            life.clock.advance(max(0.0, self.now - life.clock.seconds()))
        for link in self.links:
            if link.stalled is not None and self.now - link.stalled > NOTICED:
                link.stalled = None
                link.wire.cut_off()

    def crash(self, device: Device) -> None:
        """Everything in its memory is gone, its threads included; the other side hears of it."""
        life = device.life
        life.alive = False
        self.buried.append(life)
        device.since = self.now
        for link in self.links:
            for end, whose in zip((link.wire.a, link.wire.b), link.lives, strict=True):
                if whose is life and end.connected:
                    end.connected = False
                    end.unread.clear()
                    end.other.unread.clear()
                    end.other.break_off(ConnectionLost())

    def boot(self, device: Device) -> None:
        """Begin anew with what is on the disk."""
        old = device.store
        store = MemoryStore(receipts=device.journal, capacity=old._capacity)
        store.files, store.links, store.folders = old.files, old.links, old.folders
        store._mtimes, store._parts = old._mtimes, old._parts
        # The dead life keeps what it believes it has, and can touch nothing with it.
        old.files, old._mtimes, old._parts, old._receipts = {}, {}, {}, None
        device.store = store
        device.life = Life(self, device)

    def step_link(self, link: Link, end: MemoryTransport, most: int) -> int:
        """Let some bytes through, or what follows from all having come through."""
        if link.stalled is not None:
            return 0
        if end.unread and end.other.connected:
            return end.deliver(whole, most)
        if end.unread:
            end.unread.clear()
            end.break_off(ConnectionLost())
        return int(end.settle())

    def rest(self) -> bool:
        """Do all there is to do without time passing; whether there was anything."""
        any_moved, moved = False, True
        while moved:
            moved = False
            for link in self.links:
                for end in link.moving():
                    if self.step_link(link, end, 1 << 30):
                        moved = True
            for life in self.lives():
                if life.disk.work():
                    moved = True
                if any(
                    each.getTime() <= life.clock.seconds() for each in life.clock.getDelayedCalls()
                ):
                    life.clock.advance(0)
                    moved = True
            any_moved = any_moved or moved
        self.links = [each for each in self.links if not each.over]
        return any_moved

    def next_timer(self) -> float | None:
        """When the next thing is due that waits for its time."""
        due = [each.getTime() for life in self.lives() for each in life.clock.getDelayedCalls()]
        due += [link.stalled + NOTICED + 0.1 for link in self.links if link.stalled is not None]
        return min(due, default=None)

    def end(self) -> None:
        """See all lives to their end, those that crashed included, so that nothing is left."""
        self.on_message = self.on_told = _nothing
        for life in (*self.lives(), *self.buried):
            life.alive = False
            life.outgoing.end()
            life.registry.cancel_all(Lost())
        for end in self._ends:
            if not end.gone:
                end.connectionLost(Failure(ConnectionLost()))
        for _ in range(200):
            moved = False
            for life in (*(each.life for each in self.devices), *self.buried):
                moved = bool(life.disk.work()) or moved
                for call in life.clock.getDelayedCalls():
                    moved = True
                    life.clock.advance(max(0.0, call.getTime() - life.clock.seconds()))
                    break
            if not moved:
                break
        for device in self.devices:
            device.journal.close()


def outcome_of(done: Deferred[Any], told: Callable[[Any], None]) -> None:
    """Tell what ``done`` fires with: a result, or the LanxferError it fails with."""

    def failed(why: Any) -> None:
        why.trap(LanxferError)
        told(why.value)

    done.addCallbacks(told, failed)
