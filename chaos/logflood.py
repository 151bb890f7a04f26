"""``python -m chaos logflood``: a million refusals, and how little the log says (F22; R07, R08)."""

from __future__ import annotations

import random
import string
import tempfile
import time
from io import StringIO
from typing import Any

import click
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher, textFileLogObserver

from chaos.figures import Figures
from chaos.subject import Caller, Good, Subject, address, dial, line, subject
from lanxfer.admission import Admission
from lanxfer.factory import LanxferFactory
from lanxfer.identity import load_identity
from lanxfer.state import StateFolder
from lanxfer.tls import server_options

MIB = 1024 * 1024

LINE_MOST = 512
"""Bytes of one record."""


class _NoPeers:
    """Nobody is known."""

    def by_key(self, key: str) -> None:
        return None


class _Transport(StringTransport):
    """A caller from any address, that hangs up as soon as it is told to."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host

    def getPeer(self) -> Any:
        return self

    @property
    def host(self) -> str:
        return self._host

    def abortConnection(self) -> None:
        self.disconnecting = True


def _garbage(chance: random.Random) -> bytes:
    """What strangers say: other protocols, plain text, and lines meant for the log."""
    odd = "".join(chance.choice(string.printable + "\x00\x1b\x9b\u2028\u202e") for _ in range(40))
    return chance.choice(
        [
            b"GET / HTTP/1.1\r\n",
            b"SSH-2.0-x\r\n",
            b'{"do": 1, "name": "hello"}\n',
            b"{'method_name': 'recv_file', 'file_path': '%s'}\n" % odd.encode("utf-8", "replace"),
            b"\n" * 10,
            odd.encode("utf-8", "replace") + b"\n",
            chance.randbytes(30) + b"\n",
            b"x" * 5000,
        ]
    )


def _in_memory(figures: Figures, number: int, chance: random.Random) -> None:
    """Through the real door, without sockets; time passes as it would at 2000 a second."""
    clock, log = Clock(), StringIO()
    observer = textFileLogObserver(log)
    admission = Admission(_NoPeers())  # type: ignore[arg-type]
    none: Any = None
    with tempfile.TemporaryDirectory() as folder:
        options = server_options(load_identity(StateFolder(f"{folder}/state")))
    factory = LanxferFactory(none, none, {}, admission, options, clock)
    globalLogPublisher.addObserver(observer)
    refused = 0
    began = time.perf_counter()
    try:
        for each in range(number):
            host = address(chance.randrange(100_000)) if each % 2 else "10.0.0.1"
            door: Any = factory.buildProtocol(None)
            transport = _Transport(host)
            door.makeConnection(transport)
            if not transport.disconnecting:
                door.dataReceived(chance.choice(_SAMPLES))
            refused += transport.disconnecting
            door.connectionLost()
            if each % 20 == 0:
                clock.advance(0.01)
            figures.tell(each, number, "refusals")
        factory.refusals.stop()
        clock.advance(60)
    finally:
        globalLogPublisher.removeObserver(observer)
    took = time.perf_counter() - began
    figures.add("refused", refused, least=number)
    figures.add("a refusal", took / number * 1e6, "us")
    _judge(figures, "in memory", log.getvalue())
    figures.add("timers left", len(clock.getDelayedCalls()), most=0)


def _judge(figures: Figures, what: str, text: str) -> None:
    lines = text.split("\n")[:-1]
    odd = sum(1 for each in lines if not each.isprintable() or len(each.encode()) > LINE_MOST)
    figures.add(f"{what}: log", len(text.encode()) / MIB, "MiB", most=1)
    figures.add(f"{what}: records", len(lines), least=1)
    figures.add(f"{what}: records that are no printable line", odd, most=0)


def _over_sockets(
    figures: Figures, under: Subject, good: Good, stranger: Caller, number: int
) -> None:
    """The same over real connections, with strangers' keys among them."""
    waits = []
    for each in range(number):
        try:
            if each % 20 == 0:
                with stranger.dial(under.port, address(each)) as connection:
                    connection.sendall(b'{"do": 1, "name": "hello"}\n')
                    line(connection)
            else:
                with dial(under.port, address(each % 300)) as plain:
                    plain.sendall(_SAMPLES[each % len(_SAMPLES)])
                    line(plain)
        except OSError:
            pass  # being cut off is an answer, too
        if each % min(100, number) == min(99, number - 1):
            waits.append(good.connect() * 1000)
        figures.tell(each, number, "refusals over sockets")
    good.close()
    figures.add("new client meanwhile, worst", max(waits), "ms", most=250)


_SAMPLES: list[bytes] = []


@click.command()
@click.option("--refusals", default=1_000_000, help="Through the door, in memory.")
@click.option("--sockets", default=5000, help="More of them, over real connections.")
@click.option("--seed", default=0, help="Chooses addresses and what strangers say.")
@click.option("--short", is_flag=True, help="50,000 and 500 of them.")
def command(refusals: int, sockets: int, seed: int, short: bool) -> None:
    """Refuse a million callers and read the log: at most 1 MiB, in printable lines."""
    figures = Figures(seed)
    chance = random.Random(seed)
    _SAMPLES[:] = [_garbage(chance) for _ in range(1000)]
    _in_memory(figures, 50_000 if short else refusals, chance)
    with subject() as (under, callers):
        stranger = Caller.made(under.folder / "stranger")
        good = Good(callers[0], under.port)
        _over_sockets(figures, under, good, stranger, 500 if short else sockets)
        _judge(figures, "over sockets", under.errors.read_text(errors="replace"))
        figures.add("tracebacks", under.errors.read_text().count("Traceback"), most=0)
    figures.finish()
