"""From a call to the command that answers it."""

from __future__ import annotations

from lanxfer.commands import control, receiving
from lanxfer.commands.table import Call, Node, Reply, Table, commands
from lanxfer.errors import LanxferError
from lanxfer.transfers import Snapshot

__all__ = ["builtin", "run"]


def builtin() -> Table:
    """Every command of lanxfer's own."""
    assert control and receiving  # their import filled the table
    return commands()


async def run(call: Call, node: Node, table: Table) -> Reply:
    """Run the command; requests of ae peers are also put on the list those poll."""
    command = table[call.name]
    literal = call.args.get("literal")
    if literal is None or call.name == "pending_requests":
        return await command(call, node)
    entry = node.polled.add({**literal}, call.principal.name)

    def follow(snapshot: Snapshot) -> None:
        if snapshot.peer == call.principal.name and snapshot.request == call.args["request"]:
            node.polled.update(entry, transferred_bytes=snapshot.done)

    unsubscribe = node.registry.subscribe(follow)
    try:
        reply = await command(call, node)
    except LanxferError as error:
        node.polled.update(entry, error=error.reason)
        raise
    finally:
        unsubscribe()
    text = literal.get("message")
    node.polled.update(entry, transferred_bytes=None if text is None else len(text), completed=True)
    return reply
