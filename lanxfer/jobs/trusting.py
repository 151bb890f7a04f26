"""Keys of SFTP hosts: seen, shown, and kept in a known_hosts file or taken out of it."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import socket
from contextlib import suppress
from typing import Any

from attrs import frozen

from lanxfer.jobs.ends.sftp import paramiko
from lanxfer.jobs.errors import ConfigError, ConnectError
from lanxfer.storage.private import make_private


@frozen
class HostKey:
    """A key that a host showed."""

    host: str
    port: int
    key: Any

    @property
    def name(self) -> str:
        """As known_hosts files call it."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"

    @property
    def kind(self) -> str:
        return str(self.key.get_name())

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it."""
        digest = hashlib.sha256(self.key.asbytes()).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def fetch_key(host: str, port: int, timeout: float = 30.0) -> HostKey:
    """Ask a host for its key; blocks.  Nothing is said to it that it could use."""
    ssh = paramiko()
    try:
        with socket.create_connection((host, port), timeout) as plain:
            transport = ssh.Transport(plain)
            try:
                transport.start_client(timeout=timeout)
                return HostKey(host, port, transport.get_remote_server_key())
            finally:
                transport.close()
    except (OSError, EOFError, ssh.SSHException) as error:
        raise ConnectError(f"{host}:{port} shows no key: {error}.") from None


def known(path: str, found: HostKey) -> str:
    """What a file knows of a host: "same", "other" or "" for nothing."""
    keys = _load(path)
    if keys.check(found.name, found.key):
        return "same"
    return "other" if keys.lookup(found.name) is not None else ""


def keep_key(path: str, found: HostKey, *, hashed: bool = False) -> None:
    """Put a key into the file, in place of those that the host had."""
    ssh = paramiko()
    name = ssh.HostKeys.hash_host(found.name) if hashed else found.name
    line = f"{name} {found.kind} {found.key.get_base64()}\n"
    _write(path, [*_others(path, found.name), line])


def forget_host(path: str, name: str) -> bool:
    """Take a host out of the file; whether it was there."""
    lines = _lines(path)
    left = _others(path, name)
    if len(left) == len(lines):
        return False
    _write(path, left)
    return True


def _others(path: str, name: str) -> list[str]:
    """The lines of a file that are not about a host; of a line for several it is taken out."""
    left = []
    for line in _lines(path):
        names, blank, rest = line.partition(" ")
        if names.startswith(("#", "@")) or not blank:
            left.append(line)
            continue
        stay = [each for each in names.split(",") if not _means(each, name)]
        if stay:
            left.append(",".join(stay) + " " + rest)
    return left


def _means(written: str, name: str) -> bool:
    if not written.startswith("|1|"):
        return written == name
    with suppress(Exception):
        return bool(paramiko().HostKeys.hash_host(name, written) == written)
    return False


def _load(path: str) -> Any:
    keys = paramiko().HostKeys()
    with suppress(FileNotFoundError):
        keys.load(path)
    return keys


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return [line if line.endswith("\n") else line + "\n" for line in file]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None


def _write(path: str, lines: list[str]) -> None:
    make_private(os.path.dirname(os.path.abspath(path)))
    part = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(part, "x", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(part)
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
