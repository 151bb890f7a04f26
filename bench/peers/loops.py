"""Move files between two processes with nothing but system calls.

A file is a line with its size and its name, and then its bytes; an empty line
ends, and a line answers.  ``loops.py serve|send PORT HOW WHERE…``

Where ``HOW`` ends with ``verified`` both sides digest what they move, as whoever answers for it
must: the digest of a large file comes in the answer, that of a small one goes before it, and
such a file has its name when it was compared.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from io import BufferedReader
from typing import Any

_BLOCK = 1 << 20


class _None:
    """In the place of a digest where there is none."""

    def update(self, data: memoryview) -> None:
        """It is not looked at."""

    def hexdigest(self) -> str:
        return "-"


def _digests(how: str) -> Any:
    """What makes a digest."""
    if not how.endswith("verified"):
        return _None
    from blake3 import blake3  # which the others are not to wait for

    return blake3


def _receive_large(taken: Any, file: int, size: int, how: str, buffer: memoryview) -> str:
    left, digest = size, _digests(how)()
    if how == "splice":
        out, into = os.pipe()
        while left:
            got = os.splice(taken.fileno(), into, min(left, _BLOCK))
            left -= got
            while got:
                got -= os.splice(out, file, got)
        os.close(out)
        os.close(into)
        return "-"
    while left:
        got = taken.recv_into(buffer[: min(left, _BLOCK)])
        if not got:
            raise SystemExit("cut short")
        digest.update(buffer[:got])
        os.write(file, buffer[:got])
        left -= got
    return str(digest.hexdigest())


def _serve(port: int, how: str, inbox: str, *keys: str) -> None:
    listening = socket.create_server(("127.0.0.1", port))
    while True:
        taken, _ = listening.accept()
        if keys:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(keys[1], keys[0])
            try:
                taken = context.wrap_socket(taken, server_side=True)
            except OSError:
                continue
        with taken:
            _take(taken, how, inbox)


def _take(taken: Any, how: str, inbox: str) -> None:
    buffer = memoryview(bytearray(_BLOCK))
    count = int.from_bytes(taken.recv(1) or b"\0", "big")
    new, found = _digests(how), "-"
    if count == 1:
        # One file: its header alone, so that the body is still in the socket.
        size, name = _line(taken).split(" ", 1)
        file = os.open(os.path.join(inbox, name), os.O_WRONLY | os.O_CREAT, 0o600)
        found = _receive_large(taken, file, int(size), how, buffer)
        os.close(file)
    elif count:
        reader: BufferedReader = taken.makefile("rb", _BLOCK)
        made: set[str] = set()
        while line := reader.readline().rstrip(b"\n"):
            size, expected, name = line.decode().split(" ", 2)
            path = os.path.join(inbox, name)
            folder = os.path.dirname(path)
            if folder not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            first = path if expected == "-" else os.path.join(inbox, ".part")
            file = os.open(first, os.O_WRONLY | os.O_CREAT, 0o600)
            left, digest = int(size), new()
            while left:
                data = reader.read(min(left, _BLOCK))
                digest.update(data)
                os.write(file, data)
                left -= len(data)
            os.close(file)
            if digest.hexdigest() != expected:
                raise SystemExit("damaged")
            if first != path:
                os.rename(first, path)
    if count:
        taken.sendall(f"!{found}\n".encode())


def _line(taken: Any) -> str:
    line = b""
    while not line.endswith(b"\n"):
        line += taken.recv(1)
    return line.decode().rstrip("\n")


def _send(port: int, how: str, *sources: str) -> None:
    to: Any = socket.create_connection(("127.0.0.1", port))
    if how.startswith("tls"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        to = context.wrap_socket(to)
    if len(sources) == 1 and os.path.isfile(sources[0]):
        to.sendall(b"\1")
        digest = _send_large(to, how, sources[0])
    else:
        to.sendall(b"\2")
        digest = _send_small(to, how, sources)
    if _line(to) != f"!{digest}":
        raise SystemExit("not received")


def _send_large(to: Any, how: str, path: str) -> str:
    buffer, digest = memoryview(bytearray(_BLOCK)), _digests(how)()
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        to.sendall(f"{size} {os.path.basename(path)}\n".encode())
        if how == "sendfile":
            at = 0
            while at < size:
                at += os.sendfile(to.fileno(), file.fileno(), at, _BLOCK)
        else:
            while got := file.readinto(buffer):
                digest.update(buffer[:got])
                to.sendall(buffer[:got])
    return str(digest.hexdigest())


def _send_small(to: Any, how: str, sources: tuple[str, ...]) -> str:
    held: list[bytes] = []
    much, new = 0, _digests(how)
    for top in sources:
        above = os.path.dirname(top)
        for folder, _, names in os.walk(top) if os.path.isdir(top) else [(above, [], [top])]:
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb", buffering=0) as file:
                    data = file.read()
                digest = new()
                digest.update(data)
                found, name = digest.hexdigest(), os.path.relpath(path, above)
                line = f"{len(data)} {found} {name}\n".encode()
                held += [line, data]
                much += len(line) + len(data)
                if much >= _BLOCK:
                    to.sendall(b"".join(held))
                    held, much = [], 0
    to.sendall(b"".join([*held, b"\n"]))
    return "-"


if sys.argv[1] == "serve":
    _serve(int(sys.argv[2]), *sys.argv[3:])
else:
    _send(int(sys.argv[2]), *sys.argv[3:])
