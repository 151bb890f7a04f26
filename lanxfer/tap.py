"""The options of ``twistd lanxfer``, and the service they make."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from typing import Any

from attrs import evolve, fields
from twisted.application.service import IService
from twisted.cred import strcred
from twisted.cred.checkers import FilePasswordDB
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred
from twisted.python import usage

from lanxfer.errors import BadConfig, LanxferError
from lanxfer.logged import Logged, check_log
from lanxfer.peers import DEFAULT_PORT
from lanxfer.ready import READY, STOPPING, notify
from lanxfer.rights.words import parse_speed
from lanxfer.sandbox import for_daemon, refuse_root
from lanxfer.service import Settings, TransferService
from lanxfer.settings import DEFAULT_WEB_PORT
from lanxfer.state import forbid_cores
from lanxfer.transfers import Conflict


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("that is no number")
    return int(text)


def _speed(text: str) -> int | None:
    if text == "any":
        return None
    try:
        return parse_speed(text)
    except BadConfig as error:
        raise ValueError(error.reason) from None


def port_number(text: str) -> int | None:
    """The value of --port; ValueError for what is neither a number nor "none"."""
    return None if text == "none" else _number(text)


_RATES = ("in", "out", "in-each", "out-each")


class Options(usage.Options, strcred.AuthOptionMixin):
    """What ``twistd lanxfer --help`` shows; README.rst explains it.

    ``--auth`` is Twisted's own: ``file:PATH``, ``unix``, ``memory:NAME:PASSWORD``
    and whatever else is installed; each may be given more than once.
    """

    supportedInterfaces = (IUsernamePassword,)
    synopsis = "[options]"
    longdesc = "Receive files and text messages from other devices, and send them."

    optParameters = [  # noqa: RUF012 - the way twisted.python.usage wants it
        ["port", "p", DEFAULT_PORT, "TCP port; 0 takes a free one, none none.", port_number],
        ["bind", "b", "", "Address to listen on (default: all)."],
        ["buf-len", "l", 262144, "Bytes taken from a socket at a time.", _number],
        ["inbox", "i", None, "Folder for what arrives (default: lanxfer in your downloads)."],
        ["state", "s", None, "Folder with key, known peers, history and control socket."],
        ["device", "d", None, "The name this device shows (default: the host name)."],
        ["legacy", None, "off", "ae devices: off, receive or full. They prove nothing."],
        ["conflict", None, None, "When a name is taken: rename, skip, overwrite or refuse."],
        ["token-file", None, None, "File with a secret; devices that hold the same pair by it."],
        ["rate-in", None, None, "Bytes a second received, of all together, such as 5M.", _speed],
        ["rate-out", None, None, "Bytes a second sent, of all together.", _speed],
        ["rate-in-each", None, None, "The same of each connection.", _speed],
        ["rate-out-each", None, None, "The same of each connection.", _speed],
        ["web-port", None, DEFAULT_WEB_PORT, "TCP port of the page.", _number],
        ["web-bind", None, "127.0.0.1", "Address of the page; 0.0.0.0 for all."],
        ["metrics-port", None, None, "TCP port of the figures (docs/operations.rst).", _number],
        ["metrics-bind", None, "127.0.0.1", "Address of the figures."],
        ["log-format", None, "text", "text, or json for a JSON object a line."],
        ["jobs", None, None, "Configuration file of jobs to run at their times (docs/jobs.rst)."],
        ["tickets", None, "tls", "Where tickets are taken: tls, or plain for plain text too."],
    ]
    optFlags = [  # noqa: RUF012
        ["web", None, "Have a page for browsers (docs/web.rst)."],
        ["accept-clear-body", None, "Take files in clear from who asks (docs/security.rst)."],
        ["open", None, "Let devices that are not known offer files and messages."],
        ["links", None, "Take symbolic links that stay inside the transfer."],
        ["dotfiles", None, "Take files whose names begin with a dot."],
        ["weak-storage", None, "Serve a folder that cannot keep every promise."],
        ["no-sandbox", None, "Do not give up writing outside of inbox and state."],
        ["allow-root", None, "Run as root, if LANXFER_ALLOW_ROOT=1 says so, too."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["legacy-from"] = []
        self["plain-from"] = []
        self["share"] = []
        self["limit"] = []
        self["web-name"] = []
        self["hook"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Another endpoint to listen on, such as tcp:36970 or systemd:domain=INET:index=0."""
        self["listen"].append(endpoint)

    def opt_legacy_from(self, network: str) -> None:
        """A network ae devices are let in from (default: those this machine is on)."""
        self["legacy-from"].append(network)

    def opt_plain_from(self, network: str) -> None:
        """A network from which plain text is let in, unauthenticated."""
        self["plain-from"].append(network)

    def opt_share(self, folder: str) -> None:
        """NAME=DIR[:ro|rw]: known devices may read (rw: and change) DIR as NAME; or NAME=URL."""
        self["share"].append(folder)

    def opt_limit(self, change: str) -> None:
        """A limit other than usual, such as strangers-max=64 (docs/security.rst)."""
        self["limit"].append(change)

    def opt_web_name(self, name: str) -> None:
        """A name under which browsers know this device, besides its addresses."""
        self["web-name"].append(name)

    def opt_hook(self, hook: str) -> None:
        """WHEN=COMMAND, WHEN=URL or WHEN=notify; WHEN is received, message or finished."""
        self["hook"].append(hook)

    def opt_auth(self, description: str) -> None:
        """Who may log in with a password: file:PATH, unix, memory:NAME:PASSWORD ..."""
        super().opt_auth(description)
        checker = self["credCheckers"][-1]
        if isinstance(checker, FilePasswordDB):
            _check_private(checker.filename)

    def postOptions(self) -> None:
        check_log(self["log-format"], getattr(self, "parent", None))
        try:
            settings_from(self)
        except LanxferError as error:
            raise usage.UsageError(str(error)) from None


def _check_private(path: str) -> None:
    """Passwords that others can read are nobody's any more (catalogue A11)."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise usage.UsageError(f"--auth: {path} cannot be read: {error.strerror}.") from None
    if stat.S_ISREG(mode) and mode & 0o077 and sys.platform != "win32":
        raise usage.UsageError(f'--auth: {path} is open to other users; close it: "chmod 600".')


def settings_from(options: Any) -> Settings:
    """Settings for parsed options; BadConfig or usage.UsageError where they make no sense."""
    if options["tickets"] not in ("tls", "plain"):
        raise usage.UsageError('--tickets is "tls" or "plain".')
    conflict = options["conflict"]
    if conflict is not None and conflict not in [each.value for each in Conflict]:
        raise usage.UsageError("--conflict is rename, skip, overwrite or refuse.")
    found: dict[str, Any] = {
        "port": options["port"],
        "bind": options["bind"],
        "buf_len": options["buf-len"],
        "inbox": options["inbox"],
        "state": options["state"],
        "device": options["device"],
        "legacy": options["legacy"],
        "conflict": None if conflict is None else Conflict(conflict),
        "token_file": options["token-file"],
        "tickets_plain": options["tickets"] == "plain",
        "accept_clear_body": bool(options["accept-clear-body"]),
        "open": bool(options["open"]),
        "links": bool(options["links"]),
        "dotfiles": bool(options["dotfiles"]),
        "weak_storage": bool(options["weak-storage"]),
        "listen": tuple(options["listen"]),
        "legacy_from": tuple(options["legacy-from"]),
        "plain_from": tuple(options["plain-from"]),
        "shares": tuple(options["share"]),
        "limits": tuple(options["limit"]),
        "hook": tuple(options["hook"]),
        "sandbox": not options["no-sandbox"],
        "web": bool(options["web"]),
        "web_port": options["web-port"],
        "web_bind": options["web-bind"],
        "metrics_port": options["metrics-port"],
        "metrics_bind": options["metrics-bind"],
        "web_names": tuple(options["web-name"]),
        "checkers": tuple(options.get("credCheckers", ())),
        **{f"rate_{each.replace('-', '_')}": options[f"rate-{each}"] for each in _RATES},
    }
    assert found.keys() <= {each.name for each in fields(Settings)}
    given = {key: value for key, value in found.items() if value is not None}
    return Settings(**{**given, "port": options["port"]})


def checkers_from(texts: Sequence[str]) -> list[Any]:
    """What ``--auth`` names, as ``twistd`` reads it; usage.UsageError where it names nothing."""
    options = Options()
    for each in texts:
        options.opt_auth(each)
    return list(options.get("credCheckers", ()))


class _Daemon(TransferService):
    """The service where nobody but twistd is there to catch what keeps it from starting."""

    open_because = ""

    def warnings(self) -> list[str]:
        why = [f"NO SANDBOX: {self.open_because}."] if self.open_because else []
        return super().warnings() + why

    def startService(self) -> None:
        forbid_cores()
        try:
            super().startService()
        except LanxferError as error:
            raise _no_start(error) from None
        self.when_listening().addCallbacks(lambda addresses: notify(READY), lambda why: None)

    def stopService(self) -> Deferred[None]:
        notify(STOPPING)
        return super().stopService()


def _no_start(error: LanxferError) -> SystemExit:
    print(f"lanxfer: {error}", file=sys.stderr)
    return SystemExit(int(error.exit))


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
    except LanxferError as error:
        raise _no_start(error) from None
    settings, why = settings_from(options), ""
    if options.parent is not None and settings.sandbox:
        settings, why = _for_twistd(settings, options.parent)
    if not options["jobs"]:
        daemon = _Daemon(reactor, settings)
        daemon.open_because = why
        return _logged(reactor, daemon, daemon, options)
    from lanxfer.jobs.beside import ServiceWithJobs, with_jobs
    from lanxfer.jobs.errors import Error

    try:
        daemon = _Daemon(reactor, with_jobs(settings, os.path.abspath(options["jobs"])))
    except Error as error:
        raise _no_start(BadConfig(error.reason)) from None
    daemon.open_because = why
    whole = ServiceWithJobs(reactor, daemon, os.path.abspath(options["jobs"]))
    return _logged(reactor, whole, daemon, options)


def _logged(reactor: Any, whole: IService, daemon: TransferService, options: Options) -> IService:
    as_json = options["log-format"] == "json"
    return Logged(reactor, whole, daemon, options.parent) if as_json else whole
