"""Where the processor time of one side goes."""

from __future__ import annotations

import io
import pstats
from pathlib import Path

from bench.options import Options
from bench.pairs import Pair, Speech
from bench.place import Place
from bench.profiler import THREADS

LINES = 25


def show(place: Place, options: Options) -> str:
    """Run one transfer with one side under the profiler; its dearest functions by own time."""
    speech = Speech.TLS if options.secure else Speech.PLAIN
    large = options.profile == "large"
    source = place.large(options.size) if large else place.tree(options.files)
    found = place.folder / "profile"
    server = found if options.side == "server" else None
    client = found if options.side == "client" else None
    with place.run() as run, Pair(speech, run, server) as pair:
        sample = pair.ask("file" if large else "tree", source, client)
    title = (
        f"{options.profile}, {speech.value}, {options.side}: {sample.seconds:.3f} s with the"
        " profiler; own time in seconds of processor time, imports included"
    )
    parts = [title, "reactor thread", _top(found)]
    threads = Path(f"{found}{THREADS}")
    if threads.exists():
        parts += ["other threads, together", _top(threads)]
    return "\n".join(parts)


def _top(path: Path) -> str:
    text = io.StringIO()
    stats = pstats.Stats(str(path), stream=text)
    stats.sort_stats("tottime").print_stats(LINES)
    # What comes before is the name of the file and the order of the table.
    return "   ncalls" + text.getvalue().partition("   ncalls")[2].rstrip()
