"""The operations that a real service asks of its disk, read off its system calls in one order.

What the storage does and what SQLite does is seen alike, and so is every
answer that says a file is safe, for the two sides speak plain text here.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from chaos.crashdisk import (
    Attributes,
    CrashDisk,
    Cut,
    Made,
    Named,
    Operation,
    Said,
    Synced,
    SyncedAll,
    Written,
)
from chaos.forked import ChaosFailed
from chaos.tracing import Call

_AT_FDCWD = -100
_UTIME_NOW, _UTIME_OMIT = 2**30 - 1, 2**30 - 2
_SHARED, _WRITABLE = 0x01, 0x02

_PATHS = {
    "open": (None, 0), "creat": (None, 0), "openat": (0, 1),
    "mkdir": (None, 0), "mkdirat": (0, 1), "symlink": (None, 1), "symlinkat": (1, 2),
    "unlink": (None, 0), "rmdir": (None, 0), "unlinkat": (0, 1),
}  # fmt: skip
_PAIRS = {
    "rename": (None, 0, None, 1), "renameat": (0, 1, 2, 3), "renameat2": (0, 1, 2, 3),
    "link": (None, 0, None, 1), "linkat": (0, 1, 2, 3),
}  # fmt: skip
_CONTENT = {
    *("write", "writev", "pwrite64", "ftruncate", "fchmod", "utimensat"),
    *("fsync", "fdatasync", "syncfs"),
}

_UNKNOWN = {
    "sendfile", "splice", "copy_file_range", "fallocate", "truncate", "chmod", "fchmodat",
    "fchmodat2", "mknod", "mknodat", "pwritev", "pwritev2", "sync", "msync",
    "io_uring_setup", "openat2",
}  # fmt: skip
"""They change the disk too, and nobody has written down here how."""

SEEN = {*_PATHS, *_PAIRS, *_CONTENT, *_UNKNOWN, "mmap"}

_FOLDER = Said("", "")
"""In the place of a folder that goes with files; only what is in them is looked for."""


@define
class Recording:
    """What ``Tracer`` hears, as operations on the folders named ``roots``."""

    roots: list[Path]
    operations: list[Operation] = field(factory=list)
    start: CrashDisk = field(init=False)
    _device: int = field(init=False)
    _known: set[int] = field(init=False)
    _ready: dict[int, Callable[[int], Operation | None]] = field(factory=dict)
    _lines: dict[int, bytes] = field(factory=dict)
    _asked: dict[int, bytes] = field(factory=dict)
    _packs: dict[tuple[int, int], list[Said]] = field(factory=dict)
    _answer: tuple[list[Said], int] = field(factory=lambda: ([], 0))

    def __attrs_post_init__(self) -> None:
        self.start = CrashDisk.load(self.roots)
        self._known = set(self.start.nodes)
        self._device = self.roots[0].stat().st_dev

    def alone(self, call: Call) -> bool:
        """Whether nothing else may happen meanwhile."""
        return call.name in SEEN

    def before(self, call: Call) -> None:
        """A call is about to be made."""
        if call.name == "sendto":
            self._hear(call)
        elif call.name in SEEN:
            ready = self._prepare(call)
            if ready is not None:
                self._ready[call.tid] = ready

    def after(self, call: Call, result: int) -> None:
        """It was made."""
        if call.name == "recvfrom" and result > 0:
            self._overhear(call, result)
        ready = self._ready.pop(call.tid, None)
        if ready is not None and result >= 0:
            operation = ready(result)
            if operation is not None:
                self.operations.append(operation)

    # The calls.

    def _prepare(self, call: Call) -> Callable[[int], Operation | None] | None:
        if call.name in _PAIRS:
            return self._pair(call)
        if call.name in _PATHS:
            return self._path(call)
        descriptor = call.descriptor(4) if call.name == "mmap" else call.descriptor()
        node = self._node(f"/proc/{call.tid}/fd/{descriptor}") if descriptor >= 0 else None
        if node is None:
            return None
        if call.name == "mmap":
            self._map(call, descriptor)
            return None
        if call.name in _UNKNOWN:
            raise ChaosFailed(f"The recording does not know what {call.name} does.")
        return self._content(call, descriptor, node)

    def _content(self, call: Call, descriptor: int, node: int) -> Callable[[int], Operation | None]:
        args = call.args
        match call.name:
            case "write" | "writev":
                at = self._position(call, descriptor)
                return lambda result: Written(node, at, self._data(call, result))
            case "pwrite64":
                return lambda result: Written(node, args[3], call.memory(args[1], result))
            case "ftruncate":
                return lambda _: Cut(node, args[1])
            case "fchmod":
                return lambda _: Attributes(node, args[1] & 0o7777, None)
            case "utimensat":
                times = struct.unpack("4q", call.memory(args[2], 32))
                return lambda _: Attributes(node, None, times[2] * 10**9 + times[3])
            case "syncfs":
                return lambda _: SyncedAll()
            case name:
                return lambda _: Synced(node, name == "fsync")

    def _data(self, call: Call, size: int) -> bytes:
        if call.name == "write":
            return call.memory(call.args[1], size)
        found = b""
        pieces = call.memory(call.args[1], 16 * call.args[2])
        for address, length in struct.iter_unpack("2Q", pieces):
            found += call.memory(address, min(length, size - len(found)))
        return found

    def _position(self, call: Call, descriptor: int) -> int:
        lines = Path(f"/proc/{call.tid}/fdinfo/{descriptor}").read_text().splitlines()
        fields = dict(line.split(":\t") for line in lines if ":\t" in line)
        if int(fields["flags"], 8) & os.O_APPEND:
            raise ChaosFailed("The recording does not know where an appended write goes.")
        return int(fields["pos"])

    def _map(self, call: Call, descriptor: int) -> None:
        shared = call.args[3] & _SHARED and call.args[2] & _WRITABLE
        path = os.readlink(f"/proc/{call.tid}/fd/{descriptor}")
        # SQLite keeps an index there that it throws away after a crash.
        if shared and not path.endswith("-shm"):
            raise ChaosFailed(f"The recording does not see what is written to {path} by memory.")

    def _path(self, call: Call) -> Callable[[int], Operation | None] | None:
        at, text = _PATHS[call.name]
        folder, path = self._where(call, at, text)
        if folder is None:
            return None
        name = os.path.basename(path)
        there = os.path.lexists(path)
        if call.name in ("unlink", "unlinkat", "rmdir"):
            return lambda _: Named(((folder, name, None),))
        if call.name in ("mkdir", "mkdirat"):
            return lambda _: self._made(folder, name, path, "folder")
        if call.name in ("symlink", "symlinkat"):
            return lambda _: self._made(folder, name, path, "link", call.text(0))
        flags = call.args[2] if call.name == "openat" else call.args[1]
        if call.name == "creat" or flags & os.O_TMPFILE == os.O_TMPFILE:
            raise ChaosFailed(f"The recording does not know what this {call.name} does.")
        if not there and flags & os.O_CREAT:
            return lambda _: self._made(folder, name, path, "file")
        node = self._node(path)
        if node is not None and flags & os.O_TRUNC:
            return lambda _: Cut(node, 0)
        return None

    def _made(self, folder: int, name: str, path: str, kind: str, target: str = "") -> Made:
        node = os.lstat(path).st_ino
        self._known.add(node)
        return Made(folder, name, node, kind, target)

    def _pair(self, call: Call) -> Callable[[int], Operation | None] | None:
        at, text, to, new = _PAIRS[call.name]
        source, path = self._where(call, at, text)
        folder, other = self._where(call, to, new)
        if source is None and folder is None:
            return None
        node = self._node(path)
        if source is None or folder is None or node is None:
            raise ChaosFailed(f"{call.name} leads out of what is recorded.")
        made = (folder, os.path.basename(other), node)
        if call.name in ("link", "linkat"):
            return lambda _: Named((made,))
        gone = (source, os.path.basename(path), None)
        return lambda _: Named((gone, made))

    def _where(self, call: Call, at: int | None, text: int) -> tuple[int | None, str]:
        """The folder a path leads to, if it is one of ours, and the path for this process."""
        path = call.text(text)
        base = f"/proc/{call.tid}/cwd"
        if at is not None and call.descriptor(at) != _AT_FDCWD:
            base = f"/proc/{call.tid}/fd/{call.descriptor(at)}"
        path = os.path.join(base, path)
        return self._node(os.path.dirname(path) or "/"), path

    def _node(self, path: str) -> int | None:
        with suppress(OSError):
            found = os.stat(path)
            if found.st_dev == self._device and found.st_ino in self._known:
                return found.st_ino
        return None

    # What is said.

    def _hear(self, call: Call) -> None:
        descriptor = call.descriptor()
        heard = self._lines.get(descriptor, b"") + call.memory(call.args[1], call.args[2])
        *lines, self._lines[descriptor] = heard.split(b"\n")
        for line in lines:
            files, rows = self._answer
            if rows:
                self._outcome(files, json.loads(line))
                self._answer = files, rows - 1
            elif line.startswith(b'{"ok"'):
                said = json.loads(line)
                if said.get("blake3"):
                    self.operations.append(Said(said["stored"], said["blake3"]))
                elif "files" in said:
                    self._answer = self._packs.pop((descriptor, said["ok"])), said["rows"]
            else:
                continue
            files, rows = self._answer
            if not rows:
                self.operations += [each for each in files if each.stored]
                self._answer = [], 0

    def _outcome(self, files: list[Said], row: dict[str, Any]) -> None:
        """A row of the answer to many files: another name, or none."""
        if files[row["at"]] is not _FOLDER and ("stored" in row or "error" in row):
            files[row["at"]] = Said(row.get("stored", ""), files[row["at"]].digest)

    def _overhear(self, call: Call, size: int) -> None:
        """Requests, for the names of files that are sent together: their answer has none."""
        descriptor = call.descriptor()
        heard = self._asked.get(descriptor, b"") + call.memory(call.args[1], size)
        while b"\n" in heard:
            line, _, rest = heard.partition(b"\n")
            if not line.startswith(b"{"):
                return  # another dialect
            packet = json.loads(line)
            body = packet.get("body", 0)
            if len(rest) < body:
                break
            if packet.get("name") == "recv_files":
                rows = rest[: packet["manifest"]].splitlines()
                files = [
                    Said(row[0], row[3]) if len(row) > 1 else _FOLDER
                    for row in map(json.loads, rows)
                ]
                self._packs[descriptor, packet["do"]] = files
            heard = rest[body:]
        self._asked[descriptor] = heard
