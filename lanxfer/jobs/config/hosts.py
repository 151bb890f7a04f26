"""Where a source or target is: a host of the hosts file, or one that the job itself describes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import evolve

from lanxfer.jobs.config import options
from lanxfer.jobs.config.app import read_app
from lanxfer.jobs.config.files import Reader, config_path, parse
from lanxfer.jobs.config.settings import PORTS, AppConfig, Host, Password
from lanxfer.jobs.errors import ConfigError

SPECIAL = "fs_"
"""How options begin that a back end of fsspec gets as they are."""

_KNOWN_HOSTS = "~/.ssh/known_hosts"


def read_end(reader: Reader, name: str, app: AppConfig) -> tuple[dict[str, Any], Host]:
    """What the section [source] or [target] says, and the host of it."""
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
        host = read_host(host_id, app, reader)
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


def read_host(host_id: str, app: AppConfig, job: Reader) -> Host:
    """A host of the hosts file; ``job`` gets the warnings about it."""
    if not app.hosts_cfg:
        raise ConfigError(
            f"{job.label}: host_id = {host_id}, but [global] hosts_cfg names no file of hosts."
        )
    sections = parse(app.hosts_cfg, "The hosts file")
    if host_id not in sections:
        raise ConfigError(f"There is no host {host_id!r} in {app.hosts_cfg}.")
    reader = Reader(sections, os.path.basename(app.hosts_cfg), job.base)
    special = {
        name: (name, options.password) for name in sections[host_id] if name.startswith(SPECIAL)
    }
    found = reader.section(host_id, {**options.HOST, **special})
    found["options"] = {name.removeprefix(SPECIAL): found.pop(name) for name in special}
    host = _host(found, app, f"{reader.label}: [{host_id}]", host_id)
    job.warnings += reader.warnings
    return host


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


def find_host(host_id: str, config: str | None) -> Host | None:
    """A host of the hosts file; None where there is no such file or host in it."""
    try:
        app = read_app(config_path(config))
    except ConfigError:
        if config is None:
            return None
        raise
    if not app.hosts_cfg or host_id not in parse(app.hosts_cfg, "The hosts file"):
        return None
    return read_host(host_id, app, Reader({}, "", os.path.dirname(app.path)))


def known_hosts(config: str | None) -> str:
    """The known_hosts file of the application, else the user's own."""
    try:
        app = read_app(config_path(config))
    except ConfigError:
        if config is not None:
            raise
        return os.path.expanduser(_KNOWN_HOSTS)
    return str(app.sftp.get("known_hosts") or os.path.expanduser(_KNOWN_HOSTS))
