"""The state folder: key, known peers, journal and control socket of one service or user.

Whoever can write here is this device, and whoever can read here can become
it, so a folder that others may look into is refused, never repaired: it may
have been read already.

Everything here blocks; floor 4 calls the writing parts from its disk threads.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lanxfer.errors import BadState
from lanxfer.wire import limits

if sys.platform == "win32":  # pragma: no cover
    import msvcrt
else:
    import fcntl
    import resource

KEY_FILE = "key.pem"
CERTIFICATE_FILE = "certificate.pem"
"""The key of this device, and a certificate that is made of it (``lanxfer.identity``)."""

FILE_MAX = 16 * limits.MIB
"""No file of the state folder that is read as a whole is anywhere near this large."""

SOCKET_PATH_MAX = 100
"""Bytes; sun_path has 108 on Linux and 104 on macOS, with the NUL."""

EXCLUSIVE_WAIT = 5.0
"""Seconds to wait for another process that changes the folder just now."""

LEFTOVER_AGE = 3600.0
"""Seconds after which an unfinished file can only be what a crash left."""

_LEFTOVER = ".tmp"

_BINARY: int = getattr(os, "O_BINARY", 0)
_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)


def default_state() -> str:
    """The folder used where none is named: LANXFER_STATE, else the platform's own place."""
    named = os.environ.get("LANXFER_STATE", "")
    if named:
        return os.path.expanduser(named)
    import appdirs  # type: ignore[import-untyped]

    return str(appdirs.user_data_dir("lanxfer"))


def default_config(state: str | None) -> str:
    """The configuration file of the service with that state folder; None is the usual one.

    Of the platform's own folder it lies where the platform has such files, of any other beside
    that.  Not in the folder: a confined service may write there, and would choose what it may do
    after its next start.
    """
    import appdirs

    folder = os.path.abspath(os.path.expanduser(state or default_state()))
    if folder == os.path.abspath(appdirs.user_data_dir("lanxfer")):
        return os.path.join(appdirs.user_config_dir("lanxfer"), "config.toml")
    return f"{folder}.toml"


def read_file(path: str, check: Callable[[os.stat_result], None], most: int) -> bytes | None:
    """The whole file, None where there is none; ``check`` raises where it is not to be read."""
    try:
        # Without waiting, since what lies there might be a pipe.
        descriptor = os.open(path, os.O_RDONLY | _BINARY | _NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        check(os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)


def replace_file(path: str, beside: str, data: bytes, mode: int) -> None:
    """Put ``data`` in place of the whole file; durable when this returns.

    It is written ``beside`` first: a reader, and a power cut, sees the old content or the new.
    """
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if sys.platform != "win32":
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    sync_folder(os.path.dirname(path))


def forbid_cores() -> None:
    """No image of this process, keys and all, is left behind by a crash (catalogue A11).

    For processes of lanxfer's own; what an application does with its own is its business.
    """
    if sys.platform == "win32":  # pragma: no cover
        return
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


class StateFolder:
    """A folder that is this user's alone; made where it is missing.

    Raises BadState, with a sentence that names the remedy, where it cannot be
    made or is not safe to use.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._service: _Lock | None = None
        try:
            _make_folder(self.path)
            found = os.stat(self.path)
        except (OSError, ValueError) as error:
            raise self._unusable("be used", error) from error
        if not stat.S_ISDIR(found.st_mode):
            raise BadState(f"{shlex.quote(self.path)} is not a folder; name another with --state.")
        self._check_private(self.path, found)

    def file(self, name: str) -> str:
        """The path of a file in this folder; names only, no paths."""
        if name in {"", ".", ".."} or os.path.basename(name) != name:
            raise ValueError(f"not a plain file name: {name!r}")
        return os.path.join(self.path, name)

    @property
    def socket_path(self) -> str:
        """Where the control socket belongs; BadState where the path is too long for one."""
        path = self.file("control.sock")
        size = len(os.fsencode(path))
        if size > SOCKET_PATH_MAX:
            raise BadState(
                f"The path of the state folder is too long for a control socket ({size} bytes,"
                f" {SOCKET_PATH_MAX} are possible); name a shorter one with --state."
            )
        return path

    def maybe_served(self) -> bool:
        """Whether a service may be running here: it left its socket, or a crash did."""
        return os.path.exists(self.file("control.sock"))

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Put ``data`` in place of the whole file; durable when this returns.

        A reader, and a power cut, sees the old content or the new, never a mixture.
        """
        beside = self.file(f".{name}.{os.urandom(8).hex()}{_LEFTOVER}")
        try:
            replace_file(self.file(name), beside, data, mode)
        except OSError as error:
            raise self._unusable("be written", error) from error

    def read(self, name: str, secret: bool = False) -> bytes | None:
        """The whole file, or None where there is none.

        With ``secret``, BadState where anybody else may read or write it.
        """
        path = self.file(name)

        def check(found: os.stat_result) -> None:
            if not stat.S_ISREG(found.st_mode) or found.st_size > FILE_MAX:
                raise BadState(f"{shlex.quote(path)} is not a file of lanxfer; move it away.")
            if secret:
                self._check_private(path, found)

        try:
            return read_file(path, check, FILE_MAX)
        except OSError as error:
            raise self._unusable("be read", error) from error

    def stamp(self, name: str) -> tuple[int, ...]:
        """Something that is another after the file was changed; () where there is none."""
        try:
            found = os.stat(self.file(name))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unusable("be read", error) from error
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)

    def lock(self) -> None:
        """Claim the folder for a service until ``unlock`` or the end of the process.

        Raises BadState where another service has it.  Removes what a crash
        left of unfinished files.
        """
        if self._service is not None:
            return
        taken = self._take("service.lock", wait=0.0)
        if taken is None:
            raise BadState(
                f"Another lanxfer service uses this state folder ({shlex.quote(self.path)});"
                " stop that one, or name another folder with --state."
            )
        self._service = taken
        self._remove_leftovers()

    def unlock(self) -> None:
        """Let another service have the folder; fine where it was not locked."""
        if self._service is not None:
            self._service.release()
            self._service = None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nobody else changes files here meanwhile: for reading, changing and writing one.

        Held for milliseconds; other than ``lock`` it is for commands as well
        as for the service, and it is not to be taken twice by one thread.
        """
        taken = self._take("change.lock", wait=EXCLUSIVE_WAIT)
        if taken is None:
            raise BadState(
                f"Another process has been changing {shlex.quote(self.path)} for"
                f" {EXCLUSIVE_WAIT:.0f} s; look for a lanxfer command that hangs."
            )
        try:
            yield
        finally:
            taken.release()

    def _take(self, name: str, wait: float) -> _Lock | None:
        deadline = time.monotonic() + wait
        try:
            lock = _Lock(self.file(name))
            while not lock.take():
                if time.monotonic() >= deadline:
                    lock.release()
                    return None
                time.sleep(0.01)
        except OSError as error:
            raise self._unusable("be locked", error) from error
        return lock

    def _remove_leftovers(self) -> None:
        # By age, since a command may be writing at this moment.
        before = time.time() - LEFTOVER_AGE
        with suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") and name.endswith(_LEFTOVER):
                    with suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < before:
                            os.unlink(entry.path)

    def _check_private(self, path: str, found: os.stat_result) -> None:
        # Windows keeps the user's own folders private by access lists; modes say nothing there.
        if sys.platform == "win32":
            return
        shown = shlex.quote(path)
        if found.st_uid != os.geteuid():
            raise BadState(
                f"{shown} belongs to another user (number {found.st_uid});"
                " run lanxfer as that user, or name a folder of your own with --state."
            )
        if found.st_mode & 0o077:
            right = "700" if stat.S_ISDIR(found.st_mode) else "600"
            raise BadState(
                f"{shown} is open to other users of this machine;"
                f' close it with "chmod {right} {shown}".'
            )

    def _unusable(self, verb: str, error: Exception) -> BadState:
        why = getattr(error, "strerror", None) or str(error)
        return BadState(
            f"The state folder {shlex.quote(self.path)} cannot {verb}: {why};"
            " put that right, or name another with --state."
        )


def sync_folder(path: str) -> None:
    """Make the names in a folder durable; Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(path: str) -> None:
    """Make it, private from the first moment, and those above it as usual; all durable."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    _make_above(above)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    sync_folder(above)


def _make_above(path: str) -> None:
    above = os.path.dirname(path)
    if os.path.isdir(path) or above == path:
        return
    _make_above(above)
    with suppress(FileExistsError):
        os.mkdir(path)
    sync_folder(above)


class _Lock:
    """A lock on a file that the operating system takes back when the process ends."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> bool:
        """Whether it is ours now; never waits."""
        try:
            if sys.platform == "win32":
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Closing the file ends the lock; the file itself stays, or two could lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
