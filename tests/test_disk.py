"""Where blocking work goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from lanxfer.disk import Disk
from lanxfer.errors import DiskFull
from lanxfer.testing import MemoryDisk


class _Loop:
    """A reactor to which results come at once."""

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)

    def addSystemEventTrigger(self, *args: Any) -> object:
        return args

    def removeSystemEventTrigger(self, trigger: object) -> None: ...


def results(done: Deferred[Any]) -> list[Any]:
    found: list[Any] = []
    done.addBoth(found.append)
    return found


def _no_space() -> None:
    raise OSError(28, "No space left on device")


class AfterTheEndTests:
    def test_done_at_once(self) -> None:
        """What is asked of a pool that was stopped is done and not dropped."""
        loop: Any = _Loop()
        disk = Disk(loop)
        disk.start()
        disk.stop()
        assert results(disk.run(lambda: 5)) == [5]

    def test_errors(self) -> None:
        """Its errors are typed as ever."""
        loop: Any = _Loop()
        disk = Disk(loop)
        disk.start()
        disk.stop()
        (why,) = results(disk.run(_no_space))
        assert isinstance(why.value, DiskFull)


_FAILS = """
import sys
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from lanxfer.service import Settings, TransferService

async def main(reactor):
    service = TransferService(reactor, Settings(inbox=sys.argv[1], state=sys.argv[2], port=0))
    service.startService()
    await service.when_listening()
    raise KeyError("a mistake of the program")

react(lambda reactor: ensureDeferred(main(reactor)))
"""


class ProgramTests:
    def test_fails(self, tmp_path: Path) -> None:
        """A program that fails while its service runs ends, with its own error."""
        folders = [str(tmp_path / "inbox"), str(tmp_path / "state")]
        done = subprocess.run(
            [sys.executable, "-c", _FAILS, *folders],
            env={**os.environ, "LANXFER_ALLOW_ROOT": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "a mistake of the program" in done.stderr


class MemoryDiskTests:
    def test_overtaking(self) -> None:
        """A held disk does its work in the order it is told."""
        disk = MemoryDisk(held=True)
        done: list[int] = []
        for number in range(3):
            disk.run(done.append, number)
        disk.work_at(1)
        assert done == [1]
        assert disk.work() == 2
        assert done == [1, 0, 2]
