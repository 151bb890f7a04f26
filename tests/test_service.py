"""The service as applications and peers meet it, over real sockets and a real disk."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from devices import Devices, in_reactor, sleep, until
from twisted.internet.defer import Deferred

from lanxfer.commands.table import Reply
from lanxfer.errors import (
    BadConfig,
    BadHeader,
    BadState,
    Cancelled,
    DiskFailed,
    DiskFull,
    Exists,
    Expired,
    Forbidden,
    KeyChanged,
    LanxferError,
    NotFound,
    NotPaired,
    SourceUnreadable,
    Stopping,
    TlsRequired,
    UnknownCommand,
    Unreachable,
    for_now,
)
from lanxfer.node import RECORD_MOST, Incoming
from lanxfer.outgoing import PASSING_FOR, Outgoing
from lanxfer.peers import Peer, Peers
from lanxfer.registry import Registry
from lanxfer.transfers import Conflict, Direction, Offer, State, Stored
from lanxfer.views import look

MIB = 1024 * 1024


async def pair(devices: Devices, hooks: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A service "nas", and a client "laptop" of its, each knowing the other."""
    service = await devices.start("nas", hooks, **settings)
    await devices.pair("laptop", service, "nas")
    return service, await devices.client("laptop", "nas")


async def break_off(client: Any, sending: Any) -> None:
    """Cut the connection of a client that will not make another one."""
    client._retrying.patience = 0
    client._connection.abort(Stopping())
    with pytest.raises(Stopping):
        await sending


class ReceivingTests:
    @in_reactor
    async def test_small_file(self, devices: Devices) -> None:
        """A small file arrives with its bytes, its name and its time, and the receipt says so."""
        _, client = await pair(devices)
        path = devices.source("a.txt", b"hello")
        os.utime(path, ns=(1, 1_600_000_000_123_456_789))
        receipt = await client.send_file(path)
        stored = devices.inbox("nas") / receipt.stored
        assert stored.read_bytes() == b"hello"
        assert stored.stat().st_mtime_ns == 1_600_000_000_123_456_789
        assert receipt.digest == blake3(b"hello").hexdigest()
        assert (receipt.size, receipt.already) == (5, False)

    @in_reactor
    async def test_empty_file(self, devices: Devices) -> None:
        """A file of no bytes arrives as one."""  # covers: S02
        _, client = await pair(devices)
        receipt = await client.send_file(devices.source("empty", b""))
        assert (devices.inbox("nas") / receipt.stored).read_bytes() == b""

    @in_reactor
    async def test_large_file(self, devices: Devices) -> None:
        """A file larger than any window arrives identical, and progress ends at its size."""
        _, client = await pair(devices)
        data = os.urandom(20 * MIB + 7)
        told: list[tuple[int, int]] = []
        receipt = await client.send_file(
            devices.source("big", data), on_progress=lambda done, size: told.append((done, size))
        )
        assert (devices.inbox("nas") / "big").read_bytes() == data
        assert receipt.digest == blake3(data).hexdigest()
        assert told[-1] == (len(data), len(data))  # covers: S1-14

    @in_reactor
    async def test_again_is_already_there(self, devices: Devices) -> None:
        """What is there already is not stored twice, small or large."""  # covers: K08
        _, client = await pair(devices)
        for name, size in (("small", 10), ("large", 2 * MIB)):
            path = devices.source(name, os.urandom(size))
            assert not (await client.send_file(path)).already
            again = await client.send_file(path)
            assert again.already and again.stored == name
        assert sorted(each.name for each in devices.inbox("nas").iterdir()) == [
            ".lanxfer-staging",
            "large",
            "small",
        ]

    @in_reactor
    async def test_conflicts(self, devices: Devices) -> None:
        """A taken name is renamed, replaced or refused, as the sender asked."""
        _, client = await pair(devices)
        await client.send_file(devices.source("1/a.txt", b"one"))
        renamed = await client.send_file(devices.source("2/a.txt", b"two"))
        assert renamed.stored == "a (2).txt"
        with pytest.raises(Exists):
            await client.send_file(devices.source("3/a.txt", b"3"), conflict=Conflict.REFUSE)
        over = await client.send_file(devices.source("4/a.txt", b"4"), conflict=Conflict.OVERWRITE)
        assert over.stored == "a.txt"
        assert (devices.inbox("nas") / "a.txt").read_bytes() == b"4"
        assert (devices.inbox("nas") / "a (2).txt").read_bytes() == b"two"

    @in_reactor
    async def test_receiver_insists(self, devices: Devices) -> None:
        """The receiver's own policy goes before what the sender asks for."""
        _, client = await pair(devices, conflict=Conflict.REFUSE)
        await client.send_file(devices.source("1/a", b"one"))
        with pytest.raises(Exists):
            await client.send_file(devices.source("2/a", b"two"), conflict=Conflict.OVERWRITE)
        assert (devices.inbox("nas") / "a").read_bytes() == b"one"

    @in_reactor
    async def test_tree(self, devices: Devices) -> None:
        """A folder arrives with empty folders and odd names; links are left out and counted."""
        _, client = await pair(devices)
        top = devices.folder / "tree"
        (top / "leer").mkdir(parents=True)
        (top / "ünter" / "x").mkdir(parents=True)
        (top / "ünter" / "x" / "große datei ☃.bin").write_bytes(os.urandom(MIB))
        (top / "ünter" / "-rf").write_bytes(b"x")
        (top / "null").write_bytes(b"")
        (top / "link").symlink_to("null")
        sent = await client.send_paths([top])
        assert (sent.files, sent.folders, sent.failed) == (3, 4, [])
        assert sent.skipped == [("tree/link", "symbolic link")]
        names = {
            str(each.relative_to(devices.inbox("nas")))
            for each in (devices.inbox("nas") / "tree").rglob("*")
        }
        assert names == {
            "tree/leer",
            "tree/ünter",
            "tree/ünter/x",
            "tree/ünter/x/große datei ☃.bin",
            "tree/ünter/-rf",
            "tree/null",
        }

    @in_reactor
    async def test_links_where_allowed(self, devices: Devices) -> None:
        """A link that stays inside is kept as a link; one that leaves is refused."""  # covers: P19
        _, client = await pair(devices, links=True)
        top = devices.folder / "tree"
        top.mkdir()
        (top / "a").write_bytes(b"a")
        (top / "in").symlink_to("a")
        (top / "out").symlink_to("../../etc/passwd")
        sent = await client.send_paths([top], links=True)
        assert os.readlink(devices.inbox("nas") / "tree" / "in") == "a"
        assert [(path, error.code) for path, error in sent.failed] == [("tree/out", "bad-name")]
        assert not os.path.lexists(devices.inbox("nas") / "tree" / "out")

    @in_reactor
    async def test_bad_name_hurts_nobody_else(self, devices: Devices) -> None:
        """One file that is refused does not keep the others of its folder back."""
        _, client = await pair(devices)
        top = devices.folder / "tree"
        top.mkdir()
        for name in ("a", "nul.txt", "z"):
            (top / name).write_bytes(b"x")
        sent = await client.send_paths([top])
        assert sent.files == 2
        assert [(path, error.code) for path, error in sent.failed] == [
            ("tree/nul.txt", "bad-name")
        ]  # covers: P05

    @in_reactor
    async def test_two_peers_one_name(self, devices: Devices) -> None:
        """Two devices that send one name at once end with two intact files."""  # covers: C01
        service, first = await pair(devices)
        await devices.pair("phone", service, "nas")
        second = await devices.client("phone", "nas")
        one, two = os.urandom(3 * MIB), os.urandom(3 * MIB)
        sending = [
            first.send_file(devices.source("1/same", one)),
            second.send_file(devices.source("2/same", two)),
        ]
        names = [(await each).stored for each in sending]
        assert sorted(names) == ["same", "same (2)"]
        found = {name: (devices.inbox("nas") / name).read_bytes() for name in names}
        assert list(found.values()) == [one, two]

    @in_reactor
    async def test_same_transfer_twice_at_once(self, devices: Devices) -> None:
        """One device sending one file twice at once has one writer and one copy."""  # covers: C02
        _, client = await pair(devices)
        path = devices.source("same", os.urandom(8 * MIB))
        sending = [client.send_file(path), client.send_file(path)]
        assert {(await each).stored for each in sending} == {"same"}
        assert [each.name for each in devices.inbox("nas").iterdir() if each.is_file()] == ["same"]


class HookTests:
    @in_reactor
    async def test_on_offer_decides(self, devices: Devices) -> None:
        """The application sees each offer first and may refuse it; nothing is stored then."""
        seen = []

        def decide(offer: Any) -> bool:
            seen.append((offer.label, offer.path, offer.size))
            return offer.size < 10

        _, client = await pair(devices, {"on_offer": decide})
        await client.send_file(devices.source("small", b"123"))
        with pytest.raises(Forbidden):
            await client.send_file(devices.source("large", b"x" * 2 * MIB))
        assert seen == [("laptop", "small", 3), ("laptop", "large", 2 * MIB)]
        assert not (devices.inbox("nas") / "large").exists()

    @in_reactor
    async def test_on_offer_may_take_its_time(self, devices: Devices) -> None:
        """An offer waits for the Deferred the application returned, and others do not."""
        waiting: Deferred[bool] = Deferred()
        _, client = await pair(
            devices, {"on_offer": lambda offer: waiting if offer.path == "wait" else True}
        )
        held = client.send_file(devices.source("wait", b"1"))
        await client.send_file(devices.source("other", b"2"))
        assert not held.called
        waiting.callback(True)
        assert (await held).stored == "wait"

    @in_reactor
    async def test_on_offer_error(self, devices: Devices) -> None:
        """A typed error raised by the application is what the sender hears."""

        def refuse(offer: Any) -> None:
            raise Expired("Come back tomorrow.")

        _, client = await pair(devices, {"on_offer": refuse})
        with pytest.raises(Expired, match="tomorrow"):
            await client.send_file(devices.source("a", b"1"))

    @in_reactor
    async def test_on_message(self, devices: Devices) -> None:
        """A message is answered when what on_message returned has fired, and is kept in full."""
        seen: list[Any] = []
        waiting: Deferred[None] = Deferred()

        def show(message: Any) -> Deferred[None]:
            seen.append(message)
            return waiting

        _, client = await pair(devices, {"on_message": show})
        text = "Grüße ☃\n" * 100
        sending = client.send_message(text)
        await until(lambda: seen)
        assert not sending.called
        waiting.callback(None)
        assert (await sending).size == len(text.encode())
        assert (seen[0].text, seen[0].label) == (text, "laptop")
        control = await devices.control("nas")
        rows = await control.rows("history")
        assert [(row["kind"], row["path"]) for row in rows] == [("message", text)]

    @in_reactor
    async def test_bug_in_a_hook(self, devices: Devices) -> None:
        """An unexpected exception is told as an internal error, without its text."""

        def broken(offer: Any) -> None:
            raise RuntimeError("secret")

        _, client = await pair(devices, {"on_offer": broken})
        with pytest.raises(Exception) as caught:
            await client.send_file(devices.source("a", b"1"))
        assert caught.value.code == "internal"
        assert "secret" not in str(caught.value)

    @in_reactor
    async def test_own_command(self, devices: Devices) -> None:
        """An application's own command is reached by name; others do not exist."""

        async def thumbnail(call: Any, node: Any) -> Reply:
            return Reply({"got": len(call.data), "who": call.principal.label})

        _, client = await pair(devices, {"commands": {"myapp.thumbnail": thumbnail}})
        answer = await client.call("myapp.thumbnail", {}, b"123")
        assert dict(answer.args) == {"got": 3, "who": "laptop"}
        with pytest.raises(UnknownCommand):
            await client.call("myapp.other")

    def test_own_command_needs_a_dot(self, devices: Devices) -> None:
        """An application cannot replace a command of lanxfer's."""
        with pytest.raises(BadConfig):
            devices.service("nas", {"commands": {"recv_file": lambda call, node: None}})


class AdmissionTests:
    @in_reactor
    async def test_stranger(self, devices: Devices) -> None:
        """A device whose key is not known gets one refusal, and nothing appears."""  # covers: A01
        service = await devices.start("nas")
        devices.pin("laptop", "nas", service.address)
        with pytest.raises(NotPaired):
            await devices.client("laptop", "nas")
        assert [each.name for each in devices.inbox("nas").iterdir()] == [".lanxfer-staging"]

    @in_reactor
    async def test_unknown_server(self, devices: Devices) -> None:
        """A server whose key is not known is not sent anything; the error shows its key."""
        service = await devices.start("nas")
        with pytest.raises(NotPaired, match=r"lanxfer peer add"):
            await devices.client("laptop", service.address)

    @in_reactor
    async def test_changed_key(self, devices: Devices) -> None:
        """A known name with another key is refused loudly, and the old pin stays."""  # covers: A07
        service = await devices.start("nas")
        devices.pin("laptop", "nas", "127.0.0.1:1")
        other = devices.key("other")
        Peers(devices.state("laptop")).add(Peer("nas", other, (service.address,)), replace=True)
        with pytest.raises(KeyChanged, match="lanxfer peer forget nas"):
            await devices.client("laptop", "nas")
        assert Peers(devices.state("laptop")).find("nas").key == other

    @in_reactor
    async def test_open(self, devices: Devices) -> None:
        """With --open an unknown device may offer, and sees only what is its own."""  # covers: L02
        prompts: list[Any] = []
        service = await devices.start("nas", {"on_prompt": prompts.append}, open=True)
        devices.pin("laptop", "nas", service.address)
        devices.pin("phone", "nas", service.address)
        laptop = await devices.client("laptop", "nas")
        phone = await devices.client("phone", "nas")
        sending = laptop.send_file(devices.source("a", b"1"))
        await until(lambda: prompts)  # covers: A01
        assert (prompts[0].what, prompts[0].label[:8]) == ("a", "unknown ")
        assert not (devices.inbox("nas") / "a").exists()
        service.answer(prompts[0].id, True)
        assert (await sending).stored == "a"
        assert len(await laptop.rows("history")) == 1
        assert await phone.rows("history") == []
        with pytest.raises(Forbidden):
            await laptop.call("send_file", {"path": "/etc/passwd", "peer": "x"})  # covers: J20
        with pytest.raises(Forbidden):
            await laptop.call("status")

    @in_reactor
    async def test_plain(self, devices: Devices) -> None:
        """Plain text is refused unless its network was let in."""  # covers: A06
        service = await devices.start("nas")
        with pytest.raises(TlsRequired):
            await devices.client("laptop", service.address, plain=True)
        await service.stopService()
        service = await devices.start("nas", plain_from=("127.0.0.1",))
        client = await devices.client("laptop", service.address, plain=True)
        assert (await client.send_file(devices.source("a", b"1"))).stored == "a"
        assert any("PLAIN" in line for line in service.warnings())

    @in_reactor
    async def test_pinned_is_never_plain(self, devices: Devices) -> None:
        """A device known by its key is not spoken to in plain text."""  # covers: A06
        await pair(devices, plain_from=("127.0.0.1",))
        with pytest.raises(KeyChanged):
            await devices.client("laptop", "nas", plain=True)

    @in_reactor
    async def test_peers_are_seen_while_running(self, devices: Devices) -> None:
        """A peer added while the service runs is let in, and one forgotten is not."""
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        await client.close()
        Peers(devices.state("nas")).forget("laptop")
        with pytest.raises(NotPaired):
            await devices.client("laptop", "nas")

    @in_reactor
    async def test_connects_to_nobody(self, devices: Devices) -> None:
        """A port where nothing listens, and a name that does not exist, are said quickly."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with pytest.raises(Unreachable):  # covers: S1-17
            await devices.client("laptop", f"127.0.0.1:{port}")


class ControlTests:
    @in_reactor
    async def test_cancel_by_the_receiver(self, devices: Devices) -> None:
        """The owner of the receiving device cancels; the sender hears it; nothing remains."""
        service, client = await pair(devices)
        sending = client.send_file(devices.source("big", os.urandom(40 * MIB)))
        control = await devices.control("nas")
        await until(lambda: service.registry.pending())
        row = (await control.rows("pending_requests"))[0]
        await control.call("cancel_request", {"id": row["id"]})
        with pytest.raises(Cancelled):
            await sending
        staging = devices.inbox("nas") / ".lanxfer-staging"
        await until(lambda: not list(staging.glob("*.part")))  # covers: C06
        answer = await control.call("cancel_request", {"id": row["id"]})
        assert answer.args["state"] == "cancelled"  # covers: C07
        with pytest.raises(NotFound):
            await control.call("cancel_request", {"id": "nonsense"})

    @in_reactor
    async def test_cancel_by_the_sender(self, devices: Devices) -> None:
        """Cancelling the Deferred cancels the file on both sides; the link goes on."""
        service, client = await pair(devices)  # covers: S1-15
        sending = client.send_file(devices.source("big", os.urandom(40 * MIB)))
        await until(lambda: any(s.state is State.MOVING for s in service.registry.pending()))
        sending.cancel()
        with pytest.raises(Cancelled):
            await sending
        await until(lambda: not service.registry.pending())
        assert service.registry.finished()[0].state is State.CANCELLED
        assert not list((devices.inbox("nas") / ".lanxfer-staging").glob("*.part"))
        assert (await client.send_file(devices.source("next", b"1"))).stored == "next"

    @in_reactor
    async def test_another_peer_cannot_cancel(self, devices: Devices) -> None:
        """What is another's does not exist, whether one asks for it or cancels it."""
        service, client = await pair(devices)  # covers: L01 C03
        await devices.pair("phone", service, "nas")
        phone = await devices.client("phone", "nas")
        sending = client.send_file(devices.source("big", os.urandom(30 * MIB)))
        await until(lambda: service.registry.pending())
        id = service.registry.pending()[0].id
        assert await phone.rows("pending_requests") == []
        for name in ("cancel_request", "pause", "resume"):
            with pytest.raises(NotFound):
                await phone.call(name, {"id": id})
        await sending

    @in_reactor
    async def test_pause_and_resume(self, devices: Devices) -> None:
        """A paused transfer stands still and holds up nothing else; resumed it completes."""
        service, client = await pair(devices)
        data = os.urandom(60 * MIB)
        sending = client.send_file(devices.source("big", data))
        control = await devices.control("nas")
        await until(lambda: any(s.state is State.MOVING for s in service.registry.pending()))
        id = service.registry.pending()[0].id
        assert (await control.call("pause", {"id": id})).args["state"] == "paused"
        await sleep(0.3)
        first = service.registry.pending()[0].done
        assert (await client.send_file(devices.source("other", b"1"))).stored == "other"
        await sleep(0.3)
        assert service.registry.pending()[0].done == first < len(data)
        await control.call("resume", {"id": id})
        assert (await sending).digest == blake3(data).hexdigest()

    @in_reactor
    async def test_pause_by_the_sender(self, devices: Devices) -> None:
        """A file its sender pauses is paused on the other side too, so nobody gives it up."""
        service, client = await pair(devices)
        data = os.urandom(40 * MIB)
        sending = client.send_file(devices.source("big", data))
        await until(lambda: any(s.state is State.MOVING for s in service.registry.pending()))
        (snapshot,) = client.registry.pending()
        await until(lambda: client.registry.find(snapshot.id).on_pause)
        client.registry.find(snapshot.id).pause(True)
        await until(lambda: service.registry.pending()[0].state is State.PAUSED)
        client.registry.find(snapshot.id).pause(False)
        assert (await sending).digest == blake3(data).hexdigest()

    @pytest.mark.parametrize("time", [-1_000_000_000, 2**63])
    @in_reactor
    async def test_impossible_time(self, devices: Devices, time: int) -> None:
        """A file with an impossible time is sent without it."""  # covers: P18
        _, client = await pair(devices)
        for name, size in (("small", 5), ("large", MIB)):
            path = devices.source(name, b"x" * size)
            os.utime(path, ns=(0, time))
            assert (await client.send_file(path)).stored == name

    @in_reactor
    async def test_watch(self, devices: Devices) -> None:
        """A watcher sees a transfer from its offer to its end, and may stop watching."""
        _, client = await pair(devices)
        control = await devices.control("nas")
        seen: list[str] = []
        watching = control.call("watch", on_event=lambda a: seen.append(a["transfer"]["state"]))
        await sleep(0.1)
        await client.send_file(devices.source("a", b"1"))
        await until(lambda: "done" in seen)
        assert (seen[0], seen[-1]) == ("offered", "done")  # covers: S1-18
        watching.cancel()
        with pytest.raises(Cancelled):
            await watching
        assert (await control.call("ping")).args == {}

    @in_reactor
    async def test_history_survives(self, devices: Devices) -> None:
        """What is finished is still known after the service was stopped and started again."""
        service, client = await pair(devices)
        await client.send_file(devices.source("a", b"1"))
        await client.close()
        await service.stopService()
        service.startService()
        await service.when_listening()
        control = await devices.control("nas")
        rows = await control.rows("history")
        assert [(row["path"], row["state"]) for row in rows] == [("a", "done")]

    @in_reactor
    async def test_status(self, devices: Devices) -> None:
        """status says who and where the service is."""
        service, _ = await pair(devices)
        control = await devices.control("nas")
        args = (await control.call("status")).args
        assert args["device"] == "nas"
        assert args["key"] == service.key == devices.key("nas")
        assert args["listening"] == [service.address]

    @in_reactor
    async def test_history_of_many(self, devices: Devices) -> None:
        """What waits to be written is bounded: two thousand are, whatever time it is."""
        service = await devices.start("nas")
        running = service._now
        running.node.record_after = 3600.0
        files = [Offer(f"f{number}", 1) for number in range(RECORD_MOST)]
        ends = [Stored("f", 1, "d")] * RECORD_MOST
        running.registry.passed(Direction.IN, "peer:a", files[1:], ends[1:], started=0.0)
        assert running.journal.history(1) == []
        running.registry.passed(Direction.IN, "peer:a", files[:1], ends[:1], started=0.0)
        await until(lambda: len(running.journal.history(1000)) == 1000)
        assert running.journal.usage()["peer:a"].files == RECORD_MOST

    @in_reactor
    async def test_history_at_the_end(self, devices: Devices, logged: list[str]) -> None:
        """What ends while the service does is written; what ends after it is no mistake."""
        service = await devices.start("nas")
        running = service._now
        stopping = service.stopService()
        running.registry.passed(Direction.IN, "peer:a", [Offer("a", 1)], [Stopping()], started=0.0)
        await stopping
        running.node.record_after = 0.0
        running.registry.passed(Direction.IN, "peer:a", [Offer("b", 1)], [Stopping()], started=0.0)
        assert logged == []
        await devices.start("nas")
        control = await devices.control("nas")
        assert [row["path"] for row in await control.rows("history")] == ["a"]

    @in_reactor
    async def test_control_socket_is_last(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who is answered at the control socket finds all of the service there."""
        held: Deferred[None] = Deferred()

        async def begin(self: Outgoing) -> None:
            await held

        monkeypatch.setattr(Outgoing, "begin", begin)
        service = devices.service("nas")
        service.startService()
        await sleep(0.2)  # enough for a socket that does not wait
        with pytest.raises(Unreachable):
            await devices.control("nas")
        held.callback(None)
        addresses = await service.when_listening()
        control = await devices.control("nas")
        assert (await control.call("status")).args["listening"] == addresses

    @in_reactor
    async def test_control_socket_is_private(self, devices: Devices) -> None:
        """Only the same user can open the control socket."""  # covers: L03
        await devices.start("nas")
        folder = devices.state("nas")
        assert os.stat(folder.path).st_mode & 0o077 == 0
        assert os.stat(folder.socket_path).st_mode & 0o077 == 0


class SendingTests:
    @in_reactor
    async def test_to_a_third_device(self, devices: Devices) -> None:
        """The service sends a file of its own to another device when its owner asks."""
        third = await devices.start("third")
        await devices.start("nas")
        devices.pin("nas", "third", third.address)
        devices.pin("third", "nas")
        control = await devices.control("nas")
        path = devices.source("x.bin", os.urandom(3 * MIB))
        answer = await control.call("send_file", {"path": path, "peer": "third"})
        assert answer.args["stored"] == "x.bin"
        await control.call("send_message", {"text": "hi", "peer": "third"})
        assert (devices.inbox("third") / "x.bin").read_bytes() == Path(path).read_bytes()
        rows = await control.rows("history")
        assert [(row["direction"], row["state"]) for row in rows] == [("out", "done")] * 2

    @in_reactor
    async def test_queue(self, devices: Devices) -> None:
        """A queued send waits for its peer, over a restart of the service too."""
        third = await devices.start("third")
        address, port = third.address, int(third.address.rpartition(":")[2])
        await third.stopService()
        nas = await devices.start("nas")
        devices.pin("nas", "third", address)
        devices.pin("third", "nas")
        control = await devices.control("nas")
        path = devices.source("late", b"better late")
        answer = await control.call("send_file", {"path": path, "peer": "third", "wait": False})
        assert answer.args["queued"]
        await control.close()
        await nas.stopService()
        third = await devices.start("third", port=port)
        nas.startService()
        await nas.when_listening()
        await until(lambda: (devices.inbox("third") / "late").exists())

    @in_reactor
    async def test_queued_unseen(self, devices: Devices) -> None:
        """What its asker sees and the service does not is refused, and nothing waits for it."""
        nas = await devices.start("nas")
        devices.pin("nas", "third", "127.0.0.1:1")
        control = await devices.control("nas")
        seen = look(devices.source("seen", b"seen"))
        job: dict[str, Any] = {"path": seen.path, "peer": "third", "wait": False, "dev": seen.dev}
        for path, ino in ((seen.path, seen.ino + 1), (seen.path + "not", seen.ino)):
            with pytest.raises(SourceUnreadable, match="without --queue"):
                await control.call("send_file", {**job, "path": path, "ino": ino})
        assert not nas._now.outgoing.waiting and nas._now.journal.queued() == []
        assert (await control.call("send_file", {**job, "ino": seen.ino})).args["queued"]
        with pytest.raises(BadHeader):
            await control.call("send_file", {**job, "ino": "1"})

    @in_reactor
    async def test_queued_folder(self, devices: Devices, logged: list[str]) -> None:
        """A queued folder is tried again as long as that can help one of its files."""
        full = [DiskFull()]

        def decide(offer: Incoming) -> bool:
            if offer.path.endswith("b") and full:
                raise full.pop()
            return not offer.path.endswith("c")

        nas = await devices.start("nas", {"on_offer": decide})
        await devices.pair("laptop", nas, "nas")
        laptop = await devices.start("laptop")
        for name in "ab":
            devices.source(f"all/{name}", name.encode())
        control = await devices.control("laptop")
        job = {"path": str(devices.folder / "all"), "peer": "nas", "wait": False}
        await control.call("send_file", job)
        await until(lambda: (devices.inbox("nas") / "all" / "b").exists())
        await until(lambda: not laptop._now.outgoing.waiting)
        assert (devices.inbox("nas") / "all" / "a").read_bytes() == b"a" and not full
        assert logged == []
        devices.source("all/c", b"c")
        await control.call("send_file", job)
        await until(lambda: not laptop._now.outgoing.waiting)
        assert laptop._now.journal.queued() == []
        assert logged.pop() == "{queued} was given up: {reason}"

    @in_reactor
    @pytest.mark.parametrize("error", [for_now(Forbidden()), DiskFailed(), Expired()])
    async def test_queued_for_now(
        self, devices: Devices, logged: list[str], error: LanxferError
    ) -> None:
        """What may be otherwise tomorrow does not end a queued send, for a week."""
        refused: list[str] = []

        def decide(offer: Incoming) -> bool:
            if offer.path == "late" or not refused:
                refused.append(offer.path)
                raise error
            return True

        nas = await devices.start("nas", {"on_offer": decide})
        await devices.pair("laptop", nas, "nas")
        laptop = await devices.start("laptop")
        control = await devices.control("laptop")
        job = {"path": devices.source("soon", b"1"), "peer": "nas", "wait": False}
        await control.call("send_file", job)
        await until(lambda: not laptop._now.outgoing.waiting)
        assert refused == ["soon"] and (devices.inbox("nas") / "soon").read_bytes() == b"1"
        outgoing = laptop._now.outgoing
        outgoing._now = iter([0.0, 0.0, PASSING_FOR - 1, PASSING_FOR]).__next__
        await control.call("send_file", {**job, "path": devices.source("late", b"2")})
        await until(lambda: not outgoing.waiting)
        assert refused == ["soon", "late", "late"]
        assert logged.pop() == "{queued} was given up: {reason}"

    @in_reactor
    @pytest.mark.parametrize("there", [False, True])
    async def test_queued_cancelled(self, devices: Devices, there: bool) -> None:
        """A queued folder is given up as a whole by the id that it got, before or while it goes."""
        asked: list[str] = []

        def decide(offer: Incoming) -> Deferred[bool]:
            asked.append(offer.path)
            return Deferred()

        nas = await devices.start("nas", {"on_offer": decide})
        await devices.pair("laptop", nas, "nas")
        if not there:
            await nas.stopService()
        laptop = await devices.start("laptop")
        for name in "ab":
            devices.source(f"all/{name}", name.encode())
        control = await devices.control("laptop")
        job = {"path": str(devices.folder / "all"), "peer": "nas", "wait": False}
        id = (await control.call("send_file", job)).args["queued"]
        await until(lambda: asked if there else laptop.registry.pending())
        assert (await control.call("cancel_request", {"id": id})).args == {"state": "cancelled"}
        with pytest.raises(NotFound):
            await control.call("cancel_request", {"id": id})
        await until(lambda: not laptop.registry.pending())
        assert laptop._now.journal.queued() == [] and not laptop._now.outgoing.waiting
        assert not (devices.inbox("nas") / "all").exists()

    @in_reactor
    async def test_resumes_in_the_same_run(self, devices: Devices) -> None:
        """A connection cut in the middle of a body is made again, and little is sent twice."""
        service, client = await pair(devices)
        data = os.urandom(64 * MIB)
        sending = client.send_file(devices.source("big", data))

        def far() -> bool:
            return any(each.done > 24 * MIB for each in service.registry.pending())

        await until(far)
        (connection,) = service._now.factory.connections
        connection.transport.abortConnection()
        receipt = await sending
        assert receipt.resumed_from > 8 * MIB  # covers: B04 B10
        assert (devices.inbox("nas") / "big").read_bytes() == data

    @in_reactor
    async def test_resumes_by_the_same_call(self, devices: Devices) -> None:
        """What a client that went away had sent is not sent again by the next one."""
        service, client = await pair(devices)
        data = os.urandom(48 * MIB)
        path = devices.source("big", data)
        sending = client.send_file(path)
        await until(lambda: any(s.done > 20 * MIB for s in service.registry.pending()))
        await break_off(client, sending)
        await until(lambda: not service.registry.pending())
        again = await devices.client("laptop", "nas")
        assert (await again.send_file(path)).resumed_from >= 16 * MIB
        assert (devices.inbox("nas") / "big").read_bytes() == data

    @in_reactor
    async def test_damaged_part(self, devices: Devices) -> None:
        """A part whose tail was damaged is continued from before the damage."""  # covers: J25
        service, client = await pair(devices)
        data = os.urandom(48 * MIB)
        path = devices.source("big", data)
        sending = client.send_file(path)
        await until(lambda: any(s.done > 30 * MIB for s in service.registry.pending()))
        await break_off(client, sending)
        await until(lambda: not service.registry.pending())
        await service.stopService()
        (part,) = (devices.inbox("nas") / ".lanxfer-staging").glob("*.part")
        held = part.stat().st_size
        with open(part, "r+b") as file:
            file.seek(-1000, os.SEEK_END)
            file.write(b"\0" * 1000)
        service.startService()
        address = (await service.when_listening())[0]
        Peers(devices.state("laptop")).remember_address(devices.key("nas"), address)
        again = await devices.client("laptop", "nas")
        receipt = await again.send_file(path)
        assert 0 < receipt.resumed_from < held
        assert (devices.inbox("nas") / "big").read_bytes() == data

    @in_reactor
    async def test_source_changes(self, devices: Devices) -> None:
        """A file that changes while it is sent is not stored as something it never was."""
        service, client = await pair(devices)  # covers: S10
        path = devices.source("big", os.urandom(40 * MIB))
        sending = client.send_file(path)
        await until(lambda: any(s.done > 4 * MIB for s in service.registry.pending()))
        with open(path, "r+b") as file:
            file.write(b"changed")
        receipt = await sending  # sent once more, as it is now
        stored = (devices.inbox("nas") / receipt.stored).read_bytes()
        assert stored == Path(path).read_bytes()
        assert [each.name for each in devices.inbox("nas").iterdir() if each.is_file()] == ["big"]


class LifeTests:
    @in_reactor
    async def test_stop_and_start(self, devices: Devices) -> None:
        """Stopped in the middle of a file and started again, the service gets the rest."""
        service, client = await pair(devices, drain=0.2)  # covers: C09 S2-65
        port = int(service.address.rpartition(":")[2])
        data = os.urandom(64 * MIB)
        path = devices.source("big", data)
        sending = client.send_file(path)
        await until(lambda: any(s.state is State.MOVING for s in service.registry.pending()))
        service.registry.find(service.registry.pending()[0].id).pause(True)
        await service.stopService()
        again = devices.service("nas", port=port)
        again.startService()
        await again.when_listening()
        receipt = await sending
        assert receipt.digest == blake3(data).hexdigest()
        assert (devices.inbox("nas") / "big").read_bytes() == data

    @in_reactor
    async def test_second_service(self, devices: Devices) -> None:
        """A second service on the same state folder or inbox does not start."""  # covers: C11
        await devices.start("nas")
        with pytest.raises(BadState):
            devices.service("nas").startService()

    @in_reactor
    async def test_port_taken(self, devices: Devices) -> None:
        """A port that is taken is said in words, and the service can be stopped."""
        service = await devices.start("nas")
        port = int(service.address.rpartition(":")[2])
        other = devices.service("other", port=port)
        with pytest.raises(BadState, match=r"Address already in use"):
            other.startService()
        with pytest.raises(BadState):
            await other.when_listening()
        again = devices.service("other")  # nothing of it is held any more
        again.startService()
        assert await again.when_listening()

    @in_reactor
    async def test_start_that_fails(self, devices: Devices) -> None:
        """Of a start that fails late nothing is left: the same service starts when it can."""
        service = devices.service("nas")
        before = threading.active_count()

        def fails(registry: Registry) -> None:
            raise RuntimeError("Not yet.")

        service._subscribers.append(fails)
        with pytest.raises(RuntimeError):
            service.startService()
        assert threading.active_count() == before
        service._subscribers.remove(fails)
        service.startService()
        assert await service.when_listening()

    def test_nonsense_settings(self, devices: Devices) -> None:
        """Settings that make no sense are refused before anything is opened."""
        with pytest.raises(BadConfig):
            devices.service("nas", buf_len=0)
        with pytest.raises(BadConfig):
            devices.service("nas", legacy="yes")
        with pytest.raises(BadConfig):
            devices.service("nas", plain_from=("not a network",)).startService()

    @in_reactor
    async def test_nonsense_endpoint(self, devices: Devices) -> None:
        """An endpoint that cannot be is said in words."""
        with pytest.raises(BadConfig):
            await devices.start("nas", listen=("carrier-pigeon:1",))

    @in_reactor
    async def test_two_listeners(self, devices: Devices) -> None:
        """One service listens at several endpoints."""  # covers: S1-19
        service = await devices.start("nas", listen=("tcp:0:interface=127.0.0.1",))
        await devices.pair("laptop", service, "nas")
        first, second = await service.when_listening()
        for address in (first, second):
            client = await devices.client("laptop", address)
            await client.send_message("hi")


class TicketTests:
    async def _upload(self, address: str, data: bytes, close: bool = False) -> bytes:
        """A client that knows nothing but a socket; gives what it was answered."""
        from twisted.internet.threads import deferToThread

        def talk() -> bytes:
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as wire:
                wire.sendall(data)
                if close:
                    wire.shutdown(socket.SHUT_WR)
                answer = b""
                while more := wire.recv(4096):
                    answer += more
                return answer

        return await deferToThread(talk)

    @in_reactor
    async def test_upload(self, devices: Devices) -> None:
        """Two ids open one upload; the answer has size, CRC and digest; a second try is refused."""
        service = await devices.start("nas", tickets_plain=True)  # covers: S1-01 S1-03 S1-11
        slot = service.offer_slot("up/x.txt", 5)
        answer = await self._upload(service.address, slot.line + b"hello")
        assert answer == b"ok 5 3610a686 " + blake3(b"hello").hexdigest().encode() + b"\n"
        assert (await slot.done).path == "up/x.txt"
        assert (devices.inbox("nas") / "up/x.txt").read_bytes() == b"hello"  # covers: S1-09 S1-10
        again = await self._upload(service.address, slot.line + b"hello")
        assert again.startswith(b"error forbidden")  # covers: J19

    @in_reactor
    async def test_large_upload(self, devices: Devices) -> None:
        """An upload far larger than what is read at a time arrives whole."""
        service = await devices.start("nas", tickets_plain=True)
        data = os.urandom(30 * MIB)
        slot = service.offer_slot("big", len(data))
        assert (await self._upload(service.address, slot.line + data)).startswith(b"ok 31457280 ")
        assert (devices.inbox("nas") / "big").read_bytes() == data

    @in_reactor
    async def test_cut_short(self, devices: Devices) -> None:
        """An upload that ends too early leaves nothing and fails for whoever offered the slot."""
        service = await devices.start("nas", tickets_plain=True)  # covers: S1-07 S1-08 S03
        slot = service.offer_slot("x", 1000)
        answer = await self._upload(service.address, slot.line + b"hello", close=True)
        assert answer.startswith(b"error short-body")
        with pytest.raises(Exception) as caught:
            await slot.done
        assert caught.value.code == "short-body"
        names = [each.name for each in devices.inbox("nas").rglob("*")]
        assert sorted(names) == [".lanxfer-staging", "lock"]

    @in_reactor
    async def test_wrong_tickets(self, devices: Devices) -> None:
        """Guessed ids, another size and an expired ticket get the same answer."""  # covers: J19
        service = await devices.start("nas", tickets_plain=True)
        slot, late = service.offer_slot("x", 5), service.offer_slot("y", 5, expires=0.01)
        await sleep(0.1)
        with pytest.raises(Expired):  # covers: S1-05
            await late.done
        wrong = [
            f"{slot.session} {slot.session} 5",  # covers: S1-06
            f"{slot.file} {slot.file} 5",
            f"{slot.session} {slot.file} 6",
            f"{slot.session} {slot.file.upper()} 5",
            f"{late.session} {late.file} 5",
        ]
        answers = {await self._upload(service.address, f"{w}\nhello".encode()) for w in wrong}
        assert len(answers) == 1
        assert answers.pop().startswith(b"error forbidden")
        assert (await self._upload(service.address, slot.line + b"hello")).startswith(b"ok 5 ")

    @in_reactor
    async def test_not_in_plain_text(self, devices: Devices) -> None:
        """Tickets in plain text are refused unless the service was told to take them."""
        service = await devices.start("nas")
        slot = service.offer_slot("x", 5)
        assert b"tls-required" in await self._upload(service.address, slot.line + b"hello")
