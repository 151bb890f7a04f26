"""What lanxfer is measured beside: a service and a sender each, with settings of their own.

Nothing of the system's settings is read or changed; what is not installed is
left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from bench.place import Run
from bench.programs import Serving


class Peer:
    """One way to get files across; ``needs`` are the programs it takes."""

    name = ""
    secure = False
    ours = False
    needs: tuple[str, ...] = ()

    def missing(self) -> str:
        """What is not installed; empty where nothing is missing."""
        return ", ".join(each for each in self.needs if find(each) is None)

    def serve(self, run: Run, port: int) -> Sequence[str]:
        """The command line of the service, which listens on ``port`` of loopback."""
        raise NotImplementedError

    def prepare(self, run: Run, port: int, sources: Sequence[Path]) -> None:
        """What has to be there before a sender is measured; the service runs already."""

    def beside(self, run: Run) -> AbstractContextManager[Serving | None]:
        """What sends beside the sender, from before ``prepare`` until it is done."""
        return nullcontext()

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        """The command line of one sender of files or folders."""
        raise NotImplementedError

    def confirm(self, said: str) -> None:
        """Look at what the sender printed; BenchFailed where it was not what is measured."""

    def received(self, run: Run, source: Path) -> Path:
        """Where a source is to be found afterwards."""
        return run.inbox / source.name


def find(program: str) -> str | None:
    """A program's path; services live where an ordinary user's PATH does not look."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")


def path_of(program: str) -> str:
    """The path of a program that is not missing."""
    return find(program) or program


def files_below(source: Path) -> list[tuple[Path, str]]:
    """Each file of a source with the name it is to arrive under."""
    if source.is_file():
        return [(source, source.name)]
    found = sorted(each for each in source.rglob("*") if each.is_file())
    return [(each, str(each.relative_to(source.parent))) for each in found]


def place_half(source: Path, target: Path) -> None:
    """The first half of a file, as a broken transfer leaves it behind."""
    left = source.stat().st_size // 2
    with open(source, "rb") as file, open(target, "wb") as into:
        while left:
            left -= into.write(file.read(min(left, 1 << 20)))
