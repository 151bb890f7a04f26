"""``python -m chaos slow``: connections that drip, beside one that works (F10; B02, B03, H11)."""

from __future__ import annotations

import multiprocessing
import os
import selectors
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
from attrs import define
from blake3 import blake3

from chaos.figures import Figures
from chaos.subject import HELLO, Caller, Good, address, dial, line, subject
from lanxfer.descriptors import raise_limit
from lanxfer.wire import limits

KINDS = ("handshake", "header", "message", "file")
"""What is dripped: a ClientHello, a first line, a small body, the parts of a large one."""

DEADLINES = {
    "handshake": limits.HANDSHAKE_TIMEOUT,
    "header": limits.HANDSHAKE_TIMEOUT + limits.HEADER_TIMEOUT,
    "message": 2 * limits.RATE_OVER,
    "file": 2 * limits.RATE_OVER,
}
"""Seconds after which none may be left; a body has one minute of grace."""

PEERS_AT_ONCE = 16
MIB = 1024 * 1024


@define
class _Drip:
    """One connection, and what it still has to say, a byte at a time."""

    kind: str
    connection: Any
    words: bytes
    began: float
    at: int = 0


def _open(kind: str, number: int, folders: list[Path], port: int) -> _Drip:
    if kind == "handshake":
        # The beginning of a ClientHello that goes on for ever.
        connection: Any = dial(port, address(number))
        return _Drip(kind, connection, b"\x16\x03\x01\x20\x00\x01" + bytes(8000), time.monotonic())
    caller = _caller(folders[number % len(folders)])
    if kind == "header":
        return _Drip(kind, caller.dial(port, address(number)), HELLO, time.monotonic())
    connection = caller.greet(port, address(number))
    if kind == "message":
        connection.sendall(b'{"do": 2, "name": "recv_message", "body": 60000}\n')
    else:
        ask = b'{"do": 2, "name": "recv_file", "path": "drip%d", "size": 10000000}\n'
        connection.sendall(ask % number)
        if b'"go"' not in line(connection):
            raise OSError("no go")
        connection.sendall(b'{"part": 2, "offset": 0, "body": 10000000}\n')
    return _Drip(kind, connection, b"y" * 60000, time.monotonic())


_made: dict[Path, Caller] = {}


def _caller(folder: Path) -> Caller:
    if folder not in _made:
        _made[folder] = Caller.made(folder)
    return _made[folder]


def _drip(port: int, number: int, folders: list[Path], told: Connection) -> None:
    """Keep ``number`` connections dripping until the service has ended each of them."""
    raise_limit()
    os.nice(10)  # in real life they have processors of their own
    selector = selectors.DefaultSelector()
    lasted: dict[str, list[float]] = {kind: [] for kind in KINDS}
    refused = 0
    shares = [*["handshake"] * 40, *["header"] * 40, *["message"] * 18, *["file"] * 2]
    for each in range(number):
        kind = shares[each % len(shares)]
        try:
            drip = _open(kind, each, folders, port)
        except OSError:
            refused += 1
            continue
        drip.connection.setblocking(False)
        selector.register(drip.connection, selectors.EVENT_READ, drip)
        if each % 50 == 0:
            _turn(selector, lasted, 0.0)
    told.send(("ready", refused))
    until = time.monotonic() + max(DEADLINES.values()) + 10
    while selector.get_map() and time.monotonic() < until:
        began = time.monotonic()
        for key in list(selector.get_map().values()):
            _one_byte(selector, key.data, lasted)
        while (rest := began + 1.0 - time.monotonic()) > 0 and selector.get_map():
            _turn(selector, lasted, rest)
    left = len(selector.get_map() or {})
    longest = {kind: (len(each), max(each, default=0.0)) for kind, each in lasted.items()}
    told.send(("over", longest, left))


def _one_byte(
    selector: selectors.BaseSelector, drip: _Drip, lasted: dict[str, list[float]]
) -> None:
    if drip.at >= len(drip.words):
        return
    try:
        drip.connection.send(drip.words[drip.at : drip.at + 1])
        drip.at += 1
    except BlockingIOError:
        pass
    except OSError:
        _ended(selector, drip, lasted)


def _turn(selector: selectors.BaseSelector, lasted: dict[str, list[float]], rest: float) -> None:
    for key, _ in selector.select(rest):
        try:
            over = not key.data.connection.recv(65536)
        except (TimeoutError, BlockingIOError):
            continue
        except OSError as error:
            if "did not complete" in str(error):  # OpenSSL wants more of a record
                continue
            over = True
        if over:
            _ended(selector, key.data, lasted)


def _ended(selector: selectors.BaseSelector, drip: _Drip, lasted: dict[str, list[float]]) -> None:
    selector.unregister(drip.connection)
    drip.connection.close()
    lasted[drip.kind].append(time.monotonic() - drip.began)


def _speed(good: Good, seconds: float, number: list[int]) -> float:
    """MiB a second of a client that sends files of 4 MiB, one after the other."""
    data = os.urandom(4 * MIB)
    digest = blake3(data).hexdigest().encode()
    good.connect()
    began = time.monotonic()
    sent = 0
    while time.monotonic() - began < seconds:
        number[0] += 1
        good.send_file(b"good%d" % number[0], data, digest)
        sent += len(data)
    took = time.monotonic() - began
    return sent / MIB / took


@click.command()
@click.option("--drips", default=2000, help="Connections that say a byte a second.")
@click.option("--seed", default=0, help="Shown; nothing here is random.")
@click.option("--short", is_flag=True, help="200 of them.")
def command(drips: int, seed: int, short: bool) -> None:
    """Drip handshakes, first lines, messages and files beside one client that works.

    The client keeps 80 % of the speed it has alone, and every drip is gone two seconds after
    its deadline: handshakes after 10 s, first lines after 20 s, bodies after two minutes.
    """
    figures = Figures(seed)
    number = 200 if short else drips
    with subject(peers=PEERS_AT_ONCE + 1) as (under, callers):
        good, sent = Good(callers[-1], under.port), [0]
        _speed(good, 1.0, sent)
        alone = [_speed(good, 2.0, sent) for _ in range(3)]
        before = under.descriptors
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        folders = [under.folder / f"caller{each}" for each in range(PEERS_AT_ONCE)]
        dripping = context.Process(target=_drip, args=(under.port, number, folders, theirs))
        dripping.start()
        theirs.close()
        try:
            speeds = []
            _, refused = ours.recv()
            figures.add("turned away at once", refused)
            while not ours.poll(0):
                speeds.append(_speed(good, 2.0, sent))
                figures.tell(len(speeds), 0, "measurements beside them")
                for each in under.inbox.glob("good*"):
                    each.unlink()
            _, lasted, left = ours.recv()
            alone += [_speed(good, 2.0, sent) for _ in range(3)]
        finally:
            dripping.join(10)
            if dripping.is_alive():
                dripping.terminate()
                dripping.join()
        usual = statistics.median(alone)
        figures.add("alone, before and after", usual, "MiB/s")
        figures.add("beside all of them", statistics.median(speeds[:4]), "MiB/s", least=0.8 * usual)
        figures.add("to the end of the last", statistics.median(speeds), "MiB/s", least=0.8 * usual)
        for kind, (ended, longest) in lasted.items():
            figures.add(f"{kind}: ended", ended, least=1)
            figures.add(f"{kind}: lasted at most", longest, "s", most=DEADLINES[kind] + 2)
        figures.add("still dripping", left, most=0)
        good.close()
        time.sleep(1.5)
        figures.add("descriptors left over", under.descriptors - before, most=0)
        text = under.errors.read_text()
        figures.add("tracebacks", text.count("Traceback"), most=0)
    figures.finish()
