"""Files from one process to another: who takes part in what, and how a run goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from bench.figures import Bar, Report
from bench.options import Options
from bench.peers import Peer
from bench.peers.ftp import Aioftp, Vsftpd, VsftpdAgain
from bench.peers.lanxfer import (
    ClearBody,
    Handed,
    HandedPlain,
    Lanxfer,
    Many,
    ManyTls,
    Plain,
    Resumed,
    ResumedTls,
    Together,
)
from bench.peers.limit import Limit
from bench.peers.nginx import Nginx, NginxTls
from bench.peers.rsync import Append, Durable, Rsync
from bench.peers.ssh import RsyncSsh, Scp
from bench.peers.twisted import Bare, BareTls
from bench.place import MIB, Place, Run, check_same, warm
from bench.processes import BenchFailed
from bench.programs import free_port, run, serving
from bench.samples import Sample, middle

_WARM = 128 * MIB
"""Bytes of memory, at least, that are made ready before each run."""

_ROUND_TRIP = 0.02
"""Seconds of the long wire."""
_SENDER = 16 * MIB

_DELAY = str(Path(__file__).with_name("delay.py"))


@frozen
class Workload:
    """``unit`` is MiB/s, files/s or ms; ``make`` makes what is sent, once for all runs."""

    title: str
    unit: str
    peers: tuple[Peer, ...]
    make: Callable[[Place, Options], Path]
    round_trip: float = 0.0
    disk: bool = False


def _large(place: Place, options: Options) -> Path:
    return place.large(options.size)


def _small(place: Place, options: Options) -> Path:
    return place.tree(options.files)


def _kilobyte(place: Place, options: Options) -> Path:
    folder = place.several(1, 1024)
    return next(folder.iterdir())


FILES = {
    "large": Workload(
        "one large file",
        "MiB/s",
        (
            *(Limit(how) for how in ("loops", "sendfile", "splice", "verified")),
            *(Plain(), HandedPlain(), Rsync(), Vsftpd(), Nginx(), Bare(), Aioftp()),
            *(Limit("tls"), Limit("tls verified"), Lanxfer(), Handed(), ClearBody()),
            *(Scp(), RsyncSsh(), NginxTls(), BareTls()),
        ),
        _large,
    ),
    "small": Workload(
        "files of 4 KiB, 100 in a folder",
        "files/s",
        (
            *(Limit("loops"), Limit("verified"), Plain(), HandedPlain(), Rsync()),
            *(Vsftpd(), Nginx(), Aioftp()),
            *(Limit("tls"), Limit("tls verified"), Lanxfer(), Handed()),
            *(Scp(), RsyncSsh(), NginxTls()),
        ),
        _small,
    ),
    "mixed": Workload(
        "a mixed tree, log-normal sizes",
        "files/s",
        (
            *(Limit("loops"), Limit("verified"), Plain(), HandedPlain(), Rsync(), Nginx()),
            *(Limit("tls"), Limit("tls verified"), Lanxfer(), Handed(), RsyncSsh(), NginxTls()),
        ),
        lambda place, options: place.mixed(options.mixed),
    ),
    "senders": Workload(
        "files of 16 MiB at once, from one process",
        "MiB/s",
        (
            *(Limit("loops"), Limit("verified"), Many(), Together(), Nginx()),
            *(Limit("tls"), Limit("tls verified"), ManyTls(), NginxTls()),
        ),
        lambda place, options: place.several(options.senders, _SENDER),
    ),
    "durable": Workload(
        "small files on a disk, each answer durable",
        "files/s",
        (Plain(), HandedPlain(), Durable(), Lanxfer()),
        _small,
        disk=True,
    ),
    "cold": Workload(
        "a process that sends 1 KiB",
        "ms",
        (Plain(), Rsync(), Nginx(), Lanxfer(), Handed(), Scp(), RsyncSsh(), NginxTls()),
        _kilobyte,
    ),
    "resume": Workload(
        "the second half of one large file",
        "ms",
        (Resumed(), Append(), VsftpdAgain(), ResumedTls()),
        _large,
    ),
    "far-large": Workload(
        "one file of 256 MiB at most over a round trip of 20 ms",
        "MiB/s",
        (Plain(), Rsync(), Nginx(), Lanxfer(), Scp(), NginxTls()),
        lambda place, options: place.large(min(256, options.size)),
        round_trip=_ROUND_TRIP,
    ),
    "far-small": Workload(
        "2,000 small files at most over a round trip of 20 ms",
        "files/s",
        (Plain(), Rsync(), Nginx(), Lanxfer(), RsyncSsh(), NginxTls()),
        lambda place, options: place.tree(min(2000, options.files)),
        round_trip=_ROUND_TRIP,
    ),
}

_COSTS = ("sender s/GiB", "service s/GiB", "sender MiB", "service MiB")


def measure(name: str, place: Place, options: Options) -> Report:
    """All who are installed, in turns; one that fails is left out, unless it is lanxfer."""
    workload = FILES[name]
    report = Report(
        "", ("", workload.unit, "least", "most", "× lanxfer", *_COSTS), unit=workload.unit
    )
    peers = []
    for peer in workload.peers:
        if options.peers and peer.name not in options.peers:
            continue
        if missing := peer.missing():
            report.notes.append(f"left out: {peer.name}, not installed: {missing}")
        else:
            peers.append(peer)
    source = workload.make(place, options)
    files = [each for each in source.rglob("*") if each.is_file()] if source.is_dir() else [source]
    size = sum(each.stat().st_size for each in files)
    report.title = f"{name}: {workload.title} ({len(files):,} files, {_much(size)})"
    for number in range(options.runs):
        # Nobody always follows the same one.
        turn = number % len(peers)
        for peer in [*peers[turn:], *peers[:turn]]:
            options.tell(f"{name}, run {number + 1} of {options.runs}: {peer.name}")
            if workload.disk:
                # What the one before left to be written, or removed, is not to be this one's.
                os.sync()
            try:
                sample = one(place, peer, [source], workload.round_trip)
            except BenchFailed as error:
                if peer.ours:
                    raise
                peers.remove(peer)
                report.samples.pop(peer.name, None)
                report.notes.append(f"left out: {peer.name}: {' '.join(str(error).split())}")
            else:
                report.samples.setdefault(peer.name, []).append(sample)
    place.remove(source)
    _fill(report, [each for each in workload.peers if each in peers], len(files), size)
    return report


def _bytes(source: Path) -> int:
    files = source.rglob("*") if source.is_dir() else [source]
    return sum(each.stat().st_size for each in files if each.is_file())


def _much(size: int) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= MIB else f"{size / 1024:.0f} KiB"


def _fill(report: Report, peers: Sequence[Peer], files: int, size: int) -> None:
    amount = {"MiB/s": size / MIB, "files/s": float(files)}.get(report.unit)
    beside = {each.secure: each.name for each in reversed(peers) if each.ours}
    for peer in peers:
        taken = report.samples[peer.name]
        times = sorted(each.seconds for each in taken)
        figures = [middle(taken), times[-1], times[0]]
        if amount is None:
            shown = [seconds * 1000 for seconds in (figures[0], figures[2], figures[1])]
        else:
            shown = [amount / seconds for seconds in figures]
        ours = beside.get(peer.secure)
        ratio = middle(report.samples[ours]) / figures[0] if ours else 0.0
        costs = [middle(taken, each) * 1024 * MIB / size for each in ("client_cpu", "server_cpu")]
        peaks = [max(s.client_peak for s in taken), max(s.server_peak for s in taken)]
        report.rows.append(
            (
                peer.name,
                *(f"{each:,.0f}" for each in shown),
                f"{ratio:.2f}" if ours else "",
                *(f"{each:.2f}" if report.unit != "ms" else "" for each in costs),
                *(f"{each / MIB:.0f}" for each in peaks),
            )
        )
        report.bars.append(Bar(peer.name, shown[0], peer.ours))
    if report.unit == "ms":
        report.unit = "ms (shorter is better)"


def one(place: Place, peer: Peer, sources: Sequence[Path], round_trip: float = 0.0) -> Sample:
    """One run; what was received is compared when the clock has stopped."""
    size = sum(_bytes(each) for each in sources)
    with place.run() as there:
        port = free_port()
        log = there.folder / "service.log"
        serve = peer.serve(there, port)
        with serving(serve, port, log) as service, peer.beside(there) as beside:
            peer.prepare(there, port, sources)
            with _wire(there, port, round_trip) as at:
                warm(max(_WARM, size + size // 2))
                used = run(peer.send(there, at, sources), there.folder / "sender.log")
        peer.confirm((there.folder / "sender.log").read_text(errors="replace"))
        for source in sources:
            check_same(source, peer.received(there, source))
        served, cpu, peak = service.used, used.cpu, used.peak
        if beside is not None:
            cpu, peak = cpu + beside.used.cpu, max(peak, beside.used.peak)
        return Sample(used.seconds, cpu, served.cpu, peak, served.peak)


@contextmanager
def _wire(there: Run, port: int, round_trip: float) -> Iterator[int]:
    """The port to send to: the service's own, or that of a long wire to it."""
    if not round_trip:
        yield port
        return
    at = free_port()
    argv = [sys.executable, _DELAY, str(at), str(port), str(round_trip)]
    with serving(argv, at, there.folder / "wire.log"):
        yield at
