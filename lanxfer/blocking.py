"""lanxfer for programs without a reactor: the same calls, and each waits for its result.

::

    with SyncClient.connect("nas") as nas:
        print(nas.send_file("film.mkv").stored)

    with SyncLink.dial("unix:/run/me/sums") as link:
        print(link.call("sums.add", {"n": 7}, b"abc").flags)

From a thread beside a reactor that runs, that one is used; where none does, one is
started in a thread of its own and ends with the program.  Any number of threads may
share a client or a link.  What fails raises what the Deferred would have failed with.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import blockingCallFromThread
from twisted.python.threadable import isInIOThread

from lanxfer import client, linking
from lanxfer.client import Client
from lanxfer.deferreds import as_deferred
from lanxfer.errors import TimedOut
from lanxfer.exchange import Answer
from lanxfer.links import Link
from lanxfer.remote import Remote, remote
from lanxfer.transfers import Receipt

T = TypeVar("T")
R = TypeVar("R")
Self = TypeVar("Self", bound="_Blocking[Any]")

_starting = threading.Lock()


def reactor_in_thread() -> Any:
    """The reactor, which runs then; started in a thread if it did not.

    Raises RuntimeError in the reactor's own thread, where waiting would be for ever, and
    where the reactor ran before and was stopped.
    """
    from twisted.internet import reactor as found

    reactor: Any = found
    with _starting:
        if reactor.running:
            if isInIOThread():
                raise RuntimeError("In the reactor's thread use lanxfer.client, which never waits.")
            return reactor
        begun = threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            reactor.callWhenRunning(begun.set)
            try:
                reactor.run(installSignalHandlers=False)
            except BaseException as error:
                failed.append(error)
                begun.set()

        def end() -> None:
            # Threads that nobody joined would keep the process, so nothing of ours may outlive it.
            threading.main_thread().join()
            reactor.callFromThread(lambda: reactor.stop() if reactor.running else None)

        threading.Thread(target=run, name="lanxfer-reactor").start()
        begun.wait()
        if failed:
            raise RuntimeError(f"The reactor does not run: {failed[0]}") from failed[0]
        threading.Thread(target=end, name="lanxfer-end").start()
        return reactor


def wait(make: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
    """Call ``make`` in the reactor's thread; give what it fires with, raise what it fails with.

    TimedOut after ``timeout`` seconds; then, as after Ctrl-C, it is cancelled.
    """
    reactor = reactor_in_thread()
    running: list[Deferred[T]] = []

    def begin() -> Deferred[T]:
        running.append(as_deferred(make()))
        if timeout is not None:
            running[0].addTimeout(timeout, reactor, onTimeoutCancel=_late)
        return running[0]

    try:
        found: Any = blockingCallFromThread(reactor, cast(Any, begin))
    except (KeyboardInterrupt, SystemExit):

        def give_up() -> None:
            for each in running:
                each.cancel()

        reactor.callFromThread(give_up)
        raise
    return cast(T, found)


def _late(result: Any, seconds: float) -> Any:
    raise TimedOut(f"There was no answer in {seconds:g} s.")


class _Blocking(Generic[T]):
    """Something asynchronous, and the waiting for it, ``timeout`` seconds for each call."""

    def __init__(self, there: T, timeout: float | None = None) -> None:
        self.there = there
        """What is asked, to be touched in the reactor's thread only."""
        self.timeout = timeout

    def run(self, ask: Callable[[T], Awaitable[R]]) -> R:
        """Wait for anything that can be asked: ``client.run(lambda c: c.list("photos"))``."""
        return wait(lambda: ask(self.there), self.timeout)

    def close(self) -> None:
        """Let what is under way finish, and close."""
        there: Any = self.there
        wait(lambda: as_deferred(there.close()))

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SyncLink(_Blocking[Link]):
    """A ``Link`` whose calls wait; made by ``dial`` and ``spawn``."""

    @classmethod
    def dial(
        cls, endpoint: Any, commands: Any = None, *, timeout: float | None = None, **how: Any
    ) -> SyncLink:
        """As ``dial_link``; ``commands`` run in the reactor's thread."""
        reactor = reactor_in_thread()
        return cls(
            wait(lambda: linking.dial_link(reactor, endpoint, commands, **how), timeout), timeout
        )

    @classmethod
    def spawn(
        cls, argv: Sequence[str], commands: Any = None, *, timeout: float | None = None, **how: Any
    ) -> SyncLink:
        """As ``spawn_link``."""
        reactor = reactor_in_thread()
        return cls(
            wait(lambda: linking.spawn_link(reactor, argv, commands, **how), timeout), timeout
        )

    def call(self, name: str | int, args: Any = None, data: bytes = b"", **how: Any) -> Any:
        """As ``Link.call``."""
        return self.run(lambda link: link.call(name, args, data, **how))

    def submit(self, name: str | int, args: Any = None, data: bytes = b"", **how: Any) -> Answer:
        """As ``Link.submit``."""
        return self.run(lambda link: link.submit(name, args, data, **how))

    def call_all(self, *asked: tuple[Any, ...]) -> list[Answer]:
        """``submit`` all of them at once and wait for all: each a name, arguments, a body."""
        return self.run(lambda link: gatherResults([link.submit(*each) for each in asked]))

    def remote(self, kind: type) -> _SyncRemote:
        """The commands of a class, as methods that wait (``lanxfer.remote``)."""
        return _SyncRemote(self, remote(self.there, kind))

    def ping(self) -> float:
        """As ``Link.ping``."""
        return self.run(lambda link: link.ping())


class _SyncRemote:
    def __init__(self, link: SyncLink, asks: Remote) -> None:
        self._link = link
        self._remote = asks

    def __getattr__(self, name: str) -> Callable[..., Any]:
        ask = getattr(self._remote, name)

        def call(*args: Any, **named: Any) -> Any:
            return self._link.run(lambda link: ask(*args, **named))

        return call


class SyncClient(_Blocking[Client]):
    """A ``Client`` whose calls wait; made by ``connect``, ``local`` and ``child``."""

    @classmethod
    def connect(cls, peer: str, *, timeout: float | None = None, **options: Any) -> SyncClient:
        """As ``lanxfer.client.connect``."""
        reactor = reactor_in_thread()
        return cls(wait(lambda: client.connect(reactor, peer, **options), timeout), timeout)

    @classmethod
    def local(cls, *, state: str | None = None, timeout: float | None = None) -> SyncClient:
        """As ``lanxfer.client.local``."""
        reactor = reactor_in_thread()
        return cls(wait(lambda: client.local(reactor, state=state), timeout), timeout)

    @classmethod
    def child(
        cls, argv: Sequence[str], *, timeout: float | None = None, **options: Any
    ) -> SyncClient:
        """As ``lanxfer.client.child``."""
        reactor = reactor_in_thread()
        return cls(wait(lambda: client.child(reactor, argv, **options), timeout), timeout)

    def send_file(self, path: Any, **options: Any) -> Receipt:
        """As ``Client.send_file``; ``on_progress`` is called in the reactor's thread."""
        return self.run(lambda there: there.send_file(path, **options))

    def send_paths(self, paths: Sequence[Any], **options: Any) -> Any:
        """As ``Client.send_paths``."""
        return self.run(lambda there: there.send_paths(paths, **options))

    def send_message(self, text: str) -> Receipt:
        """As ``Client.send_message``."""
        return self.run(lambda there: there.send_message(text))

    def call(self, name: str, args: Any = None, data: bytes = b"") -> Answer:
        """As ``Client.call``."""
        return self.run(lambda there: there.call(name, args, data))

    def rows(self, name: str, args: Any = None) -> list[dict[str, Any]]:
        """As ``Client.rows``."""
        return self.run(lambda there: there.rows(name, args))

    def link(self) -> SyncLink:
        """As ``Client.link``."""
        return SyncLink(self.run(lambda there: there.link()), self.timeout)
