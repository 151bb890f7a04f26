"""Where files are written before they have a name: ``.lanxfer-staging`` in the receiving folder.

The names in it are keys, or numbers of our own for small files that come whole and for new
folders of such, never anything a peer wrote, and the folder is open
to its owner only, so nobody can plant a file there.  All the same whatever is
found is looked at before it is used: it must be a plain file of our own with
one link.  A second link means that a crash came between publishing and
clearing up, and writing to it would change a file that was acknowledged.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache

from attrs import frozen
from blake3 import blake3

from lanxfer.errors import BadState, Busy
from lanxfer.storage.names import RESERVED, whose
from lanxfer.storage.rules import refuse_key
from lanxfer.storage.system import FILE_FLAGS, FOLDER_FLAGS, SyncFailed, close, flock, sync
from lanxfer.storage.unsynced import Unsynced
from lanxfer.storage.wholes import Wholes

NAME = f"{RESERVED}-staging"

_STAGED = re.compile(r"([0-9a-f]{32})\.part\Z")
_LOCK = "lock"
_PROBES = ("probe-a", "probe-b", "PROBE-A")

# What else than a plain file can lie at a part's name; none of it is worth keeping.
_USELESS = {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.EACCES, errno.EPERM}

QUICK = 0.0005
"""Seconds below which it gains nothing to let another thread work meanwhile."""

# Closed parts whose running digests are kept, a few KiB each.
_KEPT_MAX = 256


@lru_cache(1024)
def staged(key: str) -> str:
    """The name of a part file; BadName for what is no key."""
    refuse_key(key)
    return f"{key}.part"


@frozen
class Abilities:
    """What the file system can do."""

    links: bool
    folder_sync: bool
    case: bool
    locks: bool


@frozen
class _Kept:
    """The running digests of a part as its writer left it, valid while the file stays as it is."""

    inode: int
    size: int
    mtime_ns: int
    running: Mapping[int, blake3]


def _complaint(fd: int, root: int) -> str:
    """Why a folder cannot be the one for part files; empty where it can."""
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return "is open to others; its mode must be 0700"
    if found.st_dev != os.fstat(root).st_dev:
        return "is on another file system than the folder itself"
    return ""


class Staging:
    """The folder of part files below ``root``; there is one such object a folder, by lock.

    Raises BadState where the folder is not ours alone or in use.
    """

    def __init__(self, root: int) -> None:
        self._mutex = threading.Lock()
        self.turn = threading.Lock()
        """For whoever takes many small steps, without waiting for the disk in it: threads that
        do so at once take the interpreter from one another with each of them, which costs more
        than the steps."""
        self._waits: deque[float] = deque([QUICK], maxlen=8)
        self._open: set[str] = set()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.unsynced = Unsynced()
        # A jump of the wall clock must not make parts look old.
        self._started = time.time() - time.monotonic()
        self.fd = self._open_folder(root)
        self._lock = -1
        try:
            self._lock, locks = self._take_lock()
            self.abilities = self._probe(locks)
            # The keys of parts that nobody writes to, as far as they were seen.
            self._left = {match[1] for match in map(_STAGED.match, os.listdir(self.fd)) if match}
            self.wholes = Wholes(self.fd)
        except BaseException:
            self.close()
            raise

    def _open_folder(self, root: int) -> int:
        with suppress(FileExistsError):
            os.mkdir(NAME, 0o700, dir_fd=root)
            with suppress(SyncFailed):  # the probe finds out what that means
                sync(root)
        try:
            fd = os.open(NAME, FOLDER_FLAGS, dir_fd=root)
        except OSError as error:
            raise BadState(f'"{NAME}" in the receiving folder is no folder of ours.') from error
        try:
            complaint = _complaint(fd, root)
        except BaseException:
            close(fd)
            raise
        if complaint:
            close(fd)
            raise BadState(f'"{NAME}" in the receiving folder {complaint}.')
        return fd

    def _take_lock(self) -> tuple[int, bool]:
        flags = os.O_RDWR | os.O_CREAT | FILE_FLAGS
        try:
            fd = os.open(_LOCK, flags, 0o600, dir_fd=self.fd)
        except OSError as error:
            raise BadState("The receiving folder cannot be locked.") from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BadState("The receiving folder cannot be locked.")
            return fd, flock(fd)
        except BlockingIOError:
            close(fd)
            raise BadState("Another lanxfer uses this folder.") from None
        except BaseException:
            close(fd)
            raise

    def _probe(self, locks: bool) -> Abilities:
        """Find out by trying; names of mount types would never be complete."""
        one, two, capital = _PROBES
        self._clear_probes()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | FILE_FLAGS
            close(os.open(one, flags, 0o600, dir_fd=self.fd))
            links = folder_sync = case = True
            try:
                os.link(one, two, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
            except OSError:
                links = False
            try:
                sync(self.fd)
            except SyncFailed:
                folder_sync = False
            with suppress(FileNotFoundError):
                os.stat(capital, dir_fd=self.fd, follow_symlinks=False)
                case = False
            return Abilities(links, folder_sync, case, locks)
        except OSError as error:
            raise BadState(
                f"Nothing can be written to the receiving folder ({error.strerror})."
            ) from error
        finally:
            self._clear_probes()

    def _clear_probes(self) -> None:
        for name in _PROBES[:2]:
            with suppress(OSError):
                os.unlink(name, dir_fd=self.fd)

    # How quick it is.

    def waited(self, seconds: float) -> None:
        """So long something took to be durable, or to be woken up afterwards."""
        self._waits.append(seconds)

    @property
    def quick(self) -> bool:
        """Whether the disk hardly lets wait, as far as that was seen lately."""
        return min(self._waits) < QUICK

    # One writer a key.

    def claim(self, key: str) -> None:
        """Reserve a key; Busy if it is."""
        staged(key)
        with self._mutex:
            if key in self._open:
                raise Busy()
            self._open.add(key)

    def release(self, key: str) -> None:
        """Give a key back."""
        with self._mutex:
            self._open.discard(key)

    def holds(self, key: str) -> bool:
        """Whether there is anything of that key."""
        try:
            os.stat(staged(key), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def unfinished(self, owner: str) -> tuple[int, int]:
        """How many parts that nobody writes to are of ``owner`` (``whose``), and their bytes."""
        with self._mutex:
            busy = set(self._open)
        files = size = 0
        with os.scandir(self.fd) as entries:
            for entry in entries:
                match = _STAGED.match(entry.name)
                if match is None or whose(match[1]) != owner or match[1] in busy:
                    continue
                with suppress(FileNotFoundError):
                    size += entry.stat(follow_symlinks=False).st_size
                    files += 1
        return files, size

    # Part files; the caller holds the claim.

    def open(self, key: str) -> int | None:
        """The part of that key, opened and locked; None if there is none that may be written to."""
        name = staged(key)
        try:
            fd = os.open(name, os.O_RDWR | FILE_FLAGS, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _USELESS:
                raise
            self.remove(key)
            return None
        try:
            found = os.fstat(fd)
            ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if ours and found.st_nlink == 1:
                self._lock_part(fd)
                return fd
        except BaseException:
            close(fd)
            raise
        close(fd)
        self.remove(key)
        return None

    def create(self, key: str) -> int:
        """A new, empty part; whatever was there is gone.

        Not locked: nobody else is let into the folder, and who comes later finds it taken.
        The folder is synced by the first checkpoint, not here: until then a
        power cut may cost the whole part anyway.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | FILE_FLAGS
        try:
            return os.open(staged(key), flags, 0o600, dir_fd=self.fd)
        except FileExistsError:
            self.remove(key)
            return os.open(staged(key), flags, 0o600, dir_fd=self.fd)

    def _lock_part(self, fd: int) -> None:
        try:
            flock(fd)
        except BlockingIOError:
            raise Busy() from None

    def remove(self, key: str) -> None:
        """Take the part's name away; fine if it has gone."""
        with self._mutex:
            self._kept.pop(key, None)
            self._left.discard(key)
        with suppress(FileNotFoundError):
            os.unlink(staged(key), dir_fd=self.fd)

    def leave(self, key: str) -> None:
        """It stays when its writer has gone."""
        with self._mutex:
            self._left.add(key)

    def remove_left(self, keys: Iterable[str]) -> None:
        """Remove those that stayed and that nobody writes to; they are not asked for in vain."""
        if self._left:
            with self._mutex:
                found = self._left.intersection(keys) - self._open
                self._open |= found
            for key in found:
                with suppress(OSError):
                    self.remove(key)
                self.release(key)

    def sync(self) -> None:
        """Make the names of the parts durable."""
        if self.abilities.folder_sync:
            sync(self.fd)

    # What one writer knew is not read again for the next.

    def remember(self, key: str, fd: int, running: Mapping[int, blake3]) -> None:
        """Keep the running digests of a part that is being closed."""
        found = os.fstat(fd)
        with self._mutex:
            self._kept[key] = _Kept(found.st_ino, found.st_size, found.st_mtime_ns, dict(running))
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)

    def recall(self, key: str, fd: int) -> Mapping[int, blake3]:
        """What ``remember`` was given, if the file is still that file."""
        found = os.fstat(fd)
        with self._mutex:
            kept = self._kept.get(key)
        now = (found.st_ino, found.st_size, found.st_mtime_ns)
        if kept is None or (kept.inode, kept.size, kept.mtime_ns) != now:
            return {}
        return kept.running

    # Clearing up.

    def tidy(self, older_than: float) -> int:
        """Remove what was published already and what nobody touched for so many seconds."""
        now = self._started + time.monotonic()
        removed = self.wholes.tidy()
        with os.scandir(self.fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            match = _STAGED.match(name)
            if match is None:
                continue
            try:
                self.claim(match[1])
            except Busy:
                continue
            try:
                removed += self._tidy_one(match[1], now - older_than)
            finally:
                self.release(match[1])
        return removed

    def _tidy_one(self, key: str, before: float) -> int:
        try:
            found = os.stat(staged(key), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        if stat.S_ISDIR(found.st_mode):
            return 0
        # Not the mtime: that is the peer's once a file is ready to be published.
        if found.st_nlink == 1 and found.st_ctime >= before:
            return 0
        self.remove(key)
        return 1

    def close(self) -> None:
        """Let the lock and the folder go; closing twice is fine."""
        for fd in (self._lock, self.fd):
            if fd >= 0:
                close(fd)
        self._lock = self.fd = -1
