"""A folder of this device that other devices may look into, and change where its owner said so.

The same rule as for what is received: every component is opened from the
descriptor of the one above it and never through a link, so a link in a shared
folder is shown as what it is and leads nowhere.  What a peer wrote comes in as
``SafePath``, or as None for the shared folder itself.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from attrs import frozen

from lanxfer.errors import (
    BadConfig,
    BadName,
    BadState,
    DiskFull,
    Exists,
    Forbidden,
    LanxferError,
    NotFound,
)
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import RESERVED, SafePath, is_hidden, quoted, safe_path, shown
from lanxfer.storage.sources import Source
from lanxfer.storage.staging import NAME as STAGING
from lanxfer.storage.system import FILE_FLAGS, FOLDER_FLAGS, close, rename_new, sync, typed
from lanxfer.storage.tree import Tree
from lanxfer.wire import limits

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SPEC = re.compile(r"([^=/:]+)=(.+?)(?::(ro|rw))?", re.DOTALL)

SORTED_MAX = 10_000
"""Entries of a folder that are given in order; of a larger one they come as the disk has them."""


@frozen
class ShareSpec:
    """What ``--share NAME=DIR[:ro|rw]`` says, or ``--share NAME=URL[:ro|rw]``."""

    name: str
    folder: str
    writable: bool = False

    @property
    def remote(self) -> bool:
        """Whether ``folder`` is the URL of a store, and no folder of this device."""
        return _URL.match(self.folder) is not None


def parse_share(text: str) -> ShareSpec | None:
    """A named share; None for a bare folder, BadConfig for a name that cannot be one."""
    found = _SPEC.fullmatch(text)
    if found is None:
        return None
    name, folder, mode = found.groups()
    try:
        safe_path(name)
    except BadName as error:
        raise BadConfig(f"--share: {error.reason}") from None
    return ShareSpec(name, folder, mode == "rw")


Row = dict[str, Any]


class Share:
    """One shared folder; ``store`` takes what is put there, and is None where nothing may be.

    Without ``dotfiles`` what is hidden is not shown.  Every method blocks, and raises
    NotFound for what is not there.
    """

    def __init__(
        self, name: str, folder: str, store: LocalStore | None, dotfiles: bool = False
    ) -> None:
        self.name = name
        self.store = store
        self.dotfiles = dotfiles
        try:
            self._root = os.open(os.path.realpath(folder), FOLDER_FLAGS)
        except OSError as error:
            raise BadState(
                f"The folder {quoted(folder)} cannot be shared ({error.strerror})."
            ) from error
        self._tree = Tree(self._root)
        self._changing = threading.Lock()

    @property
    def volume(self) -> None:
        """None: nothing is waited for but the disk."""

    def close(self) -> None:
        """Let go of the folder; the store is closed by whoever made it."""
        fd, self._root = self._root, -1
        if fd >= 0:
            close(fd)

    # Looking.

    def stat(self, path: SafePath | None) -> Row:
        """Kind, size and time of what is there, links not followed."""
        with typed_at(path):
            if path is None:
                return _row(self.name, os.fstat(self._root))
            with self._folder(path.parent) as folder:
                return _described(folder, path.name)

    def scan(self, path: SafePath | None) -> Generator[Row, None, None]:
        """What is in a folder, lazily, never its own names of lanxfer's.

        A name that no path could spell comes with ``unusable``, so that it is not missing.
        """
        parts = () if path is None else path.parts
        with typed_at(path), self._folder(parts) as above:
            # Of its own: the iterator lives longer than the way down.
            fd = os.open(".", FOLDER_FLAGS, dir_fd=above)
        try:
            with typed_at(path), os.scandir(fd) as entries:
                names = (each.name for each in entries if self._shown(each.name))
                first = list(islice(names, SORTED_MAX))
                if len(first) < SORTED_MAX:
                    first.sort()
                for name in first:
                    yield from _listed(fd, name)
                for name in names:
                    yield from _listed(fd, name)
        finally:
            close(fd)

    def _shown(self, name: str) -> bool:
        hidden = is_hidden(name) and not self.dotfiles
        return not (hidden or name.casefold().startswith(RESERVED))

    def open(self, path: SafePath | None) -> Source:
        """A regular file, to be read; whoever opens it closes it."""
        if path is None:
            raise BadName("That is a folder.")
        with typed_at(path), self._folder(path.parent) as folder:
            try:
                fd = os.open(path.name, os.O_RDONLY | FILE_FLAGS, dir_fd=folder)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.EMLINK}:
                    raise Forbidden("Links are not followed there.") from error
                raise
            try:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    raise BadName(f"{quoted(str(path))} is no file.")
                return Source(str(path), fd, found)
            except BaseException:
                close(fd)
                raise

    # Changing.

    def make_folder(self, path: SafePath | None, *, parents: bool, exist_ok: bool) -> bool:
        """Make a folder; whether it is new.  Exists where it is there and ``exist_ok`` is not."""
        if path is None:
            raise Exists()
        with self._changing, typed_at(path):
            if not parents:
                with self._folder(path.parent):
                    pass
            facts = None
            with self._tree.find(path.parent) as folder:
                if folder is not None:
                    facts = self._tree.look(folder, path.name)
            if facts is not None and (facts.kind != "folder" or not exist_ok):
                raise Exists(f"There is a {facts.kind} of that name.")
            with self._tree.reach(path.parts):
                return facts is None

    def move(self, path: SafePath | None, to: SafePath | None, *, overwrite: bool) -> None:
        """Give something another name; only a file replaces a file, and only with ``overwrite``."""
        if path is None or to is None:
            raise Forbidden("The shared folder itself stays where it is.")
        if to.parts[: len(path.parts)] == path.parts and to != path:
            raise BadName("A folder cannot be moved into itself.")
        with (
            self._changing,
            typed_at(path),
            self._folder(path.parent) as above,
            self._folder(to.parent) as below,
        ):
            facts = self._tree.look(above, path.name)
            there = self._tree.look(below, to.name)
            if facts is None:
                raise NotFound(f"There is no {quoted(str(path))}.")
            if there is not None and (not overwrite or {facts.kind, there.kind} - {"file", "link"}):
                raise Exists(f"There is a {there.kind} of that name.")
            if overwrite or not rename_new(path.name, to.name, above, below):
                if facts.kind == "file" and not overwrite:
                    # Not in one step, but it does not replace what got that name just now.
                    os.link(
                        *(path.name, to.name),
                        src_dir_fd=above,
                        dst_dir_fd=below,
                        follow_symlinks=False,
                    )
                    os.unlink(path.name, dir_fd=above)
                else:
                    if not overwrite and self._tree.look(below, to.name) is not None:
                        raise Exists()
                    os.rename(path.name, to.name, src_dir_fd=above, dst_dir_fd=below)
            self._tree.sync_folder(below)
            self._tree.sync_folder(above)

    def append(self, path: SafePath | None, tail: SafePath | None) -> int:
        """Add what is in the file ``tail`` to the end of another, and remove ``tail``.

        One after the other, and all of it or nothing, but for a crash in the middle; gives
        the size there is then.  Durable when it returns.
        """
        if path is None or tail is None or path == tail:
            raise BadName("A file is added to another one.")
        with self._changing, typed_at(path), self._folder(path.parent) as folder:
            with self.open(tail) as source:
                if self.store is not None and source.size > self.store.free():
                    raise DiskFull()
                fd = _open_end(folder, path.name)
                try:
                    before = os.fstat(fd).st_size
                    try:
                        while data := source.read(limits.UNIT):
                            view = memoryview(data)
                            while view:
                                view = view[os.write(fd, view) :]
                        source.check_unchanged()
                        sync(fd)
                    except BaseException:
                        os.ftruncate(fd, before)
                        raise
                    size = before + source.size
                finally:
                    close(fd)
            with self._folder(tail.parent) as above:
                os.unlink(tail.name, dir_fd=above)
            return size

    def remove(self, path: SafePath | None, *, recursive: bool) -> None:
        """Remove a file, a link or an empty folder; with ``recursive`` all that is below it.

        Links are removed and never followed.
        """
        if path is None:
            raise Forbidden("The shared folder itself stays where it is.")
        with self._changing, typed_at(path), self._folder(path.parent) as folder:
            facts = self._tree.look(folder, path.name)
            if facts is None:
                raise NotFound(f"There is no {quoted(str(path))}.")
            if facts.kind != "folder":
                os.unlink(path.name, dir_fd=folder)
            elif recursive:
                shutil.rmtree(path.name, dir_fd=folder)
            else:
                os.rmdir(path.name, dir_fd=folder)
            self._tree.sync_folder(folder)

    @contextmanager
    def _folder(self, parts: tuple[str, ...]) -> Iterator[int]:
        with self._tree.find(parts) as folder:
            if folder is None:
                raise NotFound(f"There is no folder {quoted('/'.join(parts))}.")
            yield folder


def _open_end(folder: int, name: str) -> int:
    """A regular file, open for adding to its end."""
    try:
        fd = os.open(name, os.O_WRONLY | os.O_APPEND | FILE_FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK}:
            raise Forbidden("Links are not followed there.") from error
        if error.errno in {errno.EISDIR, errno.ENXIO}:
            raise BadName(f"{quoted(name)} is no file.") from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        close(fd)
        raise BadName(f"{quoted(name)} is no file.")
    return fd


@contextmanager
def typed_at(path: SafePath | None) -> Iterator[None]:
    """What goes wrong at a path that a peer named, as the error it is told."""
    with typed():
        try:
            yield
        except FileNotFoundError:
            raise NotFound(f"There is no {quoted(str(path))}.") from None
        except FileExistsError:
            raise Exists() from None
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                raise Exists("That folder is not empty.") from error
            raise


_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


def _row(name: str, found: os.stat_result) -> Row:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
    return {
        "name": name,
        "kind": kind,
        "size": found.st_size if kind == "file" else 0,
        "mtime_ns": max(0, found.st_mtime_ns),
    }


def _described(folder: int, name: str) -> Row:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    row = _row(name, found)
    if row["kind"] == "link":
        row["target"] = shown(os.readlink(name, dir_fd=folder), 1000)
    return row


def _listed(folder: int, name: str) -> Iterator[Row]:
    try:
        row = _described(folder, name)
    except FileNotFoundError:
        return  # gone since its name was read
    try:
        if safe_path(name, dotfiles=True).parts != (name,):
            raise BadName("")
    except LanxferError:
        row = {**row, "name": shown(name, 1000), "unusable": True}
    yield row


def folders_of(texts: Sequence[str]) -> list[str]:
    """The folders of this device that ``--share`` named, with a name or without one."""
    specs = [(text, parse_share(text)) for text in texts]
    local = [(text, spec) for text, spec in specs if spec is None or not spec.remote]
    return [text if spec is None else spec.folder for text, spec in local]


def lies_in(path: str, folder: str) -> bool:
    """Whether one folder is another, or is somewhere below it."""
    real, top = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, top]) == top


def is_reached(path: str, folder: str, dotfiles: bool) -> bool:
    """Whether who puts things into one folder could put them into another one, too.

    Without ``dotfiles`` not where a hidden folder lies between.
    """
    if not lies_in(path, folder):
        return False
    between = os.path.relpath(os.path.realpath(path), os.path.realpath(folder)).split(os.sep)
    return dotfiles or between == ["."] or not any(map(is_hidden, between))


def open_target(folder: str) -> LocalStore:
    """The store that something is fetched into; BadState where another lanxfer uses the folder."""
    return LocalStore(folder, dotfiles=True, weak=True, reserve_bytes=0, reserve_share=0.0)


def close_target(folder: str, store: LocalStore) -> None:
    """Close it, and leave no folder of part files behind where there are none to go on with."""
    staging = os.path.join(folder, STAGING)
    with suppress(OSError):
        if os.listdir(staging) == ["lock"]:
            os.unlink(os.path.join(staging, "lock"))
            os.rmdir(staging)
    store.close()


def fetch_target(local: str, name: str) -> tuple[str, str]:
    """Folder and name for what is fetched to ``local``: into it, where that is a folder."""
    if os.path.isdir(local) or local.endswith(os.sep):
        return os.path.abspath(local), name
    whole = os.path.abspath(local)
    return os.path.dirname(whole), os.path.basename(whole)
