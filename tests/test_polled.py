"""The list that ae controllers poll."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.commands.polled import ENTRIES_MAX, LIFETIME, Polled, from_snapshot
from lanxfer.transfers import Direction, Kind, Snapshot, State
from lanxfer.wire.literal import format_literal

REQUEST = {"method_name": "recv_file", "file_path": "a", "total_bytes": 10, "rt_id": "r"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def polled(clock: Clock) -> Polled:
    return Polled(clock)


class PolledTests:
    def test_running(self, polled: Polled) -> None:
        """A running entry stays, and each poll shows its progress."""
        entry = polled.add(REQUEST)
        assert polled.poll() == [REQUEST]
        polled.update(entry, transferred_bytes=5)
        assert polled.poll() == polled.poll() == [{**REQUEST, "transferred_bytes": 5}]

    @pytest.mark.parametrize(
        ("how", "shown"),
        [
            ({"completed": True}, {"completed": True}),
            ({"error": "no"}, {"error": "no"}),
            ({"error": ""}, {"error": ""}),
            ({"completed": True, "error": "no"}, {"completed": True, "error": "no"}),
        ],
    )
    def test_finished_once(
        self, polled: Polled, how: dict[str, Any], shown: dict[str, Any]
    ) -> None:
        """A finished entry is seen exactly once."""
        running = polled.add({**REQUEST, "rt_id": "other"})
        polled.update(polled.add(REQUEST), transferred_bytes=10, **how)
        assert polled.poll() == [running.row, {**REQUEST, "transferred_bytes": 10, **shown}]
        assert polled.poll() == [running.row]

    def test_copies(self, polled: Polled) -> None:
        """What a poll gives, and what was added, can be changed without harm."""
        request = dict(REQUEST)
        polled.add(request)
        request["file_path"] = "b"
        polled.poll()[0]["file_path"] = "c"
        assert polled.poll() == [REQUEST]

    def test_own_marks_are_left_out(self, polled: Polled) -> None:
        """A request that calls itself completed or failed stays on the list while it runs."""
        polled.add({**REQUEST, "completed": True, "error": "x"})
        assert polled.poll() == polled.poll() == [REQUEST]

    @pytest.mark.parametrize("rt_id", [None, ""])
    def test_id_is_invented(self, polled: Polled, rt_id: str | None) -> None:
        """Every entry has an rt_id, so that it can be cancelled."""
        request = {"method_name": "recv_file", "file_path": "a", "local_ip": "1.2.3.4"}
        polled.add(request if rt_id is None else {**request, "rt_id": rt_id})
        assert polled.poll()[0]["rt_id"] == "recv_file:a@1.2.3.4"

    def test_only(self, polled: Polled) -> None:
        """Whoever sees only some entries also removes only those, whatever the requests claim."""
        # covers: J21
        mine = polled.add({**REQUEST, "peer": "legacy:other"}, peer="legacy:me")
        other = polled.add({**REQUEST, "peer": "legacy:me"}, peer="legacy:other")
        for entry in (mine, other):
            polled.update(entry, completed=True)
        assert polled.poll(lambda row: row["peer"] == "legacy:me") == [mine.row]
        assert mine.row["peer"] == "legacy:other"  # as its request had it
        assert polled.poll() == [other.row]
        assert polled.poll() == []

    def test_update_of_what_is_gone(self, polled: Polled) -> None:
        """An entry that was polled away can still be updated, and does not come back."""
        entry = polled.add(REQUEST)
        polled.update(entry, error="cancelled")
        polled.poll()
        polled.update(entry, completed=True)
        assert polled.poll() == []

    def test_age(self, polled: Polled, clock: Clock) -> None:
        """A finished entry that nobody polls is forgotten after an hour, a running one is not."""
        running, finished = polled.add(REQUEST), polled.add(REQUEST)
        clock.now = 10.0
        polled.update(finished, completed=True)
        clock.now = 9.0 + LIFETIME
        polled.update(finished, error="later words change nothing about when")
        assert len(polled) == 2
        polled.add(REQUEST)
        assert len(polled) == 3
        clock.now = 10.0 + LIFETIME
        assert polled.poll() == [running.row, REQUEST]

    def test_bounded(self, polled: Polled, clock: Clock) -> None:
        """A full list forgets what finished first, then what is oldest."""
        entries = [polled.add({**REQUEST, "rt_id": str(each)}) for each in range(ENTRIES_MAX)]
        clock.now = 1.0
        polled.update(entries[7], completed=True)
        clock.now = 2.0
        polled.update(entries[3], error="x")
        gone = []
        for number in range(3):
            before = {id(each) for each in polled._entries.values()}
            polled.add({**REQUEST, "rt_id": f"new {number}"})
            left = {id(each) for each in polled._entries.values()}
            gone += [each for each in entries if id(each) in before - left]
            assert len(polled) == ENTRIES_MAX
        assert gone == [entries[7], entries[3], entries[0]]

    @settings(max_examples=60)
    @given(st.lists(st.sampled_from(["add", "finish", "poll"]), max_size=30))
    def test_each_finished_once(self, actions: list[str]) -> None:
        """In whatever order things happen, each finished entry is polled exactly once."""
        polled = Polled(lambda: 0.0)
        running = []
        finished: set[str] = set()
        seen: list[str] = []
        for number, action in enumerate([*actions, "poll"]):
            if action == "add":
                running.append(polled.add({**REQUEST, "rt_id": str(number)}))
            elif action == "finish" and running:
                entry = running.pop(0)
                polled.update(entry, completed=True)
                finished.add(entry.row["rt_id"])
            elif action == "poll":
                seen += [row["rt_id"] for row in polled.poll() if "completed" in row]
        assert sorted(seen) == sorted(finished)
        assert len(polled) == len(running)


def snapshot(**changes: Any) -> Snapshot:
    facts: dict[str, Any] = {
        "id": "5f1c09aa",
        "direction": Direction.IN,
        "kind": Kind.FILE,
        "peer": "peer:abc",
        "path": "a/b.txt",
        "size": 10,
        "state": State.MOVING,
        "done": 4,
    }
    return Snapshot(**{**facts, **changes})


class SnapshotTests:
    def test_running(self) -> None:
        """A file under way looks like a request that an ae peer made."""
        assert from_snapshot(snapshot()) == {
            "method_name": "recv_file",
            "file_path": "a/b.txt",
            "total_bytes": 10,
            "transferred_bytes": 4,
            "rt_id": "5f1c09aa",
            "local_ip": "",
            "remote_ip": "",
        }

    @pytest.mark.parametrize(
        ("direction", "kind", "method", "key"),
        [
            (Direction.IN, Kind.FOLDER, "recv_file", "file_path"),
            (Direction.OUT, Kind.LINK, "send_file", "file_path"),
            (Direction.IN, Kind.MESSAGE, "recv_message", "message"),
            (Direction.OUT, Kind.MESSAGE, "send_message", "message"),
        ],
    )
    def test_methods(self, direction: Direction, kind: Kind, method: str, key: str) -> None:
        """Direction and kind make the method."""
        row = from_snapshot(snapshot(direction=direction, kind=kind))
        assert row["method_name"] == method
        assert row[key] == "a/b.txt"

    def test_addresses(self) -> None:
        """The address of an ae peer is the originator's or the receiver's."""
        coming = from_snapshot(snapshot(peer="legacy:10.0.0.2"))
        assert (coming["local_ip"], coming["remote_ip"]) == ("10.0.0.2", "")
        going = from_snapshot(snapshot(peer="legacy:fe80::1", direction=Direction.OUT))
        assert (going["local_ip"], going["remote_ip"]) == ("", "fe80::1")

    @pytest.mark.parametrize("state", State)
    def test_ends(self, state: State) -> None:
        """Done is completed, every other end an error, and whatever runs has neither."""
        row = from_snapshot(snapshot(state=state, code="short-body", reason="Cut."))
        assert ("completed" in row) is (state is State.DONE)
        assert ("error" in row) is (state.finished and state is not State.DONE)
        if "error" in row:
            assert row["error"] == "Cut. [short-body]"
        assert format_literal(row)
