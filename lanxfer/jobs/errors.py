"""What ends a job, each with the exit code of a command that ends so (docs/jobs.rst, "Exit codes").

A family of its own beside ``lanxfer.errors``: its codes are numbers, as scripts
that run jobs have always known them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from lanxfer.jobs.results import JobResult

TEMPORARY = 75
"""With ``--strict``: not now, later perhaps (EX_TEMPFAIL)."""


class Error(Exception):
    """A job could not do what it was to do."""

    code: ClassVar[int] = 2
    result: JobResult | None = None
    """What had been done until then."""

    def __init__(self, reason: str = "", *, again: bool = False) -> None:
        self.reason = reason or (type(self).__doc__ or "").partition("\n")[0]
        self.again = again  # whether a later attempt of the same run can go better
        super().__init__(self.reason)


class ConfigError(Error):
    """The configuration makes no sense."""

    code = 3


class ConnectError(Error):
    """There is no connection to a server."""

    code = 2


class TransferError(Error):
    """The transfer as a whole cannot go on."""

    code = 2


class SingleInstanceError(Error):
    """The same job is running already."""

    code = 0


class NotReadyError(Error):
    """The file that says that all is ready is not there."""

    code = 0


class Terminated(BaseException):
    """Ended by a signal or a cancel.

    No ``Exception``: what catches those to carry on is not to catch this one.
    """

    code: ClassVar[int] = 5
    result: JobResult | None = None

    def __init__(self, reason: str = "") -> None:
        self.reason = reason or "Ended before it was done."
        super().__init__(self.reason)


def exit_code(error: BaseException | None, result: JobResult | None, strict: bool = False) -> int:
    """The exit code of a command whose job ended so.

    ``strict`` tells what was not run from what had nothing to do.
    """
    if isinstance(error, (SingleInstanceError, NotReadyError)):
        return TEMPORARY if strict else error.code
    if isinstance(error, (Error, Terminated)):
        return error.code
    if error is not None:
        return Error.code
    return 0 if result is None else result.exit_code
