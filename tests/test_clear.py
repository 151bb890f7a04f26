"""Bodies in clear between real devices, with somebody on the wire who meddles with them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from devices import Devices, in_reactor, sleep, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.threads import deferToThread
from wires import Wire, _Server

from lanxfer import clear_sending
from lanxfer.client import connect
from lanxfer.errors import BadConfig, Cancelled, DiskFull, LanxferError, Lost
from lanxfer.transfers import Entry, Kind, State
from lanxfer.wire import limits

MIB = limits.MIB
SIZE = 12 * MIB + 17


class _ClearServer(_Server):
    """Meddles with what begins like a body in clear; all else goes through untouched."""

    seen = b""
    clear: bool | None = None

    def dataReceived(self, data: bytes) -> None:
        if self.clear is None:
            self.seen += data
            if len(self.seen) < 5:
                return
            self.clear, data = self.seen.startswith(b"pour "), self.seen
        wire = self.factory.wire
        if not self.clear:
            self.peer.transport.write(data)
            return
        if not self.came:
            wire.lines.append(data)
        at, self.came = self.came, self.came + len(data)
        passed = wire.meddle(data, at)
        if passed is None:
            wire.cuts += 1
            self.transport.loseConnection()
            self.peer.transport.loseConnection()
        elif passed:
            self.peer.transport.write(passed)

    came = 0


class ClearWire(Wire):
    """``meddle`` hears of bodies in clear alone, with the place in all that this one brought."""

    protocol = _ClearServer

    def __init__(self, service: str, meddle: Callable[[bytes, int], bytes | None]) -> None:
        super().__init__(service, meddle)
        self.lines: list[bytes] = []
        self.cuts = 0
        self.most: int | None = None

    def buildProtocol(self, addr: Any) -> Any:
        if self.most is not None and self.callers >= self.most:
            self.dead = True
        return super().buildProtocol(addr)


def untouched(data: bytes, at: int) -> bytes:
    return data


class House:
    """A service, a client that wants bodies in clear, and a wire between them."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self.told: list[str] = []
        self.seen: list[Any] = []

    async def open(
        self,
        meddle: Callable[[bytes, int], bytes | None] = untouched,
        accept: bool = True,
        **settings: Any,
    ) -> None:
        self.service = await self.devices.start("nas", accept_clear_body=accept, **settings)
        await self.devices.pair("laptop", self.service, "nas")
        self.service.subscribe(self.seen.append)
        self.wire = ClearWire(self.service.address, meddle)
        self.devices.pin("laptop", "nas", self.wire.address)
        self.client = await self.devices.client(
            "laptop", "nas", clear_body=True, on_clear=self.told.append
        )

    async def send(self, data: bytes) -> Any:
        """Send it; nothing but that is in the inbox at any time that anybody could look."""
        receipt = await self.client.send_file(self.devices.source("big", data))
        inbox = self.devices.inbox("nas")
        assert [each.name for each in inbox.iterdir() if not each.name.startswith(".")] == ["big"]
        assert (inbox / "big").read_bytes() == data
        return receipt

    @property
    def clear(self) -> list[bool]:
        """Of each transfer that is finished, whether it went in clear."""
        return [each.clear for each in self.seen if each.state.finished]

    @property
    def codes(self) -> list[str]:
        return [each.code for each in self.seen if each.state.finished]


@pytest.fixture
def house(devices: Devices) -> Any:
    made = House(devices)
    yield made
    made.wire.close()


class WayTests:
    @in_reactor
    async def test_in_clear(self, house: House) -> None:
        """The bytes can be read on the wire, nothing else; both sides' owners are told so."""
        went = bytearray()
        await house.open(lambda data, at: went.extend(data) or data)
        data = os.urandom(SIZE)
        receipt = await house.send(data)
        assert receipt.size == SIZE and receipt.resumed_from == 0
        line, _, body = bytes(went).partition(b"\n")
        assert line.startswith(b"pour ") and body == data
        assert house.clear == [True]
        assert len(house.told) == 1 and "everyone" in house.told[0]
        control = await house.devices.control("nas")
        assert [each["clear"] for each in await control.rows("history")] == [True]

    @in_reactor
    async def test_not_small(self, house: House) -> None:
        """What is small goes in TLS, by the connection that is there."""
        await house.open()
        await house.send(os.urandom(limits.CLEAR_LEAST - 1))
        assert house.wire.callers == 1 and house.clear == [False]

    @in_reactor
    async def test_receiver_did_not(self, house: House) -> None:
        """A receiver that was not told to take them gets everything in TLS, and it is said."""
        await house.open(accept=False)
        await house.send(os.urandom(SIZE))
        assert house.wire.callers == 1 and house.clear == [False]
        assert len(house.told) == 1 and "--accept-clear-body" in house.told[0]

    @in_reactor
    async def test_sender_did_not(self, devices: Devices) -> None:
        """A receiver that would take them gets them from nobody who did not ask."""
        service = await devices.start("nas", accept_clear_body=True)
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        seen: list[Any] = []
        service.subscribe(seen.append)
        await client.send_file(devices.source("big", os.urandom(SIZE)))
        assert not seen[-1].clear and service.warnings()[0].startswith("CLEAR BODIES")

    @in_reactor
    async def test_plain(self, devices: Devices) -> None:
        """In plain text there is nothing left to take out of TLS."""
        with pytest.raises(BadConfig):
            await connect(
                reactor,
                "127.0.0.1:1",
                state=devices.state("laptop").path,
                plain=True,
                clear_body=True,
            )

    @in_reactor
    async def test_many_at_once(self, house: House) -> None:
        """Each has a connection of its own, and none the bytes of another."""
        await house.open()
        datas = {f"f{n}": os.urandom(3 * MIB + n) for n in range(6)}
        for name, data in datas.items():
            house.devices.source(name, data)
        sending = [house.client.send_file(str(house.devices.folder / name)) for name in datas]
        for each in sending:
            await each
        for name, data in datas.items():
            assert (house.devices.inbox("nas") / name).read_bytes() == data
        assert house.clear == [True] * 6 and len(house.wire.lines) == 6


def flip(at_byte: int) -> Callable[[bytes, int], bytes]:
    def meddle(data: bytes, at: int) -> bytes:
        where = at_byte - at
        if 0 <= where < len(data):
            changed = bytearray(data)
            changed[where] ^= 1
            return bytes(changed)
        return data

    return meddle


class MeddlingTests:
    @pytest.mark.parametrize("where", [100, SIZE // 2, SIZE])
    @in_reactor
    async def test_flipped(self, house: House, where: int) -> None:
        """One bit turned over anywhere is found; nothing is stored, and it goes again in TLS."""
        # covers: B11
        await house.open(flip(where))
        await house.send(os.urandom(SIZE))
        assert house.codes == ["digest-mismatch", ""] and house.clear == [True, False]
        assert "changed" in house.told[-1]

    @in_reactor
    async def test_cut(self, house: House) -> None:
        """What came before a cut is kept, and the rest goes in TLS."""
        # covers: T05
        await house.open(lambda data, at: data if at < 6 * MIB else None)
        receipt = await house.send(os.urandom(SIZE))
        assert house.codes == ["clear-broken", ""] and house.clear == [True, False]
        assert receipt.resumed_from > 4 * MIB
        assert "broke" in house.told[-1]

    @in_reactor
    async def test_flipped_and_cut(self, house: House) -> None:
        """What was changed before a cut is not continued: the sender compares it first."""

        def meddle(data: bytes, at: int) -> bytes | None:
            return flip(1000)(data, at) if at < 6 * MIB else None

        await house.open(meddle)
        receipt = await house.send(os.urandom(SIZE))
        assert house.codes == ["clear-broken", ""]
        assert receipt.resumed_from == 0

    @in_reactor
    async def test_longer(self, house: House) -> None:
        """What is added behind the end is nobody's, and nothing of it is stored."""

        def meddle(data: bytes, at: int) -> bytes:
            whole = at + len(data) == SIZE + len(house.wire.lines[0].partition(b"\n")[0]) + 1
            return data + os.urandom(100_000) if whole else data

        await house.open(meddle)
        await house.send(os.urandom(SIZE))
        assert house.codes == [""] and house.clear == [True]

    @in_reactor
    async def test_said_twice(self, house: House) -> None:
        """Bytes that come twice are found as those that were changed are."""

        def meddle(data: bytes, at: int) -> bytes:
            return data + data if at <= 3 * MIB < at + len(data) else data

        await house.open(meddle)
        await house.send(os.urandom(SIZE))
        assert house.codes == ["digest-mismatch", ""]

    @in_reactor
    async def test_another_offset(self, house: House) -> None:
        """An offset that was changed on the way opens nothing, and costs nothing."""

        def meddle(data: bytes, at: int) -> bytes:
            return data.replace(b" 0\n", b" 77\n") if at == 0 else data

        await house.open(meddle)
        await house.send(os.urandom(SIZE))
        assert house.codes == [""] and house.clear == [False]
        assert "no second connection" in house.told[-1]

    @in_reactor
    async def test_stalled(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """Bytes that stop coming are missed, and the file goes on without that connection."""
        # covers: B01
        monkeypatch.setattr(limits, "PING_AFTER", 0.2)
        monkeypatch.setattr(limits, "BODY_IDLE_TIMEOUT", 1.0)
        await house.open(lambda data, at: data if at < 6 * MIB else b"")
        receipt = await house.send(os.urandom(SIZE))
        assert house.codes == ["timeout", ""] and house.clear == [True, False]
        assert receipt.resumed_from > 4 * MIB and "broke" in house.told[-1]

    @in_reactor
    async def test_too_slow(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A way on which too little comes is left for the other one."""
        # covers: B03
        monkeypatch.setattr(limits, "PING_AFTER", 0.2)

        def meddle(data: bytes, at: int) -> bytes:
            if at < 6 * MIB:
                return data
            limits.RATE_OVER, limits.RATE_LEAST = 0.5, MIB
            return b""

        def usual(snapshot: Any) -> None:
            if snapshot.state.finished:
                limits.RATE_OVER, limits.RATE_LEAST = before

        before = limits.RATE_OVER, limits.RATE_LEAST
        await house.open(meddle)
        house.service.subscribe(usual)
        try:
            receipt = await house.send(os.urandom(SIZE))
        finally:
            limits.RATE_OVER, limits.RATE_LEAST = before
        assert house.codes == ["too-slow", ""] and house.clear == [True, False]
        assert receipt.resumed_from > 4 * MIB and "broke" in house.told[-1]


def say(address: str, line: bytes, source: str, then: bytes = b"") -> bytes:
    """What is answered to this line, said from there; blocks."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10, (source, 0)) as wire:
        wire.sendall(line)
        answer = wire.recv(1000)
        if then:
            wire.sendall(then)
        return answer


class StolenTests:
    def steal(self, house: House, source: str, then: bytes) -> Callable[[bytes, int], bytes]:
        self.answers: list[bytes] = []

        def meddle(data: bytes, at: int) -> bytes:
            if at:
                return data
            server = next(each for each in self.servers if each.came and not each.passed)
            server.passed = True
            server.transport.pauseProducing()

            def stolen(answer: bytes) -> None:
                self.answers.append(answer)
                server.peer.transport.write(data)
                server.transport.resumeProducing()

            address = house.service.address
            deferToThread(say, address, data, source, then).addCallback(stolen)
            return b""

        self.servers: list[Any] = []
        outer = self

        class Server(_ClearServer):
            passed = False

            def connectionMade(self) -> None:
                outer.servers.append(self)
                super().connectionMade()

        self.protocol = Server
        return meddle

    @in_reactor
    async def test_from_elsewhere(self, house: House) -> None:
        """A ticket that was read on the wire is good for nothing from another address."""
        # covers: A09 J19
        meddle = self.steal(house, "127.0.0.2", b"")
        await house.open(meddle)
        house.wire.protocol = self.protocol
        await house.send(os.urandom(SIZE))
        assert b'"forbidden"' in self.answers[0]
        assert house.codes == [""] and house.clear == [True]

    @pytest.mark.parametrize("then", [b"", b"x" * 2 * MIB, b"x" * SIZE])
    @in_reactor
    async def test_from_here(self, house: House, then: bytes) -> None:
        """Whoever is first has the ticket, and can break the transfer, but store nothing by it."""
        await house.open(self.steal(house, "127.0.0.1", then))
        house.wire.protocol = self.protocol
        await house.send(os.urandom(SIZE))
        assert self.answers == [b"ok\n"]
        assert house.codes[-1] == "" and house.clear == [True, False]
        assert house.codes[0] in ("clear-broken", "digest-mismatch")

    @in_reactor
    async def test_again(self, house: House) -> None:
        """A ticket that was used is good for nothing."""
        # covers: A05 J19
        await house.open()
        await house.send(os.urandom(SIZE))
        line = house.wire.lines[0].partition(b"\n")[0] + b"\n"
        answer = await deferToThread(say, house.service.address, line, "127.0.0.1")
        assert b'"forbidden"' in answer

    @pytest.mark.parametrize(
        "line", [b"pour \n", b"pour " + b"0" * 32 + b" 0\n", b"pour " + b"x" * 5000 + b"\n"]
    )
    @in_reactor
    async def test_no_ticket(self, house: House, line: bytes) -> None:
        """Whatever is no ticket hears the same word, and nothing else is looked at."""
        # covers: J19
        await house.open()
        answer = await deferToThread(say, house.service.address, line, "127.0.0.1")
        assert b'"forbidden"' in answer and b"not good" in answer

    @in_reactor
    async def test_not_taken(self, house: House) -> None:
        """Where they are not taken such a line is no language."""
        await house.open(accept=False)
        line = b"pour " + b"0" * 32 + b" 0\n"
        answer = await deferToThread(say, house.service.address, line, "127.0.0.1")
        assert b'"bad-header"' in answer


class FallbackTests:
    @in_reactor
    async def test_refused(self, house: House) -> None:
        """Without a second connection the file goes in TLS at once, and it is said once."""
        await house.open()
        house.wire.most = 1
        await house.send(os.urandom(SIZE))
        assert house.codes == [""] and house.clear == [False]
        assert len(house.told) == 2 and "no second connection" in house.told[1]
        house.devices.source("big2", b"x" * SIZE)
        callers = house.wire.callers
        await house.client.send_file(str(house.devices.folder / "big2"))
        assert house.wire.callers == callers and len(house.told) == 2

    @in_reactor
    async def test_silent(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A firewall that swallows it costs a few seconds."""
        monkeypatch.setattr(limits, "CLEAR_PATIENCE", 0.3)
        await house.open(lambda data, at: b"")
        await house.send(os.urandom(SIZE))
        assert house.codes == [""] and house.clear == [False]
        assert "no second connection" in house.told[1]

    @in_reactor
    async def test_late(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A ticket that nobody brought in time is good for nothing, and nothing waits for it."""
        monkeypatch.setattr(limits, "CLEAR_TICKET_LIFETIME", 0.1)
        await house.open()
        held: list[Any] = []
        meddling = house.wire.meddle

        def meddle(data: bytes, at: int) -> bytes:
            if at == 0:
                held.append(data)
                return b""
            return meddling(data, at)  # type: ignore[return-value]

        house.wire.meddle = meddle
        sending = house.send(os.urandom(SIZE))
        done = Deferred.fromCoroutine(sending)
        await until(lambda: held)
        await sleep(0.3)
        answer = await deferToThread(say, house.service.address, held[0], "127.0.0.1")
        assert b'"forbidden"' in answer
        await done
        assert house.clear == [False]


class _Never:
    """An endpoint that neither gets there nor fails, and has a word of its own for a cancel."""

    def __init__(self) -> None:
        self.asked = False

    def connect(self, factory: Any) -> Deferred[Any]:
        self.asked = True
        return Deferred(lambda d: d.errback(ConnectingCancelledError(None)))


class OpeningTests:
    """What happens while the second connection is being made."""

    @pytest.mark.parametrize("how", ["caller", "transfer", "lost"])
    @pytest.mark.parametrize("where", ["connecting", "asking"])
    @in_reactor
    async def test_given_up(
        self, house: House, how: str, where: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Given up, it waits for nothing; after a break it begins again, in clear."""
        monkeypatch.setattr(limits, "CLEAR_PATIENCE", 60.0)
        await house.open(lambda data, at: b"")
        never = _Never()
        real = clear_sending.beside
        if where == "connecting":
            monkeypatch.setattr(clear_sending, "beside", lambda *args: never)
        data = os.urandom(SIZE)
        sending = house.client.send_file(house.devices.source("big", data))
        await until(lambda: never.asked or house.wire.lines)
        monkeypatch.setattr(clear_sending, "beside", real)
        house.wire.meddle = untouched
        if how == "caller":
            sending.cancel()
        elif how == "transfer":
            (transfer,) = house.client.registry.pending()
            house.client.registry.cancel(transfer.id)
        else:
            house.client._connection.abort(Lost())  # type: ignore[union-attr]
            await sending
            assert house.clear == [False, True]
            return
        with pytest.raises(Cancelled):
            await sending
        await until(lambda: not pending(house))
        assert house.codes == ["cancelled"] and len(house.told) == 1


class OrderTests:
    """All that can be said about a transfer is said of this one, too."""

    @in_reactor
    async def test_limits(self, house: House) -> None:
        """The speed limits of both sides hold for it."""
        await house.open()
        slow = limits.SPEED_LEAST
        for limited, name in ((house.service, "rate_in"), (house.client, "rate_out")):
            limited.limit(**{name: slow})
            path = house.devices.source(name, os.urandom(4 * MIB))
            sending = house.client.send_file(path)
            await until(lambda: any(each.state is State.MOVING for each in pending(house)), 30)
            await sleep(0.5)
            assert pending(house)[0].clear and pending(house)[0].done < MIB
            limited.limit(**{name: None})
            await sending

    @in_reactor
    async def test_pause_and_cancel(self, house: House) -> None:
        """Paused, nothing more comes; cancelled, nothing is left, and the connections end."""
        await house.open()
        house.client.limit(rate_out=4 * MIB)
        done: list[int] = []
        path = house.devices.source("big", os.urandom(40 * MIB))
        sending = house.client.send_file(path, on_progress=lambda at, size: done.append(at))
        await until(lambda: pending(house) and pending(house)[0].done > MIB, 30)
        id = pending(house)[0].id
        control = await house.devices.control("nas")
        await control.call("pause", {"id": id})
        house.client.limit(rate_out=None)
        await sleep(0.5)
        before = pending(house)[0].done
        await sleep(0.5)
        assert pending(house)[0].state is State.PAUSED
        assert pending(house)[0].done == before < 30 * MIB
        await control.call("resume", {"id": id})
        await until(lambda: not pending(house) or pending(house)[0].done > before, 30)
        await sending
        house.client.limit(rate_out=MIB)
        sending = house.client.send_file(house.devices.source("two", os.urandom(20 * MIB)))
        await until(lambda: pending(house) and pending(house)[0].done > 100_000, 30)
        sending.cancel()
        with pytest.raises(Cancelled):
            await sending
        await until(lambda: not pending(house))
        assert not (house.devices.inbox("nas") / "two").exists()
        assert house.codes[-1] == "cancelled" and house.clear[-1]
        await until(lambda: len(house.service._now.factory._inside) == 1)

    @in_reactor
    async def test_disk_full(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that becomes full is said, as it is to any other."""
        await house.open()
        from lanxfer.storage.parts import LocalPart

        written: list[int] = []
        write = LocalPart.write

        def full(part: Any, pieces: Any) -> None:
            written.append(1)
            if len(written) > 2:
                raise DiskFull()
            write(part, pieces)

        monkeypatch.setattr(LocalPart, "write", full)
        house.client._retrying.patience = 0.0
        with pytest.raises(LanxferError) as caught:
            await house.send(os.urandom(SIZE))
        assert caught.value.code == "disk-full"

    @in_reactor
    async def test_resumed(self, house: House) -> None:
        """A sender that dies on the way goes on in clear when the same is sent again."""
        await house.open()
        data = os.urandom(40 * MIB)
        path = house.devices.source("big", data)
        house.client.limit(rate_out=8 * MIB)
        sending = house.client.send_file(path)
        await until(lambda: pending(house) and pending(house)[0].done > 17 * MIB, 60)
        house.client.drop()
        with pytest.raises(LanxferError):
            await sending
        await until(lambda: not pending(house))
        client = await house.devices.client("laptop", "nas", clear_body=True)
        receipt = await client.send_file(path)
        assert receipt.resumed_from >= 16 * MIB
        assert (house.devices.inbox("nas") / "big").read_bytes() == data
        assert house.clear == [True, True]
        assert len(house.wire.lines) == 2 and not house.wire.lines[1].endswith(b" 0\n")


def pending(house: House) -> list[Any]:
    return list(house.service.registry.pending())


class AddressTests:
    @in_reactor
    async def test_ipv6(self, devices: Devices) -> None:
        """Over IPv6 it goes between the same two addresses, too."""
        try:
            service = await devices.start("nas", bind="::1", accept_clear_body=True)
        except LanxferError:
            pytest.skip("no IPv6 here")
        await devices.pair("laptop", service, "nas")
        told: list[str] = []
        client = await devices.client("laptop", "nas", clear_body=True, on_clear=told.append)
        seen: list[Any] = []
        service.subscribe(seen.append)
        await client.send_file(devices.source("big", os.urandom(SIZE)))
        assert seen[-1].clear and len(told) == 1

    @in_reactor
    async def test_through_a_proxy(self, devices: Devices) -> None:
        """Where another makes the connections there is no second one beside the first."""
        service = await devices.start("nas", accept_clear_body=True)
        await devices.pair("laptop", service, "nas")
        told: list[str] = []

        def through(host: str, port: int) -> Any:
            return TCP4ClientEndpoint(reactor, host, port)

        client = await devices.client(
            "laptop", "nas", clear_body=True, on_clear=told.append, through=through
        )
        seen: list[Any] = []
        service.subscribe(seen.append)
        await client.send_file(devices.source("big", os.urandom(SIZE)))
        assert not seen[-1].clear and "as ever" in told[0]

    @in_reactor
    async def test_shared_folder(self, devices: Devices) -> None:
        """What is put into a shared folder can go so, too."""
        folder = devices.folder / "photos"
        folder.mkdir()
        service = await devices.start(
            "nas", accept_clear_body=True, shares=(f"photos={folder}:rw",)
        )
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas", clear_body=True)
        seen: list[Any] = []
        service.subscribe(seen.append)
        data = os.urandom(SIZE)
        entry = Entry(Kind.FILE, "photos/big", devices.source("big", data), SIZE, shared=True)
        await client.send_entries([entry])
        assert (folder / "big").read_bytes() == data and seen[-1].clear
