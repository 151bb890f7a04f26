"""The door: every first byte, TLS and who is behind it, and how many may wait outside."""

from __future__ import annotations

import ast
import errno
import json
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from lanxfer.admission import Admission, Legacy, networks
from lanxfer.commands.dispatch import builtin
from lanxfer.cred import LocalUser
from lanxfer.errors import Lost, NotPaired, TlsRequired
from lanxfer.factory import LanxferFactory, LocalFactory, _user_of
from lanxfer.identity import Identity, load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.policy import LOCAL, Principal, Standing
from lanxfer.protocol import LanxferProtocol
from lanxfer.sessions.native import NativeSession
from lanxfer.sockets import READ_SIZE, tune
from lanxfer.state import StateFolder
from lanxfer.testing import (
    Cut,
    MemoryDisk,
    RawEnd,
    Wire,
    bytewise,
    memory_node,
    pieces,
    pump,
    whole,
)
from lanxfer.tls import client_options, server_options, wrap_client
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import Bye, Cancel, Do, Event, Failed, Ok, Packet
from tests.devices import in_reactor, until
from tests.test_policy import COMMANDS

pytestmark = pytest.mark.usefixtures("logged")

HELLO = Do(1, "hello", {"speaks": ["lanxfer/1"], "device": "phone"})
LITERAL = b"{'method_name': 'recv_message', 'message': 'hi', 'total_bytes': 2, 'rt_id': 'r'}\n"
TICKET = b"2f1e7a0c-5b1d-4c7e-9a77-0123456789ab 9b0d44f1-0000-4fff-8abc-fedcba987654 5\n"
CUTS: dict[str, Cut] = {"whole": whole, "bytewise": bytewise, "pieces": pieces(3, 1)}


def say(*packets: Packet | bytes) -> bytes:
    return b"".join(each if isinstance(each, bytes) else format_packet(each) for each in packets)


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder = tmp_path_factory.mktemp("identities")
    names = ("nas", "phone", "stranger")
    return {name: load_identity(StateFolder(str(folder / name))) for name in names}


class Visitor:
    """Somebody at the door, in plain text or, once ``begin_tls`` was called, inside TLS."""

    def __init__(self, house: House, address: str, cut: Cut) -> None:
        self.house = house
        self.raw = RawEnd()
        self.end: Protocol = self.raw
        self.door = house.factory.buildProtocol(None)
        self.wire = Wire(_Pipe(self), self.door, cut, (address, "192.0.2.1"))
        self.say = self.write

    def write(self, *said: Packet | bytes) -> None:
        self.wire.a.write(say(*said))
        self.house.pump()

    def begin_tls(self, inside: Any, identity: Identity) -> Visitor:
        """Speak TLS from here on, with ``inside`` above it."""
        factory = Factory.forProtocol(lambda: inside)
        wrapped = wrap_client(
            client_options(identity), cast(IProtocolFactory, factory), self.house.clock
        )
        tls = wrapped.buildProtocol(None)
        assert tls is not None
        self.end = tls
        tls.makeConnection(self.wire.a)
        self.say = self._inside
        self.house.pump()
        return self

    def _inside(self, *said: Packet | bytes) -> None:
        transport = self.raw.transport
        assert transport is not None
        transport.write(say(*said))
        self.house.pump()

    @property
    def heard(self) -> list[Packet]:
        return [packet for packet, _ in self.raw.packets]

    @property
    def codes(self) -> list[str]:
        return [each.code if isinstance(each, Failed) else "ok" for each in self.heard]

    @property
    def closed(self) -> bool:
        return not self.wire.b.connected


class _Pipe(Protocol):
    """The visitor's end of the wire, whatever speaks on it."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    def connectionMade(self) -> None:
        self.visitor.end.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.visitor.end.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.visitor.end.connectionLost(reason)


class House:
    """A service's door with all that is behind it, in memory."""

    def __init__(self, folder: Path, identities: dict[str, Identity]) -> None:
        self.identities = identities
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.node = memory_node("nas", self.clock, self.disk)
        self.peers = Peers(StateFolder(str(folder / "state")))
        self.visitors: list[Visitor] = []
        self.peers.add(Peer("phone", identities["phone"].key, ()))
        self.opened()

    def opened(self, **how: Any) -> House:
        """The door as the service opens it with these settings."""
        self.factory = LanxferFactory(
            self.node,
            self.disk,
            builtin(),
            Admission(self.peers, **how),
            server_options(self.identities["nas"]),
            self.clock,
        )
        return self

    def visit(self, address: str = "10.0.0.2", cut: Cut = whole) -> Visitor:
        self.visitors.append(Visitor(self, address, cut))
        self.pump()
        return self.visitors[-1]

    def in_tls(self, who: str, address: str = "10.0.0.2", cut: Cut = whole) -> Visitor:
        visitor = self.visit(address, cut)
        return visitor.begin_tls(visitor.raw, self.identities[who])

    def pump(self) -> None:
        pump(self.clock, *(each.wire for each in self.visitors))

    def pass_time(self, seconds: float) -> None:
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.clock.advance(min(0.1, until - self.clock.seconds()))
            self.pump()

    @property
    def untouched(self) -> bool:
        """Nobody has brought anything in."""
        return not (self.node.told or self.node.store.files or self.node.messages)


@pytest.fixture
def house(tmp_path: Path, identities: dict[str, Identity]) -> Iterator[House]:
    made = House(tmp_path, identities)
    yield made
    for each in made.visitors:
        each.wire.cut_off()
    made.pump()
    assert made.factory._unknown == {}
    assert made.factory._inside == set() and not made.factory._of_each
    made.factory.refusals.stop()
    assert made.factory.connections == set()
    assert made.clock.getDelayedCalls() == []


STRANGE: dict[str, bytes] = {
    "get": b"GET / HTTP/1.1\r\nHost: nas\r\n\r\n",
    "post": b"POST / HTTP/1.1\r\nContent-Length: 60\r\n\r\n" + say(HELLO),
    "options": b"OPTIONS * HTTP/1.1\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "blank": b"\n" + say(HELLO),
    "blanks": b"\n" * 100_000,
    "space before": b" " + say(HELLO),
    "bom": b"\xef\xbb\xbf" + say(HELLO),
    "zeros": bytes(1000),
    "old tls": b"\x16\x02\x01\x00\x05hello",
    "alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "utf-16": say(HELLO).decode().encode("utf-16"),
    "brackets": b"[" * 30_000,
}

PLAIN: dict[str, bytes] = {
    "native": say(HELLO, Do(2, "ping")),
    "native bye": say(Bye(all=True)),
    "literal": LITERAL,
    "literal in json": b'{"method_name": "recv_message"}\n',
    "ticket": TICKET + b"hello",
}


class FirstBytesTests:
    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("name", STRANGE)
    def test_strangers(self, house: House, name: str, cut: str) -> None:
        """What is no dialect gets one line, and nothing behind it is looked at."""
        # covers: H08, H02, J06, W01
        house.opened(
            plain_from=networks(["0.0.0.0/0"]),
            legacy=Legacy.FULL,
            legacy_from=networks(["0.0.0.0/0"]),
            tickets_plain=True,
        )
        visitor = house.visit(cut=CUTS[cut])
        visitor.say(STRANGE[name])
        visitor.say(say(HELLO), LITERAL, TICKET)
        assert visitor.codes == ["bad-header"]
        assert visitor.closed
        assert house.untouched

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("name", PLAIN)
    def test_plain_text_is_refused(self, house: House, name: str, cut: str) -> None:
        """Plain text in any dialect is answered with one line that says TLS is spoken here."""
        # covers: A01, A06, J07
        visitor = house.visit(cut=CUTS[cut])
        visitor.say(PLAIN[name])
        visitor.say(say(HELLO))
        assert visitor.codes == ["tls-required"]
        assert visitor.raw.received.count(b"\n") == 1
        assert visitor.closed
        assert house.untouched

    def test_line_for_everybody(self, house: House) -> None:
        """The one line can be read as JSON and as a Python literal."""
        visitor = house.visit()
        visitor.say(LITERAL)
        line = visitor.raw.received.decode()
        assert json.loads(line) == ast.literal_eval(line)

    @pytest.mark.parametrize("cut", CUTS)
    def test_native(self, house: House, cut: str) -> None:
        """Where plain text is let in from there, the native dialect is spoken with a guest."""
        house.opened(plain_from=networks(["10.0.0.0/8"]))
        visitor = house.visit(cut=CUTS[cut])
        visitor.say(HELLO, Do(2, "ping"), Do(3, "send_file", {"path": "/etc/passwd", "peer": "x"}))
        assert visitor.codes == ["ok", "ok", "forbidden"]
        assert house.visit("172.16.0.1").closed is False
        other = house.visit("172.16.0.1")
        other.say(HELLO)
        assert other.codes == ["tls-required"]

    @pytest.mark.parametrize("cut", CUTS)
    def test_literal(self, house: House, cut: str) -> None:
        """Where ae peers are let in, their dialect is spoken, and it is theirs to the end."""
        # covers: J07
        house.opened(legacy=Legacy.RECEIVE, legacy_from=networks(["10.0.0.0/8"]))
        visitor = house.visit(cut=CUTS[cut])
        visitor.say(LITERAL, say(HELLO))
        assert visitor.raw.received.startswith(b"{'method_name': 'recv_message'")
        assert b"error" not in visitor.raw.received
        assert [each.text for each in house.node.messages] == ["hi"]
        other = house.visit()
        other.say(HELLO)
        assert other.codes == ["tls-required"]

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("secure", [False, True])
    def test_ticket(self, house: House, cut: str, secure: bool) -> None:
        """A ticket opens one upload, where plain tickets are allowed or inside TLS."""
        # covers: J19
        house.opened(tickets_plain=not secure)
        slot = house.node.offer_slot("photo.jpg", 5, 60)
        visitor = house.in_tls("stranger", cut=CUTS[cut]) if secure else house.visit(cut=CUTS[cut])
        visitor.say(slot.line, b"hello")
        assert visitor.raw.received.startswith(b"ok 5 3610a686 ea8f163d")
        assert house.node.store.files == {"photo.jpg": b"hello"}
        again = house.in_tls("phone") if secure else house.visit()
        again.say(slot.line, b"hello")
        assert again.raw.received.startswith(b"error forbidden ")

    @pytest.mark.parametrize("first", [b"{'do': 1, 'name': 'ping'}\n", b'{"Do": 1}\n', b"{'\n"])
    def test_begun_like_literal(self, house: House, first: bytes) -> None:
        """Whoever began like the literal dialect is answered in it."""
        # covers: J06, J07
        house.opened(
            plain_from=networks(["10.0.0.0/8"]),
            legacy=Legacy.RECEIVE,
            legacy_from=networks(["10.0.0.0/8"]),
        )
        visitor = house.visit()
        visitor.say(first, HELLO)
        assert b"'error'" in visitor.raw.received
        assert visitor.closed
        assert house.untouched

    def test_peer_that_does_not_read(self, house: House) -> None:
        """The one line is said, and a second later the connection is cut, read or not."""
        # covers: H01, T06
        visitor = house.visit()
        visitor.wire.a.reading = False
        visitor.say(b"GET / HTTP/1.1\r\n\r\n")
        assert not visitor.closed
        visitor.say(HELLO)
        house.pass_time(limits.ABORT_AFTER)
        assert visitor.closed
        assert house.untouched


class DeadlineTests:
    @pytest.mark.parametrize("first", [b"", b"{", b"\x16", b'{"', b'{"do'])
    def test_undecided(self, house: House, first: bytes) -> None:
        """Whoever has not begun within ten seconds is told so, and it is over."""
        # covers: J06, T01, B02
        visitor = house.visit()
        visitor.say(first)
        house.pass_time(limits.HEADER_TIMEOUT - 0.5)
        assert not visitor.closed
        house.pass_time(1)
        assert visitor.closed
        assert visitor.codes == ["timeout"]

    @pytest.mark.parametrize(
        ("first", "answer"),
        [
            (b'{"do": 1, "name": "hel', b'{"error": 0, "code": "timeout"'),
            (b"{'method_name': ", b"'error'"),
            (b"2f1e7a0c-5b1d-4c7e-9a77", b"error timeout "),
        ],
    )
    def test_first_line_unfinished(self, house: House, first: bytes, answer: bytes) -> None:
        """A first line that is not complete in time is answered in its dialect."""
        # covers: H11, J06
        house.opened(
            plain_from=networks(["10.0.0.0/8"]),
            legacy=Legacy.RECEIVE,
            legacy_from=networks(["10.0.0.0/8"]),
            tickets_plain=True,
        )
        visitor = house.visit()
        visitor.say(first)
        house.pass_time(limits.HEADER_TIMEOUT + 0.1)
        assert visitor.closed
        assert answer in visitor.raw.received

    @pytest.mark.parametrize("pause", [0.1, 0.3, 1.0])
    def test_byte_by_byte(self, house: House, pause: float) -> None:
        """The time runs from the beginning, and no byte starts it anew."""
        # covers: H11, B02
        house.opened(plain_from=networks(["10.0.0.0/8"]))
        visitor = house.visit()
        line = say(HELLO)
        for at in range(len(line)):
            visitor.say(line[at : at + 1])
            house.pass_time(pause)
        in_time = (len(line) - 1) * pause < limits.HEADER_TIMEOUT
        assert visitor.codes == (["ok"] if in_time else ["timeout"])
        assert visitor.closed is not in_time

    def test_half_a_client_hello(self, house: House) -> None:
        """Half a handshake is cut off in time; there is no way to say anything."""
        # covers: T01
        visitor = house.visit()
        visitor.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        house.pass_time(limits.HANDSHAKE_TIMEOUT + 0.5)
        assert visitor.closed

    def test_silence_after_the_handshake(self, house: House) -> None:
        """After the handshake the first line has its time as well."""
        # covers: T01, H11
        visitor = house.in_tls("phone")
        visitor.say(b'{"do": 1, "na')
        house.pass_time(limits.HEADER_TIMEOUT - 0.5)
        assert not visitor.closed
        house.pass_time(1)
        assert visitor.closed
        assert visitor.codes == ["timeout"]

    def test_no_deadline_later(self, house: House) -> None:
        """Once the first line is there, a known caller may be silent for as long as it likes."""
        # covers: C05
        visitor = house.in_tls("phone")
        visitor.say(HELLO)
        house.pass_time(100)
        visitor.say(Do(2, "ping"))
        assert visitor.codes == ["ok", "ok"]

    @pytest.mark.parametrize("after", [0, 1, 5])
    def test_left_before(self, house: House, after: int) -> None:
        """Whoever leaves earlier leaves no timer and no place behind."""
        # covers: B04
        visitor = house.visit()
        visitor.say(b'{"do": 1'[:after])
        visitor.wire.cut_off()
        house.pump()
        house.factory.refusals.stop()
        assert house.clock.getDelayedCalls() == []
        assert house.factory._unknown == {}


class TlsTests:
    def test_peer(self, house: House) -> None:
        """A device whose key is pinned is a peer, whatever it calls itself."""
        # covers: A13, T02
        visitor = house.in_tls("phone")
        visitor.say(HELLO, Do(2, "ping"))
        assert visitor.codes == ["ok", "ok"]
        [connection] = house.factory.connections
        assert connection.principal is not None
        assert connection.principal.name == f"peer:{house.identities['phone'].key}"

    @pytest.mark.parametrize("command", [name for name in COMMANDS if name != "hello"])
    @pytest.mark.parametrize("cut", ["whole", "pieces"])
    def test_stranger(self, house: House, command: str, cut: str) -> None:
        """A stranger is answered not-paired to everything; not a byte of its is taken."""
        # covers: A01, T02, T03
        visitor = house.in_tls("stranger", cut=CUTS[cut])
        visitor.say(HELLO, Do(2, command, {"path": "a", "size": 5, "id": "x"}, 5), b"hello")
        assert visitor.codes == ["not-paired"]
        assert visitor.closed
        assert house.untouched

    def test_stranger_without_hello(self, house: House) -> None:
        """A stranger that skips the hello gets no further."""
        # covers: A01, J18
        visitor = house.in_tls("stranger")
        visitor.say(Do(1, "recv_file", {"path": "a", "size": 0, "blake3": "af" * 32}))
        assert len(visitor.codes) == 1
        assert visitor.closed
        assert house.untouched

    @pytest.mark.parametrize(
        "said", [Bye(all=False), Event(1), Cancel(1), Ok(1), b'{"window": 1, "bytes": 1}\n']
    )
    def test_stranger_that_stays(self, house: House, said: Packet | bytes) -> None:
        """A stranger has ten seconds, whatever harmless things it says in them."""
        # covers: C05, A01, B02
        visitor = house.in_tls("stranger")
        visitor.say(said)
        assert len(house.factory._unknown) == (not visitor.closed)
        house.pass_time(limits.HEADER_TIMEOUT + limits.ABORT_AFTER)
        assert visitor.closed

    def test_stranger_has_short_lines(self, house: House) -> None:
        """A stranger's lines have 4 KiB, a peer's 64."""
        # covers: H01
        for who, size in (("stranger", limits.HEADER_STRANGER), ("phone", limits.HEADER_KNOWN)):
            visitor = house.in_tls(who)
            visitor.say(b'{"do": 1' + b" " * (size - 8))
            assert visitor.codes == []
            visitor.say(b"  ")
            assert visitor.codes == ["header-too-long"]
            assert visitor.closed

    def test_open(self, house: House) -> None:
        """With --open an unknown device is a guest that may offer."""
        house.opened(open=True)
        visitor = house.in_tls("stranger")
        visitor.say(HELLO, Do(2, "recv_message", {}, 2), b"hi", Do(3, "status"))
        assert visitor.codes == ["ok", "ok", "forbidden"]

    def test_paired_meanwhile(self, house: House) -> None:
        """A stranger that is paired by then is let in the next time, and not if it is forgotten."""
        # covers: A08
        key = house.identities["stranger"].key
        for known in (False, True, False):
            if known:
                house.peers.add(Peer("new", key, ()))
            elif house.peers.by_key(key) is not None:
                house.peers.forget("new")
            visitor = house.in_tls("stranger")
            visitor.say(HELLO)
            assert visitor.codes == (["ok"] if known else ["not-paired"])

    @pytest.mark.parametrize(
        "said", [LITERAL, b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x00\x05hello", b"\n"]
    )
    def test_other_dialects_inside(self, house: House, said: bytes) -> None:
        """Inside TLS nothing but native and tickets is spoken."""
        # covers: J07, T06
        house.opened(legacy=Legacy.FULL, legacy_from=networks(["0.0.0.0/0"]))
        visitor = house.in_tls("phone")
        visitor.say(said, HELLO)
        assert visitor.codes == ["bad-header"]
        assert visitor.closed
        assert house.untouched

    def test_garbage_after_the_first_bytes(self, house: House) -> None:
        """What begins like TLS and goes on as text is no handshake, and nothing else either."""
        # covers: J06, J07
        house.opened(plain_from=networks(["0.0.0.0/0"]))
        visitor = house.visit()
        visitor.say(b"\x16\x03", say(HELLO) * 5)
        house.pass_time(limits.HANDSHAKE_TIMEOUT)
        assert visitor.closed
        assert house.untouched

    def test_client_is_not_connected_before_the_answer(self, house: House) -> None:
        """A client's handshake may be done and its key refused: only the answer counts."""
        # covers: T03
        visitor = house.visit()
        made = LanxferProtocol(
            NativeSession(known=True),
            house.node,
            house.disk,
            {},
            house.clock,
            lambda transport: Principal(Standing.PEER, "peer:nas", "nas"),
            secure=True,
        )
        begun: list[Any] = []
        made.when_begun(10).addCallback(begun.append)
        visitor.begin_tls(made, house.identities["stranger"])
        assert begun == [None]
        outcome: list[Any] = []
        made.ask("hello", dict(HELLO.args)).answered().addBoth(outcome.append)
        made.ask("recv_message", {}, b"hi").answered().addBoth(outcome.append)
        house.pump()
        assert [why.type for why in outcome] == [NotPaired, Lost]
        assert house.untouched

    def test_nothing_before_the_handshake(self, house: House) -> None:
        """Until the handshake is complete nobody is identified and nothing is parsed."""
        # covers: T02
        house.factory.make = lambda *args: pytest.fail("made")  # type: ignore[method-assign]
        visitor = house.visit(cut=pieces(40))
        visitor.begin_tls(visitor.raw, house.identities["phone"])
        assert len(house.factory._unknown) == 1

    @pytest.mark.parametrize("after", range(0, 3000, 300))
    def test_cut_anywhere(self, house: House, after: int) -> None:
        """A connection may break in any byte of handshake or talk, and leaves nothing."""
        # covers: B04, T05
        visitor = house.visit()
        visitor.wire.cut_off(from_a=after)
        visitor.begin_tls(visitor.raw, house.identities["phone"])
        if visitor.raw.connected and not visitor.closed:
            visitor.say(HELLO, Do(2, "recv_message", {}, 2000), b"x" * 2000)
        visitor.wire.cut_off()
        house.pump()
        assert visitor.closed
        assert house.factory._unknown == {}
        house.pass_time(limits.ABORT_AFTER)

    def test_cut_short_without_alert(self, house: House) -> None:
        """A stream that ends without TLS saying so is no end of a file."""
        # covers: T05, S03
        visitor = house.in_tls("phone")
        args = {"path": "film", "size": 9, "mtime_ns": 1}
        visitor.say(HELLO, Do(2, "recv_file", args))
        visitor.say(b'{"part": 2, "offset": 0, "body": 9}\nhello')
        visitor.wire.a.loseWriteConnection()
        house.pump()
        assert visitor.closed
        assert house.node.store.files == {}
        [part] = house.node.store._parts.values()
        assert part.data == b"hello"


class RoomTests:
    def test_one_source(self, house: House) -> None:
        """Of one address sixteen may be unknown at a time; when one leaves another may come."""
        # covers: C05, B02
        inside = [house.visit() for _ in range(limits.STRANGERS_PER_SOURCE)]
        assert not any(each.closed for each in inside)
        assert house.visit().closed
        assert not house.visit("10.0.0.3").closed
        inside[0].wire.cut_off()
        house.pump()
        assert not house.visit().closed
        assert house.visit().closed

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("10.0.0.2", "10.0.0.2", True),
            ("10.0.0.2", "10.0.0.3", False),
            ("2001:db8::1", "2001:db8::ffff", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("fe80::1%eth0", "fe80::2%eth1", True),
            ("::ffff:10.0.0.2", "10.0.0.2", True),
            ("::ffff:10.0.0.2", "::ffff:10.0.0.3", False),
        ],
    )
    def test_what_one_source_is(self, house: House, one: str, other: str, same: bool) -> None:
        """An IPv4 address is one source in any spelling, in IPv6 a network of 64 bits is."""
        # covers: C05
        for _ in range(limits.STRANGERS_PER_SOURCE):
            house.visit(one)
        assert house.visit(other).closed is same

    def test_all_together(self, house: House) -> None:
        """A hundred and twenty-eight may be unknown in all; they cost nobody else a place."""
        # covers: C05
        visitors = [house.visit(f"10.0.{each}.1") for each in range(limits.STRANGERS_MAX)]
        assert not any(each.closed for each in visitors)
        assert not house.visit("10.9.9.9").closed
        house.pump()
        assert [each.closed for each in visitors] == [True] + [False] * (len(visitors) - 1)
        assert len(house.factory._unknown) == limits.STRANGERS_MAX
        house.pass_time(limits.HEADER_TIMEOUT + limits.ABORT_AFTER)
        assert house.factory._unknown == {}

    def test_shares(self, house: House) -> None:
        """Whoever has most makes room for who has less, and who has most gets no more."""
        # covers: C05
        each = limits.STRANGERS_PER_SOURCE
        crowd = [
            [house.visit(f"10.0.{source}.1") for _ in range(each)]
            for source in range(limits.STRANGERS_MAX // each)
        ]
        lone = house.visit("10.9.9.9")
        house.pump()
        assert crowd[0][0].closed and not lone.closed
        for _ in range(3 * limits.STRANGERS_MAX):
            house.visit("10.8.8.8")
        house.pump()
        assert not lone.closed
        assert len(house.factory._unknown) == limits.STRANGERS_MAX
        shares = Counter(house.factory._unknown.values())
        assert shares["10.9.9.9"] == 1 and max(shares.values()) <= each
        assert shares["10.8.8.8"] <= min(shares[f"10.0.{n}.1"] for n in range(len(crowd))) + 1

    def test_known_ones_do_not_count(self, house: House) -> None:
        """Who is known takes no place of the unknown, and has thirty-two of its own."""
        # covers: C05
        for _ in range(limits.CONNECTIONS_PER_PEER):
            visitor = house.in_tls("phone")
            visitor.say(HELLO)
            assert visitor.codes == ["ok"]
        assert house.factory._unknown == {}
        one_more = house.in_tls("phone")
        one_more.say(HELLO)
        assert one_more.codes == ["overloaded"]
        assert one_more.closed
        house.visitors[0].wire.cut_off()
        house.pump()
        again = house.in_tls("phone")
        again.say(HELLO)
        assert again.codes == ["ok"]

    def test_plain_ones_have_as_many(self, house: House) -> None:
        """Guests in plain text are counted by their address."""
        # covers: C05
        house.opened(plain_from=networks(["10.0.0.0/8"]))
        codes: list[str] = []
        for _ in range(limits.CONNECTIONS_PER_PEER + 1):
            visitor = house.visit()
            visitor.say(HELLO)
            codes += visitor.codes
        assert codes == ["ok"] * limits.CONNECTIONS_PER_PEER + ["overloaded"]
        other = house.visit("10.0.0.3")
        other.say(HELLO)
        assert other.codes == ["ok"]

    def test_strangers_are_unknown(self, house: House) -> None:
        """A key that nobody knows makes no room for more of its kind."""
        # covers: C05, A01
        for _ in range(limits.STRANGERS_PER_SOURCE):
            visitor = house.in_tls("stranger")
            visitor.say(b'{"do": 1, "name": "hel')
            assert not visitor.closed
        assert len(house.factory._unknown) == limits.STRANGERS_PER_SOURCE
        assert house.visit().closed


class LocalTests:
    def test_own_user(self, house: House) -> None:
        """Through the control socket the device's own user is served."""
        wire_end = RawEnd()
        protocol = LocalFactory(house.factory).buildProtocol(None)
        wire = Wire(wire_end, protocol)
        wire.a.write(say(HELLO, Do(2, "status"), Do(3, "pending_requests")))
        pump(house.clock, wire)
        assert [type(packet) for packet, _ in wire_end.packets] == [Ok, Ok, Ok]
        assert protocol.principal == LOCAL
        wire.cut_off()
        pump(house.clock, wire)

    @pytest.mark.parametrize("offset", [0, 1])
    def test_other_users(self, house: House, offset: int) -> None:
        """Another user of the machine is turned away, whatever the file system says."""
        # covers: L03
        credentials = struct.pack("3i", 1, os.getuid() + offset, 1)
        handle = SimpleNamespace(getsockopt=lambda *args: credentials)
        found = LocalUser(_user_of(SimpleNamespace(socket=handle)))
        if not offset:
            assert house.factory.knock(found) == LOCAL
            return
        with pytest.raises(TlsRequired):
            house.factory.knock(found)

    def test_turned_away_with_a_line(self, house: House) -> None:
        """Who is turned away at the control socket is told so, and nothing is looked at."""
        # covers: L03

        def refuse(transport: object) -> Principal:
            raise TlsRequired("not yours")

        end = RawEnd()
        wire = Wire(end, house.factory.make(NativeSession(), refuse))
        wire.a.write(say(HELLO))
        pump(house.clock, wire)
        assert [packet.code for packet, _ in end.packets if isinstance(packet, Failed)] == [
            "tls-required"
        ]
        assert house.untouched


class LoopbackTests:
    """What memory cannot show: real half-closes and resets."""

    def serve(self, house: House) -> tuple[Any, socket.socket]:
        from twisted.internet import reactor  # pytest-twisted chooses it first

        house.factory.clock = cast(Any, reactor)
        port = cast(Any, reactor).listenTCP(0, house.factory, interface="127.0.0.1")
        made = socket.create_connection(("127.0.0.1", port.getHost().port))
        made.settimeout(5)
        return port, made

    def read_all(self, handle: socket.socket) -> bytes:
        found = b""
        while data := handle.recv(65536):
            found += data
        return found

    async def aside(self, work: Callable[[], Any]) -> Any:
        return await deferToThread(work)

    async def stop(self, port: Any, house: House) -> None:
        await until(lambda: not house.factory.connections and not house.factory._unknown)
        stopped = port.stopListening()
        if isinstance(stopped, Deferred):
            await stopped

    @in_reactor
    async def test_half_close(self, house: House) -> None:
        """Who closes its half in a body hears short-body on the other, and then the end."""
        # covers: B05
        house.opened(plain_from=networks(["127.0.0.1"]))
        port, client = self.serve(house)

        def talk() -> bytes:
            args = {"path": "film", "size": 9, "mtime_ns": 1}
            client.sendall(say(HELLO, Do(2, "recv_file", args)))
            client.sendall(b'{"part": 2, "offset": 0, "body": 9}\nhello')
            client.shutdown(socket.SHUT_WR)
            with client:
                return self.read_all(client)

        heard = await self.aside(talk)
        await self.stop(port, house)
        assert b'"code": "short-body"' in heard
        assert [bytes(each.data) for each in house.node.store._parts.values()] == [b"hello"]

    @in_reactor
    async def test_answer_after_half_close(self, house: House) -> None:
        """Who has said all and closes its half is still answered."""
        # covers: B05
        house.opened(plain_from=networks(["127.0.0.1"]))
        port, client = self.serve(house)

        def talk() -> bytes:
            client.sendall(say(HELLO, Do(2, "recv_message", {}, 2), b"hi"))
            client.shutdown(socket.SHUT_WR)
            with client:
                return self.read_all(client)

        heard = await self.aside(talk)
        await self.stop(port, house)
        assert b'{"ok": 2, "size": 2}' in heard

    @in_reactor
    async def test_reset(self, house: House) -> None:
        """A connection that is reset in a body is gone at once, and keeps what had come."""
        # covers: B04
        house.opened(plain_from=networks(["127.0.0.1"]))
        port, client = self.serve(house)

        def talk() -> None:
            args = {"path": "film", "size": 9, "mtime_ns": 1}
            client.sendall(say(HELLO, Do(2, "recv_file", args)))
            while b'"go"' not in client.recv(65536):
                pass
            client.sendall(b'{"part": 2, "offset": 0, "body": 9}\nhello')
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

        await self.aside(talk)
        await self.stop(port, house)
        assert house.node.store.files == {}
        assert len(house.node.registry) == 0

    @in_reactor
    async def test_one_line_for_a_browser(self, house: House) -> None:
        """A browser's request gets one line and the end, over a real socket too."""
        # covers: H08, W01
        port, client = self.serve(house)

        def talk() -> bytes:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n" + say(HELLO))
            with client:
                return self.read_all(client)

        heard = await self.aside(talk)
        await self.stop(port, house)
        assert heard.count(b"\n") == 1
        assert b'"code": "bad-header"' in heard


def test_tune_is_no_condition() -> None:
    """A system that refuses to tune a connection serves it all the same."""

    # covers: R02
    class Short:
        bufferSize = 1
        SEND_LIMIT = 1
        socket = socket.socket()

        def setTcpNoDelay(self, on: bool) -> None:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    short = Short()
    try:
        tune(short)
    finally:
        short.socket.close()
    assert short.bufferSize == READ_SIZE
