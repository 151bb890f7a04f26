"""A body that is gathered in memory, whatever the pieces it comes in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.disk import Units
from lanxfer.gathering import FIRST, LEAST, Gathered
from lanxfer.wire import limits

SIZES = st.one_of(
    st.integers(FIRST + 1, 20 * FIRST),
    st.sampled_from([FIRST + 1, limits.UNIT - 1, limits.UNIT, limits.UNIT + 1, 3 * limits.MIB]),
)


def fill(gathered: Gathered, data: bytes, chance: random.Random) -> None:
    """Give it all of ``data``, some of it read elsewhere and some where it stays."""
    at = 0
    while at < len(data):
        size = chance.choice([1, 100, 5000, 65536, 300_000, len(data)])
        space = gathered.space() if chance.random() < 0.7 else None
        piece = data[at : at + size]
        if space is None:
            gathered.received(piece)
        else:
            piece = piece[: len(space)]
            space[: len(piece)] = piece
            gathered.filled(len(piece))
        at += len(piece)


class GatheredTests:
    @given(size=SIZES, seed=st.integers(0, 2**32), scarce=st.booleans())
    def test_whole(self, size: int, seed: int, scarce: bool) -> None:
        """What came is there, in whatever pieces it came, and never a place for a byte too many."""
        units = Units(keep=0 if scarce else 8)
        chance = random.Random(seed)
        data = chance.randbytes(size)
        gathered = Gathered(size, units)
        fill(gathered, data, chance)
        assert len(gathered) == size
        assert gathered.whole() == data
        for _ in range(5):
            start = at = chance.randrange(size)
            lengths = chance.choices([0, 1, 100, limits.UNIT, size], k=chance.randint(1, 4))
            for length, found in zip(lengths, gathered.pieces(start, lengths), strict=True):
                assert b"".join(found) == data[at : at + length]
                assert all(found)
                at += length
        assert gathered.space() is None

    def test_used_again(self) -> None:
        """Its memory is that of the next one, once it was released; that may be said twice."""
        units = Units()
        first = Gathered(limits.UNIT, units)
        first.received(b"a" * limits.UNIT)
        ((view,),) = first.pieces(FIRST, [limits.UNIT])
        first.release()
        first.release()
        assert first.pieces(0, [limits.UNIT, 1]) == [[], []]
        second = Gathered(limits.UNIT - 5, units)
        second.received(b"b" * (limits.UNIT - 5))
        assert view[:3] == b"bbb" and view[-5:] == b"aaaaa"
        third = Gathered(limits.UNIT, units)
        third.received(b"c" * limits.UNIT)
        assert second.whole() == b"b" * (limits.UNIT - 5)

    # covers: H08
    @pytest.mark.parametrize("size", [limits.UNIT + 1, limits.ANSWER_BODY_MAX])
    def test_grows(self, size: int) -> None:
        """Who announces much has to send a part of it before there is memory for the rest."""
        gathered = Gathered(size, Units())
        held = 0
        while (space := gathered.space()) is not None:
            assert len(space) <= (limits.UNIT if held else FIRST)
            gathered.filled(len(space))
            held += len(space)
        assert size - held < LEAST

    def test_scarce(self) -> None:
        """Where many units are in use it takes none."""
        units = Units(keep=2)
        taken = [units.take() for _ in range(3)]
        assert units.scarce
        gathered = Gathered(limits.UNIT, units)
        gathered.received(b"x" * limits.UNIT)
        assert gathered.whole() == b"x" * limits.UNIT
        assert len(taken) == 3
