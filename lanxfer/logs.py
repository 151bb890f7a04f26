"""The log as one JSON object a line, for programs (docs/operations.rst, "The log").

Twisted's own ``jsonFileLogObserver`` writes whatever an event holds, objects included; here
only what is promised gets out: the fields of lanxfer's own events, and plain text of all
others.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import IO, Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure

from lanxfer.showing import shown
from lanxfer.sparing import Sparing
from lanxfer.transfers import Direction, Kind, Snapshot, State, Together

PERIOD = 60.0
"""Seconds between two summaries."""

LINES = 100
"""Transfers in a period that have a line each."""

OWN = frozenset({"time", "level", "namespace", "message", "traceback"})
"""What every line may have; no field of an event is called so."""

_LEGACY = frozenset({"system", "isError", "format", "why", "failure", "log"})
"""What Twisted itself leaves in events; what begins with _ is part of the message only."""


def json_line(event: LogEvent) -> str | None:
    """One event as one line of ASCII, without a single control character inside."""
    level, space = event.get("log_level", LogLevel.info), event.get("log_namespace", "")
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    line: dict[str, Any] = {
        "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": getattr(level, "name", "info"),
        "namespace": _plain(str(space)),
        "message": _plain(formatEvent(event)),
    }
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        line["traceback"] = _plain(failure.getTraceback())
    if str(space).partition(".")[0] == "lanxfer":
        for key, value in event.items():
            if not key.startswith(("log_", "_")) and key not in OWN and key not in _LEGACY:
                if isinstance(value, str):
                    line[key] = _plain(value)
                elif value is None or isinstance(value, int):
                    line[key] = value
                elif isinstance(value, float):
                    line[key] = value if math.isfinite(value) else None
    # The one control character that json leaves as it is.
    return json.dumps(line).replace("\x7f", "\\u007f") + "\n"


def _plain(text: str) -> str:
    """Text without halves of characters, which many readers of JSON refuse."""
    return text.encode("utf-8", "backslashreplace").decode()


def json_observer(file: IO[Any]) -> Any:
    """An observer that writes to a file of text what is no mere debugging."""
    observer = FilteringLogObserver(
        FileLogObserver(file, json_line),
        [LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)],
    )
    assert ILogObserver.providedBy(observer)
    return observer


class TransferLog:
    """Has the log tell of transfers that ended: the first of a minute singly, then their sum.

    ``label`` gives what the principal on the other end is called here.  Whoever subscribed
    ``hear`` calls ``stop`` at the end.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, label: Callable[[str], str]) -> None:
        self._label = label
        self._silent: Counter[State] = Counter()
        self._sparing = Sparing(clock, PERIOD, LINES, self._summarise)
        self.stop = self._sparing.stop

    def hear(self, snapshots: Sequence[Snapshot]) -> None:
        """Something happened to transfers; for a registry's listeners."""
        if isinstance(snapshots, Together) and not self._sparing.left:
            self._silent[snapshots.common.state] += len(snapshots)
            return
        for each in snapshots:
            if not each.state.finished or each.kind is Kind.JOB:
                continue  # the scheduler tells of jobs by itself
            if self._sparing.spend():
                self._tell(each)
            else:
                self._silent[each.state] += 1

    def _tell(self, snapshot: Snapshot) -> None:
        label = self._label(snapshot.peer)
        # What a message says is for whom it was sent.
        path = "" if snapshot.kind is Kind.MESSAGE else snapshot.path
        way = "from" if snapshot.direction is Direction.IN else "to"
        code = f" [{shown(snapshot.code, 40)}]" if snapshot.code else ""
        what = f"{shown(path) or 'a message'} {way} {shown(label, 60)}"
        self.log.info(
            "{_text}",
            event="transfer_ended",
            _text=f"{what}: {snapshot.state.value}{code}",
            transfer=snapshot.id,
            direction=snapshot.direction.value,
            kind=snapshot.kind.value,
            peer=snapshot.peer,
            peer_name=label,
            path=path,
            stored=snapshot.stored,
            size=snapshot.size,
            state=snapshot.state.value,
            already=snapshot.already,
            seconds=round(max(0.0, snapshot.changed - snapshot.started), 6),
            secure=snapshot.secure,
            code=snapshot.code,
            reason=snapshot.reason,
        )

    def _summarise(self) -> None:
        silent, self._silent = self._silent, Counter()
        if silent:
            self.log.info(
                "{count} more transfers ended within a minute",
                event="transfers_ended",
                count=silent.total(),
                done=silent[State.DONE],
                failed=silent[State.FAILED],
                cancelled=silent[State.CANCELLED],
                interrupted=silent[State.INTERRUPTED],
            )
