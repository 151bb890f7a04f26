"""Calling hooks, a few at a time; none of them changes what becomes of a transfer.

Events come from the registry after the fact, wait in a queue of their own, and
whatever a hook does wrong is a line in the log.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone, ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.deferreds import as_deferred
from lanxfer.hooks.events import MESSAGE, Event, Hook, as_job, events_of
from lanxfer.transfers import Direction, Kind, Snapshot

RUNNING_MAX = 4
"""Hooks that run at a time."""

WAITING_MAX = 10_000
"""Those that wait for that; what is more is left out, and said."""

SECONDS = 30.0
"""After which a hook is ended."""

SAID_EVERY = 60.0
"""Seconds in which the same complaint is made once."""

Callback = Callable[[Event], object]


class _Pipe(ProcessProtocol):
    """The runner: jobs in, a line out for each that is over."""

    def __init__(self, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone
        self._waiting: dict[int, Deferred[str]] = {}
        self._rest = b""
        self.gone = False

    def do(self, job: Mapping[str, Any]) -> Deferred[str]:
        """Fires with what went wrong, "" for nothing."""
        done: Deferred[str] = Deferred()
        self._waiting[job["id"]] = done
        if self.transport is not None:
            self.transport.writeToChild(0, json.dumps(job).encode("ascii") + b"\n")
        return done

    def end(self) -> None:
        """Let it end, and whatever it runs."""
        if self.transport is not None and not self.gone:
            self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self._waiting.pop(said["id"]).callback(said["error"])

    def errReceived(self, data: bytes) -> None:
        """What Python says where the runner itself is broken; its end is noticed anyway."""

    def processEnded(self, reason: Failure) -> None:
        self.gone = True
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.callback("what runs them is gone")
        if not reason.check(ProcessDone, ConnectionDone):
            self._on_gone()


class Hooks:
    """The hooks of one service, from one start to the next stop.

    ``callbacks`` are an application's own, by event; what they return may be a
    Deferred.  ``label_of`` says what a principal is called here, ``path_of`` where
    something that came is.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        hooks: Sequence[Hook],
        callbacks: Mapping[str, Callback],
        label_of: Callable[[str], str],
        path_of: Callable[[Snapshot], str],
    ) -> None:
        self._reactor = reactor
        self._hooks = hooks
        self._callbacks = callbacks
        self._label_of = label_of
        self._path_of = path_of
        self._queue: deque[tuple[Hook | Callback, Event]] = deque()
        self._running = 0
        self._last = 0
        self._texts: dict[str, str] = {}
        self._said: dict[str, float] = {}
        self._pipe: _Pipe | None = None
        self._stopped = False
        self._due = False

    @property
    def any(self) -> bool:
        """Whether there is anything to be called."""
        return bool(self._hooks or self._callbacks)

    def start(self) -> None:
        """Start what runs commands, if there are some; before the process is confined."""
        if any(each.command or each.notify for each in self._hooks):
            self._pipe = _Pipe(self._gone)
            line = [sys.executable, "-m", "lanxfer.hooks.runner"]
            self._reactor.spawnProcess(self._pipe, sys.executable, line, env=None)

    def can_run(self, hooks: Iterable[Hook], confined: bool) -> bool:
        """Whether these can be called; commands only if what runs them is there, or may start."""
        wanted = any(each.command or each.notify for each in hooks)
        return not wanted or not confined or (self._pipe is not None and not self._pipe.gone)

    def replace(self, hooks: Sequence[Hook]) -> None:
        """Have these from now on; what waits already is still called."""
        self._hooks = hooks
        if not self._stopped and (self._pipe is None or self._pipe.gone):
            self.start()

    def stop(self) -> None:
        """Call nobody any more, and end what runs."""
        self._stopped = True
        self._queue.clear()
        if self._pipe is not None:
            self._pipe.end()

    def text_came(self, id: str, text: str) -> None:
        """The whole text of a message that is about to be kept; lists have its beginning only."""
        if any(each in (MESSAGE, "finished") for each in self._whens()):
            self._texts[id] = text

    def hear(self, snapshot: Snapshot) -> None:
        """For a registry's listeners."""
        if not snapshot.state.finished or self._stopped:
            return
        text = self._texts.pop(snapshot.id, None)
        message = snapshot.kind is Kind.MESSAGE
        came = snapshot.direction is Direction.IN and not message
        path = self._path_of(snapshot) if came and snapshot.stored else ""
        for event in events_of(snapshot, self._label_of(snapshot.peer), path, text):
            if event.name in self._callbacks:
                self._put(self._callbacks[event.name], event)
            for hook in self._hooks:
                if hook.when == event.name:
                    self._put(hook, event)

    def _whens(self) -> list[str]:
        return [*self._callbacks, *(each.when for each in self._hooks)]

    def _put(self, hook: Hook | Callback, event: Event) -> None:
        if len(self._queue) >= WAITING_MAX:
            self._complain("hooks", f"more than {WAITING_MAX} wait; some are left out")
            return
        self._queue.append((hook, event))
        if not self._due:
            self._due = True
            self._reactor.callLater(0, self._next)

    def _next(self) -> None:
        self._due = False
        while self._queue and self._running < RUNNING_MAX:
            self._running += 1
            hook, event = self._queue.popleft()
            name = str(hook) if isinstance(hook, Hook) else f"{event.name} (the application's)"
            self._call(hook, event).addBoth(self._over, name)

    def _call(self, hook: Hook | Callback, event: Event) -> Deferred[Any]:
        if not isinstance(hook, Hook):
            return maybeDeferred(_called, hook, event).addTimeout(SECONDS, self._reactor)
        if hook.url:
            from lanxfer.hooks.webhook import post

            posting = Deferred.fromCoroutine(post(self._reactor, hook.url, event.document()))
            return posting.addTimeout(SECONDS, self._reactor)
        if self._pipe is None or self._pipe.gone:
            return maybeDeferred(lambda: "what runs them is gone")
        self._last += 1
        return self._pipe.do(as_job(self._last, hook, event, SECONDS))

    def _over(self, result: Any, name: str) -> None:
        self._running -= 1
        if isinstance(result, Failure):
            self._complain(name, str(result.value) or type(result.value).__name__)
        elif isinstance(result, str) and result:
            self._complain(name, result)
        self._next()

    def _gone(self) -> None:
        if not self._stopped:
            self._complain("hooks", "what runs them is gone; a new start of the service helps")

    def _complain(self, name: str, why: str) -> None:
        if self._stopped:
            return
        now = self._reactor.seconds()
        if now - self._said.get(name, -SAID_EVERY) >= SAID_EVERY:
            self._said[name] = now
            self.log.error(
                "A hook failed, {hook}: {reason}", event="hook_failed", hook=name, reason=why
            )


def _called(callback: Callback, event: Event) -> Any:
    found = callback(event)
    if isinstance(found, Awaitable):
        return as_deferred(found).addCallback(lambda _: None)
    return None
