"""aioftp's service and client, in blocks of 256 KiB; run by an interpreter that has it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import aioftp

_BLOCK = 256 * 1024


async def _serve(port: int, inbox: str) -> None:
    user = aioftp.User(base_path=inbox, home_path="/")
    await aioftp.Server([user], block_size=_BLOCK).run("127.0.0.1", port)


async def _send(port: int, sources: list[str]) -> None:
    async with aioftp.Client.context("127.0.0.1", port) as client:
        for each in sources:
            await client.upload(each, block_size=_BLOCK)


if sys.argv[1] == "serve":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[2]), sys.argv[3]))
else:
    asyncio.run(_send(int(sys.argv[2]), sys.argv[3:]))
