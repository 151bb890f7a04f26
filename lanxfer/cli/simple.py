"""``lanxfer send PATH... PEER`` as it is mostly typed, read and done without click.

Importing click, and telling it of all the options there are, takes a quarter of the time that
sending a small file does.  A line that says more than this is for click, which reads this one to
the same effect.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lanxfer.cli import ways
from lanxfer.cli.choices import COMPLETING, Choices
from lanxfer.cli.jobs import Job, Over
from lanxfer.cli.output import failed, make_printable
from lanxfer.state import forbid_cores

_COMMON = {"-q": "quiet", "--quiet": "quiet", "--json": "json"}
"""Options that may be in front of the command's name as well, and where they are kept."""
_STATE = ("-s", "--state")
_OWN = ("--plain", "--here")


class Line(NamedTuple):
    """What such a line says."""

    choices: Choices
    job: Job
    here: bool

    def run(self) -> int:
        """Do it; the exit code."""
        make_printable()
        forbid_cores()
        try:
            return ways.send(*self)
        except (Exception, KeyboardInterrupt) as error:
            return failed(error, self.choices.json)


def read(words: Sequence[str], environ: Mapping[str, str]) -> Line | None:
    """What is said by the words after ``lanxfer``; None where that is for click to find out."""
    if COMPLETING in environ or sys.platform == "win32":  # where click finds what "*" stands for
        return None
    choices, named, own = Choices(), list[str](), set[str]()
    left = iter(words)
    for word in left:
        if word in _COMMON:
            setattr(choices, _COMMON[word], True)
        elif word in _STATE and choices.state is None:
            choices.state = next(left, "")
            if choices.state[:1] in ("", "-"):
                return None
        elif word in _OWN and named:
            own.add(word)
        elif word[:1] in ("", "-"):
            return None
        else:
            named.append(word)
    match named:
        case ["send", *paths, peer] if paths:
            over = Over(peer, plain="--plain" in own)
            return Line(choices, Job(tuple(paths), over), "--here" in own)
    return None
