"""What the options of configuration files may say, and what that becomes.

A table a section: the option, the setting's name and how its text is read.  A
reader raises ValueError with the end of a sentence: "is a number".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from typing import Any, TypeAlias

from lanxfer.jobs.config.rules import MATCHERS, parse_temp
from lanxfer.jobs.config.settings import Password, is_sink

Read: TypeAlias = Callable[[str], Any]

_YES = {"yes": True, "true": True, "on": True, "1": True}
_NO = {"no": False, "false": False, "off": False, "0": False}
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)\Z")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def yes(text: str) -> bool:
    try:
        return {**_YES, **_NO}[text.lower()]
    except KeyError:
        raise ValueError('is "yes" or "no"') from None


def yes_or_name(text: str) -> str:
    """A lock: "" for none, "yes" for the job's own, or a name."""
    low = text.lower()
    if low in _NO:
        return ""
    if low in _YES:
        return "yes"
    if "/" in text or text.startswith("."):
        raise ValueError('is "yes", "no" or a plain name')
    return text


def number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("is a number, 0 or more")
    return int(text)


def seconds(text: str) -> float:
    """Seconds, or 5m, 2h, 1d."""
    found = _DURATION.match(text.strip().lower())
    if found is None:
        raise ValueError("is a time such as 30, 30s, 5m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2]]


def minutes(text: str) -> float:
    """A time in minutes where no unit is named."""
    every = float(text) * 60 if re.fullmatch(r"\d+(\.\d+)?", text) else seconds(text)
    if every < 1:
        raise ValueError("is at least a second")
    return every


def timeout(text: str) -> float | None:
    return seconds(text) or None


def choice(*words: str) -> Read:
    """One of a few words, whatever its case."""

    def read(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"is one of {', '.join(words)}")

    return read


def kind(text: str) -> str:
    """The type of a host."""
    low = text.lower()
    if low.startswith("fsspec:") and low[7:].isalnum():
        return low
    return str(choice("local", "ftp", "ftps", "sftp", "lanxfer")(text))


def words(text: str) -> tuple[str, ...]:
    """Parts between commas or line ends."""
    return tuple(each.strip() for each in re.split(r"[,\n]", text) if each.strip())


def addresses(text: str) -> tuple[str, ...]:
    """Whom to tell; a comma in a command or a URL does not end it where the lines do."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found: list[str] = []
    for line in lines:
        found += [line] if is_sink(line) else words(line)
    for each in found:
        if not is_sink(each) and "@" not in parseaddr(each)[1]:
            raise ValueError(f"names nobody with {each!r}")
    return tuple(found)


def host_port(text: str) -> tuple[str, int]:
    """A host and its port, 0 where none is said; IPv6 in brackets, or bare without one."""
    found = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?|([0-9a-fA-F:.%]+)", text)
    if found is None:
        raise ValueError("is HOST or HOST:PORT")
    port = int(found[2] or found[4] or 0)
    if port > 65535:
        raise ValueError("has no such port")
    return found[1] or found[3] or found[5], port


def extension(text: str) -> str:
    return text if text.startswith(".") or not text else f".{text}"


def msg_format(text: str) -> str:
    """A format of the logging module; doubled percent signs are what older files have."""
    text = text.replace("%%", "%")
    try:
        _ = text % _AnyField()
    except (ValueError, TypeError, KeyError):
        raise ValueError("is no format of Python's logging") from None
    return text


class _AnyField(Mapping[str, Any]):
    """Every field of a log record, as far as a format cares."""

    def __getitem__(self, key: str) -> Any:
        return 1.0 if key in _NUMBERS else "x"

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


_NUMBERS = {"created", "levelno", "lineno", "msecs", "process", "relativeCreated", "thread"}


def password(text: str) -> Password:
    """A secret: as it stands, ``env:NAME``, or ``file:PATH`` (read later, see ``reading``)."""
    where, _, rest = text.partition(":")
    if where == "env" and rest:
        if rest not in os.environ:
            raise ValueError(f"names {rest} in the environment, which is not there")
        return Password(os.environ[rest])
    return Password(text)


KEY_TYPES = ("RSA", "DSA", "ECDSA", "ED25519")

PATHS = {
    *("jobs_dir", "hosts_cfg", "mail_cfgs_dir", "locks_dir", "log_dir", "known_hosts"),
    *("tls_ca", "key_file", "state", "token_file"),
}
"""Options that are paths of this machine."""

Table: TypeAlias = dict[str, tuple[str, Read]]


def _same(**options: Read) -> Table:
    return {name: (name, read) for name, read in options.items()}


_NOTIFY: Table = _same(success=addresses, error=addresses, done=addresses, mail_cfg=str)

APP: dict[str, Table] = {
    "global": _same(
        jobs_dir=str,
        job_cfg_ext=extension,
        hosts_cfg=str,
        collect_data=yes,
        mail_cfgs_dir=str,
        locks_dir=str,
        paths=choice("config", "cwd"),
    ),
    "logging": _same(
        log_dir=str,
        use_subdirs=yes,
        msg_format=msg_format,
        log_level=choice(*LEVELS),
        disabled=yes,
        json=yes,
    ),
    "sftp": {
        "known_hosts": ("known_hosts", str),
        **{
            f"key_{each.lower()}_{part}": (f"key_{each.lower()}_{part}", read)
            for each in KEY_TYPES
            for part, read in (("file", str), ("pass", password))
        },
    },
    "mail": {
        "host": ("host", host_port),
        "security": ("security", choice("STARTTLS", "TLS", "none")),
        "user": ("user", str),
        "password": ("password", password),
        "from": ("sender", str),
        "from_addr": ("sender", str),
        "tls_verify": ("tls_verify", yes),
        "tls_ca": ("tls_ca", str),
    },
    "notify": _NOTIFY,
}

HOST: Table = {
    "type": ("kind", kind),
    "host": ("host", str),
    "user": ("user", str),
    "password": ("password", password),
    "timeout": ("timeout", timeout),
    "connect_timeout": ("connect_timeout", timeout),
    "progress_timeout": ("progress_timeout", timeout),
    "passive_mode": ("passive_mode", yes),
    "encrypt_data": ("encrypt_data", yes),
    "dir_a_option": ("dir_a_option", yes),
    "keep_alive": ("keep_alive", seconds),
    "tls_verify": ("tls_verify", yes),
    "tls_ca": ("tls_ca", str),
    "key_type": ("key_type", choice(*KEY_TYPES)),
    "key_file": ("key_file", str),
    "key_pass": ("key_pass", password),
    "known_hosts": ("known_hosts", str),
    "state": ("state", str),
    "token_file": ("token_file", str),
    "plain": ("plain", yes),
}

JOB: dict[str, Table] = {
    "job": _same(
        name=str,
        info=str,
        collect_data=yes,
        single_instance=yes_or_name,
        ready_file=str,
        retries=number,
        log_disabled=yes,
        log_level=choice(*LEVELS),
    ),
    "source": _same(
        host_id=str,
        path=str,
        files=words,
        ignore=words,
        recursive=yes,
        delete=yes,
        match=choice(*MATCHERS),
        ready_file=str,
    ),
    "target": _same(
        host_id=str,
        path=str,
        temp=parse_temp,
        skip=choice("size,mtime", "digest", "none"),
        verify=choice("auto", "digest", "size"),
        conflict=choice("overwrite", "rename", "skip", "refuse"),
        shared=yes,
    ),
    "notify": _NOTIFY,
    "schedule": _same(every=minutes, cron=str, watch=yes, settle=seconds, poll=seconds),
}
