"""Connections to FTP and FTPS servers: fsspec's back end, but careful whom it speaks to."""

from __future__ import annotations

import ftplib
import socket
import ssl
from contextlib import suppress
from typing import Any

from lanxfer.jobs.config.settings import Host
from lanxfer.jobs.ends.remote import missing


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


def filesystem() -> Any:
    """The back end as a class; made with a host and with what is told of the connection."""
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
            self._keep(ftp)  # from now on it can be aborted
            ftp.list_all = host.dir_a_option
            ftp.connect(host.host, host.port)
            ftp.login(*self.cred)
            ftp.set_pasv(host.passive_mode)
            if host.kind == "ftps" and host.encrypt_data:
                ftp.prot_p()
            ftp.timeout = host.progress_timeout
            ftp.sock.settimeout(host.progress_timeout)
            _keep_alive(ftp.sock, host.keep_alive)

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
