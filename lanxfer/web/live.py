"""What changes, told to open pages as server-sent events."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict, define, field
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from lanxfer.node import Message, ServiceNode
from lanxfer.policy import Principal, mine
from lanxfer.storage.names import shown
from lanxfer.transfers import Direction, Kind, Snapshot, as_row
from lanxfer.web.gate import Session
from lanxfer.web.http import PageRequest
from lanxfer.wire import limits

TELL_EVERY = 0.25
"""Seconds between two words to a page; what changes more often is told once."""
KEEP_ALIVE = 20.0
"""Seconds after which a page hears something even if nothing happens."""
SHOWN = 50
"""Finished transfers that a page begins with."""


@implementer(IPushProducer)
@define(eq=False)
class Stream:
    """One open page.  A page that does not keep up hears of each transfer once, as it is then."""

    session: Session
    request: PageRequest
    clock: Any
    on_end: Callable[[Stream], object]
    _news: dict[tuple[str, str], Any] = field(factory=dict)
    _timer: IDelayedCall | None = None
    _paused: bool = False
    _over: bool = False

    def begin(self) -> None:
        request = self.request
        request.setHeader("Content-Type", "text/event-stream")
        request.setHeader("X-Accel-Buffering", "no")
        request.registerProducer(self, True)
        request.notifyFinish().addBoth(lambda why: self._ended())
        request.write(b"retry: 1000\n\n")
        self._later(KEEP_ALIVE)

    def tell(self, event: str, id: str, value: Any) -> None:
        """Tell of it soon; of what has the same id only the last."""
        self._news.pop((event, id), None)
        self._news[event, id] = value
        self._soon()

    def _soon(self) -> None:
        if self._over or self._paused:
            return
        if self._timer is None or self._timer.getTime() > self.clock.seconds() + TELL_EVERY:
            self._later(TELL_EVERY)

    def _later(self, seconds: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self.clock.callLater(seconds, self._tell)

    def _tell(self) -> None:
        self._timer = None
        if self._over or self._paused:
            return
        news, self._news = self._news, {}
        lines = [
            f"event: {event}\ndata: {json.dumps(value)}\n\n" for (event, _), value in news.items()
        ]
        self.request.write("".join(lines or [": nothing new\n\n"]).encode("ascii"))
        self._later(KEEP_ALIVE)

    # The producer.

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._timer is None and not self._over:
            self._later(TELL_EVERY if self._news else KEEP_ALIVE)

    def stopProducing(self) -> None:
        self._ended()

    def close(self) -> None:
        """End it from here."""
        if not self._over:
            self._ended()
            self.request.unregisterProducer()
            self.request.finish()

    def _ended(self) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.on_end(self)


@define(eq=False)
class Live:
    """All open pages, and what a page that is opened now should know."""

    node: ServiceNode
    label_of: Callable[[str], str]
    _streams: list[Stream] = field(factory=list)
    _messages: deque[dict[str, Any]] = field(factory=lambda: deque(maxlen=limits.WEB_MESSAGES))
    _unsubscribe: Callable[[], object] = lambda: None

    def start(self) -> None:
        self._unsubscribe = self.node.registry.subscribe(self._changed)
        self.node.on_told = self._came

    def stop(self) -> None:
        self._unsubscribe()
        self.node.on_told = None
        for each in list(self._streams):
            each.close()

    def open(self, session: Session, request: PageRequest) -> None:
        """Tell a page what there is, and from then on what changes."""
        stream = Stream(session, request, self.node.clock, self._streams.remove)
        own = [each for each in self._streams if each.session is session]
        if len(own) >= limits.WEB_STREAMS:
            own[0].close()
        self._streams.append(stream)
        stream.begin()
        principal = session.principal
        registry, visible = self.node.registry, mine(principal)
        stream.tell("begin", "", self.about(session))
        for each in [*registry.finished(visible)[:SHOWN][::-1], *registry.pending(visible)]:
            self._show(stream, each)
        for message in self._messages:
            self._pass_on(stream, message)
        self._prompts(stream)

    def about(self, session: Session) -> dict[str, Any]:
        """What a page knows about where it is."""
        principal = session.principal
        return {
            "token": session.token,
            "device": self.node.device,
            "label": principal.label,
            "guest": session.guest,
        }

    def end(self, session: Session) -> None:
        """It was signed out."""
        for each in [each for each in self._streams if each.session is session]:
            each.close()

    def say(self, text: str, id: str, label: str | None) -> int:
        """Show a text to those who are called that, or to all; to how many pages."""
        to = [each for each in self._streams if label in (None, each.session.principal.label)]
        message = self._message(id, "", self.node.device, text, True)
        self._messages.append({**message, "to": label})
        for each in to:
            each.tell("message", id, message)
        return len(to)

    def _changed(self, snapshot: Snapshot) -> None:
        for each in self._streams:
            if mine(each.session.principal)(snapshot):
                self._show(each, snapshot)
            self._prompts(each)

    def _show(self, stream: Stream, snapshot: Snapshot) -> None:
        if snapshot.kind is Kind.MESSAGE and snapshot.direction is Direction.OUT:
            return
        stream.tell("transfer", snapshot.id, self._row(snapshot, stream.session.principal))

    def _row(self, snapshot: Snapshot, principal: Principal) -> dict[str, Any]:
        row = as_row(snapshot)
        own = snapshot.peer == principal.name
        row["who"] = "this browser" if own else shown(self.label_of(snapshot.peer), 60)
        row["own"] = own
        return row

    def _prompts(self, stream: Stream) -> None:
        if not stream.session.guest:
            prompts = [asdict(each) for each in self.node.offers.prompts()]
            for each in prompts:
                each["what"] = shown(each["what"], 200)
                each["label"] = shown(each["label"], 60)
            stream.tell("prompts", "", prompts)

    def _came(self, message: Message) -> None:
        row = self._message(message.id, message.peer, message.label, message.text, message.secure)
        self._messages.append(row)
        for each in self._streams:
            self._pass_on(each, row)

    def _pass_on(self, stream: Stream, row: Mapping[str, Any]) -> None:
        principal = stream.session.principal
        to = row.get("to")
        if "to" in row:
            if to not in (None, principal.label):
                return
        elif stream.session.guest and row["peer"] != principal.name:
            return
        own = bool(row["peer"]) and row["peer"] == principal.name
        stream.tell("message", str(row["id"]), {**row, "own": own})

    def _message(self, id: str, peer: str, label: str, text: str, secure: bool) -> dict[str, Any]:
        return {
            "id": id,
            "peer": peer,
            "label": shown(label, 60),
            "text": text,
            "secure": secure,
            "at_ms": int(self.node.registry.clock() * 1000),
        }
