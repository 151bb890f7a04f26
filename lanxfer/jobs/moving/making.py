"""What a job is made of: its two ends, and what moves files between them."""

from __future__ import annotations

import tempfile
from typing import Any

from attrs import evolve, frozen

from lanxfer.jobs.config.settings import Host, JobConfig
from lanxfer.jobs.ends import Absent, End
from lanxfer.jobs.ends.backend import FsspecEnd
from lanxfer.jobs.ends.device import DeviceEnd
from lanxfer.jobs.ends.ftp import FtpEnd
from lanxfer.jobs.ends.local import LocalEnd
from lanxfer.jobs.ends.sftp import SftpEnd
from lanxfer.jobs.moving import Mover, Run
from lanxfer.jobs.moving.devices import FetchMover, SendMover
from lanxfer.jobs.moving.spools import SpoolMover
from lanxfer.jobs.moving.streams import StreamMover
from lanxfer.jobs.results import Tally
from lanxfer.storage.private import make_private

_SERVERS: dict[str, Any] = {"ftp": FtpEnd, "ftps": FtpEnd, "sftp": SftpEnd}


@frozen
class Maker:
    """Makes ends; ``state`` is the folder of this device's key, ``patience`` for lanxfer devices.

    ``patience`` is in seconds: how long a device may be away within one attempt.
    """

    reactor: Any
    state: str | None
    patience: float

    def source(self, job: JobConfig) -> End:
        return self._end(job.source.host, job.source.path, Absent.REFUSE)

    def target(self, job: JobConfig, dry: bool) -> End:
        """Not even the folder is made where the run is a dry one."""
        target = job.target
        return self._end(
            target.host,
            target.path,
            Absent.IGNORE if dry else Absent.MAKE,
            shared=target.shared,
            conflict=target.conflict,
        )

    def _end(self, host: Host, path: str, absent: Absent, **device: Any) -> End:
        if host.kind == "local":
            return LocalEnd(path, absent)
        if host.kind == "lanxfer":
            return DeviceEnd(
                self.reactor,
                host,
                path,
                absent,
                patience=self.patience,
                state=host.state or self.state,
                **device,
            )
        end: End = _SERVERS.get(host.kind, FsspecEnd)(host, path, absent)
        return end


def mover(run: Run) -> Mover:
    """What moves the files of a run; call its ``tidy`` in the end."""
    source, target = run.source, run.target
    if isinstance(source, LocalEnd) or isinstance(target, LocalEnd):
        return _direct(run)
    if isinstance(source, DeviceEnd) or isinstance(target, DeviceEnd):
        return _through_spool(run)
    return _direct(run)


def _direct(run: Run) -> Mover:
    source: Any = run.source
    target: Any = run.target
    if isinstance(target, DeviceEnd):
        return SendMover(run, source, target)
    if isinstance(source, DeviceEnd):
        return FetchMover(run, target, source)
    return StreamMover(run, source, target)


def _through_spool(run: Run) -> Mover:
    job = run.job
    above = job.app.locks_dir
    make_private(above)
    spool = LocalEnd(tempfile.mkdtemp(prefix="spool-", dir=above), Absent.MAKE)
    kept = evolve(job, source=evolve(job.source, delete=False))
    fresh = evolve(kept, target=evolve(job.target, skip="none"))
    inner = evolve(run, job=fresh, target=spool, tally=Tally(), due={})
    # As careful as where the source is removed, which is done by who has seen both halves.
    outer = evolve(run, source=spool, removes=False, due={})
    return SpoolMover(run, spool, _direct(inner), inner, _direct(outer), outer)
