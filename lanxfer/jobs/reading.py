"""From configuration files to settings; what is not understood is said, not dropped.

Three kinds of files: the application's, one a job, and one for hosts.  They are
those of the filetransfer package, which had the first word on what options are
called; what lanxfer adds has names of its own.
"""

from __future__ import annotations

import configparser
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import evolve, fields

from lanxfer.jobs import options
from lanxfer.jobs.errors import ConfigError
from lanxfer.jobs.options import Table
from lanxfer.jobs.rules import Rules, differs
from lanxfer.jobs.settings import (
    PORTS,
    AppConfig,
    Host,
    JobConfig,
    Logging,
    MailServer,
    Notify,
    Password,
    Schedule,
    Source,
    Target,
)
from lanxfer.state import default_state

ENVIRONMENT = ("LANXFER_CFG", "FILETRANSFER_CFG")
EXTRA = "x:"
_KNOWN_HOSTS = "~/.ssh/known_hosts"

_RULES = {each.name for each in fields(Rules)}


def config_path(named: str | None) -> str:
    """The application's file: the one that is named, else what the environment says."""
    for each in (named, *(os.environ.get(name) for name in ENVIRONMENT)):
        if each:
            return os.path.abspath(os.path.expanduser(each))
    raise ConfigError("No configuration file is named; use --config or LANXFER_CFG.")


class _Reader:
    """The sections of one file, and what is wrong with them.

    Paths are relative to ``base``.
    """

    def __init__(self, sections: Mapping[str, Mapping[str, str]], label: str, base: str) -> None:
        self.sections = sections
        self.label = label
        self.base = base
        self.warnings: list[str] = []

    def section(self, name: str, table: Table) -> dict[str, Any]:
        """The settings that a section makes; ConfigError for a value that makes no sense."""
        found: dict[str, Any] = {}
        for option, text in self.sections.get(name, {}).items():
            if option not in table:
                self.warnings.append(f"{self.label}: [{name}] {option} is not known.")
                continue
            setting, read = table[option]
            try:
                found[setting] = self._value(option, str(text).strip(), read)
            except ValueError as error:
                raise ConfigError(f"{self.label}: [{name}] {option} {error}.") from None
        return found

    def _value(self, option: str, text: str, read: options.Read) -> Any:
        if read is options.password and text.startswith("file:"):
            return Password(self._secret(self.path(text[5:])))
        return read(self.path(text) if option in options.PATHS and text else text)

    def _secret(self, path: str) -> str:
        try:
            with open(path, encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode
                found = file.read(4096).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise ValueError(f"names a file that cannot be read ({why})") from None
        if mode & 0o077 and stat.S_ISREG(mode) and sys.platform != "win32":
            self.warnings.append(f"{self.label}: {path} is open to other users of this machine.")
        return found

    def path(self, text: str) -> str:
        """A path of this machine, whole."""
        return os.path.normpath(os.path.join(self.base, os.path.expanduser(text)))

    def unknown_sections(self, known: Sequence[str]) -> None:
        self.warnings += [
            f"{self.label}: [{name}] is not known."
            for name in self.sections
            if name not in known and not name.startswith(EXTRA)
        ]


def _parse(path: str, label: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise ConfigError(f"{label} {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{label} {path} is not UTF-8.") from None
    except configparser.Error as error:
        why = str(error).replace("\n", " ")
        raise ConfigError(f"{label} {path} cannot be understood: {why}.") from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


# The application.


def read_app(
    path: str, state: str | None = None
) -> tuple[AppConfig, dict[str, dict[str, str]], list[str]]:
    """The application's settings, its own sections as text, and what was not understood.

    ``state`` is the folder below which locks are where the file says nothing.
    """
    sections = _parse(path, "The configuration file")
    if "global" not in sections:
        raise ConfigError(f"The configuration file {path} has no section [global].")
    base = os.path.dirname(path)
    if sections["global"].get("paths", "").strip().lower() == "cwd":
        base = os.getcwd()
    reader = _Reader(sections, os.path.basename(path), base)
    general = reader.section("global", options.APP["global"])
    general.pop("paths", None)
    if not general.get("jobs_dir"):
        raise ConfigError(f"{reader.label}: [global] jobs_dir is missing.")
    if not general.get("locks_dir"):
        general["locks_dir"] = os.path.join(os.path.abspath(state or default_state()), "jobs")
    app = AppConfig(
        path=path,
        **general,
        logging=Logging(**reader.section("logging", options.APP["logging"])),
        sftp=reader.section("sftp", options.APP["sftp"]),
        mail=_mail(reader),
        notify=Notify(**reader.section("notify", options.APP["notify"])),
    )
    reader.unknown_sections(list(options.APP))
    _warn_of_notify(app.notify, app, reader)
    # Options that belong to a directory of their own are looked for when they are used.
    return app, sections, reader.warnings


def _mail(reader: _Reader) -> MailServer | None:
    found = reader.section("mail", options.APP["mail"])
    if not found:
        return None
    missing = [name for name in ("host", "sender") if not found.get(name)]
    if missing:
        named = "from" if missing[0] == "sender" else missing[0]
        raise ConfigError(f"{reader.label}: [mail] {named} is missing.")
    host, port = found.pop("host")
    if found.get("security") == "none":
        found["security"] = ""
    if found.get("user") and not found.get("password"):
        raise ConfigError(f"{reader.label}: [mail] password is missing.")
    if found.get("user") and not found.get("security") and host not in _LOOPBACK:
        reader.warnings.append(f"{reader.label}: [mail] the password would go in plain text.")
    return MailServer(host=host, port=port or PORTS["smtp"], **found)


_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _warn_of_notify(notify: Notify, app: AppConfig, reader: _Reader) -> None:
    mails = [each for each in notify.whom(True) + notify.whom(False) if not options.is_sink(each)]
    if mails and app.mail is None:
        reader.warnings.append(
            f"{reader.label}: [notify] names addresses, but there is no mail server."
        )


# Jobs.


def job_path(app: AppConfig, job_id: str) -> str:
    """Where the file of a job is."""
    if not job_id or job_id in {".", ".."} or "/" in job_id or os.sep in job_id:
        raise ConfigError(f"{job_id!r} cannot be the name of a job.")
    return os.path.join(app.jobs_dir, job_id + app.job_cfg_ext)


def job_ids(app: AppConfig) -> list[str]:
    """Every job there is a file for."""
    try:
        names = os.listdir(app.jobs_dir)
    except OSError as error:
        raise ConfigError(f"The folder {app.jobs_dir} cannot be read: {error.strerror}.") from None
    ext = app.job_cfg_ext
    found = (name[: len(name) - len(ext)] for name in names if name.endswith(ext))
    return sorted(each for each in found if each and not each.startswith("."))


def read_job(
    path: str, job_id: str, state: str | None = None
) -> tuple[JobConfig, dict[str, dict[str, str]]]:
    """A job and its own sections merged, from the files of the application at ``path``."""
    app, app_sections, warnings = read_app(path, state)
    file = job_path(app, job_id)
    if not os.path.exists(file):
        raise ConfigError(f"There is no job {job_id!r}: {file} does not exist.")
    sections = _parse(file, "The job file")
    base = os.path.dirname(app.path)
    if app_sections["global"].get("paths", "").strip().lower() == "cwd":
        base = os.getcwd()
    reader = _Reader(sections, os.path.basename(file), base)
    job = _job(reader, app, job_id)
    return evolve(job, warnings=(*warnings, *reader.warnings)), _merged(app_sections, sections)


def _job(reader: _Reader, app: AppConfig, job_id: str) -> JobConfig:
    settings = reader.section("job", options.JOB["job"])
    source, ready = _source(reader, app)
    notify = Notify(**reader.section("notify", options.JOB["notify"]))
    _warn_of_notify(notify, app, reader)
    named = settings.get("single_instance", "")
    logging = app.logging
    if "log_level" in settings:
        logging = evolve(logging, log_level=settings["log_level"])
    if "log_disabled" in settings:
        logging = evolve(logging, disabled=settings["log_disabled"])
    job = JobConfig(
        id=job_id,
        source=source,
        target=_target(reader, app),
        name=settings.get("name") or job_id,
        info=settings.get("info", ""),
        collect_data=settings.get("collect_data", app.collect_data),
        lock=job_id if named == "yes" else named,
        ready_file=settings.get("ready_file") or ready,
        retries=settings.get("retries", 0),
        logging=logging,
        notify=app.notify.plus(notify),
        schedule=Schedule(**reader.section("schedule", options.JOB["schedule"])),
        app=app,
    )
    reader.unknown_sections(list(options.JOB))
    return job


def _source(reader: _Reader, app: AppConfig) -> tuple[Source, str]:
    found, host = _end(reader, "source", app)
    rules = {name: found.pop(name) for name in list(found) if name in _RULES}
    ready = found.pop("ready_file", "")
    _check_patterns(rules, reader)
    return Source(**found, host=host, rules=Rules(**rules)), ready


def _target(reader: _Reader, app: AppConfig) -> Target:
    found, host = _end(reader, "target", app)
    return Target(**found, host=host)


def _check_patterns(rules: Mapping[str, Any], reader: _Reader) -> None:
    try:
        Rules(**rules).matcher()
    except ValueError as error:
        raise ConfigError(f"{reader.label}: [source] a pattern makes no sense: {error}.") from None
    if "match" not in rules:
        odd = [p for name in ("files", "ignore") for p in rules.get(name, ()) if differs(p)]
        reader.warnings += [
            f"{reader.label}: [source] the pattern {each} is read as gitignore reads it;"
            " say match = fnmatch for the older meaning."
            for each in odd
        ]


def _end(reader: _Reader, name: str, app: AppConfig) -> tuple[dict[str, Any], Host]:
    if name not in reader.sections:
        raise ConfigError(f"{reader.label}: the section [{name}] is missing.")
    own = reader.sections[name]
    host_id = str(own.get("host_id", "")).strip()
    table = options.JOB[name]
    inline = not host_id or "://" in host_id
    if inline:
        table = {**table, **options.HOST}
    found = reader.section(name, table)
    found.pop("host_id", None)
    if inline:
        about = {key: found.pop(key) for key in _host_settings(found)}
        host = _host(_from_url(host_id, about), app, f"{reader.label}: [{name}]", host_id)
    else:
        host = _read_host(host_id, app, reader)
    path = found.get("path", "")
    if not path and host.kind != "lanxfer":
        raise ConfigError(f"{reader.label}: [{name}] path is missing.")
    found["path"] = reader.path(path) if host.kind == "local" else path
    return found, host


def _host_settings(found: Mapping[str, Any]) -> list[str]:
    names = {setting for setting, _ in options.HOST.values()}
    return [key for key in found if key in names]


def _from_url(text: str, about: dict[str, Any]) -> dict[str, Any]:
    """What a host named in one string says, such as ``sftp://user@host:2222``."""
    if not text:
        return about
    try:
        parts = urlsplit(text)
        if parts.password is not None:
            raise ConfigError("A password does not belong into the name of a host.")
        kind = options.kind(parts.scheme)
    except ValueError as error:
        raise ConfigError(f"The host {text!r} {error}.") from None
    host = parts.netloc.rpartition("@")[2]
    user = {"user": unquote(parts.username)} if parts.username else {}
    return {"kind": kind, "host": host, **user, **about}


# Hosts.


def _read_host(host_id: str, app: AppConfig, job: _Reader) -> Host:
    if not app.hosts_cfg:
        raise ConfigError(
            f"{job.label}: host_id = {host_id}, but [global] hosts_cfg names no file of hosts."
        )
    sections = _parse(app.hosts_cfg, "The hosts file")
    if host_id not in sections:
        raise ConfigError(f"There is no host {host_id!r} in {app.hosts_cfg}.")
    reader = _Reader(sections, os.path.basename(app.hosts_cfg), job.base)
    special = {key: sections[host_id].pop(key) for key in _special(sections[host_id])}
    found = reader.section(host_id, options.HOST)
    found["options"] = {key[3:]: text for key, text in special.items()}
    host = _host(found, app, f"{reader.label}: [{host_id}]", host_id)
    job.warnings += reader.warnings
    return host


def _special(section: Mapping[str, str]) -> list[str]:
    """Options that go to an fsspec back end as they are: ``fs_NAME``."""
    return [key for key in section if key.startswith("fs_")]


def _host(found: dict[str, Any], app: AppConfig, label: str, host_id: str) -> Host:
    found = dict(found)
    if "timeout" in found:  # one number for both, in older files
        both = found.pop("timeout")
        found = {"connect_timeout": both, "progress_timeout": both, **found}
    kind = found.get("kind", "local")
    where = found.pop("host", "")
    host = Host(id=host_id, **found)
    if kind == "local":
        return host
    if not where and not kind.startswith("fsspec:"):
        raise ConfigError(f"{label} host is missing.")
    if kind == "lanxfer":
        return evolve(host, peer=where)
    try:
        name, port = options.host_port(where) if where else ("", 0)
    except ValueError as error:
        raise ConfigError(f"{label} host {error}.") from None
    host = evolve(host, host=name, port=port or PORTS.get(kind, 0))
    if kind in ("ftp", "ftps", "sftp") and not host.user:
        raise ConfigError(f"{label} user is missing.")
    if kind in ("ftp", "ftps") and host.password is None:
        raise ConfigError(f"{label} password is missing.")
    return _sftp(host, app, label) if kind == "sftp" else host


def _sftp(host: Host, app: AppConfig, label: str) -> Host:
    known = host.known_hosts or app.sftp.get("known_hosts") or os.path.expanduser(_KNOWN_HOSTS)
    host = evolve(host, known_hosts=str(known))
    if host.key_type and not host.key_file:
        low = host.key_type.lower()
        file = app.sftp.get(f"key_{low}_file")
        if not file:
            raise ConfigError(f"{label} key_file is missing, and so is [sftp] key_{low}_file.")
        secret = app.sftp.get(f"key_{low}_pass")
        host = evolve(
            host, key_file=str(file), key_pass=secret if isinstance(secret, Password) else None
        )
    if host.password is None and not host.key_file:
        raise ConfigError(f"{label} needs a password or a key_type.")
    return host


# Without files.


def read_sections(
    source: Mapping[str, Any], target: Mapping[str, Any], collect_data: bool = False
) -> JobConfig:
    """A job from two mappings, as its sections [source] and [target] would be."""
    sections = {"source": _texts(source), "target": _texts(target)}
    reader = _Reader(sections, "transfer", os.getcwd())
    for name in sections:
        if sections[name].get("host_id") and "://" not in sections[name]["host_id"]:
            raise ConfigError(f"[{name}] host_id needs a file of hosts; name its options here.")
    job = _job(reader, AppConfig(locks_dir=os.path.join(default_state(), "jobs")), "transfer")
    return evolve(
        job,
        collect_data=collect_data,
        warnings=tuple(reader.warnings),
        logging=evolve(job.logging, disabled=True),
    )


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(key).lower(): _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else os.fspath(value) if hasattr(value, "__fspath__") else str(value)


# An application's own sections.


def _merged(
    app: Mapping[str, Mapping[str, str]], job: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for sections in (app, job):
        for name, values in sections.items():
            if name.startswith(EXTRA):
                found.setdefault(name[len(EXTRA) :], {}).update(values)
    return found


def extra_sections(
    merged: Mapping[str, Mapping[str, str]], **how: Any
) -> configparser.ConfigParser:
    """The sections named ``x:NAME`` of both files; ``how`` is for the ConfigParser."""
    parser = configparser.ConfigParser(**how)
    try:
        parser.read_dict(merged)
    except (configparser.Error, ValueError) as error:
        raise ConfigError(f"A section of your own cannot be understood: {error}.") from None
    return parser


# For commands about hosts.


def find_host(host_id: str, config: str | None) -> Host | None:
    """A host of the hosts file; None where there is no such file or host in it."""
    try:
        app, _, _ = read_app(config_path(config))
    except ConfigError:
        if config is None:
            return None
        raise
    if not app.hosts_cfg or host_id not in _parse(app.hosts_cfg, "The hosts file"):
        return None
    return _read_host(host_id, app, _Reader({}, "", os.path.dirname(app.path)))


def known_hosts(config: str | None) -> str:
    """The known_hosts file of the application, else the user's own."""
    try:
        app, _, _ = read_app(config_path(config))
    except ConfigError:
        if config is not None:
            raise
        return os.path.expanduser(_KNOWN_HOSTS)
    return str(app.sftp.get("known_hosts") or os.path.expanduser(_KNOWN_HOSTS))
