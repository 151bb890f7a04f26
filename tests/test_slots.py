"""Tickets as applications and upload clients have them, over real sockets and a real disk."""

from __future__ import annotations

import os
import socket
from typing import Any
from zlib import crc32

import pytest
from blake3 import blake3
from devices import Devices, in_reactor, sleep, until
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from lanxfer.commands.table import Call, Node, Reply
from lanxfer.errors import BadConfig, BadName, Cancelled, Expired
from lanxfer.slots import Slot
from lanxfer.transfers import Conflict, State

DATA = os.urandom(3_000_000)


def answer_to(data: bytes) -> bytes:
    return f"ok {len(data)} {crc32(data):08x} {blake3(data).hexdigest()}\n".encode()


def dial(service: Any, address: str = "") -> socket.socket:
    host, _, port = (address or service.address).rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def to_the_end(wire: socket.socket) -> bytes:
    answer = b""
    while more := wire.recv(4096):
        answer += more
    return answer


async def upload(service: Any, data: bytes, address: str = "", close: bool = False) -> bytes:
    """What a client that knows nothing but a socket is answered."""

    def talk() -> bytes:
        with dial(service, address) as wire:
            wire.sendall(data)
            if close:
                wire.shutdown(socket.SHUT_WR)
            return to_the_end(wire)

    return await deferToThread(talk)


def names(devices: Devices) -> list[str]:
    """All that is in the inbox, without what is always there."""
    inbox = devices.inbox("nas")
    found = [str(each.relative_to(inbox)) for each in inbox.rglob("*") if each.is_file()]
    return sorted(each for each in found if not each.endswith("lock"))


class OfferTests:
    @in_reactor
    async def test_own_name(self, devices: Devices) -> None:
        """Without a path the file has a name of its own, and the client no say in it."""
        # covers: S1-10
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot(size=5)
        assert await upload(service, slot.line + b"hello") == answer_to(b"hello")
        assert names(devices) == [slot.file.replace("-", "")] == [(await slot.done).path]

    @in_reactor
    async def test_any_size_up_to(self, devices: Devices) -> None:
        """Where the size is not known, what may come is bounded, and refused before a byte."""
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", most=5)
        head = f"{slot.session} {slot.file}"
        assert (await upload(service, f"{head} 6\nhello!".encode())).startswith(b"error forbidden")
        assert names(devices) == []
        assert await upload(service, f"{head} 4\nhell".encode()) == answer_to(b"hell")

    @in_reactor
    async def test_not_yet(self, devices: Devices) -> None:
        """A ticket can be made for later; until then it is as good as none, and it stays whole."""
        # covers: A09
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", 5, not_before=0.4)
        assert (await upload(service, slot.line + b"hello")).startswith(b"error forbidden")
        await sleep(0.5)
        assert await upload(service, slot.line + b"hello") == answer_to(b"hello")

    @in_reactor
    async def test_from_one_address(self, devices: Devices) -> None:
        """A ticket can be for an address or a network; from elsewhere it is none."""
        # covers: A09
        service = await devices.start("nas", tickets_plain=True)
        there = service.offer_slot("x", 5, peer="192.0.2.0/24")
        here = service.offer_slot("y", 5, peer="127.0.0.1")
        assert (await upload(service, there.line + b"hello")).startswith(b"error forbidden")
        assert await upload(service, here.line + b"hello") == answer_to(b"hello")

    @in_reactor
    async def test_nonsense(self, devices: Devices) -> None:
        """What cannot be is said to whoever makes the ticket."""
        service = await devices.start("nas")
        with pytest.raises(BadName):
            service.offer_slot("../x")
        with pytest.raises(BadConfig):
            service.offer_slot("x", peer="somebody")

    @in_reactor
    async def test_same_size_there(self, devices: Devices) -> None:
        """Another file of that name and size is no reason not to take one, and is kept."""
        service = await devices.start("nas", tickets_plain=True)
        for data in (b"hello", b"other"):
            slot = service.offer_slot("x.txt", 5)
            assert await upload(service, slot.line + data) == answer_to(data)
        assert names(devices) == ["x (2).txt", "x.txt"]
        assert (devices.inbox("nas") / "x.txt").read_bytes() == b"hello"
        slot = service.offer_slot("x.txt", 5, conflict=Conflict.OVERWRITE)
        assert await upload(service, slot.line + b"third") == answer_to(b"third")
        assert (devices.inbox("nas") / "x.txt").read_bytes() == b"third"


class UploadTests:
    @in_reactor
    async def test_any_cutting(self, devices: Devices) -> None:
        """The line may come in any pieces, its bytes with it or after."""
        # covers: S1-02
        service = await devices.start("nas", tickets_plain=True)
        slots = [service.offer_slot(f"{n}", 5) for n in range(0, 90, 7)]

        def talk(slot: Slot, at: int) -> bytes:
            data = slot.line + b"hello"
            with dial(service) as wire:
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wire.sendall(data[:at])
                import time

                time.sleep(0.02)
                wire.sendall(data[at:])
                return to_the_end(wire)

        for slot in slots:
            assert await deferToThread(talk, slot, int(slot.path)) == answer_to(b"hello")

    @in_reactor
    async def test_crlf(self, devices: Devices) -> None:
        """A client whose lines end in CR LF is understood."""
        # covers: S1-01
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", 5)
        line = slot.line.replace(b"\n", b"\r\n")
        assert await upload(service, line + b"hello") == answer_to(b"hello")
        assert service.registry.finished()[0].state is State.DONE

    @in_reactor
    async def test_too_much(self, devices: Devices) -> None:
        """Bytes beyond the size are no part of the file, and nobody reads them."""
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", 5)
        assert (await upload(service, slot.line + b"hello, world")).startswith(b"ok 5 ")
        assert (devices.inbox("nas") / "x").read_bytes() == b"hello"

    @in_reactor
    async def test_refused_while_sending(self, devices: Devices) -> None:
        """Whoever sends all of a large file before it listens still hears the refusal."""
        # covers: S1-16
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", 5)
        line = f"{slot.session} {slot.file} {len(DATA)}\n".encode()
        assert (await upload(service, line + DATA)).startswith(b"error forbidden")
        await until(lambda: not service._now.factory.connections)

    @in_reactor
    async def test_break_is_nothing(self, devices: Devices) -> None:
        """An upload that breaks off leaves nothing, is heard of, and cannot be tried again."""
        # covers: S1-07 S1-08
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", len(DATA))
        states: list[tuple[State, int, int]] = []
        service.subscribe(lambda s: states.append((s.state, s.done, s.size)))
        assert (await upload(service, slot.line + DATA[:1000], close=True)).startswith(
            b"error short"
        )
        with pytest.raises(Exception, match=r"."):
            await slot.done
        assert states[-1] == (State.INTERRUPTED, 1000, len(DATA))
        assert names(devices) == []
        assert (await upload(service, slot.line)).startswith(b"error forbidden")

    @in_reactor
    async def test_kept(self, devices: Devices) -> None:
        """Where asked for, what came is kept, and the same ids go on with it."""
        # covers: S1-08
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", len(DATA), keep=True)
        half = 1_400_000

        def cut() -> None:
            with dial(service) as wire:
                wire.sendall(slot.line + DATA[:half])
                wire.shutdown(socket.SHUT_WR)
                to_the_end(wire)

        await deferToThread(cut)
        await until(lambda: slot.session in service._now.node.slots)
        assert slot.held == half and not slot.done.called

        def go_on() -> tuple[bytes, bytes]:
            with dial(service) as wire:
                wire.sendall(slot.line.rstrip() + b" resume\n")
                with wire.makefile("rb") as lines:
                    have = lines.readline()
                    wire.sendall(DATA[int(have.split()[1]) :])
                    return have, lines.readline()

        assert await deferToThread(go_on) == (b"have 1400000\n", answer_to(DATA))
        assert (await slot.done).size == len(DATA)
        assert names(devices) == ["x"]
        assert (devices.inbox("nas") / "x").read_bytes() == DATA

    @in_reactor
    async def test_kept_and_begun_anew(self, devices: Devices) -> None:
        """Who does not ask what is there sends it all, and is answered for all of it."""
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", 5, keep=True)
        await upload(service, slot.line + b"hel", close=True)
        await until(lambda: slot.session in service._now.node.slots)
        assert await upload(service, slot.line + b"world") == answer_to(b"world")

    @in_reactor
    async def test_kept_and_expired(self, devices: Devices) -> None:
        """What is kept does not make a ticket good for longer."""
        # covers: S1-05
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", 5, 0.5, keep=True)
        await upload(service, slot.line + b"hel", close=True)
        with pytest.raises(Expired):
            await slot.done
        assert (await upload(service, slot.line + b"hello")).startswith(b"error forbidden")

    @in_reactor
    async def test_one_at_a_time(self, devices: Devices) -> None:
        """While one connection uploads the ids are nobody else's."""
        # covers: J19 S1-03
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", 5, keep=True)
        with dial(service) as wire:
            wire.sendall(slot.line + b"he")
            await until(lambda: slot.transfer)
            assert (await upload(service, slot.line + b"hello")).startswith(b"error forbidden")
            wire.sendall(b"llo")
            assert await deferToThread(to_the_end, wire) == answer_to(b"hello")


class FollowTests:
    @in_reactor
    async def test_progress_and_cancel(self, devices: Devices) -> None:
        """The application follows an upload in the registry, and ends it there."""
        # covers: S1-14 S1-15 S1-18
        service = await devices.start("nas", tickets_plain=True)
        slot = service.offer_slot("x", len(DATA))
        states: list[State] = []
        service.subscribe(lambda s: states.append(s.state) if s.id == slot.transfer else None)
        with dial(service) as wire:
            wire.sendall(slot.line + DATA[:1000])
            await until(lambda: service.registry.pending() and service.registry.pending()[0].done)
            assert service.registry.find(slot.transfer).snapshot.size == len(DATA)
            service.registry.cancel(slot.transfer)
            assert (await deferToThread(to_the_end, wire)).startswith(b"error cancelled")
        with pytest.raises(Cancelled):
            await slot.done
        assert states[-1] is State.CANCELLED
        assert list(dict.fromkeys(states)) == states or State.MOVING in states
        assert names(devices) == []

    @in_reactor
    async def test_done_is_cancelled(self, devices: Devices) -> None:
        """Cancelling the Deferred takes a ticket back, and ends the upload that it opened."""
        # covers: S1-15 S1-16
        service = await devices.start("nas", tickets_plain=True)
        unused, used = service.offer_slot("x", 5), service.offer_slot("y", 5)
        unused.done.cancel()
        with pytest.raises(Cancelled):
            await unused.done
        assert (await upload(service, unused.line + b"hello")).startswith(b"error forbidden")
        with dial(service) as wire:
            wire.sendall(used.line + b"he")
            await until(lambda: used.transfer)
            used.done.cancel()
            assert (await deferToThread(to_the_end, wire)).startswith(b"error cancelled")
        with pytest.raises(Cancelled):
            await used.done
        assert names(devices) == []

    @in_reactor
    async def test_offered_over_a_connection(self, devices: Devices) -> None:
        """A peer gets a ticket on one port, uploads go to another, and the peer follows them."""
        # covers: S1-04 S1-19
        slots: list[Slot] = []

        async def ticket(call: Call, node: Node) -> Reply:
            slots.append(service.offer_slot("x", len(DATA), owner=call.principal.name))
            return Reply({"ticket": slots[0].line.decode()})

        service = await devices.start(
            "nas",
            {"commands": {"my.ticket": ticket}},
            tickets_plain=True,
            listen=("tcp:0:interface=127.0.0.1",),
        )
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        line = (await client.call("my.ticket")).args["ticket"].encode()
        seen: list[Any] = []
        watching = client.call("watch", on_event=lambda args: seen.append(args["transfer"]))
        other = (await service.when_listening())[1]
        assert await upload(service, line + DATA, address=other) == answer_to(DATA)
        await until(lambda: any(each["state"] == "done" for each in seen))
        assert {each["id"] for each in seen} == {slots[0].transfer}
        [row] = await client.rows("history")
        assert (row["stored"], row["blake3"]) == ("x", blake3(DATA).hexdigest())
        watching.addErrback(lambda why: why.trap(Cancelled) and None)
        watching.cancel()

    @in_reactor
    async def test_log(self, devices: Devices) -> None:
        """A log of one upload can be kept by its id, and has no id that would open anything."""
        # covers: S1-20
        told: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            from twisted.logger import formatEvent

            told.append(formatEvent(event))

        service = await devices.start("nas", tickets_plain=True)
        states: list[str] = []
        service.subscribe(lambda s: states.append(f"{s.id} {s.state.value}"))
        globalLogPublisher.addObserver(observe)
        try:
            slot = service.offer_slot("x", 5)
            await upload(service, slot.line + b"hello")
        finally:
            globalLogPublisher.removeObserver(observe)
        mine = [each.split()[1] for each in states if each.startswith(slot.transfer)]
        assert mine[0] == "offered" and mine[-1] == "done" and "moving" in mine
        assert not any(slot.session in each or slot.file in each for each in told)
