"""Where the figures are had: a command of the owner's, and a port for scrapers if wanted."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint

from lanxfer.commands.table import Call, Command, Node, Reply
from lanxfer.connecting import Dialer
from lanxfer.deferreds import public
from lanxfer.errors import BadConfig, Forbidden, LanxferError
from lanxfer.factory import LanxferFactory
from lanxfer.metrics.counts import Counts
from lanxfer.node import ServiceNode
from lanxfer.outgoing import Outgoing
from lanxfer.policy import Standing
from lanxfer.settings import Settings
from lanxfer.wire.native import Fields

if TYPE_CHECKING:
    from lanxfer.metrics.scraping import MetricsSite

LOOK = 2.0
"""Seconds after which a disk that does not say how full it is is left out."""

BACKLOG = 16


@define(eq=False)
class Metrics:
    """The figures of one start of the service; ``site`` is there where a port was asked for.

    Raises BadConfig where a port is asked for and the extra is missing.
    """

    settings: Settings
    node: ServiceNode
    factory: LanxferFactory
    dialer: Dialer
    outgoing: Outgoing
    counts: Counts = field(factory=Counts)
    site: MetricsSite | None = None
    port: IListeningPort | None = None
    _since: float = field(init=False)
    _looking: list[Deferred[int | None]] = field(factory=list)
    _asking: bool = False

    def __attrs_post_init__(self) -> None:
        self._since = self.node.registry.clock()
        self.node.registry.subscribe_many(self.counts.hear)
        if self.settings.metrics_port is not None:
            _figures()
            from lanxfer.metrics.scraping import MetricsSite

            names = {"localhost", *(each.lower() for each in self.settings.web_names)}
            self.site = MetricsSite(self.text, frozenset(names), self.node.clock)

    def endpoint(self) -> IStreamServerEndpoint | None:
        """Where scrapers are answered; None if nowhere."""
        port, bind = self.settings.metrics_port, self.settings.metrics_bind
        if port is None:
            return None
        kind = TCP6ServerEndpoint if ":" in bind else TCP4ServerEndpoint
        made: IStreamServerEndpoint = kind(self.node.clock, port, BACKLOG, bind)
        return made

    def url(self) -> str:
        """Where they are answered, as it is written; "" if nowhere."""
        if self.port is None:
            return ""
        host: Any = self.port.getHost()
        shown = f"[{host.host}]" if ":" in host.host else host.host
        return f"http://{shown}:{host.port}/metrics"

    def warnings(self) -> list[str]:
        """What the owner should know about it."""
        try:
            closed = ip_address(self.settings.metrics_bind).is_loopback
        except ValueError:
            closed = self.settings.metrics_bind == "localhost"
        if self.settings.metrics_port is None or closed:
            return []
        return ["METRICS: whoever reaches that port may read the figures of this service."]

    def stop(self) -> None:
        """Nobody is answered any more."""
        if self.site is not None:
            self.site.abort()

    def text(self, classic: bool = False) -> Deferred[bytes]:
        """All figures as they are now, as OpenMetrics or in the older format."""
        return public(self._text(classic))

    async def _text(self, classic: bool) -> bytes:
        figures = _figures()
        free = await self._free()
        factory = self.factory
        standings = [each.principal.standing for each in factory.connections if each.principal]
        now = figures.Now(
            since=self._since,
            pending=self.node.registry.pending(),
            refused=factory.refusals.codes,
            connections=Counter(standings),
            unidentified=factory.unidentified,
            dialed=len(self.dialer.live),
            queued=self.outgoing.waiting,
            offers=len(self.node.offers.prompts()),
            free=free,
        )
        text: bytes = figures.exposition(self.counts, now, classic)
        return text

    def _free(self) -> Deferred[int | None]:
        """Ask the disk, once for all who ask meanwhile: one that hangs gets one thread."""
        told: Deferred[int | None] = Deferred()
        self._looking = [each for each in self._looking if not each.called] + [told]
        told.addTimeout(LOOK, self.node.clock)
        told.addErrback(_unknown)
        if not self._asking:
            self._asking = True
            asking: Deferred[Any] = self.node.disk.run(self.node.store.free)
            asking.addErrback(_unknown).addCallback(self._looked)
        return told

    def _looked(self, free: int | None) -> None:
        self._asking = False
        waiting, self._looking = self._looking, []
        for each in waiting:
            if not each.called:
                each.callback(free)

    def commands(self) -> dict[str, Command]:
        """What the owner may ask by way of the control socket."""
        return {"metrics.text": self._command}

    async def _command(self, call: Call, node: Node) -> Reply:
        if call.principal.standing is not Standing.LOCAL:
            raise Forbidden()
        classic = Fields(call.args).take_flag("classic")
        return Reply(body=await self.text(classic))


def _unknown(why: Any) -> None:
    why.trap(TimeoutError, LanxferError)


def _figures() -> Any:
    try:
        from lanxfer.metrics import figures
    except ImportError as error:
        raise BadConfig(
            'Figures need the extra "metrics": pip install "lanxfer[metrics]"'
            f" ({error.name} is missing)."
        ) from None
    return figures
