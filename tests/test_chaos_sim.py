"""Two devices and their faults, by the seed."""

from __future__ import annotations

import pytest

from chaos.laws import Job, Laws
from chaos.sim import replay, run
from chaos.world import World
from lanxfer.transfers import Kind


# covers: I1 C06 K08
class SimTests:
    def test_seeds(self) -> None:
        """Whatever happens in these stories, no law is broken, and things do happen."""
        told = run(range(1, 301))
        assert told.breaches == []
        for name in ("acknowledged", "together", "cancels", "cuts", "stalls", "crashes"):
            assert told.counts[name] > 20

    def test_deterministic(self) -> None:
        """The same seed is the same story, to the last line."""
        one, two = replay(7), replay(7)
        assert one == two
        assert len(one[0]) > 20
        assert replay(8)[0] != one[0]


class LawsTests:
    @pytest.fixture
    def laws(self) -> Laws:
        import random

        laws = Laws()
        laws.world = World(random.Random(1), laws.files)
        ada = laws.world.devices[0]
        laws.jobs.append(Job(0, ada, Kind.FILE, "a.bin", versions=[b"whole"]))
        return laws

    def test_whole(self, laws: Laws) -> None:
        """A file that was sent may be there."""
        laws.world.devices[1].store.files["a.bin"] = b"whole"
        assert laws.breaches == []

    def test_partial(self, laws: Laws) -> None:
        """Half of one may not, nor may a file of one who did not send it."""
        laws.world.devices[1].store.files["a.bin"] = b"who"
        laws.world.devices[0].store.files["a.bin"] = b"whole"
        assert len(laws.breaches) == 2

    def test_overwritten(self, laws: Laws) -> None:
        """A name is given once."""
        files = laws.world.devices[1].store.files
        files["a.bin"] = b"whole"
        files["a.bin"] = b"whole"
        assert laws.breaches == ["a.bin was overwritten"]

    def test_undecided(self, laws: Laws) -> None:
        """What never ends is noticed."""
        laws.finished()
        assert laws.breaches == ["a.bin never came to an end"]
