"""Which files a job is about, and what they are called while they are on their way."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Callable, Sequence

from attrs import frozen
from blake3 import blake3
from pathspec import GitIgnoreSpec

MATCHERS = ("gitignore", "fnmatch")

_NAME_MAX = 180


@frozen
class Rules:
    """Patterns of a source; paths are relative, with ``/``.

    ``match`` "gitignore": a name at any depth, ``*`` stays within a component,
    ``**`` crosses, a leading ``/`` anchors, ``!`` takes back.  "fnmatch" is what
    the patterns of older files meant: ``*`` crosses, nothing anchors.
    """

    files: tuple[str, ...] = ("*",)
    ignore: tuple[str, ...] = (".*",)
    recursive: bool = False
    match: str = "gitignore"

    def matcher(self) -> Matcher:
        """The same, ready for many questions."""
        make = _gitignore if self.match == "gitignore" else _fnmatch
        return Matcher(make(self.files), make(self.ignore), self.recursive)


class Matcher:
    """Answers for one walk."""

    def __init__(
        self, files: Callable[[str], bool], ignore: Callable[[str], bool], recursive: bool
    ) -> None:
        self._files = files
        self._ignore = ignore
        self._recursive = recursive

    def takes(self, path: str) -> bool:
        """Whether a file is to be transferred; of its folders ``enters`` was asked."""
        return self._files(path) and not self._ignore(path)

    def enters(self, path: str) -> bool:
        """Whether to look into a folder."""
        return self._recursive and not self._ignore(path + "/")


def _gitignore(patterns: Sequence[str]) -> Callable[[str], bool]:
    return GitIgnoreSpec.from_lines(patterns).match_file


def _fnmatch(patterns: Sequence[str]) -> Callable[[str], bool]:
    def match(path: str) -> bool:
        path = path.rstrip("/")
        name = posixpath.basename(path)
        return any(
            fnmatch.fnmatchcase(name, each)
            or fnmatch.fnmatchcase(path, each.lstrip("/"))
            or fnmatch.fnmatchcase(path, f"*/{each.lstrip('/')}")
            for each in patterns
        )

    return match


def differs(pattern: str) -> bool:
    """Whether a pattern means something else to fnmatch than to gitignore."""
    return any(each in pattern for each in ("/", "**", "!"))


@frozen
class Temp:
    """What a file is called until it is whole: ``dot``, ``ext:.x`` or ``dir:sub``."""

    kind: str = "dot"
    value: str = ""

    def name(self, path: str, run: str) -> str:
        """The name for ``path``; ``run`` tells the files of one run from those of others."""
        folder, name = posixpath.split(path)
        if self.kind == "dot":
            return posixpath.join(folder, f".{_short(name)}.{run}")
        if self.kind == "ext":
            return posixpath.join(folder, f"{_short(name)}.{run}{self.value}")
        # Equal names of different folders must not meet there.
        flat = path.replace("%", "%25").replace("/", "%2F")
        return posixpath.join(self.value, f"{_short(flat)}.{run}")


def _short(name: str) -> str:
    """Leave room for what is added, within the 255 bytes that a name may have."""
    raw = name.encode(errors="surrogateescape")
    if len(raw) <= _NAME_MAX:
        return name
    # The end, for its extension, and what tells it from others with the same end.
    return blake3(raw).hexdigest(length=8) + raw[-100:].decode(errors="ignore")


def parse_temp(text: str) -> Temp:
    """What ``temp =`` says; ValueError for what it cannot say."""
    kind, _, value = text.partition(":")
    kind, value = kind.strip().lower(), value.strip()
    if kind == "dot" and not value:
        return Temp()
    if kind == "ext" and value.strip("."):
        return Temp("ext", "." + value.lstrip("."))
    parts = value.split("/")
    if kind == "dir" and value and not {"", ".", ".."} & set(parts):
        return Temp("dir", value)
    raise ValueError('is "dot", "ext:.part" or "dir:incoming"')
