"""How long anything is waited for, and what else a client and a service can be told to do."""

from __future__ import annotations

import os
import re
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, sleep, until
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.protocols.socks import SOCKSv4Factory
from wires import Wire
from zope.interface import implementer

from lanxfer.errors import (
    AuthFailed,
    Lost,
    NotPaired,
    Overloaded,
    TimedOut,
    TlsRequired,
    Unreachable,
)
from lanxfer.sessions.native import _BODY_MAX
from lanxfer.transfers import State
from lanxfer.wire import limits

MIB = limits.MIB


async def pair(devices: Devices, hooks: Any = None, **settings: Any) -> Any:
    service = await devices.start("nas", hooks, **settings)
    await devices.pair("laptop", service, "nas")
    return service, await devices.client("laptop", "nas")


class IdleTests:
    @in_reactor
    async def test_silence(self, devices: Devices) -> None:
        """A caller that says nothing for so long is told why, and its connection ends."""
        # covers: S2-57
        _, client = await pair(devices, limits=("idle-timeout=0.4",))
        connection = await client.connected()
        await until(lambda: connection.gone)
        assert isinstance(connection.lost_because, TimedOut)
        await client.send_message("back again")  # the next call makes another one

    @in_reactor
    async def test_never_a_transfer(self, devices: Devices) -> None:
        """A transfer that takes longer than that, or is paused, keeps its connection."""
        # covers: S2-57
        # Made before, since whoever makes them says nothing meanwhile.
        slow = devices.source("slow", os.urandom(400_000))
        big = devices.source("big", os.urandom(40 * MIB))
        service, client = await pair(devices, limits=("idle-timeout=0.4",))
        connection = await client.connected()
        service.limit(rate_in=200_000)
        await client.send_file(slow)
        assert not connection.gone
        service.limit(rate_in=None)
        sending = client.send_file(big)
        await until(lambda: any(s.state is State.MOVING for s in service.registry.pending()))
        transfer = service.registry.find(service.registry.pending()[0].id)
        transfer.pause(True)
        await sleep(1.2)
        assert not connection.gone
        transfer.pause(False)
        await sending
        assert (await client.connected()) is connection

    @in_reactor
    async def test_waiting_is_not_idle(self, devices: Devices) -> None:
        """Who waits for events says nothing, and is not let go."""
        # covers: S2-57
        _, client = await pair(devices, limits=("idle-timeout=0.4",))
        connection = await client.connected()
        watching = client.call("watch")
        await sleep(1.2)
        assert not connection.gone
        watching.addErrback(lambda why: None)
        watching.cancel()


class ProgressTests:
    @in_reactor
    async def test_no_progress(self, devices: Devices) -> None:
        """A file that is not taken any more is given up by itself; the connection lives."""
        # covers: S2-58
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas", progress_timeout=0.5)
        connection = await client.connected()
        sending = client.send_file(devices.source("big", os.urandom(64 * MIB)))
        await until(lambda: any(s.state is State.MOVING for s in service.registry.pending()))
        # Paused there: no credit comes any more, and nobody here was told.
        service.registry.find(service.registry.pending()[0].id).pause(True)
        with pytest.raises(TimedOut, match="moved"):
            await sending
        await client.send_message("still there")
        assert (await client.connected()) is connection
        await until(lambda: not len(service.registry))

    @in_reactor
    async def test_waiting_for_a_yes(self, devices: Devices) -> None:
        """An offer that waits for somebody is not one that does not move."""
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        Path(devices.state("nas").file("rights")).write_text("[peer laptop]\noffers = ask\n")
        await sleep(0.1)
        client = await devices.client("laptop", "nas", progress_timeout=0.3)
        sending = client.send_file(devices.source("a", b"hello"))
        await until(lambda: service.prompts())
        await sleep(0.8)
        service.answer(service.prompts()[0].id, True)
        assert (await sending).stored == "a"


class ConnectTests:
    @in_reactor
    async def test_black_hole(self, devices: Devices) -> None:
        """An address that swallows everything is given up after the time that was set."""
        # covers: S2-60
        with socket.socket() as hole:
            hole.bind(("127.0.0.1", 0))
            hole.listen(0)
            address = hole.getsockname()
            fillers = []
            for _ in range(4):  # from then on nobody is let in, nor refused
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(address)
                fillers.append(filler)
            await sleep(0.1)
            devices.pin("laptop", "nas", f"127.0.0.1:{address[1]}")
            with pytest.raises(Unreachable, match="time"):
                await devices.client("laptop", "nas", connect_timeout=0.3)
            for filler in fillers:
                filler.close()

    @in_reactor
    async def test_silent_server(self, devices: Devices, monkeypatch: Any) -> None:
        """One that lets us in and says nothing is given up as well."""
        # covers: S2-60
        monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT", 0.3)
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(5)
            devices.pin("laptop", "nas", f"127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(TimedOut):
                await devices.client("laptop", "nas")

    @in_reactor
    async def test_proxy(self, devices: Devices) -> None:
        """A client goes through whatever endpoint it is given, such as a SOCKS proxy's."""
        # covers: S2-63
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        proxy = reactor.listenTCP(  # type: ignore[attr-defined]
            0, SOCKSv4Factory(None), interface="127.0.0.1"
        )
        asked: list[tuple[str, int]] = []

        def through(host: str, port: int) -> IStreamClientEndpoint:
            asked.append((host, port))
            way = HostnameEndpoint(reactor, "127.0.0.1", proxy.getHost().port)
            return Socks(way, host, port)

        try:
            client = await devices.client("laptop", "nas", through=through)
            data = os.urandom(3 * MIB)
            await client.send_file(devices.source("a", data))
            await client.close()
        finally:
            await proxy.stopListening()
        assert (devices.inbox("nas") / "a").read_bytes() == data
        assert asked == [("127.0.0.1", int(service.address.split(":")[1]))]

    @in_reactor
    async def test_block(self, devices: Devices) -> None:
        """A client closes itself at the end of its block, also when that ends badly."""
        # covers: S2-67
        await pair(devices)
        async with await devices.client("laptop", "nas") as client:
            await client.send_message("hi")
            connection = await client.connected()
        assert connection.gone
        with pytest.raises(ZeroDivisionError):
            async with await devices.client("laptop", "nas") as client:
                connection = await client.connected()
                sending = client.send_file(devices.source("big", os.urandom(64 * MIB)))
                sending.addErrback(lambda why: why.trap(Lost))
                _ = 1 / 0
        assert connection.gone
        with pytest.raises(Lost):
            await client.send_message("no more")

    @in_reactor
    async def test_who_is_there(self, devices: Devices) -> None:
        """The other side says its version, its name and what it takes."""
        # covers: S2-64
        _, client = await pair(devices)
        said = client.hello
        assert (said["speaks"], said["device"]) == ("lanxfer/1", "nas")
        assert said["limits"]["inline"] == limits.INLINE_MAX and "features" in said


@implementer(IStreamClientEndpoint)
class Socks:
    """Twenty lines of SOCKS 4, as a library would bring them."""

    def __init__(self, way: Any, host: str, port: int) -> None:
        self._way, self._host, self._port = way, host, port

    def connect(self, factory: Any) -> Deferred[Any]:
        told: Deferred[Any] = Deferred()
        host, port = socket.inet_aton(self._host), self._port

        class Asking(Protocol):
            answer = b""

            def connectionMade(self) -> None:
                self.transport.write(struct.pack("!BBH", 4, 1, port) + host + b"\0")

            def dataReceived(self, data: bytes) -> None:
                self.answer += data
                if len(self.answer) < 8:
                    return
                assert self.answer[1] == 90
                inner = factory.buildProtocol(self.transport.getPeer())
                self.transport.protocol = inner
                inner.makeConnection(self.transport)
                told.callback(inner)

        from twisted.internet.protocol import Factory

        self._way.connect(Factory.forProtocol(Asking)).addErrback(told.errback)
        return told


class UsersTests:
    async def start(self, devices: Devices, hooks: Any = None) -> Any:
        checker = InMemoryUsernamePasswordDatabaseDontUse(anna=b"one", bob=b"two")
        service = await devices.start("nas", hooks, checkers=(checker,))
        devices.pin("laptop", "nas", service.address)
        return service

    @in_reactor
    async def test_told(self, devices: Devices) -> None:
        """An application hears of each login once, and of its end, however that came."""
        # covers: S2-52 S2-70
        told: list[str] = []
        await self.start(
            devices,
            {
                "on_login": lambda who: told.append(f"in {who.name}"),
                "on_logout": lambda who: told.append(f"out {who.name}"),
            },
        )
        anna = await devices.client("laptop", "nas", login=("anna", "one"))
        bob = await devices.client("laptop", "nas", login=("bob", "two"))
        assert told == ["in user:anna", "in user:bob"]
        await anna.close()
        (await bob.connected()).transport.abortConnection()
        await until(lambda: len(told) == 4)
        assert sorted(told[2:]) == ["out user:anna", "out user:bob"]
        with pytest.raises(AuthFailed):
            await devices.client("laptop", "nas", login=("anna", "two"))
        assert len(told) == 4

    @in_reactor
    async def test_anonymous(self, devices: Devices) -> None:
        """Whoever is nobody's user gets nowhere, unless the service was started with --open."""
        # covers: S2-51
        await self.start(devices)
        for login in (("nobody", ""), ("", ""), ("anonymous", "x@y")):
            with pytest.raises(AuthFailed):
                await devices.client("laptop", "nas", login=login)
        nobody = await devices.client("laptop", "nas")
        with pytest.raises(NotPaired):
            await nobody.send_file(devices.source("a", b"1"))

    @in_reactor
    async def test_places(self, devices: Devices, monkeypatch: Any) -> None:
        """A user has so many places, counted after the password: nobody else can use them up."""
        # covers: S2-54
        monkeypatch.setattr(limits, "CONNECTIONS_PER_PEER", 2)
        await self.start(devices)
        for _ in range(2):
            with pytest.raises(AuthFailed):
                await devices.client("laptop", "nas", login=("anna", "wrong"))
        for _ in range(2):
            await devices.client("laptop", "nas", login=("anna", "one"))
        with pytest.raises(Overloaded):
            await devices.client("laptop", "nas", login=("anna", "one"))
        await devices.client("laptop", "nas", login=("bob", "two"))


class WireTests:
    @in_reactor
    async def test_nothing_in_the_clear(self, devices: Devices) -> None:
        """Who listens to the wire reads neither a file nor its name nor a password."""
        # covers: S2-62
        checker = InMemoryUsernamePasswordDatabaseDontUse(anna=b"s3cret-password")
        service = await devices.start("nas", checkers=(checker,))
        heard = bytearray()

        def listen(data: bytes, at: int) -> bytes:
            heard.extend(data)
            return data

        wire = Wire(service.address, listen)
        devices.pin("laptop", "nas", wire.address)
        client = await devices.client("laptop", "nas", login=("anna", "s3cret-password"))
        text = b"the quick brown fox " * 50_000
        await client.send_file(devices.source("my-secret-name.txt", text))
        await client.send_message("the quick brown fox")
        await client.close()
        await wire.close()
        assert len(heard) > len(text)
        for each in (b"quick brown", b"secret-name", b"s3cret", b"recv_file"):
            assert each not in heard

    @in_reactor
    async def test_no_password_in_the_clear(self, devices: Devices) -> None:
        """A login in plain text is refused, whatever the password is."""
        # covers: S2-62
        checker = InMemoryUsernamePasswordDatabaseDontUse(anna=b"one")
        service = await devices.start("nas", checkers=(checker,), plain_from=("127.0.0.1",))
        client = await devices.client("laptop", service.address, plain=True)
        with pytest.raises(TlsRequired):
            await client.call("login", {"user": "anna", "password": "one"})

    @pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="looks where Linux shows it")
    @in_reactor
    async def test_one_port(self, devices: Devices) -> None:
        """Ten transfers at once need one port, and no second connection for their data."""
        # covers: S2-59
        service, client = await pair(devices)
        before = listening()
        service.limit(rate_in=limits.SPEED_LEAST)
        sending = [client.send_file(devices.source(f"{n}", os.urandom(300_000))) for n in range(10)]
        await until(lambda: len(service.registry) == 10)
        assert listening() == before
        assert int(service.address.split(":")[1]) in before
        assert len(service._now.factory.connections) == 1
        service.limit(rate_in=None)
        for each in sending:
            await each


def listening() -> set[int]:
    """The TCP ports on which this process listens."""
    mine = set()
    for each in os.listdir("/proc/self/fd"):
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/self/fd/{each}"))
        except OSError:
            continue
        if found:
            mine.add(found[1])
    ports = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in mine:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


class ManyTests:
    @in_reactor
    async def test_so_many_at_a_time(self, devices: Devices) -> None:
        """Of many large files two are under way at a time, and all of them arrive."""
        # covers: S1-12
        service, client = await pair(devices)
        most = 0

        def count(snapshot: Any) -> None:
            nonlocal most
            moving = [s for s in service.registry.pending() if s.state is State.MOVING]
            most = max(most, len(moving))

        service.subscribe(count)
        for number in range(20):
            devices.source(f"many/{number}", os.urandom(limits.PACK_MAX + 1))
        sent = await client.send_paths([str(devices.folder / "many")])
        assert (sent.files, sent.failed) == (20, [])
        assert 1 <= most <= 2

    @in_reactor
    async def test_events(self, devices: Devices) -> None:
        """Whoever listens hears once of each upload that it is done: what, how much, from whom."""
        # covers: S2-70 S1-18
        service, client = await pair(devices)
        done: list[Any] = []
        service.subscribe(lambda s: done.append(s) if s.state is State.DONE else None)
        receipt = await client.send_file(devices.source("a", b"hello"))
        assert [(s.stored, s.size, s.digest) for s in done] == [("a", 5, receipt.digest)]
        assert done[0].peer == f"peer:{devices.key('laptop')}"

    @in_reactor
    async def test_pack_refused(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Behind many small files in one request that is refused the connection ends; each goes
        by itself then, over another one."""
        # covers: H10
        _, client = await pair(devices)
        first = await client.connected()
        monkeypatch.setitem(_BODY_MAX, "recv_files", limits.REFUSED_MAX)
        for number in range(100):
            devices.source(f"many/{number}", os.urandom(1000))
        sent = await client.send_paths([str(devices.folder / "many")])
        assert not sent.failed
        assert sent.files == len(list(devices.inbox("nas").glob("many/*"))) == 100
        assert first.gone
        assert await client.connected() is not first
