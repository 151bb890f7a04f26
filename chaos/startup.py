"""``python -m chaos startup``: a service begins on what years have left behind (F23, K10, R13).

A hundred thousand finished transfers in the history and ten thousand unfinished
files in the staging folder; then a real process is started, and the time until
it says where it listens is taken: the longest of a few, of which the first finds
most of that history to be more than is kept.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from chaos.figures import Figures
from lanxfer.journal import Journal
from lanxfer.state import StateFolder
from lanxfer.transfers import Direction, Kind, Snapshot, State

STAGING = ".lanxfer-staging"
BATCH = 5000
RUNS = 3
MOST = 3.0


def lay_out(folder: Path, records: int, parts: int, chosen: random.Random) -> None:
    """State and inbox as long use leaves them."""
    journal = Journal(StateFolder(str(folder / "state")).file("history.db"))
    for start in range(0, records, BATCH):
        numbers = range(start, min(start + BATCH, records))
        journal.record([_finished(number, chosen) for number in numbers])
    journal.close()
    staging = folder / "inbox" / STAGING
    staging.mkdir(parents=True, mode=0o700)
    for _ in range(parts):
        (staging / f"{chosen.getrandbits(128):032x}.part").write_bytes(b"begun")


def _finished(number: int, chosen: random.Random) -> Snapshot:
    peer = f"peer:{chosen.randrange(50)}"
    path = f"photos/{number:06}.jpg"
    when = 1_700_000_000.0 + number
    return Snapshot(
        f"{number:08x}", Direction.IN, Kind.FILE, peer, path, 1000, State.DONE, changed=when
    )


def begin(folder: Path) -> tuple[float, int]:
    """Seconds until a new process listens, and how many parts are there after it."""
    program = [sys.executable, "-m", "lanxfer.cli.main", "serve", "--allow-root", "--json"]
    places = [
        "--port",
        0,
        "--bind",
        "127.0.0.1",
        "--state",
        folder / "state",
        "--inbox",
        folder / "inbox",
    ]
    since = time.monotonic()
    process = subprocess.Popen([*program, *map(str, places)], stdout=subprocess.PIPE, env=_told())
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        spent = time.monotonic() - since
        assert "listening" in json.loads(line), line
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    return spent, len(list((folder / "inbox" / STAGING).glob("*.part")))


def _told() -> dict[str, str]:
    return {**os.environ, "LANXFER_ALLOW_ROOT": "1"}


@click.command()
@click.option("--records", type=click.IntRange(min=0), default=100_000, show_default=True)
@click.option("--parts", type=click.IntRange(min=0), default=10_000, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=RUNS, show_default=True)
@click.option("--seed", type=int, default=lambda: random.SystemRandom().randrange(2**32))
def command(records: int, parts: int, runs: int, seed: int) -> None:
    """Start a service on a large history and many unfinished files."""
    figures = Figures(seed=seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, records, parts, random.Random(seed))
        found = []
        for done in range(runs):
            found.append(begin(folder))
            figures.tell(done + 1, runs, "starts")
    figures.add("until it listens", max(spent for spent, _ in found), "s", most=MOST)
    figures.add("parts of its peers thrown away", parts - min(left for _, left in found), most=0)
    figures.finish()
