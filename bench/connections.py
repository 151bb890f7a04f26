"""Connections that do nothing, and what more of everything costs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.figures import Report
from bench.options import Options
from bench.peers import Peer
from bench.peers.lanxfer import Lanxfer, Plain, command
from bench.peers.nginx import Nginx
from bench.peers.rsync import Rsync
from bench.peers.ssh import Scp
from bench.peers.twisted import Bare
from bench.place import MIB, Place, Run
from bench.processes import BenchFailed, Side
from bench.programs import HOST, free_port, memory, serving
from bench.programs import run as measured
from bench.workloads import one

_CROWD = tuple(
    part
    for name in ("connections-per-peer", "strangers-max", "strangers-per-source")
    for part in ("--limit", f"{name}=2000")
)


class _Plain(Plain):
    also_serve = (*Plain.also_serve, *_CROWD)


class _Tls(Lanxfer):
    also_serve = _CROWD


class _AnyNumber(Lanxfer):
    """The owner allows more files and folders in one go than usual."""

    def prepare(self, run: Run, port: int, sources: Sequence[Path]) -> None:
        words = ("peer", "set", "everyone", "entries=10000000", "--state", str(run.server))
        measured([command(), *words], run.folder / "rights.log")


class _AnyNumberPlain(_AnyNumber, Plain):
    """The same in clear."""


def idle(place: Place, options: Options) -> Report:
    """What the service's processes hold for each connection that does nothing."""
    count = options.connections
    report = Report(
        f"idle: {count} connections, KiB of the service for each", ("", "KiB", "s to connect")
    )
    for peer in (_Plain(), _Tls(), Bare(), Nginx(), Rsync(), Scp()):
        if missing := peer.missing():
            report.notes.append(f"left out: {peer.name}, not installed: {missing}")
            continue
        options.tell(f"idle: {peer.name}")
        # sshd turns callers away that do not log in, ten at a time.
        each = min(count, 8) if isinstance(peer, Scp) else count
        before, after, seconds = _held(place, peer, each)
        name = "sshd" if isinstance(peer, Scp) else peer.name
        report.rows.append((name, f"{(after - before) / each / 1024:.1f}", f"{seconds:.2f}"))
    return report


def growth(place: Place, options: Options) -> Report:
    """Ten times as much, step by step: time and memory are to grow no faster."""
    report = Report(
        "growth: time and memory of ten times as much",
        ("", "s", "ms for each", "MiB sender", "MiB service"),
    )
    for peer in (_Plain(), _Tls()):
        for count in (1, 10, 100, 1000):
            if count > 10 * options.connections:
                break
            options.tell(f"growth: {peer.name}, {count} connections")
            _, after, seconds = _held(place, peer, count)
            name = f"{peer.name}, connections: {count:,}"
            each = f"{seconds * 1000 / count:.2f}"
            report.rows.append((name, f"{seconds:.2f}", each, "", f"{after / MIB:.0f}"))
    count = max(1, options.most_files // 100)
    while count <= options.most_files:
        source = place.tree(count)
        for ours in (_AnyNumberPlain(), _AnyNumber()):
            options.tell(f"growth: {ours.name}, {count} files")
            found = one(place, ours, [source])
            peaks = (f"{each / MIB:.0f}" for each in (found.client_peak, found.server_peak))
            name = f"{ours.name}, files: {count:,}"
            each = f"{found.seconds * 1000 / count:.3f}"
            report.rows.append((name, f"{found.seconds:.2f}", each, *peaks))
        place.remove(source)
        count *= 10
    return report


def _held(place: Place, peer: Peer, count: int) -> tuple[int, int, float]:
    """Bytes of the service with one and with so many more connections, and seconds to make them."""
    with place.run() as there:
        port = free_port()
        with serving(peer.serve(there, port), port, there.folder / "service.log") as service:
            how = _ours if peer.ours else _raw
            # The first one brings modules and caches along, which are not its own.
            with how(there, peer, port, 1):
                before = memory(service.pid)
                with how(there, peer, port, count) as seconds:
                    return before, memory(service.pid), seconds


@contextmanager
def _raw(there: Run, peer: Peer, port: int, count: int) -> Iterator[float]:
    with ExitStack() as held:
        for _ in range(count):
            held.enter_context(socket.create_connection((HOST, port)))
        # Nothing tells when the service has noticed the last one.
        time.sleep(0.5)
        yield 0.0


@contextmanager
def _ours(there: Run, peer: Peer, port: int, count: int) -> Iterator[float]:
    plain = ("--plain",) if isinstance(peer, Plain) else ()
    where = ("--address", f"{HOST}:{port}", "--state", str(there.client))
    with Side(
        "bench.ours", ["hold", str(count), *where, *plain], str(there.folder / "hold.log")
    ) as side:
        said = side.hear()
        if said is None or "seconds" not in said:
            side.end()
            raise BenchFailed("The connections could not be made.")
        yield said["seconds"]
        side.end()
