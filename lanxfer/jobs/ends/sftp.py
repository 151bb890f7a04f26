"""SFTP ends, on fsspec's back end; no credential leaves before the host key was recognized."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from lanxfer.jobs.ends.remote import SECOND, OpenFile, RemoteEnd, missing
from lanxfer.storage.sftp import Answered

AHEAD = 64
"""Requests of 32 KiB that are under way while a file is read."""
TIME_MAX = 2**32 - 1
"""Seconds since 1970 that the protocol has room for."""


def paramiko() -> Any:
    """The library, or a sentence that says how to get it."""
    try:
        import paramiko as found  # type: ignore[import-untyped]
    except ImportError:
        raise missing("paramiko") from None
    return found


class SftpEnd(RemoteEnd):
    """A folder of a server."""

    def __init__(self, host: Host, path: str, absent: Absent = Absent.REFUSE) -> None:
        super().__init__(host, path, absent)
        self._client: Any = None

    @property
    def _sftp(self) -> Any:
        if self.fs is None:
            raise Broken(f"There is no connection to {self.host.name}.")
        return self.fs.ftp

    def _open(self) -> None:
        ssh = paramiko()
        filesystem = _filesystem()
        name = self.host.name
        try:
            self.fs = filesystem(self.host, self._keep)
        except ssh.BadHostKeyException:
            raise Refused(
                f"{name} has another host key than the one in {self.host.known_hosts};"
                ' if that is right, "lanxfer job trust" replaces it.'
            ) from None
        except ssh.PasswordRequiredException:
            raise Refused(f"The key {self.host.key_file} needs a key_pass.") from None
        except ssh.AuthenticationException:
            raise Refused(f"{name} does not take that user with that password or key.") from None
        except FileNotFoundError as error:
            raise Refused(f"There is no file {error.filename}.") from None
        except ValueError as error:  # what cryptography says of a key that it cannot open
            raise Refused(f"The key {self.host.key_file} cannot be used: {error}") from None
        except ssh.SSHException as error:
            if "known_hosts" in str(error):
                raise Refused(
                    f"The host key of {name} is not in {self.host.known_hosts};"
                    ' "lanxfer job trust" shows it and puts it there.'
                ) from None
            if any(each in str(error) for each in ("private key", "passphrase", "Invalid key")):
                raise Refused(f"The key {self.host.key_file} cannot be used: {error}.") from None
            raise Broken(f"{name} cannot be reached: {error}.") from None
        except (OSError, EOFError) as error:
            raise Broken(f"{name} cannot be reached: {error}.") from None

    def _keep(self, client: Any) -> None:
        self._client = client

    def close(self) -> None:
        client, self._client, self.fs = self._client, None, None
        if client is not None:
            with suppress(Exception):
                client.close()

    def abort(self) -> None:
        client = self._client
        if client is not None:
            with suppress(Exception):
                client.get_transport().close()

    def alive(self) -> bool:
        try:
            self._sftp.stat(".")
        except Exception:
            return False
        return True

    @contextmanager
    def _typed(self) -> Iterator[None]:
        ssh = paramiko()
        try:
            yield
        except EndError:
            raise
        except (ssh.SSHException, EOFError, TimeoutError, ConnectionError) as error:
            raise Broken(f"The connection to {self.host.name} broke: {error}.") from error
        except UnicodeEncodeError as error:  # before anything of it was said
            raise EndError(NO_TEXT, again=False) from error
        except UnicodeDecodeError as error:
            raise EndError("A name in it is not UTF-8; rename that first.", again=False) from error
        except OSError as error:
            if str(error) in ("Socket is closed", "Garbage packet received"):
                raise Broken(f"The connection to {self.host.name} broke.") from error
            why = error.strerror or str(error) or type(error).__name__
            again = not isinstance(error, (FileNotFoundError, PermissionError))
            raise EndError(f"{self.host.name} refused: {why}.", again=again) from error

    # Looking.

    def _home(self) -> str:
        with self._typed():
            return str(self._sftp.normalize("."))

    def _time(self, row: dict[str, Any]) -> int | None:
        when = row.get("mtime")
        return None if when is None else int(when.timestamp()) * SECOND

    def _is_folder(self, full: str) -> bool:
        try:
            return stat.S_ISDIR(self._sftp.stat(full).st_mode)
        except FileNotFoundError:
            return False

    def look(self, path: str) -> FileInfo | None:
        with self._typed():
            try:
                found = self._sftp.lstat(self.full(path))
            except FileNotFoundError:
                return None
        mode = found.st_mode or 0
        kind = "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"
        return FileInfo(path, kind, found.st_size or 0, int(found.st_mtime or 0) * SECOND, SECOND)

    # Moving.

    def reader(self, path: str, offset: int) -> Reader:
        with self._typed():
            file = self._sftp.open(self.full(path), "rb")
            size = file.stat().st_size
            file.seek(offset)
            if size > offset:
                file.prefetch(size, max_concurrent_requests=AHEAD)
            return OpenFile(self, file)

    def writer(self, path: str, offset: int) -> Writer:
        self._make_above(path)
        with self._typed():
            file = self._sftp.open(self.full(path), "r+b" if offset else "wb")
            if offset:
                file.truncate(offset)
                file.seek(offset)
            return OpenFile(self, Answered(file))

    def set_time(self, path: str, mtime_ns: int) -> None:
        when = mtime_ns // SECOND
        if not 0 <= when <= TIME_MAX:
            return
        with self._typed():
            self._sftp.utime(self.full(path), (when, when))

    def _mkdir(self, full: str) -> None:
        self._sftp.mkdir(full)

    def _rename(self, full: str, to: str) -> None:
        try:
            self._sftp.posix_rename(full, to)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            self._sftp.rename(full, to)  # a server without OpenSSH's extension

    def remove(self, path: str) -> None:
        with self._typed():
            self._sftp.remove(self.full(path))


def _filesystem() -> Any:
    ssh = paramiko()
    try:
        from fsspec.implementations.sftp import SFTPFileSystem  # type: ignore[import-untyped]
    except ImportError:
        raise missing("fsspec") from None

    class FileSystem(SFTPFileSystem):  # type: ignore[misc]
        cachable = False

        def __init__(self, host: Host, keep: Any) -> None:
            self._about = host
            self._keep = keep
            super().__init__(host.host, skip_instance_cache=True)

        def _connect(self) -> None:
            host = self._about
            self.client = ssh.SSHClient()
            self._keep(self.client)  # from now on it can be aborted
            # What was in no file the owner named is not known, whatever else is on this machine.
            with suppress(FileNotFoundError):
                self.client.load_host_keys(host.known_hosts)
            self.client.set_missing_host_key_policy(ssh.RejectPolicy())
            try:
                self.client.connect(
                    host.host,
                    host.port,
                    host.user,
                    None if host.password is None else host.password.reveal(),
                    key_filename=host.key_file or None,
                    passphrase=None if host.key_pass is None else host.key_pass.reveal(),
                    timeout=host.connect_timeout,
                    banner_timeout=host.connect_timeout,
                    auth_timeout=host.connect_timeout,
                    channel_timeout=host.connect_timeout,
                    allow_agent=False,
                    look_for_keys=False,
                )
                self.ftp = self.client.open_sftp()
            except BaseException:
                self.client.close()
                raise
            self.ftp.get_channel().settimeout(host.progress_timeout)
            if host.keep_alive:
                self.client.get_transport().set_keepalive(max(1, int(host.keep_alive)))

    return FileSystem
