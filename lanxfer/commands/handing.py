"""Sending in place of a command of the owner's (protocol, "Sending in place of a command")."""

from __future__ import annotations

from lanxfer.commands.table import Call, Node, Reply, command


@command("send_paths")
async def send_paths(call: Call, node: Node) -> Reply:
    """Send what was named, and tell what becomes of it."""
    return Reply(await node.send_paths(call))
