"""One job that a service runs by itself, again and again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from lanxfer.jobs import times
from lanxfer.jobs.config.job import read_job
from lanxfer.jobs.config.settings import JobConfig, Schedule
from lanxfer.jobs.errors import ConfigError
from lanxfer.jobs.kept import record_name
from lanxfer.jobs.watching import FolderWatch
from lanxfer.storage.records import read_record

AGAIN = 60.0
"""Seconds until a job whose files make no sense is looked at again."""


class Scheduler(Protocol):
    """What a planned job needs of the service that runs it."""

    log: Logger
    app_cfg: str
    state: str | None
    running: Any

    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> Deferred[None]: ...

    def from_thread(self, call: Callable[[], object]) -> None:
        """Have the reactor make a call."""

    async def run(self, config: JobConfig) -> None:
        """Run a job once; only a cancel comes out of here."""


class Planned:
    """One job, again and again."""

    def __init__(self, service: Scheduler, id: str) -> None:
        self._service = service
        self._id = id
        self._begun = False
        self._last: datetime | None = None
        self._changed = False
        self._waiting: Deferred[None] | None = None
        self._watch: FolderWatch | None = None

    async def loop(self) -> None:
        """Until it is cancelled, or the job has no schedule any more."""
        service = self._service
        try:
            # A run that was cancelled in its last moment ends as if it had not been.
            while service.running:
                try:
                    if not await self._next():
                        return
                except ConfigError as error:
                    service.log.error(
                        "job {job}: {reason}",
                        event="job_refused",
                        job=self._id,
                        reason=error.reason,
                    )
                    await service.sleep(AGAIN)
        except CancelledError:
            pass
        finally:
            if self._watch is not None:
                self._watch.stop()

    async def _next(self) -> bool:
        """Wait until the job is due and run it; False where it has no schedule."""
        config = self._read()
        if not config.schedule:
            return False
        if not self._begun:
            self._begun, self._last = True, _last_run(config)
            self._begin_to_watch(config)
        await self._until_due(config.schedule)
        config = self._read()  # as it is by now
        self._last, self._changed = self._service.now(), False
        await self._service.run(config)
        return True

    def _read(self) -> JobConfig:
        config = read_job(self._service.app_cfg, self._id, self._service.state)
        if complaint := times.check(config.schedule):
            raise ConfigError(complaint)
        return config

    async def _until_due(self, schedule: Schedule) -> None:
        service, since = self._service, self._service.now()
        while True:
            if self._changed:
                # Whoever writes there may be still at it.
                self._changed = False
                await service.sleep(schedule.settle)
                if not self._changed:
                    return
                continue
            due = times.next_run(schedule, since, self._last)
            wait = None if due is None else (due - service.now()).total_seconds()
            if wait is not None and wait <= 0:
                return
            await self._wait(wait)

    async def _wait(self, seconds: float | None) -> None:
        """Until something changes, or for so long; clocks that are set are noticed in an hour."""
        waiting = self._waiting = Deferred()
        timer = None
        if seconds is not None:
            timer = self._service.sleep(min(seconds, 3600.0))
            timer.addCallbacks(lambda _: self._wake(), lambda _: None)
        try:
            await waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        waiting = self._waiting
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def _begin_to_watch(self, config: JobConfig) -> None:
        schedule, source = config.schedule, config.source
        if not schedule.watch:
            return
        if source.host.kind != "local":
            self._service.log.error(
                "job {job}: watch = yes is for folders of this machine",
                event="job_refused",
                job=self._id,
            )
            return

        def noticed() -> None:
            self._changed = True
            self._wake()

        self._watch = FolderWatch(
            source.path,
            source.rules.recursive or "/" in config.ready_file,
            schedule.poll,
            lambda: self._service.from_thread(noticed),
        )
        self._watch.start()


def _last_run(config: JobConfig) -> datetime | None:
    row = read_record(config.app.locks_dir, record_name(config.id))
    try:
        when = datetime.fromisoformat(str((row or {}).get("started", "")))
    except ValueError:
        return None
    return when.astimezone().replace(tzinfo=None)
