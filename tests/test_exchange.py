"""Requests that are asked, until their one answer."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from lanxfer.errors import (
    BadHeader,
    Cancelled,
    LanxferError,
    Lost,
    NotFound,
    SourceChanged,
)
from lanxfer.exchange import Answer, Exchange
from lanxfer.testing import MemoryDisk, MemorySource
from lanxfer.wire.packets import Cancel, Do, End, Event, Go, Ok, Part, Window
from tests.test_calls import DATA, DIGEST, Line, outcome


class Asking:
    """A request to take a file, on its way."""

    def __init__(self, data: bytes = DATA) -> None:
        self.line = Line()
        self.disk = MemoryDisk(held=True)
        self.source = MemorySource(data)
        self.line.session.send(Do(1, "recv_file", {"path": "a", "size": len(data)}))
        self.exchange = Exchange(1, self.line.outbox, None)
        self.progress: list[int] = []

    def go(self, window: int = 1000) -> None:
        self.line.hear(Go(1, window))
        self.exchange.go(Go(1, window))

    def grant(self, size: int) -> None:
        self.line.hear(Window(1, size))
        self.exchange.window(Window(1, size))

    def send(self) -> list[Any]:
        return outcome(self.exchange.send_body(self.disk, self.source, 0, self.progress.append))

    def run(self) -> None:
        while self.disk.work():
            pass


class AnsweredTests:
    def test_each_has_its_own(self) -> None:
        """Everybody who waits hears the answer, whoever came late too."""
        exchange = Exchange(1, None, None)
        first = [outcome(exchange.answered()) for _ in range(2)]
        exchange.end(Answer({"n": 1}, b"body"))
        assert [*first, outcome(exchange.answered())] == [[Answer({"n": 1}, b"body")]] * 3

    def test_refusal(self) -> None:
        """A refusal fails them all, those who wait for the go too."""
        exchange = Exchange(1, None, None)
        waiting = [outcome(exchange.answered()), outcome(exchange.going())]
        exchange.end(NotFound("there"))
        assert [each[0].value.reason for each in waiting] == ["there", "there"]

    def test_one_answer(self) -> None:
        """What comes after the answer changes nothing."""
        # covers: J13
        exchange = Exchange(1, None, None)
        exchange.end(Answer({}))
        exchange.end(Lost())
        assert outcome(exchange.answered()) == [Answer({})]

    def test_answer_without_go(self) -> None:
        """An answer where a go was due makes no sense."""
        # covers: J13
        exchange = Exchange(1, None, None)
        going = outcome(exchange.going())
        exchange.end(Answer({}))
        assert going[0].check(BadHeader)

    def test_events(self) -> None:
        """Events go to whoever asked for them, and to nobody else."""
        heard: list[Any] = []
        Exchange(1, None, heard.append).event(Event(1, {"n": 1}))
        Exchange(1, None, None).event(Event(1, {"n": 2}))
        assert heard == [{"n": 1}]

    @pytest.mark.parametrize("wait", ["answered", "going"])
    def test_cancelled(self, wait: str) -> None:
        """Cancelling whoever waits tells the other side, once."""
        # covers: C07
        asking = Asking()
        waiting = getattr(asking.exchange, wait)()
        found = outcome(waiting)
        waiting.cancel()
        assert found[0].check(CancelledError)
        asking.exchange.cancel(Cancelled())
        assert [type(each) for each in asking.line.said] == [Cancel]
        asking.go()
        asking.exchange.end(Cancelled())

    def test_our_own_reason(self) -> None:
        """The answer to a cancel says what this side gave up for."""
        asking = Asking()
        found = outcome(asking.exchange.answered())
        asking.exchange.cancel(SourceChanged("mine"))
        assert asking.line.said == [Cancel(1, "mine", "source-changed")]
        asking.exchange.end(Cancelled("theirs"))
        assert found[0].value.reason == "mine"

    def test_stored_before_the_cancel(self) -> None:
        """Where the file was stored before the cancel was read the answer is good all the same."""
        # covers: C06
        asking = Asking()
        found = outcome(asking.exchange.answered())
        asking.exchange.cancel(Cancelled())
        asking.exchange.end(Answer({"stored": "a"}))
        assert found == [Answer({"stored": "a"})]

    def test_cancel_after_the_answer(self) -> None:
        """What is answered cannot be cancelled, and nothing is said."""
        # covers: C07
        asking = Asking()
        asking.exchange.end(Answer({}))
        asking.exchange.cancel(Cancelled())
        assert asking.line.said == []

    def test_cancel_while_the_body_of_the_answer_comes(self) -> None:
        """Giving up after the answer's header was read says nothing that nobody waits for."""
        # covers: C07
        line = Line()
        line.session.send(Do(1, "app.get"))
        exchange = Exchange(1, line.outbox, None)
        line.hear(Ok(1, {}, 5))
        exchange.cancel(Cancelled())
        assert line.said == []


class BodyTests:
    def test_whole(self) -> None:
        """The parts, then the end with the digest; then the answer is still to come."""
        asking = Asking()
        asking.go()
        sent = asking.send()
        asking.run()
        assert asking.line.said == [Part(1, 0, len(DATA)), End(1, len(DATA), DIGEST)]
        assert (sent, asking.progress) == ([DIGEST], [len(DATA)])
        assert asking.source.closed == 1

    def test_window_of_exactly_the_file(self) -> None:
        """A receiver that grants no byte more than the file has gets its end."""
        asking = Asking()
        asking.go(len(DATA))
        asking.send()
        asking.run()
        assert asking.line.said[-1] == End(1, len(DATA), DIGEST)

    def test_grant_before_the_body(self) -> None:
        """Credit that comes while this side still compares what is there is not lost."""
        asking = Asking()
        asking.go(0)
        asking.grant(5)
        asking.send()
        asking.run()
        assert asking.line.said == [Part(1, 0, 5)]
        asking.grant(100)
        asking.run()
        assert asking.line.said[-1] == End(1, len(DATA), DIGEST)

    def test_paused_before_the_body(self) -> None:
        """A file that was held back before its first byte waits until it may go on."""
        asking = Asking()
        asking.go()
        asking.exchange.pause(True)
        asking.send()
        asking.run()
        assert asking.line.said == []
        asking.exchange.pause(False)
        asking.run()
        assert asking.line.said[-1] == End(1, len(DATA), DIGEST)

    @pytest.mark.parametrize("when", ["before", "reading", "after"])
    @pytest.mark.parametrize("error", [NotFound("full"), Lost()])
    def test_refused(self, when: str, error: LanxferError) -> None:
        """A refusal stops the file wherever it is; nothing is written after it."""
        # covers: C06, J09
        asking = Asking(DATA * 100_000)
        asking.go(2**40)
        if when == "before":
            asking.exchange.end(error)
        sent = asking.send()
        if when == "after":
            asking.disk.work(1)
        if when != "before":
            asking.exchange.end(error)
        before = len(asking.line.said)
        asking.run()
        assert sent[0].value is error
        assert len(asking.line.said) == before
        assert asking.source.closed == 1

    def test_answered_too_early(self) -> None:
        """A good answer in the middle of the body is not believed."""
        # covers: J13
        asking = Asking()
        asking.go()
        sent = asking.send()
        asking.exchange.end(Answer({}))
        asking.run()
        assert sent[0].check(BadHeader)

    def test_source_changed(self) -> None:
        """A file that changed while it was sent is cancelled with that reason, and not ended."""
        # covers: S10
        asking = Asking()
        asking.go()
        sent = asking.send()
        asking.source.data = b"x" * len(DATA)
        asking.run()
        assert sent[0].check(SourceChanged)
        last = asking.line.said[-1]
        assert isinstance(last, Cancel)
        assert last.code == "source-changed"

    @pytest.mark.parametrize("reading", [False, True])
    def test_cancelled(self, reading: bool) -> None:
        """Giving up in the middle says so to the other side, as cancelled, and nothing after it."""
        # covers: C06
        asking = Asking()
        asking.go(0)
        sent = asking.send()
        if not reading:
            asking.run()
        asking.exchange.cancel(Cancelled("enough"))
        asking.run()
        asking.grant(100)
        asking.run()
        assert asking.line.said == [Cancel(1, "enough", "cancelled")]
        assert sent[0].value.reason == "enough"
        assert asking.source.closed == 1

    def test_deferred_cancelled(self) -> None:
        """Cancelling the sending itself reads as cancelled on the other side."""
        # covers: C06
        asking = Asking()
        asking.go(0)
        sending = asking.exchange.send_body(asking.disk, asking.source, 0, lambda done: None)
        found = outcome(sending)
        asking.run()
        sending.cancel()
        assert found[0].check(Cancelled)
        [said] = asking.line.said
        assert isinstance(said, Cancel)
        assert said.code == "cancelled"

    def test_cancelled_before(self) -> None:
        """What was given up before its body began sends none, and closes its file."""
        asking = Asking()
        asking.go()
        asking.exchange.cancel(Cancelled())
        sent = asking.send()
        asking.run()
        assert sent[0].check(Cancelled)
        assert [type(each) for each in asking.line.said] == [Cancel]
        assert asking.source.closed == 1
