"""A folder of an SFTP server, on fsspec's back end and the paramiko below it.

The server's key has to be in a known_hosts file before anything is said to it.  OpenSSH
gives a file its name in one step, and not where the name is taken.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import Any

from lanxfer.errors import BadConfig, DiskFailed
from lanxfer.storage import Facts
from lanxfer.storage.remote import RemoteVolume
from lanxfer.storage.volumes import Parts
from lanxfer.wire import limits

PATIENCE = 60.0
"""Seconds of silence after which the server is given up."""

AHEAD = 4 * limits.MIB
"""Bytes that are asked for in one go; more of them are slower again."""

_REQUEST = 32 * 1024
"""Bytes that paramiko puts into one request."""

_WRITTEN = 96 * _REQUEST
"""Bytes that are written in one go; from a hundred requests on paramiko waits in between."""

_SECOND = 10**9


class SftpVolume(RemoteVolume):
    """See ``lanxfer.storage.volumes.Volume``.

    Besides what paramiko's ``SSHClient.connect`` takes, ``options`` may have ``known_hosts``, a
    file to be read besides the user's own.
    """

    keeps_times = True

    def __init__(self, url: str, make: bool, options: dict[str, Any]) -> None:
        try:
            import paramiko  # type: ignore[import-untyped]
        except ImportError:
            raise BadConfig("--share sftp:// needs lanxfer[stores].") from None
        super().__init__(url, make, options)
        self._ssh: Any = paramiko

    def connect(self) -> tuple[Any, str]:
        from fsspec.implementations.sftp import SFTPFileSystem  # type: ignore[import-untyped]

        ssh = self._ssh

        class FileSystem(SFTPFileSystem):  # type: ignore[misc]
            cachable = False

            def _connect(self) -> None:
                given = {"timeout": PATIENCE, "banner_timeout": PATIENCE, **self.ssh_kwargs}
                given = {"auth_timeout": PATIENCE, "channel_timeout": PATIENCE, **given}
                self.client = ssh.SSHClient()
                # Its default takes whatever key comes first; here an unknown one is refused.
                self.client.set_missing_host_key_policy(ssh.RejectPolicy())
                self.client.load_system_host_keys()
                if known := given.pop("known_hosts", None):
                    self.client.load_host_keys(str(known))
                try:
                    self.client.connect(self.host, **given)
                    self.ftp = self.client.open_sftp()
                except BaseException:
                    self.client.close()
                    raise
                self.ftp.get_channel().settimeout(PATIENCE)

        named = SFTPFileSystem._get_kwargs_from_urls(self.url)
        root = SFTPFileSystem._strip_protocol(self.url)
        try:
            fs = FileSystem(**{**named, **self._options})
        except ssh.BadHostKeyException as error:
            raise DiskFailed("The server behind that share has another key than before.") from error
        except ssh.AuthenticationException as error:
            raise DiskFailed("The server behind that share does not let this one in.") from error
        except ssh.SSHException as error:
            if "known_hosts" in str(error):
                raise DiskFailed(
                    "The key of the server behind that share is in no known_hosts file."
                ) from error
            raise
        return fs, root.rstrip("/")

    def is_broken(self, error: Exception) -> bool:
        told = str(error) in {"Socket is closed", "Garbage packet received"}
        return told or super().is_broken(error)

    def drop(self) -> None:
        fs, self._fs = self._fs, None
        if fs is not None:
            with suppress(Exception):
                fs.client.close()

    close = drop

    # Not fsspec's own way, which follows links.

    def info(self, fs: Any, full: str) -> dict[str, Any]:
        found = fs.ftp.lstat(full)
        row: dict[str, Any] = fs._decode_stat(found)
        regular = stat.S_ISREG(found.st_mode or 0)
        return row if row["type"] != "file" or regular else {**row, "type": "other"}

    def _names(self, parts: Parts) -> list[tuple[str, Facts]]:
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
        with self.asking() as fs:
            return [
                (
                    each.filename,
                    Facts(
                        kinds.get(stat.S_IFMT(each.st_mode or 0), "other"),
                        each.st_size or 0,
                        int(each.st_mtime or 0) * _SECOND,
                    ),
                )
                for each in fs.ftp.listdir_attr(self.full(parts))
            ]

    def open_file(self, fs: Any, full: str) -> Any:
        return _Reader(fs.ftp.open(full, "rb"))

    def open_new(self, fs: Any, full: str) -> Any:
        return Answered(fs.ftp.open(full, "wbx"))

    def give_time(self, full: str, mtime_ns: int | None) -> None:
        if mtime_ns is not None and 0 <= mtime_ns < 2**32 * _SECOND:
            when = mtime_ns // _SECOND
            with self.asking() as fs:
                fs.ftp.utime(full, (when, when))

    def give_name(self, full: str, to: Parts, replace: bool) -> None:
        try:
            with self.asking() as fs:
                (fs.ftp.posix_rename if replace else fs.ftp.rename)(full, self.full(to))
        except DiskFailed:
            # The protocol has no word for "exists".
            if not replace and self._look(to) is not None:
                raise FileExistsError from None
            raise

    def make_folder(self, parts: Parts) -> None:
        try:
            with self.asking() as fs:
                fs.ftp.mkdir(self.full(parts))
        except DiskFailed:
            if self._look(parts) is not None:
                raise FileExistsError from None
            raise

    def remove(self, parts: Parts) -> None:
        with self.asking() as fs:
            fs.ftp.remove(self.full(parts))

    def weaknesses(self) -> tuple[str, ...]:
        return (
            "A received file may be gone after a power cut of the server.",
            "Whoever changes folders of the server at the very moment may lead lanxfer elsewhere.",
            "Times of files are kept to the second.",
            "A second lanxfer that uses the place is not noticed.",
        )


class _Reader:
    """A file that is read a few MiB at a time, all of whose blocks are asked for at once."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._at = 0
        self._ahead = memoryview(b"")
        self._begins = 0

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, size: int) -> bytes:
        within = self._at - self._begins
        if not 0 <= within < len(self._ahead):
            self._fetch(size)
            within = 0
        data = bytes(self._ahead[within : within + size])
        self._at += len(data)
        return data

    def _fetch(self, size: int) -> None:
        # What lies beyond the end would be waited for in vain.
        left = max(0, self._file.stat().st_size - self._at)
        size = min(max(size, AHEAD), left)
        (data,) = self._file.readv([(self._at, size)]) if size else (b"",)
        self._ahead, self._begins = memoryview(data), self._at

    def close(self) -> None:
        self._ahead = memoryview(b"")
        self._file.close()


class Answered:
    """A file of paramiko's that is written a few MiB at a time, each answered before the next.

    ``write`` and ``close`` raise what the server says.  Between two calls nothing is under way,
    so that other questions may go over the same connection.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) >= _WRITTEN:
            self._send()

    def close(self) -> None:
        try:
            self._send()
        finally:
            self._file.close()

    def _send(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        begins, last = self._file.tell(), max(0, len(data) - _REQUEST)
        try:
            self._file.set_pipelined(True)
            self._file.write(data[:last])
            # The answers to what is pipelined are read by the next write that is not; a close
            # would throw them away.
            self._file.set_pipelined(False)
            self._file.write(data[last:])
        except TimeoutError:
            raise
        except OSError:
            # What came after a refused write may be there: nobody is to go on behind that hole.
            with suppress(Exception):
                self._file.truncate(begins)
            raise
