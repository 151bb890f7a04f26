"""What a sender remembers of the files it read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from lanxfer.storage import sources
from lanxfer.storage.sources import Source, open_source
from lanxfer.wire import limits

STEP = 1024
DATA = os.urandom(10 * STEP + 5)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(limits, "CHECKPOINT", STEP)
    monkeypatch.setattr(limits, "UNIT", 256)
    sources.forget_marks()
    yield
    sources.forget_marks()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file.bin"
    file.write_bytes(DATA)
    return file


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets that were read."""
    offsets: list[int] = []
    real = Source._read_at

    def note(self: Source, offset: int, size: int) -> bytes:
        offsets.append(offset)
        return real(self, offset, size)

    monkeypatch.setattr(Source, "_read_at", note)
    return offsets


def have(offset: int) -> list[tuple[int, str]]:
    return [(offset, blake3(DATA[:offset]).hexdigest())]


# covers: S07
class MarksTests:
    def test_second_reading(self, file: Path, read: list[int]) -> None:
        """Who goes on reads from the checkpoint before it, and the whole digest is right."""
        with open_source(str(file)) as source:
            while source.read(512):
                pass
        read.clear()
        with open_source(str(file)) as source:
            assert source.prove(have(5 * STEP + 100)) == 5 * STEP + 100
            assert min(read) == 5 * STEP
            while source.read(512):
                pass
            assert source.digest() == blake3(DATA).hexdigest()

    def test_changed(self, file: Path, read: list[int]) -> None:
        """Another content is read from its beginning, though its size and mtime are the same."""
        before = os.stat(file)
        with open_source(str(file)) as source:
            while source.read(512):
                pass
        changed = bytes(len(DATA))
        # The system's clock for files ticks slowly.
        while os.stat(file).st_ctime_ns == before.st_ctime_ns:
            file.write_bytes(changed)
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        read.clear()
        with open_source(str(file)) as source:
            assert source.prove(have(5 * STEP)) == 0
            assert min(read) == 0

    def test_read_ahead(self, file: Path, read: list[int]) -> None:
        """What is read while the other side lets wait need not be read for the proof."""
        with open_source(str(file)) as source:
            source.read_ahead()
            read.clear()
            assert source.prove(have(7 * STEP)) == 7 * STEP
            assert read == []
            assert source.read(5) == DATA[7 * STEP : 7 * STEP + 5]

    def test_enough(self, file: Path, read: list[int]) -> None:
        """It ends when it is told, and does no harm."""
        with open_source(str(file)) as source:
            source.enough()
            source.read_ahead()
            assert read == []

    def test_few(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """There are not more of them than fit into little memory."""
        monkeypatch.setattr(sources, "_MARKS_MAX", 4)
        file = tmp_path / "large.bin"
        file.write_bytes(DATA)
        with open_source(str(file)) as source:
            source.read_ahead()
            assert len(source._marks) <= 4
            assert source.prove(have(9 * STEP)) == 9 * STEP
