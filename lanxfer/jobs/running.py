"""One job, run in a reactor: its lock, its thread, its retries, its end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple, TypeVar

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater

from lanxfer.jobs.config.settings import JobConfig
from lanxfer.jobs.errors import (
    ConfigError,
    ConnectError,
    Error,
    NotReadyError,
    SingleInstanceError,
    Terminated,
    TransferError,
    exit_code,
)
from lanxfer.jobs.kept import lock_name, record_name
from lanxfer.jobs.logs import RunLog
from lanxfer.jobs.moving import Run
from lanxfer.jobs.moving.attempts import Attempts
from lanxfer.jobs.moving.making import Maker, mover
from lanxfer.jobs.results import JobResult, Tally
from lanxfer.jobs.telling import tell
from lanxfer.jobs.telling.reports import Report, counts
from lanxfer.jobs.threads import in_thread
from lanxfer.storage.claims import claim
from lanxfer.storage.records import write_record

T = TypeVar("T")

DELAY_MAX = 60.0
"""Seconds between two attempts, at most: 1, 2, 4 ..."""

PEER_PATIENCE = 10.0
"""Seconds that a lanxfer device gets to come back within one attempt."""


class Ran(NamedTuple):
    """What a run that was not refused gives back."""

    result: JobResult
    code: int


class Job:
    """A job of which the files were read.

    ``run`` may be called again when it has ended; ``clock`` is for what waits
    between attempts.
    """

    def __init__(
        self,
        reactor: Any,
        config: JobConfig,
        *,
        clock: Any = None,
        state: str | None = None,
    ) -> None:
        self.config = config
        self._reactor = reactor
        self._clock = reactor if clock is None else clock
        self._state = state

    def run(self, exc: BaseException | None = None, *, dry: bool = False) -> Deferred[Ran]:
        """Run it; fires with the result and an exit code of 0 or 1.

        Fails with an error of ``lanxfer.jobs.errors``, whose ``result`` is what had
        been done; cancelled, with Terminated, when what was under way is in
        order.  ``exc`` is something that went wrong in preparing the run: it is
        logged, told and raised, and no file is moved.  ``dry`` only finds out
        which files it would move.
        """
        running = Deferred.fromCoroutine(self._run(exc, dry))
        _under_way.add(running)

        def ended(result: Any) -> Any:
            _under_way.discard(running)
            return result

        return running.addBoth(ended)

    async def _run(self, exc: BaseException | None, dry: bool) -> Ran:
        config, started = self.config, datetime.now()
        since, tally = time.monotonic(), Tally()

        def so_far() -> JobResult:
            return tally.result(config.collect_data, round(time.monotonic() - since, 3))

        log = RunLog(config.logging, config.id, started)
        log.info("job %s began", config.id)
        log.debug("configuration: %r", config)
        for each in config.warnings:
            log.warning("%s", each)
        error: BaseException | None = None
        try:
            if exc is not None:
                raise exc
            await self._claimed(tally, log, dry)
        except (SingleInstanceError, NotReadyError) as found:
            # Nothing happened, so nothing is said, not even in a file.
            log.close()
            found.result = so_far()
            raise
        except CancelledError:
            error = Terminated()
        except BaseException as found:
            error = found
        result = so_far()
        await self._end(result, error, started, log, dry)
        if error is not None:
            if isinstance(error, (Error, Terminated)):
                error.result = result
            raise error
        return Ran(result, exit_code(None, result))

    async def _end(
        self,
        result: JobResult,
        error: BaseException | None,
        started: datetime,
        log: RunLog,
        dry: bool,
    ) -> None:
        """Log, keep and tell what became of it; nothing here changes that."""
        log.activate()
        report = Report(self.config, result, error, started, datetime.now(), log.file)
        if error is not None:
            unexpected = not isinstance(error, (Error, Terminated))
            log.error("%s", error, exc_info=error if unexpected else None)
        log.info("job %s ended: %s", self.config.id, counts(result))
        try:
            if not dry:
                if self.config.app.path:
                    self._record(report, log)
                await tell(self._reactor, report, log)
        except CancelledError:
            log.error("not everybody was told: the run was ended")
        except Exception:
            log.exception("not everybody was told")
        finally:
            log.close()

    def _record(self, report: Report, log: RunLog) -> None:
        row = report.as_row()
        row.pop("file_list", None)
        try:
            write_record(self.config.app.locks_dir, record_name(self.config.id), row)
        except OSError as error:
            log.warning("the result is not kept: %s", error)

    async def _claimed(self, tally: Tally, log: RunLog, dry: bool) -> None:
        lock = self.config.lock
        if not lock or dry:
            await self._attempts(tally, log, dry)
            return
        folder = self.config.app.locks_dir
        try:
            held = claim(folder, lock_name(lock))
        except OSError as error:
            raise ConfigError(f"The folder {folder} cannot be used: {error.strerror}.") from error
        if held is None:
            raise SingleInstanceError(f"The job {self.config.id} is running already.")
        try:
            await self._attempts(tally, log, dry)
        finally:
            held.release()

    async def _attempts(self, tally: Tally, log: RunLog, dry: bool) -> None:
        config, maker = self.config, Maker(self._reactor, self._state, PEER_PATIENCE)
        run = Run(config, maker.source(config), maker.target(config, dry), tally, log, dry)
        attempts = Attempts(run, mover(run), log.activate)
        delays = backoffPolicy(1.0, DELAY_MAX, 2.0, lambda: random.random() / 10)

        def in_thread_of_its_own(work: Callable[[], T]) -> Deferred[T]:
            return in_thread(self._reactor, f"job-{config.id}", work, run.stop)

        try:
            for tries in count():
                why = await self._attempt(in_thread_of_its_own(attempts.attempt), tries)
                if not why:
                    return
                delay = delays(tries)
                log.warning("%s; attempt %d of %d in %.1f s", why, tries + 1, config.retries, delay)
                await deferLater(self._clock, delay, lambda: None)
        finally:
            with suppress(CancelledError):
                await in_thread_of_its_own(attempts.close)

    async def _attempt(self, attempt: Deferred[bool], tries: int) -> str:
        """Why there is to be another attempt; "" where there is none."""
        last = tries >= self.config.retries
        try:
            return "some files failed" if await attempt and not last else ""
        except (ConnectError, TransferError) as error:
            if last or not error.again:
                raise
            return error.reason


_under_way: set[Deferred[Any]] = set()


def set_sigterm_handler(reactor: Any = None) -> None:
    """End running jobs in good order when the reactor stops, as it does on SIGTERM.

    The reactor waits for them; each fails with Terminated, with its result so far.
    """
    if reactor is None:
        from twisted.internet import reactor as found

        reactor = found

    def end() -> Deferred[Any]:
        running = list(_under_way)
        ended = []
        for each in running:
            done: Deferred[None] = Deferred()

            def pass_on(result: Any, done: Deferred[None] = done) -> Any:
                done.callback(None)
                return result

            each.addBoth(pass_on)
            ended.append(done)
            each.cancel()
        return DeferredList(ended)

    reactor.addSystemEventTrigger("before", "shutdown", end)
