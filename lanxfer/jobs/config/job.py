"""A job, from its file or from two mappings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields

from lanxfer.jobs.config import options
from lanxfer.jobs.config.app import read_app, warn_of_notify
from lanxfer.jobs.config.files import Reader, own_sections, parse
from lanxfer.jobs.config.hosts import read_end
from lanxfer.jobs.config.rules import Rules, differs
from lanxfer.jobs.config.settings import AppConfig, JobConfig, Notify, Schedule, Source, Target
from lanxfer.jobs.errors import ConfigError
from lanxfer.state import default_state

_RULES = {each.name for each in fields(Rules)}


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


def read_job(path: str, job_id: str, state: str | None = None) -> JobConfig:
    """A job of the application at ``path``; ConfigError says what is wrong with it."""
    app = read_app(path, state)
    file = job_path(app, job_id)
    if not os.path.exists(file):
        raise ConfigError(f"There is no job {job_id!r}: {file} does not exist.")
    sections = parse(file, "The job file")
    reader = Reader(sections, os.path.basename(file), app.base)
    job = _job(reader, app, job_id)
    own = {name: dict(values) for name, values in app.own.items()}
    for name, values in own_sections(sections).items():
        own.setdefault(name, {}).update(values)
    return evolve(job, own=own, warnings=(*app.warnings, *reader.warnings))


def _job(reader: Reader, app: AppConfig, job_id: str) -> JobConfig:
    settings = reader.section("job", options.JOB["job"])
    source, ready = _source(reader, app)
    notify = Notify(**reader.section("notify", options.JOB["notify"]))
    warn_of_notify(notify, app, reader)
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


def _source(reader: Reader, app: AppConfig) -> tuple[Source, str]:
    found, host = read_end(reader, "source", app)
    rules = {name: found.pop(name) for name in list(found) if name in _RULES}
    ready = found.pop("ready_file", "")
    _check_patterns(rules, reader)
    return Source(**found, host=host, rules=Rules(**rules)), ready


def _target(reader: Reader, app: AppConfig) -> Target:
    found, host = read_end(reader, "target", app)
    return Target(**found, host=host)


def _check_patterns(rules: Mapping[str, Any], reader: Reader) -> None:
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


def read_sections(
    source: Mapping[str, Any], target: Mapping[str, Any], collect_data: bool = False
) -> JobConfig:
    """A job from two mappings, as its sections [source] and [target] would be."""
    sections = {"source": _texts(source), "target": _texts(target)}
    reader = Reader(sections, "transfer", os.getcwd())
    for name in sections:
        if sections[name].get("host_id") and "://" not in sections[name]["host_id"]:
            raise ConfigError(f"[{name}] host_id needs a file of hosts; name its options here.")
    app = AppConfig(locks_dir=os.path.join(default_state(), "jobs"))
    job = _job(reader, app, "transfer")
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
