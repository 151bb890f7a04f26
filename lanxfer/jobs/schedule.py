"""Jobs that a service runs by itself: at their times, or when their folder changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from lanxfer.jobs import times
from lanxfer.jobs.errors import (
    ConfigError,
    Error,
    NotReadyError,
    SingleInstanceError,
    Terminated,
)
from lanxfer.jobs.reading import job_ids, read_app, read_job
from lanxfer.jobs.results import JobResult
from lanxfer.jobs.running import Job, record_name
from lanxfer.jobs.settings import JobConfig, Schedule
from lanxfer.jobs.templates import counts
from lanxfer.jobs.watching import FolderWatch
from lanxfer.service import Settings, TransferService
from lanxfer.storage.records import read_record
from lanxfer.transfers import Direction, Kind, Snapshot, State

AGAIN = 60.0
"""Seconds until a job whose files make no sense is looked at again."""


class JobsService(Service):
    """Runs the jobs of one configuration file that have a ``[schedule]``.

    ``on_end`` is told of every run as a snapshot for the history.  A job's files
    are read anew before each run; jobs that come later are seen at the next start.
    """

    name = "lanxfer-jobs"

    def __init__(
        self,
        reactor: Any,
        app_cfg: str,
        *,
        on_end: Callable[[Snapshot], object] = lambda snapshot: None,
        new_id: Callable[[], str] = lambda: "",
        state: str | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.log = Logger()
        self.app_cfg = app_cfg
        self._reactor = reactor
        self._on_end = on_end
        self._new_id = new_id
        self.state = state
        self._now = now
        self._loops: list[Deferred[None]] = []

    def startService(self) -> None:
        super().startService()
        for id in scheduled(self.app_cfg):
            planned = _Planned(self, id)
            self._loops.append(Deferred.fromCoroutine(planned.loop()))

    def stopService(self) -> Deferred[None]:
        """End what runs, in good order; fires when it has ended."""
        super().stopService()
        loops, self._loops = self._loops, []
        for each in loops:
            each.cancel()

        def done(_: Any) -> None:
            return None

        return DeferredList(loops, consumeErrors=True).addCallback(done)

    async def run(self, config: JobConfig) -> None:
        """Run a job once and tell of it; only a cancel comes out of here."""
        job = Job(self._reactor, config, state=self.state)
        started = time.time()
        error: BaseException | None = None
        result: JobResult | None = None
        try:
            result = (await job.run()).result
        except (SingleInstanceError, NotReadyError) as found:
            self.log.debug("job {id}: {error}", id=config.id, error=str(found))
            return
        except (Error, Terminated) as found:
            error, result = found, found.result
        except Exception as found:
            error = found
            self.log.failure("job {id} failed", id=config.id)
        said = counts(result) if error is None else str(error)
        self.log.info("job {id} ended: {said}", id=config.id, said=said)
        self._on_end(_snapshot(self._new_id(), config, started, result, error))
        if isinstance(error, Terminated):
            raise CancelledError

    def now(self) -> datetime:
        return self._now()

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds, lambda: None)

    def from_thread(self, call: Callable[[], object]) -> None:
        self._reactor.callFromThread(call)


class ServiceWithJobs(Service):
    """A transfer service, and the jobs of a configuration file beside it, in its history."""

    def __init__(self, reactor: Any, transfers: TransferService, app_cfg: str) -> None:
        self.transfers = transfers
        self.jobs = JobsService(
            reactor,
            app_cfg,
            on_end=transfers.registry.note,
            new_id=lambda: transfers.registry.new_id(),
            state=transfers.settings.state,
        )

    def startService(self) -> None:
        super().startService()
        self.transfers.startService()
        self.jobs.startService()

    def stopService(self) -> Deferred[None]:
        """The jobs first: the history is to know how they ended."""
        super().stopService()

        async def stop() -> None:
            await self.jobs.stopService()
            await self.transfers.stopService()

        return Deferred.fromCoroutine(stop())


class _Planned:
    """One job, again and again."""

    def __init__(self, service: JobsService, id: str) -> None:
        self._service = service
        self._id = id
        self._last: datetime | None = None
        self._changed = False
        self._waiting: Deferred[None] | None = None
        self._watch: FolderWatch | None = None

    async def loop(self) -> None:
        service = self._service
        try:
            while True:
                try:
                    config, _ = read_job(service.app_cfg, self._id, service.state)
                    if complaint := times.check(config.schedule):
                        raise ConfigError(complaint)
                except ConfigError as error:
                    service.log.error("job {id}: {error}", id=self._id, error=error.reason)
                    await service.sleep(AGAIN)
                    continue
                if not config.schedule:
                    return
                if self._last is None:
                    self._last = _last_run(config)
                    self._begin_to_watch(config)
                await self._until_due(config.schedule)
                config, _ = read_job(service.app_cfg, self._id, service.state)
                self._last, self._changed = service.now(), False
                await service.run(config)
        except CancelledError:
            pass
        finally:
            if self._watch is not None:
                self._watch.stop()

    async def _until_due(self, schedule: Schedule) -> None:
        service = self._service
        while True:
            if self._changed:
                # Whoever writes there may be still at it.
                self._changed = False
                await service.sleep(schedule.settle)
                if not self._changed:
                    return
                continue
            due = times.next_run(schedule, service.now(), self._last)
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
                "job {id}: watch = yes is for folders of this machine", id=self._id
            )
            return
        self._changed = True  # what came while nobody watched

        def noticed() -> None:
            self._changed = True
            self._wake()

        self._watch = FolderWatch(
            source.path,
            source.rules.matcher(),
            schedule.poll,
            lambda: self._service.from_thread(noticed),
        )
        self._watch.start()


def scheduled(app_cfg: str) -> list[str]:
    """The jobs that have a ``[schedule]``, or of which that cannot be told."""
    app, _, _ = read_app(app_cfg)
    found = []
    for id in job_ids(app):
        try:
            if read_job(app_cfg, id)[0].schedule:
                found.append(id)
        except ConfigError:
            found.append(id)
    return found


def with_jobs(settings: Settings, app_cfg: str) -> Settings:
    """Leave the folders that jobs write to open, where the service confines itself."""
    found = (*settings.also_writable, *writable(app_cfg, settings.state))
    return evolve(settings, also_writable=found) if settings.sandbox else settings


def writable(app_cfg: str, state: str) -> tuple[str, ...]:
    """The folders of this machine that scheduled jobs change; made where they are missing."""
    app, _, _ = read_app(app_cfg, state)
    folders = [app.locks_dir, app.logging.log_dir]
    for id in scheduled(app_cfg):
        try:
            config, _ = read_job(app_cfg, id)
        except ConfigError:
            continue
        if config.target.host.kind == "local":
            folders.append(config.target.path)
        if config.source.host.kind == "local" and (config.source.delete or config.ready_file):
            folders.append(config.source.path)
    found = tuple(dict.fromkeys(each for each in folders if each))
    for each in found:
        os.makedirs(each, exist_ok=True)
    return found


def _last_run(config: JobConfig) -> datetime | None:
    row = read_record(config.app.locks_dir, record_name(config.id))
    try:
        when = datetime.fromisoformat(str((row or {}).get("started", "")))
    except ValueError:
        return None
    return when.astimezone().replace(tzinfo=None)


def _snapshot(
    id: str,
    config: JobConfig,
    started: float,
    result: JobResult | None,
    error: BaseException | None,
) -> Snapshot:
    """A run as a row of the history."""
    if isinstance(error, Terminated):
        state = State.CANCELLED
    else:
        state = State.DONE if error is None else State.FAILED
    size = 0 if result is None else result.bytes
    said = counts(result) if error is None else f"{error} ({counts(result)})"
    return Snapshot(
        id=id,
        direction=Direction.OUT,
        kind=Kind.JOB,
        peer="local",
        path=config.id,
        size=size,
        state=state,
        done=size,
        reason=said,
        started=started,
        changed=time.time(),
    )
