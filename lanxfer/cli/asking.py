"""What the service on this machine answers, in lines for people or rows for programs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from lanxfer.cli.output import columns, count, harmless, human_size
from lanxfer.cli.running import Run
from lanxfer.client import Client, local
from lanxfer.errors import Cancelled, Exit
from lanxfer.keys import format_key, short_key
from lanxfer.peers import Peers
from lanxfer.state import StateFolder, default_state
from lanxfer.storage.names import shown
from lanxfer.wire.native import parse_rows

Row = Mapping[str, Any]

TEXT_MAX = 60
"""Characters of a message that a list shows."""

PAGE = 100
"""Rows the service gives at a time."""


@asynccontextmanager
async def service(here: Run) -> AsyncIterator[Client]:
    """The service on this machine, for as long as it is asked."""
    client = await local(here.reactor, state=here.choices.state)
    try:
        yield client
    finally:
        with suppress(Cancelled):
            await client.close()


class Names:
    """What people call the principal on the other end of a transfer."""

    def __init__(self, state: str | None) -> None:
        self._peers = Peers(StateFolder(state or default_state()))

    def any(self) -> bool:
        """Whether anybody is known at all."""
        return bool(self._peers.all())

    def of(self, principal: str) -> str:
        """The name that was given to its key here, else the beginning of the key."""
        kind, colon, key = principal.partition(":")
        if kind == "guest":
            return f"unknown {short_key(key)}"
        if kind != "peer" or not colon:
            return shown(principal, 40)
        known = self._peers.by_key(key)
        return shown(known.name if known is not None else short_key(key), 40)


def way(row: Row, names: Names) -> str:
    """Who is on the other end, and which way the bytes go."""
    whom = names.of(row["peer"])
    plain = "" if row["secure"] else " (unauthenticated)"
    return f"{'from' if row['direction'] == 'in' else 'to'} {whom}{plain}"


def what(row: Row) -> str:
    """The name of what is sent, or the beginning of what a message says."""
    if row["kind"] == "message":
        return f'"{shown(row["path"], TEXT_MAX)}"'
    path = row["stored"] or row["path"]
    return shown(path) + ("/" if row["kind"] == "folder" else "")


def why(row: Row) -> str:
    """What it failed with, where the state does not say so itself."""
    told = row["reason"] and row["state"] != "cancelled"
    return f": {harmless(row['reason'])}" if told else ""


async def pending(here: Run) -> int:
    """List what is under way."""
    async with service(here) as client:
        answer = await client.call("pending_requests")
    rows, names = parse_rows(answer.body), Names(here.choices.state)
    lines = [("ID", "", "STATE", "DONE", "SIZE", "NAME")]
    for row in rows:
        here.out.row(row)
        share = f"{100 * row['done'] // row['size']}%" if row["size"] else ""
        lines.append(
            (row["id"], way(row, names), row["state"], share, human_size(row["size"]), what(row))
        )
    if not rows:
        here.out.say("Nothing is under way.")
        return int(Exit.OK)
    _print(here, lines, frozenset({3, 4}))
    more = int(answer.args.get("total", 0)) - len(rows)
    if more > 0:
        here.out.say(f"and {more} more")
    if any(row["state"] == "waiting" and row["direction"] == "in" for row in rows):
        here.out.say('What is waiting comes with "lanxfer accept ID", or not: lanxfer reject ID.')
    return int(Exit.OK)


async def history(here: Run, limit: int) -> int:
    """List what is finished, a page at a time."""
    rows: list[dict[str, Any]] = []
    async with service(here) as client:
        while len(rows) < limit:
            args: dict[str, Any] = {"limit": min(PAGE, limit - len(rows))}
            if rows:
                args["before"] = rows[-1]["id"]
            page = await client.rows("history", args)
            rows += page
            if len(page) < args["limit"]:
                break
    names = Names(here.choices.state)
    lines = [("WHEN", "ID", "", "STATE", "SIZE", "NAME")]
    for row in rows:
        here.out.row(row)
        lines.append(
            (
                _when(row["changed_ms"]),
                row["id"],
                way(row, names),
                row["state"],
                "" if row["kind"] == "folder" else human_size(row["size"]),
                what(row) + why(row),
            )
        )
    if rows:
        _print(here, lines, frozenset({4}))
    else:
        here.out.say("Nothing has been sent or received yet.")
    return int(Exit.OK)


async def cancel(here: Run, id: str) -> int:
    """Give up a transfer."""
    async with service(here) as client:
        answer = await client.call("cancel_request", {"id": id})
    state = answer.args.get("state")
    here.out.row({"id": id, "state": state})
    over = state in ("done", "failed", "interrupted")
    here.out.done(f"{shown(id)} is over: {state}." if over else f"{shown(id)} is cancelled.")
    return int(Exit.OK)


async def pause(here: Run, id: str) -> int:
    """Hold a transfer back."""
    return await _hold(here, "pause", id, paused=True)


async def resume(here: Run, id: str) -> int:
    """Let a transfer go on."""
    return await _hold(here, "resume", id, paused=False)


async def _hold(here: Run, name: str, id: str, paused: bool) -> int:
    async with service(here) as client:
        answer = await client.call(name, {"id": id})
    state = answer.args.get("state")
    here.out.row({"id": id, "state": state})
    if (state == "paused") is paused:
        here.out.done(f"{shown(id)} is {state}.")
        return int(Exit.OK)
    here.out.warn(f"{shown(id)} is {state}, and cannot be paused just now.")
    return int(Exit.FAILED)


async def accept(here: Run, id: str) -> int:
    """Say yes to an offer."""
    return await _answer(here, "accept", {"id": id})


async def reject(here: Run, id: str, reason: str | None) -> int:
    """Say no to an offer."""
    return await _answer(here, "reject", {"id": id, "reason": reason} if reason else {"id": id})


async def _answer(here: Run, name: str, args: dict[str, str]) -> int:
    async with service(here) as client:
        decided = (await client.call(name, args)).args.get("decided", [])
    here.out.row({"id": args["id"], "answer": name, "decided": decided})
    others = f", with {count(len(decided) - 1, 'other')} of the same send" if decided[1:] else ""
    here.out.done(f"{shown(args['id'])} is {name}ed{others}.")
    return int(Exit.OK)


async def usage(here: Run, forget: str | None) -> int:
    """How much came from whom."""
    known = Peers(StateFolder(here.choices.state or default_state()))
    args = {} if forget is None else {"forget": _principal(known, forget)}
    async with service(here) as client:
        answer = await client.call("usage", args)
    rows = parse_rows(answer.body)
    names = Names(here.choices.state)
    lines = [("FROM", "FILES", "SIZE")]
    for row in rows:
        here.out.row(row)
        lines.append((names.of(row["peer"]), str(row["files"]), human_size(row["bytes"])))
    if rows:
        _print(here, lines, frozenset({1, 2}))
        more = int(answer.args.get("total", 0)) - len(rows)
        if more > 0:
            here.out.say(f"and {more} that sent less")
    else:
        here.out.say("Nothing has been received yet.")
    return int(Exit.OK)


def _principal(known: Peers, who: str) -> str:
    """The principal a user means: a peer by name or key, or one as "usage" shows it."""
    kind, colon, _ = who.partition(":")
    if colon and kind in ("user", "guest", "plain", "legacy"):
        return who
    return f"peer:{known.find(who).key}"


async def status(here: Run) -> int:
    """Tell about the service."""
    async with service(here) as client:
        found = (await client.call("status")).args
    here.out.row(found)
    transfers = count(int(found["pending"]), "transfer")
    connections = count(int(found["connections"]), "connection")
    facts = [
        ("lanxfer", f"{found['version']}, as {shown(found['device'])}"),
        ("key", format_key(found["key"])),
        ("listening", ", ".join(found["listening"]) or "nowhere yet"),
        ("inbox", f"{shown(found['inbox'], 1000)}, {human_size(found['free'])} free"),
        ("state", shown(found["state"], 1000)),
        ("sandbox", shown(found.get("sandbox", "not said"), 200)),
        ("under way", f"{transfers}, {connections}"),
    ]
    if found.get("waiting"):
        facts.append(("asks", f"{count(int(found['waiting']), 'offer')}; see lanxfer pending"))
    facts += [("warning", harmless(each)) for each in found["warnings"]]
    _print(here, facts)
    return int(Exit.OK)


def _when(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))


def _print(here: Run, rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> None:
    for line in columns(rows, right):
        here.out.line(line)
