"""Who is let in at the door, and as whom."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.admission import Admission, Legacy, networks, own_networks
from lanxfer.errors import BadConfig, NotPaired, TlsRequired
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.policy import Principal, Standing
from lanxfer.state import StateFolder


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("keys")
    one, two = (load_identity(StateFolder(str(folder / name))).key for name in ("one", "two"))
    return one, two


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(StateFolder(str(tmp_path / "state")))


class Welcomes:
    """Pairing, as far as the door asks it."""

    def __init__(self, welcomes: bool, granted: dict[str, str] | None = None) -> None:
        self.welcomes = welcomes
        self.granted = granted or {}

    def use_grant(self, key: str) -> str | None:
        return self.granted.pop(key, None)


class KeyTests:
    def test_pinned(self, peers: Peers, keys: tuple[str, str]) -> None:
        """A key that is pinned is a peer, under the name chosen on this device."""
        # covers: A13
        peers.add(Peer("laptop", keys[0], ()))
        found = Admission(peers).with_key(keys[0])
        assert found == Principal(Standing.PEER, f"peer:{keys[0]}", "laptop")

    def test_stranger(self, peers: Peers, keys: tuple[str, str]) -> None:
        """Any other key is a stranger's, whoever is paired."""
        # covers: A01
        peers.add(Peer("laptop", keys[0], ()))
        found = Admission(peers).with_key(keys[1])
        assert (found.standing, found.name) == (Standing.STRANGER, f"stranger:{keys[1]}")
        assert "unknown" in found.label

    def test_open(self, peers: Peers, keys: tuple[str, str]) -> None:
        """A service started with --open takes unknown devices for guests; peers stay peers."""
        peers.add(Peer("laptop", keys[0], ()))
        admission = Admission(peers, open=True)
        assert admission.with_key(keys[1]).standing is Standing.GUEST
        assert admission.with_key(keys[0]).standing is Standing.PEER

    def test_newcomer(self, peers: Peers, keys: tuple[str, str]) -> None:
        """While somebody may pair, an unknown key is a newcomer's, and a known one a peer's."""
        # covers: A01, A02
        peers.add(Peer("laptop", keys[0], ()))
        for welcomes, standing in ((True, Standing.NEWCOMER), (False, Standing.STRANGER)):
            admission = Admission(peers, pairing=Welcomes(welcomes))
            assert admission.with_key(keys[1]).standing is standing
            assert admission.with_key(keys[0]).standing is Standing.PEER
        open = Admission(peers, open=True, pairing=Welcomes(True))
        assert open.with_key(keys[1]).standing is Standing.GUEST

    def test_once(self, peers: Peers, keys: tuple[str, str]) -> None:
        """A key that was let in for once is let in once, under a name of its own."""
        pairing = Welcomes(False, {keys[1]: "laptop (once)"})
        admission = Admission(peers, pairing=pairing)
        found = admission.with_key(keys[1])
        assert found == Principal(Standing.INVITED, f"once:{keys[1]}", "laptop (once)")
        assert admission.with_key(keys[1]).standing is Standing.STRANGER

    @pytest.mark.parametrize("open", [False, True])
    def test_no_key(self, peers: Peers, open: bool) -> None:
        """Without a key there is nobody to let in, however open the service."""
        # covers: A01
        with pytest.raises(NotPaired):
            Admission(peers, open=open).with_key(None)

    def test_names_keep_apart(self, peers: Peers, keys: tuple[str, str]) -> None:
        """What a guest sent is not its own any more once it is a peer, and the other way round."""
        # covers: L02
        guest = Admission(peers, open=True).with_key(keys[0])
        stranger = Admission(peers).with_key(keys[0])
        peers.add(Peer("laptop", keys[0], ()))
        peer = Admission(peers).with_key(keys[0])
        assert len({guest.name, stranger.name, peer.name}) == 3

    def test_seen_at_once(self, peers: Peers, keys: tuple[str, str], tmp_path: Path) -> None:
        """A peer that another process added or forgot counts from the next connection on."""
        # covers: A08
        admission = Admission(peers)
        assert admission.with_key(keys[0]).standing is Standing.STRANGER
        other = Peers(StateFolder(str(tmp_path / "state")))
        other.add(Peer("laptop", keys[0], ()))
        assert admission.with_key(keys[0]).standing is Standing.PEER
        other.forget("laptop")
        assert admission.with_key(keys[0]).standing is Standing.STRANGER


class PlainTests:
    @pytest.mark.parametrize(
        ("address", "allowed", "may"),
        [
            ("192.168.1.7", ["192.168.1.0/24"], True),
            ("192.168.2.7", ["192.168.1.0/24"], False),
            ("192.168.1.7", ["192.168.1.7"], True),
            ("192.168.1.8", ["192.168.1.7"], False),
            ("::ffff:192.168.1.7", ["192.168.1.0/24"], True),
            ("fe80::1%eth0", ["fe80::/10"], True),
            ("fe80::1%eth0", ["10.0.0.0/8"], False),
            ("127.0.0.1", [], False),
            ("127.0.0.1", ["::1/128"], False),
            ("", ["0.0.0.0/0", "::/0"], False),
            ("somewhere", ["0.0.0.0/0", "::/0"], False),
            ("192.168.1.7", ["0.0.0.0/0"], True),
        ],
    )
    def test_from(self, peers: Peers, address: str, allowed: list[str], may: bool) -> None:
        """Plain text is taken from the networks that were named, in any spelling, and no others."""
        # covers: A06
        found = Admission(peers, plain_from=networks(allowed)).in_plain(address)
        assert isinstance(found, Principal if may else TlsRequired)
        if isinstance(found, Principal):
            assert (found.standing, found.secure) == (Standing.GUEST, False)
            assert found.name == f"plain:{address}"

    @pytest.mark.parametrize("legacy", Legacy)
    @pytest.mark.parametrize(
        "address", ["10.0.0.2", "127.0.0.1", "::1", "::ffff:127.0.0.1", "10.9.0.2"]
    )
    def test_literal(self, peers: Peers, legacy: Legacy, address: str) -> None:
        """Ae peers come from allowed networks only; with full, those on this machine may more."""
        # covers: A06, J20, J21
        allowed = networks(["10.0.0.0/24", "127.0.0.0/8", "::1"])
        found = Admission(peers, legacy=legacy, legacy_from=allowed).in_literal(address)
        if legacy is Legacy.OFF or address == "10.9.0.2":
            assert isinstance(found, TlsRequired)
            return
        assert isinstance(found, Principal)
        full = legacy is Legacy.FULL and address != "10.0.0.2"
        assert found.standing is (Standing.LEGACY_LOCAL if full else Standing.LEGACY)
        assert found.name == f"legacy:{address}"
        assert not found.secure

    @pytest.mark.parametrize("secure", [False, True])
    @pytest.mark.parametrize("plain", [False, True])
    def test_ticket(self, peers: Peers, secure: bool, plain: bool) -> None:
        """A ticket may always come inside TLS, and in plain text where that was said."""
        found = Admission(peers, tickets_plain=plain).with_ticket("10.0.0.2", secure)
        assert isinstance(found, Principal if secure or plain else TlsRequired)
        if isinstance(found, Principal):
            assert (found.standing, found.secure) == (Standing.TICKET, secure)

    def test_nothing_in_plain_by_default(self, peers: Peers) -> None:
        """A service that was told nothing takes no plain text from anywhere."""
        # covers: A01, A06
        admission = Admission(peers)
        for address in ("127.0.0.1", "::1", "192.168.1.1", ""):
            assert isinstance(admission.in_plain(address), TlsRequired)
            assert isinstance(admission.in_literal(address), TlsRequired)
            assert isinstance(admission.with_ticket(address, False), TlsRequired)

    @given(st.text(max_size=30))
    @settings(max_examples=100)
    def test_any_address(self, address: str) -> None:
        """Whatever a transport calls its peer, the answer is a principal or a refusal."""
        admission = Admission(
            None,  # type: ignore[arg-type]
            plain_from=networks(["10.0.0.0/8"]),
            legacy=Legacy.FULL,
            legacy_from=networks(["10.0.0.0/8"]),
        )
        assert isinstance(admission.in_plain(address), Principal | TlsRequired)
        assert isinstance(admission.in_literal(address), Principal | TlsRequired)


class NetworksTests:
    @pytest.mark.parametrize("text", ["nas", "10.0.0.0/33", "10.0.0.256", "", "10.0.0.0/8/8", "*"])
    def test_refused(self, text: str) -> None:
        """What is no network is named in the complaint."""
        with pytest.raises(BadConfig, match="no network"):
            networks(["10.0.0.0/8", text])

    def test_loose(self) -> None:
        """An address within a network may stand for it."""
        assert [str(each) for each in networks(["192.168.1.7/24", "::1"])] == [
            "192.168.1.0/24",
            "::1/128",
        ]

    def test_own(self) -> None:
        """This machine is always among its own networks, and never everybody."""
        found = [str(each) for each in own_networks()]
        assert {"127.0.0.0/8", "::1/128"} <= set(found)
        assert not {"0.0.0.0/0", "::/0"} & set(found)
