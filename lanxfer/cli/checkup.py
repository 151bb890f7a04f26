"""What ``lanxfer doctor`` does and prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.threads import deferToThread

from lanxfer.cli.output import harmless
from lanxfer.cli.running import Run, service
from lanxfer.discovery.marks import adapters
from lanxfer.doctor.findings import Finding, Level
from lanxfer.doctor.here import look_here
from lanxfer.doctor.there import There
from lanxfer.errors import Exit, Unreachable
from lanxfer.identity import load_identity
from lanxfer.state import StateFolder, default_state

_MARKS = {Level.FINE: "  ok  ", Level.NOTE: "  --  ", Level.FAULT: "FAULT "}


async def look(here: Run, peer: str | None) -> int:
    """Look, and tell; the exit code."""
    state = StateFolder(here.choices.state or default_state())
    found = await deferToThread(adapters)
    status = await _status(here)
    levels = []
    for each in await deferToThread(lambda: list(look_here(state, found, status))):
        levels.append(_tell(here, each))
    if peer is not None:
        identity = load_identity(state)
        async for each in There(here.reactor, state, identity, found, peer).look():
            levels.append(_tell(here, each))
    return int(Exit.FAILED if Level.FAULT in levels else Exit.OK)


async def _status(here: Run) -> Mapping[str, Any] | None:
    try:
        async with service(here) as client:
            return (await client.call("status")).args
    except Unreachable:
        return None


def _tell(here: Run, finding: Finding) -> Level:
    here.out.row(
        {
            "check": finding.check,
            "level": finding.level.value,
            "text": finding.text,
            "advice": finding.advice,
        }
    )
    here.out.line(_MARKS[finding.level] + harmless(finding.text))
    if finding.advice and finding.level is not Level.FINE:
        here.out.line(f"      -> {harmless(finding.advice)}")
    return finding.level
