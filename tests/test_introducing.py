"""Pairing between whole devices, and everything that must not come of it."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from devices import Devices, in_reactor, run, sleep, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from lanxfer.client import connect, pair
from lanxfer.codes import code_secret, new_code, words
from lanxfer.connecting import Dialer, Target
from lanxfer.disk import Disk
from lanxfer.errors import (
    AuthFailed,
    BadConfig,
    BadHeader,
    Busy,
    Expired,
    Forbidden,
    KeyChanged,
    LanxferError,
    Lost,
    NotPaired,
    TimedOut,
    Unreachable,
)
from lanxfer.identity import load_identity
from lanxfer.pairing import Window
from lanxfer.pake import Agreement, Side
from lanxfer.peers import Peer, Peers
from lanxfer.tls import channel_of, client_options, server_options
from lanxfer.wire import limits

TOKEN = "0123456789abcdef0123456789abcdef"


def content(devices: Devices) -> dict[str, bytes]:
    """Everything on every disk, but for the history that is open."""
    found = {}
    for path in sorted(devices.folder.rglob("*")):
        name = str(path.relative_to(devices.folder))
        if path.is_file() and "history.db" not in name:
            found[name] = path.read_bytes()
        elif path.is_dir():
            found[name] = b""
    return found


def names(devices: Devices, of: str) -> list[str]:
    return [each.name for each in Peers(devices.state(of)).all()]


def ended(window: Window) -> list[Any]:
    """Where the end of a window will be."""
    ends: list[Any] = []
    window.outcome.addCallbacks(ends.append, lambda why: ends.append(why.value))
    return ends


def other_code(code: str) -> str:
    """Another one."""
    return next(each for each in iter(new_code, "") if each != code)


async def nas(devices: Devices, **settings: Any) -> Any:
    """A service, and a laptop with a key of its own; nobody knows anybody."""
    service = await devices.start("nas", **settings)
    for name in ("nas", "laptop", "thief"):
        devices.key(name)
    return service


def come(devices: Devices, service: Any, code: Any, **how: Any) -> Deferred[Any]:
    """The laptop comes with these words."""
    here = devices.state(how.pop("here", "laptop")).path
    where = how.pop("where", service.address)
    return pair(reactor, where, code, state=here, **{"device": "laptop", **how})


async def refused(devices: Devices, kind: type[LanxferError], work: Deferred[Any]) -> str:
    """The sentence of a refusal that left nothing anywhere."""
    before = content(devices)
    with pytest.raises(kind) as caught:
        await work
    await sleep(0.05)
    assert content(devices) == before
    return caught.value.reason


class Raw:
    """A connection of a device that says what it likes."""

    def __init__(self, devices: Devices, name: str) -> None:
        folder = devices.state(name)
        self.peers = Peers(folder)
        self.disk = Disk(reactor)
        self.disk.start()
        self.identity = load_identity(folder)
        self.dialer = Dialer(reactor, self.disk, self.peers, self.identity, name)
        self.connection: Any = None

    async def open(self, address: str, hello: bool = True) -> None:
        self.connection, _ = await self.dialer.meet(Target(address, (address,)), None)
        if hello:
            await self.ask("hello", speaks=["lanxfer/1"], device="thief")

    async def ask(self, verb: str, data: bytes = b"", **args: Any) -> dict[str, Any]:
        return dict((await self.connection.ask(verb, args, data).answered()).args)

    async def half(self, code: str) -> Agreement:
        channel = channel_of(self.connection.transport)
        assert channel is not None
        return Agreement(Side.ASKING, code_secret(code), self.identity.key, channel)

    async def close(self) -> None:
        if not self.connection.gone:
            self.connection.abort(Lost())
        await self.connection.when_gone()
        self.disk.stop()


@pytest.fixture
def thief(devices: Devices) -> Iterator[Raw]:
    made = Raw(devices, "thief")
    yield made
    if made.connection is not None:
        run(made.close())
    else:
        made.disk.stop()


class PairTests:
    @in_reactor
    async def test_right(self, devices: Devices) -> None:
        """With the right words both know the other, durably, and a file goes at once."""
        service = await nas(devices)
        window = service.open_pairing()
        ends = ended(window)
        found = await come(devices, service, window.code)
        assert (found.name, found.key, found.once) == ("nas", devices.key("nas"), False)
        assert ends == [{"peer": "laptop", "key": devices.key("laptop"), "once": False}]
        assert (names(devices, "nas"), names(devices, "laptop")) == (["laptop"], ["nas"])
        client = await devices.client("laptop", "nas")
        receipt = await client.send_file(devices.source("a.txt", b"hello"))
        assert (devices.inbox("nas") / receipt.stored).read_bytes() == b"hello"

    @in_reactor
    async def test_once_is_over_then(self, devices: Devices) -> None:
        """The words are good for one device; a second one comes too late."""
        # covers: A02, A04
        service = await nas(devices)
        window = service.open_pairing()
        await come(devices, service, window.code)
        told = await refused(devices, NotPaired, come(devices, service, window.code, here="thief"))
        assert "lanxfer pair" in told
        assert names(devices, "nas") == ["laptop"]

    @in_reactor
    async def test_wrong(self, devices: Devices) -> None:
        """Wrong words: both ends are told, and the right ones are void, too."""
        # covers: A02, A04
        service = await nas(devices)
        window = service.open_pairing()
        ends = ended(window)
        wrong = other_code(window.code)
        told = await refused(devices, AuthFailed, come(devices, service, wrong))
        assert "used up" in told
        assert [type(each) for each in ends] == [AuthFailed]
        await refused(devices, NotPaired, come(devices, service, window.code))

    @in_reactor
    async def test_no_words(self, devices: Devices) -> None:
        """What cannot be a code is said here and costs no guess."""
        service = await nas(devices)
        window = service.open_pairing()
        await refused(devices, BadConfig, come(devices, service, "maple mapel maple"))
        assert window.outcome.called is False
        await come(devices, service, window.code.replace("-", " ").upper())

    @in_reactor
    async def test_no_window(self, devices: Devices) -> None:
        """Without a window the answer is one refusal, and what to do."""
        # covers: A02
        service = await nas(devices)
        told = await refused(devices, NotPaired, come(devices, service, new_code()))
        assert service.address in told

    @in_reactor
    async def test_late(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Words that have expired are as no window, and whoever opened it is told."""
        monkeypatch.setattr(limits, "PAIR_WINDOW", 0.05)
        service = await nas(devices)
        window = service.open_pairing()
        ends = ended(window)
        await until(lambda: ends)
        assert isinstance(ends[0], Expired)
        await refused(devices, NotPaired, come(devices, service, window.code))

    @in_reactor
    async def test_restart(self, devices: Devices) -> None:
        """A restart closes the window."""
        service = await nas(devices)
        window = service.open_pairing()
        ends = ended(window)
        await service.stopService()
        assert len(ends) == 1
        service.startService()
        service.address = (await service.when_listening())[0]
        await refused(devices, NotPaired, come(devices, service, window.code))

    @in_reactor
    async def test_two_at_once(self, devices: Devices) -> None:
        """Two devices that come at once: one is paired, the other waits its turn in vain."""
        # covers: A04, A12
        service = await nas(devices)
        window = service.open_pairing()
        both = [come(devices, service, window.code, here=each) for each in ("laptop", "thief")]
        outcomes = []
        for each in both:
            try:
                outcomes.append((await each).name)
            except NotPaired:
                outcomes.append("")
        assert sorted(outcomes) == ["", "nas"]
        assert len(names(devices, "nas")) == 1

    @in_reactor
    async def test_one_sided(self, devices: Devices) -> None:
        """Where only one side forgot the other, pairing mends it, and makes no second peer."""
        service = await nas(devices)
        await devices.pair("laptop", service, "nas")
        for forgets, forgotten in (("laptop", "nas"), ("nas", "laptop")):
            Peers(devices.state(forgets)).forget(forgotten)
            await come(devices, service, service.open_pairing().code)
            assert (names(devices, "nas"), names(devices, "laptop")) == (["laptop"], ["nas"])

    @in_reactor
    async def test_open_service(self, devices: Devices) -> None:
        """Where strangers may offer, they may pair, too."""
        service = await nas(devices, open=True)
        await refused(devices, NotPaired, come(devices, service, new_code()))
        await come(devices, service, service.open_pairing().code)
        assert names(devices, "nas") == ["laptop"]

    @in_reactor
    async def test_unreachable(self, devices: Devices) -> None:
        """Nobody there is said as such."""
        service = await nas(devices)
        await service.stopService()
        await refused(devices, Unreachable, come(devices, service, new_code()))

    @in_reactor
    async def test_itself(self, devices: Devices) -> None:
        """A device does not pair with itself."""
        service = await nas(devices)
        code = service.open_pairing().code
        await refused(devices, BadConfig, come(devices, service, code, here="nas"))

    @in_reactor
    async def test_it_cannot_keep(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the other side cannot write, this one does not keep its key either."""
        service = await nas(devices)
        window = service.open_pairing()
        ends = ended(window)
        peers = service._now.pairing._peers

        def full(peer: Peer, replace: bool = False) -> Peer:
            raise Forbidden("Nothing is written there.")

        monkeypatch.setattr(peers, "add", full)
        with pytest.raises(Forbidden, match="Nothing is written"):
            await come(devices, service, window.code)
        assert isinstance(ends[0], Forbidden)
        assert (names(devices, "nas"), names(devices, "laptop")) == ([], [])


class StrangerTests:
    @in_reactor
    async def test_reach(self, devices: Devices, thief: Raw) -> None:
        """While a window is open a stranger reaches pairing and nothing else."""
        # covers: A01, A04
        service = await nas(devices)
        window = service.open_pairing()
        before = content(devices)
        for name, body in (
            ("recv_file", b"hello"),
            ("recv_message", b"hello"),
            ("history", b""),
            ("status", b""),
            ("pair_open", b""),
            ("ping", b""),
            ("nothing", b""),
        ):
            await thief.open(service.address)
            with pytest.raises(NotPaired):
                await thief.ask(name, body, path="a.txt", size=5)
            await thief.connection.when_gone()
        assert content(devices) == before
        assert len(service.registry) == 0 and not window.outcome.called

    @in_reactor
    async def test_hello_says_little(self, devices: Devices, thief: Raw) -> None:
        """A stranger is not told what the device is called."""
        # covers: A01
        service = await nas(devices)
        service.open_pairing()
        await thief.open(service.address, hello=False)
        answer = await thief.ask("hello", speaks=["lanxfer/1"])
        assert answer["device"] == ""

    @in_reactor
    async def test_closed(self, devices: Devices, thief: Raw) -> None:
        """Without a window the steps of pairing are refused as everything else is."""
        # covers: A01, A02
        service = await nas(devices)
        before, said = content(devices), set()
        for verb in ("pair", "pair_prove", "pair_keep", "recv_file", "nothing"):
            await thief.open(service.address, hello=False)
            greeting = thief.connection.ask("hello", {"speaks": ["lanxfer/1"]})
            step = thief.connection.ask(verb, {})
            with pytest.raises(NotPaired) as caught:
                await greeting.answered()
            said.add(caught.value.reason)
            with pytest.raises(Lost):
                await step.answered()
            await thief.connection.when_gone()
        assert len(said) == 1 and content(devices) == before

    @in_reactor
    async def test_channels(self, devices: Devices, thief: Raw) -> None:
        """Every connection has a binding of its own, between the same two keys, too."""
        # covers: A05
        service = await nas(devices)
        service.open_pairing()
        bindings = set()
        for _ in range(3):
            await thief.open(service.address)
            channel = channel_of(thief.connection.transport)
            assert channel is not None and len(channel.binding) == 32
            assert channel.peer == devices.key("nas")
            bindings.add(channel.binding)
            thief.connection.abort(Lost())
            await thief.connection.when_gone()
        assert len(bindings) == 3

    @in_reactor
    async def test_guess_and_guess_again(self, devices: Devices, thief: Raw) -> None:
        """One guess: on the same connection, on a new one, or with another key there is no more."""
        # covers: A02, A05
        service = await nas(devices)
        window = service.open_pairing()
        ends = ended(window)
        before = content(devices)
        await thief.open(service.address)
        mine = await thief.half(other_code(window.code))
        answer = await thief.ask("pair", **{"with": "code"}, share=mine.share, device="x")
        proof = mine.finish(answer["share"], False).ours
        with pytest.raises(AuthFailed):
            await thief.ask("pair_prove", proof=proof)
        await thief.connection.when_gone()
        assert isinstance(ends[0], AuthFailed)
        await thief.open(service.address, hello=False)
        with pytest.raises(NotPaired):
            await thief.ask("hello", speaks=["lanxfer/1"])
        assert content(devices) == before

    @in_reactor
    async def test_many_guesses_at_once(self, devices: Devices, thief: Raw) -> None:
        """Requests that do not wait for answers make no more guesses of it."""
        # covers: A02, A12
        service = await nas(devices)
        window = service.open_pairing()
        before = content(devices)
        await thief.open(service.address)
        shares = [(await thief.half(other_code(window.code))).share for _ in range(20)]
        asked = [thief.connection.ask("pair", {"with": "code", "share": each}) for each in shares]
        proved = [thief.connection.ask("pair_prove", {"proof": "0" * 64}) for _ in range(20)]
        codes = []
        for each in (*asked, *proved):
            try:
                await each.answered()
                codes.append("ok")
            except LanxferError as error:
                codes.append(error.code)
        assert codes.count("ok") <= 1 and set(codes) <= {"ok", "busy", "forbidden", "auth-failed"}
        assert content(devices) == before

    @in_reactor
    async def test_proof_of_another_connection(
        self, devices: Devices, thief: Raw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A recorded exchange, said again on a new connection, proves nothing."""
        # covers: A05
        monkeypatch.setattr(limits, "PAIR_REPLY", 0.0)
        monkeypatch.setattr(limits, "PAIR_EXCHANGE", 2.0)
        service = await nas(devices)
        window = service.open_pairing()
        ends = ended(window)
        await thief.open(service.address)
        mine = await thief.half(window.code)
        said = {"with": "code", "share": mine.share, "device": "x"}
        proof = mine.finish((await thief.ask("pair", **said))["share"], False).ours
        thief.connection.abort(Lost())
        before = content(devices)
        await thief.open(service.address)
        while True:
            try:
                await thief.ask("pair", **said)
                break
            except Busy:
                await sleep(0.1)
        with pytest.raises(AuthFailed):
            await thief.ask("pair_prove", proof=proof)
        assert isinstance(ends[0], AuthFailed) and content(devices) == before

    @in_reactor
    async def test_no_certificate(self, devices: Devices) -> None:
        """A caller that shows no key at all gets no further than the handshake."""
        # covers: A01, T04
        service = await nas(devices)
        window = service.open_pairing()
        host, port = service.address.split(":")
        before = content(devices)

        def call() -> bytes:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["lanxfer/1"])
            with (
                socket.create_connection((host, int(port)), timeout=10) as plain,
                context.wrap_socket(plain) as wire,
            ):
                wire.sendall(b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"]}\n')
                return wire.recv(4096)

        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            await deferToThread(call)
        assert not window.outcome.called and content(devices) == before


class Line(Protocol):
    """One half of the man in the middle; ``other`` is the other one."""

    def __init__(self, edit: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        self.edit = edit
        self.other: Line | None = None
        self.buffer = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            said = self.edit(json.loads(line))
            if said is not None:
                assert self.other is not None
                self.other.transport.write(json.dumps(said).encode() + b"\n")

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class Middle:
    """A TLS server with a key of its own that passes everything on to the real one."""

    def __init__(self, devices: Devices, towards: str) -> None:
        self.identity = load_identity(devices.state("middle"))
        self.host, port = towards.split(":")
        self.real_port = int(port)
        self.said: list[dict[str, Any]] = []
        self.answers: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda packet: packet
        self.asks: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda packet: packet
        self.port: Any = None
        self.address = ""

    async def start(self) -> None:
        inside = Factory.forProtocol(lambda: self._victim())
        factory = TLSMemoryBIOFactory(server_options(self.identity), False, inside)
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.address = f"127.0.0.1:{self.port.getHost().port}"

    def _asked(self, packet: dict[str, Any]) -> dict[str, Any] | None:
        self.said.append(packet)
        return self.asks(packet)

    def _victim(self) -> Line:
        victim = Line(self._asked)
        waiting: list[bytes] = []
        ready = victim.dataReceived
        victim.dataReceived = waiting.append  # type: ignore[method-assign]

        def connected(_: Any) -> None:
            victim.dataReceived = ready  # type: ignore[method-assign]
            for data in waiting:
                ready(data)

        server = Line(lambda packet: self.answers(packet))
        victim.other, server.other = server, victim
        factory = Factory.forProtocol(lambda: server)
        wrapped = TLSMemoryBIOFactory(client_options(self.identity), True, factory)
        connecting = TCP4ClientEndpoint(reactor, self.host, self.real_port).connect(wrapped)
        connecting.addCallback(connected)
        return victim


async def middle_of(devices: Devices, service: Any) -> Middle:
    made = Middle(devices, service.address)
    await made.start()
    return made


class MiddleTests:
    @in_reactor
    async def test_relays_everything(self, devices: Devices) -> None:
        """The right words, relayed to the letter: both ends fail, and nothing is kept anywhere."""
        # covers: A03
        service = await nas(devices)
        middle = await middle_of(devices, service)
        window = service.open_pairing()
        ends = ended(window)
        told = await refused(
            devices, AuthFailed, come(devices, service, window.code, where=middle.address)
        )
        asked = [each["name"] for each in middle.said if "do" in each]
        assert asked == ["hello", "pair", "pair_prove"]
        assert "between" in told and [type(each) for each in ends] == [AuthFailed]
        await middle.port.stopListening()

    @in_reactor
    async def test_hides_the_refusal(self, devices: Devices) -> None:
        """It answers in the place of the real one with a proof of its own: this end fails, too."""
        # covers: A03
        service = await nas(devices)
        middle = await middle_of(devices, service)

        def answers(packet: dict[str, Any]) -> dict[str, Any]:
            if "error" in packet:
                return {"ok": 3, "proof": middle.said[-1]["proof"], "device": "nas"}
            return packet

        middle.answers = answers
        window = service.open_pairing()
        ends = ended(window)
        await refused(
            devices, AuthFailed, come(devices, service, window.code, where=middle.address)
        )
        assert [type(each) for each in ends] == [AuthFailed]
        await middle.port.stopListening()

    @in_reactor
    async def test_with_a_guess(self, devices: Devices) -> None:
        """It plays the real one with a guess of its own; the words it is after stay unknown."""
        # covers: A03, A02
        service = await nas(devices)
        middle = await middle_of(devices, service)
        window = service.open_pairing()
        guess = code_secret(other_code(window.code))
        found: list[Agreement] = []

        def answers(packet: dict[str, Any]) -> dict[str, Any]:
            if "share" not in packet:
                return packet
            victim = evolve(channel_of(middle_victim[0].transport), peer=devices.key("laptop"))
            made = Agreement(Side.ANSWERING, guess, middle.identity.key, victim)
            found.append(made)
            return {**packet, "share": made.share}

        middle_victim: list[Line] = []
        keep = middle._victim

        def victim() -> Line:
            middle_victim.append(keep())
            return middle_victim[0]

        middle._victim = victim  # type: ignore[method-assign]
        middle.answers = answers
        ends = ended(window)
        await refused(
            devices, AuthFailed, come(devices, service, window.code, where=middle.address)
        )
        proofs = found[0].finish(middle.said[1]["share"], False)
        assert not proofs.check(middle.said[2]["proof"])
        assert [type(each) for each in ends] == [AuthFailed]
        await middle.port.stopListening()

    @in_reactor
    async def test_turns_keeping_into_once(self, devices: Devices) -> None:
        """What the words are good for cannot be changed on the way."""
        # covers: A03
        service = await nas(devices)
        middle = await middle_of(devices, service)
        middle.answers = lambda packet: {**packet, "once": True} if "share" in packet else packet
        window = service.open_pairing()
        ends = ended(window)
        coming = come(devices, service, window.code, where=middle.address, once=True)
        await refused(devices, AuthFailed, coming)
        assert [type(each) for each in ends] == [AuthFailed]
        await middle.port.stopListening()

    @in_reactor
    async def test_keeps_silent(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """It swallows the answers: the one end gives up in time, the other waits for its window."""
        # covers: A03, B01
        monkeypatch.setattr("lanxfer.introducing.PATIENCE", 0.6)
        service = await nas(devices)
        middle = await middle_of(devices, service)
        middle.answers = lambda packet: None
        window = service.open_pairing()
        await refused(devices, TimedOut, come(devices, service, window.code, where=middle.address))
        assert not window.outcome.called
        await middle.port.stopListening()

    @in_reactor
    async def test_strange_answers(self, devices: Devices) -> None:
        """Answers that are not in the protocol are a typed error, and nothing is kept."""
        service = await nas(devices)
        strange: list[dict[str, Any]] = [
            {"ok": 2},
            {"ok": 2, "share": 5},
            {"ok": 2, "share": "42" + "0" * 64},
            {"ok": 2, "share": "x" * 66, "once": "yes"},
        ]
        for each in strange:
            middle = await middle_of(devices, service)
            middle.answers = lambda packet, each=each: each if "share" in packet else packet
            code = service.open_pairing().code
            await refused(devices, BadHeader, come(devices, service, code, where=middle.address))
            await middle.port.stopListening()


class ChangedKeyTests:
    async def _reinstalled(self, devices: Devices) -> Any:
        """The nas answers where it was known, with a new key."""
        service = await nas(devices)
        await devices.pair("laptop", service, "nas")
        await service.stopService()
        for name in ("key.pem", "certificate.pem", "peers.json"):
            Path(devices.state("nas").file(name)).unlink()
        port = int(service.address.split(":")[1])
        return await devices.start("nas", port=port)

    @in_reactor
    async def test_name(self, devices: Devices) -> None:
        """A known name with another key is an alarm; nothing is sent, tried, kept or forgotten."""
        # covers: A07
        old = devices.key("nas")
        service = await self._reinstalled(devices)
        window = service.open_pairing()
        state = devices.state("laptop").path
        tries = [
            lambda: connect(reactor, "nas", state=state),
            lambda: connect(reactor, service.address, state=state),
            lambda: come(devices, service, window.code, where="nas"),
            lambda: come(devices, service, window.code),
            lambda: come(devices, service, window.code, name="nas"),
        ]
        for each in tries:
            told = await refused(devices, KeyChanged, each())
            assert old[:4] in told and devices.key("nas")[:4] in told
            assert "lanxfer peer forget nas" in told
            assert f"lanxfer pair {service.address} --name nas" in told
        assert not window.outcome.called

    @in_reactor
    async def test_way_back(self, devices: Devices) -> None:
        """What the alarm says to do works."""
        # covers: A07
        service = await self._reinstalled(devices)
        window = service.open_pairing()
        Peers(devices.state("laptop")).forget("nas")
        found = await come(devices, service, window.code, name="nas")
        assert (found.name, found.key) == ("nas", devices.key("nas"))
        await devices.client("laptop", "nas")

    @in_reactor
    async def test_another_device(self, devices: Devices) -> None:
        """A new device at the address of an old one gets a name of its own; the old pin stays."""
        # covers: A07, B10
        old = devices.key("nas")
        service = await self._reinstalled(devices)
        window = service.open_pairing()
        await come(devices, service, window.code, name="phone")
        found = {each.name: each.key for each in Peers(devices.state("laptop")).all()}
        assert found == {"nas": old, "phone": devices.key("nas")}
        await devices.client("laptop", service.address)

    @in_reactor
    async def test_name_of_another(self, devices: Devices) -> None:
        """A name that is another's here is refused before the words are tried."""
        # covers: A07
        service = await nas(devices)
        Peers(devices.state("laptop")).add(Peer("attic", devices.key("other")))
        window = service.open_pairing()
        told = await refused(devices, KeyChanged, come(devices, service, window.code, name="attic"))
        assert "attic" in told and not window.outcome.called
        await come(devices, service, window.code, name="nas")

    @in_reactor
    async def test_same_name(self, devices: Devices) -> None:
        """A device that calls itself like a known one is not taken for it, on either side."""
        # covers: A07, A13
        service = await nas(devices)
        for here, name in (("laptop", "nas"), ("nas", "laptop")):
            Peers(devices.state(here)).add(Peer(name, devices.key("other")))
        found = await come(devices, service, service.open_pairing().code)
        assert (found.name, found.key) == ("nas-2", devices.key("nas"))
        for here, name, there in (("laptop", "nas", "nas"), ("nas", "laptop", "laptop")):
            peers = Peers(devices.state(here))
            assert peers.find(name).key == devices.key("other")
            assert peers.find(f"{name}-2").key == devices.key(there)


class OnceTests:
    @in_reactor
    async def test_one_sending(self, devices: Devices) -> None:
        """One connection, over which files go; no key is kept, and there is no second one."""
        service = await nas(devices)
        window = service.open_pairing(once=True)
        before = content(devices)
        found = await come(devices, service, window.code, once=True)
        assert found.once and content(devices) == before
        client = await devices.client("laptop", "", target=found.target)
        for name in ("a.txt", "b.txt"):
            await client.send_file(devices.source(name, b"hello"))
        assert sorted(each.name for each in devices.inbox("nas").iterdir() if each.is_file()) == [
            "a.txt",
            "b.txt",
        ]
        with pytest.raises(Forbidden):
            await client.call("status")
        await client.close()
        state = devices.state("laptop").path
        for target in (found.target, None):
            with pytest.raises(NotPaired):
                await connect(reactor, service.address, state=state, target=target)
        assert (names(devices, "nas"), names(devices, "laptop")) == ([], [])

    @in_reactor
    async def test_only_that_key(self, devices: Devices) -> None:
        """The one connection is for the key that proved the words."""
        # covers: A03
        service = await nas(devices)
        found = await come(devices, service, service.open_pairing(once=True).code, once=True)
        state = devices.state("thief").path
        with pytest.raises(NotPaired):
            await connect(reactor, service.address, state=state, target=found.target)
        await devices.client("laptop", "", target=found.target)

    @in_reactor
    async def test_not_wanted(self, devices: Devices) -> None:
        """Who wants to be known learns that in time, and the words stay good."""
        service = await nas(devices)
        window = service.open_pairing(once=True)
        told = await refused(devices, Forbidden, come(devices, service, window.code))
        assert "still good" in told and not window.outcome.called


class FleetTests:
    @in_reactor
    async def test_same_token(self, devices: Devices) -> None:
        """Two devices with the same token know each other after the first sending."""
        path = devices.source("token", TOKEN.encode())
        Path(path).chmod(0o600)
        service = await nas(devices, token_file=path)
        client = await devices.client("laptop", service.address, token_file=path)
        await client.send_message("hello")
        assert len(names(devices, "nas")) == 1
        assert names(devices, "laptop") == ["nas"]
        again = await devices.client("laptop", "nas")
        assert again.peer == f"peer:{devices.key('nas')}"

    @in_reactor
    async def test_between_services(self, devices: Devices) -> None:
        """A service that holds the token uses it for what it sends by itself."""
        path = devices.source("token", TOKEN.encode())
        Path(path).chmod(0o600)
        service = await nas(devices, token_file=path)
        other = await devices.start("attic", token_file=path)
        await other.send({"peer": service.address, "text": "hello"})
        assert (names(devices, "nas"), names(devices, "attic")) == (["attic"], ["nas"])

    @in_reactor
    async def test_other_token(self, devices: Devices) -> None:
        """Another token, or none there, is refused, and nobody knows anybody."""
        # covers: A01, A10
        paths = {}
        for name, value in (("one", TOKEN), ("two", TOKEN[::-1])):
            paths[name] = devices.source(f"{name}.token", value.encode())
            Path(paths[name]).chmod(0o600)
        service = await nas(devices, token_file=paths["one"])
        none = await devices.start("attic")
        state = devices.state("laptop").path
        cases = [
            (service, AuthFailed, "one here"),
            (none, NotPaired, "takes no token"),
        ]
        for where, kind, words_of in cases:
            told = await refused(
                devices,
                kind,
                connect(reactor, where.address, state=state, token_file=paths["two"]),
            )
            assert words_of in told

    @in_reactor
    async def test_stranger(self, devices: Devices, thief: Raw) -> None:
        """Where a token is set, strangers reach pairing, and still nothing else."""
        # covers: A01
        path = devices.source("token", TOKEN.encode())
        Path(path).chmod(0o600)
        service = await nas(devices, token_file=path)
        before = content(devices)
        await thief.open(service.address)
        with pytest.raises(NotPaired):
            await thief.ask("recv_file", b"hello", path="a.txt", size=5)
        await refused(devices, NotPaired, come(devices, service, new_code()))
        assert content(devices) == before

    @in_reactor
    async def test_loose_token(self, devices: Devices) -> None:
        """A service does not start with a token that others can read."""
        # covers: A11
        path = devices.source("token", TOKEN.encode())
        Path(path).chmod(0o644)
        with pytest.raises(BadConfig, match="chmod 600"):
            await devices.start("nas", token_file=path)


class ControlTests:
    @in_reactor
    async def test_open(self, devices: Devices) -> None:
        """Over the control socket the words come as an event, and the device as the answer."""
        service = await nas(devices)
        control = await devices.control("nas")
        told: list[Any] = []
        asked = control.call("pair_open", {"label": "kitchen"}, on_event=told.append)
        await until(lambda: told)
        assert set(told[0]["words"]) <= words() and told[0]["seconds"] == 120
        await come(devices, service, " ".join(told[0]["words"]))
        answer = (await asked).args
        assert (answer["peer"], answer["key"]) == ("kitchen", devices.key("laptop"))

    @in_reactor
    async def test_gone(self, devices: Devices) -> None:
        """Whoever opened the window and goes has closed it."""
        service = await nas(devices)
        control = await devices.control("nas")
        told: list[Any] = []
        asked = control.call("pair_open", {}, on_event=told.append)
        await until(lambda: told)
        control._connection.abort(Lost())
        with pytest.raises(Lost):
            await asked
        await until(lambda: not service._now.pairing.welcomes)
        await refused(devices, NotPaired, come(devices, service, "-".join(told[0]["words"])))

    @in_reactor
    async def test_not_for_peers(self, devices: Devices) -> None:
        """A peer opens no window."""
        # covers: L04, A14
        service = await nas(devices)
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        with pytest.raises(Forbidden):
            await client.call("pair_open", {})
        assert not service._now.pairing.welcomes

    @in_reactor
    async def test_not_in_plain_text(self, devices: Devices) -> None:
        """Without TLS there is no key to be paired."""
        service = await devices.start("nas", plain_from=("127.0.0.1",))
        service.open_pairing()
        client = await devices.client("laptop", service.address, plain=True)
        for name, args in (
            ("pair", {"with": "code", "share": "41"}),
            ("pair_prove", {"proof": ""}),
            ("pair_keep", {}),
        ):
            with pytest.raises(Forbidden, match="TLS"):
                await client.call(name, args)
