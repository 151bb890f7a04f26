"""FTP and FTPS ends, on fsspec's back end with connections of our own."""

from __future__ import annotations

import ftplib
import socket
import ssl
from calendar import timegm
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import gmtime, strftime, strptime
from typing import Any

from lanxfer.jobs.config.settings import Host
from lanxfer.jobs.ends import (
    NO_TEXT,
    Absent,
    Broken,
    EndError,
    FileInfo,
    Reader,
    Refused,
    Writer,
)
from lanxfer.jobs.ends.ftp_connection import filesystem
from lanxfer.jobs.ends.remote import SECOND, RemoteEnd

_NOT_LOGGED_IN = ("530", "430", "332")
_TIMES = range(-30_610_224_000, 253_402_300_800)
"""Seconds since 1970 in years of four digits, which is what the protocol has room for."""


class FtpEnd(RemoteEnd):
    """A folder of a server; with ``ftps`` the control connection is encrypted before the login."""

    def __init__(self, host: Host, path: str, absent: Absent = Absent.REFUSE) -> None:
        super().__init__(host, path, absent)
        self._ftp: Any = None
        self._data: socket.socket | None = None
        self._features: set[str] = set()

    # Connections.

    def _open(self) -> None:
        connecting = filesystem()
        try:
            self.fs = connecting(self.host, self._keep)
        except ftplib.error_perm as error:
            if str(error)[:3] in _NOT_LOGGED_IN:
                raise Refused(f"{self.host.name} does not take that user and password.") from None
            raise Refused(f"{self.host.name} refused: {_said(error)}") from None
        except ssl.SSLCertVerificationError as error:
            raise Refused(
                f"The certificate of {self.host.name} cannot be trusted"
                f" ({error.verify_message}); see tls_ca."
            ) from None
        except (OSError, EOFError, ftplib.Error) as error:
            raise Broken(f"{self.host.name} cannot be reached: {_said(error)}") from None
        self._features = self._ask_features()

    def _keep(self, ftp: Any) -> None:
        self._ftp = ftp

    def _ask_features(self) -> set[str]:
        try:
            return {
                line.strip().split(" ")[0].upper()
                for line in self._ftp.sendcmd("FEAT").splitlines()
            }
        except ftplib.Error:
            return set()

    def close(self) -> None:
        ftp, self._ftp = self._ftp, None
        if ftp is not None and ftp.sock is not None:
            with suppress(OSError, EOFError, ftplib.Error):
                ftp.quit()
            ftp.close()
        self.fs = None  # it would close the connection without a word

    def abort(self) -> None:
        ftp, data = self._ftp, self._data
        for each in (data, None if ftp is None else ftp.sock):
            if each is not None:
                with suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)

    def alive(self) -> bool:
        if self._ftp is None or self._ftp.sock is None:
            return False
        try:
            self._ftp.voidcmd("NOOP")
        except (OSError, EOFError, ftplib.Error):
            return False
        return True

    @contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except EndError:
            raise
        except ftplib.error_perm as error:
            raise EndError(f"{self.host.name} refused: {_said(error)}", again=False) from error
        except ftplib.error_temp as error:
            kind = Broken if str(error).startswith("421") else EndError
            raise kind(f"{self.host.name} said: {_said(error)}") from error
        except UnicodeEncodeError as error:  # before anything of it was said
            raise EndError(NO_TEXT, again=False) from error
        except UnicodeDecodeError as error:  # in the midst of what the server says
            raise Broken(f"{self.host.name} has a name that is not UTF-8.") from error
        except FileNotFoundError as error:  # fsspec's own
            raise EndError("There is no such file.", again=False) from error
        except (OSError, EOFError, ftplib.Error) as error:
            raise Broken(f"The connection to {self.host.name} broke: {_said(error)}") from error

    # Looking.

    def _home(self) -> str:
        with self._typed():
            return str(self._ftp.pwd())

    def _time(self, row: dict[str, Any]) -> int | None:
        return _parse_time(str(row.get("modify", "")))

    def _is_folder(self, full: str) -> bool:
        here = self._ftp.pwd()
        try:
            self._ftp.cwd(full)
        except ftplib.error_perm:
            return False
        self._ftp.cwd(here)
        return True

    def look(self, path: str) -> FileInfo | None:
        full = self.full(path)
        with self._typed():
            self._ftp.voidcmd("TYPE I")
            try:
                size = self._ftp.size(full)
            except ftplib.error_perm:
                return FileInfo(path, "folder") if self._is_folder(full) else None
            try:
                when = _parse_time(self._ftp.sendcmd(f"MDTM {full}")[4:].strip())
            except ftplib.Error:
                when = None
        return FileInfo(path, "file", size or 0, when, SECOND)

    def listing(self, path: str) -> list[FileInfo]:
        found = super().listing(path)
        if any(each.kind == "file" and each.mtime_ns is None for each in found):
            # A server without MLSD; what its lines say of times depends on the day.
            with self._typed():
                return [self._timed(each) for each in found]
        return found

    def _timed(self, info: FileInfo) -> FileInfo:
        if info.kind != "file" or info.error:
            return info
        return self.look(info.path) or info

    # Moving.

    def reader(self, path: str, offset: int) -> Reader:
        full = self.full(path)
        with self._typed():
            self._ftp.voidcmd("TYPE I")
            return _Data(self, self._transfer(f"RETR {full}", offset))

    def writer(self, path: str, offset: int) -> Writer:
        self._make_above(path)
        full = self.full(path)
        with self._typed():
            self._ftp.voidcmd("TYPE I")
            return _Data(self, self._transfer(f"STOR {full}", offset))

    def _transfer(self, command: str, offset: int) -> socket.socket:
        data: socket.socket = self._ftp.transfercmd(command, rest=offset or None)
        self._data = data
        return data

    def _ended(self, data: socket.socket, whole: bool) -> None:
        """Close a data connection and hear what the server says of it."""
        if self._data is not data:
            return
        self._data = None
        try:
            if whole and isinstance(data, ssl.SSLSocket):
                data.unwrap()
        except OSError:
            pass  # not every server says good-bye
        finally:
            data.close()
        if whole:
            self._ftp.voidresp()
        else:
            with suppress(ftplib.Error):
                self._ftp.voidresp()

    def set_time(self, path: str, mtime_ns: int) -> None:
        if "MFMT" in self._features and mtime_ns // SECOND in _TIMES:
            when = strftime("%Y%m%d%H%M%S", gmtime(mtime_ns // SECOND))
            # Not every server takes any time.
            with self._typed(), suppress(ftplib.error_perm):
                self._ftp.voidcmd(f"MFMT {when} {self.full(path)}")

    def _mkdir(self, full: str) -> None:
        self._ftp.mkd(full)

    def _rename(self, full: str, to: str) -> None:
        self._ftp.rename(full, to)

    def remove(self, path: str) -> None:
        with self._typed():
            self._ftp.delete(self.full(path))


class _Data:
    """A data connection, as a Reader and a Writer."""

    def __init__(self, end: FtpEnd, data: socket.socket) -> None:
        self._end = end
        self._data = data

    def read(self, size: int) -> bytes:
        with self._end._typed():
            if found := self._data.recv(size):
                return found
            self._end._ended(self._data, True)
            return b""

    def write(self, data: bytes) -> None:
        with self._end._typed():
            try:
                self._data.sendall(data)
            except OSError:
                # A server that closed this connection says why on the other one.
                with suppress(OSError):
                    self._end._ended(self._data, True)
                raise

    def finish(self) -> None:
        with self._end._typed():
            self._end._ended(self._data, True)

    def close(self) -> None:
        with suppress(EndError), self._end._typed():
            self._end._ended(self._data, False)


def _said(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if text.endswith(".") else f"{text}."


def _parse_time(text: str) -> int | None:
    """``YYYYMMDDHHMMSS`` in UTC, fractions left out."""
    text = text.partition(".")[0]
    if len(text) != 14 or not text.isdigit():
        return None
    try:
        return timegm(strptime(text, "%Y%m%d%H%M%S")) * SECOND
    except ValueError:
        return None
