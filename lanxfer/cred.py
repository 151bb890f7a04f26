"""From credentials to a principal, through twisted.cred.

An avatar is a ``Principal``; what it can reach is what ``lanxfer.policy`` says,
and nothing here adds to that.  There are credentials for each way to the door:
a key shown in TLS, an address in plain text, an ae address, a ticket's bearer,
a browser with a link, the user at the other end of the control socket; and a user's name with a
password, which the checkers of ``--auth`` decide (docs/permissions.rst, "Who is
who").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import define, field, frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, classImplements, implementer

from lanxfer.admission import Admission
from lanxfer.allowance import Buckets
from lanxfer.errors import AuthFailed, Forbidden, LanxferError, RateLimited, TlsRequired
from lanxfer.policy import LOCAL, Principal, Standing
from lanxfer.rights import Rate
from lanxfer.wire import limits

NAME_MAX = 64
PASSWORD_MAX = 1024


class IPrincipal(Interface):
    """The avatar: who is on the other end."""

    standing = Attribute("what is known about it")
    name = Attribute("the same for every connection of one principal")
    label = Attribute("what people read")
    secure = Attribute("whether bytes are protected, or never left the machine")
    reach = Attribute("the names of the commands that are there for it")


classImplements(Principal, IPrincipal)


# Credentials.


class IKnock(ICredentials):
    """What a connection shows by itself, before anything was said on it."""

    def found(admission: Admission) -> Principal:
        """Who that is; raises the refusal."""


@implementer(IKnock)
@frozen
class TlsKey:
    """A key whose possession the TLS handshake proved; None where none was shown."""

    key: str | None
    address: str

    def found(self, admission: Admission) -> Principal:
        return admission.with_key(self.key, self.address)


@implementer(IKnock)
@frozen
class PlainAddress:
    """Somebody who speaks the native dialect in plain text."""

    address: str

    def found(self, admission: Admission) -> Principal:
        return _or_raise(admission.in_plain(self.address))


@implementer(IKnock)
@frozen
class AeAddress:
    """Somebody who speaks the literal dialect."""

    address: str

    def found(self, admission: Admission) -> Principal:
        return _or_raise(admission.in_literal(self.address))


@implementer(IKnock)
@frozen
class TicketBearer:
    """Somebody with a ticket; what it opens is decided when it is read."""

    address: str
    secure: bool

    def found(self, admission: Admission) -> Principal:
        return _or_raise(admission.with_ticket(self.address, self.secure))


@implementer(IKnock)
@frozen
class PageLink:
    """The link to the page that a browser was signed in by; the page saw that it was good."""

    label: str
    guest: bool
    session: str
    address: str

    def found(self, admission: Admission) -> Principal:
        standing = Standing.BROWSER_GUEST if self.guest else Standing.BROWSER
        name = f"{standing.value}:{self.session}"
        return Principal(standing, name, self.label, source=self.address)


@implementer(IKnock)
@frozen
class LocalUser:
    """The number of the user at the other end of a UNIX socket; None where it cannot be known."""

    user: int | None

    def found(self, admission: Admission | None) -> Principal:
        # Where the platform does not say, the modes of socket and folder have to do.
        if self.user is not None and self.user != os.getuid():
            raise TlsRequired("The control socket is for the service's own user.")
        return LOCAL


def _or_raise(found: Principal | LanxferError) -> Principal:
    if isinstance(found, LanxferError):
        raise found
    return found


# Checkers and the realm.


@implementer(ICredentialsChecker)
@frozen
class KnockChecker:
    """Lets in whom the service was started to let in."""

    admission: Admission
    credentialInterfaces = (IKnock,)

    def requestAvatarId(self, credentials: Any) -> Any:
        """The principal itself: it is what there is to know of one."""
        return credentials.found(self.admission)


@implementer(ICredentialsChecker)
@frozen
class AnyOf:
    """Several checkers for one kind of credentials, where a portal has room for one."""

    checkers: tuple[Any, ...]
    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._first(credentials))

    async def _first(self, credentials: Any) -> Any:
        for each in self.checkers:
            try:
                found = each.requestAvatarId(credentials)
                return (await found) if isinstance(found, Deferred) else found
            except LoginFailed:
                continue
        raise UnauthorizedLogin()


@implementer(IRealm)
class Realm:
    """What an avatar id stands for: a principal for itself, a name for the user of that name."""

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """``mind`` is the principal that the caller was before, or None."""
        if IPrincipal not in interfaces:
            raise NotImplementedError("principals are the only avatars there are")
        if isinstance(avatarId, Principal):
            return IPrincipal, avatarId, _nothing_to_do
        name = avatarId.decode("utf-8") if isinstance(avatarId, bytes) else avatarId
        if not name or not isinstance(name, str) or not name.isprintable():
            raise UnauthorizedLogin("nobody's name")
        source = mind.source if isinstance(mind, Principal) else ""
        user = Principal(Standing.USER, f"user:{name}", name, source=source)
        return IPrincipal, user, _nothing_to_do


def _nothing_to_do() -> None:
    """A principal has nothing that would have to be given back."""


def make_portal(admission: Admission, checkers: Sequence[Any] = ()) -> Portal:
    """The portal of one service; ``checkers`` are those of ``--auth``."""
    portal = Portal(Realm(), [KnockChecker(admission)])
    if checkers:
        portal.registerChecker(AnyOf(tuple(checkers)), IUsernamePassword)
    return portal


def knock(portal: Portal, credentials: Any) -> Principal:
    """Who that is, at once; raises the refusal."""
    found: list[Any] = []
    portal.login(credentials, None, IPrincipal).addBoth(found.append)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return cast(Principal, found[0][1])


@define
class Logins:
    """Names and passwords, and how often somebody may guess.

    Every refusal is the same sentence after the same time, whatever was wrong,
    and each source has so many and no more (docs/protocol.rst, "Logging in";
    catalogue A10, A11).
    """

    portal: Portal
    clock: Any
    enabled: bool = False
    _failures: Buckets = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._failures = Buckets(self.clock.seconds)

    async def login(self, before: Principal, user: str, password: str) -> Principal:
        """Who that is.

        Raises TlsRequired outside TLS, Forbidden where nobody can log in,
        RateLimited before a password is even looked at, AuthFailed.
        """
        if not before.secure:
            raise TlsRequired("A password is only said inside TLS.")
        if not self.enabled:
            raise Forbidden("Nobody can log in there; the service was started without --auth.")
        rate = Rate(limits.LOGINS_RATE, limits.LOGINS_BURST)
        failures = self._failures.of(before.source or before.name, "login", rate)
        # Taken before it is known, so that many at once are no way round it.
        if not failures.take(self.clock.seconds()):
            raise RateLimited("Too many logins failed from there; try again in a minute.")
        until = self.clock.seconds() + limits.LOGIN_PAUSE
        try:
            if not 0 < len(user) <= NAME_MAX or len(password) > PASSWORD_MAX:
                raise UnauthorizedLogin()
            said = UsernamePassword(user.encode("utf-8"), password.encode("utf-8"))
            avatar = (await self.portal.login(said, before, IPrincipal))[1]
        except (LoginFailed, UnicodeError):
            await _at(self.clock, until)
            raise AuthFailed("That is not the password of such a user.") from None
        failures.give_back()
        return cast(Principal, avatar)


def _at(clock: Any, moment: float) -> Deferred[None]:
    late: list[Any] = []
    waiting: Deferred[None] = Deferred(lambda d: late[0].cancel())
    fire: Callable[[], None] = lambda: waiting.callback(None)  # noqa: E731
    late.append(clock.callLater(max(0.0, moment - clock.seconds()), fire))
    return waiting
