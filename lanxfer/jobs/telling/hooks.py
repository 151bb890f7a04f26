"""Commands and web servers that are told of a run: the report as JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol, Protocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from lanxfer.jobs.telling.reports import PATIENCE, NotTold, Report

REAP_EVERY = 0.05
"""Seconds."""


async def run_command(reactor: Any, command: str, report: Report) -> None:
    """Run a command with the report on its standard input as JSON, and in its environment."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise NotTold(str(error)) from None
    if not words:
        raise NotTold("There is no command.")
    environment = {**os.environ, **_environment(report)}
    protocol = _Command(json.dumps(report.as_row()).encode())
    process = reactor.spawnProcess(protocol, words[0], words, environment)
    protocol.ended.addTimeout(PATIENCE, reactor, lambda result, seconds: _late(process, seconds))
    with _reaping(reactor):
        await protocol.ended


@contextmanager
def _reaping(reactor: Any) -> Iterator[None]:
    """Hear of processes that end, where signals are not the reactor's: nobody else would."""
    looking: LoopingCall | None = None
    if sys.platform != "win32":
        from twisted.internet.process import reapAllProcesses

        looking = LoopingCall(reapAllProcesses)
        looking.clock = reactor
        looking.start(REAP_EVERY, now=False)
    try:
        yield
    finally:
        if looking is not None:
            looking.stop()


def _late(process: Any, seconds: float) -> Failure:
    process.signalProcess("KILL")
    return Failure(NotTold(f"It was not done after {seconds:g} seconds."))


def _environment(report: Report) -> dict[str, str]:
    result = report.result
    return {
        "LANXFER_JOB": report.job.id,
        "LANXFER_JOB_NAME": report.job.name,
        "LANXFER_JOB_EXIT": str(report.code),
        "LANXFER_JOB_ERROR": "" if report.error is None else str(report.error),
        "LANXFER_JOB_FILES": str(0 if result is None else result.files_cnt),
    }


class _Command(ProcessProtocol):
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._said = b""
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._data)
        self.transport.closeStdin()

    def errReceived(self, data: bytes) -> None:
        self._said = (self._said + data)[-1000:]

    def processEnded(self, reason: Failure) -> None:
        if self.ended.called:
            return
        if reason.check(ProcessDone):
            self.ended.callback(None)
        else:
            code = getattr(reason.value, "exitCode", None)
            said = self._said.decode(errors="replace").strip()
            why = f"It ended with {code}" if code is not None else "It was killed"
            self.ended.errback(NotTold(f"{why}{': ' + said if said else ''}."))


class _NotRead(Protocol):
    """Whatever a web server has to say beside its code."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


async def post(reactor: Any, url: str, report: Report) -> None:
    """Post the report as JSON."""
    from twisted.web.client import Agent, FileBodyProducer
    from twisted.web.http_headers import Headers

    body = FileBodyProducer(BytesIO(json.dumps(report.as_row()).encode()))
    headers = Headers({b"Content-Type": [b"application/json"], b"User-Agent": [b"lanxfer"]})
    agent = Agent(reactor, connectTimeout=PATIENCE)

    async def ask() -> int:
        response: Any = await agent.request(b"POST", url.encode(), headers, body)
        response.deliverBody(_NotRead())
        return int(response.code)

    code = await Deferred.fromCoroutine(ask()).addTimeout(PATIENCE, reactor)
    if not 200 <= code < 300:
        raise NotTold(f"It answered {code}.")
