"""Links over real streams of bytes: UNIX sockets and the pipes of a child."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from lanxfer.commands.declared import command
from lanxfer.commands.table import Call
from lanxfer.errors import Lost, Unreachable
from lanxfer.linking import LinkService, SharedLink, dial_link, listen_links, spawn_link
from tests.devices import in_reactor, until

CHILD = """
from twisted.internet import reactor
from lanxfer.commands.declared import command
from lanxfer.commands.table import Call
from lanxfer.linking import stdio_link

class Child:
    @command("c.twice")
    async def twice(self, call: Call, data: bytes) -> bytes:
        return 2 * (await call.link.call("p.echo", data=data)).body

stdio_link(reactor, Child()).when_closed().addCallback(lambda _: reactor.stop())
reactor.run()
"""


class Parent:
    def __init__(self) -> None:
        self.together = threading.Barrier(4)
        self.inside = threading.Semaphore(4)

    @command("p.echo")
    def echo(self, data: bytes) -> bytes:
        return data

    @command("p.meet", blocking=True)
    def meet(self) -> int:
        """Fires only when four of them are in threads at the same time."""
        if not self.inside.acquire(blocking=False):
            return 5
        self.together.wait(30)
        self.inside.release()
        return 4

    @command("p.back")
    async def back(self, call: Call, data: bytes) -> bytes:
        answer = await call.link.call("p.echo", data=data)
        return bytes(answer.body)


class Slow:
    def __init__(self) -> None:
        self.asked: list[Deferred[int]] = []
        self.ended: list[Any] = []

    @command("p.slow")
    async def slow(self) -> int:
        """Fires when the test says so."""
        self.asked.append(Deferred(self.ended.append))
        return await self.asked[0]


class UnixTests:
    @in_reactor
    async def test_both_ways(self, tmp_path: Path) -> None:
        """Each side asks the other over a socket, and both ends close in order."""
        # covers: S3-01 S3-25 S3-32
        place = f"unix:{tmp_path}/s"
        there = await listen_links(reactor, place, Parent())
        link = await dial_link(reactor, place, Parent())
        assert (await link.call("p.back", data=b"abc")).body == b"abc"
        asked = [link.call("p.echo", data=b"%d" % n) for n in range(2000)]
        found = await gatherResults(asked)
        assert [each.body for each in found] == [b"%d" % n for n in range(2000)]
        await link.close()
        assert await link.when_closed() is None
        await there.close()

    @in_reactor
    async def test_blocking(self, tmp_path: Path) -> None:
        """Commands that block run four at a time, and hold up no other."""
        # covers: S3-16
        place = f"unix:{tmp_path}/s"
        there = await listen_links(reactor, place, Parent())
        link = await dial_link(reactor, place)
        three = [link.call("p.meet") for _ in range(3)]
        assert (await link.call("p.echo", data=b"x")).body == b"x"
        assert not any(each.called for each in three)
        found = await gatherResults([*three, *(link.call("p.meet") for _ in range(9))])
        assert [each.flags for each in found] == [4] * 12
        await link.close()
        await there.close()

    @in_reactor
    async def test_shared(self, tmp_path: Path) -> None:
        """Nothing is dialled before somebody needs it; the last one to let go closes it."""
        # covers: S3-22 S3-24
        place = f"unix:{tmp_path}/s"
        there = await listen_links(reactor, place, Parent())
        shared = SharedLink(reactor, lambda: dial_link(reactor, place))
        assert not there.links
        first, second = await gatherResults([shared.hold(), shared.hold()])
        assert first is second
        assert len(there.links) == 1
        shared.release()
        assert (await second.call("p.echo", data=b"x")).body == b"x"
        shared.release()
        await until(lambda: not there.links)
        assert (await shared.call("p.echo", data=b"y")).body == b"y"
        with pytest.raises(ValueError, match="more often"):
            shared.release()
        await until(lambda: not there.links)
        await there.close()

    @in_reactor
    async def test_again(self, tmp_path: Path) -> None:
        """A link that breaks is made anew; what was under way is told."""
        # covers: S3-23
        place = f"unix:{tmp_path}/s"
        parent = Parent()
        there = await listen_links(reactor, place, parent)
        service = LinkService(reactor, place, initial_delay=0.01)
        service.startService()
        link: Any = await service.when_linked()
        waiting = link.call("p.meet")
        await until(lambda: there.factory.node._pool is not None)
        for each in list(there.links):
            each.protocol.abort(Lost())
        with pytest.raises(Lost):
            await waiting
        await until(lambda: link.protocol.gone)
        again = await service.when_linked()
        assert (await again.call("p.echo", data=b"x")).body == b"x"
        await service.stopService()
        parent.together.abort()
        await there.close()

    @in_reactor
    @pytest.mark.parametrize("whole", [True, False])
    async def test_asker_gone(self, tmp_path: Path, whole: bool) -> None:
        """Who closes both ways hears nothing any more, and what they asked for ends at once."""
        # covers: B05
        there = await listen_links(reactor, f"unix:{tmp_path}/s", slow := Slow())
        with socket.socket(socket.AF_UNIX) as asker:
            asker.connect(f"{tmp_path}/s")
            asker.sendall(b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": ""}\n')
            asker.sendall(b'{"do": 2, "name": "p.slow"}\n')
            await until(lambda: slow.asked)
            # All that was said to it, or its system would say for it that it is gone.
            assert b'"ok": 1' in await deferToThread(asker.recv, 4096)
            if whole:
                asker.close()
                await until(lambda: slow.ended)
            else:
                asker.shutdown(socket.SHUT_WR)
                await deferLater(reactor, 0.2, lambda: None)
                assert not slow.ended
                slow.asked[0].callback(7)
                asker.settimeout(10)
                said = await deferToThread(lambda: b"".join(iter(lambda: asker.recv(4096), b"")))
                assert b'{"ok": 2, "flags": 7}' in said
        await there.close()

    @in_reactor
    async def test_nobody(self, tmp_path: Path) -> None:
        """Where nobody listens that is said."""
        with pytest.raises(Unreachable):
            await dial_link(reactor, f"unix:{tmp_path}/none")


class ChildTests:
    @in_reactor
    async def test_pipes(self) -> None:
        """A child process is asked, and asks back, through its standard input and output."""
        # covers: S3-25
        link = await spawn_link(reactor, [sys.executable, "-c", CHILD], Parent())
        big = bytes(range(256)) * 2000
        assert (await link.call("c.twice", data=big)).body == 2 * big
        await link.close()


class WritesTests:
    @in_reactor
    async def test_together(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hundred requests of one turn of the reactor are at most three calls of the system."""
        # covers: S3-27
        place = f"unix:{tmp_path}/s"
        there = await listen_links(reactor, place, Parent())
        link = await dial_link(reactor, place)
        transport: Any = link.protocol.transport
        written: list[int] = []
        write = transport.writeSomeData

        def count(data: bytes) -> Any:
            written.append(len(data))
            return write(data)

        monkeypatch.setattr(transport, "writeSomeData", count)
        asked = [link.call("p.echo", data=b"%d" % n) for n in range(100)]
        found = await gatherResults(asked)
        assert [each.body for each in found] == [b"%d" % n for n in range(100)]
        assert 1 <= len(written) <= 3
        await link.close()
        await there.close()


class LazyTests:
    @in_reactor
    async def test_no_connection(self, tmp_path: Path) -> None:
        """Until the first request nobody dials, not even in vain; idle, it is closed again."""
        # covers: S3-24
        place = f"unix:{tmp_path}/s"
        there = await listen_links(reactor, place, Parent())
        dialled: list[str] = []

        def dial() -> Any:
            dialled.append(place)
            return dial_link(reactor, place)

        shared = SharedLink(reactor, dial)
        await deferLater(reactor, 0.05, lambda: None)
        assert not dialled and not there.links
        both = await gatherResults([shared.call("p.echo", data=b"x") for _ in range(2)])
        assert [each.body for each in both] == [b"x"] * 2
        assert len(dialled) == 1
        await until(lambda: not there.links)
        await there.close()
