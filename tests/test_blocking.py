"""Clients and links for programs without a reactor, and for threads beside one."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from lanxfer.blocking import SyncClient, SyncLink, wait
from lanxfer.commands.declared import command
from lanxfer.errors import Forbidden, Lost, NotFound, TimedOut, Unreachable
from lanxfer.exchange import Answer
from lanxfer.linking import listen_links
from tests.devices import Devices, in_reactor

ROOT = Path(__file__).resolve().parent.parent


class Sums:
    def __init__(self) -> None:
        self.given_up = threading.Event()

    @command("sums.noop")
    def noop(self) -> None:
        pass

    @command("sums.add")
    def add(self, n: int, data: bytes = b"") -> int:
        return n + len(data)

    @command("sums.refuse")
    def refuse(self) -> None:
        raise Forbidden("not you")

    @command("sums.never")
    async def never(self) -> None:
        from twisted.internet.defer import CancelledError, Deferred

        try:
            await Deferred()
        except CancelledError:
            self.given_up.set()
            raise


SCRIPT = """
import sys
from lanxfer.blocking import SyncLink

with SyncLink.dial(sys.argv[1], timeout=60) as link:
    print(link.call("sums.add", {"n": 7}, b"abc").flags)
    try:
        link.call("sums.refuse")
    except Exception as error:
        print(type(error).__name__, error.reason)
    asked = [("sums.add", {"n": n}) for n in range(500)]
    print([each.flags for each in link.call_all(*asked)] == list(range(500)))
again = SyncLink.dial(sys.argv[1])
print(again.ping() < 60)
"""


class ScriptTests:
    @in_reactor
    async def test_plain(self, tmp_path: Path) -> None:
        """A script without a reactor asks, is refused, and ends, with a link left open."""
        # covers: S3-10
        place = f"unix:{tmp_path}/s"
        there = await listen_links(reactor, place, Sums())

        def run() -> subprocess.CompletedProcess[str]:
            line = [sys.executable, "-c", SCRIPT, place]
            return subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=ROOT)

        done = await deferToThread(run)
        assert done.stdout.splitlines() == ["10", "Forbidden not you", "True", "True"], done.stderr
        assert (done.returncode, done.stderr) == (0, "")
        await there.close()

    @in_reactor
    async def test_nobody(self, tmp_path: Path) -> None:
        """What fails is raised, and does not keep the script."""
        line = f"from lanxfer.blocking import SyncLink; SyncLink.dial('unix:{tmp_path}/none')"

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", line], capture_output=True, text=True, timeout=120, cwd=ROOT
            )

        done = await deferToThread(run)
        assert done.returncode == 1 and "Unreachable" in done.stderr


class ThreadTests:
    @in_reactor
    async def test_link(self, tmp_path: Path) -> None:
        """A thread beside a reactor asks through it, and many threads share one link."""
        # covers: S3-10 S3-11
        place = f"unix:{tmp_path}/s"
        there = await listen_links(reactor, place, Sums())

        def work() -> list[int]:
            with SyncLink.dial(place, timeout=60) as link:
                assert link.call("sums.noop").ok
                found: list[int] = []
                lock = threading.Lock()

                def ask(n: int) -> None:
                    answer: Answer = link.submit("sums.add", {"n": n})
                    with lock:
                        found.append(answer.flags)

                threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
                for each in threads:
                    each.start()
                for each in threads:
                    each.join()
                refused = link.submit("sums.refuse")
                assert not refused.ok and isinstance(refused.error, Forbidden)
                assert link.remote(Sums).add(7, b"abc") == 10
            with pytest.raises(Lost):
                link.call("sums.noop")
            return sorted(found)

        assert await deferToThread(work) == list(range(8))
        await there.close()

    @in_reactor
    async def test_timeout(self, tmp_path: Path) -> None:
        """What takes too long is given up here, and there."""
        place = f"unix:{tmp_path}/s"
        made = Sums()
        there = await listen_links(reactor, place, made)

        def work() -> None:
            with SyncLink.dial(place) as link:
                link.timeout = 0.2
                with pytest.raises(TimedOut, match=r"no answer in 0\.2 s"):
                    link.call("sums.never")
                assert made.given_up.wait(60)
                link.timeout = None
                assert link.call("sums.noop").ok

        await deferToThread(work)
        await there.close()

    @in_reactor
    async def test_client(self, devices: Devices) -> None:
        """Files and texts go the same way, and so does what an application has added."""
        # covers: S3-10
        service = await devices.start("nas", {"commands": Sums()})
        await devices.pair("laptop", service, "nas")
        path = devices.source("a.txt", b"hello")

        def work() -> None:
            state = devices.state("laptop").path
            with SyncClient.connect("nas", state=state, timeout=60) as nas:
                assert nas.send_file(path).stored == "a.txt"
                nas.send_message("hi")
                assert len(nas.rows("history")) == 2
                assert nas.link().call("sums.add", {"n": 1}).flags == 1
                with pytest.raises(NotFound):
                    nas.call("cancel_request", {"id": "none"})
            with SyncClient.local(state=devices.state("nas").path) as owner:
                assert owner.call("status").args["device"] == "nas"

        await deferToThread(work)
        assert (devices.inbox("nas") / "a.txt").read_bytes() == b"hello"

    @in_reactor
    async def test_in_the_reactor(self) -> None:
        """In the reactor's own thread it would wait for ever, and says so instead."""
        with pytest.raises(RuntimeError, match=r"lanxfer\.client"):
            SyncLink.dial("unix:/nowhere")

    @in_reactor
    async def test_raises(self, tmp_path: Path) -> None:
        """A place where nobody is."""

        def work() -> None:
            with pytest.raises(Unreachable):
                wait(lambda: _dial(f"unix:{tmp_path}/none"))

        await deferToThread(work)


def _dial(place: str):  # type: ignore[no-untyped-def]
    from lanxfer.linking import dial_link

    return dial_link(reactor, place)
