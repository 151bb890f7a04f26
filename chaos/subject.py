"""A real service in a process of its own, and callers that know nothing of lanxfer's own client."""

from __future__ import annotations

import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define

from lanxfer.descriptors import raise_limit
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0
MIB = 1024 * 1024
HELLO = b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": "chaos"}\n'


def address(number: int) -> str:
    """One of many addresses of this machine: all of 127.0.0.0/8 is loopback on Linux."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


@define
class Caller:
    """One device with a key of its own."""

    context: ssl.SSLContext
    key: str

    @classmethod
    def made(cls, folder: Path) -> Caller:
        state = StateFolder(str(folder))
        identity = load_identity(state)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["lanxfer/1"])
        context.load_cert_chain(state.file("certificate.pem"), state.file("key.pem"))
        return cls(context, identity.key)

    def dial(
        self, port: int, source: str = "127.0.0.1", timeout: float = PATIENCE
    ) -> ssl.SSLSocket:
        """A connection after its handshake, which the service may still refuse."""
        plain = dial(port, source, timeout)
        try:
            return self.context.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise

    def greet(self, port: int, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """A connection whose hello was answered."""
        connection = self.dial(port, source)
        connection.sendall(HELLO)
        answer = line(connection)
        if b'"ok": 1' not in answer:
            raise AssertionError(f"hello was answered {answer!r}")
        return connection


def dial(port: int, source: str = "127.0.0.1", timeout: float = PATIENCE) -> socket.socket:
    """A plain connection from one of this machine's addresses."""
    connection = socket.socket()
    connection.settimeout(timeout)
    try:
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def line(connection: socket.socket) -> bytes:
    """One line; b"" where the other side closed."""
    found = b""
    while not found.endswith(b"\n"):
        try:
            more = connection.recv(65536)
        except (ConnectionError, ssl.SSLError):
            return b""
        if not more:
            return b""
        found += more
    return found


@define
class Subject:
    """The service under attack."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    inbox: Path
    errors: Path

    @property
    def memory(self) -> int:
        """Bytes of it in memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(row.split()[1]) * 1024 for row in text.splitlines() if "VmRSS" in row)

    @property
    def descriptors(self) -> int:
        """How many files and connections it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def status(self) -> dict[str, Any]:
        """What it says of itself on its control socket."""
        path = str(self.folder / "state" / "control.sock")
        until = time.monotonic() + PATIENCE
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE)
            while control.connect_ex(path):
                if self.process.poll() is not None or time.monotonic() > until:
                    raise AssertionError(self.errors.read_text())
                time.sleep(0.05)
            control.sendall(HELLO + b'{"do": 2, "name": "status"}\n')
            with control.makefile("rb") as answers:
                while (answer := json.loads(answers.readline())).get("ok") != 2:
                    pass
        return dict(answer)


def _limit(files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


@contextmanager
def subject(
    *options: str, peers: int = 1, limit: int = 0
) -> Iterator[tuple[Subject, list[Caller]]]:
    """Start ``twistd lanxfer`` with so many paired devices; it is ended and cleared away after.

    ``limit`` is the number of files it may have open, where that is to be few.
    """
    raise_limit()
    where = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="lanxfer-chaos-", dir=where) as name:
        folder = Path(name)
        callers = [Caller.made(folder / f"caller{number}") for number in range(peers)]
        known = Peers(StateFolder(str(folder / "state")))
        for number, caller in enumerate(callers):
            known.add(Peer(f"caller{number}", caller.key, ()))
        errors = folder / "errors"
        with errors.open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "twisted", "--log-format", "text", "lanxfer"),
                    *("--port", "0", "--bind", "127.0.0.1", "--state", str(folder / "state")),
                    *("--inbox", str(folder / "inbox"), "--allow-root", *options),
                ],
                cwd=folder,
                env={**os.environ, "LANXFER_ALLOW_ROOT": "1", "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                preexec_fn=partial(_limit, limit) if limit else None,
            )
        try:
            under = Subject(process, 0, folder, folder / "inbox", errors)
            under.port = int(under.status()["listening"][0].rpartition(":")[2])
            yield under, callers
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@define
class Good:
    """A device that behaves, and how long it waits."""

    caller: Caller
    port: int
    source: str = "127.0.0.1"
    _connection: Any = None
    _next: int = 2

    def connect(self) -> float:
        """Seconds from nothing to the first answer."""
        began = time.perf_counter()
        connection = self.caller.greet(self.port, self.source)
        took = time.perf_counter() - began
        self.close()
        self._connection, self._next = connection, 2
        return took

    def ping(self) -> float:
        """Seconds from a question to its answer."""
        began = time.perf_counter()
        self._connection.sendall(b'{"do": %d, "name": "ping"}\n' % self._next)
        answer = line(self._connection)
        assert b'"ok": %d' % self._next in answer, answer
        self._next += 1
        return time.perf_counter() - began

    def send_file(self, name: bytes, data: bytes, digest: bytes) -> None:
        """Send one large file, and wait for the receiver's word."""
        connection, do = self._connection, self._next
        self._next += 1
        ask = b'{"do": %d, "name": "recv_file", "path": "%s", "size": %d}\n'
        connection.sendall(ask % (do, name, len(data)))
        answer = line(connection)
        assert b'"go": %d' % do in answer, answer
        for at in range(0, len(data), MIB):
            part = data[at : at + MIB]
            connection.sendall(b'{"part": %d, "offset": %d, "body": %d}\n' % (do, at, len(part)))
            connection.sendall(part)
        connection.sendall(b'{"end": %d, "size": %d, "blake3": "%s"}\n' % (do, len(data), digest))
        while b'"ok": %d' % do not in (answer := line(connection)):
            assert answer and b'"window"' in answer, answer

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
