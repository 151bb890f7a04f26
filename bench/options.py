"""What was asked for on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from attrs import evolve, frozen

NAMES = (
    *("large", "small", "mixed", "senders", "durable", "cold", "resume"),
    *("far-large", "far-small", "warm", "requests", "idle", "growth", "floor", "imports"),
)


@frozen
class Options:
    """``size`` in MiB; ``directory`` None is a file system in memory, ``disk`` one to be synced."""

    size: int = 2048
    files: int = 10_000
    mixed: int = 20_000
    senders: int = 64
    runs: int = 5
    pings: int = 2000
    connections: int = 100
    most_files: int = 100_000
    directory: str | None = None
    disk: str | None = None
    only: tuple[str, ...] = NAMES
    peers: tuple[str, ...] = ()
    json: bool = False
    write: str | None = None
    profile: str = ""
    side: str = "server"
    secure: bool = False

    def tell(self, text: str) -> None:
        """How far it is, for whoever waits; standard output has only the results."""
        if sys.stderr.isatty():
            print(text, file=sys.stderr)


QUICK = Options(
    size=256,
    files=1000,
    mixed=1000,
    senders=16,
    runs=1,
    pings=500,
    connections=20,
    most_files=1000,
)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def parse(argv: Sequence[str]) -> Options:
    """Read the arguments; what makes no sense ends the process with a word about it."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure lanxfer beside other programs that are installed on this machine.",
        epilog="Exit code 3: a goal was missed; 1: something failed.",
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="profile large|small",
        help="show where the processor time of one side goes, instead of measuring",
    )
    parser.add_argument("--quick", action="store_true", help="little of everything, one run")
    parser.add_argument("--size", type=_count, metavar="MIB", help="of the large file (2048)")
    parser.add_argument("--files", type=_count, metavar="N", help="small ones (10000)")
    parser.add_argument("--mixed", type=_count, metavar="N", help="files of all sizes (20000)")
    parser.add_argument("--senders", type=_count, metavar="N", help="at once (64)")
    parser.add_argument("--runs", type=_count, metavar="N", help="of which the median counts (5)")
    parser.add_argument("--connections", type=_count, metavar="N", help="idle ones (100)")
    parser.add_argument("--most-files", type=_count, metavar="N", help="of growth (100000)")
    parser.add_argument("--dir", help="where files are (default: in memory)")
    parser.add_argument("--disk", metavar="DIR", help="on a disk, for what is to be durable there")
    parser.add_argument(
        "--only", choices=NAMES, action="append", metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument(
        "--peer",
        action="append",
        metavar="NAME",
        help="only these of a workload, as they are shown",
    )
    parser.add_argument("--json", action="store_true", help="every sample, after the tables")
    parser.add_argument("--write", metavar="DOCS", help="put tables and picture into this folder")
    parser.add_argument("--side", choices=("client", "server"), default="server")
    parser.add_argument("--tls", action="store_true", help="profile the pair that speaks TLS")
    found = parser.parse_args(argv)
    profile = ""
    if found.what:
        if len(found.what) != 2 or found.what[0] != "profile" or found.what[1] not in NAMES[:2]:
            parser.error("after the options there is nothing but: profile large|small")
        profile = found.what[1]
    usual = QUICK if found.quick else Options()
    counts = ("size", "files", "mixed", "senders", "runs", "connections", "most_files")
    said = {name: getattr(found, name) for name in counts if getattr(found, name)}
    return evolve(
        usual,
        **said,
        directory=found.dir,
        disk=found.disk,
        only=tuple(found.only or NAMES),
        peers=tuple(found.peer or ()),
        json=found.json,
        write=found.write,
        profile=profile,
        side=found.side,
        secure=found.tls,
    )
