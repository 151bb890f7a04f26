"""What a large transfer takes of memory, against a small one: both sides, as real processes.

The source has a size and no blocks; the receiver writes them all, in memory
if there is room and else on the disk, and they are removed at once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from chaos.figures import Figures
from chaos.resume import place
from chaos.sides import MIB, peak
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder

MORE_MOST = 4
"""MiB that the large one may take beyond the small one; a busy machine moves the peak of either
by what a slow disk thread leaves waiting, a window at the most."""

ALL_MOST = 80
"""MiB of one process in all."""

PATIENCE = 30.0
"""Seconds until a service must be there."""

_PROGRAM = (sys.executable, "-c", "from lanxfer.cli.main import main; main()")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def _pair(folder: Path, port: int) -> tuple[str, str]:
    """State folders of a receiver and a sender that know each other."""
    there, here = StateFolder(str(folder / "there")), StateFolder(str(folder / "here"))
    Peers(here).add(Peer("there", load_identity(there).key, (f"127.0.0.1:{port}",)))
    Peers(there).add(Peer("here", load_identity(here).key))
    return there.path, here.path


def _wait_for(port: int, service: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and service.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise click.ClickException("the service does not start")


def transfer(folder: Path, size: int) -> tuple[float, float]:
    """Send ``size`` MiB; the peak of the receiver and of the sender, in MiB."""
    port = _free_port()
    there, here = _pair(folder, port)
    inbox, source = folder / "inbox", folder / "large.bin"
    with open(source, "wb") as file:
        file.truncate(size * MIB)
    where = ("-b", "127.0.0.1", "-p", str(port), "-i", str(inbox), "-s", there)
    service = subprocess.Popen(
        [*_PROGRAM, "serve", "-q", "--allow-root", *where],
        env={**os.environ, "LANXFER_ALLOW_ROOT": "1"},
    )
    try:
        _wait_for(port, service)
        sender = subprocess.Popen([*_PROGRAM, "send", "-q", "-s", here, str(source), "there"])
        _, status, usage = os.wait4(sender.pid, 0)
        sender.returncode = os.waitstatus_to_exitcode(status)
        if sender.returncode:
            raise click.ClickException(f"the sender ended with {sender.returncode}")
        stored = os.path.getsize(inbox / source.name)
        if stored != size * MIB:
            raise click.ClickException(f"{stored} bytes arrived")
        return peak(str(service.pid)) / MIB, usage.ru_maxrss / 1024
    finally:
        service.terminate()
        service.wait()


@click.command(help=__doc__)
@click.option("--large", default=16384, show_default=True, help="in MiB")
@click.option("--small", default=1024, show_default=True, help="in MiB")
@click.option("--dir", "parent", help="where to receive (default: in memory, if there is room)")
@click.option("--more", default=MORE_MOST, show_default=True, help="MiB that may be the difference")
def command(large: int, small: int, parent: str | None, more: int) -> None:
    figures = Figures()
    found = []
    for at, size in enumerate((small, large)):
        figures.tell(at, 2, "transfers")
        where = place(parent, size * MIB)
        with tempfile.TemporaryDirectory(prefix="lanxfer-memory-", dir=where) as folder:
            found.append(transfer(Path(folder), size))
    for side, before, after in zip(("receiver", "sender"), *found, strict=True):
        figures.add(f"{side}: {small} MiB", before, "MiB", most=ALL_MOST)
        # covers: S1-13
        figures.add(f"{side}: {large} MiB", after, "MiB", most=ALL_MOST)
        figures.add(f"{side}: more", after - before, "MiB", most=more)
    figures.finish()
