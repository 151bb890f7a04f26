"""Who may come in at the page's door, and which requests are looked at at all.

Everything here is decided from the headers (security design, section 9; catalogue
W02, W03, W06, W07, W09).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address

from attrs import define, field, frozen
from twisted.cred.portal import Portal

from lanxfer.admission import bare
from lanxfer.allowance import Buckets
from lanxfer.cred import PageLink, knock
from lanxfer.errors import AuthFailed, Forbidden, LanxferError, RateLimited
from lanxfer.policy import Principal, Standing
from lanxfer.rights import Rate
from lanxfer.wire import limits

COOKIE = "__Host-lanxfer"
TOKEN_HEADER = "X-Lanxfer-Token"

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


class Misdirected(LanxferError):
    """The request was meant for somebody else."""

    code = "misdirected"


@frozen
class Asked:
    """What the headers of one request say; ``local`` is the address it came to."""

    method: str
    path: str
    hosts: tuple[str, ...]
    local: str
    source: str
    cookies: tuple[str, ...] = ()
    token: str = ""
    origins: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()


@frozen(eq=False)
class Session:
    """A browser that is signed in; ``token`` is what its page shows besides the cookie."""

    id: str
    token: str = field(repr=False)
    principal: Principal
    until: float

    @property
    def guest(self) -> bool:
        return self.principal.standing is Standing.BROWSER_GUEST


@frozen
class _Link:
    label: str
    guest: bool
    until: float


def _digest(secret: str) -> str:
    # Looked up by digest, so that how long that takes says nothing about the secret.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@define(eq=False)
class Gate:
    """Links, sessions and the rules for requests; ``seconds`` is a clock that never jumps.

    ``names`` are the host names that are this device's besides the addresses; ``port`` is
    the one it listens on.  ``on_end`` hears of each session that is over.
    """

    seconds: Callable[[], float]
    names: frozenset[str]
    portal: Portal
    port: int = 0
    on_end: Callable[[Session], object] = lambda session: None
    _links: OrderedDict[str, _Link] = field(factory=OrderedDict)
    _sessions: OrderedDict[str, Session] = field(factory=OrderedDict)
    _guesses: Buckets = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._guesses = Buckets(self.seconds)

    # Requests.

    def check(self, asked: Asked, public: bool = False) -> None:
        """Raise what the request is refused with, whoever sent it.

        ``public`` ones are the files of the page itself, which another page may link to.
        """
        host = self._check_host(asked)
        sites = set(asked.sites)
        if asked.method in SAFE:
            if not public and not sites <= {"same-origin", "none"}:
                raise Forbidden("That is not for other pages.")
            return
        if not sites <= {"same-origin"} or not set(asked.origins) <= {f"https://{host}"}:
            raise Forbidden("That is not for other pages.")

    def _check_host(self, asked: Asked) -> str:
        if len(asked.hosts) != 1:
            raise Misdirected()
        host = asked.hosts[0].lower()
        name, port = host_and_port(host)
        if port != self.port:
            raise Misdirected()
        local = bare(asked.local)
        try:
            # The address of this very connection: no name service has had a say in it.
            known = ip_address(name.strip("[]")) == ip_address(local)
        except ValueError:
            known = name in self.names or (name == "localhost" and ip_address(local).is_loopback)
        if not known:
            raise Misdirected()
        return host

    def session(self, asked: Asked) -> Session:
        """Whose request that is; AuthFailed for nobody's, Forbidden without the page's token."""
        now = self.seconds()
        for cookie in asked.cookies:
            found = self._sessions.get(_digest(cookie))
            if found is None:
                continue
            if found.until <= now:
                self.end(found)
                continue
            if asked.method not in SAFE and not hmac.compare_digest(
                found.token.encode(), asked.token.encode("utf-8", "surrogateescape")
            ):
                raise Forbidden("The request does not have the token of its page.")
            return found
        raise AuthFailed("Nobody is signed in here; a link from the device signs in.")

    # Signing in and out.

    def link(self, label: str = "browser", guest: bool = False) -> str:
        """The secret of a new link, good once."""
        code = secrets.token_urlsafe(16)
        until = self.seconds() + limits.WEB_LINK_LIFETIME
        self._links[_digest(code)] = _Link(label, guest, until)
        if len(self._links) > limits.WEB_LINKS:
            self._links.popitem(last=False)
        return code

    def sign_in(self, code: str, source: str) -> tuple[Session, str]:
        """A new session and its cookie for the secret of a link.

        RateLimited before anything is looked at, AuthFailed whatever is wrong.
        """
        now = self.seconds()
        rate = Rate(limits.LOGINS_RATE, limits.LOGINS_BURST)
        guesses = self._guesses.of(source, "link", rate)
        if not guesses.take(now):
            raise RateLimited("Too many links from there were not good; try again in a minute.")
        link = self._links.pop(_digest(code), None)
        if link is None or link.until <= now:
            raise AuthFailed(
                'That link is not good any more: each works once, for ten minutes. "lanxfer web'
                ' link" on the device makes a new one.'
            )
        guesses.give_back()
        who = PageLink(link.label, link.guest, secrets.token_hex(4), source)
        principal = knock(self.portal, who)
        cookie = secrets.token_urlsafe(32)
        until = now + limits.WEB_SESSION_LIFETIME
        found = Session(_digest(cookie), secrets.token_urlsafe(24), principal, until)
        self._sessions[found.id] = found
        if len(self._sessions) > limits.WEB_SESSIONS:
            self.end(next(iter(self._sessions.values())))
        return found, cookie

    def end(self, session: Session) -> None:
        """Sign it out; twice is fine."""
        if self._sessions.pop(session.id, None) is not None:
            self.on_end(session)

    def end_all(self) -> int:
        """Sign everybody out, and make all links worthless; how many were signed in."""
        self._links.clear()
        ending = list(self._sessions.values())
        for each in ending:
            self.end(each)
        return len(ending)


def host_and_port(host: str) -> tuple[str, int]:
    """Name and port; -1 for a port that is none."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host, 443
    return name, int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1
