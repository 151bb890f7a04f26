"""A service on a control socket that says what a script tells it to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import IO, Any

Say = Callable[..., None]
Script = Callable[[Callable[[], dict[str, Any]], Say], None]
HELLO = {"ok": 1, "speaks": "lanxfer/1", "device": "x", "limits": {}, "features": []}


class Service:
    """Answers one connection as a script says, in a thread."""

    def __init__(self, path: str, script: Script) -> None:
        self.path = path
        self.heard: list[dict[str, Any]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self._thread = threading.Thread(target=self._run, args=(script,), daemon=True)
        self._thread.start()

    def _run(self, script: Script) -> None:
        connection, _ = self._listening.accept()
        with connection, connection.makefile("rwb", buffering=0) as file:
            script(lambda: self._hear(file), lambda row, body=b"": self._say(file, row, body))

    def _hear(self, file: IO[bytes]) -> dict[str, Any]:
        line = file.readline()
        found: dict[str, Any] = json.loads(line) if line else {}
        self.heard.append(found)
        return found

    def _say(self, file: IO[bytes], row: Any, body: bytes) -> None:
        line = row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n"
        for at in range(0, len(line + body), 7):  # in pieces, as streams come
            file.write((line + body)[at : at + 7])

    def close(self) -> None:
        self._listening.close()
        self._thread.join(10)


def greeted(script: Script) -> Script:
    def run(hear: Callable[[], dict[str, Any]], say: Say) -> None:
        assert hear()["name"] == "hello"
        say(HELLO)
        script(hear, say)

    return run


def listen(hear: Callable[[], dict[str, Any]], times: int) -> None:
    for _ in range(times):
        hear()
