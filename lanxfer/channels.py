"""Channels: requests that are begun one after the other, beside all the others.

Channel 0 has no order; each of the others has one (docs/protocol.rst, "An
application's own commands").
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, define

from lanxfer.errors import BadRequest, Overloaded
from lanxfer.wire import limits


@define
class Channels:
    """Those of one connection that are in use: what is under way on each, and what waits."""

    _lines: dict[int, dict[int, Callable[[], None]]] = Factory(dict)
    _open: int = 0

    def enter(self, channel: object, id: int, begin: Callable[[], None]) -> bool:
        """Whether the request may begin at once; else ``leave`` gives ``begin`` when it may.

        BadRequest, or Overloaded where too many wait already.
        """
        if type(channel) is not int or channel > limits.CHANNEL_MAX:
            raise BadRequest(f"A channel is a number from 0 to {limits.CHANNEL_MAX}.")
        if channel == 0:
            return True
        line = self._lines.setdefault(channel, {})
        if len(line) >= limits.CHANNEL_OPEN or self._open >= limits.CHANNELS_OPEN:
            raise Overloaded("Too many requests are open on the channels of this connection.")
        line[id] = begin
        self._open += 1
        return len(line) == 1

    def waits(self, channel: int, id: int) -> bool:
        """Whether a request has not begun yet."""
        line = self._lines.get(channel, {})
        return id in line and next(iter(line)) != id

    def leave(self, channel: int, id: int) -> Callable[[], None] | None:
        """A request was answered; what begins the next one, if that follows from it."""
        line = self._lines.get(channel, {})
        if id not in line:
            return None
        begun = next(iter(line)) == id
        del line[id]
        self._open -= 1
        if not line:
            del self._lines[channel]
        return next(iter(line.values())) if begun and line else None
