"""What one side writes on one connection: answers first, files in turns, nothing inside a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from lanxfer.in_turn import Turn
from lanxfer.outbox import Outbox
from lanxfer.sessions.native import NativeSession
from lanxfer.testing import split_packets
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import Do, Event, Go, Ok, Packet, Part

MUCH = 2**40


class Transport(StringTransport):
    """Notes what it is asked for, and pauses its producer when told."""

    half_closed = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True


class Desk:
    """An outbox whose side has asked for some files to be taken, and was asked for a few things."""

    def __init__(self, files: int = 3, window: int = MUCH) -> None:
        self.transport = Transport()
        self.session = NativeSession(known=True)
        self.backlog: list[bool] = []
        self.said = 0
        self.outbox = Outbox(self.transport, self.session, self.backlog.append, self._count)
        self.session.receive(format_packet(Do(1, "hello"))[:-1])
        for id in range(2, 202):
            self.session.receive(format_packet(Do(id, "ping"))[:-1])
        for id in range(1, 1 + files):
            self.session.send(Do(id, "recv_file", {"path": "x", "size": limits.NUMBER_MAX}))
            self.session.receive(format_packet(Go(id, window))[:-1])

    def _count(self) -> None:
        self.said += 1

    @property
    def written(self) -> list[tuple[Packet, bytes]]:
        return split_packets(self.transport.value())

    @property
    def parts(self) -> list[tuple[int, int, bytes]]:
        """(exchange, offset, bytes) of every part that was written."""
        return [(p.id, p.offset, data) for p, data in self.written if isinstance(p, Part)]

    def file(self, id: int, *chunks: bytes, credit: int = MUCH, offset: int = 0) -> File:
        return File(self, id, list(chunks), credit, offset)


class File:
    """A pull producer of some chunks, and its turn; ``slow`` ones answer when told to."""

    def __init__(
        self, desk: Desk, id: int, chunks: list[bytes], credit: int, offset: int, slow: bool = False
    ) -> None:
        self.chunks = chunks
        self.slow = slow
        self.asked = 0
        self.wanted = False
        self.stopped = 0
        self.ended = False
        self.progress: list[int] = []
        self.turn = Turn(desk.outbox, id, offset, credit, self.progress.append)

    def start(self, slow: bool = False) -> File:
        self.slow = slow
        self.turn.registerProducer(self, False)  # type: ignore[arg-type]
        return self

    def resumeProducing(self) -> None:
        assert not self.wanted, "asked twice"
        self.asked += 1
        self.wanted = True
        if not self.slow:
            self.answer()

    def answer(self) -> None:
        """The chunk that was asked for is there."""
        assert self.wanted
        self.wanted = False
        if self.chunks:
            self.turn.write(self.chunks.pop(0))
        else:
            self.ended = True
            self.turn.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped += 1


class SayTests:
    def test_at_once(self) -> None:
        """A packet is written at once, with its body behind it, and its writer hears of it."""
        desk = Desk()
        desk.outbox.say(Event(2, {"n": 1}))
        desk.outbox.say(Do(9, "app.put", {}, 5), b"hello")
        assert desk.written == [(Event(2, {"n": 1}), b""), (Do(9, "app.put", {}, 5), b"hello")]
        assert desk.said == 2

    def test_refused(self) -> None:
        """What the session refuses is not written."""
        desk = Desk()
        with pytest.raises(ValueError):
            desk.outbox.say(Ok(999))
        assert desk.transport.value() == b""

    def test_answers_before_parts(self) -> None:
        """An answer does not wait for the files, and never stands in the middle of a part."""
        desk = Desk()
        file = desk.file(1, b"aaa", b"bbb").start(slow=True)
        file.answer()
        desk.outbox.say(Ok(2))
        file.answer()
        assert [type(packet) for packet, _ in desk.written] == [Part, Ok, Part]
        assert desk.parts == [(1, 0, b"aaa"), (1, 3, b"bbb")]

    def test_answers_while_full(self) -> None:
        """An answer is written even where the transport takes no more files."""
        desk = Desk()
        desk.outbox.pauseProducing()
        file = desk.file(1, b"aaa").start()
        desk.outbox.say(Ok(2))
        assert file.asked == 0
        assert desk.written == [(Ok(2), b"")]


class TurnTests:
    def test_round_robin(self) -> None:
        """Files take turns, a chunk each."""
        # covers: J15
        desk = Desk()
        desk.outbox.pauseProducing()
        files = [desk.file(id, *[bytes([64 + id])] * 4).start() for id in (1, 2, 3)]
        desk.outbox.resumeProducing()
        assert [id for id, _, _ in desk.parts] == [1, 2, 3] * 4
        assert all(file.ended for file in files)

    def test_one_that_is_slow(self) -> None:
        """A file whose disk is slow holds up no other."""
        # covers: J15, B07
        desk = Desk()
        slow = desk.file(1, b"aaa").start(slow=True)
        desk.file(2, b"b", b"b", b"b").start()
        assert [id for id, _, _ in desk.parts] == [2, 2, 2]
        slow.answer()
        assert desk.parts[-1] == (1, 0, b"aaa")

    def test_offsets(self) -> None:
        """Parts follow one another without gaps, from where the file begins."""
        desk = Desk()
        desk.session._ours[1].starts = frozenset({0, 100})
        file = desk.file(1, b"abc", b"defg", offset=100).start()
        assert desk.parts == [(1, 100, b"abc"), (1, 103, b"defg")]
        assert file.progress == [103, 107]

    @given(
        st.lists(st.lists(st.binary(min_size=1, max_size=9), max_size=5), min_size=1, max_size=3),
        st.lists(
            st.tuples(st.sampled_from("grpuwa"), st.integers(0, 2), st.integers(1, 9)), max_size=40
        ),
    )
    @settings(max_examples=200)
    def test_any_order(
        self, contents: list[list[bytes]], steps: list[tuple[str, int, int]]
    ) -> None:
        """Whatever is granted, paused, full or slow, each file goes out in order and once."""
        desk = Desk()
        whole = [b"".join(chunks) for chunks in contents]
        files = [
            desk.file(id, *chunks, credit=5).start(slow=id == 1)
            for id, chunks in enumerate(contents, 1)
        ]
        granted = [5] * len(files)
        for step, number, size in steps:
            index = number % len(files)
            file = files[index]
            if step == "g":
                granted[index] += size
                file.turn.grant(size)
            elif step in "pu":
                file.turn.pause(step == "p")
            elif step in "rw":
                (desk.outbox.resumeProducing if step == "r" else desk.outbox.pauseProducing)()
            elif file.wanted:
                file.answer()
            for id, (credit, data) in enumerate(zip(granted, whole, strict=True), 1):
                sent = b"".join(piece for each, _, piece in desk.parts if each == id)
                assert len(sent) <= credit
                assert data.startswith(sent)
        desk.outbox.resumeProducing()
        for file in files:
            file.turn.pause(False)
            file.turn.grant(1000)
            while file.wanted:
                file.answer()
        for id, data in enumerate(whole, 1):
            assert b"".join(piece for each, _, piece in desk.parts if each == id) == data
        assert all(file.ended for file in files)


class FullTests:
    def test_nothing_is_asked_for(self) -> None:
        """While the transport is full no file is read for it; then it goes on by itself."""
        # covers: B07
        desk = Desk()
        file = desk.file(1, b"aaa", b"bbb")
        desk.outbox.pauseProducing()
        file.start()
        assert file.asked == 0
        desk.outbox.resumeProducing()
        assert desk.parts == [(1, 0, b"aaa"), (1, 3, b"bbb")]

    def test_what_was_read_meanwhile_waits(self) -> None:
        """Chunks that come from the disk when the transport is full wait for room."""
        # covers: B07
        desk = Desk()
        files = [desk.file(id, b"abc", b"def").start(slow=True) for id in (1, 2, 3)]
        desk.outbox.pauseProducing()
        for file in files:
            file.answer()
        assert desk.parts == []
        assert [file.asked for file in files] == [1, 1, 1]
        desk.outbox.resumeProducing()
        assert [id for id, _, _ in desk.parts] == [1, 2, 3]

    def test_full_in_the_middle(self) -> None:
        """A transport that fills up while the files take turns is not given one chunk more."""
        desk = Desk()
        written: Callable[[bytes], None] = desk.transport.write

        def write(data: bytes) -> None:
            written(data)
            if len(desk.parts) == 2:
                desk.outbox.pauseProducing()

        desk.outbox.pauseProducing()
        for id in (1, 2, 3):
            desk.file(id, b"a", b"b").start()
        desk.transport.write = write  # type: ignore[method-assign]
        desk.outbox.resumeProducing()
        assert len(desk.parts) == 2


class BacklogTests:
    def test_told_once_it_is_much(self) -> None:
        """More than 64 KiB of answers that nobody reads is said, and that it is over as well."""
        # covers: B06
        desk = Desk()
        desk.outbox.pauseProducing()
        answer = {"text": "x" * 4000}
        ids = iter(range(2, 202))
        while not desk.backlog:
            desk.outbox.say(Ok(next(ids), answer))
        assert len(desk.transport.value()) - limits.REPLIES_MAX in range(1, 5000)
        assert desk.backlog == [True]
        desk.outbox.resumeProducing()
        assert desk.backlog == [True, False]

    def test_little_is_nothing(self) -> None:
        """A few answers that wait are nobody's concern."""
        # covers: B06
        desk = Desk()
        desk.outbox.pauseProducing()
        for id in range(2, 20):
            desk.outbox.say(Ok(id))
        desk.outbox.resumeProducing()
        assert desk.backlog == []

    def test_counts_what_waits(self) -> None:
        """What was read meanwhile counts no more."""
        desk = Desk()
        answer = {"text": "x" * 4000}
        for id in range(2, 202):
            desk.outbox.pauseProducing()
            desk.outbox.say(Ok(id, answer))
            desk.outbox.resumeProducing()
        assert desk.backlog == []

    def test_crowded(self) -> None:
        """At half of that, what nobody asked for is better left unsaid."""
        # covers: J13
        desk = Desk()
        desk.outbox.pauseProducing()
        count = 0
        while not desk.outbox.crowded:
            desk.outbox.say(Event(2, {"text": "x" * 1000}))
            count += 1
        assert 30 <= count <= 34
        assert desk.backlog == []
        desk.outbox.resumeProducing()
        assert not desk.outbox.crowded


class CreditTests:
    def test_no_more_than_granted(self) -> None:
        """Of a chunk as much goes out as the credit allows, the rest when there is more."""
        desk = Desk()
        file = desk.file(1, b"abcdefgh", b"ij", credit=3).start()
        assert desk.parts == [(1, 0, b"abc")]
        file.turn.grant(1)
        assert desk.parts[1:] == [(1, 3, b"d")]
        file.turn.grant(100)
        assert desk.parts[2:] == [(1, 4, b"efgh"), (1, 8, b"ij")]
        assert file.progress == [3, 4, 8, 10]

    def test_others_go_on(self) -> None:
        """A file without credit holds up no other."""
        # covers: J15
        desk = Desk()
        desk.file(1, b"aaa", credit=0).start()
        desk.file(2, b"bbb").start()
        assert desk.parts == [(2, 0, b"bbb")]

    def test_end_needs_no_credit(self) -> None:
        """A file that used up its credit with its last byte is found to be at its end."""
        desk = Desk()
        file = desk.file(1, b"abc", credit=3).start()
        assert file.ended

    def test_one_chunk_ahead(self) -> None:
        """Without credit one chunk is read ahead, and no second one."""
        # covers: B07, R06
        desk = Desk()
        file = desk.file(1, b"abc", b"def", credit=0).start()
        for _ in range(5):
            file.turn.pause(False)
        assert (file.asked, desk.parts) == (1, [])


class PauseTests:
    def test_held_back(self) -> None:
        """A paused file sends nothing and holds up no other; then it goes on."""
        desk = Desk()
        desk.outbox.pauseProducing()
        one, _ = desk.file(1, b"a", b"b").start(), desk.file(2, b"c", b"d").start()
        one.turn.pause(True)
        desk.outbox.resumeProducing()
        assert desk.parts == [(2, 0, b"c"), (2, 1, b"d")]
        one.turn.pause(False)
        assert desk.parts[2:] == [(1, 0, b"a"), (1, 1, b"b")]

    def test_what_was_being_read(self) -> None:
        """A chunk that comes from the disk while paused is kept."""
        desk = Desk()
        file = desk.file(1, b"a", b"b").start(slow=True)
        file.turn.pause(True)
        file.answer()
        file.turn.grant(5)
        assert desk.parts == []
        file.turn.pause(False)
        assert desk.parts == [(1, 0, b"a")]

    def test_again_and_again(self) -> None:
        """Pausing twice is as good as once."""
        desk = Desk()
        file = desk.file(1, b"a").start(slow=True)
        for paused in (True, True, False, False):
            file.turn.pause(paused)
        file.answer()
        assert desk.parts == [(1, 0, b"a")]


class CloseTests:
    @pytest.mark.parametrize("broken", [False, True])
    def test_nothing_more(self, broken: bool) -> None:
        """After the end nothing is written, and files that wait for their turn hear of it.

        Of a transport that breaks they hear when the connection knows.
        """
        # covers: T06
        desk = Desk()
        desk.outbox.pauseProducing()
        file = desk.file(1, b"aaa").start()
        before = desk.transport.value()
        assert not desk.outbox.closed
        if broken:
            desk.outbox.stopProducing()
            late = desk.file(2, b"bbb").start()
            assert desk.outbox.closed and (file.stopped, late.stopped) == (0, 0)
        desk.outbox.close()
        desk.outbox.say(Ok(2))
        desk.outbox.write(b"last words")
        desk.outbox.resumeProducing()
        assert desk.transport.value() == before
        assert file.stopped == 1 and (not broken or late.stopped == 1)
        desk.outbox.close()
        assert file.stopped == 1

    def test_too_late(self) -> None:
        """A file that wants its turn after the end hears at once that there is none."""
        desk = Desk()
        desk.outbox.close()
        file = desk.file(1, b"aaa").start()
        assert (file.stopped, file.asked, file.progress) == (1, 0, [])

    @pytest.mark.parametrize("late", ["answer", "grant", "unpause"])
    def test_too_late_in_the_middle(self, late: str) -> None:
        """A file on its way counts nothing as sent that was not."""
        desk = Desk()
        file = desk.file(1, b"aaa", b"bbb", credit=2).start(slow=True)
        desk.outbox.close()
        calls: dict[str, Callable[[], Any]] = {
            "answer": file.answer,
            "grant": lambda: file.turn.grant(5),
            "unpause": lambda: file.turn.pause(False),
        }
        calls[late]()
        assert file.progress == []
        assert desk.parts == []

    def test_last_words(self) -> None:
        """Bytes that are no packet go out as they are, as long as anything does."""
        desk = Desk()
        desk.outbox.write(b"")
        desk.outbox.write(b"bye\n")
        assert desk.transport.value() == b"bye\n"

    def test_half_close(self) -> None:
        """A dialect that has said all it will closes its direction, once, after the last packet."""
        desk = Desk()
        desk.session.half_close = True
        desk.outbox.say(Ok(2))
        desk.outbox.say(Ok(3))
        assert desk.transport.half_closed
        assert desk.written == [(Ok(2), b"")]
