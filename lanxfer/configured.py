"""From options and a configuration file to a service's settings, when it starts and again later.

What was said on the command line counts before what the file says, and that before
what holds otherwise (docs/configuration.rst).
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.cred import strcred
from twisted.cred.checkers import FilePasswordDB
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python import usage

from lanxfer.config.file import config_path, read_config
from lanxfer.config.table import BY_KEY, TABLE, Setting
from lanxfer.errors import BadConfig, LanxferError
from lanxfer.service import Settings, TransferService
from lanxfer.transfers import Conflict

_MADE: dict[str, Callable[[Any], Any]] = {
    "tickets": lambda value: value == "plain",
    "conflict": Conflict,
    "no-sandbox": lambda value: not value,
}
"""Where a field of ``Settings`` is not what the option is."""


def settings_from(options: Mapping[str, Any]) -> Settings:
    """Settings for options by key; BadConfig or usage.UsageError where they make no sense.

    What is missing, or None where that means nothing, is as usual.  ``credCheckers`` are
    those that ``auth`` stands for.
    """
    found: dict[str, Any] = {"sandbox": True}
    for each in TABLE:
        value = options.get(each.key)
        if each.kind.choices and value is not None and value not in each.kind.choices:
            raise usage.UsageError(f"--{each.key} is {each.kind.expected}.")
        if not each.name or each.key not in options or (value is None and each.key != "port"):
            continue
        found[each.name] = _made(each, value)
    return Settings(**found, checkers=tuple(options.get("credCheckers", ())))


def _made(each: Setting, value: Any) -> Any:
    if each.key in _MADE:
        return _MADE[each.key](value)
    if each.many:
        return tuple(value)
    return bool(value) if type(each.default) is bool else value


class Logins(usage.Options, strcred.AuthOptionMixin):
    """The option ``--auth``, which is Twisted's own: may be given more than once.

    ``file:PATH``, ``unix``, ``memory:NAME:PASSWORD`` and whatever else is installed.
    """

    supportedInterfaces = (IUsernamePassword,)

    def opt_auth(self, description: str) -> None:
        """Who may log in with a password: file:PATH, unix, memory:NAME:PASSWORD ..."""
        super().opt_auth(description)
        checker = self["credCheckers"][-1]
        if isinstance(checker, FilePasswordDB):
            _check_private(checker.filename)


def checkers_from(texts: Sequence[str]) -> list[Any]:
    """What ``--auth`` names, as ``twistd`` reads it; usage.UsageError where it names nothing."""
    options = Logins()
    for each in texts:
        options.opt_auth(each)
    return list(options.get("credCheckers", ()))


def _check_private(path: str) -> None:
    """Passwords that others can read are nobody's any more (catalogue A11)."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise usage.UsageError(f"--auth: {path} cannot be read: {error.strerror}.") from None
    if stat.S_ISREG(mode) and mode & 0o077 and sys.platform != "win32":
        raise usage.UsageError(f'--auth: {path} is open to other users; close it: "chmod 600".')


@define(eq=False)
class Configured:
    """The settings of one service, and how they are read anew.

    ``given`` are the options of its command line, by key; making it reads the file.
    Raises BadConfig, or usage.UsageError for options that make no sense.  ``values`` is all
    that was said, and ``settings`` what is in effect.
    """

    given: Mapping[str, Any]
    path: str = field(init=False)
    values: Mapping[str, Any] = field(init=False)
    settings: Settings = field(init=False)
    _begun: Mapping[str, Any] = field(init=False)
    _one_at_a_time: DeferredLock = field(factory=DeferredLock, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        given = self.given
        # Whole, since a daemon moves elsewhere.
        self.path = config_path(given.get("config"), given.get("state"))
        self.values = self._read()
        self.settings = self._settings(self.values, {})
        self._begun = self.values

    @property
    def jobs(self) -> str | None:
        """The whole name of the file of jobs, if there is one."""
        found = self.values.get("jobs")
        return os.path.abspath(found) if found else None

    def _read(self) -> dict[str, Any]:
        found = read_config(self.path, must=bool(self.given.get("config")))
        return {**found, **self.given}

    def _settings(self, values: Mapping[str, Any], before: Mapping[str, Any]) -> Settings:
        """Those of these values; what checks passwords stays the same for the same words."""
        logins = values.get("auth", ())
        if "credCheckers" in self.given:
            return settings_from(values)
        if before and before.get("auth", ()) == logins:
            return settings_from({**values, "credCheckers": self.settings.checkers})
        try:
            return settings_from({**values, "credCheckers": checkers_from(logins)})
        except usage.UsageError as error:
            if "auth" in self.given:
                raise
            raise BadConfig(f"{self.path}: {str(error).removeprefix('--')}") from None

    def reload(self, service: TransferService) -> Deferred[Mapping[str, Sequence[str]]]:
        """Read the file again, and change what changed; see ``TransferService.reload``."""
        return self._one_at_a_time.run(lambda: Deferred.fromCoroutine(self._reload(service)))

    def _anew(self) -> tuple[dict[str, Any], Settings]:
        values = self._read()
        return values, self._settings(values, self.values)

    async def _reload(self, service: TransferService) -> Mapping[str, Sequence[str]]:
        reactor = service.reactor
        try:
            values, settings = await deferToThreadPool(reactor, reactor.getThreadPool(), self._anew)
            names = [each.name for each in TABLE if each.name]
            wanted = {name: getattr(settings, name) for name in [*names, "checkers"]}
            now = {name: getattr(self.settings, name) for name in wanted}
            changes = {name: value for name, value in wanted.items() if value != now[name]}
            left = await service.change(**changes)
        except LanxferError as error:
            self._log.error(
                "Nothing was changed: {reason}", event="settings_refused", reason=error.reason
            )
            raise
        done = {name: value for name, value in changes.items() if name not in left}
        self.settings = evolve(self.settings, **done)
        begun = self._begun
        left = (*left, *(key for key in _ELSEWHERE if values.get(key) != begun.get(key)))
        if "checkers" in left:
            values["auth"] = self.values.get("auth", ())
        self.values = values
        found = {"changed": _keys(done), "restart": _keys(left)}
        changed, restart = (", ".join(found[name]) for name in ("changed", "restart"))
        said = f"changed: {changed}" if changed else "nothing has changed"
        self._log.info(
            "Read {_path} again; {_said}",
            event="settings_read",
            _path=self.path,
            _said=f"{said}; needs a restart: {restart}" if restart else said,
            changed=changed,
            restart=restart,
        )
        return found


_ELSEWHERE = [each.key for each in TABLE if each.in_file and not each.name and each.key != "auth"]
"""What no ``Settings`` has, and nothing takes up later."""

_KEY_OF = {each.name: each.key for each in TABLE if each.name} | {"checkers": "auth"}


def _keys(names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """What people call these fields, in the order of the table."""
    keys = {_KEY_OF.get(name, name) for name in names}
    return [key for key in BY_KEY if key in keys]
