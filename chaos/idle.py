"""``python -m chaos idle``: thousands of connections that say nothing (F8, F9; catalogue C05)."""

from __future__ import annotations

import multiprocessing
import select
import socket
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

import click

from chaos.figures import Figures
from chaos.subject import Caller, Good, Subject, address, dial, subject
from lanxfer.descriptors import raise_limit
from lanxfer.wire import limits

MIB = 1024 * 1024


def _hold(callers: list[Any], port: int, first: int, number: int, told: Connection) -> None:
    """Open ``number`` connections of paired devices and keep them until told to end."""
    raise_limit()
    kept = []
    for each in range(first, first + number):
        folder = callers[each // limits.CONNECTIONS_PER_PEER]
        caller = _caller(folder)
        kept.append(caller.greet(port, address(each)))
        if each % 100 == 0:
            told.send(len(kept))
    told.send("ready")
    told.recv()
    poller = select.poll()
    for connection in kept:
        poller.register(connection, select.POLLIN | select.POLLHUP)
    told.send(len(kept) - len(poller.poll(0)))


_made: dict[Any, Caller] = {}


def _caller(folder: Any) -> Caller:
    """Contexts do not travel between processes; each makes its own."""
    if folder not in _made:
        _made[folder] = Caller.made(folder)
    return _made[folder]


def served(figures: Figures, good: Good, what: str, bound: float, times: int) -> None:
    """How long the good client waits, again and again."""
    connects = [good.connect() * 1000 for _ in range(times)]
    pings = [good.ping() * 1000 for _ in range(times * 5)]
    good.close()
    figures.add(f"{what}: new client, median", statistics.median(connects), "ms", most=bound)
    figures.add(f"{what}: new client, worst", max(connects), "ms", most=bound)
    figures.add(f"{what}: question, median", statistics.median(pings), "ms", most=bound)
    figures.add(f"{what}: question, worst", max(pings), "ms", most=bound)


def _paired(figures: Figures, under: Subject, good: Good, folders: list[Any], number: int) -> None:
    before = under.memory
    context = multiprocessing.get_context("spawn")
    holders = []
    shares = [(0, number // 2), (number // 2, number - number // 2)]
    for first, share in shares:
        ours, theirs = context.Pipe()
        holder = context.Process(target=_hold, args=(folders, under.port, first, share, theirs))
        holder.start()
        theirs.close()
        holders.append((holder, ours))
    try:
        done = [0, 0]
        ready = 0
        while ready < len(holders):
            for at, (_, ours) in enumerate(holders):
                if ours.poll(0.1):
                    said = ours.recv()
                    ready += said == "ready"
                    done[at] = done[at] if said == "ready" else said
            figures.tell(sum(done), number, "connections")
        time.sleep(1.0)
        grown = (under.memory - before) / MIB
        figures.add("paired connections kept", under.status()["connections"], least=number)
        allowed = 400 * max(number / 10_000, 0.1)
        figures.add("memory above idle", grown, "MiB", most=allowed)
        figures.add("a connection", grown * 1024 / number, "KiB")
        served(figures, good, "beside them", 50.0, 100)
        for _, ours in holders:
            ours.send("end")
        figures.add("still there at the end", sum(ours.recv() for _, ours in holders), least=number)
    finally:
        for holder, _ in holders:
            holder.join(30)
            if holder.is_alive():
                holder.terminate()
                holder.join()


def _strangers(figures: Figures, under: Subject, good: Good, number: int) -> None:
    """Connections that never say who they are, from more addresses than there are places."""
    good.connect()
    good.close()
    before = under.memory
    kept: list[socket.socket] = []
    waits = []
    highest = before
    for each in range(number):
        try:
            kept.append(dial(under.port, address(each // limits.STRANGERS_PER_SOURCE)))
        except ConnectionError:
            continue  # refused before connect() was back
        if each % min(500, number) == min(499, number - 1):
            waits.append(good.connect() * 1000)
            highest = max(highest, under.memory)
            figures.tell(each, number, "strangers")
    time.sleep(0.5)
    poller = select.poll()
    for stranger in kept:
        poller.register(stranger, select.POLLIN | select.POLLHUP)
    alive = len(kept) - len(poller.poll(0))
    figures.add("strangers kept", alive, most=limits.STRANGERS_MAX)
    figures.add("memory for strangers", (highest - before) / MIB, "MiB", most=40)
    figures.add("new client among them, median", statistics.median(waits), "ms", most=250)
    figures.add("new client among them, worst", max(waits), "ms", most=250)
    good.close()
    until = time.monotonic() + limits.HEADER_TIMEOUT + 2
    while time.monotonic() < until and len(poller.poll(0)) < len(kept):
        time.sleep(0.1)
    figures.add("strangers left", len(kept) - len(poller.poll(0)), most=0)
    for stranger in kept:
        stranger.close()


@click.command()
@click.option("--connections", default=10_000, help="Of paired devices; as many strangers after.")
@click.option("--seed", default=0, help="Shown; nothing here is random.")
@click.option("--short", is_flag=True, help="A tenth of it.")
def command(connections: int, seed: int, short: bool) -> None:
    """Idle connections by the thousand, paired and unknown, and one client that works.

    Bounds: 400 MiB for 10,000 paired ones (a tenth at least, in proportion), 50 ms for the
    client beside them; 128 kept and 40 MiB for as many strangers, 250 ms among them.
    """
    number = 1000 if short else connections
    figures = Figures(seed)
    peers = -(-number // limits.CONNECTIONS_PER_PEER) + 1
    with subject(peers=peers) as (under, callers):
        folders = [under.folder / f"caller{each}" for each in range(peers)]
        good = Good(callers[-1], under.port)
        served(figures, good, "alone", 50.0, 20)
        _strangers(figures, under, good, number)
        _paired(figures, under, good, folders, number)
    figures.finish()
