"""Streams of commands: bytes both ways, with credit, and nothing else held up by them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred

from lanxfer.commands.declared import Reader, Writer, command
from lanxfer.errors import BadRequest, Cancelled, LanxferError, Lost, NotFound, ShortBody
from lanxfer.links import Link
from lanxfer.streams import Inflow
from lanxfer.testing import Dialogue, Pair, bytewise
from lanxfer.wire import limits

KIB = 1024


class Streams:
    """What the tests ask for."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.written = 0
        self.ended: list[Any] = []
        self.release: Deferred[None] = Deferred()

    @command("s.coll")
    async def coll(self, count: int, out: Writer) -> None:
        for each in range(count):
            await out.write(each.to_bytes(8, "big"))

    @command("s.shout")
    async def shout(self, into: Reader, out: Writer) -> int:
        size = 0
        async for chunk in into:
            size += len(chunk)
            await out.write(chunk.upper())
        return size

    @command("s.take")
    async def take(self, into: Reader) -> bytes:
        self.got.append(await into.read_all())
        return self.got[-1][-5:]

    @command("s.flood")
    async def flood(self, out: Writer) -> None:
        try:
            while True:
                await out.write(bytes(100 * KIB))
                self.written += 100 * KIB
        except LanxferError as error:
            self.ended.append(error)
            raise

    @command("s.deaf")
    async def deaf(self, into: Reader) -> None:
        await self.release

    @command("s.enough")
    async def enough(self, into: Reader) -> bytes:
        return await into.read_exactly(3)

    @command("s.refuse")
    async def refuse(self, into: Reader) -> None:
        await into.read(1)
        raise NotFound("Not that.")

    @command("s.noop")
    def noop(self) -> None:
        pass


def streams(**more: Any) -> tuple[Streams, Pair, Link]:
    made = Streams()
    pair = Pair(commands=made, **more)
    pair.pump()
    return made, pair, Link(pair.client)


class OutTests:
    def test_coll(self) -> None:
        """Numbers come one by one, and then the answer."""
        # covers: S2-16
        _, pair, link = streams()

        async def collect() -> list[int]:
            async with link.stream("s.coll", {"count": 20}, reads=True) as stream:
                return [int.from_bytes(each, "big") async for each in stream.blocks(8)]

        assert pair.result(collect()) == list(range(20))

    def test_not_asked_for(self) -> None:
        """Who does not say that it takes a stream gets none."""
        _, pair, link = streams()
        with pytest.raises(BadRequest):
            pair.result(link.call("s.coll", {"count": 20}))
        with pytest.raises(BadRequest):
            pair.result(link.call("s.take"))

    def test_unread(self) -> None:
        """A stream that nobody reads stops at its window; calls are answered all the same."""
        # covers: S2-08 S2-29
        made, pair, link = streams()
        stream = link.stream("s.flood", reads=True)
        pair.pump()
        assert made.written <= limits.STREAM_WINDOW
        assert stream.reader.waiting == limits.STREAM_WINDOW
        assert pair.result(link.call("s.noop")).ok
        assert pair.result(stream.read(limits.STREAM_WINDOW))
        for _ in range(20):
            pair.result(stream.read())
        assert made.written > limits.STREAM_WINDOW

    def test_bounded_together(self) -> None:
        """Many unread streams hold no more together than a connection may."""
        _, pair, link = streams()
        many = [link.stream("s.flood", reads=True) for _ in range(200)]
        pair.pump()
        most = limits.UNWRITTEN_MAX + 200 * limits.STREAM_PART
        assert sum(each.reader.waiting for each in many) <= most
        assert all(each.reader.waiting >= limits.STREAM_PART for each in many)
        assert pair.result(link.call("s.noop")).ok

    def test_call_between_parts(self) -> None:
        """However much waits to be written, an answer is behind one part of it at most."""
        _made, pair, link = streams()
        stream = link.stream("s.flood", reads=True)
        stalled = link.call("s.noop")
        order: list[str] = []
        stalled.addCallback(lambda answer: order.append("answer"))
        lines: list[bytes] = []
        link.trace(lambda way, line: lines.append(line) if way == "<" else None)
        pair.pump()
        before = [line for line in lines if b'"event"' in line]
        at = next(n for n, line in enumerate(lines) if b'"ok": 3' in line)
        # The transport holds 64 KiB before it says that it is full, and one part more.
        assert at <= 3
        assert len(before) > 3
        assert stream is not None

    def test_cancel(self) -> None:
        """A stream can be given up; the connection goes on."""
        # covers: S2-28
        made, pair, link = streams()
        stream = link.stream("s.flood", reads=True)
        pair.pump()
        stream.cancel()
        with pytest.raises(Cancelled):
            pair.result(stream.answered())
        assert [type(each) for each in made.ended] == [Cancelled]
        with pytest.raises(Cancelled):
            pair.result(stream.read())
        assert pair.result(link.call("s.noop")).ok
        assert pair.client._stream_room == pair.server._stream_room == limits.UNWRITTEN_MAX

    def test_lost(self) -> None:
        """Where the connection breaks, both ends of a stream hear of it."""
        made, pair, link = streams()
        stream = link.stream("s.flood", reads=True)
        pair.pump()
        pair.wire.cut_off()
        pair.pump()
        with pytest.raises(Lost):
            pair.result(stream.read())
        assert [type(each) for each in made.ended] == [Lost]
        with pytest.raises(Lost):
            link.stream("s.flood", reads=True)


class InTests:
    @pytest.mark.parametrize("size", [0, 5, 70 * KIB, 5 * 1024 * KIB])
    def test_whole(self, size: int) -> None:
        """What is written arrives, in order, whatever its size."""
        # covers: S2-24
        made, pair, link = streams()
        data = b"".join(n.to_bytes(4, "big") for n in range(size // 4)) + b"x" * (size % 4)

        async def send() -> bytes:
            stream = link.stream("s.take", writes=True)
            for at in range(0, size, 50_000):
                await stream.write(data[at : at + 50_000])
            stream.finish()
            return (await stream.answered()).body

        assert pair.result(send()) == data[-5:]
        assert made.got == [data]

    def test_both(self) -> None:
        """A command may read and write at once."""
        _, pair, link = streams(cut=bytewise)

        async def talk() -> tuple[list[bytes], int]:
            async with link.stream("s.shout", writes=True, reads=True) as stream:
                found = []
                for word in (b"one", b"two", b"three"):
                    await stream.write(word)
                    found.append(await stream.read_exactly(len(word)))
            return found, (await stream.answered()).flags

        assert pair.result(talk()) == ([b"ONE", b"TWO", b"THREE"], 11)

    def test_unread(self) -> None:
        """What a command does not read is not sent, and calls go on."""
        made, pair, link = streams()
        stream = link.stream("s.deaf", writes=True)
        waiting = stream.write(bytes(3 * limits.STREAM_WINDOW))
        pair.pump()
        assert not waiting.called
        assert pair.server._calls[stream._exchange.id]._inflow.waiting <= limits.STREAM_WINDOW
        assert pair.result(link.call("s.noop")).ok
        made.release.callback(None)
        assert pair.result(stream.answered()).ok
        with pytest.raises(Cancelled, match="before it had read all"):
            pair.result(waiting)

    def test_early_answer(self) -> None:
        """An answer may come before the end, and what still comes is dropped."""
        _, pair, link = streams()
        stream = link.stream("s.enough", writes=True)
        stream.write(b"abcdef" * 30_000).addErrback(lambda why: None)
        assert pair.result(stream.answered()).body == b"abc"
        for _ in range(100):
            assert pair.result(link.call("s.noop")).ok

    def test_refused(self) -> None:
        """A refusal ends what is being written with its reason."""
        _, pair, link = streams()
        stream = link.stream("s.refuse", writes=True)
        waiting = stream.write(bytes(5 * limits.STREAM_WINDOW))
        with pytest.raises(NotFound, match="Not that"):
            pair.result(waiting)
        with pytest.raises(NotFound):
            pair.result(stream.answered())

    def test_error_in_context(self) -> None:
        """An error in the midst of writing cancels the command."""
        made, pair, link = streams()

        async def send() -> None:
            async with link.stream("s.take", writes=True) as stream:
                await stream.write(b"some")
                raise KeyError("x")

        with pytest.raises(KeyError):
            pair.result(send())
        assert made.got == []
        assert pair.result(link.call("s.noop")).ok

    def test_half_closed(self) -> None:
        """A stream whose sender says goodbye in its midst is not taken for complete."""
        made, pair, link = streams()
        stream = link.stream("s.take", writes=True)
        stream.write(b"some")
        pair.pump()
        pair.wire.b.shut()
        with pytest.raises((ShortBody, Lost)):
            pair.result(stream.answered())
        assert made.got == []


class WireTests:
    HELLO = b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": "raw"}\n'

    @pytest.mark.parametrize(
        "said",
        [
            b'{"do": 2, "name": "s.take", "stream": true}\n{"part": 2, "offset": 3, "body": 1}\nx',
            b'{"do": 2, "name": "s.deaf", "stream": true}\n{"end": 2, "size": 3}\n',
            b'{"do": 2, "name": "s.noop"}\n{"part": 3, "offset": 0, "body": 1}\nx',
            b'{"do": 2, "name": "s.coll", "take": "x"}\n',
            b'{"do": 2, "name": "s.flood"}\n{"take": 3, "bytes": 1}\n',
        ],
    )
    def test_out_of_place(self, said: bytes) -> None:
        """What no peer can say that keeps to the protocol ends the exchange or the connection."""
        dialogue = Dialogue(Pair(commands=Streams()))
        dialogue.say(self.HELLO, said)
        codes = [getattr(packet, "code", "") for packet, _ in dialogue.raw.packets]
        assert {"bad-header", "bad-offset"} & set(codes)

    def test_more_than_granted(self) -> None:
        """A sender that does not keep to its window is refused."""
        dialogue = Dialogue(Pair(commands=Streams()))
        dialogue.say(self.HELLO, b'{"do": 2, "name": "s.deaf", "stream": true}\n')
        size = limits.STREAM_WINDOW
        dialogue.say(b'{"part": 2, "offset": 0, "body": %d}\n' % size, bytes(size))
        dialogue.say(b'{"part": 2, "offset": %d, "body": 1}\n' % size, b"x")
        assert dialogue.raw.packets[-1][0].code == "overloaded"  # type: ignore[union-attr]

    def test_conversation(self) -> None:
        """The conversation of the document."""
        dialogue = Dialogue(Pair(commands=Streams()))
        dialogue.say(self.HELLO)
        dialogue.say(b'{"do": 9, "name": "s.shout", "stream": true, "take": 1048576}\n')
        dialogue.say(b'{"part": 9, "offset": 0, "body": 5}\nhello')
        dialogue.say(b'{"take": 9, "bytes": 5}\n', b'{"end": 9, "size": 5}\n')
        said = dialogue.raw.received.partition(b"\n")[2]
        assert said == (
            b'{"go": 9, "window": 1048576, "have": []}\n'
            b'{"event": 9, "body": 5}\nHELLO{"ok": 9, "flags": 5}\n'
        )


class InflowTests:
    @given(st.binary(max_size=200), st.lists(st.integers(1, 30), max_size=20), st.integers(1, 40))
    @settings(max_examples=200)
    def test_reading(self, data: bytes, cuts: list[int], size: int) -> None:
        """Blocks and lines are those of the whole, however it was cut; all credit comes back."""
        # covers: S2-25
        import io

        def flow() -> tuple[Inflow, list[int]]:
            back: list[int] = []
            made = Inflow(back.append)
            at = 0
            for cut in [*cuts, len(data)]:
                made.received(data[at : at + cut])
                at += cut
            made.end()
            return made, back

        async def collect(found: Any) -> list[bytes]:
            return [each async for each in found]

        def now(found: Any) -> Any:
            done: list[Any] = []
            ensureDeferred(found).addCallback(done.append)
            return done[0]

        made, back = flow()
        assert now(collect(made.blocks(size))) == [
            data[at : at + size] for at in range(0, len(data), size)
        ]
        assert sum(back) == len(data)
        made, back = flow()
        assert now(collect(made.lines())) == list(io.BytesIO(data))
        assert sum(back) == len(data)
        made, back = flow()
        assert now(made.read_exactly(len(data))) == data
        assert now(made.read()) == b""

    def test_one_reader(self) -> None:
        """Two that read at once is a mistake that is told."""
        made = Inflow(lambda size: None)
        ensureDeferred(made.read())
        failed = ensureDeferred(made.read())
        failed.addErrback(lambda why: why.trap(RuntimeError))
        made.received(b"x")
