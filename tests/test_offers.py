"""Offers that wait for a yes."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from lanxfer.errors import Expired, Forbidden, NotFound, RateLimited, Stopping
from lanxfer.offers import REMEMBERED, Offers, Prompt, top_of
from lanxfer.policy import Principal, Standing
from lanxfer.registry import Registry, Transfer
from lanxfer.transfers import Direction, Kind, Offer, State
from lanxfer.wire import limits

pytestmark = pytest.mark.usefixtures("logged")

LAPTOP = Principal(Standing.PEER, "peer:laptop", "laptop")
PHONE = Principal(Standing.PEER, "peer:phone", "phone")


def guest(key: str, address: str) -> Principal:
    return Principal(Standing.GUEST, f"guest:{key}", f"unknown {key}", source=address)


class Desk:
    """Where offers wait, with a clock and a registry."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.prompts: list[Prompt] = []
        self.offers = Offers(self.clock, self.prompts.append)
        numbers = count(1)

        def complain(error: Exception) -> None:
            raise error

        self.registry = Registry(self.clock.seconds, lambda: f"id{next(numbers)}", complain)

    def offer(
        self, path: str, who: Principal = LAPTOP, group: str = "", kind: Kind = Kind.FILE
    ) -> tuple[Transfer, Deferred[None], list[Any]]:
        offer = Offer(path, 10 if kind is Kind.FILE else 0, kind)
        transfer = self.registry.open(Direction.IN, kind, who.name, path, offer.size, group=group)
        waiting = Deferred.fromCoroutine(self.offers.ask(who, offer, transfer, group))
        outcome: list[Any] = []
        waiting.addBoth(outcome.append)
        return transfer, waiting, outcome


@pytest.fixture
def desk() -> Desk:
    return Desk()


def code(outcome: list[Any]) -> str:
    [found] = outcome
    return found.value.code if isinstance(found, Failure) else "yes"


class AnswerTests:
    def test_yes(self, desk: Desk) -> None:
        """A yes lets that offer through, once, and nothing of it is left."""
        # covers: L07
        transfer, _, outcome = desk.offer("film.mkv")
        assert (transfer.state, outcome) == (State.WAITING, [])
        assert desk.offers.answer(transfer.id, True) == [transfer.id]
        assert outcome == [None]
        with pytest.raises(NotFound):
            desk.offers.answer(transfer.id, True)
        assert (len(desk.offers), desk.offers.prompts()) == (0, [])
        assert desk.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("reason", ["", "not today"])
    def test_no(self, desk: Desk, reason: str) -> None:
        """A no is forbidden, with the owner's words where there are some."""
        transfer, _, outcome = desk.offer("film.mkv")
        desk.offers.answer(transfer.id, False, reason)
        assert isinstance(outcome[0].value, Forbidden)
        assert outcome[0].value.reason == (reason or "The owner of that device declined.")

    def test_expires(self, desk: Desk) -> None:
        """An offer that nobody answers expires, and an answer that comes later is told so."""
        # covers: L07
        transfer, _, outcome = desk.offer("film.mkv")
        desk.clock.advance(limits.OFFER_LIFETIME - 1)
        assert outcome == []
        desk.clock.advance(1)
        assert code(outcome) == "expired"
        for yes in (True, False):
            with pytest.raises(Expired):
                desk.offers.answer(transfer.id, yes)

    def test_withdrawn(self, desk: Desk) -> None:
        """An offer whose call ended is gone, and an answer finds nothing."""
        # covers: L07, C06
        transfer, waiting, outcome = desk.offer("film.mkv")
        waiting.cancel()
        assert outcome[0].check(CancelledError)
        with pytest.raises(NotFound):
            desk.offers.answer(transfer.id, True)
        assert desk.clock.getDelayedCalls() == []

    def test_closed(self, desk: Desk) -> None:
        """When the service stops, all that waits hears so."""
        outcomes = [desk.offer(name, who)[2] for name, who in (("a", LAPTOP), ("b", PHONE))]
        desk.offers.close(Stopping())
        assert [code(each) for each in outcomes] == ["stopping", "stopping"]

    def test_unknown(self, desk: Desk) -> None:
        """There is nothing to answer where nothing was offered."""
        with pytest.raises(NotFound):
            desk.offers.answer("id7", True)


class FolderTests:
    def test_one_prompt(self, desk: Desk) -> None:
        """A folder is one prompt, however many files of it wait, and a yes is for them all."""
        names = ["pictures", "pictures/a.jpg", "pictures/b.jpg"]
        kinds = [Kind.FOLDER, Kind.FILE, Kind.FILE]
        made = [
            desk.offer(name, group="g", kind=kind) for name, kind in zip(names, kinds, strict=True)
        ]
        assert [(each.what, each.label) for each in desk.prompts] == [("pictures/", "laptop")]
        [prompt] = desk.offers.prompts()
        assert (prompt.files, prompt.size) == (2, 20)
        assert [transfer.state for transfer, _, _ in made] == [State.WAITING] * 3
        assert len(desk.offers.answer(made[2][0].id, True)) == 3
        assert [code(outcome) for _, _, outcome in made] == ["yes"] * 3

    @pytest.mark.parametrize(
        ("path", "group", "who", "covered"),
        [
            ("pictures/later/c.jpg", "g", LAPTOP, True),
            ("pictures", "g", LAPTOP, False),
            ("other/c.jpg", "g", LAPTOP, False),
            ("c.jpg", "g", LAPTOP, False),
            ("pictures/c.jpg", "h", LAPTOP, False),
            ("pictures/c.jpg", "", LAPTOP, False),
            ("pictures/c.jpg", "g", PHONE, False),
        ],
    )
    def test_what_a_yes_covers(
        self, desk: Desk, path: str, group: str, who: Principal, covered: bool
    ) -> None:
        """A yes to a folder is for what is in it and comes with the same send; nothing else."""
        # covers: P22
        transfer, _, _ = desk.offer("pictures/a.jpg", group="g")
        desk.offers.answer(transfer.id, True)
        assert desk.offers.granted(who, Offer(path, 1), group) is covered

    def test_on_its_way_to_be_asked(self, desk: Desk) -> None:
        """What reaches the desk just after the yes to its folder is not asked about again."""
        transfer, _, _ = desk.offer("pictures/a.jpg", group="g")
        desk.offers.answer(transfer.id, True)
        assert code(desk.offer("pictures/b.jpg", group="g")[2]) == "yes"
        assert len(desk.prompts) == 1

    def test_a_no_covers_nothing(self, desk: Desk) -> None:
        """What comes after a no is asked again."""
        transfer, _, _ = desk.offer("pictures/a.jpg", group="g")
        desk.offers.answer(transfer.id, False)
        assert not desk.offers.granted(LAPTOP, Offer("pictures/b.jpg", 1), "g")

    def test_loose_files(self, desk: Desk) -> None:
        """Files named one by one are covered by a yes only as far as they were shown."""
        # covers: P22
        one, _, _ = desk.offer("a.txt", group="g")
        desk.offer("b.txt", group="g")
        assert len(desk.offers.answer(one.id, True)) == 2
        assert not desk.offers.granted(LAPTOP, Offer("c.txt", 1), "g")

    def test_bounded(self, desk: Desk) -> None:
        """However many sends were let through, so many are remembered."""
        for number in range(REMEMBERED + 10):
            transfer, _, _ = desk.offer("d/a", group=str(number))
            desk.offers.answer(transfer.id, True)
        assert len(desk.offers._granted) == REMEMBERED

    def test_top(self) -> None:
        """The top of a path is its first folder; a file in none has none."""
        assert top_of(Offer("a/b/c", 1)) == "a/"
        assert top_of(Offer("a", 0, Kind.FOLDER)) == "a/"
        assert top_of(Offer("a", 1)) == ""


class BoundTests:
    def test_one_prompt_a_peer(self, desk: Desk) -> None:
        """One device has one prompt open; what else it offers waits its turn behind it."""
        # covers: L06
        first, _, _ = desk.offer("a")
        second, _, _ = desk.offer("b")
        other, _, _ = desk.offer("c", PHONE)
        assert [each.what for each in desk.prompts] == ["a", "c"]
        assert (second.state, other.state) == (State.OFFERED, State.WAITING)
        desk.offers.answer(first.id, False)
        assert [each.what for each in desk.prompts] == ["a", "c", "b"]
        assert second.state is State.WAITING

    def test_queued_may_be_answered(self, desk: Desk) -> None:
        """What waits its turn may be answered all the same."""
        desk.offer("a")
        second, _, outcome = desk.offer("b")
        desk.offers.answer(second.id, True)
        assert code(outcome) == "yes"

    def test_a_thousand(self, desk: Desk) -> None:
        """Of a thousand offers one is asked, some wait, and the rest is told to come later."""
        # covers: L06, R07
        outcomes = [desk.offer(str(number))[2] for number in range(1000)]
        refused = [each for each in outcomes if each]
        assert {code(each) for each in refused} == {"rate-limited"}
        assert len(refused) == 1000 - limits.WAITING_PER_PRINCIPAL
        assert len(desk.prompts) == 1
        assert desk.offer("c", PHONE)[2] == []

    def test_prompts_in_all(self, desk: Desk) -> None:
        """So many prompts are open at once; the next opens when one is answered."""
        made = [
            desk.offer("a", Principal(Standing.PEER, f"peer:{n}", str(n)))[0]
            for n in range(limits.PROMPTS_MAX + 2)
        ]
        assert len(desk.prompts) == limits.PROMPTS_MAX
        desk.offers.answer(made[0].id, True)
        assert len(desk.prompts) == limits.PROMPTS_MAX + 1

    def test_again_and_again(self, desk: Desk) -> None:
        """Who takes an offer back and makes it anew is not asked about more than now and then."""
        # covers: L06
        for _ in range(200):
            desk.offer("a")[1].cancel()
        assert len(desk.prompts) == limits.PROMPTS_BURST
        assert desk.clock.getDelayedCalls() == []
        transfer, _, outcome = desk.offer("b")
        assert (transfer.state, desk.offers.prompts()) == (State.OFFERED, [])
        other, _, _ = desk.offer("c", PHONE)
        assert other.state is State.WAITING
        desk.clock.advance(1 / limits.PROMPTS_RATE)
        assert desk.prompts[-1].what == "b"
        desk.offers.answer(transfer.id, True)
        assert code(outcome) == "yes"

    def test_guests(self, desk: Desk) -> None:
        """An address has one prompt for guests, all guests three, and each for a minute."""
        # covers: A01
        assert desk.offer("a", guest("1", "10.0.0.1"))[2] == []
        for key in ("1", "2"):
            assert code(desk.offer("b", guest(key, "10.0.0.1"))[2]) == "rate-limited"
        for last in (2, 3):
            assert desk.offer("a", guest(str(last), f"10.0.0.{last}"))[2] == []
        assert code(desk.offer("a", guest("4", "10.0.0.4"))[2]) == "rate-limited"
        assert desk.offer("a")[2] == []
        desk.clock.advance(limits.GUEST_OFFER_LIFETIME)
        assert desk.offer("a", guest("4", "10.0.0.4"))[2] == []

    def test_guests_folder(self, desk: Desk) -> None:
        """A guest's folder is one prompt like anybody's."""
        who = guest("1", "10.0.0.1")
        assert desk.offer("d/a", who, "g")[2] == desk.offer("d/b", who, "g")[2] == []

    def test_bug_in_the_hook(self, desk: Desk, logged: list[str]) -> None:
        """A hook that fails harms no offer."""

        def broken(prompt: Prompt) -> None:
            raise RuntimeError("oops")

        desk.offers.on_prompt = broken
        transfer, _, outcome = desk.offer("a")
        desk.offers.answer(transfer.id, True)
        assert code(outcome) == "yes"
        assert "oops" in logged.pop()

    def test_answered_at_once(self, desk: Desk) -> None:
        """A hook may answer while it is told."""
        desk.offers.on_prompt = lambda prompt: desk.offers.answer(prompt.id, True)
        assert [code(desk.offer(name)[2]) for name in "abc"] == ["yes"] * 3

    def test_limited_is_retried(self) -> None:
        """Who came too early may come again."""
        assert RateLimited.retry and not Forbidden.retry and not Expired.retry
