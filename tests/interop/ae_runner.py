"""Runs real ae_transfer_service code, in its own environment and not in lanxfer's.

    ae_runner.py check                        says whether it can be imported
    ae_runner.py app                          the client function, as an app calls it
    ae_runner.py server --bind=127.0.0.3 …    a server, with the options of its own

Speaks with ``children.Child``: one ``(number, request)`` a line, as a Python
literal; it ends with its standard input.
"""

from __future__ import annotations

import ast
import os
import socket
import sys
import threading
import types
from datetime import datetime
from typing import Any

_out = sys.stdout


def _plain(value: Any) -> Any:
    """Without dates, whose ``repr`` is no literal."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _say(number: int, answer: Any) -> None:
    _out.write(f"{(number, _plain(answer))!r}\n")
    _out.flush()


def _import() -> Any:
    # Used for dates in configuration files only, and no longer to be had.
    stand_in = types.ModuleType("ae.parse_date")
    stand_in.parse_date = None  # type: ignore[attr-defined]
    sys.modules["ae.parse_date"] = stand_in
    from ae import transfer_service  # type: ignore[import-not-found]

    return transfer_service


class App:
    """What an app does with the client function; connections have names, to go on with them."""

    def __init__(self, ae: Any) -> None:
        self.ae = ae
        self.sockets: dict[str, socket.socket] = {}

    def request(
        self, request: dict[str, Any], keep: str, timeout: float | None, source: str
    ) -> Any:
        sock = socket.socket()
        if source:
            sock.bind((source, 0))
        answer = self.ae.connect_and_request(sock, request, timeout=timeout)
        if keep:
            self.sockets[keep] = sock
        else:
            sock.close()
        return answer

    def send(self, keep: str, path: str, offset: int, length: int) -> Any:
        with open(path, "rb") as file:
            file.seek(offset)
            self.sockets[keep].sendall(file.read(length))

    def line(self, keep: str) -> Any:
        line = self.ae.recv_bytes(self.sockets[keep])
        return self.ae.transfer_kwargs_from_literal(str(line, "utf-8")[:-1])

    def half_close(self, keep: str) -> Any:
        self.sockets[keep].shutdown(socket.SHUT_WR)

    def close(self, keep: str) -> Any:
        self.sockets.pop(keep).close()

    def answer(self, number: int, name: str, args: dict[str, Any]) -> None:
        try:
            _say(number, {"answer": getattr(self, name)(**args)})
        except Exception as error:
            _say(number, {"raised": f"{type(error).__name__}: {error}"})


def main() -> None:
    """See the module."""
    global _out
    # What the package prints must not get between our lines.
    _out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    mode = sys.argv.pop(1)
    ae = _import()
    if mode == "server":
        server = ae.service_factory()
        server.run_app()
        _say(0, server.start_server(threaded=True))
        sys.stdin.read()
    elif mode == "app":
        app = App(ae)
        _say(0, "")
        for line in sys.stdin:
            number, request = ast.literal_eval(line)
            args = (number, request.pop("do"), request)
            threading.Thread(target=app.answer, args=args, daemon=True).start()
    os._exit(0)  # its threads would wait for connections that nobody closes


if __name__ == "__main__":
    main()
