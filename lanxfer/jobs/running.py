"""One job, run in a reactor: its lock, its thread, its retries, its end."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from attrs import evolve
from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from lanxfer.jobs.ends import End, LocalEnd, lock_name
from lanxfer.jobs.errors import (
    ConnectError,
    Error,
    NotReadyError,
    SingleInstanceError,
    Terminated,
    TransferError,
    exit_code,
)
from lanxfer.jobs.ftp import FtpEnd
from lanxfer.jobs.logs import RunLog
from lanxfer.jobs.moving import (
    Attempts,
    FetchMover,
    Mover,
    Run,
    SendMover,
    SpoolMover,
    Stopped,
    StreamMover,
)
from lanxfer.jobs.peer import PeerEnd
from lanxfer.jobs.remote import FsspecEnd
from lanxfer.jobs.results import JobResult, Tally
from lanxfer.jobs.settings import Host, JobConfig
from lanxfer.jobs.sftp import SftpEnd
from lanxfer.jobs.telling import tell
from lanxfer.jobs.templates import Report, counts
from lanxfer.storage.claims import claim
from lanxfer.storage.records import write_record

T = TypeVar("T")

DELAY_MAX = 60.0
"""Seconds between two attempts, at most: 1, 2, 4 ..."""

PEER_PATIENCE = 10.0
"""Seconds that a lanxfer device gets to come back within one attempt."""

ENDING = 10.0
"""Seconds that a thread gets to end when the run is to."""


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
        self._tally: Tally | None = None
        self._since = 0.0

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

    def so_far(self) -> JobResult | None:
        """What the run that is under way has done."""
        if self._tally is None:
            return None
        return self._tally.result(self.config.collect_data, self._took())

    def _took(self) -> float:
        return round(time.monotonic() - self._since, 3)

    async def _run(self, exc: BaseException | None, dry: bool) -> Ran:
        config, started = self.config, datetime.now()
        self._since = time.monotonic()
        tally = self._tally = Tally()
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
            self._tally = None
            found.result = tally.result(config.collect_data, self._took())
            raise
        except CancelledError:
            error = Terminated()
        except BaseException as found:
            error = found
        result = tally.result(config.collect_data, self._took())
        self._tally = None
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
        held = claim(self.config.app.locks_dir, lock_name(lock))
        if held is None:
            raise SingleInstanceError(f"The job {self.config.id} is running already.")
        try:
            await self._attempts(tally, log, dry)
        finally:
            held.release()

    # Attempts.

    async def _attempts(self, tally: Tally, log: RunLog, dry: bool) -> None:
        config = self.config
        run = Run(config, self._source(), self._target(dry), tally, log, dry)
        with_spool: list[str] = []
        attempts = Attempts(run, self._mover(run, with_spool), log.activate)
        delays = backoffPolicy(1.0, DELAY_MAX, 2.0, lambda: random.random() / 10)
        tries = 0
        try:
            while True:
                try:
                    if (
                        not await self._in_thread(attempts.attempt, run.stop)
                        or tries >= config.retries
                    ):
                        return
                    why = "some files failed"
                except (ConnectError, TransferError) as error:
                    if not error.again or tries >= config.retries:
                        raise
                    why = error.reason
                delay = delays(tries)
                tries += 1
                log.warning("%s; attempt %d of %d in %.1f s", why, tries, config.retries, delay)
                await deferLater(self._clock, delay, lambda: None)
        finally:
            with suppress(CancelledError):
                await self._in_thread(attempts.close, run.stop)
            for each in with_spool:
                shutil.rmtree(each, ignore_errors=True)

    def _in_thread(self, work: Callable[[], T], stop: Callable[[], None]) -> Deferred[T]:
        """Call ``work`` in a thread of its own.

        Cancelled, it is asked to stop, and waited for; a thread that hangs in a
        disk is left behind.
        """
        reactor = self._reactor

        done = _Patient[T](stop, reactor)

        def finish(result: Any) -> None:
            if not done.called:
                done.finish(result)

        def run() -> None:
            try:
                result: Any = work()
            except Stopped:
                result = Failure(CancelledError())
            except BaseException:
                result = Failure()
            reactor.callFromThread(finish, result)

        threading.Thread(target=run, name=f"job-{self.config.id}", daemon=True).start()
        return done

    # What it is made of.

    def _source(self) -> End:
        source = self.config.source
        host = source.host
        if host.kind == "local":
            return LocalEnd(source.path)
        if host.kind == "lanxfer":
            return self._peer(host, source.path)
        return _remote(host, source.path, False)

    def _target(self, dry: bool) -> End:
        target = self.config.target
        host = target.host
        if host.kind == "local":
            return LocalEnd(target.path, make=True)
        if host.kind == "lanxfer":
            return self._peer(
                host, target.path, shared=target.shared, make=True, conflict=target.conflict
            )
        return _remote(host, target.path, True)

    def _peer(self, host: Host, path: str, **how: Any) -> PeerEnd:
        return PeerEnd(self._reactor, host, path, patience=PEER_PATIENCE, state=self._state, **how)

    def _mover(self, run: Run, spools: list[str]) -> Mover:
        source, target = run.source, run.target
        if not isinstance(source, PeerEnd) and not isinstance(target, PeerEnd):
            return StreamMover(run)
        if isinstance(source, LocalEnd) and isinstance(target, PeerEnd):
            return SendMover(run, source, target)
        if isinstance(source, PeerEnd) and isinstance(target, LocalEnd):
            return FetchMover(run, target, source)
        return self._spooled(run, spools)

    def _spooled(self, run: Run, spools: list[str]) -> Mover:
        source, target = run.source, run.target
        above = run.job.app.locks_dir
        os.makedirs(above, mode=0o700, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="spool-", dir=above)
        spools.append(folder)
        spool = LocalEnd(folder, make=True)
        spool.connect()
        # The source is removed by who knows what the target has.
        plain = evolve(run.job, source=evolve(run.job.source, delete=False))
        careful = run.job.target.verify
        if careful == "auto" and run.job.source.delete:
            careful = "digest"
        inner = evolve(
            run,
            job=evolve(plain, target=evolve(plain.target, skip="none")),
            target=spool,
            tally=Tally(),
        )
        outer = evolve(
            run, job=evolve(plain, target=evolve(plain.target, verify=careful)), source=spool
        )
        inward: Mover = (
            FetchMover(inner, spool, source) if isinstance(source, PeerEnd) else StreamMover(inner)
        )
        outward: Mover = (
            SendMover(outer, spool, target) if isinstance(target, PeerEnd) else StreamMover(outer)
        )
        return SpoolMover(run, spool, inner, inward, outward)


class _Patient(Deferred[T]):
    """A Deferred that, cancelled, asks for the end and fires when that has come."""

    def __init__(self, stop: Callable[[], None], reactor: Any) -> None:
        super().__init__()
        self._stop = stop
        self._reactor = reactor
        self._limit: Any = None
        self._ending = False

    def cancel(self) -> None:
        if self.called:
            super().cancel()
        elif not self._ending:
            self._ending = True
            self._stop()
            self._limit = self._reactor.callLater(ENDING, self.finish, None)

    def finish(self, result: Any) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        if self.called:
            return
        if self._ending:
            self.errback(CancelledError())
        elif isinstance(result, Failure):
            self.errback(result)
        else:
            self.callback(result)


def _remote(host: Host, path: str, make: bool) -> End:
    kinds: dict[str, Any] = {"ftp": FtpEnd, "ftps": FtpEnd, "sftp": SftpEnd}
    made: End = kinds.get(host.kind, FsspecEnd)(host, path, make=make)
    return made


def record_name(job_id: str) -> str:
    """The name of the file that keeps what became of the last run."""
    return f"{lock_name(job_id)}.last.json"


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
