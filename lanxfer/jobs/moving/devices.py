"""Files to and from lanxfer devices, many at a time: what is whole there, they say themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic

from lanxfer.jobs.ends import Broken, EndError, FileInfo, SourceTrouble
from lanxfer.jobs.ends.device import DeviceEnd, Outcome
from lanxfer.jobs.ends.local import LocalEnd
from lanxfer.jobs.moving import Run
from lanxfer.jobs.results import FileTag


class _DeviceMover:
    """What both ways have in common."""

    def __init__(self, run: Run, local: LocalEnd, device: DeviceEnd) -> None:
        self._run = run
        self._local = local
        self._device = device

    def known(self, info: FileInfo) -> bool:
        return self._run.trusts(info, self._look(info.path))

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
        since, broken = monotonic(), None
        for info, error, already in self._begin(left) if left else ():
            try:
                self._tell(info, error, already, since)
            except Broken as why:
                broken = why  # what has arrived is told of all the same
        run.keep_on()
        if broken is not None:
            raise broken
        run.delete_due()

    def _tell(self, info: FileInfo, error: EndError | None, already: bool, since: float) -> None:
        run = self._run
        if error is None:
            if already:
                run.skipped(info)
                run.delete_later(info)
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


class SendMover(_DeviceMover):
    """From this machine to a lanxfer device, many files at a time."""

    batch = 1000

    def __init__(self, run: Run, local: LocalEnd, device: DeviceEnd) -> None:
        super().__init__(run, local, device)
        self._there: dict[str, FileInfo] = {}

    def prepare(self) -> None:
        """Look once at what a shared folder holds; an inbox tells by itself."""
        self._there = {each.path: each for each in self._device.all_files()}

    def _look(self, path: str) -> FileInfo | None:
        return self._there.get(path)

    def _begin(self, files: Sequence[FileInfo]) -> Iterator[Outcome]:
        return self._device.send([(info, self._local.folder.local(info.path)) for info in files])


class FetchMover(_DeviceMover):
    """From a lanxfer device to this machine, several files at a time."""

    batch = 500

    def prepare(self) -> None:
        """Each file is looked at when its turn comes."""

    def _look(self, path: str) -> FileInfo | None:
        return self._local.look(path)

    def _begin(self, files: Sequence[FileInfo]) -> Iterator[Outcome]:
        return self._device.fetch(files, self._local.path)
