"""Connections over two descriptors, and services that speak on their standard input and output."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from bench.programs import free_port
from lanxfer.blocking import SyncClient
from lanxfer.client import child
from lanxfer.commands.declared import command
from lanxfer.errors import Lost
from lanxfer.linking import stdio_link

LANXFER = [sys.executable, "-m", "lanxfer.cli.main"]
HELLO = b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": ""}\n'
ROOT = Path(__file__).resolve().parent.parent

CHILD = """
import os, sys
from twisted.internet import reactor
from lanxfer.commands.declared import command
from lanxfer.linking import stdio_link

class Child:
    @command("c.echo")
    def echo(self, data: bytes) -> bytes:
        return data

link = stdio_link(reactor, Child())
link.when_closed().addCallback(lambda _: reactor.stop())
reactor.run()
more = link.unread or os.read(0, 100)
os.write(1, b"after: " + more)
sys.exit(0 if os.get_blocking(0) and os.get_blocking(1) else 7)
"""


class Parent:
    @command("p.wait")
    async def wait(self) -> None:
        await Deferred()


@contextmanager
def process(*line: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(line, stdin=-1, stdout=-1, cwd=ROOT) as started:
        try:
            yield started
        finally:
            started.kill()


def ends(started: subprocess.Popen[bytes]) -> dict[str, int]:
    """Our ends of its pipes."""
    assert started.stdin is not None and started.stdout is not None
    return {"stdin": started.stdout.fileno(), "stdout": started.stdin.fileno()}


class ReuseTests:
    @in_reactor
    async def test_after_bye(self) -> None:
        """When a link has ended its pipes go on, at both ends, and block as before."""
        # covers: S3-26 S3-25
        with process(sys.executable, "-c", CHILD) as started:
            link = stdio_link(reactor, **ends(started))
            big = bytes(range(256)) * 2000
            assert (await link.call("c.echo", data=big)).body == big
            await link.close()
            assert await link.when_closed() is None
            assert link.unread == b""
            out, into = ends(started).values()
            assert os.get_blocking(out) and os.get_blocking(into)
            os.write(into, b"more")
            assert await deferToThread(os.read, out, 100) == b"after: more"
            assert await deferToThread(started.wait, 60) == 0

    @in_reactor
    async def test_at_once(self) -> None:
        """What follows the last word of the other side in one piece is handed back."""
        # covers: S3-26
        here, there = os.pipe(), os.pipe()
        try:
            link = stdio_link(reactor, Parent(), stdin=here[0], stdout=there[1])
            os.write(here[1], HELLO + b'{"bye": "all"}\nnot {lanxfer\n')
            assert await link.when_closed() is None
            assert link.unread == b"not {lanxfer\n"
            said = os.read(there[0], 10_000)
            assert said.endswith(b'\n{"bye": "all"}\n')
            os.write(here[1], b"still open")
            assert os.read(here[0], 100) == b"still open"
        finally:
            for each in (*here, *there):
                os.close(each)

    @in_reactor
    async def test_last_word(self) -> None:
        """After its bye a side answers nothing any more, and waits a second for the other's."""
        # covers: S3-26 S3-20
        here, there = os.pipe(), os.pipe()
        try:
            link = stdio_link(reactor, Parent(), stdin=here[0], stdout=there[1])
            closing = link.close()
            os.write(
                here[1], b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": ""}\n'
            )
            await closing
            assert os.read(there[0], 10_000).endswith(b'{"bye": "all"}\n')
        finally:
            for each in (*here, *there):
                os.close(each)

    @in_reactor
    async def test_nobody_reads(self) -> None:
        """A full pipe whose other end reads nothing does not keep a link from its end."""
        here, there = os.pipe(), os.pipe()
        try:
            link = stdio_link(reactor, Parent(), stdin=here[0], stdout=there[1])
            asked = link.call("c.echo", data=bytes(1_000_000))
            asked.addErrback(lambda why: why.trap(Lost))
            await link.close(timeout=0.1)
            await asked
        finally:
            for each in (*here, *there):
                os.close(each)


class Greeter:
    @command("greet.hello")
    def hello(self) -> str:
        return "hello"


class ServeTests:
    def line(self, devices: Devices, name: str) -> list[str]:
        where = ["--state", devices.state(name).path, "--inbox", str(devices.inbox(name))]
        return [*LANXFER, "serve", "--stdio", "--allow-root", *where]

    @pytest.fixture(autouse=True)
    def as_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LANXFER_ALLOW_ROOT", "1")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))

    @in_reactor
    async def test_child(self, devices: Devices) -> None:
        """A service of its own lives as long as whoever started it asks, and listens to nobody."""
        # covers: S3-25
        client = await child(reactor, self.line(devices, "nas"))
        receipt = await client.send_file(devices.source("a.bin", os.urandom(3_000_000)))
        assert receipt.stored == "a.bin"
        await client.send_message("hi")
        status = (await client.call("status")).args
        assert status["listening"] == []
        assert len(await client.rows("history")) == 2
        await client.close()
        sent = (devices.folder / "a.bin").read_bytes()
        assert (devices.inbox("nas") / "a.bin").read_bytes() == sent
        again = await child(reactor, self.line(devices, "nas"))
        assert len(await again.rows("history")) == 2
        await again.close()

    @in_reactor
    async def test_running(self, devices: Devices) -> None:
        """Where a service runs already it is the one that answers, its application too."""
        # covers: S3-25
        service = await devices.start("nas", {"commands": Greeter()})
        client = await child(reactor, self.line(devices, "nas"))
        link = await client.link()
        assert (await link.call("greet.hello")).body == b"hello"
        receipt = await client.send_file(devices.source("a.bin", os.urandom(3_000_000)))
        assert receipt.stored == "a.bin"
        assert (await client.call("status")).args["listening"] == [service.address]
        await client.close()
        await until(lambda: not service.status()["connections"])

    @pytest.mark.parametrize("running", [False, True])
    @in_reactor
    async def test_pipe_goes_on(self, devices: Devices, running: bool) -> None:
        """After the bye the program next in line has the pipe."""
        # covers: S3-26
        if running:
            await devices.start("nas")
        words = " ".join(f"'{each}'" for each in self.line(devices, "nas"))
        with process("sh", "-c", f"{words}; exec cat") as started:
            link = stdio_link(reactor, **ends(started))
            await link.ping()
            await link.close()
            assert link.unread == b""
            out, into = ends(started).values()
            os.write(into, b"echo")
            assert await deferToThread(os.read, out, 100) == b"echo"

    @in_reactor
    async def test_fails(self, devices: Devices) -> None:
        """A program that does not speak is a connection that is lost."""
        with pytest.raises(Lost):
            await child(reactor, ["false"])

    @in_reactor
    async def test_only_packets(self, devices: Devices) -> None:
        """Nothing but packets is on standard output, whatever there is to say."""

        def run() -> subprocess.CompletedProcess[bytes]:
            text = b'{"do": 2, "name": "recv_message", "body": 2}\nhi'
            bye = b'{"bye": "all"}\n'
            line = [*self.line(devices, "nas"), "--open"]
            return subprocess.run(
                line, input=HELLO + text + bye, capture_output=True, timeout=120, cwd=ROOT
            )

        done = await deferToThread(run)
        lines = done.stdout.splitlines()
        assert lines[0].startswith(b'{"ok": 1,') and lines[-1] == b'{"bye": "all"}', done.stderr
        assert any(line.startswith(b'{"ok": 2') for line in lines)
        assert all(line.startswith(b'{"') for line in lines)
        assert b"OPEN" in done.stderr

    @in_reactor
    async def test_ssh(self, devices: Devices, tmp_path: Path) -> None:
        """Over a real sshd a thread sends a file and asks for the history."""
        # covers: S3-25
        if shutil.which("ssh") is None or not Path("/usr/sbin/sshd").exists():
            pytest.skip("there is no ssh here")
        with sshd(tmp_path) as ssh:
            where = [f"PYTHONPATH={ROOT}", "LANXFER_ALLOW_ROOT=1", *self.line(devices, "nas")]
            path = devices.source("b.bin", os.urandom(500_000))

            def work() -> list[dict[str, Any]]:
                with SyncClient.child([*ssh, "env", *where], timeout=120) as nas:
                    assert nas.send_file(path).stored == "b.bin"
                    return nas.rows("history")

            rows = await deferToThread(work)
            assert [each["path"] for each in rows] == ["b.bin"]
            assert (devices.inbox("nas") / "b.bin").read_bytes() == Path(path).read_bytes()


@contextmanager
def sshd(folder: Path) -> Iterator[list[str]]:
    """A server for this user alone, and the beginning of a line that runs something there."""
    for name in ("host", "me"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    (folder / "known").write_text(f"* {(folder / 'host.pub').read_text()}")
    shutil.copy(folder / "me.pub", folder / "authorized")
    port = free_port()
    settings = folder / "sshd_config"
    settings.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
    )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # where it lays down its rights
    options = ["-F", "none", "-i", str(folder / "me"), "-p", str(port)]
    options += ["-o", f"UserKnownHostsFile={folder}/known", "-o", "BatchMode=yes"]
    options += ["-o", "IdentitiesOnly=yes", f"{getpass.getuser()}@127.0.0.1"]
    line = ["/usr/sbin/sshd", "-D", "-e", "-f", str(settings)]
    with subprocess.Popen(line, stderr=subprocess.PIPE) as server:
        try:
            assert server.stderr is not None
            assert b"listening on" in server.stderr.readline()
            yield ["ssh", *options]
        finally:
            server.terminate()
            server.stderr.close()
