"""A job from its first connection to its last file, as often as that is tried."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Callable, Iterator
from contextlib import suppress

from lanxfer.jobs.config.rules import Matcher
from lanxfer.jobs.ends import Broken, End, EndError, FileInfo, Refused, walk
from lanxfer.jobs.ends.device import DeviceEnd
from lanxfer.jobs.errors import ConnectError, NotReadyError, TransferError
from lanxfer.jobs.moving import Mover, Run, Stopped
from lanxfer.jobs.results import FileTag


class Attempts:
    """A job from its first connection to its last file; ``attempt`` may be called again.

    ``begun`` is called once, when it is known that it is to run at all.
    """

    def __init__(self, run: Run, mover: Mover, begun: Callable[[], object]) -> None:
        self.run = run
        self._begun = begun
        self._mover = mover
        self._ready: list[FileInfo] = []
        self._began = False
        self._connected = set[str]()

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
            self._connect("source", run.source)
            if not self._began:
                self._look_whether_ready()
                self._began = True
                self._begun()
            self._connect("target", run.target)
            if run.job.source.delete:
                run.apart.check(run.dry)
            run.delete_due()
            self._mover.prepare()
            for files in self._batches():
                run.keep_on()
                self._mover.move(files)
            result = run.tally.result(False, 0.0)
            if not result.exit_code and not run.dry:
                self._remove_ready()
        except EndError as error:
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

    def _connect(self, name: str, end: End) -> None:
        if name in self._connected and end.alive():
            return
        try:
            end.connect()
        except (Refused, Broken) as error:
            self.run.keep_on()  # what was aborted breaks
            raise ConnectError(error.reason, again=error.again) from error
        self._connected.add(name)
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
                each
                for each in found
                if each.kind == "file"
                and fnmatch.fnmatchcase(posixpath.basename(each.path), pattern)
            ]
        elif (there := self.run.source.look(named)) is not None:
            self._ready = [there]
        if not self._ready:
            raise NotReadyError(f"{named} is not there.")

    def _remove_ready(self) -> None:
        run = self.run
        for info in self._ready:
            # Whoever wrote it anew announced what comes next.
            if run.unchanged(info):
                run.source.remove(info.path)
            else:
                run.log.info("%s is another one by now and stays there", info.path)
        self._ready = []

    def _batches(self) -> Iterator[list[FileInfo]]:
        run, batch = self.run, list[FileInfo]()
        matcher: Matcher = run.job.source.rules.matcher()
        ready = {each.path for each in self._ready}
        portable = isinstance(run.target, DeviceEnd)  # which makes names NFC
        for info in walk(run.source, matcher, portable=portable):
            run.keep_on()
            if info.path in ready or run.tally.settled(info.path):
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
