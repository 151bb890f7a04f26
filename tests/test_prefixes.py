"""Which digests of a file's beginnings are kept for the day they are asked for."""

from __future__ import annotations

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.storage.prefixes import ladder, thinned
from lanxfer.wire import limits

MIB = limits.MIB


@given(st.lists(st.integers(1, 40 * MIB), min_size=1, max_size=200))
def test_thinned(steps: list[int]) -> None:
    """However a file grew: its end is kept, few others, and some not far behind where it was."""
    # covers: B01
    known: dict[int, blake3] = {}
    held = 0
    for step in steps:
        held += step
        known = thinned({**known, held: blake3()}, held)
        assert max(known) == held
        assert len(known) <= len(ladder(held)) <= limits.HAVE_MAX


def test_small_steps() -> None:
    """Interrupted each mebibyte, it still knows where it was some 16 MiB before its end."""
    known: dict[int, blake3] = {}
    for held in range(MIB, 1000 * MIB, MIB):
        known = thinned({**known, held: blake3()}, held)
        behind = [at for at in known if held - 48 * MIB <= at <= held - 8 * MIB]
        assert held <= 48 * MIB or behind
