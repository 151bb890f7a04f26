"""Waiting until a transfer is where somebody wants it."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from lanxfer.errors import BadState, LanxferError, from_wire
from lanxfer.registry import Registry
from lanxfer.transfers import Snapshot, State


def when(registry: Registry, id: str, *states: State) -> Deferred[Snapshot]:
    """Fire with the transfer as it is once it is in one of ``states``; at once if it is already.

    Fails with what it ended with, where it ends elsewhere: the error, or BadState where it
    is done; with NotFound where there is no such transfer.  Cancelled, it waits no longer, and
    the transfer goes on.
    """
    stop = [lambda: None]
    waiting: Deferred[Snapshot] = Deferred(lambda _: stop[0]())

    def listen(snapshot: Snapshot) -> None:
        if snapshot.id != id or waiting.called:
            return
        if snapshot.state in states:
            stop[0]()
            waiting.callback(snapshot)
        elif snapshot.state.finished:
            stop[0]()
            waiting.errback(_elsewhere(snapshot))

    over = next((each for each in registry.finished() if each.id == id), None)
    try:
        now = registry.find(id).snapshot if over is None else over
    except LanxferError as error:
        waiting.errback(error)
        return waiting
    stop[0] = registry.subscribe(listen)
    listen(now)
    return waiting


def _elsewhere(snapshot: Snapshot) -> LanxferError:
    if snapshot.state is State.DONE:
        return BadState("That transfer is done already.")
    return from_wire(snapshot.code, snapshot.reason)
