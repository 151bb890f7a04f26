"""Bytes that no peer should send, into the real protocol classes, as every kind of caller.

A case is one connection from its first byte to its last: a mutated or made-up
conversation of one dialect, in one cutting, said to one end of a connection
by one kind of principal (or to a client, as the answer to its request).  After
each: nothing was logged as an error, the answers are well-formed and bounded, the
connection ends, nothing stays open, and a stranger left nothing behind.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import click
from attrs import define, field
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from chaos import garbage
from chaos.figures import Figures
from chaos.logged import watched_log
from lanxfer.admission import Admission, Legacy, networks
from lanxfer.commands.dispatch import builtin
from lanxfer.errors import BY_CODE, BadHeader, HeaderTooLong, LanxferError
from lanxfer.factory import LanxferFactory
from lanxfer.identity import load_identity
from lanxfer.node import Slot, Taking
from lanxfer.peers import Peers
from lanxfer.policy import Principal, Standing
from lanxfer.protocol import LanxferProtocol
from lanxfer.sessions.literal import LIST_MAX, LiteralSession
from lanxfer.sessions.native import NativeSession
from lanxfer.sessions.ticket import TicketSession
from lanxfer.state import StateFolder
from lanxfer.testing import MemoryDisk, MemoryNode, MemorySource, memory_node, split_packets
from lanxfer.tls import client_options, server_options
from lanxfer.wire import limits
from lanxfer.wire.literal import parse_literal
from lanxfer.wire.packets import Failed
from lanxfer.wire.ticket import parse_answer

BATCH = 250
"""Cases that share one device; then it is made anew."""

ANSWER_MOST = 256 * 1024
"""Bytes of answers to one case, and twice what was said on top of it."""

SLOW = 1.0
"""Seconds of processor time that one case may take at the most."""

LONG = 5000
"""Bytes from which on what a case costs is put down to its bytes."""

SLOW_BYTE = 50e-6
"""Seconds of processor time that one byte of a long case may take."""

_NATIVE = (Standing.STRANGER, Standing.GUEST, Standing.PEER, Standing.PEER, Standing.LOCAL)
_NOBODY = (Standing.STRANGER, Standing.TICKET)
_AT_HOME = networks(["127.0.0.0/8"])
_DONE = Failure(ConnectionDone())


@implementer(ITransport, IConsumer)
class Sink:
    """A transport that keeps what is written and never tells anybody to wait."""

    disconnecting = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written.append(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.closed = True

    abortConnection = loseConnection

    def loseWriteConnection(self) -> None:
        """The other side reads on."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nobody will be asked to wait."""

    def unregisterProducer(self) -> None:
        """Nobody was."""

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def stopProducing(self) -> None:
        self.closed = True

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    getHost = getPeer


class Target:
    """One device that is spoken to."""

    def __init__(self, identity: Any) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.node: MemoryNode = memory_node(
            "target", self.clock, self.disk, taking=Taking(links=True)
        )
        self.table = builtin()
        admission = Admission(
            Peers(StateFolder("/nonexistent")),
            plain_from=_AT_HOME,
            legacy=Legacy.FULL,
            legacy_from=_AT_HOME,
            tickets_plain=True,
        )
        self.options = client_options(identity)
        self.factory = LanxferFactory(
            self.node, self.disk, self.table, admission, server_options(identity), self.clock
        )

    def slot(self, number: int) -> None:
        """A ticket that is good."""
        session = garbage.SESSION.format(number)
        slot = Slot(session, garbage.FILE.format(number), f"slot {number}", 5)
        slot.done.addErrback(lambda why: None)
        late = self.clock.callLater(3600, lambda: None)
        self.node.slots[session] = (slot, late)

    def end(self, session: Any, standing: Standing) -> LanxferProtocol:
        who = Principal(standing, f"{standing.value}:x", "x")
        proves = isinstance(session, NativeSession)
        return self.factory.make(session, lambda transport: who, proves)

    def hello(self) -> bytes:
        """The first record of a TLS client."""
        connection = SSL.Connection(self.options._context, None)
        connection.set_connect_state()
        with suppress(SSL.WantReadError):
            connection.do_handshake()
        return connection.bio_read(4096)

    def marks(self) -> tuple[int, ...]:
        """What of it grows when somebody leaves something behind."""
        store = self.node.store
        counted = (store.files, store.links, store.folders, store._parts, self.node.told)
        return tuple(len(each) for each in counted)


class Cases:
    """A batch of cases against one device."""

    def __init__(self, seed: int, identity: Any, breach: Callable[[str], None]) -> None:
        self.rng = random.Random(seed)
        self.target = Target(identity)
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        self.slowest_byte = 0.0
        self.most_answered = 0
        self._breach = breach
        self._hello = self.target.hello()
        self._number = 0
        self._seen: set[str] = set()

    def breach(self, what: str) -> None:
        self._breach(f"{what}; {self.about}")

    def one(self) -> None:
        """One case."""
        self._number += 1
        rng = self.rng
        choice = rng.random()
        if choice < 0.5:
            self._native()
        elif choice < 0.65:
            self._literal()
        elif choice < 0.75:
            self._ticket()
        elif choice < 0.85:
            self._door()
        else:
            self._client()

    def _native(self) -> None:
        rng = self.rng
        standing = rng.choice(_NATIVE)
        made_up = rng.random() < 0.5
        said = garbage.sequence(rng) if made_up else garbage.mutate(rng, rng.choice(garbage.NATIVE))
        end = self.target.end(NativeSession(), standing)
        self._say(end, said, standing, "native")

    def _literal(self) -> None:
        rng = self.rng
        standing = rng.choice((Standing.LEGACY, Standing.LEGACY_LOCAL))
        made_up = rng.random() < 0.4
        said = garbage.literal(rng) if made_up else garbage.mutate(rng, rng.choice(garbage.LITERAL))
        self._say(self.target.end(LiteralSession(), standing), said, standing, "literal")

    def _ticket(self) -> None:
        rng = self.rng
        self.target.slot(self._number)
        said = garbage.ticket(rng, self._number)
        if rng.random() < 0.6:
            said = garbage.mutate(rng, [said])
        end = self.target.end(TicketSession(), Standing.TICKET)
        self._say(end, said, Standing.TICKET, "ticket")

    def _door(self) -> None:
        """Through the door, in plain text or up to the end of a TLS record."""
        rng = self.rng
        if rng.random() < 0.2:
            said = garbage.mutate(rng, [self._hello[: rng.choice((5, 60, 4096))]])
        else:
            talks = rng.choice((garbage.NATIVE, garbage.LITERAL, [[b"x\n"], [b"\x16"], [b"{"]]))
            said = garbage.mutate(rng, rng.choice(talks))
        door = self.target.factory.buildProtocol(None)
        self._say(door, said, None, "door")

    def _client(self) -> None:
        """Answers that make no sense, to somebody who asked."""
        rng = self.rng
        dialect = rng.choice(("native", "native", "literal", "ticket"))
        session: Any = {
            "native": lambda: NativeSession(known=True),
            "literal": lambda: LiteralSession(server=False),
            "ticket": lambda: TicketSession(server=False),
        }[dialect]()
        end = self.target.end(session, Standing.PEER)
        said = garbage.mutate(rng, rng.choice(garbage.answers(dialect)))
        self._say(end, said, Standing.PEER, f"client {dialect}", self._ask)

    def _ask(self, end: LanxferProtocol) -> list[Any]:
        """Ask what a client asks; the outcomes that must come are in the list, when they do."""
        outcomes: list[Any] = []
        if isinstance(end.session, NativeSession):
            hello = end.ask("hello", {"speaks": ["lanxfer/1"]})
            hello.answered().addBoth(outcomes.append)
            args: dict[str, Any] = {"path": "x", "size": 600}
            exchange = end.ask("recv_file", args)
        elif isinstance(end.session, LiteralSession):
            outcomes.append(None)
            exchange = end.ask("recv_file", {"path": "x", "size": 600, "request": "r"})
        else:
            outcomes.append(None)
            ids = {"session": garbage.SESSION.format(1), "file": garbage.FILE.format(1)}
            exchange = end.ask("recv_slot", {**ids, "size": 600})
        exchange.answered().addBoth(outcomes.append)
        source = MemorySource(b"x" * 600)

        def go(packet: Any) -> Any:
            if end._proves:
                offset = source.prove(packet.have)
            else:
                offset = packet.have[0][0] if packet.have else 0
                source.seek(offset)
            return exchange.send_body(self.target.disk, source, offset, lambda done: None)

        going = exchange.going()
        going.addCallback(go)
        going.addErrback(lambda why: why.trap(LanxferError))
        return outcomes

    def _say(
        self,
        end: Any,
        said: bytes,
        standing: Standing | None,
        kind: str,
        ask: Callable[[LanxferProtocol], list[Any]] | None = None,
    ) -> None:
        self.counts[kind] += 1
        self.counts["bytes"] += len(said)
        self.about = f"{kind}, {standing.value if standing else 'anybody'}: {said!r}"
        before = self.target.marks()
        sink = Sink()
        began = time.process_time()
        end.makeConnection(sink)
        outcomes = ask(end) if ask is not None else None
        asked = len(sink.written)
        self._feed(end, sink, said)
        self._leave(end, sink)
        took = time.process_time() - began
        self.slowest = max(self.slowest, took)
        if len(said) >= LONG:
            self.slowest_byte = max(self.slowest_byte, took / len(said))
        answer = b"".join(sink.written[asked:])
        self._look(answer, said, kind)
        if outcomes is not None and len(outcomes) != 2:
            self.breach("a client still waits after its connection is gone")
        used = standing is Standing.TICKET and answer.startswith(b"ok ")
        if standing in _NOBODY:
            grown = self.target.marks()
            if grown[:4] != before[:4] and not used:
                self.breach("a stranger left something behind")
        if self.target.marks() != before:
            self._look_at_names()
        # What was said may be another ticket by now, which was good, too.
        if used and said[:36].decode("latin-1") in self.target.node.slots:
            self.breach("a ticket is good twice")
        if len(self.target.node.registry):
            self.breach("a transfer is left open")
        if self.target.node.store._open:
            self.breach("a part is left locked")

    def _look_at_names(self) -> None:
        """I5: no name leads out of the folder."""
        store = self.target.node.store
        for name in (*store.files, *store.folders, *store.links):
            if name not in self._seen:
                self._seen.add(name)
                if {"", ".", ".."} & set(name.split("/")):
                    self.breach(f"something is called {name!r}")

    def _feed(self, end: Any, sink: Sink, said: bytes) -> None:
        clock = self.target.clock
        for piece in garbage.split(self.rng, said):
            if sink.closed:
                return
            if not sink.reading:
                clock.advance(0)
                if not sink.reading:
                    clock.advance(0.3)
            end.dataReceived(piece)
        clock.advance(0)

    def _leave(self, end: Any, sink: Sink) -> None:
        """The other side says nothing more; what was begun must end, with or without an answer."""
        clock = self.target.clock
        if not sink.closed and self.rng.random() < 0.5:
            end.readConnectionLost()
            for _ in range(4):
                clock.advance(0.3)
            if not sink.closed and not self._may_stay(end):
                self.breach("the connection stays open after the other side left")
        end.connectionLost(_DONE)
        clock.advance(0.3)

    def _may_stay(self, end: Any) -> bool:
        """A call that is not the other side's to end may still be running."""
        inner = getattr(end, "_inner", end)
        return bool(getattr(inner, "_calls", None)) and inner.body_due_since is None

    def _look(self, answer: bytes, said: bytes, kind: str) -> None:
        self.most_answered = max(self.most_answered, len(answer) - 2 * len(said))
        if len(answer) > ANSWER_MOST + 2 * len(said):
            self.breach(f"{len(answer)} bytes of answer")
        if not answer or kind.startswith("client") or answer[:1] in b"\x15\x16\x14\x17":
            return
        try:
            if answer.startswith((b"ok ", b"error ")):
                parse_answer(answer.removesuffix(b"\n"))
            # A key with an apostrophe in it is echoed in double quotes.
            elif answer.startswith(b"{'") or b", 'error': " in answer:
                for line in answer.splitlines():
                    # What is echoed may be as long as a request, and there are lists of those.
                    parse_literal(line, limit=LIST_MAX, depth=limits.DEPTH + 2, values=10**6)
            else:
                self._typed(answer, kind)
        except (BadHeader, HeaderTooLong) as error:
            self.breach(f"the answer is malformed ({error}): {answer[:300]!r}")

    def _typed(self, answer: bytes, kind: str) -> None:
        if kind == "door" and b', "retry"' not in answer and b'{"error": 0' in answer:
            return  # the one line for everybody
        for packet, _body in split_packets(answer):
            if isinstance(packet, Failed) and packet.code not in BY_CODE:
                self.breach(f"the answer has the code {packet.code!r}")
            if isinstance(packet, Failed) and packet.code == "internal":
                self.breach("the answer is internal")


@define
class Found:
    """What became of some batches."""

    breaches: list[tuple[int, str]] = field(factory=list)
    counts: Counter[str] = field(factory=Counter)
    slowest: float = 0.0
    slowest_byte: float = 0.0
    most_answered: int = 0


def run(seed: int, count: int = BATCH) -> Found:
    """One batch of cases, from the beginning."""
    found = Found()
    with TemporaryDirectory(prefix="lanxfer-fuzz-") as folder:
        identity = load_identity(StateFolder(folder))

    def breach(what: str) -> None:
        found.breaches.append((seed, what))

    with watched_log(breach):
        cases = Cases(seed, identity, breach)
        for _ in range(count):
            try:
                cases.one()
            except Exception as error:
                breach(f"raised {error!r}; {cases.about}")
                break
        cases.target.node.journal.close()
    found.counts = cases.counts
    found.slowest = cases.slowest
    found.slowest_byte = cases.slowest_byte
    found.most_answered = cases.most_answered
    return found


@click.command(help=__doc__)
@click.option("--count", default=100_000, show_default=True, help="cases")
@click.option("--seed", default=1, show_default=True, help="of the first batch")
@click.option("--processes", default=1, show_default=True)
@click.option("--first", is_flag=True, help="stop at the first breach")
def command(count: int, seed: int, processes: int, first: bool) -> None:
    figures = Figures(seed)
    total = Found()
    batches = range(seed, seed + -(-count // BATCH))
    done = 0

    def take(found: Found) -> None:
        nonlocal done
        done += BATCH
        total.breaches += found.breaches
        total.counts.update(found.counts)
        total.slowest = max(total.slowest, found.slowest)
        total.slowest_byte = max(total.slowest_byte, found.slowest_byte)
        total.most_answered = max(total.most_answered, found.most_answered)
        figures.tell(done, count, "cases")

    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            for found in pool.map(run, batches, chunksize=8):
                take(found)
    else:
        for batch in batches:
            take(run(batch))
            if first and total.breaches:
                break
    for number, what in total.breaches[:10]:
        print(f"batch {number}: {what}")
    kinds = {kind: n for kind, n in total.counts.items() if kind != "bytes"}
    for kind, n in sorted(kinds.items()):
        figures.add(f"cases, {kind}", n)
    figures.add("cases", sum(kinds.values()), least=count)
    figures.add("bytes said", total.counts["bytes"])
    figures.add("most bytes answered beyond twice what was said", total.most_answered)
    figures.add("slowest case", total.slowest, "s", most=SLOW)
    figures.add("slowest long one", total.slowest_byte * 1e6, "us a byte", most=SLOW_BYTE * 1e6)
    figures.add("breaches", len(total.breaches), most=0)
    figures.finish()
