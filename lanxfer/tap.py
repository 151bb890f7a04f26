"""The options of ``twistd lanxfer``, and the service they make."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from attrs import evolve
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.python import usage

from lanxfer import heap
from lanxfer.config.kinds import FLAG
from lanxfer.config.table import TABLE, Setting
from lanxfer.configured import Configured, Logins, checkers_from, settings_from
from lanxfer.errors import BadConfig, LanxferError
from lanxfer.hangup import reload_on_hangup
from lanxfer.logged import Logged, check_log
from lanxfer.ready import READY, STOPPING, notify
from lanxfer.sandbox import for_daemon, refuse_root
from lanxfer.service import Settings, TransferService
from lanxfer.state import forbid_cores

__all__ = ["Options", "checkers_from", "makeService", "settings_from"]


def _told(each: Setting) -> str:
    words = ", ".join(each.kind.choices)
    return f"{each.help} One of {words}." if words else each.help


class Options(Logins):
    """What ``twistd lanxfer --help`` shows; README.rst explains it.

    ``given`` are the keys of what was said; all else is as usual.
    """

    synopsis = "[options]"
    longdesc = "Receive files and text messages from other devices, and send them."

    optParameters = [  # noqa: RUF012 - the way twisted.python.usage wants it
        [each.key, each.letter or None, each.default, _told(each)]
        + ([each.kind.parse] if each.kind.coerces else [])
        for each in TABLE
        if not each.many and each.kind is not FLAG
    ]
    optFlags = [  # noqa: RUF012
        [each.key, each.letter or None, each.help] for each in TABLE if each.kind is FLAG
    ]

    def __init__(self) -> None:
        self.given: set[str] = set()
        super().__init__()
        for each in TABLE:
            if each.many and each.key != "auth":
                self[each.key] = []
        self.given.clear()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.given.add(key)

    def said(self) -> dict[str, Any]:
        """The options that were given, by key."""
        return {key: self[key] for key in self.given}

    def postOptions(self) -> None:
        check_log(self["log-format"], getattr(self, "parent", None))
        try:
            settings_from(self)
        except LanxferError as error:
            raise usage.UsageError(str(error)) from None


def _repeatable(each: Setting) -> None:
    """Have ``Options`` take it more than once, the way twisted.python.usage wants it."""

    def add(self: Options, value: str) -> None:
        self[each.key] = [*self[each.key], value]

    add.__doc__ = each.help
    setattr(Options, f"opt_{each.key.replace('-', '_')}", add)


for _each in TABLE:
    if _each.many and _each.key != "auth":
        _repeatable(_each)


class _Daemon(TransferService):
    """The service where nobody but twistd is there to catch what keeps it from starting."""

    open_because = ""
    terminal: int | None = None
    """Where this is in the background: a descriptor of the standard error it had before."""

    def warnings(self) -> list[str]:
        why = [f"NO SANDBOX: {self.open_because}."] if self.open_because else []
        return super().warnings() + why

    def startService(self) -> None:
        forbid_cores()
        try:
            super().startService()
        except LanxferError as error:
            if self.terminal is None:
                raise _no_start(error) from None
            with suppress(OSError):
                os.write(self.terminal, f"lanxfer: {error}\n".encode("utf-8", "replace"))
            # twistd tells the process that was called of an Exception, and of nothing else:
            # that one would wait for ever.
            raise
        terminal, self.terminal = self.terminal, None
        if terminal is not None:
            with suppress(OSError):
                os.close(terminal)
        heap.arrange(serving=True)
        reload_on_hangup(self.reactor, self.reload)
        self.when_listening().addCallbacks(lambda addresses: notify(READY), lambda why: None)

    def stopService(self) -> Deferred[None]:
        notify(STOPPING)
        return super().stopService()


def _no_start(error: LanxferError) -> SystemExit:
    print(f"lanxfer: {error}", file=sys.stderr)
    return SystemExit(int(error.exit))


def _terminal(twistd: Any) -> int | None:
    """Standard error once more, which twistd closes in the background; None where it stays."""
    if twistd is None or twistd.get("nodaemon", True):  # "twist" has no such option
        return None
    try:
        return os.dup(2)
    except OSError:
        return -1  # nobody is there to read


def _for_twistd(settings: Settings, twistd: Any) -> tuple[Settings, str]:
    """Leave open what twistd itself writes later, and why that may leave everything open."""
    log, pid = twistd.get("logfile"), twistd.get("pidfile")
    if not log and not twistd.get("nodaemon", True):  # "twist" has no such option
        log = "twistd.log"
    run = twistd.get("rundir") or "."
    logs, removals, why = for_daemon(run, "" if log == "-" else log or "", pid or "")
    if why:
        return evolve(settings, sandbox=False), why
    return evolve(settings, also_writable=logs, also_removable=removals), ""


def makeService(options: Options) -> IService:
    """What twistd runs."""
    from twisted.internet import reactor

    try:
        refuse_root(bool(options["allow-root"]))
        configured = Configured(options.said())
        check_log(configured.values.get("log-format", "text"), options.parent)
    except LanxferError as error:
        raise _no_start(error) from None
    except usage.UsageError as error:  # the file, as twistd was started here
        raise _no_start(BadConfig(str(error))) from None
    settings, why, jobs = configured.settings, "", configured.jobs
    if options.parent is not None and settings.sandbox:
        settings, why = _for_twistd(settings, options.parent)
    if jobs is None:
        daemon = _daemon(reactor, settings, configured, why, options.parent)
        return _logged(reactor, daemon, daemon, configured, options.parent)
    from lanxfer.jobs.beside import ServiceWithJobs, with_jobs
    from lanxfer.jobs.errors import Error

    try:
        settings = with_jobs(settings, jobs)
    except Error as error:
        raise _no_start(BadConfig(error.reason)) from None
    daemon = _daemon(reactor, settings, configured, why, options.parent)
    whole = ServiceWithJobs(reactor, daemon, jobs)
    return _logged(reactor, whole, daemon, configured, options.parent)


def _daemon(
    reactor: Any, settings: Settings, configured: Configured, why: str, twistd: Any
) -> _Daemon:
    daemon = _Daemon(reactor, settings, on_reload=configured.reload)
    daemon.open_because = why
    daemon.terminal = _terminal(twistd)
    return daemon


def _logged(
    reactor: Any, whole: IService, daemon: TransferService, configured: Configured, twistd: Any
) -> IService:
    as_json = configured.values.get("log-format") == "json"
    return Logged(reactor, whole, daemon, twistd) if as_json else whole
