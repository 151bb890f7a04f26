"""A lanxfer device as an end: its inbox, or a folder that it shares.

The client lives in the reactor; a run's thread asks it and waits.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

from lanxfer.client import Client, connect
from lanxfer.errors import (
    Cancelled,
    KeyChanged,
    LanxferError,
    Lost,
    NotFound,
    SourceChanged,
    SourceUnreadable,
    TimedOut,
    Unreachable,
)
from lanxfer.fetching import FileFacts
from lanxfer.jobs.config.rules import Rules
from lanxfer.jobs.config.settings import Host
from lanxfer.jobs.ends import Absent, Broken, EndError, FileInfo, Refused, SourceTrouble, walk
from lanxfer.storage.sources import Entry
from lanxfer.transfers import Conflict, Kind, Receipt

T = TypeVar("T")

_BROKEN = (Lost, Unreachable, TimedOut)


Outcome: TypeAlias = tuple[FileInfo, EndError | None, bool]
"""A file, what was wrong with it, and whether nothing had to be written."""


_Outcomes: TypeAlias = "queue.SimpleQueue[tuple[FileInfo, Receipt | LanxferError] | None]"


class DeviceEnd:
    """One device; ``shared``: the path begins with the name of a folder it shares."""

    def __init__(
        self,
        reactor: Any,
        host: Host,
        path: str,
        absent: Absent = Absent.REFUSE,
        *,
        shared: bool = True,
        conflict: str = "overwrite",
        patience: float | None = None,
        state: str | None = None,
    ) -> None:
        self.host = host
        self.path = path.strip("/")
        self.shared = shared
        self._reactor = reactor
        self._absent = absent
        self._conflict = Conflict(conflict)
        self._patience = patience
        self._state = state
        self._client: Client | None = None
        self._pending: set[Deferred[Any]] = set()

    # Between the run's thread and the reactor.

    def _ask(self, question: Callable[[], Deferred[T]]) -> T:
        """Wait for an answer from the reactor; EndErrors instead of its own."""

        def begin() -> Deferred[T]:
            answer = question()
            self._pending.add(answer)
            answer.addBoth(self._answered, answer)
            return answer

        try:
            answer: Any = blockingCallFromThread(self._reactor, begin)  # type: ignore[arg-type]
        except LanxferError as error:
            raise _end_error(error) from error
        found: T = answer
        return found

    def _answered(self, result: Any, answer: Deferred[Any]) -> Any:
        self._pending.discard(answer)
        return result

    def abort(self) -> None:
        def cancel() -> None:
            for each in list(self._pending):
                each.cancel()

        self._reactor.callFromThread(cancel)

    # Connections.

    def connect(self) -> None:
        self.close()
        host = self.host
        options: dict[str, Any] = {}
        if self._patience is not None:
            options["patience"] = self._patience
        if host.connect_timeout is not None:
            options["connect_timeout"] = host.connect_timeout
        if host.user and host.password is not None:
            options["login"] = (host.user, host.password.reveal())
        try:
            self._client = self._ask(
                lambda: connect(
                    self._reactor,
                    host.peer,
                    state=self._state,
                    plain=host.plain,
                    token_file=host.token_file or None,
                    progress_timeout=host.progress_timeout,
                    **options,
                )
            )
        except Broken:
            raise
        except EndError as error:
            raise Refused(error.reason) from error
        refuse = self.shared and self.path and self._absent is Absent.REFUSE
        if refuse and self.look("") is None:
            raise EndError(f"{host.peer} shares no {self.path}.", again=False)

    @property
    def client(self) -> Client:
        if self._client is None:
            raise Broken(f"There is no connection to {self.host.peer}.")
        return self._client

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(EndError):
                self._ask(lambda: client.close(2.0))

    def alive(self) -> bool:
        return self._client is not None

    # Looking.

    def _full(self, path: str) -> str:
        return "/".join(each for each in (self.path, path) if each)

    def listing(self, path: str) -> list[FileInfo]:
        async def collect() -> list[FileFacts]:
            return [each async for each in self.client.list(self._full(path))]

        found = self._ask(lambda: Deferred.fromCoroutine(collect()))
        return sorted((self._info(path, each) for each in found), key=lambda each: each.path)

    def _info(self, above: str, facts: FileFacts) -> FileInfo:
        path = f"{above}/{facts.name}" if above else facts.name
        if not facts.usable:
            return FileInfo(path, facts.kind, error="Its name cannot be used.")
        return FileInfo(path, facts.kind, facts.size, facts.mtime_ns)

    def look(self, path: str) -> FileInfo | None:
        try:
            facts = self._ask(lambda: self.client.stat(self._full(path)))
        except _Missing:
            return None
        return FileInfo(path, facts.kind, facts.size, facts.mtime_ns)

    def all_files(self) -> list[FileInfo]:
        """Every file of a shared folder; an inbox is nobody's to look into."""
        if not self.shared:
            return []
        try:
            everything = walk(self, Rules(ignore=(), recursive=True).matcher())
            return [each for each in everything if not each.error]
        except _Missing:
            return []

    # Moving.

    def send(self, files: Sequence[tuple[FileInfo, str]]) -> Iterator[Outcome]:
        """Send files, each with where it is on this machine; their outcomes, as they come."""
        client, outcomes = self.client, queue.SimpleQueue[Any]()
        entries = [
            Entry(
                Kind.FILE,
                self._full(info.path),
                local,
                info.size,
                info.mtime_ns,
                shared=self.shared,
            )
            for info, local in files
        ]
        infos = {entry.path: info for entry, (info, _) in zip(entries, files, strict=True)}

        def decided(entry: Entry, outcome: Receipt | LanxferError) -> None:
            outcomes.put((infos[entry.path], outcome))

        def begin() -> Deferred[Any]:
            return client.send_entries(entries, conflict=self._conflict, on_entry=decided)

        return self._outcomes(begin, outcomes, list(infos.values()))

    def fetch(self, files: Sequence[FileInfo], folder: str) -> Iterator[Outcome]:
        """Fetch files into a folder of this machine; their outcomes, as they come."""
        client, outcomes = self.client, queue.SimpleQueue[Any]()
        infos = {info.path: info for info in files}
        wanted = [(self._facts(info), info.path) for info in files]

        def decided(name: str, outcome: Receipt | LanxferError) -> None:
            outcomes.put((infos[name], outcome))

        def begin() -> Deferred[Any]:
            return client.get_files(wanted, folder, conflict=Conflict.OVERWRITE, on_entry=decided)

        return self._outcomes(begin, outcomes, files)

    def _facts(self, info: FileInfo) -> FileFacts:
        name = info.path.rpartition("/")[2]
        return FileFacts(self._full(info.path), name, "file", info.size, info.mtime_ns or 0)

    def _outcomes(
        self,
        begin: Callable[[], Deferred[Any]],
        outcomes: _Outcomes,
        files: Sequence[FileInfo],
    ) -> Iterator[Outcome]:
        """What the reactor tells, handled in the run's thread; every file gets an outcome."""
        left = {info.path: info for info in files}
        ended: list[Any] = []

        def start() -> None:
            work = begin()
            self._pending.add(work)
            work.addBoth(self._answered, work)
            work.addBoth(end)

        def end(result: Any) -> None:
            ended.append(result)
            outcomes.put(None)

        self._reactor.callFromThread(start)
        broken: EndError | None = None
        while (each := outcomes.get()) is not None:
            info, outcome = each
            left.pop(info.path, None)
            if isinstance(outcome, LanxferError):
                error = _end_error(outcome)
                if isinstance(error, Broken):
                    broken = error
                yield info, error, False
            else:
                yield info, None, outcome.already
        failure = ended[0] if ended and isinstance(ended[0], Failure) else None
        why: EndError = EndError("It was not sent.")
        if failure is not None:
            found = failure.value
            why = _end_error(found) if isinstance(found, LanxferError) else EndError(repr(found))
        for info in list(left.values()):
            yield info, why, False
        if broken is not None:
            self.close()  # the next attempt begins with a new connection
            raise broken
        if failure is not None and isinstance(why, Broken):
            raise why

    def remove(self, path: str) -> None:
        self._ask(lambda: self.client.remove(self._full(path)))


class _Missing(EndError):
    """There is nothing."""


def _end_error(error: LanxferError) -> EndError:
    if isinstance(error, NotFound):
        return _Missing(error.reason, again=False)
    if isinstance(error, KeyChanged):
        return Refused(error.reason)
    if isinstance(error, _BROKEN):
        return Broken(error.reason)
    if isinstance(error, (SourceUnreadable, SourceChanged)):
        return SourceTrouble(error.reason, again=error.retry)
    return EndError(error.reason, again=error.retry and not isinstance(error, Cancelled))
