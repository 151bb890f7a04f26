"""``python -m chaos flood``: more lines than anybody can want, at once (H02, R08, F7)."""

from __future__ import annotations

import multiprocessing
import ssl
import statistics
import time
from pathlib import Path
from typing import Any

import click
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import LineReceiver

from chaos.figures import Figures
from chaos.subject import Caller, Good, address, dial, line, subject
from lanxfer.receiver import PacketReceiver

MIB = 1024 * 1024


class _Ours(PacketReceiver):
    """Takes lines and does nothing with them."""

    line_limit = 4096

    def lineReceived(self, line: bytes) -> None:
        pass


class _Theirs(LineReceiver):
    """The same, from Twisted."""

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        pass


def _cost(receiver: Any, size: int) -> float:
    receiver.makeConnection(StringTransport())
    began = time.perf_counter()
    receiver.dataReceived(b"\n" * size)
    return (time.perf_counter() - began) * 1000


def _ask(folders: list[Path], port: int, number: int, requests: int) -> None:
    """Ask on each of many connections as much as fits into the wire, and read the answers."""
    callers = [Caller.made(each) for each in folders]
    asked = b"".join(b'{"do": %d, "name": "ping"}\n' % n for n in range(2, requests + 2))
    open_ones = [callers[each % len(callers)].greet(port, address(each)) for each in range(number)]
    sent, answers = [0] * number, [0] * number
    for each in open_ones:
        each.setblocking(False)
    until = time.monotonic() + 120
    while min(answers) < requests and time.monotonic() < until:
        moved = 0
        for at, connection in enumerate(open_ones):
            try:
                if sent[at] < len(asked):
                    moved += (more := connection.send(asked[sent[at] : sent[at] + 65536]))
                    sent[at] += more
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
            try:
                heard = connection.recv(65536)
                moved += len(heard)
                answers[at] += heard.count(b"\n") if heard else requests
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
        if not moved:
            time.sleep(0.001)
    for connection in open_ones:
        connection.close()


@click.command()
@click.option("--connections", default=32, help="That ask at once.")
@click.option("--requests", default=20_000, help="That each of them asks without a pause.")
@click.option("--seed", default=0, help="Shown; nothing here is random.")
@click.option("--short", is_flag=True, help="Eight, and 5000.")
def command(connections: int, requests: int, seed: int, short: bool) -> None:
    """Empty lines by the million, and paired devices that ask without end.

    A good client's question is answered within 100 ms at worst meanwhile.
    """
    figures = Figures(seed)
    connections, requests = (8, 5000) if short else (connections, requests)
    less, more = _cost(_Ours(), MIB // 16), _cost(_Ours(), MIB)
    figures.add("64 KiB of empty lines", less, "ms")
    figures.add("64 KiB of them in LineReceiver", _cost(_Theirs(), MIB // 16), "ms")
    figures.add("1 MiB of them", more, "ms")
    figures.add("growth from 64 KiB to 1 MiB", more / less, "x", most=32)
    with subject(peers=3) as (under, callers):
        good = Good(callers[0], under.port)
        good.connect()
        waits = []
        for each in range(50 if short else 500):
            with dial(under.port, address(each)) as stranger:
                try:
                    stranger.sendall(b"\n" * MIB)
                    line(stranger)
                except OSError:
                    pass  # it is cut off long before it has said all
            waits.append(good.ping() * 1000)
        figures.add("beside empty lines: question, worst", max(waits), "ms", most=100)
        context = multiprocessing.get_context("spawn")
        folders = [under.folder / "caller1", under.folder / "caller2"]
        asking = context.Process(target=_ask, args=(folders, under.port, connections, requests))
        asking.start()
        waits = []
        while asking.is_alive():
            waits.append(good.ping() * 1000)
            time.sleep(0.005)
            figures.tell(len(waits), 0, "questions beside them")
        asking.join()
        figures.add("beside floods: question, median", statistics.median(waits), "ms", most=100)
        figures.add("beside floods: question, worst", max(waits), "ms", most=100)
        figures.add("tracebacks", under.errors.read_text().count("Traceback"), most=0)
        good.close()
    figures.finish()
