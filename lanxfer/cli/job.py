"""``lanxfer job``: the options; ``jobbing``, ``job_views`` and ``host_keys`` do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common

F = TypeVar("F", bound=Callable[..., Any])


def _config(command: F) -> F:
    option = click.option(
        "-c",
        "--config",
        metavar="FILE",
        help="The configuration file (or LANXFER_CFG, or FILETRANSFER_CFG).",
    )
    return option(command)


@click.group()
def job() -> None:
    """Move files as a configuration file says (docs/jobs.rst)."""


@job.command()
@click.argument("jobid", metavar="JOBID")
@_config
@click.option("-v", "--verbose", count=True, help="Show the result; twice, where it failed.")
@click.option("--strict", is_flag=True, help="Not ready, or running already, is 75 and not 0.")
@click.option("--dry-run", is_flag=True, help="Only say which files it would move.")
@common
@click.pass_obj
def run(
    choices: Choices, jobid: str, config: str | None, verbose: int, strict: bool, dry_run: bool
) -> int:
    """Run a job to its end."""
    from lanxfer.cli import jobbing, running

    return running.run(
        lambda here: jobbing.run(here, jobid, config, verbose, strict, dry_run),
        choices,
        ending="Ending",
    )


@job.command()
@click.argument("jobid", metavar="[JOBID]", required=False)
@_config
@common
@click.pass_obj
def check(choices: Choices, jobid: str | None, config: str | None) -> int:
    """Say what a job (or each) would do, and what in its files is not understood."""
    from lanxfer.cli import job_views

    return job_views.check(choices, jobid, config)


@job.command("list")
@_config
@common
@click.pass_obj
def list_jobs(choices: Choices, config: str | None) -> int:
    """The jobs there are, and when they run by themselves."""
    from lanxfer.cli import job_views

    return job_views.list_jobs(choices, config)


@job.command()
@click.argument("jobid", metavar="[JOBID]", required=False)
@_config
@common
@click.pass_obj
def status(choices: Choices, jobid: str | None, config: str | None) -> int:
    """Whether a job (or each) runs just now, and what became of its last run."""
    from lanxfer.cli import job_views

    return job_views.status(choices, jobid, config)


@job.command("mail-preview")
@click.argument("jobid", metavar="JOBID")
@_config
@click.option("--failed", is_flag=True, help="The mail about a run that failed.")
@common
@click.pass_obj
def mail_preview(choices: Choices, jobid: str, config: str | None, failed: bool) -> int:
    """Print the mail about a job, and send nothing."""
    from lanxfer.cli import job_views

    return job_views.mail_preview(choices, jobid, config, failed)


@job.command()
@click.argument("host", metavar="HOST[:PORT]")
@_config
@click.option("-f", "--file", metavar="FILE", help="The known_hosts file.")
@click.option("--hashed", is_flag=True, help="Do not show the host's name in the file.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common
@click.pass_obj
def trust(
    choices: Choices, host: str, config: str | None, file: str | None, hashed: bool, yes: bool
) -> int:
    """Show the key of an SFTP host (or of a host of the hosts file) and keep it."""
    from lanxfer.cli import host_keys

    return host_keys.trust(choices, host, config, file, hashed, yes)


@job.command()
@click.argument("host", metavar="HOST[:PORT]")
@_config
@click.option("-f", "--file", metavar="FILE", help="The known_hosts file.")
@common
@click.pass_obj
def untrust(choices: Choices, host: str, config: str | None, file: str | None) -> int:
    """Forget the key of an SFTP host."""
    from lanxfer.cli import host_keys

    return host_keys.untrust(choices, host, config, file)


COMMANDS = (job,)
