"""One run of a job, as its thread sees it: which files, in which order, and what became of each.

The one rule above all: nothing at the target is touched before the new file is
whole there under another name, and nothing at the source before the target has
been asked what it holds.
"""

from __future__ import annotations

import fnmatch
import posixpath
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from attrs import define, field
from blake3 import blake3

from lanxfer.jobs.ends import (
    CHUNK,
    Broken,
    End,
    EndError,
    FileInfo,
    LocalEnd,
    Refused,
    digest,
    walk,
)
from lanxfer.jobs.errors import ConnectError, NotReadyError, TransferError
from lanxfer.jobs.results import FileTag, Tally
from lanxfer.jobs.rules import Matcher
from lanxfer.jobs.settings import JobConfig

MARK_EVERY = 1024 * 1024
MARKS_MAX = 32
"""Running digests that are kept of a file under way: a retry goes on from one of them."""


class Stopped(Exception):
    """The run is to end now."""


class Log(Protocol):
    """What is written of a run; the logging module's own."""

    def debug(self, text: str, *args: Any) -> None: ...

    def info(self, text: str, *args: Any) -> None: ...

    def warning(self, text: str, *args: Any) -> None: ...


class Mover(Protocol):
    """Moves some files at a time; every one of them is told of to the ``Run``."""

    batch: int

    def prepare(self) -> None:
        """Before each attempt, when both ends are connected."""

    def move(self, files: Sequence[FileInfo]) -> None: ...

    def known(self, info: FileInfo) -> bool:
        """Whether size and time say already that it is there; never of what is to be removed."""

    def tidy(self) -> None:
        """Leave nothing unfinished behind."""


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

    def unchanged(self, info: FileInfo) -> bool:
        """Whether the source is still what it was when it was listed."""
        now = self.source.look(info.path)
        return now is not None and now.size == info.size and now.mtime_ns == info.mtime_ns

    def delete(self, info: FileInfo) -> None:
        """Remove a file at the source, of which the target has proved to have all."""
        if not self.job.source.delete:
            return
        try:
            if not self.unchanged(info):
                self.log.warning("%s changed at the source and stays there", info.path)
                return
            self.source.remove(info.path)
            self.log.debug("removed at the source: %s", info.path)
        except Broken:
            raise
        except EndError as error:
            self.failed(info.path, FileTag.SRCERR, f"It arrived, but stays: {error.reason}", False)


class Attempts:
    """A job from its first connection to its last file; ``attempt`` may be called again.

    ``begun`` is called once, when it is known that it is to run at all.
    """

    def __init__(self, run: Run, mover: Mover, begun: Callable[[], object]) -> None:
        self.run = run
        self._begun = begun
        self._mover = mover
        self._ready: list[str] = []
        self._began = False

    def attempt(self) -> bool:
        """Move what is still to be moved; whether another attempt makes sense.

        Raises ConnectError and TransferError for what concerns all files,
        NotReadyError, and Stopped.
        """
        run = self.run
        run.keep_on()
        run.again = False
        run.tally.forget_errors()
        try:
            self._connect()
            if not self._began:
                self._look_whether_ready()
                self._began = True
                self._begun()
            self._mover.prepare()
            for files in self._batches():
                run.keep_on()
                self._mover.move(files)
            result = run.tally.result(False, 0.0)
            if not result.exit_code and not run.dry:
                self._remove_ready()
        except (Refused, Broken, EndError) as error:
            run.keep_on()  # what was aborted breaks
            raise TransferError(error.reason, again=error.again) from error
        return run.again

    def close(self) -> None:
        """Leave nothing behind but what arrived."""
        with suppress(EndError, Stopped):
            self._mover.tidy()
        for end in (self.run.source, self.run.target):
            with suppress(EndError):
                end.close()

    def _connect(self) -> None:
        for name, end in (("source", self.run.source), ("target", self.run.target)):
            if self._began and end.alive():
                continue
            try:
                end.connect()
            except (Refused, Broken) as error:
                self.run.keep_on()
                raise ConnectError(error.reason, again=error.again) from error
            self.run.log.debug("%s is connected", name)

    def _look_whether_ready(self) -> None:
        named = self.run.job.ready_file
        if not named:
            return
        folder, pattern = posixpath.split(named)
        if any(each in pattern for each in "*?["):
            try:
                found = self.run.source.listing(folder)
            except Broken:
                raise
            except EndError:
                found = []
            self._ready = [
                each.path
                for each in found
                if each.kind == "file"
                and fnmatch.fnmatchcase(posixpath.basename(each.path), pattern)
            ]
        elif self.run.source.look(named) is not None:
            self._ready = [named]
        if not self._ready:
            raise NotReadyError(f"{named} is not there.")

    def _remove_ready(self) -> None:
        for path in self._ready:
            self.run.source.remove(path)
        self._ready = []

    def _batches(self) -> Iterator[list[FileInfo]]:
        run, batch = self.run, list[FileInfo]()
        matcher: Matcher = run.job.source.rules.matcher()
        for info in walk(run.source, matcher):
            run.keep_on()
            if info.path in self._ready or run.tally.settled(info.path):
                continue
            if info.error:
                path = info.path + ("/" if info.kind == "folder" else "")
                run.failed(path, FileTag.SRCERR, info.error, False)
                continue
            batch.append(info)
            if len(batch) >= self._mover.batch:
                yield batch
                batch = []
        if batch:
            yield batch


@define
class _Half:
    """A file that is under way at the target, and what is known of the bytes there."""

    info: FileInfo
    part: str
    marks: list[tuple[int, Any]] = field(factory=list)

    def note(self, offset: int, running: Any) -> None:
        if offset - (self.marks[-1][0] if self.marks else 0) >= MARK_EVERY:
            self.marks.append((offset, running.copy()))
            del self.marks[:-MARKS_MAX]

    def go_on(self, held: int) -> tuple[int, Any]:
        """Where to go on with ``held`` bytes there, and the digest until then."""
        self.marks = [mark for mark in self.marks if mark[0] <= held]
        if not self.marks:
            return 0, blake3()
        offset, running = self.marks[-1]
        return offset, running.copy()


class StreamMover:
    """One file after the other, its bytes through this machine's memory."""

    batch = 1

    def __init__(self, run: Run) -> None:
        self._run = run
        self._halves: dict[str, _Half] = {}

    def prepare(self) -> None:
        """Nothing to do."""

    def move(self, files: Sequence[FileInfo]) -> None:
        for info in files:
            self._move(info)

    def _move(self, info: FileInfo) -> None:
        run, since = self._run, monotonic()
        try:
            if self._there_already(info):
                run.skipped(info)
                run.delete(info)
            elif run.dry:
                run.arrived(info, since)
            else:
                self._copy(info)
                run.arrived(info, since)
                run.delete(info)
        except Stopped:
            run.tally.add(info.path, "stopped", FileTag.CANCELLED)
            raise
        except _OfSource as trouble:
            self._tell(info, FileTag.SRCERR, trouble.error)
        except EndError as error:
            self._tell(info, FileTag.TGTERR, error)

    def _tell(self, info: FileInfo, tag: FileTag, error: EndError) -> None:
        if self._run.stopping.is_set():
            self._run.tally.add(info.path, "stopped", FileTag.CANCELLED)
            raise Stopped from error
        self._run.failed(info.path, tag, error.reason, error.again)
        if isinstance(error, Broken):
            raise error

    def known(self, info: FileInfo) -> bool:
        job = self._run.job
        if job.source.delete or job.target.skip != "size,mtime":
            return False
        there = self._run.target.look(info.path)
        return there is not None and info.same(there)

    def _there_already(self, info: FileInfo) -> bool:
        run, skip = self._run, self._run.job.target.skip
        there = run.target.look(info.path)
        if there is None:
            return False
        if there.kind != "file":
            raise EndError(f"There is a {there.kind} of that name.", again=False)
        if skip == "none" or there.size != info.size:
            return False
        if skip == "size,mtime" and not info.same(there):
            return False
        if skip == "size,mtime" and not run.job.source.delete:
            return True
        # What is to be removed here is not taken on trust from a size and a time.
        return self._digest_of_source(info) == digest(run.target, info.path, run.keep_on)

    def _digest_of_source(self, info: FileInfo) -> str:
        with _source():
            return digest(self._run.source, info.path, self._run.keep_on)

    def _copy(self, info: FileInfo) -> None:
        target = self._run.target
        half = self._half(info)
        found = self._fill(half)
        self._verify(half, found)
        if info.mtime_ns is not None:
            target.set_time(half.part, info.mtime_ns)
        target.replace(half.part, info.path)
        del self._halves[info.path]
        there = target.look(info.path)
        if there is None or there.size != info.size:
            raise EndError("The target does not show the file that it took.")

    def _half(self, info: FileInfo) -> _Half:
        half = self._halves.get(info.path)
        if half is None or half.info != info:
            # Another file by now: what was written of the old one is of no use.
            half = _Half(info, self._run.job.target.temp.name(info.path, self._run.id))
            self._halves[info.path] = half
        return half

    def _fill(self, half: _Half) -> str:
        run, info = self._run, half.info
        offset, running = 0, blake3()
        if half.marks:
            there = run.target.look(half.part)
            offset, running = half.go_on(0 if there is None else there.size)
        if offset:
            run.log.info("going on with %s at %d of %d bytes", info.path, offset, info.size)
        with _source():
            reader = run.source.reader(info.path, offset)
        try:
            writer = run.target.writer(half.part, offset)
        except EndError:
            half.marks.clear()  # not every server goes on in the middle
            reader.close()
            raise
        try:
            while True:
                run.keep_on()
                with _source():
                    data = reader.read(CHUNK)
                if not data:
                    break
                writer.write(data)
                running.update(data)
                offset += len(data)
                half.note(offset, running)
            with _source():
                if offset != info.size or not run.unchanged(info):
                    half.marks.clear()
                    raise EndError("It changed while it was read.")
            writer.finish()
        finally:
            writer.close()
            reader.close()
        return str(running.hexdigest())

    def _verify(self, half: _Half, found: str) -> None:
        run, verify = self._run, self._run.job.target.verify
        there = run.target.look(half.part)
        size = -1 if there is None else there.size
        good = size == half.info.size
        if good and (verify == "digest" or (verify == "auto" and run.job.source.delete)):
            good = digest(run.target, half.part, run.keep_on) == found
        if not good:
            half.marks.clear()
            raise EndError(f"The target holds something else ({size} bytes) than was sent.")

    def tidy(self) -> None:
        halves, self._halves = list(self._halves.values()), {}
        run = self._run
        if halves and not run.target.alive():
            with suppress(EndError):
                run.target.connect()
        for half in halves:
            with suppress(EndError):
                if run.target.look(half.part) is not None:
                    run.target.remove(half.part)
        temp = run.job.target.temp
        if temp.kind == "dir" and not run.dry:
            with suppress(EndError):
                run.target.remove_folder(temp.value)


class _OfSource(Exception):
    def __init__(self, error: EndError) -> None:
        self.error = error


class _source:
    """What fails inside is the source's fault."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, EndError):
            raise _OfSource(error) from error


Outcome = tuple[FileInfo, "EndError | None", bool]
"""A file, what was wrong with it, and whether nothing had to be written."""


class SourceTrouble(EndError):
    """What the lanxfer client found wrong with the source."""


class Peer(Protocol):
    """A lanxfer device, as the movers use it beside what every end can do."""

    def all_files(self) -> list[FileInfo]:
        """What is there of the target already, as far as it can be seen."""

    def send(self, files: Sequence[tuple[FileInfo, str]]) -> Iterator[Outcome]:
        """Send files that are on this machine; their outcomes, as they come."""

    def fetch(self, files: Sequence[FileInfo], folder: str) -> Iterator[Outcome]:
        """Fetch files into a folder of this machine; their outcomes, as they come."""


class _PeerMover:
    """What both ways have in common."""

    def __init__(self, run: Run, local: LocalEnd, peer: Peer) -> None:
        self._run = run
        self._local = local
        self._peer = peer

    def known(self, info: FileInfo) -> bool:
        job = self._run.job
        if job.source.delete or job.target.skip != "size,mtime":
            return False
        there = self._look(info.path)
        return there is not None and info.same(there)

    def move(self, files: Sequence[FileInfo]) -> None:
        run, left = self._run, list[FileInfo]()
        for info in files:
            try:
                known = self.known(info)
            except EndError as why:
                run.failed(info.path, FileTag.TGTERR, why.reason, why.again)
                continue
            if known:
                run.skipped(info)
            elif run.dry:
                run.arrived(info, monotonic())
            else:
                left.append(info)
        since = monotonic()
        for info, error, already in self._begin(left) if left else ():
            self._tell(info, error, already, since)
        run.keep_on()

    def _tell(self, info: FileInfo, error: EndError | None, already: bool, since: float) -> None:
        run = self._run
        if error is None:
            if already:
                run.skipped(info)
            else:
                run.arrived(info, since)
            run.delete(info)
        elif run.stopping.is_set():
            run.tally.add(info.path, "stopped", FileTag.CANCELLED)
        else:
            tag = FileTag.SRCERR if isinstance(error, SourceTrouble) else FileTag.TGTERR
            run.failed(info.path, tag, error.reason, error.again)

    def _look(self, path: str) -> FileInfo | None:
        raise NotImplementedError

    def _begin(self, files: Sequence[FileInfo]) -> Iterator[Outcome]:
        raise NotImplementedError

    def tidy(self) -> None:
        """What is unfinished is gone on with by the next run."""


class SendMover(_PeerMover):
    """From this machine to a lanxfer device, many files at a time."""

    batch = 1000

    def __init__(self, run: Run, local: LocalEnd, peer: Peer) -> None:
        super().__init__(run, local, peer)
        self._there: dict[str, FileInfo] = {}

    def prepare(self) -> None:
        """Look once at what a shared folder holds; an inbox tells by itself."""
        self._there = {each.path: each for each in self._peer.all_files()}

    def _look(self, path: str) -> FileInfo | None:
        return self._there.get(path)

    def _begin(self, files: Sequence[FileInfo]) -> Iterator[Outcome]:
        return self._peer.send([(info, self._local.folder.local(info.path)) for info in files])


class FetchMover(_PeerMover):
    """From a lanxfer device to this machine, several files at a time."""

    batch = 500

    def prepare(self) -> None:
        """Nothing to do."""

    def _look(self, path: str) -> FileInfo | None:
        return self._local.look(path)

    def _begin(self, files: Sequence[FileInfo]) -> Iterator[Outcome]:
        return self._peer.fetch(files, self._local.path)


class SpoolMover:
    """Through a folder of this machine, where no end is this machine and one is a lanxfer device.

    ``inward`` fills the spool and tells ``inner``'s tally of it; ``outward`` takes it from there.
    """

    batch = 50

    def __init__(
        self, run: Run, spool: LocalEnd, inner: Run, inward: Mover, outward: Mover
    ) -> None:
        self._run = run
        self._spool = spool
        self._inner = inner
        self._inward = inward
        self._outward = outward

    def prepare(self) -> None:
        self._inward.prepare()
        self._outward.prepare()

    def known(self, info: FileInfo) -> bool:
        return self._outward.known(info)

    def move(self, files: Sequence[FileInfo]) -> None:
        run, wanted = self._run, list[FileInfo]()
        for info in files:
            if self.known(info):
                run.skipped(info)
            elif run.dry:
                run.arrived(info, monotonic())
            else:
                wanted.append(info)
        self._inner.tally.clear()
        try:
            self._inward.move(wanted)
        finally:
            for row in self._inner.tally.rows():
                if row.tag not in (FileTag.TRANSF, FileTag.SKIPPED):
                    # Whatever kept it from the spool, it is not the target's doing.
                    tag = FileTag.SRCERR if row.tag is FileTag.TGTERR else row.tag
                    run.tally.add(row.path, row.info, tag)
            run.again = run.again or self._inner.again
        for info in wanted:
            if self._inner.tally.settled(info.path):
                self._out(info)

    def _out(self, info: FileInfo) -> None:
        here = self._spool.look(info.path)
        try:
            if here is not None:
                self._outward.move([here])
                if self._run.tally.settled(info.path):
                    self._run.delete(info)
        finally:
            with suppress(EndError):
                self._spool.remove(info.path)

    def tidy(self) -> None:
        self._inward.tidy()
        self._outward.tidy()
