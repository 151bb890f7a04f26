"""A client of lanxfer that is measured, with one thing to do."""

from __future__ import annotations

import argparse
import os
import resource
import secrets
import sys
import time
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogBeginner, textFileLogObserver

from bench.side import run, say
from lanxfer.client import Client, connect
from lanxfer.registry import Registry

_reactor: Any = reactor

_ARRIVE = 0.5
"""Seconds that bytes already written get to reach the receiver's disk before a cut."""


async def _file(client: Client, what: str) -> dict[str, Any]:
    began = time.perf_counter()
    receipt = await client.send_file(what)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "digest": receipt.digest, "resumed_from": receipt.resumed_from}


async def _half(client: Client, what: str) -> dict[str, Any]:
    """Send half of a file and vanish, as a process that is killed does."""
    gone: Deferred[None] = Deferred()

    def follow(done: int, size: int) -> None:
        if done * 2 >= size and not gone.called:
            for each in client.registry.pending():
                client.registry.find(each.id).pause(True)
            gone.callback(None)
            _reactor.callLater(_ARRIVE, os._exit, 0)

    sending = client.send_file(what, on_progress=follow)
    await gone
    await sending
    raise SystemExit("the file was sent as a whole")


async def _tree(client: Client, what: str) -> dict[str, Any]:
    began = time.perf_counter()
    sent = await client.send_paths([what])
    seconds = time.perf_counter() - began
    if sent.failed or sent.skipped:
        raise SystemExit(f"not sent: {[*sent.failed, *sent.skipped][:3]}")
    return {"seconds": seconds, "files": sent.files}


async def _many(client: Client, what: str) -> dict[str, Any]:
    """All files of a folder at once."""
    began = time.perf_counter()
    sending = [client.send_file(os.path.join(what, name)) for name in sorted(os.listdir(what))]
    for each in sending:
        await each
    return {"seconds": time.perf_counter() - began}


async def _ping(client: Client, what: str) -> dict[str, Any]:
    taken = []
    for _ in range(int(what)):
        began = time.perf_counter()
        await client.call("ping")
        taken.append(time.perf_counter() - began)
    return {"seconds": sum(taken), "each": taken}


async def _hold(options: argparse.Namespace) -> None:
    """So many connections, each asked one thing, that stay until standard input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    began = time.perf_counter()
    clients = []
    for _ in range(int(options.what)):
        client = await connect(
            _reactor, options.address, state=options.state, plain=options.plain, patience=0.0
        )
        await client.call("ping")
        clients.append(client)
    say(seconds=time.perf_counter() - began)
    await deferToThread(sys.stdin.read)
    for client in clients:
        await client.close()


_VERBS: dict[str, Callable[[Client, str], Coroutine[Any, Any, dict[str, Any]]]] = {
    "file": _file,
    "half": _half,
    "tree": _tree,
    "many": _many,
    "ping": _ping,
}


async def _ask(options: argparse.Namespace) -> None:
    if options.verb == "hold":
        await _hold(options)
        return
    registry = None
    if options.verb == "half":
        # Its clock runs by a second at each look, so that all progress is told.
        ticks = count()
        registry = Registry(lambda: float(next(ticks)), lambda: secrets.token_hex(4), _complain)
    client = await connect(
        _reactor,
        options.address,
        state=options.state,
        plain=options.plain,
        registry=registry,
        patience=0.0,
    )
    found = await _VERBS[options.verb](client, options.what)
    await client.close()
    say(**found)


def _complain(error: Exception) -> None:
    print(repr(error), file=sys.stderr)


def main() -> None:
    """``bench.ours file|half|tree|many PATH`` or ``bench.ours ping|hold TIMES``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=("hold", *_VERBS))
    parser.add_argument("what")
    parser.add_argument("--address", default="")
    parser.add_argument("--state", required=True)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--profile")
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    run(lambda: react(lambda _: Deferred.fromCoroutine(_ask(options)), ()), options.profile)


if __name__ == "__main__":
    main()
