"""A wire that takes its time: everything arrives as it was sent, half a round trip later.

``delay.py PORT TO SECONDS`` passes connections to ``PORT`` on to ``TO``.  How much is
on its way at once is bounded as a fast long line's is, not by the delay.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import suppress

_READ = 1 << 18
_ON_THE_WAY = 64 << 20
"""Bytes, in one direction: some 25 Gbit/s at 20 ms, more than loopback and Python pass."""


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    clock = asyncio.get_running_loop().time
    waiting: deque[tuple[float, bytes]] = deque()
    changed = asyncio.Condition()
    held = 0

    def room() -> bool:
        return held < _ON_THE_WAY

    async def deliver() -> None:
        nonlocal held
        while True:
            async with changed:
                await changed.wait_for(lambda: waiting)
            due, data = waiting.popleft()
            await asyncio.sleep(max(0.0, due - clock()))
            if not data:
                with suppress(OSError):
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            async with changed:
                held -= len(data)
                changed.notify_all()

    async def take() -> None:
        nonlocal held
        data = b"-"
        while data:
            async with changed:
                await changed.wait_for(room)
            try:
                data = await reader.read(_READ)
            except OSError:
                data = b""
            async with changed:
                held += len(data)
                waiting.append((clock() + delay, data))
                changed.notify_all()

    await asyncio.gather(deliver(), take())


async def _main(port: int, to: int, round_trip: float) -> None:
    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", to)
            with suppress(OSError):
                await asyncio.gather(
                    _carry(reader, other_writer, round_trip / 2),
                    _carry(other_reader, writer, round_trip / 2),
                )
            other_writer.close()
        finally:
            writer.close()

    server = await asyncio.start_server(taken, "127.0.0.1", port, limit=4 * _READ)
    await server.serve_forever()


asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
