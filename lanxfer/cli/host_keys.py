"""Keys of SFTP hosts on the command line: shown, kept, forgotten."""

from __future__ import annotations

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.jobbing import guarded
from lanxfer.cli.output import Output
from lanxfer.errors import Exit
from lanxfer.jobs.config.hosts import find_host, known_hosts
from lanxfer.jobs.config.options import host_port
from lanxfer.jobs.config.settings import PORTS
from lanxfer.jobs.errors import ConfigError
from lanxfer.jobs.trusting import fetch_key, forget_host, keep_key, known


def _place(host: str, config: str | None, file: str | None) -> tuple[str, int, str]:
    """Host, port and known_hosts file of what was named: an id of the hosts file, or a host."""
    found = find_host(host, config)
    if found is not None:
        if found.kind != "sftp":
            raise ConfigError(f"The host {host} is not of type SFTP.")
        return found.host, found.port, file or found.known_hosts
    try:
        name, port = host_port(host)
    except ValueError as error:
        raise ConfigError(f"{host} {error}.") from None
    return name, port or PORTS["sftp"], file or known_hosts(config)


def trust(
    choices: Choices, host: str, config: str | None, file: str | None, hashed: bool, yes: bool
) -> int:
    """Show a key, ask, keep it."""

    def work(out: Output) -> int:
        name, port, path = _place(host, config, file)
        key = fetch_key(name, port)
        before = known(path, key)
        row = {"host": key.name, "type": key.kind, "fingerprint": key.fingerprint, "file": path}
        out.line(f"{key.name} has the {key.kind} key\n  {key.fingerprint}")
        if before == "same":
            out.line(f"It is in {path} already.")
            out.row({**row, "kept": True})
            return int(Exit.OK)
        if before == "other":
            out.warn(f"{path} has another key for it. Find out why before you go on.")
        if not yes and not click.confirm("Is that right, and is it to be kept?", err=True):
            out.row({**row, "kept": False})
            return int(Exit.CANCELLED)
        keep_key(path, key, hashed=hashed)
        out.line(f"It is in {path} now.")
        out.row({**row, "kept": True})
        return int(Exit.OK)

    return guarded(choices, work)


def untrust(choices: Choices, host: str, config: str | None, file: str | None) -> int:
    """Forget a key."""

    def work(out: Output) -> int:
        name, port, path = _place(host, config, file)
        entry = name if port == PORTS["sftp"] else f"[{name}]:{port}"
        gone = forget_host(path, entry)
        out.row({"host": entry, "file": path, "forgotten": gone})
        if not gone:
            out.warn(f"{path} has no key for {entry}.")
            return int(Exit.FAILED)
        out.line(f"{path} has no key for {entry} any more.")
        return int(Exit.OK)

    return guarded(choices, work)
