"""What the service on this machine answers, in lines for people or rows for programs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from lanxfer.cli.brief import Brief
from lanxfer.cli.output import columns, count, harmless, human_size
from lanxfer.errors import Exit
from lanxfer.keys import format_key, short_key
from lanxfer.peers import Peers
from lanxfer.showing import shown
from lanxfer.state import StateFolder, default_state
from lanxfer.wire.native import parse_rows

Row = Mapping[str, Any]

TEXT_MAX = 60
"""Characters of a message that a list shows."""

PAGE = 100
"""Rows the service gives at a time."""


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
    clear = " (in clear)" if row.get("clear") else ""
    return f"{'from' if row['direction'] == 'in' else 'to'} {whom}{plain}{clear}"


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


def pending(here: Brief) -> int:
    """List what is under way."""
    with here.service() as service:
        answer = service.ask("pending_requests")
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


def history(here: Brief, limit: int) -> int:
    """List what is finished, a page at a time."""
    rows: list[dict[str, Any]] = []
    with here.service() as service:
        while len(rows) < limit:
            args: dict[str, Any] = {"limit": min(PAGE, limit - len(rows))}
            if rows:
                args["before"] = rows[-1]["id"]
            page = parse_rows(service.ask("history", args).body)
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


def cancel(here: Brief, id: str) -> int:
    """Give up a transfer."""
    with here.service() as service:
        answer = service.ask("cancel_request", {"id": id})
    state = answer.args.get("state")
    here.out.row({"id": id, "state": state})
    over = state in ("done", "failed", "interrupted")
    here.out.done(f"{shown(id)} is over: {state}." if over else f"{shown(id)} is cancelled.")
    return int(Exit.OK)


def pause(here: Brief, id: str) -> int:
    """Hold a transfer back."""
    return _hold(here, "pause", id, paused=True)


def resume(here: Brief, id: str) -> int:
    """Let a transfer go on."""
    return _hold(here, "resume", id, paused=False)


def _hold(here: Brief, name: str, id: str, paused: bool) -> int:
    with here.service() as service:
        answer = service.ask(name, {"id": id})
    state = answer.args.get("state")
    here.out.row({"id": id, "state": state})
    if (state == "paused") is paused:
        here.out.done(f"{shown(id)} is {state}.")
        return int(Exit.OK)
    here.out.warn(f"{shown(id)} is {state}, and cannot be paused just now.")
    return int(Exit.FAILED)


def accept(here: Brief, id: str) -> int:
    """Say yes to an offer."""
    return _answer(here, "accept", {"id": id})


def reject(here: Brief, id: str, reason: str | None) -> int:
    """Say no to an offer."""
    return _answer(here, "reject", {"id": id, "reason": reason} if reason else {"id": id})


def _answer(here: Brief, name: str, args: dict[str, str]) -> int:
    with here.service() as service:
        decided = service.ask(name, args).args.get("decided", [])
    here.out.row({"id": args["id"], "answer": name, "decided": decided})
    others = f", with {count(len(decided) - 1, 'other')} of the same send" if decided[1:] else ""
    here.out.done(f"{shown(args['id'])} is {name}ed{others}.")
    return int(Exit.OK)


def usage(here: Brief, forget: str | None) -> int:
    """How much came from whom."""
    known = Peers(here.state)
    args = {} if forget is None else {"forget": _principal(known, forget)}
    with here.service() as service:
        answer = service.ask("usage", args)
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


def limit(here: Brief, changes: dict[str, int]) -> int:
    """Change how fast the service is, and show it; a change that is to be quiet is not shown."""
    from lanxfer.rights.words import format_size

    with here.service() as service:
        found = service.ask("limit", changes).args
    here.out.row({name: found.get(name) for name in _LIMITS})
    if changes and here.out.quiet:
        return int(Exit.OK)
    rows = [
        (label, f"{format_size(found[name])}/s" if found.get(name) else "any")
        for name, label in _LIMITS.items()
    ]
    _print(here, rows)
    return int(Exit.OK)


_LIMITS = {
    "in": "received",
    "out": "sent",
    "in_each": "received on each connection",
    "out_each": "sent on each connection",
}


def reload(here: Brief) -> int:
    """Have the service read its configuration file again."""
    with here.service() as service:
        found = service.ask("reload").args
    here.out.row(found)
    changed, restart = (list(map(str, found.get(name) or [])) for name in ("changed", "restart"))
    here.out.done(f"Changed: {', '.join(changed)}" if changed else "Nothing has changed.")
    if restart:
        here.out.warn(f"needs a restart: {', '.join(restart)}")
    return int(Exit.OK)


def _principal(known: Peers, who: str) -> str:
    """The principal a user means: a peer by name or key, or one as "usage" shows it."""
    kind, colon, _ = who.partition(":")
    if colon and kind in ("user", "guest", "plain", "legacy"):
        return who
    return f"peer:{known.find(who).key}"


def status(here: Brief) -> int:
    """Tell about the service."""
    with here.service() as service:
        found = service.ask("status").args
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
        ("discovery", shown(found.get("discovery", "not said"), 200)),
        ("under way", f"{transfers}, {connections}"),
    ]
    if found.get("metrics"):
        facts.append(("metrics", shown(found["metrics"], 200)))
    if found.get("waiting"):
        facts.append(("asks", f"{count(int(found['waiting']), 'offer')}; see lanxfer pending"))
    facts += [("warning", harmless(each)) for each in found["warnings"]]
    _print(here, facts)
    return int(Exit.OK)


def _when(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))


def _print(here: Brief, rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> None:
    for line in columns(rows, right):
        here.out.line(line)
