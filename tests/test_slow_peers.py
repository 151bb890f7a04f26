"""Peers that stop, drip or come in crowds, over real sockets; what is a minute is shorter here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, until
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from chaos.subject import HELLO, Caller, Good, address, dial, line, subject
from lanxfer.client import connect
from lanxfer.errors import TimedOut, TooSlow
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder
from lanxfer.wire import limits

MIB = 1024 * 1024


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is two seconds."""
    for name in ("RATE_OVER", "BODY_IDLE_TIMEOUT"):
        monkeypatch.setattr(limits, name, 2.0)
    for name in ("PING_AFTER", "PING_TIMEOUT"):
        monkeypatch.setattr(limits, name, 1.0)


def stopped(server: socket.socket, first: bytes, kept: list[socket.socket]) -> None:
    """Answer one caller's first line, and never read again."""
    connection, _ = server.accept()
    kept.append(connection)
    line(connection)
    connection.sendall(first)


@pytest.mark.usefixtures("short")
class ReceiverStopsTests:
    # covers: B07
    @in_reactor
    async def test_ae_receiver(self, devices: Devices) -> None:
        """An ae device that stops reading in the middle of a file does not hold the sender."""
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen()
        kept: list[socket.socket] = []
        size = 20 * MIB
        first = b"{'method_name': 'recv_file', 'total_bytes': %d, 'transferred_bytes': 0}\n" % size
        answering = deferToThread(stopped, server, first, kept)
        path = devices.source("film", bytes(size))
        port = server.getsockname()[1]
        client = await connect(
            reactor,
            f"127.0.0.1:{port}",
            state=devices.state("laptop").path,
            legacy=True,
            patience=0.0,
        )
        try:
            with pytest.raises((TimedOut, TooSlow), match=r"does not take|too slowly"):
                await client.send_file(path)
            await answering
        finally:
            await client.close(0.5)
            for each in (*kept, server):
                each.close()

    @in_reactor
    async def test_frozen_service(self, devices: Devices, tmp_path: Path) -> None:
        """A service that is stopped like a debugged process is noticed by whoever waits for it."""
        # covers: B08
        folder = tmp_path / "frozen"
        folder.mkdir()
        state = StateFolder(str(folder / "state"))
        Peers(state).add(Peer("laptop", devices.key("laptop"), ()))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lanxfer.cli.main", "serve", "--json", "--allow-root"),
                *("--port", "0", "--bind", "127.0.0.1", "--state", state.path),
                *("--inbox", folder / "in"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            first = await deferToThread(process.stdout.readline)
            where = first.partition('"127.0.0.1:')[2].partition('"')[0]
            key = load_identity(state).key
            Peers(devices.state("laptop")).add(Peer("nas", key, (f"127.0.0.1:{where}",)))
            client = await devices.client("laptop", "nas", patience=0.0)
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(TimedOut):
                await client.send_message("are you there?")
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(20)


@pytest.mark.usefixtures("short")
class SenderDripsTests:
    # covers: B01 B03
    @in_reactor
    async def test_drip(self, devices: Devices, tmp_path: Path) -> None:
        """A body that drips is ended with too-slow, its part is kept, its place is free."""
        service = await devices.start("nas")
        caller = Caller.made(tmp_path / "caller")
        devices.pin("nas", "nas")
        Peers(devices.state("nas")).add(Peer("caller", caller.key, ()))
        port = int(service.address.rpartition(":")[2])
        said: list[bytes] = []

        def drip() -> None:
            with caller.dial(port) as connection:
                connection.sendall(HELLO)
                line(connection)
                ask = b'{"do": 2, "name": "recv_file", "path": "film", "size": 9000}\n'
                connection.sendall(ask)
                line(connection)
                connection.sendall(b'{"part": 2, "offset": 0, "body": 9000}\n')
                connection.settimeout(0.1)
                for _ in range(300):
                    try:
                        said.append(connection.recv(65536))
                    except TimeoutError:
                        connection.sendall(b"x")
                    if said and not said[-1]:
                        return

        await deferToThread(_ignoring, drip)
        assert b"too-slow" in b"".join(said)
        await until(lambda: not service.registry.pending())
        parts = list((devices.inbox("nas") / ".lanxfer-staging").glob("*.part"))
        assert len(parts) == 1 and parts[0].stat().st_size > 0
        assert not (devices.inbox("nas") / "film").exists()


def _ignoring(work: Any) -> None:
    with suppress(OSError):  # cut off while it wrote
        work()


class CrowdTests:
    @pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.0/8")
    def test_few_descriptors(self) -> None:
        """With 64 files and 200 callers the newest are refused; files still arrive; it recovers."""
        # covers: R04
        with subject(limit=64) as (under, callers):
            good = Good(callers[0], under.port)
            good.connect()
            crowd: list[socket.socket] = []
            for each in range(200):
                with suppress(OSError):
                    crowd.append(dial(under.port, address(each)))
            assert under.descriptors < 64
            good.send_file(b"film", b"x" * MIB, _digest(b"x" * MIB))
            spent = _processor_time(under.process.pid)
            time.sleep(1.0)
            assert _processor_time(under.process.pid) - spent < 0.5, "a busy loop"
            for each in crowd:
                each.close()
            time.sleep(0.3)
            assert good.connect() > 0
            good.close()
            assert "Traceback" not in under.errors.read_text()
            assert (under.inbox / "film").read_bytes() == b"x" * MIB


def _digest(data: bytes) -> bytes:
    from blake3 import blake3

    return blake3(data).hexdigest().encode()


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
