"""What a newly paired device is called, and the alarm for a changed key."""

from __future__ import annotations

from pathlib import Path

import pytest

from lanxfer.errors import KeyChanged
from lanxfer.labels import changed_key, label_of, met_at, pin
from lanxfer.peers import NAME_MAX, Peer, Peers
from lanxfer.state import StateFolder

K1, K2, K3 = ("B" * 51 + "A", "C" * 51 + "A", "D" * 51 + "Q")


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(StateFolder(str(tmp_path / "state")))


class PinTests:
    def test_own_word(self, peers: Peers) -> None:
        """A device is called what it calls itself."""
        assert pin(peers, K1, "laptop") == Peer("laptop", K1)
        assert peers.find("laptop").key == K1

    def test_same_word(self, peers: Peers) -> None:
        """A second device of that name gets one of its own, and the first keeps its key."""
        # covers: A07, A13
        pin(peers, K1, "laptop")
        assert pin(peers, K2, "laptop").name == "laptop-2"
        assert pin(peers, K3, "laptop").name == "laptop-3"
        assert peers.find("laptop").key == K1

    def test_long_word(self, peers: Peers) -> None:
        """Also where the name is as long as names are."""
        long = "x" * NAME_MAX
        assert [pin(peers, key, long).name for key in (K1, K2)] == [long, "x" * 62 + "-2"]

    @pytest.mark.parametrize("word", ["", "a/b", "\x1b[2J", "a\u202eb", "10.0.0.1", "x" * 65, " "])
    def test_no_word(self, peers: Peers, word: str) -> None:
        """What cannot be a name is none, and what is printed is harmless."""
        # covers: A13
        assert pin(peers, K1, word).name == "device-BBBB"
        assert label_of(word, K2) == "device-CCCC"

    def test_known(self, peers: Peers) -> None:
        """A key that is known keeps its name, and is found at its new address first."""
        pin(peers, K1, "laptop", addresses=("10.0.0.1",))
        kept = pin(peers, K1, "other", "chosen", ("10.0.0.2",))
        assert kept == Peer("laptop", K1, ("10.0.0.2", "10.0.0.1"))

    def test_chosen(self, peers: Peers) -> None:
        """A chosen name is taken, or refused: never another one, never another's."""
        # covers: A07
        assert pin(peers, K1, "laptop", "mine").name == "mine"
        with pytest.raises(KeyChanged):
            pin(peers, K2, "laptop", "mine")
        assert [each.key for each in peers.all()] == [K1]


class AddressTests:
    def test_met(self, peers: Peers) -> None:
        """Whoever was last met at an address, in any spelling of it."""
        pin(peers, K1, "nas", addresses=("10.0.0.1:36969", "10.0.0.9"))
        peers.add(Peer("ae", "", ("10.0.0.2",), legacy=True))
        found = met_at(peers, "10.0.0.1")
        assert found is not None and found.name == "nas"
        for address in ("10.0.0.1:5", "10.0.0.9", "10.0.0.2", "nas"):
            assert met_at(peers, address) is None

    def test_alarm(self) -> None:
        """The alarm names both keys and the way back."""
        # covers: A07
        told = changed_key(Peer("my nas", K1), "10.0.0.1", K2).reason
        assert "BBBB-BBBB" in told and "CCCC-CCCC" in told
        assert "lanxfer peer forget 'my nas'" in told
        assert "lanxfer pair 10.0.0.1 --name 'my nas'" in told
