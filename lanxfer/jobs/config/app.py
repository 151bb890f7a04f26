"""The application's file: what all its jobs have in common."""

from __future__ import annotations

import os

from attrs import evolve

from lanxfer.jobs.config import options
from lanxfer.jobs.config.files import Reader, own_sections, parse
from lanxfer.jobs.config.settings import (
    PORTS,
    AppConfig,
    Logging,
    MailServer,
    Notify,
    is_sink,
)
from lanxfer.jobs.errors import ConfigError
from lanxfer.state import default_state

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def read_app(path: str, state: str | None = None) -> AppConfig:
    """The application's settings; ConfigError says what is wrong with them.

    ``state`` is the folder below which locks are where the file says nothing.
    """
    sections = parse(path, "The configuration file")
    if "global" not in sections:
        raise ConfigError(f"The configuration file {path} has no section [global].")
    base = os.path.dirname(path)
    if sections["global"].get("paths", "").strip().lower() == "cwd":
        base = os.getcwd()
    reader = Reader(sections, os.path.basename(path), base)
    general = reader.section("global", options.APP["global"])
    general.pop("paths", None)
    if not general.get("jobs_dir"):
        raise ConfigError(f"{reader.label}: [global] jobs_dir is missing.")
    if not general.get("locks_dir"):
        general["locks_dir"] = os.path.join(os.path.abspath(state or default_state()), "jobs")
    app = AppConfig(
        path=path,
        base=base,
        own=own_sections(sections),
        **general,
        logging=Logging(**reader.section("logging", options.APP["logging"])),
        sftp=reader.section("sftp", options.APP["sftp"]),
        mail=_mail(reader),
        notify=Notify(**reader.section("notify", options.APP["notify"])),
    )
    reader.unknown_sections(list(options.APP))
    warn_of_notify(app.notify, app, reader)
    return evolve(app, warnings=tuple(reader.warnings))


def _mail(reader: Reader) -> MailServer | None:
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


def warn_of_notify(notify: Notify, app: AppConfig, reader: Reader) -> None:
    """Warn where mail is to go out and cannot."""
    mails = [each for each in notify.whom(True) + notify.whom(False) if not is_sink(each)]
    if mails and app.mail is None:
        reader.warnings.append(
            f"{reader.label}: [notify] names addresses, but there is no mail server."
        )
