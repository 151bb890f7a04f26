"""The physical limit: two plain processes that move the bytes and do nothing else (loops.py)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers import Peer
from bench.peers.certificate import certificate
from bench.place import Run


class Limit(Peer):
    """``how``: loops (read and write), sendfile (by the sender), splice (by the receiver), tls.

    ``verified`` and ``tls verified`` are loops in which both sides digest what they move.
    """

    def __init__(self, how: str) -> None:
        self.secure = how.startswith("tls")
        self.name = f"limit, {how.replace('tls', 'TLS')}" if how != "tls" else "limit, TLS loops"
        self._how = how

    def serve(self, run: Run, port: int) -> Sequence[str]:
        keys = map(str, certificate(run.folder)) if self.secure else ()
        return _program("serve", str(port), self._how, str(run.inbox), *keys)

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        return _program("send", str(port), self._how, *map(str, sources))


def _program(*args: str) -> Sequence[str]:
    return [sys.executable, str(Path(__file__).with_name("loops.py")), *args]
