"""The ways there are to do ``lanxfer send`` and ``lanxfer message``.

The service here does it (``handing``), or this process without a reactor (``straight``,
``straight_many``), or with one (``sending``): in this order, until one of them can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lanxfer.cli.choices import Choices
from lanxfer.cli.jobs import Job, Over
from lanxfer.cli.output import Output

if TYPE_CHECKING:
    from lanxfer.cli.begun import Begun

PLAIN = "Plain text: nobody has proved who receives this, and others may read it."


def send(choices: Choices, job: Job, here: bool) -> int:
    """Send what was asked for; the exit code.  ``here`` leaves out the service."""
    _warn_of_plain(choices, job.over)
    begun = None
    if not (job.stdin or job.over.clear_body):
        done = _sent(choices, job, here)
        if isinstance(done, int):
            return done
        begun = done
    return _with_reactor(choices, lambda way, running: way.send(running, job, begun))


def queue(choices: Choices, job: Job) -> int:
    """Have the service send it when the other device is there; the exit code."""
    return _with_reactor(choices, lambda way, running: way.queue(running, job))


def message(choices: Choices, text: str, over: Over, here: bool) -> int:
    """Send a text; the exit code."""
    _warn_of_plain(choices, over)
    done = _without_reactor(here, lambda way: way.message(choices, text, over))
    if done is not None:
        return done
    return _with_reactor(choices, lambda way, running: way.message(running, text, over))


def _sent(choices: Choices, job: Job, here: bool) -> int | Begun | None:
    """The exit code, or what is left to be sent, or None where nothing was begun."""
    done = _without_reactor(here, lambda way: way.send(choices, job))
    if done is not None:
        return done
    from lanxfer.cli import straight_many

    return straight_many.send(choices, job)


def _without_reactor(here: bool, ask: Callable[[Any], int | None]) -> int | None:
    """Have it done by the service, or do it in a moment; None where it takes more than that."""
    from lanxfer.cli import handing

    done = None if here else ask(handing)
    if done is None:
        from lanxfer.cli import straight

        done = ask(straight)
    return done


def _with_reactor(choices: Choices, ask: Callable[[Any, Any], Any]) -> int:
    """Have it done with all there is, whose import takes longer than most of what is sent."""
    from lanxfer.cli import sending
    from lanxfer.cli.running import run

    return run(lambda running: ask(sending, running), choices)


def _warn_of_plain(choices: Choices, over: Over) -> None:
    if over.plain or over.legacy:
        Output(choices.json, choices.quiet).say(PLAIN)
