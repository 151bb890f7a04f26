"""Small requests over cs.packetstream; run by an interpreter that has it."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import deque

from cs.packetstream import PacketConnection

AT_ONCE = 200


def handle(rq_type: int, flags: int, payload: bytes):  # type: ignore[no-untyped-def]
    return (flags + 1, payload)


def serve(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            with listening.accept()[0] as wire:
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    with PacketConnection(
                        (wire.fileno(), wire.fileno()),
                        "server",
                        request_handler=handle,
                        packet_grace=0,
                    ) as here:
                        here.join()
                except Exception as error:  # somebody who only looked whether it listens
                    print(error, file=sys.stderr)


def check(found, number: int, payload: bytes) -> None:  # type: ignore[no-untyped-def]
    ok, flags, came = found
    if not ok or flags != number + 1 or came != payload:
        raise ValueError("that was not the answer")


def sequential(there: PacketConnection, count: int, payload: bytes) -> float:
    began = time.perf_counter()
    for number in range(count):
        check(there.submit(1, number, payload)(), number, payload)
    return time.perf_counter() - began


def pipelined(there: PacketConnection, count: int, payload: bytes) -> float:
    waiting: deque[tuple[int, object]] = deque()
    began = time.perf_counter()
    for number in range(count):
        if len(waiting) >= AT_ONCE:
            first, result = waiting.popleft()
            check(result(), first, payload)  # type: ignore[operator]
        waiting.append((number, there.submit(1, number, payload)))
    for first, result in waiting:
        check(result(), first, payload)  # type: ignore[operator]
    return time.perf_counter() - began


def measure(port: int, count: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = {}
        with PacketConnection((wire.fileno(), wire.fileno()), "client", packet_grace=0) as there:
            for name, payload in (("number", b""), ("bytes", bytes(range(64)))):
                for how in (sequential, pipelined):
                    found[f"{how.__name__} {name}"] = count / how(there, count, payload)
    print(json.dumps(found), flush=True)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    measure(int(sys.argv[2]), int(sys.argv[3]))
