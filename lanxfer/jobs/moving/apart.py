"""That what is removed at the source is not the very file that the target holds.

Two ends may be one folder: by a link or a mount, or because a server or a device
on this machine shows it, too.  No name tells that, so it is tried out.
"""

from __future__ import annotations

import posixpath
import secrets
from contextlib import suppress
from typing import Any

from lanxfer.jobs.config.rules import Temp
from lanxfer.jobs.config.settings import JobConfig
from lanxfer.jobs.ends import Broken, End, EndError, FileInfo
from lanxfer.jobs.ends.device import DeviceEnd
from lanxfer.jobs.ends.local import LocalEnd
from lanxfer.storage.plain import same_folder

SAME_FOLDER = (
    "The source and the target are the same folder, so what is removed at one is gone from the"
    " other: name another folder, or say delete = no."
)
SAME_FILE = "What the target holds is this very file."
UNKNOWN = (
    "It was there already, and whether that is not this very file cannot be found out here:"
    " look, and remove it yourself."
)


def one_folder(job: JobConfig) -> bool:
    """Whether a job that removes names the same folder of this machine twice."""
    local = job.source.host.kind == job.target.host.kind == "local"
    return job.source.delete and local and same_folder(job.source.path, job.target.path)


class Apart:
    """Whether two ends are apart: found out for each folder, or file, before that is removed."""

    def __init__(self, job: JobConfig, source: End, target: End, run: str) -> None:
        self._job = job
        self._source: Any = source
        self._target: Any = target
        self._run = run
        self._known = set[str]()
        self._local = isinstance(source, LocalEnd) and isinstance(target, LocalEnd)

    def check(self, dry: bool) -> None:
        """Before anything is moved; EndError where the two are one folder."""
        if one_folder(self._job):
            raise EndError(SAME_FOLDER, again=False)
        if not (dry or self._local or isinstance(self._target, DeviceEnd)):
            try:
                same = self._is_source("")
            except Broken:
                raise
            except EndError:
                return  # what keeps files from arriving there, each of them says
            if same:
                raise EndError(SAME_FOLDER, again=False)

    def gone(self, info: FileInfo, already: bool, copy: str = "") -> bool:
        """Make sure of one file, of which ``already`` says that the target did not need it.

        True where it was removed at the source in finding that out.  ``copy`` is where
        it is on this machine, if the source is not.  EndError where it must stay.
        """
        folder = posixpath.dirname(info.path)
        if self._local:
            if self._source.identity(info.path) == self._target.identity(info.path):
                raise EndError(SAME_FILE, again=False)
        elif folder in self._known:
            return False
        elif not isinstance(self._target, DeviceEnd):
            if self._is_source(folder):
                raise EndError(SAME_FOLDER, again=False)
        elif already:
            # Each one: that it has one of them under another name says nothing of the folder.
            self._ask_again(info, copy)
            return True
        return False

    def _is_source(self, folder: str) -> bool:
        """Whether a new file that is put at the target is to be seen at the source."""
        temp = self._job.target.temp
        if isinstance(self._source, DeviceEnd):
            temp = Temp("ext", ".part")  # a share need not show what is hidden
        elif temp.kind == "dir":
            temp = Temp()  # that would be another folder
        path = temp.name(posixpath.join(folder, secrets.token_hex(8)), self._run)
        writer = self._target.writer(path, 0)
        try:
            writer.write(b"lanxfer\n")
            writer.finish()
            seen = self._source.look(path) is not None
        finally:
            writer.close()
            with suppress(EndError):
                self._target.remove(path)
        if not seen:
            self._known.add(folder)
        return seen

    def _ask_again(self, info: FileInfo, copy: str) -> None:
        """Send it once more while it has another name at the source, and remove it there.

        Nobody can look into an inbox, and a new file in it would stay there.  So the
        receiver is asked for what it is good at: it still has the file, though the
        source has none of that name any more; or it takes it, and then one of that
        name at the source is what it took.
        """
        source = self._source
        local = isinstance(source, LocalEnd)
        if not local and (isinstance(source, DeviceEnd) or not copy):
            raise EndError(UNKNOWN, again=False)
        aside = Temp().name(info.path, self._run)
        source.replace(info.path, aside)
        try:
            way = source.folder.local(aside) if local else copy
            ((_, error, already),) = self._target.send([(info, way)])
            if error is not None:
                raise error
        except BaseException:
            if source.look(info.path) is None:
                source.replace(aside, info.path)
            raise
        same = not already and source.look(info.path) is not None
        source.remove(aside)
        if same:
            raise EndError(SAME_FOLDER, again=False)
