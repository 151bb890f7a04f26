"""limit: how many bytes a second go in and out, changed while they do."""

from __future__ import annotations

from lanxfer.commands.table import Call, Node, Reply, command
from lanxfer.errors import BadHeader
from lanxfer.wire import limits
from lanxfer.wire.native import Fields

NAMES = ("in", "out", "in_each", "out_each")


@command("limit")
async def limit(call: Call, node: Node) -> Reply:
    """Change the speed limits that are named, in bytes a second, 0 for none; answers with all."""
    fields = Fields(call.args)
    changes: dict[str, int | None] = {}
    for name in NAMES:
        found = fields.maybe_number(name)
        if found is None:
            continue
        if 0 < found < limits.SPEED_LEAST:
            raise BadHeader(f"A speed limit is at least {limits.SPEED_LEAST} bytes a second.")
        changes[f"rate_{name}"] = found or None
    now = node.limit(changes)
    return Reply({name: now[f"rate_{name}"] or 0 for name in NAMES})
