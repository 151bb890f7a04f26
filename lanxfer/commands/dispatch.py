"""From a call to the command that answers it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from lanxfer.commands import checkup, control, files, handing, packs, pairing, receiving, speed
from lanxfer.commands.declared import Declared
from lanxfer.commands.polled import progress_of
from lanxfer.commands.table import Call, Command, Node, Reply, Table, commands
from lanxfer.errors import Internal, LanxferError
from lanxfer.policy import Standing
from lanxfer.transfers import Direction, Snapshot

__all__ = ["begin", "builtin", "run"]

_AE = (Standing.LEGACY, Standing.LEGACY_LOCAL)


def builtin() -> Table:
    """Every command of lanxfer's own."""
    # Their import filled the table.
    assert checkup and control and files and handing and packs and pairing and receiving and speed
    return commands()


def begin(call: Call, node: Node, table: Table) -> Reply | Coroutine[Any, Any, Reply]:
    """Run the command; where that does not have to wait for anything, its answer at once."""
    command = table[call.name]
    if not (isinstance(command, Declared) and command.instant):
        return run(call, node, table)
    node.enter(call.principal, call.name)
    try:
        found = command.now(call, node)
    except BaseException:
        node.leave(call.principal, call.name)
        raise
    if isinstance(found, Reply):
        node.leave(call.principal, call.name)
        return found
    return _left(found, call, node)


async def _left(waiting: Coroutine[Any, Any, Reply], call: Call, node: Node) -> Reply:
    try:
        return await waiting
    finally:
        node.leave(call.principal, call.name)


async def run(call: Call, node: Node, table: Table) -> Reply:
    """Run the command, if its principal has not too many already."""
    node.enter(call.principal, call.name)
    try:
        return await _listed(call, node, table[call.name])
    finally:
        node.leave(call.principal, call.name)


async def _listed(call: Call, node: Node, command: Command) -> Reply:
    """Run the command; requests of ae peers are also put on the list those poll."""
    # Only that dialect's session puts it there; elsewhere it is just an unknown field.
    literal = None if call.proves else call.args.get("literal")
    if call.principal.standing not in _AE or literal is None or call.name == "pending_requests":
        return await command(call, node)
    entry = node.polled.add(literal, call.principal.name)
    # A message is counted in characters, and there is no progress in it.
    size = len(literal["message"]) if call.name.endswith("_message") else None
    sends = call.name in ("send_file", "send_message")
    if sends:
        node.polled.update(entry, total_bytes=size, transferred_bytes=0)

    def follow(snapshot: Snapshot) -> None:
        ours = snapshot.direction is Direction.OUT if sends else _came_from(call, snapshot)
        if not ours or snapshot.request != call.args["request"] or size is not None:
            return
        total = snapshot.size if sends else None
        node.polled.update(entry, total_bytes=total, transferred_bytes=snapshot.done)
        if not snapshot.state.finished:
            entry.progress = progress_of(node.registry, snapshot)

    unsubscribe = node.registry.subscribe(follow)
    try:
        reply = await command(call, node)
    except BaseException as error:
        known = error if isinstance(error, LanxferError) else Internal()
        node.polled.update(entry, error=known.reason)
        raise
    finally:
        unsubscribe()
    node.polled.update(entry, transferred_bytes=size, completed=True)
    return reply


def _came_from(call: Call, snapshot: Snapshot) -> bool:
    return snapshot.direction is Direction.IN and snapshot.peer == call.principal.name
