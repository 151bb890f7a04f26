"""Real FTP, FTPS and SFTP servers on loopback, for the ends of jobs."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

USER, PASSWORD = "carol", "top s3cret%"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def certificate(folder: Path, name: str = "127.0.0.1") -> Path:
    """A key and a certificate for this address, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
            ),
            False,
        )
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class FtpServer:
    """A server over one folder; ``said`` is every command that came, without passwords."""

    def __init__(
        self, root: Path, cert: Path | None = None, perm: str = "elradfmwMT", **handler: Any
    ) -> None:
        from pyftpdlib.authorizers import DummyAuthorizer  # type: ignore[import-untyped]
        from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler  # type: ignore[import-untyped]
        from pyftpdlib.ioloop import IOLoop  # type: ignore[import-untyped]
        from pyftpdlib.servers import FTPServer  # type: ignore[import-untyped]

        root.mkdir(parents=True, exist_ok=True)
        said = self.said = list[str]()
        self.secure_data: list[bool] = []
        secure = self.secure_data
        authorizer = DummyAuthorizer()
        authorizer.add_user(USER, PASSWORD, str(root), perm=perm)
        base: Any = FTPHandler if cert is None else TLS_FTPHandler

        class Handler(base):  # type: ignore[misc]
            def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
                said.append(cmd if cmd == "PASS" else line.strip())
                super().pre_process_command(line, cmd, arg)

            def ftp_PROT(self, line: str) -> None:
                secure.append(line.upper() == "P")
                super().ftp_PROT(line)

        Handler.authorizer = authorizer
        Handler.banner = "ready"
        if cert is not None:
            Handler.certfile = str(cert)
            Handler.tls_control_required = True
        for name, value in handler.items():
            setattr(Handler, name, value)
        self.handler: Any = Handler
        # A loop of its own: the library's own is one for all threads.
        self.server = FTPServer(("127.0.0.1", 0), Handler, ioloop=IOLoop())
        self.port = int(self.server.address[1])
        self._ending = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ending:
            self.server.serve_forever(timeout=0.02, blocking=False)
        self.server.close_all()

    def stop(self) -> None:
        self._ending = True
        self._thread.join(10)


@contextmanager
def ftp_server(root: Path, **options: Any) -> Iterator[FtpServer]:
    server = FtpServer(root, **options)
    try:
        yield server
    finally:
        server.stop()


class Sshd:
    """Debian's own sshd, with throwaway keys, for the user that runs the tests."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
        if found is None or shutil.which("ssh-keygen") is None:
            pytest.skip("no sshd is installed")
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        self.user = os.environ.get("USER") or __import__("getpass").getuser()
        self.log = folder / "log"
        self.passphrase = "open sesame"
        self.host_key = self.key("host")
        self.user_key = self.key("user", passphrase=self.passphrase)
        (folder / "authorized").write_bytes(Path(f"{self.user_key}.pub").read_bytes())
        config = folder / "config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\n"
            f"PidFile {folder}/pid\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\n"
            "UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel DEBUG1\n"
            "Subsystem sftp internal-sftp\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.process = subprocess.Popen(
            [found, "-D", "-f", str(config), "-E", str(self.log)], stdin=subprocess.DEVNULL
        )
        self._await()

    def key(self, name: str, passphrase: str = "", kind: str = "ed25519") -> Path:
        path = self.folder / name
        command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)]
        subprocess.run(command, check=True)
        return path

    def known_hosts(self, key: Path | None = None) -> Path:
        """A file that knows the server, or another key in its place."""
        public = Path(f"{key or self.host_key}.pub").read_text().split()
        path = self.folder / f"known_{(key or self.host_key).name}"
        path.write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")
        return path

    def _await(self) -> None:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"sshd does not answer: {self.log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    server = Sshd(folder)
    try:
        yield server
    finally:
        server.stop()


def refuse_write(ftp: Any, number: int) -> None:
    """Have an SFTP server refuse the write of that number, from 1, and take all others."""
    from paramiko.sftp import CMD_WRITE  # type: ignore[import-untyped]

    real, writes = ftp._async_request, iter(range(1, 10**9))

    def ask(file: Any, command: int, handle: Any, *more: Any) -> Any:
        if command == CMD_WRITE and next(writes) == number:
            handle = b"no such handle"
        return real(file, command, handle, *more)

    ftp._async_request = ask


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])
