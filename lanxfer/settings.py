"""What a service is started with."""

from __future__ import annotations

import os
import socket
from typing import Any

from attrs import field, frozen

from lanxfer.admission import Legacy
from lanxfer.config.table import BY_KEY
from lanxfer.errors import BadConfig
from lanxfer.hooks.events import parse_hooks
from lanxfer.rates import Speeds
from lanxfer.state import default_state
from lanxfer.transfers import Conflict
from lanxfer.wire import limits


def default_inbox() -> str:
    """The user's own folder for downloads, and lanxfer's in it."""
    from platformdirs import user_downloads_dir  # appdirs has no user folders

    return os.path.join(user_downloads_dir(), "lanxfer")


def _legacy(value: Legacy | str) -> Legacy:
    try:
        return Legacy(value)
    except ValueError:
        raise BadConfig('--legacy is "off", "receive" or "full".') from None


@frozen(kw_only=True)
class Settings:
    """What a service is started with (docs/protocol.rst, "Who speaks"; README.rst).

    ``inbox`` is where files go, ``state`` where key, pins, history and control
    socket are; both are made if missing.  ``port`` 0 takes a free one, None
    none.  ``listen`` are endpoint strings besides it.  ``buf_len`` is the number
    of bytes taken from a socket at a time, ``drain`` the seconds that transfers
    under way get when the service stops.  ``limits`` are changes such as
    ``strangers-max=64`` (docs/security.rst, "Limits"); they hold for the whole process
    while the service runs.  ``sandbox`` confines the whole process
    to inbox, state and ``also_writable`` (folders; in ``also_removable`` files
    may be removed), which cannot be undone.  ``token_file`` holds the secret of a
    fleet: devices that hold the same pair with each other by themselves.
    ``shares`` are folders for known devices, ``NAME=DIR`` or ``NAME=DIR:rw`` (docs/files.rst), or
    stores, ``NAME=URL`` or ``NAME=URL:rw`` (docs/stores.rst);
    a bare ``DIR`` only says what ae controllers may have sent with ``--legacy full``.
    ``checkers`` are twisted.cred checkers of names and passwords: with some, users
    can log in (docs/permissions.rst).  The four rates are in bytes a second, of all
    connections together and of each (docs/speed.rst).  ``web`` has the page in the browser,
    at ``web_port`` of ``web_bind``, for browsers that know this device by its address or by
    one of ``web_names`` (docs/web.rst); it needs the extra of that name.
    ``accept_clear_body`` lets senders that ask for it send the bytes of large files where everyone
    on the wire can read them, at the speed of plain TCP (docs/security.rst).
    ``metrics_port`` has the figures for scrapers, at ``metrics_bind`` (docs/operations.rst); it
    needs the extra ``metrics``.  ``hook`` holds ``WHEN=COMMAND``,
    ``WHEN=URL`` or ``WHEN=notify`` (docs/hooks.rst).
    """

    inbox: str = field(factory=default_inbox, converter=os.fspath)
    state: str = field(factory=default_state, converter=os.fspath)
    device: str = field(factory=socket.gethostname)
    bind: str = ""
    port: int | None = BY_KEY["port"].default
    listen: tuple[str, ...] = ()
    open: bool = False
    legacy: Legacy = field(default=Legacy.OFF, converter=_legacy)
    legacy_from: tuple[str, ...] = ()
    legacy_folder: str = "from-ae"
    plain_from: tuple[str, ...] = ()
    tickets_plain: bool = False
    accept_clear_body: bool = False
    conflict: Conflict | None = None
    links: bool = False
    dotfiles: bool = False
    shares: tuple[str, ...] = ()
    weak_storage: bool = False
    reserve_bytes: int | None = None
    reserve_share: float | None = None
    limits: tuple[str, ...] = field(default=())
    buf_len: int = field(default=BY_KEY["buf-len"].default)
    drain: float = 5.0
    workers: int = 4
    control: bool = True
    sandbox: bool = False
    also_writable: tuple[str, ...] = ()
    also_removable: tuple[str, ...] = ()
    token_file: str | None = None
    checkers: tuple[Any, ...] = ()
    hook: tuple[str, ...] = field(default=())
    rate_in: int | None = None
    rate_out: int | None = None
    rate_in_each: int | None = None
    rate_out_each: int | None = None
    web: bool = False
    web_port: int = BY_KEY["web-port"].default
    web_bind: str = BY_KEY["web-bind"].default
    web_names: tuple[str, ...] = ()
    metrics_port: int | None = None
    metrics_bind: str = BY_KEY["metrics-bind"].default

    @property
    def speeds(self) -> Speeds:
        """The four rates."""
        return Speeds(self.rate_in, self.rate_out, self.rate_in_each, self.rate_out_each)

    @limits.validator
    def _check_limits(self, attribute: Any, value: tuple[str, ...]) -> None:
        try:
            limits.parse(value)
        except ValueError as error:
            raise BadConfig(str(error)) from None

    @hook.validator
    def _check_hooks(self, attribute: Any, value: tuple[str, ...]) -> None:
        parse_hooks(value)

    @buf_len.validator
    def _check_buf_len(self, attribute: Any, value: int) -> None:
        if not 1 * limits.KIB <= value <= 4 * limits.MIB:
            raise BadConfig(f"--buf-len is {BY_KEY['buf-len'].expected}.")
