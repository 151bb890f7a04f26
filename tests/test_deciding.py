"""What is taken, from whom, and who is asked: over real TLS, with a real disk."""

from __future__ import annotations

import os
from datetime import time
from pathlib import Path
from time import sleep as sleep_now
from typing import Any

import pytest
from devices import Devices, in_reactor, sleep, until
from twisted.internet.defer import Deferred

from lanxfer.errors import (
    BadConfig,
    BadName,
    Cancelled,
    DiskFull,
    Expired,
    Forbidden,
    LanxferError,
    NotFound,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Stopping,
    TooLarge,
)
from lanxfer.rights.file import FILE, LOOK_EVERY, parse_rights
from lanxfer.testing import Dialogue, Pair, memory_node
from lanxfer.transfers import Conflict, Snapshot, State
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import Do, Failed, Ok

pytestmark = pytest.mark.usefixtures("logged")

MIB = 1024 * 1024
ASK = "[peers]\noffers = ask\n"


class Nas:
    """A service with rights of its own, and a laptop that knows it."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self.prompts: list[Any] = []
        self.inbox = devices.inbox("nas")

    def write(self, rights: str) -> None:
        """As an editor does; a service looks again after a moment."""
        Path(self.devices.state("nas").file(FILE)).write_text(rights)
        sleep_now(2 * LOOK_EVERY)

    async def start(self, rights: str, hooks: dict[str, Any] | None = None, **how: Any) -> Any:
        self.write(rights)
        hooks = {"on_prompt": self.prompts.append, **(hooks or {})}
        self.service = await self.devices.start("nas", hooks, **how)
        await self.devices.pair("laptop", self.service, "nas")
        self.laptop = await self.devices.client("laptop", "nas")
        return self.laptop

    async def prompt(self) -> Any:
        await until(lambda: self.prompts)
        return self.prompts.pop(0)

    async def refused(self, error: type[LanxferError], match: str, size: int = 1) -> None:
        """A file of that size is refused so, and leaves nothing."""
        before = self.listed()
        self.laptop._retrying.patience = 0.0
        with pytest.raises(error, match=match):
            await self.laptop.send_file(self.devices.source(f"refused{size}", b"x" * size))
        assert self.listed() == before

    def listed(self) -> list[str]:
        found = [each for each in self.inbox.rglob("*") if each.is_file()]
        names = [str(each.relative_to(self.inbox)) for each in found]
        return sorted(each for each in names if not each.startswith(".lanxfer"))


@pytest.fixture
def nas(devices: Devices) -> Nas:
    return Nas(devices)


class AskTests:
    @pytest.mark.parametrize("size", [0, 5, 3 * MIB])
    @in_reactor
    async def test_accept(self, nas: Nas, devices: Devices, size: int) -> None:
        """An offer waits, both sides show that, nothing comes before the yes, all of it after."""
        # covers: L06, L07, P22
        laptop = await nas.start(ASK)
        seen: list[State] = []
        laptop.registry.subscribe(lambda snapshot: seen.append(snapshot.state))
        data = os.urandom(size)
        sending = laptop.send_file(devices.source("film", data))
        prompt = await nas.prompt()
        assert (prompt.what, prompt.label, prompt.size) == ("film", "laptop", size)
        control = await devices.control("nas")
        [row] = await control.rows("pending_requests")
        assert (row["id"], row["state"], row["done"]) == (prompt.id, "waiting", 0)
        assert (await control.call("status")).args["waiting"] == 1
        await until(lambda: State.WAITING in seen)
        staging = nas.inbox / ".lanxfer-staging"
        assert [each for each in staging.iterdir() if each.stat().st_size] == []
        assert nas.listed() == []
        answer = await control.call("accept", {"id": prompt.id})
        assert answer.args["decided"] == [prompt.id]
        receipt = await sending
        assert (nas.inbox / receipt.stored).read_bytes() == data
        assert seen[-1] is State.DONE
        with pytest.raises(NotFound):
            await control.call("accept", {"id": prompt.id})

    @in_reactor
    async def test_reject(self, nas: Nas, devices: Devices) -> None:
        """A no is what the sender hears, with the owner's words; nothing is left on either side."""
        laptop = await nas.start(ASK)
        sending = laptop.send_file(devices.source("film", b"x"))
        prompt = await nas.prompt()
        control = await devices.control("nas")
        await control.call("reject", {"id": prompt.id, "reason": "Not today."})
        with pytest.raises(Forbidden, match="Not today"):
            await sending
        assert await control.rows("pending_requests") == []
        assert [row["code"] for row in await control.rows("history")] == ["forbidden"]
        assert nas.listed() == []

    @in_reactor
    async def test_expires(self, nas: Nas, devices: Devices, monkeypatch: Any) -> None:
        """An offer that nobody answers ends as expired, and so does the answer that is late."""
        # covers: L07
        monkeypatch.setattr(limits, "OFFER_LIFETIME", 0.2)
        laptop = await nas.start(ASK)
        sending = laptop.send_file(devices.source("film", b"x"))
        prompt = await nas.prompt()
        with pytest.raises(Expired):
            await sending
        with pytest.raises(Expired):
            nas.service.answer(prompt.id, True)
        assert nas.listed() == []

    @in_reactor
    async def test_cancelled_by_the_sender(self, nas: Nas, devices: Devices) -> None:
        """An offer that is withdrawn is gone at once."""
        # covers: L07, C06
        laptop = await nas.start(ASK)
        sending = laptop.send_file(devices.source("film", b"x" * MIB))
        prompt = await nas.prompt()
        sending.cancel()
        with pytest.raises(Cancelled):
            await sending
        await until(lambda: not nas.service.prompts())
        with pytest.raises(NotFound):
            nas.service.answer(prompt.id, True)

    @in_reactor
    async def test_connection_lost(self, nas: Nas, devices: Devices) -> None:
        """An offer goes with its connection, and comes again with the next one."""
        # covers: B04
        laptop = await nas.start(ASK)
        sending = laptop.send_file(devices.source("film", b"x" * MIB))
        first = await nas.prompt()
        (await laptop.connected()).transport.abortConnection()
        second = await nas.prompt()
        assert second.id != first.id
        assert [each.id for each in nas.service.prompts()] == [second.id]
        nas.service.answer(second.id, True)
        assert (await sending).stored == "film"

    @in_reactor
    async def test_restart(self, nas: Nas, devices: Devices) -> None:
        """A service that stops does not wait for a yes; after its start the sender asks again."""
        # covers: C09
        laptop = await nas.start(ASK)
        sending = laptop.send_file(devices.source("film", b"x" * MIB))
        first = await nas.prompt()
        port = int(nas.service.address.rpartition(":")[2])
        await nas.service.stopService()
        again = devices.service("nas", {"on_prompt": nas.prompts.append}, port=port)
        again.startService()
        second = await nas.prompt()
        with pytest.raises(NotFound):
            again.answer(first.id, True)
        again.answer(second.id, True)
        assert (await sending).stored == "film"

    @in_reactor
    async def test_resumed_without_asking(self, nas: Nas, devices: Devices) -> None:
        """What somebody said yes to and broke off goes on, after a restart of both, unasked."""
        data = os.urandom(12 * MIB)
        path = devices.source("film", data)
        laptop = await nas.start(ASK)
        sending = laptop.send_file(path)
        prompt = await nas.prompt()
        laptop._retrying.patience = 0.0

        def cut(snapshot: Any) -> None:
            if snapshot.done > 6 * MIB:
                laptop._connection.abort(Stopping())
                unsubscribe()

        unsubscribe = laptop.registry.subscribe(cut)
        nas.service.answer(prompt.id, True)
        with pytest.raises(Stopping):
            await sending
        port = int(nas.service.address.rpartition(":")[2])
        await nas.service.stopService()
        again = devices.service("nas", {"on_prompt": nas.prompts.append}, port=port)
        again.startService()
        await again.when_listening()
        other = await devices.client("laptop", "nas")
        receipt = await other.send_file(path)
        assert receipt.resumed_from > 0
        assert nas.prompts == []
        assert (nas.inbox / "film").read_bytes() == data

    @in_reactor
    async def test_folder(self, nas: Nas, devices: Devices) -> None:
        """A folder is asked once, small files, large ones and all."""
        laptop = await nas.start(ASK)
        for number in range(250):
            devices.source(f"pictures/{number % 7}/{number}.jpg", os.urandom(number))
        devices.source("pictures/film", os.urandom(3 * MIB))
        sending = laptop.send_paths([str(devices.folder / "pictures")])
        prompt = await nas.prompt()
        assert prompt.what == "pictures/"
        nas.service.answer(prompt.id, True)
        sent = await sending
        assert (sent.files, sent.failed) == (251, [])
        assert len(nas.listed()) == 251
        assert nas.prompts == []

    @in_reactor
    async def test_messages_come(self, nas: Nas) -> None:
        """A message is shown, not asked about; where none are wanted it is refused."""
        laptop = await nas.start(ASK)
        assert (await laptop.send_message("hi")).size == 2
        nas.write("[peers]\nmessages = deny\n")
        with pytest.raises(Forbidden, match="no messages"):
            await laptop.send_message("hi")

    @in_reactor
    async def test_only_the_owner(self, nas: Nas, devices: Devices) -> None:
        """Nobody but the user of this device says yes."""
        # covers: L01, L04, A14
        laptop = await nas.start(ASK)
        sending = laptop.send_file(devices.source("film", b"x"))
        prompt = await nas.prompt()
        for ask in ("accept", "reject", "usage"):
            with pytest.raises(Forbidden):
                await laptop.call(ask, {"id": prompt.id})
        assert nas.service.prompts() == [prompt]
        sending.cancel()
        with pytest.raises(Cancelled):
            await sending

    @in_reactor
    async def test_guest_bytes(self, devices: Devices) -> None:
        """Of what a guest offers not one byte is taken before the yes, even if it comes along."""
        # covers: A01
        prompts: list[Any] = []
        service = await devices.start("nas", {"on_prompt": prompts.append}, open=True)
        devices.pin("phone", "nas", service.address)
        phone = await devices.client("phone", "nas")
        connection = await phone.connected()
        assert connection.peer_limits["inline"] == 0
        args = {"path": "a", "size": 1, "blake3": "0" * 64}
        with pytest.raises(TooLarge, match="before somebody accepted"):
            await phone.call("recv_file", args, b"x")
        sending = phone.send_file(devices.source("a", b"x"))
        await until(lambda: prompts)
        again = await devices.client("phone", "nas")
        again._retrying.patience = 0.0
        with pytest.raises(RateLimited):
            await again.send_file(devices.source("b", b"x"))
        service.answer(prompts[0].id, False)
        with pytest.raises(Forbidden):
            await sending


class ApplicationTests:
    @pytest.mark.parametrize(
        ("answer", "rights", "outcome"),
        [
            (True, ASK, "stored"),
            (True, "", "stored"),
            (None, "", "stored"),
            (None, ASK, "asked"),
            (False, "", "forbidden"),
            (False, ASK, "forbidden"),
            (True, "[peers]\noffers = deny\n", "forbidden"),
        ],
    )
    @pytest.mark.parametrize("later", [False, True])
    @in_reactor
    async def test_says(
        self, nas: Nas, devices: Devices, answer: Any, rights: str, outcome: str, later: bool
    ) -> None:
        """An application's yes and no are final, its None leaves it to the rights; deny is deny."""
        seen: list[Any] = []
        waiting: Deferred[Any] = Deferred()

        def decide(offer: Any) -> Any:
            seen.append(offer)
            return waiting if later else answer

        laptop = await nas.start(rights, {"on_offer": decide})
        sending = laptop.send_file(devices.source("a", b"x"))
        if later and "deny" not in rights:
            await until(lambda: seen)
            await until(lambda: nas.service.registry.pending()[0].state is State.WAITING)
            waiting.callback(answer)
        if outcome == "asked":
            nas.service.answer((await nas.prompt()).id, True)
        if outcome == "forbidden":
            with pytest.raises(Forbidden):
                await sending
        else:
            assert (await sending).stored == "a"
        assert nas.prompts == []
        assert [each.asks for each in seen] == ([] if "deny" in rights else [rights == ASK])


class LimitTests:
    @pytest.mark.parametrize(
        ("line", "error", "says"),
        [
            ("offers = deny", Forbidden, "takes no files"),
            ("largest = 0", TooLarge, "at most 0 bytes"),
            ("quota = 0", QuotaExceeded, "0 are left"),
            ("files = 0", QuotaExceeded, "0 files"),
            ("hours = 00:00-00:00", Forbidden, "00:00-00:00 only"),
            ("transfers = 0", Overloaded, "0 transfers"),
            ("/photos = write", Forbidden, "takes nothing from this one at"),
        ],
    )
    @pytest.mark.parametrize("size", [1, 2 * MIB])
    @in_reactor
    async def test_refusals(
        self, nas: Nas, devices: Devices, line: str, error: type[LanxferError], says: str, size: int
    ) -> None:
        """Each limit has its own error and its own words, for small files and large ones."""
        # covers: S01, S08, A14
        await nas.start(f"[peer laptop]\n{line}\n")
        await nas.refused(error, says, size)
        nas.write("")
        assert (await nas.laptop.send_file(devices.source("ok", b"x" * size))).stored == "ok"

    @in_reactor
    async def test_rate(self, nas: Nas, devices: Devices) -> None:
        """Offers beyond their rate are refused, and a patient sender gets there all the same."""
        # covers: L06
        laptop = await nas.start("[peer laptop]\nnew-offers = 10/s burst 1\n")
        sending = [laptop.send_file(devices.source(str(n), b"x")) for n in range(5)]
        assert sorted([(await each).stored for each in sending]) == ["0", "1", "2", "3", "4"]

    @in_reactor
    async def test_commands(self, nas: Nas) -> None:
        """A peer that asks and asks is told to come later; its owner is not."""
        # covers: L09
        laptop = await nas.start("[peers]\ncommands = 1/min burst 3\n")
        for _ in range(3):
            await laptop.rows("pending_requests")
        with pytest.raises(RateLimited):
            await laptop.rows("history")
        control = await nas.devices.control("nas")
        for _ in range(60):
            await control.rows("history")

    @in_reactor
    async def test_entries(self, nas: Nas, devices: Devices) -> None:
        """Of one send so many things are taken and no more; those are kept."""
        # covers: S11
        laptop = await nas.start("[peers]\nentries = 4\n")
        for number in range(6):
            devices.source(f"d/{number}", b"x")
        sent = await laptop.send_paths([str(devices.folder / "d")])
        assert (sent.files, len(nas.listed())) == (3, 3)
        assert {error.code for _, error in sent.failed} == {"too-large"}

    @in_reactor
    async def test_quota_over_restarts(self, nas: Nas, devices: Devices) -> None:
        """What was received counts after a restart, until its owner begins to count anew."""
        # covers: S08
        laptop = await nas.start("[peer laptop]\nquota = 4500000\n")
        path = devices.source("1", os.urandom(2_000_000))
        await laptop.send_file(path)
        assert (await laptop.send_file(path)).already
        await laptop.send_file(devices.source("2", b"x" * 1000))
        await nas.refused(QuotaExceeded, "2499000 are left", 2_499_001)
        await nas.service.stopService()
        again = await devices.start("nas")
        other = await devices.client("laptop", again.address)
        with pytest.raises(QuotaExceeded, match="2499000 are left"):
            await other.send_file(devices.source("3", b"x" * 2_499_001))
        await other.send_file(devices.source("3", b"x" * 2_499_000))
        control = await devices.control("nas")
        who = f"peer:{devices.key('laptop')}"
        assert await control.rows("usage") == [{"peer": who, "files": 3, "bytes": 4_500_000}]
        assert await control.rows("usage", {"forget": who}) == []
        await other.send_file(devices.source("4", b"x" * 1000))
        assert (await control.rows("usage"))[0]["bytes"] == 1000

    @in_reactor
    async def test_folder_and_tree(self, nas: Nas, devices: Devices) -> None:
        """What a peer sends goes into its folder, and there only where it may write."""
        laptop = await nas.start(
            "[peer laptop]\nfolder = from/laptop\n/pictures = write\n/pictures/private = none\n"
        )
        for name in ("pictures/a", "pictures/Private/b", "other/c"):
            devices.source(f"t/{name}", b"x")
        paths = [str(devices.folder / "t" / name) for name in ("pictures", "other")]
        sent = await laptop.send_paths(paths)
        assert nas.listed() == ["from/laptop/pictures/a"]
        assert {path for path, _ in sent.failed} == {
            "pictures/Private",
            "pictures/Private/b",
            "other",
            "other/c",
        }
        assert {error.code for _, error in sent.failed} == {"forbidden"}
        with pytest.raises(BadName):
            await laptop.send_file(devices.source("x", b"x"), name="pictures/../../x")

    @in_reactor
    async def test_replacing_needs_delete(self, nas: Nas, devices: Devices) -> None:
        """Who may write and not delete adds files and replaces none."""
        laptop = await nas.start("[peer laptop]\n/ = write\n")
        await laptop.send_file(devices.source("1/a", b"1"))
        with pytest.raises(Forbidden, match="replaced"):
            await laptop.send_file(devices.source("2/a", b"2"), conflict=Conflict.OVERWRITE)
        assert (nas.inbox / "a").read_bytes() == b"1"
        nas.write("[peer laptop]\n/ = write delete\n")
        await laptop.send_file(devices.source("2/a", b"2"), conflict=Conflict.OVERWRITE)
        assert (nas.inbox / "a").read_bytes() == b"2"

    @in_reactor
    async def test_bad_file_at_the_start(self, nas: Nas, devices: Devices) -> None:
        """A service does not start with rights that make no sense, and names the line."""
        nas.write("[peers]\n\noffers = aks\n")
        with pytest.raises(BadConfig, match=r"line 3: 'offers' is"):
            devices.service("nas").startService()

    @in_reactor
    async def test_bad_file_while_running(
        self, nas: Nas, devices: Devices, logged: list[str]
    ) -> None:
        """While the rights make no sense nothing is taken; the owner learns why, nobody else."""
        # covers: K06
        laptop = await nas.start("")
        nas.write("[peers]\noffers = aks\n")
        with pytest.raises(Forbidden) as caught:
            await laptop.send_file(devices.source("a", b"x"))
        assert "line" not in caught.value.reason and "/" not in caught.value.reason
        control = await devices.control("nas")
        warnings = (await control.call("status")).args["warnings"]
        assert any("rights, line 2" in each for each in warnings)
        assert [each for each in logged if "Nothing is taken" in each]
        logged.clear()
        nas.write("")
        assert (await laptop.send_file(devices.source("a", b"x"))).stored == "a"
        assert (await control.call("status")).args["warnings"] == []

    @in_reactor
    async def test_space_is_promised_once(
        self, nas: Nas, devices: Devices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of two offers that would fill the disk one by one, one is taken."""
        # covers: S01, S08
        monkeypatch.setattr(limits, "WINDOW", MIB // 2)  # so that a file can be held
        laptop = await nas.start("")
        store = nas.service._now.store
        free = store.free
        store.free = lambda: 10 * MIB
        registry = nas.service._now.registry

        def hold(snapshot: Snapshot) -> None:
            if snapshot.state is State.MOVING and not decided:
                registry.find(snapshot.id).pause(True)

        decided: list[bool] = []
        nas.service.subscribe(hold)
        try:
            sending = [laptop.send_file(devices.source(name, os.urandom(6 * MIB))) for name in "ab"]
            # Neither is through before both were offered.
            await until(lambda: any(each.called for each in sending))
            decided.append(True)
            for snapshot in registry.pending():
                registry.find(snapshot.id).pause(False)
            ends: list[str] = []
            for each in sending:
                try:
                    ends.append((await each).stored)
                except DiskFull:
                    ends.append("full")
        finally:
            store.free = free
        assert sorted(ends, key=len)[1] == "full" and "full" in ends
        assert len(nas.listed()) == 1


class HourTests:
    @pytest.mark.parametrize(("now", "code"), [("07:59", "forbidden"), ("08:00", "ok")])
    def test_hours(self, now: str, code: str) -> None:
        """At some hours things are taken, at others not."""
        from lanxfer.rights import Book

        pair = Pair(rights=Book(parse_rights("[peers]\nhours = 08:00-20:00\n")))
        pair.there.deciding.now = lambda: time.fromisoformat(now)
        dialogue = Dialogue(pair)
        hello = Do(1, "hello", {"speaks": ["lanxfer/1"], "device": "x"})
        dialogue.say(format_packet(hello), format_packet(Do(2, "recv_message", {}, 2)), b"hi")
        [_, (answer, _)] = dialogue.raw.packets
        assert (answer.code if isinstance(answer, Failed) else "ok") == code
        assert isinstance(answer, Failed | Ok)
        assert getattr(answer, "retry", True)  # that is over tomorrow
        pair.close()

    def test_kit(self) -> None:
        """The kit has the usual rights, but for the rate that no standing clock could give."""
        from twisted.internet.task import Clock

        from lanxfer.policy import Principal, Standing
        from lanxfer.rights import Book, Terms
        from lanxfer.testing import PATIENT, MemoryDisk

        node = memory_node("x", Clock(), MemoryDisk())
        who = Principal(Standing.PEER, "peer:x", "x")
        assert node.deciding.terms(who) == PATIENT.of(who)
        assert Book().of(who) == Terms()
        node.journal.close()


@in_reactor
async def test_nothing_is_left(devices: Devices) -> None:
    """After offers of all ends nothing waits, is promised, claimed or counted as under way."""
    # covers: S01, L06
    nas = Nas(devices)
    laptop = await nas.start(ASK + "quota = 1 GiB\n")
    for yes in (True, False, True):
        sending = laptop.send_file(devices.source("a", os.urandom(2 * MIB)))
        nas.service.answer((await nas.prompt()).id, yes)
        try:
            await sending
        except Forbidden:
            assert not yes
    await sleep(0.05)
    node = nas.service._now.node
    assert (len(node.offers), node.space.promised) == (0, 0)
    assert not node.allowances._claims
    assert not node.allowances._open
