"""The page as a part of the service: where it listens, and what its owner says to it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from attrs import define, field
from twisted.cred.portal import Portal
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint

from lanxfer.commands.table import Call, Command, Node, Reply, Table
from lanxfer.errors import BadConfig, Forbidden, NotFound, Stopping
from lanxfer.keys import short_key
from lanxfer.node import ServiceNode
from lanxfer.peers import Peers, format_address, parse_name
from lanxfer.policy import Standing
from lanxfer.settings import Settings
from lanxfer.state import StateFolder
from lanxfer.storage.names import shown
from lanxfer.transfers import Direction, Kind, State, Stored
from lanxfer.web.gate import Gate, Session
from lanxfer.web.http import PageSite
from lanxfer.web.live import Live
from lanxfer.web.pages import Pages
from lanxfer.web.tls import PageKey, load_page_key
from lanxfer.web.uploads import Uploads
from lanxfer.wire import limits
from lanxfer.wire.native import Fields

BACKLOG = 128
PREVIEW = 200


@define(eq=False)
class Page:
    """The page of one start of the service; see ``open_page``."""

    settings: Settings
    node: ServiceNode
    key: PageKey
    gate: Gate
    uploads: Uploads
    live: Live
    pages: Pages
    site: PageSite
    port: IListeningPort | None = field(default=None)

    def endpoint(self) -> IStreamServerEndpoint:
        """Where it listens."""
        settings = self.settings
        reactor = self.node.clock
        made: IStreamServerEndpoint = SSL4ServerEndpoint(
            reactor, settings.web_port, self.key.options, BACKLOG, settings.web_bind
        )
        return made

    def opened(self, port: IListeningPort) -> None:
        """It listens there."""
        self.port = port
        host: Any = port.getHost()
        self.gate.port = host.port
        self.live.start()

    def stop(self) -> None:
        """Nobody is answered any more; what came of a file is kept as an interruption keeps it."""
        self.live.stop()
        self.uploads.stop(Stopping())
        self.site.abort()

    def urls(self) -> list[str]:
        """The addresses of the page as a person types them, the likeliest first."""
        settings, port = self.settings, self.gate.port
        bind = settings.web_bind
        try:
            every = ip_address(bind).is_unspecified
        except ValueError:
            every = not bind
        hosts = [*settings.web_names, *(_addresses() if every else [bind])]
        return [f"https://{format_address(each, port)}/" for each in hosts or ["127.0.0.1"]]

    def link(self, label: str = "browser", guest: bool = False) -> dict[str, Any]:
        """A new link, as ``lanxfer web link`` prints it."""
        code = self.gate.link(label, guest)
        return {
            "links": [f"{url}#{code}" for url in self.urls()],
            "seconds": int(limits.WEB_LINK_LIFETIME),
            "fingerprint": self.key.fingerprint,
            "guest": guest,
            "label": label,
        }

    def say(self, text: str, label: str | None = None) -> int:
        """Show a text on all open pages, or on those called so; NotFound where there is none."""
        registry = self.node.registry
        size = len(text.encode("utf-8", "surrogatepass"))
        peer = "browser" if label is None else f"browser:{label}"
        transfer = registry.open(Direction.OUT, Kind.MESSAGE, peer, shown(text[:PREVIEW]), size)
        transfer.enter(State.ACCEPTED)
        pages = self.live.say(text, transfer.id, label)
        if not pages:
            error = NotFound("Nobody has the page open just now.")
            transfer.retire(State.FAILED, error=error)
            raise error
        transfer.retire(State.DONE, stored=Stored("", size, ""))
        return pages

    def commands(self) -> Mapping[str, Command]:
        """What the owner may say to it, by way of the control socket."""
        return {"web.link": self._link, "web.say": self._say, "web.end": self._end}

    async def _link(self, call: Call, node: Node) -> Reply:
        _check_owner(call)
        fields = Fields(call.args)
        label = parse_name(fields.maybe_text("label", most=64) or "browser")
        return Reply(self.link(label, fields.take_flag("guest")))

    async def _say(self, call: Call, node: Node) -> Reply:
        _check_owner(call)
        fields = Fields(call.args)
        text = fields.take_text("text", most=limits.MESSAGE_MAX)
        return Reply({"pages": self.say(text, fields.maybe_text("label", most=64))})

    async def _end(self, call: Call, node: Node) -> Reply:
        _check_owner(call)
        return Reply({"ended": self.gate.end_all()})


def open_page(
    settings: Settings, node: ServiceNode, state: StateFolder, table: Table, portal: Portal
) -> Page:
    """The page of a service that starts; it listens when its ``endpoint`` does.

    Raises BadState for a damaged key, BadConfig for a name that is none.
    """
    names = [each.lower() for each in settings.web_names]
    for each in names:
        if not each or any(c in each for c in ":/ #[]"):
            raise BadConfig(f"--web-name {each!r} is no name of a host.")
    peers = Peers(state)

    def label_of(principal: str) -> str:
        kind, _, key = principal.partition(":")
        known = peers.by_key(key) if kind == "peer" else None
        if known is not None:
            return known.name
        return f"unknown {short_key(key)}" if kind in ("peer", "guest") else kind

    key = load_page_key(state, ["localhost", settings.web_bind or "127.0.0.1", *names])
    gate = Gate(node.clock.seconds, frozenset(names), portal)
    uploads, live = Uploads(node, table), Live(node, label_of)
    pages = Pages(node, table, gate, uploads, live)
    site = PageSite(pages.app.resource(), pages.opened, node.clock)

    def ended(session: Session) -> None:
        live.end(session)
        pages.forget(session)
        uploads.end(session)

    gate.on_end = ended
    return Page(settings, node, key, gate, uploads, live, pages, site)


def _check_owner(call: Call) -> None:
    if call.principal.standing is not Standing.LOCAL:
        raise Forbidden()


def _addresses() -> list[str]:
    """Those of this machine's networks, and then of the machine itself."""
    import ifaddr

    found = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            ip = ip_address(text)
            if not ip.is_link_local and ip.version == 4:
                found.append((ip.is_loopback, text))
    return [text for _, text in sorted(found)]
