"""The side that comes to be paired: it knows a secret, and where the other device is.

Nothing is kept before the other side has proved the same secret on the same
connection, and what was kept goes again where the other side then refuses
(docs/protocol.rst, "Pairing").
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.task import deferLater

from lanxfer.codes import Secret
from lanxfer.connecting import Dialer, Target, greet
from lanxfer.errors import (
    AuthFailed,
    BadHeader,
    Busy,
    Forbidden,
    LanxferError,
    Lost,
    NotPaired,
    TimedOut,
)
from lanxfer.labels import label_of, pin
from lanxfer.pake import PROOF_LENGTH, SHARE_LENGTH, Agreement, Side
from lanxfer.protocol import LanxferProtocol
from lanxfer.tls import channel_of
from lanxfer.wire.packets import Args

PATIENCE = 20.0
"""Seconds for all of it, most of them in case another device is just being paired."""

_AGAIN = 1.0


@frozen
class Introduced:
    """A device that knew the secret.

    ``target`` finds it again.  With ``once`` its key was kept on neither side, and
    one connection within a minute is all there is.
    """

    name: str
    key: str
    once: bool
    target: Target


async def introduce(
    dialer: Dialer, target: Target, secret: Secret, name: str | None = None, once: bool = False
) -> Introduced:
    """Pair with whoever is at ``target`` and knows the secret.

    ``name`` is what it will be called here, else it says so itself.  ``once`` is
    whether the caller can do with a single connection; Forbidden where that is
    all there is to have and it cannot, before the words are used up.

    Raises what ``Dialer.meet`` does; NotPaired where no window is open there,
    AuthFailed where the secret is another one or somebody is in between.
    """
    connection, address = await dialer.meet(target, name)
    late = dialer.reactor.callLater(PATIENCE, _give_up, connection)
    try:
        return await _Steps(dialer, connection, address, secret, name, once).run()
    except NotPaired:
        raise NotPaired(_NOT_OPEN[secret.kind].format(where=address)) from None
    except AuthFailed:
        raise AuthFailed(_WRONG[secret.kind].format(where=address)) from None
    finally:
        if late.active():
            late.cancel()
        connection.leave(1.0)


def _give_up(connection: LanxferProtocol) -> None:
    if not connection.gone:
        connection.abort(TimedOut())


_NOT_OPEN = {
    "code": '{where} takes no pairing just now: type "lanxfer pair" there first, then this again.',
    "token": "{where} does not know this device, and takes no token.",
}
_WRONG = {
    "code": (
        "Those are not the words of {where}, or somebody is between the two devices. Nothing was"
        ' kept, and the words are used up: "lanxfer pair" there shows new ones.'
    ),
    "token": (
        "The token of {where} is not the one here, or somebody is between the two devices."
        " Nothing was kept."
    ),
}


async def dial(dialer: Dialer, target: Target, token: Secret | None) -> LanxferProtocol:
    """As ``Dialer.dial``; where the two do not know each other, a common token pairs them first."""
    try:
        return await dialer.dial(target)
    except NotPaired:
        if token is None or target.plain or target.legacy:
            raise
    found = await introduce(dialer, target, token)
    return await dialer.dial(found.target)


@frozen
class _Steps:
    """One exchange over a connection that is there."""

    dialer: Dialer
    connection: LanxferProtocol
    address: str
    secret: Secret
    name: str | None
    once: bool

    async def run(self) -> Introduced:
        run = self.dialer.disk.run
        await greet(self.connection, self.dialer.device)
        channel = channel_of(self.connection.transport)
        if channel is None:
            raise Lost()
        own = self.dialer.identity.key
        agreement = await run(Agreement, Side.ASKING, self.secret, own, channel)
        answer = await self._offer(agreement.share)
        once = answer.get("once") is True
        if once and not self.once:
            raise Forbidden(
                "Those words are for sending once, and are still good:"
                f" lanxfer send FILE {self.address}"
            )
        proofs = await run(agreement.finish, _text(answer, "share", SHARE_LENGTH), once)
        answer = await self._ask("pair_prove", {"proof": proofs.ours})
        if not proofs.check(_text(answer, "proof", PROOF_LENGTH)):
            raise AuthFailed()
        device = answer.get("device")
        return await self._keep(channel.peer, device if isinstance(device, str) else "", once)

    async def _keep(self, key: str, device: str, once: bool) -> Introduced:
        run, peers, addresses = self.dialer.disk.run, self.dialer.peers, (self.address,)
        if once:
            await self._ask("pair_keep", {})
            label = self.name or label_of(device, key)
            return Introduced(label, key, True, Target(label, addresses, key, once=True))
        known = peers.by_key(key)
        kept = await run(pin, peers, key, device, self.name, addresses)
        try:
            await self._ask("pair_keep", {})
        except (Lost, TimedOut) as error:
            raise type(error)(
                f"{self.address} knew the secret and is known here as {kept.name}, but the"
                " connection broke before it said that it knows this device, too. If it does"
                " not, pair the two again."
            ) from error
        except LanxferError:
            if known is None:
                await run(peers.forget, kept.name)
            raise
        return Introduced(kept.name, key, False, Target(kept.name, kept.addresses, key))

    async def _offer(self, share: str) -> Args:
        args = {"with": self.secret.kind, "share": share, "device": self.dialer.device}
        while True:
            try:
                return await self._ask("pair", args)
            except Busy:
                await deferLater(self.dialer.reactor, _AGAIN, lambda: None)

    async def _ask(self, name: str, args: dict[str, Any]) -> Args:
        return (await self.connection.ask(name, args).answered()).args


def _text(args: Args, name: str, length: int) -> str:
    value = args.get(name)
    if not isinstance(value, str) or len(value) != length:
        raise BadHeader("The other side's answer to the pairing is not in the protocol.")
    return value
