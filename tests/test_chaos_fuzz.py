"""Bytes that no peer should send."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chaos import garbage
from chaos.fuzz import Cases, run
from lanxfer.identity import load_identity
from lanxfer.policy import Standing
from lanxfer.sessions.native import NativeSession
from lanxfer.state import StateFolder


# covers: H01 H02 J01
class FuzzTests:
    def test_cases(self) -> None:
        """Nothing breaks, whoever says it, in whatever dialect."""
        kinds: set[str] = set()
        for batch in range(1, 9):
            found = run(batch)
            assert found.breaches == []
            kinds |= found.counts.keys()
        assert {"native", "literal", "ticket", "door", "client native"} <= kinds

    def test_reproducible(self) -> None:
        """One seed is one sequence of bytes."""
        one, two = random.Random(3), random.Random(3)
        assert garbage.sequence(one) == garbage.sequence(two)
        again = [garbage.mutate(random.Random(5), garbage.NATIVE[0]) for _ in range(2)]
        assert again[0] == again[1]


class NoticedTests:
    """What the command looks for, it finds."""

    def cases(self, tmp_path: Any, breaches: list[str]) -> Cases:
        return Cases(1, load_identity(StateFolder(str(tmp_path))), breaches.append)

    def test_right(self, tmp_path: Any) -> None:
        """A conversation as it should be is no breach."""
        breaches: list[str] = []
        cases = self.cases(tmp_path, breaches)
        said = b"".join(garbage.NATIVE[0])
        cases._say(cases.target.end(NativeSession(), Standing.PEER), said, Standing.PEER, "native")
        assert breaches == []
        assert cases.target.node.store.files == {"a/1.txt": b"hello"}

    def test_stranger(self, tmp_path: Any) -> None:
        """Somebody unknown who gets something stored is one."""
        breaches: list[str] = []
        cases = self.cases(tmp_path, breaches)
        said = b"".join(garbage.NATIVE[0])
        end = cases.target.end(NativeSession(), Standing.PEER)
        cases._say(end, said, Standing.STRANGER, "native")
        assert any("stranger" in each for each in breaches)


# covers: B08
@pytest.mark.parametrize("batch", [646, 3538, 1002217])
def test_found_once(batch: int) -> None:
    """What a long run found stays mended: an answer cut off in its body left a client waiting."""
    assert run(batch).breaches == []
