"""Jobs: files that are moved because a configuration file says so (docs/jobs.rst).

::

    run, extra = configure("lanxfer.cfg", "nightly")
    result, code = await run()

Calls return Deferreds; ``lanxfer.jobs.blocking`` has the same for scripts
without a reactor of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from configparser import ConfigParser, RawConfigParser
from typing import Any

from twisted.internet.defer import Deferred

from lanxfer.jobs.config.files import as_parser, config_path
from lanxfer.jobs.config.job import read_job, read_sections
from lanxfer.jobs.errors import (
    ConfigError,
    ConnectError,
    Error,
    NotReadyError,
    SingleInstanceError,
    Terminated,
    TransferError,
)
from lanxfer.jobs.results import FileTag, FileTags, JobResult
from lanxfer.jobs.running import Job, Ran, set_sigterm_handler

__all__ = [
    "ConfigError",
    "ConnectError",
    "Error",
    "FileTag",
    "FileTags",
    "Job",
    "JobResult",
    "NotReadyError",
    "Ran",
    "SingleInstanceError",
    "Terminated",
    "TransferError",
    "configure",
    "load",
    "set_sigterm_handler",
    "transfer",
]


def load(
    app_cfg: str | os.PathLike[str] | None,
    job_id: str,
    *,
    reactor: Any = None,
    state: str | None = None,
    **how: Any,
) -> tuple[Job, ConfigParser]:
    """A job from its files, and the sections ``x:NAME`` of both; ConfigError says what is wrong.

    ``app_cfg`` None is what LANXFER_CFG names; ``how`` is for the ConfigParser of
    the extra sections (defaults, interpolation), ``state`` the folder of this
    device's key and known peers.
    """
    named = None if app_cfg is None else os.fspath(app_cfg)
    config = read_job(config_path(named), job_id, state)
    return Job(_reactor(reactor), config, state=state), as_parser(config.own, **how)


def configure(
    app_cfg: str | os.PathLike[str] | None, job_id: str, *, reactor: Any = None, **how: Any
) -> tuple[Callable[..., Deferred[Ran]], ConfigParser]:
    """``load``, giving the function that runs the job; see ``Job.run``."""
    job, extra = load(app_cfg, job_id, reactor=reactor, **how)
    return job.run, extra


def transfer(
    source: Mapping[str, Any] | RawConfigParser,
    target: Mapping[str, Any] | None = None,
    *,
    collect_data: bool = False,
    reactor: Any = None,
) -> Deferred[JobResult]:
    """Move files without any configuration file; fires with the result, fails as ``Job.run``.

    Two mappings of what the sections [source] and [target] would say, a host's
    options among them, or a ConfigParser that has both.
    """

    async def run() -> JobResult:
        first, second = _sections(source, target)
        config = read_sections(first, second, collect_data)
        return (await Job(_reactor(reactor), config).run()).result

    return Deferred.fromCoroutine(run())


def _sections(
    source: Mapping[str, Any] | RawConfigParser, target: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if not isinstance(source, RawConfigParser):
        if target is None:
            raise ConfigError("There is no target.")
        return source, target
    for name in ("source", "target"):
        if not source.has_section(name):
            raise ConfigError(f"The section [{name}] is missing.")
    return dict(source.items("source")), dict(source.items("target"))


def _reactor(named: Any) -> Any:
    if named is not None:
        return named
    from twisted.internet import reactor

    return reactor
