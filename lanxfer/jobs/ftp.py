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

from lanxfer.jobs.ends import Broken, EndError, FileInfo, Reader, Refused, Writer
from lanxfer.jobs.remote import SECOND, RemoteEnd, missing
from lanxfer.jobs.settings import Host

_NOT_LOGGED_IN = ("530", "430", "332")


class FtpEnd(RemoteEnd):
    """A folder of a server; with ``ftps`` the control connection is encrypted before the login."""

    def __init__(self, host: Host, path: str, *, make: bool = False) -> None:
        super().__init__(host, path, make=make)
        self._ftp: Any = None
        self._data: socket.socket | None = None
        self._features: set[str] = set()

    # Connections.

    def _open(self) -> None:
        filesystem = _filesystem()
        try:
            self.fs = filesystem(self.host, self._keep)
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
        self.keeps_times = "MFMT" in self._features

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
            return _FtpReader(self, self._transfer(f"RETR {full}", offset))

    def writer(self, path: str, offset: int) -> Writer:
        self._make_above(path)
        full = self.full(path)
        with self._typed():
            self._ftp.voidcmd("TYPE I")
            return _FtpWriter(self, self._transfer(f"STOR {full}", offset))

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
        if self.keeps_times:
            when = strftime("%Y%m%d%H%M%S", gmtime(mtime_ns // SECOND))
            with self._typed():
                self._ftp.voidcmd(f"MFMT {when} {self.full(path)}")

    def _mkdir(self, full: str) -> None:
        self._ftp.mkd(full)

    def _rename(self, full: str, to: str) -> None:
        self._ftp.rename(full, to)

    def remove(self, path: str) -> None:
        with self._typed():
            self._ftp.delete(self.full(path))


class _FtpReader:
    def __init__(self, end: FtpEnd, data: socket.socket) -> None:
        self._end = end
        self._data = data

    def read(self, size: int) -> bytes:
        with self._end._typed():
            if found := self._data.recv(size):
                return found
            self._end._ended(self._data, True)
            return b""

    def close(self) -> None:
        with suppress(EndError), self._end._typed():
            self._end._ended(self._data, False)


class _FtpWriter:
    def __init__(self, end: FtpEnd, data: socket.socket) -> None:
        self._end = end
        self._data = data

    def write(self, data: bytes) -> None:
        try:
            self._data.sendall(data)
        except OSError as error:
            self._explain(error)

    def _explain(self, error: OSError) -> None:
        """The data connection broke; a server that closed it says why on the other one."""
        with self._end._typed():
            try:
                self._end._ended(self._data, True)
            except OSError:
                raise error from None
            raise error

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


def context(host: Any) -> ssl.SSLContext:
    """TLS that knows whom it speaks to, unless the owner said that it need not."""
    found = ssl.create_default_context(cafile=host.tls_ca or None)
    if not host.tls_verify:
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    return found


class _Listing(ftplib.FTP):
    """LIST shows hidden files where the owner says that the server needs to be asked."""

    list_all = False

    def dir(self, *args: Any) -> None:
        super().dir(*(("-a", *args) if self.list_all else args))


class _Tls(ftplib.FTP_TLS, _Listing):
    """Data connections go on with the session of the control connection, as servers want it."""

    def ntransfercmd(self, cmd: str, rest: Any = None) -> Any:
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:  # type: ignore[attr-defined]
            control: Any = self.sock
            data = self.context.wrap_socket(
                data, server_hostname=self.host, session=control.session
            )
        return data, size


def _filesystem() -> Any:
    try:
        from fsspec.implementations.ftp import FTPFileSystem  # type: ignore[import-untyped]
    except ImportError:
        raise missing("fsspec") from None

    class FileSystem(FTPFileSystem):  # type: ignore[misc]
        cachable = False

        def __init__(self, host: Host, keep: Any) -> None:
            self._about = host
            self._keep = keep
            secret = "" if host.password is None else host.password.reveal()
            super().__init__(
                host.host,
                host.port,
                host.user,
                secret,
                timeout=host.connect_timeout,
                use_listings_cache=False,
                skip_instance_cache=True,
            )

        def _connect(self) -> None:
            host = self._about
            if host.kind == "ftps":
                ftp: Any = _Tls(context=context(host), timeout=host.connect_timeout)
            else:
                ftp = _Listing(timeout=host.connect_timeout)
            self.ftp = ftp
            ftp.list_all = host.dir_a_option
            ftp.connect(host.host, host.port)
            ftp.login(*self.cred)
            ftp.set_pasv(host.passive_mode)
            if host.kind == "ftps" and host.encrypt_data:
                ftp.prot_p()
            ftp.timeout = host.progress_timeout
            ftp.sock.settimeout(host.progress_timeout)
            _keep_alive(ftp.sock, host.keep_alive)
            self._keep(ftp)

        def __del__(self) -> None:
            with suppress(Exception):
                self.ftp.close()

    return FileSystem


def _keep_alive(sock: socket.socket, seconds: float) -> None:
    """Have the system keep the idle control connection open while data flows on the other."""
    if not seconds:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), max(1, int(seconds)))
