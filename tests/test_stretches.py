"""Large files between real devices, whose bytes threads read and send in stretches."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, sleep, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from lanxfer import calls, in_turn, stretch_in, stretch_out
from lanxfer.bodies import BodySender
from lanxfer.client import Client
from lanxfer.direct import Direct
from lanxfer.errors import Cancelled, DiskFull, LanxferError, Lost
from lanxfer.storage.parts import LocalPart
from lanxfer.storage.sources import Source
from lanxfer.stretch_in import StretchIn
from lanxfer.stretch_out import StretchOut
from lanxfer.wire import limits

loop: Any = reactor
MIB = limits.MIB
SIZE = 24 * MIB + 17


class Seen:
    """What the threads moved: bytes in and out, and how many stretches came in."""

    def __init__(self) -> None:
        self.came = self.went = 0
        self.stretches = 0

    @property
    def moved(self) -> int:
        """By the threads of either side: in TLS there are those of the sender alone."""
        return max(self.came, self.went)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Stretches of smaller files, counted."""
    found = Seen()
    move_in, move_out = StretchIn.move, StretchOut.move

    def moved_in(stretch: StretchIn) -> None:
        found.stretches += 1
        try:
            move_in(stretch)
        finally:
            found.came += stretch.came

    def moved_out(stretch: StretchOut) -> None:
        try:
            move_out(stretch)
        finally:
            found.went += stretch.went

    monkeypatch.setattr(StretchIn, "move", moved_in)
    monkeypatch.setattr(StretchOut, "move", moved_out)
    for module in (calls, in_turn):
        monkeypatch.setattr(module, "LEAST", 4 * MIB)
    for each in (stretch_in, stretch_out):
        monkeypatch.setattr(each, "MOST", 4 * MIB)
        monkeypatch.setattr(each, "WAIT", 200)  # however busy the machine is
    yield found


CLEAR_AND_TLS = pytest.mark.parametrize("plain", [True, False], ids=["clear", "tls"])


async def pair(devices: Devices, *, plain: bool = True, **settings: Any) -> tuple[Any, Client]:
    """A service, and a client that speaks to it."""
    service = await devices.start("server", plain_from=("127.0.0.0/8",), open=True, **settings)
    await devices.pair("client", service, "server")
    return service, await devices.client("client", service.address, plain=plain, patience=0.0)


def before(monkeypatch: pytest.MonkeyPatch, cls: Any, name: str, call: Callable[..., None]) -> None:
    """Have ``call`` see the arguments of a method first; it may raise, or wait."""
    usual = getattr(cls, name)

    def instead(self: Any, *args: Any) -> Any:
        call(self, *args)
        return usual(self, *args)

    monkeypatch.setattr(cls, name, instead)


class Hanging:
    """A disk that hangs, once, in a call that ``when`` picks; until ``go_on``."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, cls: Any, name: str, when: Callable[[Any], bool]
    ) -> None:
        self.go_on, self.hung = threading.Event(), threading.Event()
        self._when = when
        before(monkeypatch, cls, name, self._hang)

    def _hang(self, made: Any, *args: Any) -> None:
        if self._when(made) and not self.hung.is_set():
            self.hung.set()
            assert self.go_on.wait(60)


@in_reactor
@CLEAR_AND_TLS
async def test_sent(devices: Devices, seen: Seen, plain: bool) -> None:
    """A large file goes in stretches on both sides and arrives as it is, and so does the next."""
    # covers: B07
    data = os.urandom(SIZE)
    _, client = await pair(devices, plain=plain)
    for name in ("one", "two"):
        receipt = await client.send_file(devices.source(name, data))
        assert receipt.stored == name
        assert (devices.inbox("server") / name).read_bytes() == data
    assert seen.went > SIZE
    assert (seen.came > SIZE) == plain
    assert await client.call("ping")


@in_reactor
@CLEAR_AND_TLS
async def test_others_meanwhile(devices: Devices, seen: Seen, plain: bool) -> None:
    """Requests, small files and other large ones on the same connection have their turns."""
    data = os.urandom(3 * SIZE)
    _, client = await pair(devices, plain=plain)
    sending = [client.send_file(devices.source("large", data))]
    await until(lambda: seen.moved)
    for number in range(20):
        assert await client.call("ping")
        sending.append(client.send_file(devices.source(f"small{number}", b"%d" % number)))
        if number == 5:
            sending.append(client.send_file(devices.source("other", data[::-1])))
    for each in sending:
        await each
    inbox = devices.inbox("server")
    assert (inbox / "large").read_bytes() == data
    assert (inbox / "other").read_bytes() == data[::-1]
    assert sorted(each.name for each in inbox.glob("small*")) == sorted(
        f"small{number}" for number in range(20)
    )


@in_reactor
async def test_hanging_disk(devices: Devices, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the receiver's disk hangs in the midst of a stretch, its connection is read."""
    # covers: R10
    data = os.urandom(SIZE)
    disk = Hanging(monkeypatch, LocalPart, "write", lambda part: part.position >= 8 * MIB)
    _, client = await pair(devices)
    sending = client.send_file(devices.source("large", data))
    await until(disk.hung.is_set)
    for _ in range(3):
        assert await client.call("ping")
        await sleep(0.1)
    assert not sending.called
    disk.go_on.set()
    await sending
    assert (devices.inbox("server") / "large").read_bytes() == data
    assert seen.came


@in_reactor
async def test_hanging_from_the_start(
    devices: Devices, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first write hangs, before there is any stretch, its connection is read as well."""
    # covers: R10
    data = os.urandom(SIZE)
    disk = Hanging(monkeypatch, LocalPart, "write", lambda part: True)
    _, client = await pair(devices)
    sending = client.send_file(devices.source("large", data))
    await until(disk.hung.is_set)
    for _ in range(3):
        assert await client.call("ping")
        await sleep(0.1)
    disk.go_on.set()
    await sending
    assert (devices.inbox("server") / "large").read_bytes() == data


@in_reactor
@CLEAR_AND_TLS
async def test_no_descriptors(
    devices: Devices, seen: Seen, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no descriptors left, all goes the usual way."""
    # covers: F19
    monkeypatch.setattr(Direct, "_another", lambda direct: None)
    data = os.urandom(SIZE)
    _, client = await pair(devices, plain=plain)
    await client.send_file(devices.source("large", data))
    assert (devices.inbox("server") / "large").read_bytes() == data
    assert not seen.moved


@in_reactor
@CLEAR_AND_TLS
async def test_others_go_on(
    devices: Devices, seen: Seen, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that waited for the one whose thread hangs goes on when that is taken back."""
    data = os.urandom(SIZE)
    disk = Hanging(
        monkeypatch,
        Source,
        "read_into",
        lambda source: source.path.endswith("large") and source.position >= 8 * MIB,
    )
    _, client = await pair(devices, plain=plain)
    sending = client.send_file(devices.source("large", data))
    await until(disk.hung.is_set)
    other = client.send_file(devices.source("other", data[::-1]))
    await other
    assert not sending.called
    disk.go_on.set()
    await sending
    assert (devices.inbox("server") / "large").read_bytes() == data
    assert (devices.inbox("server") / "other").read_bytes() == data[::-1]


@in_reactor
@CLEAR_AND_TLS
async def test_hanging_source(
    devices: Devices, seen: Seen, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the sender's disk hangs in the midst of a stretch, others send what they have to."""
    # covers: R10
    data = os.urandom(SIZE)
    disk = Hanging(monkeypatch, Source, "read_into", lambda source: source.position >= 8 * MIB)
    _, client = await pair(devices, plain=plain)
    sending = client.send_file(devices.source("large", data))
    await until(disk.hung.is_set)
    assert await client.call("ping")
    assert (await client.send_file(devices.source("small", b"x"))).stored == "small"
    disk.go_on.set()
    await sending
    assert (devices.inbox("server") / "large").read_bytes() == data
    assert seen.went


@in_reactor
async def test_disk_full(devices: Devices, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the midst of a stretch refuses the file; the next try resumes it."""
    # covers: F18
    data = os.urandom(SIZE)
    full = True

    def fill(part: LocalPart, chunks: Any) -> None:
        if full and part.position >= 10 * MIB:
            raise DiskFull()

    before(monkeypatch, LocalPart, "write", fill)
    _, client = await pair(devices)
    path = devices.source("large", data)
    with pytest.raises(DiskFull):
        await client.send_file(path)
    assert await client.call("ping")
    full = False
    receipt = await client.send_file(path)
    assert receipt.resumed_from >= 8 * MIB
    assert (devices.inbox("server") / "large").read_bytes() == data
    assert seen.came


@in_reactor
@pytest.mark.parametrize("who", ["sender", "receiver"])
@CLEAR_AND_TLS
async def test_cut(
    devices: Devices, seen: Seen, plain: bool, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """A connection that is cut in the midst of a stretch ends it; the next one goes on there."""
    # covers: B04
    data = os.urandom(SIZE)
    service, client = await pair(devices, plain=plain)
    cut: list[bool] = []
    reached: Deferred[None] = Deferred()

    def look(part: LocalPart, chunks: Any) -> None:
        if part.position >= 8 * MIB and not cut:
            cut.append(True)
            loop.callFromThread(reached.callback, None)

    before(monkeypatch, LocalPart, "write", look)
    path = devices.source("large", data)
    sending = client.send_file(path)
    await reached
    if who == "sender":
        client._connection.abort(Lost())  # type: ignore[attr-defined]
    else:
        for each in list(service._now.factory.connections):
            each.abort(Lost())
    with pytest.raises(LanxferError):
        await sending
    again = await devices.client("client", service.address, plain=plain)
    receipt = await again.send_file(path)
    assert receipt.resumed_from
    assert (devices.inbox("server") / "large").read_bytes() == data


@in_reactor
@CLEAR_AND_TLS
async def test_cancelled(devices: Devices, seen: Seen, plain: bool) -> None:
    """Cancelled in the midst of it, by whichever side, it ends, and the connection goes on."""
    data = os.urandom(3 * SIZE)
    service, client = await pair(devices, plain=plain)
    path = devices.source("large", data)

    sending = client.send_file(path)
    await until(lambda: seen.moved > 8 * MIB)
    sending.cancel()
    with pytest.raises(Cancelled):
        await sending
    assert await client.call("ping")
    await until(lambda: not service._now.registry.pending())

    seen.came = seen.went = 0
    sending = client.send_file(path)
    await until(lambda: seen.moved > 8 * MIB)
    for each in service._now.registry.pending():
        service._now.registry.cancel(each.id)
    with pytest.raises(Cancelled):
        await sending
    assert await client.call("ping")

    await until(lambda: not service._now.registry.pending())
    await client.send_file(path)
    assert (devices.inbox("server") / "large").read_bytes() == data


@in_reactor
@CLEAR_AND_TLS
async def test_source_shrinks(
    devices: Devices, seen: Seen, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is cut off while a thread sends it is begun anew, on the same connection."""
    # covers: S10
    data = os.urandom(SIZE)
    _, client = await pair(devices, plain=plain)
    path = devices.source("large", data)

    def shrink(source: Source, space: memoryview) -> None:
        if source.position >= 8 * MIB and Path(path).stat().st_size == SIZE:
            os.truncate(path, 9 * MIB)

    before(monkeypatch, Source, "read_into", shrink)
    receipt = await client.send_file(path)
    assert receipt.size == 9 * MIB
    assert (devices.inbox("server") / "large").read_bytes() == data[: 9 * MIB]
    assert await client.call("ping")


@in_reactor
@CLEAR_AND_TLS
async def test_paused(devices: Devices, seen: Seen, plain: bool) -> None:
    """Held back here it stays where it is, and goes on when it is let."""
    data = os.urandom(3 * SIZE)
    _, client = await pair(devices, plain=plain)
    sending = client.send_file(devices.source("large", data))
    await until(lambda: seen.went > 8 * MIB)
    [transfer] = client.registry.pending()
    client.registry.find(transfer.id).pause(True)
    await sleep(0.3)
    there = seen.went
    await sleep(0.2)
    assert seen.went == there
    assert not sending.called
    client.registry.find(transfer.id).pause(False)
    await sending
    assert (devices.inbox("server") / "large").read_bytes() == data


@in_reactor
async def test_slowed_down(devices: Devices, seen: Seen) -> None:
    """Where there is a limit on the speed of either side nothing goes past it."""
    _, client = await pair(devices, rate_in=100 * MIB)
    await client.send_file(devices.source("large", os.urandom(SIZE)))
    assert seen.came == 0


def test_what_may_be_on_the_way() -> None:
    """All of it may wait for a disk that hangs, and what else is said is read nevertheless."""
    # covers: J16
    assert limits.WINDOW_QUICK + limits.UNIT <= limits.UNWRITTEN_MAX


def senders() -> list[BodySender]:
    return [each for each in gc.get_objects() if isinstance(each, BodySender)]


@in_reactor
@CLEAR_AND_TLS
async def test_nothing_is_kept(devices: Devices, seen: Seen, plain: bool) -> None:
    """When a file is sent nothing of its sender stays, and nobody has to look for circles."""
    _, client = await pair(devices, plain=plain)
    gc.collect()
    before = senders()  # of other tests, which may keep what they made
    gc.disable()
    try:
        await client.send_file(devices.source("large", os.urandom(SIZE)))
        assert seen.went
        assert len(senders()) == len(before)
    finally:
        gc.enable()
