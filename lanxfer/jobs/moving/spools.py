"""Files that rest on this machine on their way from one other to the next."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from lanxfer.jobs.ends import EndError, FileInfo, digest
from lanxfer.jobs.ends.local import LocalEnd
from lanxfer.jobs.moving import Mover, Run
from lanxfer.jobs.results import FileTag


class SpoolMover:
    """Where no end is this machine and one is a lanxfer device: some files in, the same out.

    ``inward`` fills the spool and tells the run ``inner`` of it, which has a tally
    of its own; ``outward`` empties it and tells the run ``outer``, which has the
    job's.  The spool, a folder of nobody else's, is removed in the end.
    """

    batch = 50

    def __init__(
        self, run: Run, spool: LocalEnd, inward: Mover, inner: Run, outward: Mover, outer: Run
    ) -> None:
        self._run = run
        self._spool = spool
        self._inward = inward
        self._inner = inner
        self._outward = outward
        self._outer = outer

    def prepare(self) -> None:
        self._spool.connect()
        self._inner.again = self._outer.again = False
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
        try:
            self._move_in(wanted)
            self._move_out(wanted)
            for info in wanted:
                if run.removing and run.tally.settled(info.path):
                    found = "" if run.time_tells(info) else digest(self._spool, info.path)
                    run.delete(info, found, self._spool.folder.local(info.path))
        finally:
            run.again = run.again or self._inner.again or self._outer.again
            for info in wanted:
                with suppress(EndError):
                    self._spool.remove(info.path)

    def _move_in(self, files: Sequence[FileInfo]) -> None:
        tally = self._inner.tally
        tally.clear()
        try:
            self._inward.move(files)
        finally:
            for row in tally.rows():
                if not tally.settled(row.path):
                    # Whatever kept it from the spool, it is not the target's doing.
                    tag = FileTag.SRCERR if row.tag is FileTag.TGTERR else row.tag
                    self._run.tally.add(row.path, row.info, tag)

    def _move_out(self, files: Sequence[FileInfo]) -> None:
        inside = [info.path for info in files if self._inner.tally.settled(info.path)]
        found = [self._spool.look(path) for path in inside]
        self._outward.move([each for each in found if each is not None])

    def tidy(self) -> None:
        self._inward.tidy()
        self._outward.tidy()
        self._spool.close()
        shutil.rmtree(self._spool.path, ignore_errors=True)
