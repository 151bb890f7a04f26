"""The window on a clock of its own: one guess, two minutes, one exchange at a time."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from lanxfer.codes import Secret, code_secret, new_code
from lanxfer.errors import (
    AuthFailed,
    BadConfig,
    BadHeader,
    Busy,
    Cancelled,
    Expired,
    Forbidden,
    LanxferError,
    Lost,
    NotPaired,
    Stopping,
)
from lanxfer.labels import pin
from lanxfer.pairing import LOUD, Pairing, Window
from lanxfer.pake import Agreement, Channel, Proofs, Side
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder
from lanxfer.wire import limits

OURS = "B" * 51 + "A"
TOKEN = Secret("token", b"0123456789abcdef0123456789abcdef")


class Home:
    """The answering side."""

    def __init__(self, folder: Path, token: Secret | None = None) -> None:
        self.clock = Clock()
        self.peers = Peers(StateFolder(str(folder / "state")))
        self.pairing = Pairing(OURS, "nas", self.peers, self.clock, maybeDeferred, token)

    def now(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What it comes to when the time it takes has passed."""
        found: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(found.append)
        self.clock.advance(limits.PAIR_REPLY)
        assert found, "it waits for something else than time"
        if hasattr(found[0], "raiseException"):
            found[0].raiseException()
        return found[0]

    def opened(self, **how: Any) -> tuple[Window, list[Any]]:
        """An open window, and where its end will be."""
        window = self.pairing.open(**how)
        ends: list[Any] = []
        window.outcome.addCallbacks(ends.append, lambda why: ends.append(why.value))
        return window, ends


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


class Guest:
    """The side that comes, over a connection of its own."""

    def __init__(self, home: Home, letter: str = "C", device: str = "laptop") -> None:
        self.home = home
        self.key = letter * 51 + "A"
        self.device = device
        self.channel = Channel(self.key, letter.encode() * 32)
        self.proofs: Proofs | None = None

    def begin(self, secret: Secret) -> bool:
        theirs = evolve(self.channel, peer=OURS)
        agreement = Agreement(Side.ASKING, secret, self.key, theirs)
        pairing = self.home.pairing
        share, once = self.home.now(
            pairing.begin(self.channel, secret.kind, agreement.share, self.device)
        )
        self.proofs = agreement.finish(share, once)
        return bool(once)

    def prove(self) -> None:
        assert self.proofs is not None
        said = self.home.now(self.home.pairing.prove(self.channel, self.proofs.ours))
        assert self.proofs.check(said)

    def keep(self) -> None:
        self.home.now(self.home.pairing.keep(self.channel))

    def pair(self, secret: Secret) -> None:
        self.begin(secret)
        self.prove()
        self.keep()


def known(home: Home) -> list[str]:
    return [each.name for each in home.peers.all()]


def words_of(window: Window) -> Secret:
    return code_secret(window.code)


def other_words(window: Window) -> Secret:
    return code_secret(next(code for code in iter(new_code, "") if code != window.code))


class WindowTests:
    def test_right(self, home: Home) -> None:
        """Who knows the words is known afterwards, and the window is closed."""
        window, ends = home.opened()
        guest = Guest(home)
        guest.begin(words_of(window))
        assert known(home) == []
        guest.prove()
        assert (known(home), ends) == ([], [])
        guest.keep()
        assert ends == [{"peer": "laptop", "key": guest.key, "once": False}]
        assert home.peers.find("laptop").key == guest.key
        assert not home.pairing.welcomes

    def test_wrong(self, home: Home) -> None:
        """One wrong guess, and the words are good for nobody any more."""
        # covers: A02, A04, F20
        window, ends = home.opened()
        guest = Guest(home)
        guest.begin(other_words(window))
        with pytest.raises(AuthFailed):
            guest.prove()
        assert isinstance(ends[0], AuthFailed) and not home.pairing.welcomes
        for next_one in (guest, Guest(home, "D")):
            with pytest.raises(NotPaired):
                next_one.begin(words_of(window))
        with pytest.raises(Forbidden):
            guest.prove()
        assert known(home) == []

    def test_wrong_twice(self, home: Home) -> None:
        """The second wrong guess within ten minutes is said loudly, one much later is not."""
        # covers: A02
        said = []
        for pause in (0, 60, 700):
            home.clock.advance(pause)
            window, ends = home.opened()
            guest = Guest(home)
            guest.begin(other_words(window))
            with pytest.raises(AuthFailed):
                guest.prove()
            said.append(LOUD in ends[0].reason)
        assert said == [False, True, False]

    def test_closed(self, home: Home) -> None:
        """Before a window was opened nobody is welcome."""
        # covers: A02
        assert not home.pairing.welcomes
        with pytest.raises(NotPaired):
            Guest(home).begin(code_secret("maple-orbit-tundra"))
        with pytest.raises(Forbidden):
            home.now(home.pairing.prove(Guest(home).channel, "0" * 64))
        with pytest.raises(Forbidden):
            Guest(home).keep()

    def test_late(self, home: Home) -> None:
        """After two minutes the words are void."""
        window, ends = home.opened()
        home.clock.advance(limits.PAIR_WINDOW - 0.01)
        assert home.pairing.welcomes
        home.clock.advance(0.01)
        assert isinstance(ends[0], Expired) and not home.pairing.welcomes
        with pytest.raises(NotPaired):
            Guest(home).begin(words_of(window))

    def test_in_time(self, home: Home) -> None:
        """An exchange that began in time may end after it."""
        window, ends = home.opened()
        guest = Guest(home)
        home.clock.advance(limits.PAIR_WINDOW - limits.PAIR_REPLY)
        guest.begin(words_of(window))
        home.clock.advance(1)
        guest.prove()
        guest.keep()
        assert ends[0]["peer"] == "laptop"

    def test_in_time_and_gone(self, home: Home) -> None:
        """One that began in time and leads nowhere does not keep the window open."""
        window, ends = home.opened()
        home.clock.advance(limits.PAIR_WINDOW - 1)
        Guest(home).begin(words_of(window))
        home.clock.advance(limits.PAIR_EXCHANGE)
        assert isinstance(ends[0], Expired) and not home.pairing.welcomes

    def test_new_words(self, home: Home) -> None:
        """A second window has other words and ends the first."""
        first, ends = home.opened()
        guest = Guest(home)
        guest.begin(words_of(first))
        second, _ = home.opened()
        assert isinstance(ends[0], Cancelled) and first.code != second.code
        with pytest.raises(Forbidden):
            guest.prove()
        guest.pair(words_of(second))
        assert known(home) == ["laptop"]

    def test_taken_back(self, home: Home) -> None:
        """Whoever opened it may close it, in the middle of an exchange, too."""
        window = home.pairing.open()
        told: list[Any] = []
        waiting = Deferred.fromCoroutine(home.pairing.watch(window, told.append))
        home.clock.pump([1.0] * 5)
        failed: list[Any] = []
        waiting.addErrback(lambda why: failed.append(why.value))
        guest = Guest(home)
        guest.begin(words_of(window))
        waiting.cancel()
        assert isinstance(failed[0], Cancelled) and not home.pairing.welcomes
        with pytest.raises(Forbidden):
            guest.prove()
        assert not home.clock.getDelayedCalls()
        seconds = [each["seconds"] for each in told]
        assert told[0]["words"] == window.code.split("-") and seconds == [120, 118, 116]

    def test_service_stops(self, home: Home) -> None:
        """A stop closes the window, whatever stage it is in."""
        for stage in range(3):
            window, ends = home.opened()
            guest = Guest(home)
            if stage > 0:
                guest.begin(words_of(window))
            if stage > 1:
                guest.prove()
            home.pairing.stop()
            assert isinstance(ends[0], Stopping) and not home.pairing.welcomes
            with pytest.raises(Forbidden):
                guest.keep()
        assert known(home) == []

    def test_not_shown(self, home: Home) -> None:
        """The words do not show in what a log could hold."""
        # covers: A11
        window, _ = home.opened()
        assert window.code not in repr(window)


class ExchangeTests:
    def test_one_at_a_time(self, home: Home) -> None:
        """A second device waits until the first is through, or has had its five seconds."""
        # covers: A12
        window, _ = home.opened()
        first, second = Guest(home), Guest(home, "D")
        first.begin(words_of(window))
        for each in (first, second):
            with pytest.raises(Busy):
                each.begin(words_of(window))
        home.clock.advance(limits.PAIR_EXCHANGE)
        second.begin(words_of(window))
        with pytest.raises(Forbidden):
            first.prove()
        second.prove()
        second.keep()
        assert home.peers.find("laptop").key == second.key

    def test_not_on_another_connection(self, home: Home) -> None:
        """Each step is for the connection that made the one before."""
        # covers: A03, A05
        window, _ = home.opened()
        guest, thief = Guest(home), Guest(home, "D")
        guest.begin(words_of(window))
        thief.proofs = guest.proofs
        same_key = evolve(guest.channel, binding=b"x" * 32)
        for channel in (thief.channel, same_key):
            with pytest.raises(Forbidden):
                home.now(home.pairing.prove(channel, guest.proofs.ours))  # type: ignore[union-attr]
        guest.prove()
        for channel in (thief.channel, same_key):
            with pytest.raises(Forbidden):
                home.now(home.pairing.keep(channel))
        guest.keep()
        assert [each.key for each in home.peers.all()] == [guest.key]

    def test_order(self, home: Home) -> None:
        """No step can be left out or made twice."""
        window, ends = home.opened()
        guest = Guest(home)
        guest.begin(words_of(window))
        with pytest.raises(Forbidden):
            guest.keep()
        guest.prove()
        with pytest.raises(Forbidden):
            guest.prove()
        guest.keep()
        with pytest.raises(Forbidden):
            guest.keep()
        assert len(ends) == 1

    @pytest.mark.parametrize("share", ["", "41", "zz" * 33, "42" + "0" * 64, "41" + "0" * 64])
    def test_no_share(self, home: Home, share: str) -> None:
        """What is no half of an exchange is refused, costs no guess, and blocks nobody."""
        window, _ = home.opened()
        with pytest.raises(BadHeader):
            home.now(home.pairing.begin(Guest(home).channel, "code", share, "x"))
        Guest(home).pair(words_of(window))
        assert known(home) == ["laptop"]

    @pytest.mark.parametrize("kind", ["token", "", "Code", "code "])
    def test_no_such_secret(self, home: Home, kind: str) -> None:
        """A kind of secret that there is not here is as no window."""
        home.opened()
        with pytest.raises(NotPaired):
            home.now(home.pairing.begin(Guest(home).channel, kind, "", "x"))

    def test_gone_in_the_middle(self, home: Home) -> None:
        """A device that knew the words and went is said, and its key is not kept."""
        window, ends = home.opened()
        guest = Guest(home)
        guest.begin(words_of(window))
        guest.prove()
        home.clock.advance(limits.PAIR_EXCHANGE)
        assert isinstance(ends[0], Lost)
        with pytest.raises(Forbidden):
            guest.keep()
        assert known(home) == []

    def test_answers_take_their_time(self, home: Home) -> None:
        """Right or wrong, the answer leaves the same time after the request."""
        # covers: A10
        window, _ = home.opened()
        guest = Guest(home)
        guest.begin(other_words(window))
        found: list[Any] = []
        proving = Deferred.fromCoroutine(home.pairing.prove(guest.channel, "0" * 64))
        proving.addErrback(lambda why: found.append(why.value))
        home.clock.advance(limits.PAIR_REPLY - 0.01)
        assert found == []
        home.clock.advance(0.01)
        assert isinstance(found[0], AuthFailed)

    def test_cannot_keep(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that cannot be written is not said to be kept, on either side."""
        window, ends = home.opened()
        guest = Guest(home)
        guest.begin(words_of(window))
        guest.prove()

        def full(peer: Peer, replace: bool = False) -> Peer:
            raise LanxferError("The disk is full.")

        monkeypatch.setattr(home.peers, "add", full)
        with pytest.raises(LanxferError, match="full"):
            guest.keep()
        assert str(ends[0]) == "The disk is full."

    def test_taken_back_while_keeping(self, home: Home) -> None:
        """A window taken back while the key is being written: it is not kept, as was said."""
        window, ends = home.opened()
        guest = Guest(home)
        guest.begin(words_of(window))
        guest.prove()
        writing: list[Any] = []

        def slow(work: Any, *args: Any) -> Any:
            if work is not pin:
                return maybeDeferred(work, *args)
            writing.append(Deferred())
            return writing[0].addCallback(lambda _: work(*args))

        home.pairing._in_thread = slow
        keeping = Deferred.fromCoroutine(home.pairing.keep(guest.channel))
        home.clock.advance(limits.PAIR_WINDOW)
        assert ends == []
        home.pairing.close(window)
        writing[0].callback(None)
        failed: list[Any] = []
        keeping.addErrback(lambda why: failed.append(why.value))
        assert isinstance(ends[0], Cancelled) and isinstance(failed[0], NotPaired)
        assert known(home) == []


class NameTests:
    def test_chosen(self, home: Home) -> None:
        """A name that was chosen counts, not what the device says."""
        # covers: A13
        window, _ = home.opened(name="kitchen")
        Guest(home, device="nas").pair(words_of(window))
        assert known(home) == ["kitchen"]

    def test_taken(self, home: Home) -> None:
        """A name that is taken is refused before anybody is asked to type words."""
        # covers: A07
        home.peers.add(Peer("kitchen", "D" * 51 + "A"))
        with pytest.raises(BadConfig, match="kitchen"):
            home.pairing.open(name="kitchen")
        assert not home.pairing.welcomes

    def test_again(self, home: Home) -> None:
        """A device that forgot this one, and is known here, pairs again under its name."""
        home.peers.add(Peer("old", "C" * 51 + "A", ("10.0.0.1",)))
        window, ends = home.opened()
        Guest(home).pair(words_of(window))
        assert (known(home), ends[0]["peer"]) == (["old"], "old")


class OnceTests:
    def test_once(self, home: Home) -> None:
        """No key is kept; its device is let in for one connection."""
        window, ends = home.opened(once=True)
        guest = Guest(home)
        assert guest.begin(words_of(window))
        assert home.pairing.use_grant(guest.key) is None
        guest.prove()
        assert home.pairing.use_grant(guest.key) is None
        guest.keep()
        assert ends == [{"peer": "laptop (once)", "key": guest.key, "once": True}]
        assert home.pairing.use_grant("D" * 52) is None
        assert home.pairing.use_grant(guest.key) == "laptop (once)"
        assert home.pairing.use_grant(guest.key) is None
        assert known(home) == []

    def test_late(self, home: Home) -> None:
        """After a minute the one connection is forfeit."""
        window, _ = home.opened(once=True)
        guest = Guest(home)
        guest.pair(words_of(window))
        home.clock.advance(limits.PAIR_GRANT)
        assert home.pairing.use_grant(guest.key) is None


class TokenTests:
    def test_same(self, tmp_path: Path) -> None:
        """Devices with the same token pair without a window, any number of them."""
        home = Home(tmp_path, TOKEN)
        assert home.pairing.welcomes
        for letter in "CDE":
            Guest(home, letter).pair(TOKEN)
        assert known(home) == ["laptop", "laptop-2", "laptop-3"]

    def test_other(self, tmp_path: Path) -> None:
        """Another token is refused, and a window that is open meanwhile is not touched."""
        # covers: A10
        home = Home(tmp_path, TOKEN)
        window, ends = home.opened()
        guest = Guest(home)
        guest.begin(Secret("token", TOKEN.value[:-1] + b"0"))
        with pytest.raises(AuthFailed):
            guest.prove()
        assert (known(home), ends) == ([], [])
        Guest(home, "D").pair(words_of(window))
        assert known(home) == ["laptop"]

    def test_words_are_no_token(self, tmp_path: Path) -> None:
        """The token does not open where the words are asked for, nor the other way round."""
        home = Home(tmp_path, TOKEN)
        window, _ = home.opened()
        guest = Guest(home)
        guest.begin(Secret("code", TOKEN.value))
        with pytest.raises(AuthFailed):
            guest.prove()
        other = Guest(home, "D")
        other.begin(Secret("token", window.code.encode()))
        with pytest.raises(AuthFailed):
            other.prove()
        assert known(home) == []
