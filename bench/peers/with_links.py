"""Small requests over a link of lanxfer's; both sides of it, one process each."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred

from bench.profiler import profiled
from lanxfer.commands.declared import command
from lanxfer.commands.table import Call
from lanxfer.linking import dial_link, listen_links
from lanxfer.links import Link

AT_ONCE = 200
"""Requests that wait for their answers together, where they are asked without waiting."""


class Bench:
    @command("bench.next")
    def next(self, call: Call) -> int:
        return call.flags + 1

    @command("bench.echo")
    def echo(self, data: bytes) -> bytes:
        return data


def ask(link: Link, number: int, payload: bytes) -> Deferred[Any]:
    """One request with a number, or with bytes."""
    if payload:
        return link.call("bench.echo", data=payload)
    return link.call("bench.next", flags=number)


def check(answer: Any, number: int, payload: bytes) -> None:
    if answer.body != payload if payload else answer.flags != number + 1:
        raise ValueError("that was not the answer")


async def sequential(link: Link, count: int, payload: bytes) -> float:
    began = time.perf_counter()
    for number in range(count):
        check(await ask(link, number, payload), number, payload)
    return time.perf_counter() - began


async def pipelined(link: Link, count: int, payload: bytes) -> float:
    done: Deferred[None] = Deferred()
    asked = answered = 0

    def go() -> None:
        nonlocal asked
        number = asked
        asked += 1
        ask(link, number, payload).addCallbacks(came, done.errback, callbackArgs=(number,))

    def came(answer: Any, number: int) -> None:
        nonlocal answered
        check(answer, number, payload)
        answered += 1
        if asked < count:
            go()
        elif answered == count:
            done.callback(None)

    began = time.perf_counter()
    for _ in range(min(AT_ONCE, count)):
        go()
    await done
    return time.perf_counter() - began


async def measure(reactor: Any, port: int, count: int, profile: str) -> None:
    link = await dial_link(reactor, f"tcp:127.0.0.1:{port}")
    await pipelined(link, 1000, b"")
    found = {}
    for name, payload in (("number", b""), ("bytes", bytes(range(64)))):
        for how in (sequential, pipelined):
            many = count if how is sequential else 5 * count
            found[f"{how.__name__} {name}"] = many / await how(link, many, payload)
    print(json.dumps(found), flush=True)
    if profile:
        for how in (sequential, pipelined):
            with profiled(f"{profile}.{how.__name__}"):
                await how(link, 5 * count, b"")
    await link.close()


def main() -> None:
    port = int(sys.argv[2])
    if sys.argv[1] == "serve":
        listen_links(reactor, f"tcp:{port}:interface=127.0.0.1", Bench())
        if len(sys.argv) > 3:
            with profiled(sys.argv[3]):
                reactor.run()  # type: ignore[attr-defined]
        else:
            reactor.run()  # type: ignore[attr-defined]
        return
    count, profile = int(sys.argv[3]), "".join(sys.argv[4:])
    task.react(lambda reactor: Deferred.fromCoroutine(measure(reactor, port, count, profile)))


if __name__ == "__main__":
    main()
