"""The one table of settings.

The options of ``twistd lanxfer`` and of ``lanxfer serve``, the keys of the configuration
file and docs/configuration.rst are all made of it.  It costs next to nothing to import.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from attrs import frozen

from lanxfer.config.kinds import (
    FLAG,
    HOOK,
    LIMIT,
    NETWORK,
    PATH,
    PORT,
    PORT_MAX,
    RATE,
    SHARE,
    TEXT,
    Kind,
    choice,
    number,
)
from lanxfer.errors import BadConfig, LanxferError
from lanxfer.peers import DEFAULT_PORT
from lanxfer.wire import limits

DEFAULT_WEB_PORT = 36970

SAID_MAX = 100
"""Characters of a wrong value that are repeated."""


def _no_password(text: str) -> str:
    """A text that may have an address in it, without what opens that."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", text)


def _no_secret(text: str) -> str:
    """The address of a webhook is often all that it takes to use it."""
    return re.sub(r"=(https?://[^/]*)/.+", r"=\1/...", _no_password(text))


def _no_name(text: str) -> str:
    """``memory:NAME:PASSWORD`` without the password."""
    return re.sub(r"(memory:[^:]*):.*", r"\1:***", text, flags=re.DOTALL)


@frozen
class Setting:
    """One setting: ``--KEY`` on a command line, ``KEY = ...`` in the file.

    ``name`` is what ``lanxfer.settings.Settings`` calls it, "" for what is not in there.
    With ``live`` it can change while a service runs; with ``many`` its value is a tuple.
    ``default`` is what holds where nothing was said, ``usual`` the same in words where it
    depends on the machine.  ``shown`` leaves out what is nobody else's to read.  Without
    ``in_file`` it is for command lines only.
    """

    key: str
    kind: Kind
    help: str
    name: str = ""
    default: Any = None
    usual: str = ""
    letter: str = ""
    metavar: str = ""
    many: bool = False
    live: bool = False
    in_file: bool = True
    shown: Callable[[str], str] = str

    @property
    def expected(self) -> str:
        """What it wants, for a sentence."""
        return f'a list such as ["{self.metavar}"]' if self.many else self.kind.expected

    def parse(self, *texts: str) -> Any:
        """The value that texts stand for, of which one that is no list has one; BadConfig."""
        if self.many:
            return tuple(self._checked(each, self.kind.parse) for each in texts)
        if len(texts) != 1:
            raise BadConfig(f"{self.key} has one value, not {len(texts)}.")
        return self._checked(texts[0], self.kind.parse)

    def read(self, value: Any) -> Any:
        """The value of what a file has there; BadConfig."""
        if not self.many:
            return self._checked(value, self.kind.read)
        if type(value) is not list:
            raise BadConfig(self._not(self.expected, value))
        return tuple(self._checked(each, self.kind.read) for each in value)

    def plain(self, value: Any) -> Any:
        """What a file has there for a value; ``read`` reads it."""
        return [self.kind.plain(each) for each in value] if self.many else self.kind.plain(value)

    def texts(self, value: Any) -> list[str]:
        """A value as people may see it, a text for each of its parts; none for nothing."""
        if value is None and self.kind not in (PORT, RATE):
            return []
        return [self.shown(self.kind.format(each)) for each in (value if self.many else [value])]

    def _checked(self, value: Any, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(value)
        except ValueError:
            raise BadConfig(self._not(self.kind.expected, value)) from None
        except LanxferError as error:
            # Those who know the option by its name on a command line say so.
            named = error.reason.startswith(f"--{self.key}")
            reason = error.reason[2:] if named else f"{self.key}: {error.reason}"
            raise BadConfig(reason) from None

    def _not(self, expected: str, value: Any) -> str:
        said = str(value).lower() if type(value) is bool else self.shown(repr(value))
        said = said if len(said) <= SAID_MAX else f"{said[:SAID_MAX]}..."
        return f"{self.key} is {expected}, not {said}."


TABLE: tuple[Setting, ...] = (
    Setting(
        "port",
        PORT,
        "TCP port; 0 takes a free one, none none.",
        "port",
        DEFAULT_PORT,
        letter="p",
    ),
    Setting("bind", TEXT, "Address to listen on (default: all).", "bind", "", letter="b"),
    Setting(
        "listen",
        TEXT,
        "Another endpoint to listen on, such as tcp:36970.",
        "listen",
        (),
        metavar="ENDPOINT",
        many=True,
    ),
    Setting(
        "buf-len",
        number(1 * limits.KIB, 4 * limits.MIB, "bytes"),
        "Bytes taken from a socket at a time.",
        "buf_len",
        256 * limits.KIB,
        letter="l",
        live=True,
    ),
    Setting(
        "inbox",
        PATH,
        "Folder for what arrives (default: lanxfer in your downloads).",
        "inbox",
        usual="the folder lanxfer in your downloads",
        letter="i",
    ),
    Setting(
        "state",
        PATH,
        "Folder with key, known peers, history and control socket (or LANXFER_STATE).",
        "state",
        letter="s",
        metavar="DIR",
        in_file=False,
    ),
    Setting(
        "config",
        PATH,
        'File with these settings (default: what "lanxfer config path" says).',
        letter="c",
        metavar="FILE",
        in_file=False,
    ),
    Setting(
        "device",
        TEXT,
        "The name this device shows (default: the host name).",
        "device",
        usual="the host name",
        letter="d",
    ),
    Setting(
        "open",
        FLAG,
        "Let devices that are not known offer files and messages.",
        "open",
        False,
        live=True,
    ),
    Setting(
        "legacy",
        choice("off", "receive", "full"),
        "Let ae devices in; they prove nothing.",
        "legacy",
        "off",
        live=True,
    ),
    Setting(
        "legacy-from",
        NETWORK,
        "A network ae devices are let in from (default: those this machine is on).",
        "legacy_from",
        (),
        metavar="NETWORK",
        many=True,
        live=True,
    ),
    Setting(
        "plain-from",
        NETWORK,
        "A network from which plain text is let in, unauthenticated.",
        "plain_from",
        (),
        metavar="NETWORK",
        many=True,
        live=True,
    ),
    Setting(
        "tickets",
        choice("tls", "plain"),
        "Where tickets are taken: in TLS only, or in plain text, too.",
        "tickets_plain",
        "tls",
        live=True,
    ),
    Setting(
        "accept-clear-body",
        FLAG,
        "Let known devices send files in clear that ask for it (docs/security.rst).",
        "accept_clear_body",
        False,
    ),
    Setting(
        "token-file",
        PATH,
        "File with a secret; devices that hold the same pair by it.",
        "token_file",
        metavar="FILE",
    ),
    Setting(
        "auth",
        TEXT,
        "Who may log in with a password: file:PATH, unix ...",
        metavar="METHOD",
        default=(),
        many=True,
        shown=_no_name,
    ),
    Setting(
        "conflict",
        choice("rename", "skip", "overwrite", "refuse", "series"),
        "What to do when a name is taken.",
        "conflict",
        usual="what the sender asks for",
        live=True,
    ),
    Setting(
        "links",
        FLAG,
        "Take symbolic links that stay inside the transfer.",
        "links",
        False,
        live=True,
    ),
    Setting(
        "dotfiles",
        FLAG,
        "Take files whose names begin with a dot.",
        "dotfiles",
        False,
        live=True,
    ),
    Setting(
        "share",
        SHARE,
        "Known devices may read (rw: and change) DIR as NAME; or NAME=URL.",
        "shares",
        (),
        metavar="NAME=DIR[:ro|rw]",
        many=True,
        live=True,
        shown=_no_password,
    ),
    Setting(
        "limit",
        LIMIT,
        "A limit other than usual, such as strangers-max=64 (docs/security.rst).",
        "limits",
        (),
        metavar="NAME=N",
        many=True,
        live=True,
    ),
    Setting(
        "rate-in",
        RATE,
        "Bytes a second received, of all together, such as 5M.",
        "rate_in",
        live=True,
    ),
    Setting("rate-out", RATE, "Bytes a second sent, of all together.", "rate_out", live=True),
    Setting(
        "rate-in-each",
        RATE,
        "Bytes a second received on each connection.",
        "rate_in_each",
        live=True,
    ),
    Setting(
        "rate-out-each",
        RATE,
        "Bytes a second sent on each connection.",
        "rate_out_each",
        live=True,
    ),
    Setting(
        "hook",
        HOOK,
        "WHEN=COMMAND, WHEN=URL or WHEN=notify (docs/hooks.rst).",
        "hook",
        (),
        metavar="WHEN=WHAT",
        many=True,
        live=True,
        shown=_no_secret,
    ),
    Setting(
        "jobs",
        PATH,
        "Configuration file of jobs to run at their times (docs/jobs.rst).",
        metavar="FILE",
    ),
    Setting("web", FLAG, "Have a page for browsers (docs/web.rst).", "web", False),
    Setting(
        "web-port",
        number(0, PORT_MAX),
        "TCP port of the page.",
        "web_port",
        DEFAULT_WEB_PORT,
    ),
    Setting("web-bind", TEXT, "Address of the page; 0.0.0.0 for all.", "web_bind", "127.0.0.1"),
    Setting(
        "web-name",
        TEXT,
        "A name under which browsers know this device, besides its addresses.",
        "web_names",
        (),
        metavar="NAME",
        many=True,
    ),
    Setting(
        "metrics-port",
        number(0, PORT_MAX),
        "TCP port of the figures, for scrapers (docs/operations.rst).",
        "metrics_port",
        usual="none",
    ),
    Setting("metrics-bind", TEXT, "Address of the figures.", "metrics_bind", "127.0.0.1"),
    Setting(
        "log-format",
        choice("text", "json"),
        "Log as lines of text, or as a JSON object a line.",
        default="text",
    ),
    Setting(
        "weak-storage",
        FLAG,
        "Serve a folder that cannot keep every promise.",
        "weak_storage",
        False,
    ),
    Setting(
        "no-sandbox",
        FLAG,
        "Do not give up writing outside of inbox and state.",
        "sandbox",
        False,
    ),
    Setting(
        "allow-root",
        FLAG,
        "Run as root, if LANXFER_ALLOW_ROOT=1 says so, too.",
        default=False,
        in_file=False,
    ),
)
"""In the order of the documentation."""

BY_KEY = {each.key: each for each in TABLE}

KEYS = tuple(each.key for each in TABLE if each.in_file)
"""What a configuration file may say."""


def setting(key: str) -> Setting:
    """What the file may say under ``key``; BadConfig with the nearest name for no such thing."""
    found = BY_KEY.get(key)
    if found is not None and found.in_file:
        return found
    if found is not None:
        raise BadConfig(f"{key} is said on the command line only (--{key}), not in a file.")
    near = get_close_matches(key.replace("_", "-").lower(), KEYS, 1)
    hint = f'; did you mean "{near[0]}"?' if near else "."
    raise BadConfig(f'There is no setting "{key}"{hint}')
