"""Sending to real ``ae.transfer_service`` devices (docs/protocol.rst, "The literal dialect").

One connection a request, in plain text, and only where the user said so.  An
ae receiver that holds part of a file refuses to go on with it, a defect of
theirs; the file is then sent anew under the next free name of a series, and
the receipt says which name the device chose.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from lanxfer.connecting import Dialer, Target
from lanxfer.disk import Disk
from lanxfer.errors import Cancelled, Exists, Forbidden, LanxferError, Lost, TimedOut, Unconfirmed
from lanxfer.exchange import Answer, Exchange
from lanxfer.registry import Transfer
from lanxfer.storage.names import quoted
from lanxfer.storage.sources import Entry, Source, open_source
from lanxfer.transfers import Kind, Receipt, State

T = TypeVar("T")

ANSWER_TIMEOUT = 10.0
"""Seconds an ae device gets for its accept line; its own clients give it 2.7."""
FINAL_TIMEOUT = 120.0
"""Seconds it gets for its last word, when it has had every byte."""


async def send_file(
    dialer: Dialer, target: Target, entry: Entry, transfer: Transfer, series: bool = False
) -> Receipt:
    """Send one file; Forbidden for what that dialect cannot carry (folders, links, no bytes)."""
    if entry.kind is not Kind.FILE or not entry.size:
        why = "is empty" if entry.kind is Kind.FILE else f"is a {entry.kind.value}"
        raise Forbidden(f"{quoted(entry.path)} {why}; an ae device takes only files with content.")
    args = {"path": entry.path, "size": entry.size, "request": transfer.id}
    offsets: list[int] = []
    while True:
        accepted = len(offsets)
        try:
            return await _attempt(dialer, target, entry, transfer, args, series, offsets)
        except Exists as error:
            # A second line, after the accept line: it holds part of the file.
            if series or "already transferred" in error.reason or transfer.state is State.OFFERED:
                raise
            series = True
        except Lost:
            # Its close can be faster than that second line.  A device that breaks
            # off twice at the same part does not mean to go on with it.
            if series or len(offsets) == accepted or not offsets[-1] or transfer.state.finished:
                raise
            series = offsets.count(offsets[-1]) > 1
        transfer.again()


async def _attempt(
    dialer: Dialer,
    target: Target,
    entry: Entry,
    transfer: Transfer,
    args: dict[str, Any],
    series: bool,
    offsets: list[int],
) -> Receipt:
    if series:
        args = {**args, "conflict": "series"}
    source: Source = await dialer.disk.run(open_source, entry.local, undo=Source.close)
    handed_over = False
    try:
        exchange = await _asked(dialer, target, transfer, "recv_file", args)
        late = TimedOut("The ae device did not answer: timed out.")
        go = await _within(ANSWER_TIMEOUT, dialer, exchange, exchange.going(), late)
        transfer.enter(State.ACCEPTED)
        offset = go.have[0][0] if go.have else 0
        offsets.append(offset)
        await dialer.disk.run(source.seek, offset)
        transfer.enter(State.MOVING)
        transfer.progressed(offset)
        handed_over = True
        await _body(dialer.disk, exchange, source, offset, transfer)
        transfer.enter(State.COMMITTING)
        late_word = Unconfirmed("The ae device had all, and did not say what became of it.")
        answer = await _within(FINAL_TIMEOUT, dialer, exchange, exchange.answered(), late_word)
    finally:
        if not handed_over:
            await dialer.disk.run(source.close)
    stored = _stored(answer, go.args, entry)
    return Receipt(stored, entry.size, "", False, offset, answer.args.get("literal", {}))


async def _asked(
    dialer: Dialer, target: Target, transfer: Transfer, name: str, args: dict[str, Any]
) -> Exchange:
    connection = await dialer.dial_legacy(target)
    if transfer.state.finished:  # given up while nobody could be told
        connection.abort(Cancelled())
        raise Cancelled()
    exchange = connection.ask(name, args)
    transfer.on_cancel = exchange.cancel
    transfer.on_pause = exchange.pause
    return exchange


async def _within(
    seconds: float, dialer: Dialer, exchange: Exchange, waiting: Deferred[T], late: LanxferError
) -> T:
    """What ``waiting`` fires with; after ``seconds`` the exchange is given up with ``late``."""
    timer = dialer.reactor.callLater(seconds, exchange.cancel, late)
    try:
        return await waiting
    finally:
        if timer.active():
            timer.cancel()


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
    """The name there; of a series the last line has it, or at least the first."""
    name = answer.args.get("series_file_name") or accepted.get("series_file_name")
    path = name if isinstance(name, str) else entry.path
    return path.replace("\\", "/").rpartition("/")[2]


async def send_message(dialer: Dialer, target: Target, text: str, transfer: Transfer) -> Receipt:
    """Send one text; fires when the device has answered."""
    args = {"text": text, "request": transfer.id}
    exchange = await _asked(dialer, target, transfer, "recv_message", args)
    # It may have been shown all the same, so this is nothing to be tried again.
    late = Unconfirmed("The ae device did not say that it has the message: timed out.")
    answer = await _within(ANSWER_TIMEOUT, dialer, exchange, exchange.answered(), late)
    size = len(text.encode("utf-8", "surrogatepass"))
    return Receipt("", size, "", literal=answer.args.get("literal", {}))
