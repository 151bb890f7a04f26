"""checkup: what a known device may know of this one when something is wrong or slow."""

from __future__ import annotations

import time

from lanxfer.commands.table import Call, Node, Reply, command
from lanxfer.wire import limits


@command("checkup")
async def checkup(call: Call, node: Node) -> Reply:
    """The time here, and the bytes that still fit in whole MiB; a body is read and dropped."""
    room = await call.shield(node.in_thread(node.store.free))
    return Reply({"time_ms": int(time.time() * 1000), "room": room - room % limits.MIB})
