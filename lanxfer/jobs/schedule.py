"""Jobs that a service runs by itself: at their times, or when their folder changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from lanxfer.jobs.config.app import read_app
from lanxfer.jobs.config.job import job_ids, read_job
from lanxfer.jobs.config.settings import JobConfig
from lanxfer.jobs.errors import (
    ConfigError,
    Error,
    NotReadyError,
    SingleInstanceError,
    Terminated,
)
from lanxfer.jobs.planned import Planned
from lanxfer.jobs.results import JobResult
from lanxfer.jobs.running import Job
from lanxfer.jobs.telling.reports import counts
from lanxfer.transfers import Direction, Kind, Snapshot, State


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
            planned = Planned(self, id)
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
            self.log.debug("job {job}: {reason}", job=config.id, reason=str(found))
            return
        except (Error, Terminated) as found:
            error, result = found, found.result
        except Exception as found:
            error = found
            self.log.failure("job {job} failed", event="job_failed", job=config.id)
        said = counts(result) if error is None else str(error)
        self.log.info("job {job} ended: {result}", event="job_ended", job=config.id, result=said)
        self._on_end(_snapshot(self._new_id(), config, started, result, error))
        if isinstance(error, Terminated):
            raise CancelledError

    def now(self) -> datetime:
        return self._now()

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds, lambda: None)

    def from_thread(self, call: Callable[[], object]) -> None:
        self._reactor.callFromThread(call)


def scheduled(app_cfg: str) -> list[str]:
    """The jobs that have a ``[schedule]``, or of which that cannot be told."""
    app = read_app(app_cfg)
    found = []
    for id in job_ids(app):
        try:
            if read_job(app_cfg, id).schedule:
                found.append(id)
        except ConfigError:
            found.append(id)
    return found


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
