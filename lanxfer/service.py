"""The service: everything together, under any Twisted application.

::

    service = TransferService(reactor, Settings(inbox="in"), on_message=show)
    service.setServiceParent(application)

It may be stopped and started again; each start opens the state folder and the
inbox anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.awaiting import when
from lanxfer.changing import Changing, follow_all
from lanxfer.commands.declared import table_of
from lanxfer.deferreds import public
from lanxfer.errors import BadConfig, Stopping
from lanxfer.factory import for_owner
from lanxfer.hooks.events import FINISHED, RECEIVED, Event
from lanxfer.hooks.hooks import Callback, Hooks
from lanxfer.node import Incoming, Message, OnMessage, OnOffer, Slot
from lanxfer.offers import Prompt
from lanxfer.opening import Application, admission_of, open_running, tidied
from lanxfer.pairing import Window
from lanxfer.pipes import over_descriptors
from lanxfer.policy import Principal
from lanxfer.rates import Speeds
from lanxfer.registry import Listener, ListenerToMany, Registry
from lanxfer.running import Running, warnings_of
from lanxfer.settings import Settings, default_inbox
from lanxfer.sharing import Shared
from lanxfer.storage.names import shown
from lanxfer.transfers import Conflict, Snapshot, State
from lanxfer.version import VERSION
from lanxfer.wire import limits

__all__ = [
    "Event",
    "Incoming",
    "Message",
    "Prompt",
    "Settings",
    "Slot",
    "TransferService",
    "default_inbox",
]


OnReload = Callable[["TransferService"], Deferred[Mapping[str, Sequence[str]]]]


class TransferService(Service):
    """Receives files and messages, sends them on request, and answers for both.

    ``on_offer`` is called with an ``Incoming`` before anything is taken; it may
    return a Deferred; False, or a LanxferError it raises, refuses.  ``on_message``
    is called with a ``Message``, which is answered when what it returns has
    fired.  Where ``on_offer`` returns None, or is None, the file of rights
    decides; what it lets wait for a yes is told to ``on_prompt`` as a ``Prompt``
    and decided by ``answer``.  ``on_received`` is called with an ``Event`` for each file,
    folder and link that is on the disk, ``on_finished`` for every transfer that is over;
    nothing that comes of it changes a transfer (docs/hooks.rst).
    ``commands`` is an object with methods that are marked as commands, or a table of them;
    more may be added to ``commands`` of the service while it runs.
    ``on_reload`` is called with the service when its owner wants settings to be read again
    (``lanxfer config reload``): it calls ``change``, and gives what ``reload`` fires with.
    ``on_login`` is told of every user that logs in, ``on_logout`` when that connection is
    over, however it ended.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings | None = None,
        *,
        on_offer: OnOffer | None = None,
        on_message: OnMessage | None = None,
        on_received: Callback | None = None,
        on_finished: Callback | None = None,
        on_prompt: Callable[[Prompt], object] = lambda prompt: None,
        commands: Any = None,
        on_login: Callable[[Principal], object] = lambda principal: None,
        on_logout: Callable[[Principal], object] = lambda principal: None,
        on_reload: OnReload | None = None,
    ) -> None:
        self.reactor = reactor
        self.settings = settings or Settings()
        self._on_offer = on_offer
        self._on_message = on_message
        calls = {RECEIVED: on_received, FINISHED: on_finished}
        self._callbacks = {name: each for name, each in calls.items() if each is not None}
        self._on_prompt = on_prompt
        self.commands = table_of(commands)
        self._on_login = on_login
        self._on_logout = on_logout
        self._on_reload = on_reload
        self._one_change = DeferredLock()
        self._now: Running | None = None
        self._waiting: list[Deferred[list[str]]] = []
        self._listening: list[str] | None = None
        self._failed: Failure | None = None
        self._subscribers: list[Callable[[Registry], object]] = []
        self._shares: dict[str, Shared] = {}

    # Starting.

    def startService(self) -> None:
        """Open state and inbox and listen.

        Raises BadState (also where a port is taken), BadConfig or WeakStorage;
        everything is closed again then.  An endpoint that takes its time shows
        in ``when_listening``.
        """
        self._failed = self._listening = None
        running = self._open()
        self._now = running
        follow_all(running, self.settings)
        self._hear_hooks()
        super().startService()
        opening = public(running.listen(self.settings))
        opening.addCallbacks(self._opened, self._unopened)
        if self._failed is not None:
            self.stopService()
            raise self._failed.value

    def _open(self) -> Running:
        application = Application(
            on_offer=self._on_offer,
            on_message=self._on_message,
            callbacks=self._callbacks,
            on_prompt=self._prompted,
            on_login=partial(self._heard, self._on_login),
            on_logout=partial(self._heard, self._on_logout),
            commands=self.commands,
            shares=self._shares,
            subscribers=self._subscribers,
            client=lambda args: self._running().client(args),
            settings=lambda: self.settings,
            status=self.status,
            reload=self.reload,
        )
        return open_running(self.reactor, self.settings, application)

    def _opened(self, addresses: list[str]) -> None:
        self._listening = addresses
        self.log.info(
            "lanxfer listens on {addresses}", event="listening", addresses=", ".join(addresses)
        )
        for line in self.warnings():
            self.log.warn("{reason}", event="warning", reason=line)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(addresses)

    def _unopened(self, why: Failure) -> None:
        self._failed = why
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(why)

    def when_listening(self) -> Deferred[list[str]]:
        """Fires with the addresses; fails with what kept the service from listening."""
        told: Deferred[list[str]] = Deferred()
        if self._listening is not None:
            told.callback(self._listening)
        elif self._failed is not None:
            told.errback(self._failed)
        else:
            self._waiting.append(told)
        return told

    def warnings(self) -> list[str]:
        """What the owner should know about how this service was started."""
        return warnings_of(self.settings, self._now)

    # Stopping.

    def stopService(self) -> Deferred[None]:
        """Stop listening, let transfers finish for ``drain`` seconds, then give them up.

        Fires when all is closed; unfinished files are kept for a resume.
        """
        super().stopService()
        running, self._now = self._now, None
        self._listening = None
        return succeed(None) if running is None else public(running.stop(self.settings.drain))

    # What applications ask of it.

    def when(self, id: str, *states: State) -> Deferred[Snapshot]:
        """Fire when a transfer is in one of these states; see ``lanxfer.awaiting.when``."""
        return when(self.registry, id, *states)

    def share(self, name: str, folder: Shared) -> None:
        """Share a folder of any kind under ``name``, which is its own, too; also while running.

        ``folder`` may be a function that is given the ``Principal`` and gives the folder that is
        theirs, or raises NotFound or Forbidden; it is asked for every request, and must not
        block.  Who made a folder closes it after the service has stopped.  docs/stores.rst.
        """
        known = set(self._shares) | set(self._now.shares if self._now is not None else ())
        if name.casefold() in {each.casefold() for each in known}:
            raise BadConfig(f"There are two shares of the name {name!r}.")
        self._shares[name] = folder

    @property
    def registry(self) -> Registry:
        """The transfers of the running service."""
        return self._running().registry

    @property
    def key(self) -> str:
        """This device's own key id, as ``lanxfer key show`` prints it."""
        return self._running().key

    def subscribe(self, listener: Listener) -> None:
        """Hear of every change of every transfer, over restarts too."""
        self._follow(lambda registry: registry.subscribe(listener))

    def subscribe_many(self, listener: ListenerToMany) -> None:
        """As ``subscribe``, for whoever is quicker with what happened at the same moment."""
        self._follow(lambda registry: registry.subscribe_many(listener))

    def _follow(self, subscribe: Callable[[Registry], object]) -> None:
        self._subscribers.append(subscribe)
        if self._now is not None:
            subscribe(self._now.registry)

    def offer_slot(
        self,
        path: str | None = None,
        size: int | None = None,
        expires: float = limits.TICKET_LIFETIME,
        *,
        most: int | None = None,
        not_before: float = 0.0,
        peer: str | None = None,
        keep: bool = False,
        owner: str = "",
        conflict: Conflict | None = None,
    ) -> Slot:
        """Two unguessable ids that open one upload to ``path`` below the inbox, once.

        Without a path the file gets a name of its own.  ``size`` in bytes where it is
        known, or ``most`` of them; good for ``expires`` seconds, and not in the first
        ``not_before``; only from ``peer``, an address or a network.  With ``keep`` an
        upload that broke off may be gone on with by the same ids; else nothing is left
        of it.  ``owner`` is a principal's name: the upload is then one of its transfers,
        to be seen and cancelled by it.  BadName for a path that cannot be, BadConfig for
        a ``peer`` that is none.
        """
        return self._running().node.offer_slot(
            path,
            size,
            expires,
            most=most,
            not_before=not_before,
            peer=peer,
            keep=keep,
            owner=owner,
            conflict=conflict,
        )

    def web_link(self, label: str = "browser", guest: bool = False) -> dict[str, Any]:
        """A new link to the page, good once: ``links``, one for each of its addresses.

        For the owner, or for a ``guest`` (docs/web.rst).  BadConfig where there is no page.
        """
        page = self._running().page
        if page is None:
            raise BadConfig("There is no page; start the service with --web.")
        found: dict[str, Any] = page.link(label, guest)
        return found

    def open_pairing(self, once: bool = False, name: str | None = None) -> Window:
        """Let one unknown device in that is told ``Window.code``, within two minutes.

        See ``lanxfer.pairing.Window`` for how it ends; BadConfig for a ``name`` that
        is taken.
        """
        return self._running().pairing.open(once, name)

    def prompts(self) -> list[Prompt]:
        """What waits for a yes just now and may be shown, oldest first."""
        return self._running().node.offers.prompts()

    def answer(self, id: str, yes: bool, reason: str = "") -> list[str]:
        """Say yes or no to an offer that waits; ``reason`` is for its sender.

        Gives the ids of all that was decided with it: a yes to a folder is for
        all that is sent in it.  Raises NotFound for what does not wait, Expired
        for what waited too long.
        """
        return self._running().node.answer(id, yes, reason)

    def send(self, args: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """Send as the ``send_file`` and ``send_message`` commands do (docs/protocol.rst)."""
        running = self._running()
        return public(running.outgoing.run(args))

    def serve_descriptors(self, stdin: int = 0, stdout: int = 1) -> Deferred[None]:
        """Answer at two descriptors, whose other end is then this service's owner.

        Fires when that has ended; the descriptors stay open.
        """
        connection = for_owner(self._running().factory)
        over_descriptors(connection, stdin, stdout, self.reactor)
        return connection.when_gone()

    def limit(self, **changes: int | None) -> Speeds:
        """Change speed limits from now on, by the names that ``Settings`` has for them.

        In bytes a second, None for none; gives all of them as they are then.
        """
        return self._running().node.rates.change(**changes)

    def change(self, **changes: Any) -> Deferred[tuple[str, ...]]:
        """Change settings while running, by the names that ``Settings`` has for them.

        Fires with the names of those that need a new start and were left as they are.
        Fails with BadConfig or BadState where one of them makes no sense; nothing is changed
        then.  Nothing that is under way is ended.  docs/configuration.rst says which can.
        """
        return self._one_change.run(lambda: public(self._change(changes)))

    async def _change(self, changes: Mapping[str, Any]) -> tuple[str, ...]:
        running = self._running()
        changing = Changing(
            running,
            lambda after: admission_of(after, running.dialer.peers, running.pairing),
            self._hear_hooks,
            lambda: running.tidying.also(tidied(running.node, running.opened)),
        )
        self.settings, left = await changing.change(self.settings, changes, self._shares)
        return left

    def reload(self) -> Deferred[Mapping[str, Sequence[str]]]:
        """Have what the application gave as ``on_reload`` read the settings again.

        Fires with the keys of those that ``changed``, and of those that need a
        ``restart``; fails with BadConfig where there is nothing to be read, and else as
        ``change`` does.
        """
        if self._on_reload is None:
            return fail(BadConfig("This service has no configuration file."))
        return self._on_reload(self)

    def status(self) -> dict[str, Any]:
        """About the running service, as plain values."""
        running, settings = self._running(), self.settings
        return {
            "version": VERSION,
            "device": settings.device,
            "key": running.key,
            "listening": self._listening or [],
            "inbox": os.path.abspath(settings.inbox),
            "state": os.path.abspath(settings.state),
            "free": running.store.free(),
            "pending": len(running.registry),
            "waiting": len(running.node.offers.prompts()),
            "connections": len(running.factory.connections),
            "web": [] if running.page is None else running.page.urls(),
            "metrics": running.metrics.url(),
            "discovery": "on" if running.announcing.on else running.announcing.complaint or "off",
            "sandbox": f"off: {running.unconfined}" if running.unconfined else "on",
            "warnings": self.warnings(),
        }

    # Odds and ends.

    def _running(self) -> Running:
        if self._now is None:
            raise Stopping("The service is not running.")
        return self._now

    def _hooked(self, hooks: Hooks) -> OnMessage:
        """The application's own ``on_message``, and hooks that hear of what is kept then."""

        def came(message: Message) -> Any:
            hooks.text_came(message.id, message.text)
            return None if self._on_message is None else self._on_message(message)

        return came

    def _hear_hooks(self) -> None:
        """Have them hear of everything, where they did not before."""
        running = self._running()
        if running.hooks.any and running.node.on_message is self._on_message:
            running.registry.subscribe(running.hooks.hear)
            running.node.on_message = self._hooked(running.hooks)

    def _prompted(self, prompt: Prompt) -> None:
        self.log.info(
            "{peer_name} offers {path} and waits for a yes: lanxfer accept {transfer}",
            event="offer_waits",
            peer_name=shown(prompt.label),
            path=shown(prompt.what),
            transfer=prompt.id,
        )
        self._on_prompt(prompt)

    def _heard(self, tell: Callable[[Principal], object], who: Principal) -> None:
        try:
            tell(who)
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        self.log.error("A listener failed: {reason}", event="listener_failed", reason=repr(error))
