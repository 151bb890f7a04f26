"""Requests of this side, and giving them up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from lanxfer.conversation import Conversation
from lanxfer.errors import Busy, Cancelled, Lost
from lanxfer.packet_socket import wait


@pytest.fixture
def ends() -> Iterator[tuple[Conversation, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        there = Conversation(ours, wait, lambda silent: Lost())
        there._packets.greeted = True
        yield there, theirs


def heard(theirs: socket.socket) -> list[dict[str, object]]:
    return [json.loads(line) for line in theirs.recv(10_000).splitlines()]


def test_cancel_once(ends: tuple[Conversation, socket.socket]) -> None:
    """Of each that is open it is said once, and of what is asked after that as well."""
    there, theirs = ends
    ids = [there.ask_ahead("x", {}, ()) for _ in range(3)]
    theirs.recv(10_000)
    assert there.cancel() and there.cancel()
    assert [each["cancel"] for each in heard(theirs)] == ids
    another = there.ask_ahead("x", {}, ())
    there.hear()
    assert [each.get("cancel") for each in heard(theirs)] == [None, another]
    for id in (*ids, another):
        theirs.sendall(
            json.dumps({"error": id, "code": "cancelled", "reason": ""}).encode() + b"\n"
        )
        with pytest.raises(Cancelled):
            there.answer(id)
    assert not there.cancel()


def test_cancel_in_the_midst(ends: tuple[Conversation, socket.socket]) -> None:
    """What cannot be said in the midst of something is said after it, whatever that was."""
    there, theirs = ends
    id = there.ask_ahead("x", {}, ())
    theirs.recv(10_000)
    there._packets.pushing = True
    assert there.cancel()
    there._packets.pushing = False
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    theirs.settimeout(10)
    there.hear()
    assert [each["cancel"] for each in heard(theirs)] == [id]


def test_said_lost(ends: tuple[Conversation, socket.socket]) -> None:
    """That a connection was lost, said of one request, is not this one."""
    there, theirs = ends
    id = there.ask_ahead("x", {}, ())
    said = {"error": id, "code": "connection-lost", "reason": "Elsewhere.", "retry": True}
    theirs.sendall(json.dumps(said).encode() + b"\n")
    with pytest.raises(Busy, match=r"Elsewhere\."):
        there.answer(id)


@pytest.mark.parametrize("code", ["cancelled", "busy", "bad-header"])
def test_over(ends: tuple[Conversation, socket.socket], code: str) -> None:
    """What is said of the connection as a whole ends it."""
    there, theirs = ends
    id = there.ask_ahead("x", {}, ())
    said = {"error": 0, "code": code, "reason": "No more.", "retry": False}
    theirs.sendall(json.dumps(said).encode() + b"\n")
    with pytest.raises(Lost):
        there.answer(id)
    with pytest.raises(Lost):
        there.ask("x")
