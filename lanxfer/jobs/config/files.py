"""Configuration files as text, section by section; what is not understood is said, not dropped."""

from __future__ import annotations

import configparser
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lanxfer.jobs.config import options
from lanxfer.jobs.config.options import Table
from lanxfer.jobs.config.settings import Password, Sections
from lanxfer.jobs.errors import ConfigError

ENVIRONMENT = ("LANXFER_CFG", "FILETRANSFER_CFG")

EXTRA = "x:"
"""How the names of an application's own sections begin."""


def config_path(named: str | None) -> str:
    """The application's file: the one that is named, else what the environment says."""
    for each in (named, *(os.environ.get(name) for name in ENVIRONMENT)):
        if each:
            return os.path.abspath(os.path.expanduser(each))
    raise ConfigError("No configuration file is named; use --config or LANXFER_CFG.")


class Reader:
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
        """Warn of every section but ``known`` and those that lanxfer leaves alone."""
        self.warnings += [
            f"{self.label}: [{name}] is not known."
            for name in self.sections
            if name not in known and not name.startswith(EXTRA)
        ]


def parse(path: str, label: str) -> Sections:
    """The sections of a file; ``label`` is what an error calls it."""
    parser = configparser.RawConfigParser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise ConfigError(f"{label} {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{label} {path} is not UTF-8.") from None
    except configparser.Error as error:
        raise ConfigError(f"{label} {path} cannot be understood: {_why(error)}.") from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _why(error: configparser.Error) -> str:
    """Without the line itself, which may hold a password."""
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} stands before the first section"
    if isinstance(error, configparser.ParsingError):
        return f"line {error.errors[0][0]} is no option"
    return str(error).replace("\n", " ")


def own_sections(sections: Sections) -> Sections:
    """Those that lanxfer leaves alone, without their ``x:``."""
    return {
        name.removeprefix(EXTRA): values
        for name, values in sections.items()
        if name.startswith(EXTRA)
    }


def as_parser(sections: Sections, **how: Any) -> configparser.ConfigParser:
    """Sections as a ConfigParser, which ``how`` is for."""
    parser = configparser.ConfigParser(**how)
    try:
        parser.read_dict(sections)
    except (configparser.Error, ValueError) as error:
        raise ConfigError(f"A section of your own cannot be understood: {error}.") from None
    return parser
