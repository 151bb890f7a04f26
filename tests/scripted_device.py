"""A device in TLS that says what scripts tell it to, a connection after the other."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from lanxfer.identity import load_identity
from lanxfer.state import CERTIFICATE_FILE, KEY_FILE, StateFolder
from tests.scripted_service import HELLO, Say

Hear = Callable[[], dict[str, Any]]
Script = Callable[[Hear, Say], None]


class Device:
    """Answers one connection for each script, in a thread; ``heard`` are the packets, and bodies.

    ``limits`` and ``features`` are what it says it takes and has.
    """

    def __init__(
        self,
        folder: Path,
        scripts: Sequence[Script],
        limits: dict[str, int] | None = None,
        features: Sequence[str] = (),
    ) -> None:
        self.key = load_identity(StateFolder(str(folder))).key
        self.heard: list[list[dict[str, Any]]] = []
        self.bodies: list[bytes] = []
        self.slow = 0.0
        """Seconds between two bytes of its hello, if any."""
        self._hello = {**HELLO, "limits": limits or {}, "features": [*features]}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.set_alpn_protocols(["lanxfer/1"])
        self._context.load_cert_chain(folder / CERTIFICATE_FILE, folder / KEY_FILE)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, args=(scripts,), daemon=True)
        self._thread.start()

    def _run(self, scripts: Sequence[Script]) -> None:
        for script in scripts:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            heard: list[dict[str, Any]] = []
            self.heard.append(heard)
            # Whoever hangs up in the midst of it may do so.
            with (
                connection,
                suppress(OSError),
                self._context.wrap_socket(connection, server_side=True) as wire,
                wire.makefile("rwb", buffering=0) as file,
            ):
                hear = self._hearing(file, heard)
                if hear().get("name") != "hello":
                    continue
                if self.slow:
                    for each in json.dumps(self._hello).encode():
                        file.write(bytes([each]))
                        time.sleep(self.slow)
                self._say(file, self._hello)
                script(hear, lambda row, body=b"", file=file: self._say(file, row, body))

    def _hearing(self, file: IO[bytes], heard: list[dict[str, Any]]) -> Hear:
        def hear() -> dict[str, Any]:
            line = file.readline()
            if not line:
                return {}
            found: dict[str, Any] = json.loads(line)
            heard.append(found)
            body = b""
            while len(body) < found.get("body", 0):
                body += file.read(found["body"] - len(body))
            self.bodies.append(body)
            return found

        return hear

    def _say(self, file: IO[bytes], row: dict[str, Any], body: bytes = b"") -> None:
        file.write(json.dumps(row).encode() + b"\n" + body)

    def close(self) -> None:
        # Or whoever waits in accept would wait on.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)
