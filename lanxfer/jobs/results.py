"""What came of a job, file by file and in all."""

from __future__ import annotations

import threading
from enum import Enum
from typing import NamedTuple

from attrs import asdict, frozen


class FileTag(Enum):
    """What became of one file; its text is the character."""

    TRANSF = "="
    SRCERR = ">"
    TGTERR = "<"
    SKIPPED = "~"  # there already
    CANCELLED = "!"

    def __str__(self) -> str:
        return str(self.value)


FileTags = FileTag
"""The name it has in other scripts."""


class Row(NamedTuple):
    """One file: its path below source and target, seconds or the reason, the tag."""

    path: str
    info: float | str
    tag: FileTag


@frozen
class JobResult:
    """What a run did.

    ``file_list`` is sorted by path, and None where it was not to be collected.
    ``bytes`` are those of transferred files, ``duration`` is in seconds.
    """

    files_cnt: int = 0
    src_error_cnt: int = 0
    tgt_error_cnt: int = 0
    file_list: tuple[Row, ...] | None = None
    bytes: int = 0
    skipped: int = 0
    duration: float = 0.0

    @property
    def exit_code(self) -> int:
        """0, or 1 where files could not be read or written."""
        return int(bool(self.src_error_cnt or self.tgt_error_cnt))

    def as_row(self) -> dict[str, object]:
        """Plain values, for ``--json``."""
        row = asdict(self, recurse=False)
        if self.file_list is not None:
            row["file_list"] = [[each.path, each.info, str(each.tag)] for each in self.file_list]
        return row


class Tally:
    """What has come of a run so far; a thread counts while others look.

    A file that failed and arrives in a later attempt has arrived: what is said
    last of a path is what holds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._sizes: dict[str, int] = {}

    def add(self, path: str, info: float | str, tag: FileTag, size: int = 0) -> None:
        """Note what became of a file."""
        with self._lock:
            self._rows[path] = Row(path, info, tag)
            self._sizes[path] = size

    def tag(self, path: str) -> FileTag | None:
        """What was said last of a path."""
        row = self._rows.get(path)
        return None if row is None else row.tag

    def settled(self, path: str) -> bool:
        """Whether nothing is left to do for a path."""
        return self.tag(path) in (FileTag.TRANSF, FileTag.SKIPPED)

    def forget_errors(self) -> None:
        """Before another attempt: what failed is to be found anew."""
        with self._lock:
            gone = [path for path, row in self._rows.items() if not self.settled(path)]
            for path in gone:
                del self._rows[path]

    def rows(self) -> list[Row]:
        """All that was said so far."""
        with self._lock:
            return list(self._rows.values())

    def clear(self) -> None:
        """Begin anew."""
        with self._lock:
            self._rows.clear()
            self._sizes.clear()

    def result(self, collect: bool, duration: float) -> JobResult:
        """All of it, as it is now."""
        with self._lock:
            rows = list(self._rows.values())
            arrived = [row.path for row in rows if row.tag is FileTag.TRANSF]
            size = sum(self._sizes[path] for path in arrived)
        count = {tag: sum(row.tag is tag for row in rows) for tag in FileTag}
        return JobResult(
            files_cnt=len(arrived),
            src_error_cnt=count[FileTag.SRCERR],
            tgt_error_cnt=count[FileTag.TGTERR],
            file_list=tuple(sorted(rows)) if collect else None,
            bytes=size,
            skipped=count[FileTag.SKIPPED],
            duration=duration,
        )
