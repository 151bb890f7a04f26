"""Sending to real ``ae.transfer_service`` devices (docs/protocol.rst, "The literal dialect").

One connection a request, in plain text, and only where the user said so.  An
ae receiver that holds part of a file refuses to go on with it, a defect of
theirs; the file is then sent anew under the next free name of a series, and
the receipt says which name the device chose.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from lanxfer.calls import Answer, Exchange
from lanxfer.connecting import Dialer, Target
from lanxfer.disk import Disk
from lanxfer.errors import Cancelled, Exists, Forbidden, LanxferError
from lanxfer.registry import Transfer
from lanxfer.storage.sources import Entry, Source, open_source
from lanxfer.transfers import Kind, Receipt, State

ANSWER_TIMEOUT = 10.0
"""Seconds an ae device gets for its accept line; its own clients give it 2.7."""


async def send_file(
    dialer: Dialer, target: Target, entry: Entry, transfer: Transfer, series: bool = False
) -> Receipt:
    """Send one file; Forbidden for what that dialect cannot carry (folders, links, no bytes)."""
    if entry.kind is not Kind.FILE or not entry.size:
        raise Forbidden("An ae device takes files that are not empty, and messages.")
    args = {"path": entry.path, "size": entry.size, "request": transfer.id}
    try:
        return await _attempt(dialer, target, entry, transfer, args, series)
    except Exists as error:
        # A second line, after the accept line: it holds part of the file.
        if series or "already transferred" in error.reason or transfer.state is State.OFFERED:
            raise
        transfer.again()
        return await _attempt(dialer, target, entry, transfer, args, True)


async def _attempt(
    dialer: Dialer,
    target: Target,
    entry: Entry,
    transfer: Transfer,
    args: dict[str, Any],
    series: bool,
) -> Receipt:
    if series:
        args = {**args, "conflict": "series"}
    source: Source = await dialer.disk.run(open_source, entry.local)
    handed_over = False
    try:
        connection = await dialer.dial_legacy(target)
        exchange = connection.ask("recv_file", args)
        transfer.on_cancel = exchange.cancel
        transfer.on_pause = exchange.pause
        going = exchange.going()
        going.addTimeout(ANSWER_TIMEOUT, dialer.reactor)
        go = await going
        transfer.enter(State.ACCEPTED)
        offset = go.have[0][0] if go.have else 0
        await dialer.disk.run(source.seek, offset)
        transfer.enter(State.MOVING)
        transfer.progressed(offset)
        handed_over = True
        await _body(dialer.disk, exchange, source, offset, transfer)
        transfer.enter(State.COMMITTING)
        answer = await exchange.answered()
    finally:
        if not handed_over:
            await dialer.disk.run(source.close)
    return Receipt(_stored(answer, go.args, entry), entry.size, "", resumed_from=offset)


async def _body(
    disk: Disk, exchange: Exchange, source: Source, offset: int, transfer: Transfer
) -> None:
    try:
        await exchange.send_body(disk, source, offset, transfer.progressed)
    except CancelledError:
        exchange.cancel(Cancelled())
        raise
    except LanxferError:
        await exchange.answered()  # says why, or raises our own reason


def _stored(answer: Answer, accepted: Any, entry: Entry) -> str:
    name = accepted.get("series_file_name") or answer.args.get("series_file_name")
    return name if isinstance(name, str) else entry.path.rpartition("/")[2]


async def send_message(dialer: Dialer, target: Target, text: str, transfer: Transfer) -> Receipt:
    """Send one text; fires when the device has answered."""
    connection = await dialer.dial_legacy(target)
    exchange = connection.ask("recv_message", {"text": text, "request": transfer.id})
    transfer.on_cancel = exchange.cancel
    waiting = exchange.answered()
    waiting.addTimeout(ANSWER_TIMEOUT, dialer.reactor)
    await waiting
    return Receipt("", len(text.encode("utf-8")), "")
