"""Files that a browser sends: one ``recv_slot`` an upload, fed by one request after the other.

The bytes meet the same command, the same consent and the same part file as those of any
other transfer; what is here is only where they come from.  An upload outlives the requests
that carry it: for a minute its place is kept, then the transfer is interrupted, and the next
request begins it again where it was (docs/web.rst, "With other programs").
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.calls import IncomingCall
from lanxfer.commands.dispatch import run
from lanxfer.commands.table import Table
from lanxfer.deferreds import public
from lanxfer.errors import (
    BadOffset,
    Cancelled,
    Expired,
    Internal,
    LanxferError,
    Lost,
    NotFound,
    Overloaded,
    TimedOut,
    TooLarge,
    TooSlow,
)
from lanxfer.node import ServiceNode, Slot
from lanxfer.policy import Principal, refusal
from lanxfer.storage.names import part_key
from lanxfer.transfers import Stored
from lanxfer.web.gate import Session
from lanxfer.web.tus import Checksum, ChecksumMismatch
from lanxfer.wire import limits
from lanxfer.wire.packets import Args, Do, End, Go, Packet

_log = Logger()


class _Ear:
    """Where a call says what a connection would have to write; only ``Go`` matters here."""

    crowded = False

    def __init__(self, on_go: Callable[[Go], None]) -> None:
        self._on_go = on_go

    def say(self, packet: Packet, *rest: object) -> None:
        if isinstance(packet, Go):
            self._on_go(packet)


class UploadCall(IncomingCall):
    """A ``recv_slot`` whose bytes are handed to it."""

    def __init__(
        self,
        node: ServiceNode,
        principal: Principal,
        args: Args,
        on_moved: Callable[[int], None],
        on_going: Callable[[], None],
    ) -> None:
        ear: Any = _Ear(self._go)
        do = Do(1, "recv_slot", args)
        super().__init__(do, principal, None, False, ear, node.disk, node.clock, on_moved)
        self._on_going = on_going
        self.going = False

    def _go(self, go: Go) -> None:
        # The offset is the receiver's word: who sends was told where it begins.
        self._choose(max((at for at, _ in go.have), default=0))
        self.going = True
        self._on_going()

    def received(self, data: bytes) -> None:
        super().received(data)
        self.got += len(data)

    @property
    def takes(self) -> bool:
        """Whether more bytes are wanted just now."""
        writer = self.writer
        return writer is not None and self.hungry and writer.waiting < limits.WINDOW

    @property
    def held_back(self) -> bool:
        """Somebody paused it."""
        return self._paused


@define(eq=False)
class Body:
    """The bytes of one request on their way into an upload.

    ``flow`` is told whether the request should be read on; ``cut`` ends it with an answer.
    """

    upload: Upload
    begins: int
    """Where in the upload."""
    checksum: Checksum | None
    flow: Callable[[bool], object]
    cut: Callable[[LanxferError], object]
    got: int = 0
    _early: list[bytes] = field(factory=list)
    _checked: bytearray = field(factory=bytearray)
    _slowed: bool = False
    _meters: Any = None
    _watch: IDelayedCall | None = None
    _watched: int = 0

    def begin(self) -> None:
        """The headers were good; bytes may come."""
        node, principal = self.upload.uploads.node, self.upload.session.principal
        self._meters = node.rates.join(principal)
        self._watch = node.clock.callLater(limits.BODY_IDLE_TIMEOUT, self._look)
        self.look()

    def received(self, data: bytes) -> None:
        """Some bytes; raises what the request has to end with."""
        upload = self.upload
        self.got += len(data)
        waiting = len(self._checked) + sum(map(len, self._early))
        if upload.offset + waiting + len(data) > upload.size:
            raise TooLarge("More bytes came than the upload was said to have.")
        if self.checksum is not None:
            upload.uploads.hold(len(data))
            self._checked += data
            if len(self._checked) > limits.WEB_CHECKED_MAX:
                raise TooLarge("A part with a checksum has at most 16 MiB.")
        else:
            self._early.append(data)
            self._give()
        meter = self._meters[0]
        meter.spend(len(data))
        if meter.allowance <= 0 and not self._slowed:
            self._slowed = True
            meter.ask(self._go_on)
        self.look()

    def _give(self) -> None:
        call = self.upload.call
        if call is not None and call.going:
            early, self._early = self._early, []
            for each in early:
                call.received(each)
            self.upload.moved()

    def _go_on(self) -> None:
        self._slowed = False
        self.look()

    def look(self) -> None:
        """Read on or not, as it is now."""
        call = self.upload.call
        if call is not None and call.going:
            self._give()
        self.flow(not self._slowed and call is not None and call.takes)

    def complete(self) -> None:
        """All of the request came; raises where its checksum says that it is not right."""
        if self.checksum is not None:
            data, self._checked = bytes(self._checked), bytearray()
            self.upload.uploads.hold(-len(data))
            if not self.checksum.holds(data):
                raise ChecksumMismatch()
            self.checksum = None
            self._early.append(data)
        self._give()

    def over(self) -> None:
        """It is done with, however it went."""
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        if self._meters is not None:
            node, principal = self.upload.uploads.node, self.upload.session.principal
            node.rates.leave(principal, self._meters)
            self._meters = None
        self.upload.uploads.hold(-len(self._checked))
        self._checked = bytearray()
        self.upload.left(self)

    def _look(self) -> None:
        """A body that does not come, or hardly does, is given up (docs/protocol.rst, "Limits")."""
        call = self.upload.call
        came = self.got - self._watched
        waits = call is None or not call.takes or self._slowed
        if waits or came >= limits.RATE_LEAST * limits.BODY_IDLE_TIMEOUT:
            self._watched = self.got
            clock = self.upload.uploads.node.clock
            self._watch = clock.callLater(limits.BODY_IDLE_TIMEOUT, self._look)
        else:
            self.cut(TooSlow() if came else TimedOut())


@define(eq=False)
class Upload:
    """One file, from the request that announced it until it is here or given up."""

    uploads: Uploads
    session: Session
    slot: Slot
    size: int
    metadata: str
    tag: str
    """What its page knows the transfer by, however often that is begun again."""
    expires: float
    """Seconds since the epoch."""

    call: UploadCall | None = None
    body: Body | None = None
    stored: Mapping[str, Any] | None = None
    error: LanxferError | None = None
    given_up: LanxferError | None = None
    _going: list[Deferred[None]] = field(factory=list)
    _ending: list[Deferred[None]] = field(factory=list)
    _patience: IDelayedCall | None = None

    @property
    def id(self) -> str:
        return (self.slot.session + self.slot.file).replace("-", "")

    @property
    def offset(self) -> int:
        """Bytes that are here and can be gone on with; all of them while it is being stored."""
        if self.stored is not None:
            return self.size
        if self.call is not None and self.call.going:
            return self.call.got
        return self.slot.held

    @property
    def storing(self) -> bool:
        """All of it is here, and on its way to its name."""
        return self.call is not None and self.call.going and self.call.got == self.size

    @property
    def over(self) -> bool:
        """Nothing more can be sent."""
        return self.stored is not None or self.given_up is not None or self.slot.done.called

    # One run of the command.

    def begin(self) -> Deferred[None]:
        """Have the command take it; fires when bytes are wanted, or it is done already."""
        self.error = None
        slot = self.slot
        args = {"session": slot.session, "file": slot.file, "size": self.size, "resume": True}
        if self.tag:
            args["request"] = self.tag
        node = self.uploads.node
        principal = self.session.principal
        self.call = call = UploadCall(node, principal, args, self._moved, self._went)
        going: Deferred[None] = Deferred(lambda d: call.stop(Cancelled("The browser went away.")))
        self._going.append(going)
        running = public(run(call, node, self.uploads.table))
        running.addCallbacks(self._ended_well, self._ended_badly)
        return going

    def _went(self) -> None:
        if self.offset == self.size:
            self._all_came()
        else:
            if self.body is not None and self.body.begins != self.offset:
                # What was held when the request came is not there any more.
                self.body.cut(self._elsewhere())
            self._tell(self._going)
            if self.body is None:
                self._wait()
            else:
                self.body.look()

    def moved(self) -> None:
        """Bytes came."""
        if self.storing:
            self._all_came()

    def _all_came(self) -> None:
        if self.call is not None:
            self.call.end(End(1, self.size, None))

    def _moved(self, change: int) -> None:
        if self.body is not None:
            self.body.look()
        elif self.call is not None and self.call.going:
            self._wait()

    def _ended_well(self, reply: Any) -> None:
        self.stored, self.call = reply.args, None
        self._over()

    def _ended_badly(self, why: Failure) -> None:
        if not isinstance(why.value, LanxferError):
            _log.failure("An upload failed.", event="page_failed", failure=why)
        self.error = why.value if isinstance(why.value, LanxferError) else Internal()
        self.call = None
        self._over()
        if self.body is not None:
            self.body.cut(self.error)

    def _over(self) -> None:
        self._stop_waiting()
        for each in (self._going, self._ending):
            self._tell(each)

    def _tell(self, waiting: list[Deferred[None]]) -> None:
        told, waiting[:] = list(waiting), []
        for each in told:
            if each.called:
                continue
            if self.error is not None:
                each.errback(self.error)
            else:
                each.callback(None)

    # The requests that carry it.

    def accept(
        self,
        offset: int,
        length: int | None,
        checksum: Checksum | None,
        flow: Callable[[bool], object],
        cut: Callable[[LanxferError], object],
    ) -> Body:
        """A request with bytes from ``offset`` on; raises what it is refused with."""
        self.interrupt()
        if self.stored is not None:
            # What its browser took for lost had arrived after all; asking again shows that.
            raise BadOffset("The upload is complete.", have=self.size)
        if self.over:
            raise self.given_up or self.error or Expired("That upload is over.")
        if offset != self.offset:
            raise self._elsewhere()
        if length is not None and length > self.size - offset:
            raise TooLarge("More bytes are announced than the upload was said to have.")
        if length is not None and checksum is not None and length > limits.WEB_CHECKED_MAX:
            raise TooLarge("A part with a checksum has at most 16 MiB.")
        self._stop_waiting()
        self.body = Body(self, offset, checksum, flow, cut)
        if self.call is None:
            self.begin().addErrback(lambda why: None)  # the body is cut then
        if self.error is not None:
            self.body = None
            raise self.error
        self.body.begin()
        return self.body

    def interrupt(self) -> None:
        """A new request of the same browser: the one before is dead, whoever may not know yet.

        One that brought the end is not: it hears what becomes of the file.
        """
        if self.body is not None and not self.storing:
            self.body.cut(Lost("Another request goes on with that upload."))

    def _elsewhere(self) -> BadOffset:
        return BadOffset(f"The upload goes on at {self.offset}.", have=self.offset)

    async def taken(self, body: Body) -> None:
        """Wait until what a complete request brought is here; all of the file: until it is kept."""
        body.complete()
        if self.call is not None and not self.call.going:
            going: Deferred[None] = Deferred()
            self._going.append(going)
            await going
            if self.body is not body:
                raise CancelledError  # it was answered meanwhile, and brings nothing any more
            body.look()
        if self.error is not None:
            raise self.error
        await self.ended()

    async def ended(self) -> None:
        """Wait until it is stored, if all of it is here; raises why it is not."""
        if self.storing:
            ended: Deferred[None] = Deferred()
            self._ending.append(ended)
            await ended

    def left(self, body: Body) -> None:
        """A request is over."""
        if self.body is body:
            self.body = None
            if self.call is not None and self.call.going:
                self._wait()

    def _wait(self) -> None:
        """Keep the place for a while; for as long as there are addresses if it was paused."""
        self._stop_waiting()
        call = self.call
        if call is not None and not call.held_back and call.got < self.size:
            lost = Lost("The browser went away; the upload goes on when it is back.")
            clock = self.uploads.node.clock
            self._patience = clock.callLater(limits.WEB_PATIENCE, call.stop, lost)

    def _stop_waiting(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._patience = None

    def give_up(self, error: LanxferError) -> None:
        """Keep nothing of it."""
        self.given_up = error
        if self.call is not None:
            self.call.stop(error)
        elif not self.slot.done.called:
            self.slot.done.cancel()


@define(eq=False)
class Uploads:
    """All that browsers are sending; ``table`` has the command that takes a file."""

    node: ServiceNode
    table: Table
    _open: dict[str, Upload] = field(factory=dict)
    _over: OrderedDict[str, Upload] = field(factory=OrderedDict)
    _held: int = 0

    async def create(
        self, session: Session, path: str, size: int, metadata: str, tag: str = ""
    ) -> tuple[Upload, Deferred[None]]:
        """A new upload, and when it was accepted; raises what it is refused with."""
        principal = session.principal
        refused = refusal(principal, "recv_slot", True)
        if refused is not None:
            raise refused
        if sum(each.session is session for each in self._open.values()) >= limits.WEB_UPLOADS:
            raise Overloaded("Too many uploads of this browser are begun already.")
        if size > await self.node.disk.run(self.node.store.free):
            raise TooLarge("There is not so much space on the receiving side.")
        lifetime = limits.TICKET_LIFETIME
        slot = self.node.offer_slot(path, size, lifetime, keep=True, owner=principal.name)
        expires = self.node.registry.clock() + lifetime
        upload = Upload(self, session, slot, size, metadata, tag, expires)
        self._open[upload.id] = upload
        slot.done.addCallbacks(
            self._done, self._failed, callbackArgs=(upload,), errbackArgs=(upload,)
        )
        return upload, upload.begin()

    def find(self, id: str, session: Session) -> Upload:
        """The upload of that id; NotFound for that of another session as for none."""
        found = self._open.get(id) or self._over.get(id)
        if found is None or found.session is not session:
            raise NotFound("There is no such upload.")
        return found

    def hold(self, size: int) -> None:
        """Keep so many more bytes in memory; Overloaded where that would be too many."""
        if size > 0 and self._held + size > limits.WEB_CHECKED_ALL:
            raise Overloaded("Too many parts with checksums are under way; try again.")
        self._held += size

    def end(self, session: Session) -> None:
        """It was signed out: what is under way of it is given up."""
        for each in [each for each in self._open.values() if each.session is session]:
            each.interrupt()
            each.give_up(Cancelled("That browser was signed out."))

    def stop(self, error: LanxferError) -> None:
        """The service stops; what came is kept as long as it lies there."""
        for each in list(self._open.values()):
            each.interrupt()
            if each.call is not None:
                each.call.stop(error)
            with suppress(NotFound):
                each._stop_waiting()

    def _done(self, stored: Stored, upload: Upload) -> None:
        self._close(upload)

    def _failed(self, why: Failure, upload: Upload) -> None:
        if upload.error is None and isinstance(why.value, LanxferError):
            upload.error = why.value
        self._close(upload)
        # A ticket that ran out between two requests leaves its part behind.
        key = part_key(f"ticket:{upload.slot.session}", upload.slot.path, upload.size, None)
        forgetting = self.node.disk.run(self.node.store.forget, key)
        forgetting.addErrback(
            lambda why: _log.failure("A part was not removed.", event="page_failed", failure=why)
        )

    def _close(self, upload: Upload) -> None:
        if self._open.pop(upload.id, None) is not None:
            self._over[upload.id] = upload
            if len(self._over) > limits.WEB_UPLOADS_OVER:
                self._over.popitem(last=False)
