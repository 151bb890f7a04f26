"""When a job is to run: every so often, or at times as cron has them."""

from __future__ import annotations

from datetime import datetime, timedelta

from lanxfer.jobs.config.settings import Schedule
from lanxfer.jobs.errors import ConfigError


def next_run(schedule: Schedule, now: datetime, last: datetime | None) -> datetime | None:
    """The next time, never before ``now``; None where only changes of a folder start it.

    ``last`` is when the last run began: ``every`` counts from it, so that a
    service that was started again does not begin all over.
    """
    times = []
    if schedule.every:
        every = timedelta(seconds=schedule.every)
        times.append(now if last is None or last > now else max(now, last + every))
    if schedule.cron:
        times.append(_cron(schedule.cron, now))
    return min(times, default=None)


def check(schedule: Schedule) -> str:
    """What is wrong with it; "" where nothing is."""
    if not schedule.cron:
        return ""
    try:
        _cron(schedule.cron, datetime(2026, 1, 1))
    except ConfigError as error:
        return error.reason
    return ""


def _cron(text: str, now: datetime) -> datetime:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise ConfigError(
            "cron = needs the Python package cronsim; install lanxfer[jobs]."
        ) from None
    try:
        return next(CronSim(text, now))
    except CronSimError as error:
        raise ConfigError(f"cron = {text} makes no sense: {error}.") from None
    except StopIteration:
        raise ConfigError(f"cron = {text} never comes.") from None
