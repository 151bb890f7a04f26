"""What the shell's ``lanxfer`` begins with, and ends with.

A command without a reactor is mostly over in less time than Python takes to
collect garbage and to tidy up after itself: it does neither.  Nor does it import click where
the line is ``simple``.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress


def start() -> None:
    """Run ``lanxfer``."""
    gc.disable()
    from lanxfer.cli.simple import read

    try:
        line = read(sys.argv[1:], os.environ)
        if line is not None:
            sys.exit(line.run())
        from lanxfer.cli.main import main

        main()
    except SystemExit as end:
        # A reactor leaves threads behind, and more that wants to be ended in order.
        if "twisted" in sys.modules or not isinstance(end.code, int):
            raise
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError):  # closed by whoever started us, or nobody reads
                stream.flush()
        os._exit(end.code)
