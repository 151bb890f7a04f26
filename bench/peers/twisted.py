"""What Twisted alone does: one LineReceiver and one FileSender (bare.py), TLS as it comes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers import Peer
from bench.peers.certificate import certificate
from bench.place import Run
from bench.programs import HOST
from lanxfer.door import READ_SIZE
from lanxfer.wire import limits


class Bare(Peer):
    name = "bare Twisted"

    def _program(self, *args: str) -> Sequence[str]:
        sizes = ("--unit", str(limits.UNIT), "--read-size", str(READ_SIZE))
        return [sys.executable, "-m", "bench.bare", *args, *sizes]

    def serve(self, run: Run, port: int) -> Sequence[str]:
        keys = ("--keys", *map(str, certificate(run.folder))) if self.secure else ()
        return self._program("serve", str(run.inbox / "received.bin"), "--port", str(port), *keys)

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        (source,) = sources
        secure = ("--tls",) if self.secure else ()
        return self._program("put", str(source), "--address", f"{HOST}:{port}", *secure)

    def received(self, run: Run, source: Path) -> Path:
        return run.inbox / "received.bin"


class BareTls(Bare):
    name = "bare Twisted TLS"
    secure = True
