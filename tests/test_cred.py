"""Credentials and who they make of a caller; users with passwords, over real TLS."""

from __future__ import annotations

from pathlib import Path
from time import sleep as sleep_now
from typing import Any

import pytest
from devices import Devices, in_reactor, sleep, until
from twisted.cred.checkers import FilePasswordDB, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from lanxfer.admission import Admission, Legacy, networks
from lanxfer.commands.dispatch import builtin
from lanxfer.cred import (
    AeAddress,
    AnyOf,
    IPrincipal,
    LocalUser,
    Logins,
    PageLink,
    PlainAddress,
    Realm,
    TicketBearer,
    TlsKey,
    knock,
    make_portal,
)
from lanxfer.errors import (
    AuthFailed,
    Forbidden,
    NotPaired,
    Overloaded,
    RateLimited,
    TlsRequired,
)
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.policy import LOCAL, Principal, Standing, refusal
from lanxfer.rights.file import LOOK_EVERY
from lanxfer.state import StateFolder
from lanxfer.wire import limits
from tests.test_policy import APPLICATION, MAY

pytestmark = pytest.mark.usefixtures("logged")

ADDRESS = "10.0.0.7"


def users(**passwords: str) -> Any:
    return InMemoryUsernamePasswordDatabaseDontUse(**passwords)


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    return [load_identity(StateFolder(str(tmp_path / name))).key for name in ("one", "two")]


@pytest.fixture
def peers(tmp_path: Path, keys: list[str]) -> Peers:
    found = Peers(StateFolder(str(tmp_path / "state")))
    found.add(Peer("laptop", keys[0]))
    return found


INVITED = "0" * 64


class Door:
    """A pairing that lets anybody try, and one device in."""

    welcomes = True

    def use_grant(self, key: str) -> str | None:
        return "a phone (once)" if key == INVITED else None


class KnockTests:
    @pytest.fixture
    def callers(self, peers: Peers, keys: list[str]) -> dict[Standing, Principal]:
        """One caller of each kind, each by its own credentials."""
        everything = Admission(
            peers,
            plain_from=networks(["10.0.0.0/8"]),
            legacy=Legacy.FULL,
            legacy_from=networks(["10.0.0.0/8", "127.0.0.1"]),
            tickets_plain=True,
        )
        closed, opened = make_portal(everything), make_portal(Admission(peers, open=True))
        checkers = [users(anna=b"secret")]
        with_users = make_portal(Admission(peers, users=True), checkers)
        logins = Logins(with_users, Clock(), True)
        unknown = TlsKey(keys[1], ADDRESS)
        visitor = knock(with_users, unknown)
        pairing = make_portal(Admission(peers, pairing=Door()))
        found: list[Any] = []
        Deferred.fromCoroutine(logins.login(visitor, "anna", "secret")).addBoth(found.append)
        return {
            Standing.LOCAL: knock(closed, LocalUser(None)),
            Standing.PEER: knock(closed, TlsKey(keys[0], ADDRESS)),
            Standing.GUEST: knock(opened, unknown),
            Standing.INVITED: knock(pairing, TlsKey(INVITED, ADDRESS)),
            Standing.NEWCOMER: knock(pairing, unknown),
            Standing.USER: found[0],
            Standing.VISITOR: visitor,
            Standing.LEGACY: knock(closed, AeAddress(ADDRESS)),
            Standing.LEGACY_LOCAL: knock(closed, AeAddress("127.0.0.1")),
            Standing.TICKET: knock(closed, TicketBearer(ADDRESS, False)),
            Standing.BROWSER: knock(closed, PageLink("mine", False, "1", ADDRESS)),
            Standing.BROWSER_GUEST: knock(closed, PageLink("ana", True, "2", ADDRESS)),
            Standing.STRANGER: knock(closed, unknown),
        }

    @pytest.mark.parametrize("standing", Standing)
    def test_walk(self, callers: dict[Standing, Principal], standing: Standing) -> None:
        """Whoever comes through the portal reaches what the written table says, and no more."""
        # covers: A01, A14, J20, J21, L04
        assert set(callers) == set(Standing)
        caller = callers[standing]
        assert caller.standing is standing
        assert verifyObject(IPrincipal, caller)
        commands = {*builtin(), APPLICATION}
        reached = {each for each in commands if refusal(caller, each, known=True) is None}
        assert reached == MAY[standing]

    def test_names(self, callers: dict[Standing, Principal], keys: list[str]) -> None:
        """No two kinds share a name, and each says where it came from."""
        names = [each.name for each in callers.values()]
        assert len(set(names)) == len(names)
        assert callers[Standing.PEER].name == f"peer:{keys[0]}"
        assert callers[Standing.USER].name == "user:anna"
        assert callers[Standing.VISITOR].name == f"visitor:{keys[1]}"
        assert callers[Standing.STRANGER].name == f"stranger:{keys[1]}"
        assert {each.source for each in callers.values()} == {"", ADDRESS, "127.0.0.1"}
        assert callers[Standing.LOCAL] == LOCAL

    def test_peer_stays_a_peer(self, peers: Peers, keys: list[str]) -> None:
        """A known device is what it was, whether users can log in or guests are let in."""
        for how in ({"users": True}, {"open": True}, {"users": True, "open": True}):
            portal = make_portal(Admission(peers, **how))
            assert knock(portal, TlsKey(keys[0], ADDRESS)).standing is Standing.PEER

    @pytest.mark.parametrize(
        ("shown", "error"),
        [
            (TlsKey(None, ADDRESS), NotPaired),
            (PlainAddress(ADDRESS), TlsRequired),
            (AeAddress(ADDRESS), TlsRequired),
            (TicketBearer(ADDRESS, False), TlsRequired),
            (LocalUser(-1), TlsRequired),
        ],
    )
    def test_turned_away(self, peers: Peers, shown: Any, error: type[Exception]) -> None:
        """What the service was not started for is refused at the door, with its own error."""
        # covers: A06, J07, L03
        with pytest.raises(error):
            knock(make_portal(Admission(peers)), shown)

    def test_no_other_avatar(self, peers: Peers) -> None:
        """There is no avatar but a principal."""
        with pytest.raises(NotImplementedError):
            Realm().requestAvatar(LOCAL, None)

    @pytest.mark.parametrize("name", [b"", b"a\x1bb", b"\xff", ()])
    def test_odd_user(self, name: Any) -> None:
        """A checker that lets in somebody without a printable name lets in nobody."""
        with pytest.raises((UnauthorizedLogin, UnicodeError)):
            Realm().requestAvatar(name, None, IPrincipal)


class LoginTests:
    """Everything about a login that needs no wire."""

    def logins(self, clock: Clock, peers: Peers, enabled: bool = True) -> Logins:
        portal = make_portal(Admission(peers), [users(anna=b"one"), users(bob="grüße".encode())])
        return Logins(portal, clock, enabled)

    def visitor(self, address: str = ADDRESS, secure: bool = True) -> Principal:
        return Principal(Standing.VISITOR, f"visitor:{address}", "unknown", secure, address)

    def attempt(self, logins: Logins, user: str, password: str, **who: Any) -> list[Any]:
        found: list[Any] = []
        trying = logins.login(self.visitor(**who), user, password)
        Deferred.fromCoroutine(trying).addBoth(found.append)
        return found

    @pytest.mark.parametrize(("user", "password"), [("anna", "one"), ("bob", "grüße")])
    def test_in(self, peers: Peers, user: str, password: str) -> None:
        """A name and its password, by whichever checker knows them, make a user."""
        [found] = self.attempt(self.logins(Clock(), peers), user, password)
        assert found == Principal(Standing.USER, f"user:{user}", user)

    @pytest.mark.parametrize(
        ("user", "password"),
        [
            ("anna", "two"),
            ("anna", ""),
            ("nobody", "one"),
            ("", "one"),
            ("Anna", "one"),
            ("x" * 65, "one"),
            ("anna", "one" * 1000),
            ("\ud800", "one"),
            ("anna", "\ud800"),
        ],
    )
    def test_one_refusal(self, peers: Peers, user: str, password: str) -> None:
        """Whatever is wrong, the words are the same, and so is the time they take."""
        # covers: A10
        clock = Clock()
        found = self.attempt(self.logins(clock, peers), user, password)
        clock.advance(limits.LOGIN_PAUSE - 0.01)
        assert found == []
        clock.advance(0.02)
        assert found[0].check(AuthFailed)
        assert found[0].value.reason == "That is not the password of such a user."

    def test_guessing(self, peers: Peers) -> None:
        """A source that guessed too often is not even looked at, for a while; others are."""
        # covers: A02, R08
        clock = Clock()
        logins = self.logins(clock, peers)
        tries = [self.attempt(logins, "anna", str(n)) for n in range(limits.LOGINS_BURST + 3)]
        assert [bool(each) for each in tries] == [False] * limits.LOGINS_BURST + [True] * 3
        assert all(each[0].check(RateLimited) for each in tries[limits.LOGINS_BURST :])
        assert self.attempt(logins, "anna", "one")[0].check(RateLimited)
        assert self.attempt(logins, "anna", "one", address="10.0.0.8")[0].label == "anna"
        clock.advance(1 / limits.LOGINS_RATE)
        assert self.attempt(logins, "anna", "one")[0].label == "anna"

    def test_good_ones_are_free(self, peers: Peers) -> None:
        """Whoever knows the password may come as often as they like."""
        logins = self.logins(Clock(), peers)
        for _ in range(10 * limits.LOGINS_BURST):
            assert self.attempt(logins, "anna", "one")[0].label == "anna"

    def test_not_in_plain_text(self, peers: Peers) -> None:
        """No password is looked at that everybody could read."""
        found = self.attempt(self.logins(Clock(), peers), "anna", "one", secure=False)
        assert found[0].check(TlsRequired)

    def test_not_enabled(self, peers: Peers) -> None:
        """Without --auth nobody logs in."""
        found = self.attempt(self.logins(Clock(), peers, enabled=False), "anna", "one")
        assert found[0].check(Forbidden)

    def test_cancelled(self, peers: Peers) -> None:
        """A refusal that nobody waits for any more leaves no timer behind."""
        clock = Clock()
        trying = Deferred.fromCoroutine(
            self.logins(clock, peers).login(self.visitor(), "anna", "two")
        )
        trying.addErrback(lambda why: None)
        trying.cancel()
        assert clock.getDelayedCalls() == []

    def test_chain(self) -> None:
        """A checker that fails for another reason than the password is not passed over."""

        class Broken:
            def requestAvatarId(self, credentials: object) -> Deferred[bytes]:
                failed: Deferred[bytes] = Deferred()
                failed.errback(RuntimeError("the directory is gone"))
                return failed

        found: list[Any] = []
        asked = AnyOf((Broken(), users(anna=b"one")))
        asked.requestAvatarId(UsernamePassword(b"anna", b"one")).addBoth(found.append)
        assert isinstance(found[0], Failure)
        assert found[0].check(RuntimeError)


class WireTests:
    """Users over real TLS."""

    @pytest.fixture
    def checker(self, tmp_path: Path) -> FilePasswordDB:
        path = tmp_path / "users"
        path.write_text("anna:one\nbob:two\n")
        return FilePasswordDB(str(path))

    async def start(self, devices: Devices, checker: Any, **settings: Any) -> Any:
        service = await devices.start("nas", checkers=(checker,), **settings)
        devices.pin("laptop", "nas", service.address)
        return service

    @in_reactor
    async def test_unknown_device(self, devices: Devices, checker: Any) -> None:
        """A user on a device nobody knows sends into the user's folder, and sees only its own."""
        # covers: S2-50, L02
        service = await self.start(devices, checker)
        state = devices.state("nas")
        Path(state.file("rights")).write_text("[user anna]\nfolder = people/anna\n")
        sleep_now(2 * LOOK_EVERY)
        anna = await devices.client("laptop", "nas", login=("anna", "one"))
        assert (await anna.send_file(devices.source("a.txt", b"1"))).stored == "people/anna/a.txt"
        large = devices.source("large", b"x" * 3 * 1024 * 1024)
        assert (await anna.send_file(large)).stored == "people/anna/large"
        bob = await devices.client("laptop", "nas", login=("bob", "two"))
        assert (await bob.send_file(devices.source("b.txt", b"1"))).stored == "b.txt"
        assert [row["peer"] for row in await bob.rows("history")] == ["user:bob"]
        assert any("AUTH" in each for each in service.warnings())
        with pytest.raises(Forbidden):
            await anna.call("status")
        with pytest.raises(Forbidden):
            await anna.call("login", {"user": "bob", "password": "two"})

    @in_reactor
    async def test_again_after_a_break(self, devices: Devices, checker: Any) -> None:
        """A connection that is made again is the same user's."""
        await self.start(devices, checker)
        anna = await devices.client("laptop", "nas", login=("anna", "one"))
        (await anna.connected()).transport.abortConnection()
        await sleep(0.05)
        await anna.send_file(devices.source("a.txt", b"1"))
        assert [row["peer"] for row in await anna.rows("history")] == ["user:anna"]

    @in_reactor
    async def test_known_device(self, devices: Devices, checker: Any) -> None:
        """A device that is known may say who uses it, and needs not."""
        await self.start(devices, checker)
        devices.pin("nas", "laptop")
        plain = await devices.client("laptop", "nas")
        await plain.send_file(devices.source("a.txt", b"1"))
        assert (await plain.rows("history"))[0]["peer"] == f"peer:{devices.key('laptop')}"
        answer = await plain.call("login", {"user": "anna", "password": "one"})
        assert answer.args["user"] == "anna"
        await plain.send_file(devices.source("b.txt", b"1"))
        assert [row["peer"] for row in await plain.rows("history")] == ["user:anna"]

    @in_reactor
    async def test_too_many(self, devices: Devices, checker: Any, monkeypatch: Any) -> None:
        """One user has so many connections, from whichever devices."""
        # covers: S2-50
        monkeypatch.setattr(limits, "CONNECTIONS_PER_PEER", 1)
        await self.start(devices, checker)
        devices.pin("nas", "laptop")
        await devices.client("laptop", "nas", login=("anna", "one"))
        with pytest.raises(Overloaded):
            await devices.client("laptop", "nas", login=("anna", "one"))
        await devices.client("laptop", "nas", login=("bob", "two"))

    @in_reactor
    async def test_limits_of_the_user(self, devices: Devices, checker: Any) -> None:
        """What may travel with a request is a matter of the user, once there is one."""
        await self.start(devices, checker)
        Path(devices.state("nas").file("rights")).write_text("[user bob]\noffers = ask\n")
        sleep_now(2 * LOOK_EVERY)
        anna = await devices.client("laptop", "nas", login=("anna", "one"))
        bob = await devices.client("laptop", "nas", login=("bob", "two"))
        found = [(await each.connected()).peer_limits["inline"] for each in (anna, bob)]
        assert found == [limits.INLINE_MAX, 0]

    @in_reactor
    async def test_wrong(self, devices: Devices, checker: Any) -> None:
        """A wrong password and an unknown user are told the same, and nothing can be done."""
        # covers: A01, A10
        service = await self.start(devices, checker)
        said = []
        for user, password in (("anna", "two"), ("carl", "one")):
            with pytest.raises(AuthFailed) as caught:
                await devices.client("laptop", "nas", login=(user, password))
            said.append(caught.value.reason)
        assert said[0] == said[1]
        await until(lambda: not service._now.factory.connections)

    @in_reactor
    async def test_too_often(self, devices: Devices, checker: Any) -> None:
        """Guessing ends after a few tries."""
        # covers: A02
        await self.start(devices, checker)
        tries = [
            devices.client("laptop", "nas", login=("anna", str(number)))
            for number in range(limits.LOGINS_BURST + 2)
        ]
        found = []
        for each in [Deferred.fromCoroutine(each) for each in tries]:
            try:
                await each
            except (AuthFailed, RateLimited) as error:
                found.append(type(error))
        assert sorted(each.__name__ for each in found) == (
            ["AuthFailed"] * limits.LOGINS_BURST + ["RateLimited"] * 2
        )

    @in_reactor
    async def test_without_login(self, devices: Devices, checker: Any) -> None:
        """An unknown device that does not log in can say hello, and learns how to come in."""
        # covers: A01, S2-05
        await self.start(devices, checker)
        for ask in ("pending_requests", "nonsense", "history"):
            client = await devices.client("laptop", "nas")
            with pytest.raises(NotPaired, match="--user"):
                await client.call(ask)
        client = await devices.client("laptop", "nas")
        with pytest.raises(NotPaired, match="--user"):
            await client.send_file(devices.source("a.txt", b"1"))
        assert not (devices.inbox("nas") / "a.txt").exists()

    @in_reactor
    async def test_stays_outside(self, devices: Devices, checker: Any, monkeypatch: Any) -> None:
        """A visitor counts among the unknown, and is cut off when it does not say who it is."""
        # covers: C05, J06
        monkeypatch.setattr(limits, "HEADER_TIMEOUT", 0.3)
        service = await self.start(devices, checker)
        client = await devices.client("laptop", "nas")
        connection = await client.connected()
        assert len(service._now.factory._unknown) == 1
        await until(lambda: connection.gone)
        await until(lambda: not service._now.factory._unknown)
        anna = await devices.client("laptop", "nas", login=("anna", "one"))
        assert not service._now.factory._unknown
        await sleep(0.5)
        await anna.send_file(devices.source("a.txt", b"1"))

    @in_reactor
    async def test_no_auth(self, devices: Devices) -> None:
        """Without --auth an unknown device is a stranger, and a known one cannot log in."""
        service = await devices.start("nas")
        devices.pin("laptop", "nas", service.address)
        with pytest.raises(NotPaired):
            await devices.client("laptop", "nas", login=("anna", "one"))
        devices.pin("nas", "laptop")
        with pytest.raises(Forbidden, match="--auth"):
            await devices.client("laptop", "nas", login=("anna", "one"))

    @in_reactor
    async def test_plain(self, devices: Devices, checker: Any) -> None:
        """No password leaves this device in plain text, and none is taken that comes so."""
        # covers: A06, A11
        service = await self.start(devices, checker, plain_from=("127.0.0.1",))
        with pytest.raises(TlsRequired):
            await devices.client("tablet", service.address, plain=True, login=("anna", "one"))
        client = await devices.client("tablet", service.address, plain=True)
        with pytest.raises(TlsRequired):
            await client.call("login", {"user": "anna", "password": "one"})

    def test_never_shown(self, tmp_path: Path) -> None:
        """The password shows in nothing that is printed of what holds it."""
        # covers: A11
        from lanxfer.cli.jobs import Over
        from lanxfer.connecting import Login

        shown = repr(Login("anna", "s3cret")) + repr(Over("nas", login=("anna", "s3cret")))
        assert "s3cret" not in shown
