"""What is said, byte by byte, when a body comes in clear: the receiver's door, in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from lanxfer.clear import ClearTickets
from lanxfer.identity import Identity
from lanxfer.testing import bytewise, pieces, whole
from lanxfer.wire import limits
from lanxfer.wire.packets import Cancel, Do, End, Failed, Go, Ok, Part, Window
from tests.test_door import HELLO, House, Visitor, house, identities

__all__ = ["house", "identities"]

pytestmark = pytest.mark.usefixtures("logged")

CUTS = {"whole": whole, "bytewise": bytewise, "pieces": pieces(3, 1)}
DATA = os.urandom(3000)
DIGEST = blake3(DATA).hexdigest()
END = End(2, len(DATA), DIGEST)


def begun(house: House, clear: bool = True, **more: Any) -> tuple[Visitor, Go]:
    """A phone inside TLS that was told to go; and what it was told."""
    house.factory.clear = ClearTickets(house.clock)
    phone = house.in_tls("phone")
    args = {"path": "film.mkv", "size": len(DATA), "mtime_ns": 5, **more}
    phone.say(HELLO, Do(2, "recv_file", {**args, "clear": True} if clear else args))
    go = phone.heard[-1]
    assert isinstance(go, Go)
    return phone, go


def line(go: Go, offset: int = 0) -> bytes:
    return f"pour {go.args['clear']} {offset}\n".encode()


def stored(house: House) -> dict[str, bytes]:
    return {str(path): bytes(each.data) for path, each in house.node.store.files.items()}


class SaidTests:
    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("early", [True, False])
    def test_whole(self, house: House, cut: str, early: bool) -> None:
        """The line, ok, the bytes; the end comes by TLS, before the last of them or after."""
        phone, go = begun(house)
        assert phone.heard[0].args["features"] == ["streams", "folders", "clear"]  # type: ignore[union-attr]
        pour = house.visit(cut=CUTS[cut])
        pour.say(line(go))
        assert pour.raw.received == b"ok\n"
        pour.say(DATA[:1000])
        if early:
            phone.say(END)
            assert phone.heard[-1] == go
        pour.say(DATA[1000:])
        if not early:
            assert not pour.closed
            phone.say(END)
        answer = phone.heard[-1]
        assert isinstance(answer, Ok) and answer.args["blake3"] == DIGEST
        assert pour.closed and not phone.closed and pour.raw.received == b"ok\n"

    def test_with_the_line(self, house: House) -> None:
        """Bytes that do not wait for the ok are not lost, and no more are taken than there are."""
        phone, go = begun(house)
        pour = house.visit()
        pour.say(line(go) + DATA + b"more")
        phone.say(END)
        assert isinstance(phone.heard[-1], Ok)

    def test_not_asked_for(self, house: House) -> None:
        """Who does not ask for it gets no ticket."""
        phone, go = begun(house, clear=False)
        assert "clear" not in go.args
        phone.say(Part(2, 0, len(DATA)), DATA, END)
        assert isinstance(phone.heard[-1], Ok)

    def test_in_parts_after_all(self, house: House) -> None:
        """The first part takes the ticket back, and so does the end."""
        phone, go = begun(house)
        phone.say(Part(2, 0, 1000), DATA[:1000])
        pour = house.visit()
        pour.say(line(go))
        assert pour.codes == ["forbidden"] and pour.closed
        phone.say(Part(2, 1000, 2000), DATA[1000:], END)
        assert isinstance(phone.heard[-1], Ok)

    def test_part_beside(self, house: House) -> None:
        """Bytes by both ways at once are those of two, and neither is believed."""
        phone, go = begun(house)
        pour = house.visit()
        pour.say(line(go), b"x" * 1000)
        phone.say(Part(2, 0, 1000), DATA[:1000])
        failed = phone.heard[-1]
        assert isinstance(failed, Failed) and failed.code == "clear-broken" and failed.retry
        assert pour.closed and not phone.closed and not stored(house)

    def test_wrong_bytes(self, house: House) -> None:
        """The digest that came in TLS decides, and what differs is dropped."""
        # covers: B11
        phone, go = begun(house)
        house.visit().say(line(go), b"x" * len(DATA))
        phone.say(END)
        failed = phone.heard[-1]
        assert isinstance(failed, Failed) and failed.code == "digest-mismatch"
        assert not stored(house)
        phone.say(Do(3, "recv_file", {"path": "film.mkv", "size": len(DATA), "mtime_ns": 5}))
        again = phone.heard[-1]
        assert isinstance(again, Go) and again.have == ()
        phone.say(Cancel(3))

    @pytest.mark.parametrize("early", [True, False])
    def test_cut_and_resumed(self, house: House, early: bool) -> None:
        """An end that comes before the last byte is no end, whatever was said in TLS."""
        # covers: T05
        phone, go = begun(house)
        pour = house.visit()
        pour.say(line(go), DATA[:1234])
        if early:
            phone.say(END)
        pour.wire.a.loseConnection()
        house.pump()
        failed = phone.heard[-1]
        assert isinstance(failed, Failed) and failed.code == "clear-broken"
        if not early:
            phone.say(END)  # which crossed it
        args = {"path": "film.mkv", "size": len(DATA), "mtime_ns": 5, "clear": True}
        phone.say(Do(3, "recv_file", args))
        again = phone.heard[-1]
        assert isinstance(again, Go) and again.have[0] == (1234, blake3(DATA[:1234]).hexdigest())
        for offset in (1, 1233, 3000, 4000):
            refused = house.visit()
            refused.say(line(again, offset))
            assert refused.codes == ["forbidden"]
        house.visit().say(line(again, 1234), DATA[1234:])
        phone.say(End(3, len(DATA), DIGEST))
        assert isinstance(phone.heard[-1], Ok)

    def test_cancelled(self, house: House) -> None:
        """A cancel in TLS ends the other connection as well."""
        phone, go = begun(house)
        pour = house.visit()
        pour.say(line(go), DATA[:100])
        phone.say(Cancel(2, "enough"))
        failed = phone.heard[-1]
        assert isinstance(failed, Failed) and failed.code == "cancelled"
        assert pour.closed and not stored(house)

    def test_given_up(self, house: House) -> None:
        """A sender that cannot go on says so, and what came is kept."""
        phone, go = begun(house)
        pour = house.visit()
        pour.say(line(go), DATA[:100])
        phone.say(Cancel(2, "", "clear-broken"))
        phone.say(Do(3, "recv_file", {"path": "film.mkv", "size": len(DATA), "mtime_ns": 5}))
        again = phone.heard[-1]
        assert isinstance(again, Go) and again.have[0][0] == 100
        phone.say(Cancel(3))

    def test_tls_gone(self, house: House) -> None:
        """Without the one connection the other is nothing."""
        phone, go = begun(house)
        pour = house.visit()
        pour.say(line(go), DATA[:100])
        phone.wire.cut_off()
        house.pump()
        house.pass_time(0.1)
        assert pour.closed


class TicketTests:
    def test_other_address(self, house: House) -> None:
        """A ticket is for where its exchange comes from, and stays good for that."""
        # covers: A09 J19
        phone, go = begun(house)
        thief = house.visit("10.0.0.3")
        thief.say(line(go), b"x" * 3000)
        assert thief.codes == ["forbidden"] and thief.closed
        house.visit("::ffff:10.0.0.2").say(line(go), DATA)
        phone.say(END)
        assert isinstance(phone.heard[-1], Ok)

    def test_once(self, house: House) -> None:
        """The second one who brings it is refused, and the first goes on."""
        # covers: A05 J19
        phone, go = begun(house)
        first, second = house.visit(), house.visit()
        first.say(line(go), DATA[:10])
        second.say(line(go))
        assert second.codes == ["forbidden"]
        first.say(DATA[10:])
        phone.say(END)
        assert isinstance(phone.heard[-1], Ok)

    def test_late(self, house: House) -> None:
        """After ten seconds it is good for nothing."""
        phone, go = begun(house)
        house.pass_time(limits.CLEAR_TICKET_LIFETIME + 0.1)
        pour = house.visit()
        pour.say(line(go))
        assert pour.codes == ["forbidden"]
        phone.say(Part(2, 0, len(DATA)), DATA, END)
        assert isinstance(phone.heard[-1], Ok)

    @pytest.mark.parametrize("ending", [b"", b"x" * 200, b" 0\n"])
    def test_unfinished(self, house: House, ending: bytes) -> None:
        """A line that is none is refused, and one that never ends as well."""
        begun(house)
        pour = house.visit()
        pour.say(b"pour ", ending)
        house.pass_time(limits.HEADER_TIMEOUT + 2)
        assert pour.codes in (["forbidden"], ["timeout"]) and pour.closed

    def test_not_in_tls(self, house: House) -> None:
        """Inside TLS there is nothing to be in clear."""
        _, go = begun(house)
        inside = house.in_tls("phone")
        inside.say(line(go))
        assert inside.codes == ["bad-header"]


class CreditTests:
    def test_no_more_than_granted(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """Paused, no more is read than was granted, but for one chunk; then the rest is."""
        monkeypatch.setattr(limits, "WINDOW", 1000)
        phone, go = begun(house)
        assert go.window == 1000
        (transfer,) = house.node.registry.pending()
        house.node.registry.find(transfer.id).pause(True)
        pour = house.visit(cut=pieces(100))
        pour.say(line(go), DATA)
        house.pass_time(1)
        held = house.node.registry.pending()[0].done
        assert 900 <= held <= 1100 and not any(isinstance(each, Window) for each in phone.heard)
        house.node.registry.find(transfer.id).pause(False)
        house.pass_time(2)
        phone.say(END)
        house.pass_time(2)
        assert isinstance(phone.heard[-1], Ok)

    def test_rate(self, house: House) -> None:
        """No more comes in a second than the owner lets in, however fast it is sent."""
        house.node.rates.change(rate_in=10_000)
        data = os.urandom(60_000)
        phone, go = begun(house, size=len(data))
        assert go.window >= len(data)
        pour = house.visit(cut=pieces(100))
        pour.say(line(go), data)
        house.pass_time(2)
        assert 5_000 < house.node.registry.pending()[0].done < 30_000
        house.pass_time(10)
        phone.say(End(2, len(data), blake3(data).hexdigest()))
        assert isinstance(phone.heard[-1], Ok)

    def test_slow(self, house: House) -> None:
        """What keeps coming is no silence, though nothing is said in TLS meanwhile."""
        data = os.urandom(400_000)
        phone, go = begun(house, size=len(data))
        pour = house.visit()
        pour.say(line(go))
        for at in range(0, len(data), 80_000):
            pour.say(data[at : at + 80_000])
            house.pass_time(limits.BODY_IDLE_TIMEOUT / 2)
        phone.say(End(2, len(data), blake3(data).hexdigest()))
        assert isinstance(phone.heard[-1], Ok)

    def test_silence(self, house: House) -> None:
        """Bytes that do not come are missed as they are in TLS."""
        # covers: B01
        phone, go = begun(house)
        pour = house.visit()
        pour.say(line(go), DATA[:100])
        house.pass_time(2 * limits.BODY_IDLE_TIMEOUT + 5)
        assert phone.codes[-1] == "timeout" and phone.closed and pour.closed


def test_not_taken(tmp_path: Path, identities: dict[str, Identity]) -> None:
    """A service that takes none of it names no such feature."""
    made = House(tmp_path, identities)
    phone = made.in_tls("phone")
    phone.say(HELLO)
    assert phone.heard[0].args["features"] == ["streams", "folders"]  # type: ignore[union-attr]
    phone.wire.cut_off()
    made.pump()
