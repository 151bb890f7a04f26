"""Files that pass through this machine's memory, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from attrs import define, field
from blake3 import blake3

from lanxfer.jobs.ends import CHUNK, Broken, EndError, FileInfo, StreamEnd, digest
from lanxfer.jobs.moving import Run, Stopped
from lanxfer.jobs.results import FileTag

MARK_EVERY = 1024 * 1024
MARKS_MAX = 32
"""Running digests that are kept of a file under way: a retry goes on from one of them."""


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

    def __init__(self, run: Run, source: StreamEnd, target: StreamEnd) -> None:
        self._run = run
        self._source = source
        self._target = target
        self._halves: dict[str, _Half] = {}

    def prepare(self) -> None:
        """Each file is looked at when its turn comes."""

    def move(self, files: Sequence[FileInfo]) -> None:
        for info in files:
            self._move(info)

    def _move(self, info: FileInfo) -> None:
        run, since = self._run, monotonic()
        try:
            found = self._there_already(info)
            if found is not None:
                run.skipped(info)
            else:
                found = "" if run.dry else self._copy(info)
                run.arrived(info, since)
        except Stopped:
            run.tally.add(info.path, "stopped", FileTag.CANCELLED)
            raise
        except _OfSource as trouble:
            self._tell(info, FileTag.SRCERR, trouble.error)
        except EndError as error:
            self._tell(info, FileTag.TGTERR, error)
        else:
            run.delete(info, found)

    def _tell(self, info: FileInfo, tag: FileTag, error: EndError) -> None:
        if self._run.stopping.is_set():
            self._run.tally.add(info.path, "stopped", FileTag.CANCELLED)
            raise Stopped from error
        self._run.failed(info.path, tag, error.reason, error.again)
        if isinstance(error, Broken):
            raise error

    def known(self, info: FileInfo) -> bool:
        return self._run.trusts(info, self._target.look(info.path))

    def _there_already(self, info: FileInfo) -> str | None:
        """Its digest where it is, "" where nobody has to know; None where it is not."""
        run, skip = self._run, self._run.job.target.skip
        there = self._target.look(info.path)
        if there is None:
            return None
        if there.kind != "file":
            raise EndError(f"There is a {there.kind} of that name.", again=False)
        if run.trusts(info, there):
            return ""
        if skip == "none" or there.size != info.size:
            return None
        if skip == "size,mtime" and not info.same(there):
            return None
        # What is to be removed here is not taken on trust from a size and a time.
        with _fault_of_source():
            found = digest(self._source, info.path, run.keep_on)
        if found != digest(self._target, info.path, run.keep_on):
            return None
        if run.job.source.delete and not run.dry:
            self._target.settle(info.path)
        return found

    def _copy(self, info: FileInfo) -> str:
        target = self._target
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
        return found

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
            there = self._target.look(half.part)
            offset, running = half.go_on(0 if there is None else there.size)
        if offset:
            run.log.info("going on with %s at %d of %d bytes", info.path, offset, info.size)
        with _fault_of_source():
            reader = self._source.reader(info.path, offset)
        try:
            writer = self._target.writer(half.part, offset)
        except EndError:
            half.marks.clear()  # not every server goes on in the middle
            reader.close()
            raise
        try:
            while True:
                run.keep_on()
                with _fault_of_source():
                    data = reader.read(CHUNK)
                if not data:
                    break
                writer.write(data)
                running.update(data)
                offset += len(data)
                half.note(offset, running)
            with _fault_of_source():
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
        there = self._target.look(half.part)
        size = -1 if there is None else there.size
        good = size == half.info.size
        if good and (verify == "digest" or (verify == "auto" and run.job.source.delete)):
            good = digest(self._target, half.part, run.keep_on) == found
        if not good:
            half.marks.clear()
            raise EndError(f"The target holds something else ({size} bytes) than was sent.")

    def tidy(self) -> None:
        halves, self._halves = list(self._halves.values()), {}
        run = self._run
        if halves and not self._target.alive():
            with suppress(EndError):
                self._target.connect()
        for half in halves:
            with suppress(EndError):
                if self._target.look(half.part) is not None:
                    self._target.remove(half.part)
        temp = run.job.target.temp
        if temp.kind == "dir" and not run.dry:
            with suppress(EndError):
                self._target.remove_folder(temp.value)


class _OfSource(Exception):
    def __init__(self, error: EndError) -> None:
        self.error = error


@contextmanager
def _fault_of_source() -> Iterator[None]:
    try:
        yield
    except EndError as error:
        raise _OfSource(error) from error
