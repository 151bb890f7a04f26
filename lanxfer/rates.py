"""How many bytes a second: token buckets in a tree, and whose turn it is when they are empty.

A connection has a ``Meter`` for each direction.  Above it is the bucket of its
principal, and above that the one of all; bytes have to fit through each.  A
bucket holds a fifth of a second's worth and no more, so a limit holds over short
bursts as well.  Bytes are handed out in quanta, in turns: first between
principals and then between the connections of one, so that whoever opens many
gets no more.  Each tree has one timer, and only while somebody waits.

What is sent asks before it goes.  What is received cannot: it is counted when
it was read, and then nothing more is read for a while.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from math import inf
from typing import Protocol

from attrs import evolve, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from lanxfer.policy import Principal, Standing
from lanxfer.wire import limits

BURST_TIME = 0.2
"""Seconds' worth that a bucket holds: timers may be that late without costing anything."""

QUANTUM_TIME = 0.05
"""Seconds' worth that goes at a time."""

QUANTUM_MIN = 4 * limits.KIB

LEAST_WAIT = 0.001

LOOK_EVERY = 0.5
"""Seconds between two looks at what the owner says of a principal."""

IDLE_MAX = 1024
"""Principals without a connection whose buckets are remembered."""

ANY = 2**62
"""The allowance where there is no limit."""


@frozen
class Speeds:
    """Limits in bytes a second, None for none: of all connections together, and of each."""

    rate_in: int | None = None
    rate_out: int | None = None
    rate_in_each: int | None = None
    rate_out_each: int | None = None


class Bucket:
    """A token bucket for bytes; also good for use by itself.

    ``clock`` gives seconds.  ``rate`` is in bytes a second, None for no limit, and
    may be changed at any time; what was gained before stays gained.
    """

    def __init__(self, clock: Callable[[], float], rate: int | None = None) -> None:
        self._clock = clock
        self._rate = rate
        self._tokens = 0.0
        self._at = 0.0
        self.reset()

    @property
    def rate(self) -> int | None:
        return self._rate

    @rate.setter
    def rate(self, rate: int | None) -> None:
        if rate == self._rate:
            return
        room = self.room
        self._rate = rate
        # What was owed at the old rate must not take minutes at the new one.
        self._tokens = max(min(room, float(self.quantum)), -self.depth)

    @property
    def quantum(self) -> int:
        """Bytes that go at a time."""
        if self._rate is None:
            return limits.UNIT
        return min(max(int(self._rate * QUANTUM_TIME), QUANTUM_MIN), limits.UNIT)

    @property
    def depth(self) -> float:
        """Bytes that may go at once after a pause, and no more."""
        return max(self.quantum, (self._rate or 0) * BURST_TIME)

    @property
    def room(self) -> float:
        """Bytes that may go now; below 0 where some went too early, ``inf`` without a limit."""
        if self._rate is None:
            return inf
        now = self._clock()
        gained = max(0.0, now - self._at) * self._rate
        self._at = now
        self._tokens = min(self.depth, self._tokens + gained)
        return self._tokens

    def spend(self, size: int) -> None:
        """So many bytes went, whether there was room or not."""
        if self.room < inf:
            self._tokens -= size

    def wait(self, size: int) -> float:
        """Seconds until there is room for ``size`` bytes, or for as many as there ever will be."""
        if self._rate is None:
            return 0.0
        return max(0.0, (min(size, self.depth) - self.room) / self._rate)

    def reset(self) -> None:
        """Forget what went."""
        self._at = self._clock()
        self._tokens = float(self.quantum)

    def clone(self) -> Bucket:
        """Another one with the same rate, and no memory."""
        return Bucket(self._clock, self._rate)


class Node(Bucket):
    """A bucket with others above it and below; ``waiting`` are those below, in order of turns."""

    def __init__(self, tree: Tree, above: Node | None, rate: int | None = None) -> None:
        super().__init__(tree.clock.seconds, rate)
        self.tree = tree
        self.above = above
        self.path: tuple[Node, ...] = (self, *(above.path if above is not None else ()))
        self.waiting: OrderedDict[Node, None] = OrderedDict()

    def limit(self, rate: int | None) -> None:
        """Change the rate; whoever waits is looked at again."""
        if rate != self._rate:
            self.rate = rate
            self.tree.changes += 1
            self.tree.changed()

    def ready_in(self) -> float:
        """Seconds until somebody below may go."""
        below = min((each.ready_in() for each in self.waiting), default=inf)
        return max(below, self.wait(self.quantum))

    def next(self) -> Meter | None:
        """Whoever waits below and may go now, the one whose turn was longest ago; it is now."""
        if self.wait(self.quantum) > 0:
            return None
        for each in self.waiting:
            found = each.next()
            if found is not None:
                if each in self.waiting:
                    self.waiting.move_to_end(each)
                return found
        return None


class Meter(Node):
    """One direction of one connection."""

    def __init__(self, tree: Tree, above: Node, look: Callable[[], None]) -> None:
        super().__init__(tree, above)
        self._look = look
        self._held = 0
        self._seen = -1
        self._free = True
        self._going: deque[Callable[[], object]] = deque()
        self._over = False

    @property
    def free(self) -> bool:
        """Nothing limits it."""
        # Asked for every packet, and hardly ever different from the last time.
        if self._seen != self.tree.changes:
            self._seen = self.tree.changes
            self._free = all(each._rate is None for each in self.path)
        return self._free or self._over

    @property
    def slowest(self) -> int | None:
        """The least of the rates that hold for it, in bytes a second."""
        return min((each._rate for each in self.path if each._rate is not None), default=None)

    @property
    def allowance(self) -> int:
        """Bytes that may go now; 0 means that it has to ``ask`` for its turn."""
        self._look()
        if self.free:
            return ANY
        if self._held <= 0 and not self._going and not any(each.waiting for each in self.path):
            self._reserve()
        return self._held

    def spend(self, size: int) -> None:
        """So many bytes went, or came."""
        if self.free:
            self._held = 0
            return
        self._held -= size
        if self._held < 0:
            for each in self.path:
                Bucket.spend(each, -self._held)
            self._held = 0

    def ask(self, go: Callable[[], object]) -> None:
        """Have ``go`` called, once, when it is this connection's turn, or when it is over."""
        if self._over:  # whoever asks hears so elsewhere, and must not wait for ever
            go()
            return
        self._going.append(go)
        self._enlist()
        self.tree.joined(self)

    def forget(self, go: Callable[[], object]) -> None:
        """It is not wanted any more."""
        if go in self._going:
            self._going.remove(go)
            if not self._going:
                self._unlist()

    def stop(self) -> None:
        """The connection is over; whoever waits is told, what it did not use is given back."""
        for each in self.path:
            Bucket.spend(each, -self._held)
        self._held = 0
        self._over = True
        self._unlist()
        going, self._going = self._going, deque()
        for go in going:
            go()
        self.tree.changed()

    # For the tree.

    def ready_in(self) -> float:
        return self.wait(self._least()) if self._going else inf

    def next(self) -> Meter | None:
        return self if self.wait(self._least()) <= 0 else None

    def go(self) -> None:
        """It is its turn."""
        self._reserve()
        while self._going and (self._held > 0 or self.free):
            go = self._going.popleft()
            if not self._going:
                self._unlist()
            go()

    def _least(self) -> int:
        return min(each.quantum for each in self.path)

    def _reserve(self) -> None:
        size = self._least()
        if any(each.wait(size) > 0 for each in self.path):
            return
        for each in self.path:
            Bucket.spend(each, size)
        self._held += size

    def _enlist(self) -> None:
        below: Node = self
        for each in self.path[1:]:
            each.waiting.setdefault(below)
            below = each

    def _unlist(self) -> None:
        below: Node = self
        for each in self.path[1:]:
            each.waiting.pop(below, None)
            if each.waiting:
                break
            below = each


class Tree:
    """All connections in one direction; ``root`` is the bucket that they share."""

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.changes = 0
        """Of rates, so far."""
        self.root = Node(self, None)
        self._late: IDelayedCall | None = None
        self._serving = False

    def changed(self) -> None:
        """Somebody more waits, or somebody less, or for less long."""
        if self._serving:
            return
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._wake(self.root.ready_in())

    def joined(self, meter: Meter) -> None:
        """One more waits."""
        wait = max(each.wait(each.quantum) for each in meter.path)
        late = self._late
        if self._serving or (
            late is not None and late.getTime() <= self.clock.seconds() + wait + LEAST_WAIT
        ):
            return
        if late is not None:
            late.cancel()
        self._wake(wait)

    def _wake(self, wait: float) -> None:
        if wait == inf:
            return
        # Rounding must not make a busy loop of it; a second is for rates that are changed.
        wait = min(max(wait, LEAST_WAIT), 1.0) if wait > 0 else 0.0
        self._late = self.clock.callLater(wait, self._serve)

    def _serve(self) -> None:
        self._late = None
        self._serving = True
        try:
            # As many as wait now, and no endless loop where whoever went asks again.
            for _ in range(sum(1 for _ in self._meters(self.root))):
                found = self.root.next()
                if found is None:
                    break
                found.go()
        finally:
            self._serving = False
            self.changed()

    def _meters(self, node: Node) -> list[Node]:
        found: list[Node] = []
        for each in node.waiting:
            found += [each] if isinstance(each, Meter) else self._meters(each)
        return found


class Metered(Protocol):
    """What a connection sees of one direction of itself; a ``Meter``, or ``UNMETERED``."""

    @property
    def allowance(self) -> int: ...

    @property
    def slowest(self) -> int | None: ...

    def spend(self, size: int) -> None: ...

    def ask(self, go: Callable[[], object]) -> None: ...

    def forget(self, go: Callable[[], object]) -> None: ...

    def stop(self) -> None: ...


class _Unmetered:
    """No limit at all."""

    allowance = ANY
    slowest = None

    def spend(self, size: int) -> None:
        """It does not count."""

    def ask(self, go: Callable[[], object]) -> None:
        """It always may."""
        go()

    def forget(self, go: Callable[[], object]) -> None:
        """Nothing is kept."""

    def stop(self) -> None:
        """There is nothing to stop."""


UNMETERED: Metered = _Unmetered()


class _Share:
    """One principal: its two buckets, and the meters of its connections."""

    def __init__(self, rates: Rates, principal: Principal) -> None:
        self._rates = rates
        self._principal = principal
        self._looked = -inf
        self.incoming = Node(rates.incoming, rates.incoming.root)
        self.outgoing = Node(rates.outgoing, rates.outgoing.root)
        self.meters: list[tuple[Meter, Meter]] = []

    def look(self) -> None:
        """See what is said of it now, at most twice a second."""
        now = self._rates.clock.seconds()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self.apply(self._rates.said_of(self._principal))

    def apply(self, said: Speeds) -> None:
        every = self._rates.speeds
        self.incoming.limit(said.rate_in)
        self.outgoing.limit(said.rate_out)
        for incoming, outgoing in self.meters:
            incoming.limit(_least(said.rate_in_each, every.rate_in_each))
            outgoing.limit(_least(said.rate_out_each, every.rate_out_each))

    def look_again(self) -> None:
        self._looked = -inf
        self.look()


def _least(*rates: int | None) -> int | None:
    return min((each for each in rates if each is not None), default=None)


class Rates:
    """The limits of one service or client, and the meters of its connections.

    ``said_of`` gives what holds for one principal besides; it is asked again while
    something moves, so that a change shows within a second.
    """

    def __init__(
        self,
        clock: IReactorTime,
        speeds: Speeds | None = None,
        said_of: Callable[[Principal], Speeds] = lambda principal: Speeds(),
    ) -> None:
        self.clock = clock
        self.said_of = said_of
        self.incoming = Tree(clock)
        self.outgoing = Tree(clock)
        self._speeds = Speeds()
        self._shares: dict[str, _Share] = {}
        self._idle: OrderedDict[str, _Share] = OrderedDict()
        self.speeds = Speeds() if speeds is None else speeds

    @property
    def speeds(self) -> Speeds:
        """What holds for all; set, it holds from then on, for what is under way as well."""
        return self._speeds

    @speeds.setter
    def speeds(self, speeds: Speeds) -> None:
        self._speeds = speeds
        self.incoming.root.limit(speeds.rate_in)
        self.outgoing.root.limit(speeds.rate_out)
        for share in self._shares.values():
            share.look_again()

    def change(self, **changes: int | None) -> Speeds:
        """Change some of ``speeds``, by name; all of them as they are then."""
        self.speeds = evolve(self._speeds, **changes)
        return self._speeds

    def join(self, principal: Principal) -> tuple[Metered, Metered]:
        """Meters for one more connection, what it reads and what it writes; ``leave`` ends them.

        This device's own user is not slowed down on the control socket.
        """
        if principal.standing is Standing.LOCAL:
            return UNMETERED, UNMETERED
        share = self._shares.get(principal.name) or self._idle.pop(principal.name, None)
        if share is None:
            share = _Share(self, principal)
        self._shares[principal.name] = share
        made = (
            Meter(self.incoming, share.incoming, share.look),
            Meter(self.outgoing, share.outgoing, share.look),
        )
        share.meters.append(made)
        share.look_again()
        return made

    def slowest_in(self, principal: Principal) -> int | None:
        """The least of the limits on what one of its connections receives; None without any."""
        if principal.standing is Standing.LOCAL:
            return None
        said, every = self.said_of(principal), self._speeds
        return _least(said.rate_in, said.rate_in_each, every.rate_in, every.rate_in_each)

    def leave(self, principal: Principal, meters: tuple[Metered, Metered]) -> None:
        """A connection is over.  What its principal owes is remembered for a while."""
        for each in meters:
            each.stop()
        share = self._shares.get(principal.name)
        if share is None:
            return
        share.meters = [each for each in share.meters if each[0] is not meters[0]]
        if not share.meters:
            self._idle[principal.name] = self._shares.pop(principal.name)
            if len(self._idle) > IDLE_MAX:
                self._idle.popitem(last=False)
