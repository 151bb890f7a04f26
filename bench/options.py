"""What was asked for on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from attrs import frozen

NAMES = ("large", "small", "warm")


@frozen
class Options:
    """``size`` in MiB; ``directory`` None is a file system in memory."""

    size: int = 512
    files: int = 2000
    runs: int = 3
    pings: int = 2000
    directory: str | None = None
    only: tuple[str, ...] = NAMES
    json: bool = False
    profile: str = ""
    side: str = "server"
    secure: bool = False

    def tell(self, text: str) -> None:
        """How far it is, for whoever waits; standard output has only the results."""
        if sys.stderr.isatty():
            print(text, file=sys.stderr)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def parse(argv: Sequence[str]) -> Options:
    """Read the arguments; what makes no sense ends the process with a word about it."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure lanxfer beside what Twisted alone and cp do on this machine.",
        epilog="Exit code 3: a goal was missed; 1: something failed.",
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="profile large|small",
        help="show where the processor time of one side goes, instead of measuring",
    )
    parser.add_argument("--quick", action="store_true", help="64 MiB, 500 files, one run")
    parser.add_argument("--size", type=_count, metavar="MIB", help="of the large file (512)")
    parser.add_argument("--files", type=_count, metavar="N", help="small ones (2000)")
    parser.add_argument("--runs", type=_count, metavar="N", help="of which the median counts (3)")
    parser.add_argument("--dir", help="on the disk to be measured (default: in memory)")
    parser.add_argument("--only", choices=NAMES, action="append", help="may be given twice")
    parser.add_argument("--json", action="store_true", help="every sample, after the tables")
    parser.add_argument("--side", choices=("client", "server"), default="server")
    parser.add_argument("--tls", action="store_true", help="profile the pair that speaks TLS")
    found = parser.parse_args(argv)
    profile = ""
    if found.what:
        if len(found.what) != 2 or found.what[0] != "profile" or found.what[1] not in NAMES[:2]:
            parser.error("after the options there is nothing but: profile large|small")
        profile = found.what[1]
    usual = Options(size=64, files=500, runs=1, pings=500) if found.quick else Options()
    return Options(
        size=found.size or usual.size,
        files=found.files or usual.files,
        runs=found.runs or usual.runs,
        pings=usual.pings,
        directory=found.dir,
        only=tuple(found.only or NAMES),
        json=found.json,
        profile=profile,
        side=found.side,
        secure=found.tls,
    )
