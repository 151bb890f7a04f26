"""What is under way on a device: states, readers, and the one way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.errors import Cancelled, LanxferError, NotFound, Stopping
from lanxfer.registry import PROGRESS_INTERVAL, Registry, Transfer
from lanxfer.transfers import (
    Direction,
    Entry,
    Kind,
    Offer,
    Receipt,
    Snapshot,
    State,
    Stored,
    Together,
    as_row,
)

FINISHED = {State.DONE, State.FAILED, State.CANCELLED, State.INTERRUPTED}
OPEN = [each for each in State if each not in FINISHED]
GOES = {
    (State.OFFERED, State.WAITING),
    (State.OFFERED, State.ACCEPTED),
    (State.WAITING, State.ACCEPTED),
    (State.ACCEPTED, State.MOVING),
    (State.ACCEPTED, State.PAUSED),
    (State.ACCEPTED, State.COMMITTING),
    (State.MOVING, State.PAUSED),
    (State.MOVING, State.COMMITTING),
    (State.PAUSED, State.COMMITTING),
}

STORED = Stored("a (2).txt", 10, "af" * 32)


def callbacks_of(transfer: Transfer) -> set[object]:
    return {transfer.on_cancel, transfer.on_pause}


class House:
    """A registry whose time is moved by hand, with one who listens."""

    def __init__(self, finished_max: int = 1000) -> None:
        self.now = 1000.0
        self.told: list[Snapshot] = []
        self.errors: list[Exception] = []
        numbers = count(1)
        self.registry = Registry(
            lambda: self.now, lambda: f"id{next(numbers)}", self.errors.append, finished_max
        )
        self.registry.subscribe(self.told.append)

    def open(self, peer: str = "peer:a", request: str = "", size: int = 10) -> Transfer:
        return self.registry.open(Direction.IN, Kind.FILE, peer, "a.txt", size, request=request)


@pytest.fixture
def house() -> House:
    return House()


def own(peer: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.peer == peer


def at(house: House, state: State) -> Transfer:
    """A transfer that has come that far."""
    transfer = house.open()
    ways = {
        State.OFFERED: [],
        State.WAITING: [State.WAITING],
        State.ACCEPTED: [State.ACCEPTED],
        State.MOVING: [State.ACCEPTED, State.MOVING],
        State.PAUSED: [State.ACCEPTED, State.MOVING, State.PAUSED],
        State.COMMITTING: [State.ACCEPTED, State.MOVING, State.COMMITTING],
    }
    for each in ways.get(state, ()):
        transfer.enter(each)
    if state in FINISHED:
        transfer.retire(state)
    assert transfer.state is state
    return transfer


class StateTests:
    @pytest.mark.parametrize("here", State)
    @pytest.mark.parametrize("there", State)
    def test_table(self, house: House, here: State, there: State) -> None:
        """A transfer goes from state to state as the table says, and stays where it may not go."""
        transfer = at(house, here)
        told = len(house.told)
        transfer.enter(there)
        goes = (here, there) in GOES
        assert transfer.state is (there if goes else here)
        assert len(house.told) == told + goes

    @pytest.mark.parametrize("here", State)
    @pytest.mark.parametrize("outcome", [each for each in State if each in FINISHED])
    def test_ends(self, house: House, here: State, outcome: State) -> None:
        """From every state but the finished ones a transfer may end in each of those."""
        transfer = at(house, here)
        transfer.retire(outcome)
        assert transfer.state is (here if here in FINISHED else outcome)
        assert len(house.registry) == 0

    @pytest.mark.parametrize("here", State)
    def test_again(self, house: House, here: State) -> None:
        """Whatever is not finished may be tried from the beginning."""
        transfer = at(house, here)
        transfer.again()
        assert transfer.state is (here if here in FINISHED else State.OFFERED)

    @pytest.mark.parametrize("here", State)
    def test_wait(self, house: House, here: State) -> None:
        """Whatever is not finished may turn out to wait for a yes, and is told so once."""
        transfer = at(house, here)
        told = len(house.told)
        transfer.wait()
        transfer.wait()
        assert transfer.state is (here if here in FINISHED else State.WAITING)
        assert len(house.told) == told + (here not in FINISHED | {State.WAITING})

    def test_finished(self) -> None:
        """The finished states are four."""
        assert {each for each in State if each.finished} == FINISHED


class RetireTests:
    def test_once(self, house: House) -> None:
        """Whoever retires a transfer second changes nothing, and nobody hears of it."""
        # covers: C06, C07
        transfer = house.open()
        transfer.retire(State.DONE, stored=STORED)
        first = transfer.snapshot
        told = len(house.told)
        transfer.retire(State.CANCELLED, error=Cancelled("too late"))
        transfer.retire(State.DONE, stored=STORED._replace(path="other"))
        assert transfer.snapshot == first
        assert len(house.told) == told
        assert house.registry.finished() == [first]

    def test_done(self, house: House) -> None:
        """A transfer that is done says where it is, and counts all its bytes."""
        transfer = house.open()
        house.now = 1001.0
        transfer.retire(State.DONE, stored=STORED)
        found = transfer.snapshot
        assert (found.state, found.stored, found.digest) == (
            State.DONE,
            "a (2).txt",
            STORED.digest,
        )
        assert (found.done, found.started, found.changed) == (10, 1000.0, 1001.0)

    def test_failed(self, house: House) -> None:
        """A transfer that failed says why, in code and words."""
        transfer = house.open()
        transfer.progressed(4)
        transfer.retire(State.FAILED, error=LanxferError("Because."))
        found = transfer.snapshot
        assert (found.code, found.reason, found.done) == ("internal", "Because.", 4)

    def test_callbacks_are_let_go(self, house: House) -> None:
        """Nobody is asked to stop what is over."""
        # covers: C07
        transfer = house.open()
        called: list[object] = []
        transfer.on_cancel = called.append
        transfer.on_pause = called.append
        transfer.retire(State.DONE)
        transfer.cancel(Cancelled())
        transfer.pause(True)
        assert called == []
        assert callbacks_of(transfer) == {None}

    def test_no_progress_after_the_end(self, house: House) -> None:
        """Bytes that are counted late change nothing of what is finished."""
        transfer = house.open()
        transfer.retire(State.DONE, stored=STORED)
        told = len(house.told)
        house.now += 10
        transfer.progressed(5)
        transfer.progressed(6)
        assert transfer.snapshot.done == 10
        assert len(house.told) == told

    def test_listener_that_retires(self, house: House) -> None:
        """A listener may end the transfer that it hears of."""
        transfer = house.open()

        def retire(snapshot: Snapshot) -> None:
            transfer.retire(State.FAILED)

        house.registry.subscribe(retire)
        transfer.enter(State.ACCEPTED)
        assert transfer.state is State.FAILED
        assert len(house.registry.finished()) == 1


class PauseTests:
    @pytest.mark.parametrize("here", State)
    def test_where(self, house: House, here: State) -> None:
        """Only what is accepted or moving can be held back, and whoever moves it hears of it."""
        transfer = at(house, here)
        heard: list[bool] = []
        if here not in FINISHED:
            transfer.on_pause = heard.append
        transfer.pause(True)
        may = here in (State.ACCEPTED, State.MOVING)
        assert heard == [True] * may
        assert transfer.state is (State.PAUSED if may else here)

    def test_resume(self, house: House) -> None:
        """What is held back can go on; twice is as good as once."""
        transfer = at(house, State.MOVING)
        heard: list[bool] = []
        transfer.on_pause = heard.append
        for paused in (True, True, False, False):
            transfer.pause(paused)
        assert heard == [True, False]
        assert transfer.state is State.MOVING

    def test_paused_before_it_moved(self, house: House) -> None:
        """A transfer paused early stays so when its bytes could begin, and can still go on."""
        transfer = at(house, State.ACCEPTED)
        heard: list[bool] = []
        transfer.on_pause = heard.append
        transfer.pause(True)
        transfer.enter(State.MOVING)
        assert transfer.state is State.PAUSED
        transfer.pause(False)
        assert (transfer.state, heard) == (State.MOVING, [True, False])


class ProgressTests:
    def test_not_too_often(self, house: House) -> None:
        """Progress is told ten times a second at most, and known always."""
        transfer = house.open(size=1000)
        told = len(house.told)
        for done in range(1, 101):
            house.now += 0.01
            transfer.progressed(done)
            assert transfer.snapshot.done == done
        assert 9 <= len(house.told) - told <= 11

    def test_the_next_word_tells_all(self, house: House) -> None:
        """A change of state tells the progress that was not worth a word."""
        transfer = at(house, State.MOVING)
        transfer.progressed(3)
        house.now += PROGRESS_INTERVAL / 2
        transfer.progressed(7)
        transfer.enter(State.COMMITTING)
        assert house.told[-1].done == 7


class ReaderTests:
    def test_frozen(self, house: House) -> None:
        """A snapshot never changes under whoever has it."""
        transfer = house.open()
        before = transfer.snapshot
        transfer.enter(State.ACCEPTED)
        assert before.state is State.OFFERED
        with pytest.raises(AttributeError):
            before.state = State.DONE  # type: ignore[misc]

    def test_pending_and_finished(self, house: House) -> None:
        """Pending is oldest first, finished newest first, and nothing is in both."""
        one, two, three = (house.open() for _ in range(3))
        two.retire(State.DONE)
        one.retire(State.FAILED)
        assert house.registry.pending() == [three.snapshot]
        assert house.registry.finished() == [one.snapshot, two.snapshot]
        assert len(house.registry) == 1

    def test_history_is_bounded(self) -> None:
        """Of what is finished the newest are kept."""
        # covers: R13
        house = House(finished_max=3)
        for _ in range(10):
            house.open().retire(State.DONE)
        assert [each.id for each in house.registry.finished()] == ["id10", "id9", "id8"]

    def test_row(self, house: House) -> None:
        """A row has only plain values, and times in milliseconds."""
        transfer = house.open(request="r1")
        row = as_row(transfer.snapshot)
        assert {type(each) for each in row.values()} == {str, int, bool}
        assert (row["started_ms"], row["request"], row["state"]) == (1_000_000, "r1", "offered")


class MineTests:
    def test_lists(self, house: House) -> None:
        """A reader sees what is its own, and nothing of others."""
        # covers: L02, J21
        house.open("peer:a")
        other = house.open("peer:b")
        gone = house.open("peer:b")
        gone.retire(State.DONE)
        assert house.registry.pending(own("peer:b")) == [other.snapshot]
        assert house.registry.finished(own("peer:b")) == [gone.snapshot]
        assert house.registry.finished(own("peer:a")) == []

    @pytest.mark.parametrize("id", ["id1", "r1"])
    def test_find(self, house: House, id: str) -> None:
        """What is another's is not there, whether named by our id or by the peer's own."""
        # covers: L01
        transfer = house.open("peer:a", request="r1")
        assert house.registry.find(id, own("peer:a")) is transfer
        assert house.registry.find(id) is transfer
        with pytest.raises(NotFound) as caught:
            house.registry.find(id, own("peer:b"))
        with pytest.raises(NotFound) as unknown:
            house.registry.find("never was", own("peer:b"))
        assert caught.value.reason == unknown.value.reason

    def test_same_request_id(self, house: House) -> None:
        """Two peers may choose the same id for a request; each finds its own."""
        # covers: C03
        one, two = house.open("peer:a", "r1"), house.open("peer:b", "r1")
        assert house.registry.find("r1", own("peer:a")) is one
        assert house.registry.find("r1", own("peer:b")) is two

    def test_request_id_like_ours(self, house: House) -> None:
        """A request id that happens to be another's transfer id hides nothing."""
        # covers: C03, H12
        house.open("peer:a")
        two = house.open("peer:b", request="id1")
        assert house.registry.find("id1", own("peer:b")) is two
        assert house.registry.find("id1", own("peer:a")).id == "id1"

    @pytest.mark.parametrize("id", ["", "*", "../x", "ID1", "id1\n", "x" * 100_000])
    def test_odd_ids(self, house: House, id: str) -> None:
        """Nothing but the id itself finds a transfer; no id finds those without one."""
        # covers: H12
        house.open(request="")
        with pytest.raises(NotFound):
            house.registry.find(id)


class CancelTests:
    def test_asks_whoever_moves_it(self, house: House) -> None:
        """Whoever moves the bytes is asked, and the transfer is over when they say so."""
        # covers: C06
        transfer = house.open()
        asked: list[LanxferError] = []
        transfer.on_cancel = asked.append
        found = house.registry.cancel(transfer.id, reason="Enough.")
        assert found.state is State.OFFERED
        assert [each.reason for each in asked] == ["Enough."]
        transfer.retire(State.CANCELLED, error=asked[0])
        assert house.registry.cancel(transfer.id).state is State.CANCELLED

    def test_nobody_moves_it(self, house: House) -> None:
        """Where nobody moves it yet it is cancelled at once."""
        found = house.registry.cancel(house.open().id)
        assert (found.state, found.code) == (State.CANCELLED, "cancelled")

    def test_twice(self, house: House) -> None:
        """A second cancel tells what the first did."""
        # covers: C07
        transfer = house.open()
        first = house.registry.cancel(transfer.id)
        assert house.registry.cancel(transfer.id) == first

    def test_after_the_end(self, house: House) -> None:
        """A cancel after the end tells how it ended."""
        # covers: C07
        transfer = house.open()
        transfer.retire(State.DONE, stored=STORED)
        assert house.registry.cancel(transfer.id).state is State.DONE

    def test_unknown(self, house: House) -> None:
        """What never was, and what is another's, is not found, finished or not."""
        # covers: C07, L01
        transfer = house.open("peer:a")
        for id in ("never", transfer.id):
            with pytest.raises(NotFound):
                house.registry.cancel(id, own("peer:b"))
        transfer.retire(State.DONE)
        with pytest.raises(NotFound):
            house.registry.cancel(transfer.id, own("peer:b"))
        assert house.registry.cancel(transfer.id, own("peer:a")).state is State.DONE

    def test_all(self, house: House) -> None:
        """When the service stops everything under way is given up, also what that ends."""
        one, two = house.open(), house.open()
        one.on_cancel = lambda error: two.retire(State.FAILED, error=error)
        house.registry.cancel_all(Stopping())
        assert two.snapshot.code == "stopping"
        assert house.registry.pending() == [one.snapshot]


class ListenerTests:
    def test_hears_everything(self, house: House) -> None:
        """A listener hears of every change, in order, until it stops listening."""
        heard: list[State] = []
        stop = house.registry.subscribe(lambda snapshot: heard.append(snapshot.state))
        transfer = house.open()
        transfer.enter(State.ACCEPTED)
        stop()
        stop()
        transfer.retire(State.DONE)
        assert heard == [State.OFFERED, State.ACCEPTED]

    def test_one_that_raises(self, house: House) -> None:
        """A listener that raises keeps nobody else from hearing, and the registry whole."""
        heard: list[Snapshot] = []

        def broken(snapshot: Snapshot) -> None:
            raise ValueError("mine")

        house.registry.subscribe(broken)
        house.registry.subscribe(heard.append)
        transfer = house.open()
        transfer.retire(State.DONE)
        assert [each.state for each in heard] == [State.OFFERED, State.DONE]
        assert [str(each) for each in house.errors] == ["mine", "mine"]
        assert len(house.registry) == 0

    def test_passed(self, house: House) -> None:
        """Files that went together are told of one by one, to all, and are finished."""
        heard: list[Snapshot] = []

        def broken(snapshot: Snapshot) -> None:
            if snapshot.path == "a":
                raise ValueError("mine")
            heard.append(snapshot)

        house.registry.subscribe(broken)
        files = [Offer("a", 10), Offer("b", 5)]
        ends = [STORED, LanxferError("no")]
        house.registry.passed(Direction.IN, "peer:a", files, ends, started=7.0, id="p", group="g")
        assert [each.path for each in house.told] == ["a", "b"]
        assert heard == house.told[1:]
        assert [str(each) for each in house.errors] == ["mine"]
        assert [each.id for each in house.registry.finished()] == ["p-1", "p-0"]
        first, second = house.told
        assert (first.state, first.done, first.stored) == (State.DONE, 10, STORED.path)
        assert (second.state, second.done, second.reason) == (State.FAILED, 0, "no")
        assert {(each.started, each.changed, each.group) for each in house.told} == {
            (7.0, house.now, "g")
        }

    def test_together(self, house: House) -> None:
        """Those that arrived as they were sent are one thing for whoever hears of many."""
        heard: list[Sequence[Snapshot]] = []
        house.registry.subscribe_many(heard.append)
        files = [
            Entry(Kind.FILE, "a", "/a", 10),
            Entry(Kind.FOLDER, "f", "/f"),
            Entry(Kind.FILE, "b", "/b", 5),
            Entry(Kind.FILE, "c", "/c", 7),
            Entry(Kind.FILE, "d", "/d", 0),
        ]
        ends = [
            Receipt("a", 10, "da"),
            Receipt("f", 0, ""),
            Receipt("b", 5, "db", already=True),
            Receipt("c (2)", 7, "dc"),
            Receipt("d", 0, "dd"),
        ]
        house.registry.passed(Direction.OUT, "peer:a", files, ends, started=7.0, request="r")
        assert [type(each) for each in heard] == [Together, Together, list]
        found = list(chain.from_iterable(heard))
        assert found == house.told
        assert [each.id for each in found] == ["id1-0", "id1-4", "id1-2", "id1-1", "id1-3"]
        for each in found:
            at = int(each.id.partition("-")[2])
            assert (each.kind, each.path, each.size) == (
                files[at].kind,
                files[at].path,
                files[at].size,
            )
            assert Receipt(each.stored, each.done, each.digest, each.already) == ends[at]
            assert (each.state, each.request, each.started) == (State.DONE, "r", 7.0)
        assert house.registry.finished() == found[::-1]
        assert house.registry.cancel("id1-4") is found[1]
        house.registry.finished_max = 3
        house.open().retire(State.DONE)
        assert [each.id for each in house.registry.finished()] == ["id2", "id1-3", "id1-1"]

    def test_one_that_leaves(self, house: House) -> None:
        """A listener may stop listening while it is told, and hears nothing more at once."""
        heard: list[str] = []
        stops: list[Callable[[], None]] = []

        def once(snapshot: Snapshot) -> None:
            heard.append("once")
            stops[0]()

        stops.append(house.registry.subscribe(once))
        house.registry.subscribe(lambda snapshot: heard.append("other"))
        files = [Offer("a", 10), Offer("b", 10)]
        house.registry.passed(Direction.IN, "peer:a", files, [STORED, STORED], started=7.0)
        house.open()
        assert heard == ["once", "other", "other", "other"]


class AnySequenceTests:
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["enter", "pause", "again", "cancel", "progressed", "retire"]),
                st.sampled_from(list(State)),
                st.booleans(),
            ),
            max_size=30,
        )
    )
    @settings(max_examples=200)
    def test_any_calls(self, calls: list[tuple[str, State, bool]]) -> None:
        """Whatever is called in whatever order, a transfer ends once and stays as it ended."""
        # covers: C06
        house = House()
        transfer = house.open()
        for name, state, flag in calls:
            over = transfer.snapshot if transfer.state.finished else None
            house.now += 1
            arguments: dict[str, Any] = {
                "enter": [state],
                "pause": [flag],
                "again": [],
                "cancel": [Cancelled()],
                "progressed": [3],
                "retire": [state if state in FINISHED else State.FAILED],
            }
            getattr(transfer, name)(*arguments[name])
            assert over is None or transfer.snapshot == over
            assert (transfer.state in OPEN) is (len(house.registry) == 1)
        assert sum(each.state.finished for each in house.told) == transfer.state.finished
