"""What becomes of a job's files, in the one thread of a run.

The one rule above all: nothing at the target is touched before the new file is
whole there under another name, and nothing at the source before the target has
been asked what it holds.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from time import monotonic, time_ns
from typing import Any, Protocol

from attrs import Factory, define, field

from lanxfer.jobs.config.settings import JobConfig
from lanxfer.jobs.ends import Broken, End, EndError, FileInfo, digest
from lanxfer.jobs.moving.apart import Apart
from lanxfer.jobs.results import FileTag, Tally

CLOCKS_APART = 60 * 10**9
"""Nanoseconds by which the clock of a server may be behind that of this machine."""


class Stopped(Exception):
    """The run is to end now."""


class Log(Protocol):
    """What is written of a run; the logging module's own."""

    def debug(self, text: str, *args: Any) -> None: ...

    def info(self, text: str, *args: Any) -> None: ...

    def warning(self, text: str, *args: Any) -> None: ...


@define(eq=False)
class Run:
    """What the movers share: the job, its ends, the tally, and whether to stop."""

    job: JobConfig
    source: End
    target: End
    tally: Tally
    log: Log
    dry: bool = False
    id: str = field(factory=lambda: secrets.token_hex(4))
    stopping: threading.Event = field(factory=threading.Event)
    again: bool = False
    """Whether something failed in this attempt that may work in the next."""
    removes: bool = True
    """Whether it is for this run to remove what its job says is to be removed."""
    began: int = field(factory=time_ns)
    """Before anything was listed, in nanoseconds since 1970."""
    due: dict[str, tuple[FileInfo, str]] = field(factory=dict)
    """What the target has and the source is still to be rid of, with the digest."""
    apart: Apart = field(
        init=False,
        default=Factory(
            lambda self: Apart(self.job, self.source, self.target, self.id), takes_self=True
        ),
    )

    def keep_on(self) -> None:
        """Stopped where the run is to end."""
        if self.stopping.is_set():
            raise Stopped

    def stop(self) -> None:
        """End soon; from any thread."""
        self.stopping.set()
        self.source.abort()
        self.target.abort()

    def arrived(self, info: FileInfo, since: float) -> None:
        took = round(monotonic() - since, 3)
        self.tally.add(info.path, took, FileTag.TRANSF, info.size)
        self.log.info("transferred: %s (%d bytes, %.3f s)", info.path, info.size, took)

    def skipped(self, info: FileInfo, why: str = "there already") -> None:
        self.tally.add(info.path, why, FileTag.SKIPPED, info.size)
        self.log.debug("skipped: %s (%s)", info.path, why)

    def failed(self, path: str, tag: FileTag, why: str, again: bool) -> None:
        self.again = self.again or again
        self.tally.add(path, why, tag)
        side = "source" if tag is FileTag.SRCERR else "target"
        self.log.warning("%s error: %s: %s", side, path, why)

    def trusts(self, info: FileInfo, there: FileInfo | None) -> bool:
        """Whether size and time say already that it is there; never of what is to be removed."""
        job = self.job
        if job.source.delete or job.target.skip != "size,mtime":
            return False
        return there is not None and info.same(there)

    def unchanged(self, info: FileInfo) -> bool:
        """Whether the source is still what it was when it was listed."""
        now = self.source.look(info.path)
        return now is not None and now.size == info.size and now.mtime_ns == info.mtime_ns

    def time_tells(self, info: FileInfo) -> bool:
        """Whether a file that is changed after it was listed has another time then."""
        if info.mtime_ns is None:
            return False
        # What is changed within one unit of a server's time keeps it.
        return info.resolution == 1 or info.mtime_ns + info.resolution < self.began - CLOCKS_APART

    def _holds(self, info: FileInfo, found: str) -> bool:
        if self.time_tells(info):
            return True
        source: Any = self.source  # the times of devices are exact, so it is none
        return digest(source, info.path, self.keep_on) == found and self.unchanged(info)

    def delete(self, info: FileInfo, found: str = "", copy: str = "") -> None:
        """Remove a file at the source, of which the target has proved to have all.

        ``found`` is the digest of that, to be given where ``time_tells`` nothing;
        ``copy`` is where it is on this machine, if the source is not.
        """
        if not self.removing:
            return
        self.due[info.path] = info, found
        try:
            if self.unchanged(info) and self._holds(info, found):
                already = self.tally.tag(info.path) is FileTag.SKIPPED
                if not self.apart.gone(info, already, copy):
                    self.source.remove(info.path)
                self.log.debug("removed at the source: %s", info.path)
            else:
                self.log.warning("%s changed at the source and stays there", info.path)
        except Broken:
            raise  # it stays due
        except EndError as error:
            self.failed(info.path, FileTag.SRCERR, f"It arrived, but stays: {error.reason}", False)
        del self.due[info.path]

    def delete_later(self, info: FileInfo) -> None:
        """Remove it with ``delete_due``: an end that may have to be asked is busy."""
        if self.removing:
            self.due[info.path] = info, ""

    @property
    def removing(self) -> bool:
        """Whether what the target has is to go at the source."""
        return self.removes and self.job.source.delete and not self.dry

    def delete_due(self) -> None:
        """Remove what could not be removed at once, as when the connection broke."""
        for info, found in list(self.due.values()):
            self.delete(info, found)


class Mover(Protocol):
    """Moves some files at a time; every one of them is told of to the ``Run``."""

    batch: int

    def prepare(self) -> None:
        """Before each attempt, when both ends are connected."""

    def move(self, files: Sequence[FileInfo]) -> None: ...

    def known(self, info: FileInfo) -> bool:
        """See ``Run.trusts``."""

    def tidy(self) -> None:
        """Leave nothing unfinished behind."""
