"""Sending in place of a command: what is told of it, to one who reads and to one who does not."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from lanxfer.deferreds import as_deferred
from lanxfer.errors import BadHeader, Cancelled, LanxferError, Lost, TooSlow
from lanxfer.handing import parse_job
from lanxfer.policy import LOCAL
from lanxfer.views import look, view
from lanxfer.wire import limits
from lanxfer.wire.native import format_rows
from lanxfer.wire.packets import Args
from tests.devices import Devices, in_reactor, run, until


@define(eq=False)
class Asker:
    """A call, as far as it is used; ``reads`` says whether anybody listens."""

    args: Args
    data: bytes
    reads: bool = True
    name: str = "send_paths"
    principal: Any = LOCAL
    told: list[Args] = field(factory=list)
    error: LanxferError | None = None
    waiting: Deferred[Any] | None = None

    def tell(self, args: Args) -> bool:
        if self.reads:
            self.told.append(args)
        return self.reads

    def shield(self, waiting: Awaitable[Any]) -> Deferred[Any]:
        self.waiting = Deferred()
        if self.error is not None:
            self.waiting.errback(self.error)
        as_deferred(waiting).addBoth(self._pass_on, self.waiting)
        return self.waiting

    def _pass_on(self, result: Any, outer: Deferred[Any]) -> None:
        if not outer.called:
            outer.callback(result)

    def stop(self, error: LanxferError) -> None:
        self.error = error
        if self.waiting is not None and not self.waiting.called:
            self.waiting.errback(error)

    def of(self, what: str) -> list[Any]:
        return [each[what] for each in self.told if what in each]


def asker(*paths: str, reads: bool = True, **args: object) -> Asker:
    things = [look(path) for path in paths]
    body = format_rows({"path": each.path, "dev": each.dev, "ino": each.ino} for each in things)
    return Asker({"peer": "nas", "view": view(), **args}, body, reads)


@pytest.fixture
def devices(tmp_path: Path) -> Any:
    made = Devices(tmp_path)
    yield made
    run(made.close())


async def pair(devices: Devices) -> Any:
    nas, ours = await devices.start("nas"), await devices.start("ours")
    await devices.pair("ours", nas, "nas")
    return ours


def small(devices: Devices, count: int) -> str:
    for number in range(count):
        devices.source(f"many/{number:05}", b"x")
    return str(devices.folder / "many")


class HandedTests:
    @in_reactor
    async def test_sums(self, devices: Devices) -> None:
        """What nobody would read of one by one is counted, and costs few events."""
        ours = await pair(devices)
        asked = asker(small(devices, 3000))
        found = await ours._now.node.send_paths(asked)
        assert found == {"sees": True}
        assert asked.told[0] == {"connected": True} and len(asked.told) < 200
        counted = [each["many"] for each in asked.of("below")]
        sums = [sum(column) for column in zip(*counted, strict=True)]
        [folder] = [row for rows in asked.of("entries") for row in rows]
        assert (folder["path"], folder["kind"]) == ("many", "folder")
        assert sums == [3000, 0, 3000, 0, 3000]

    @in_reactor
    async def test_rows(self, devices: Devices) -> None:
        """Who wants a row of each entry gets it, many with one event."""
        ours = await pair(devices)
        asked = asker(small(devices, 300), rows=True)
        await ours._now.node.send_paths(asked)
        rows = [row for rows in asked.of("entries") for row in rows]
        assert len(rows) == 301 and len(asked.of("entries")) < 100
        assert {row["blake3"] for row in rows if row["kind"] == "file"} != {""}

    @in_reactor
    async def test_unread(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """For who does not read what it is told, so much is kept and no more."""
        monkeypatch.setattr(limits, "UNTOLD_MAX", 50)
        ours = await pair(devices)
        asked = asker(small(devices, 300), rows=True, reads=False)
        with pytest.raises(TooSlow):
            await ours._now.node.send_paths(asked)
        await until(lambda: not ours._now.registry.pending())

    @pytest.mark.parametrize("error", [Cancelled(), Lost()])
    @in_reactor
    async def test_stopped(self, devices: Devices, error: LanxferError) -> None:
        """When the asker gives up, or is gone, nothing goes on; what had arrived is told."""
        ours = await pair(devices)
        large = devices.source("large", bytes(30_000_000))
        asked = asker(devices.source("first", b"1"), large)

        def moving(snapshot: Any) -> None:
            if snapshot.path == "large" and snapshot.done:
                ours._now.registry.find(snapshot.id).pause(True)

        ours.subscribe(moving)
        sending = Deferred.fromCoroutine(ours._now.node.send_paths(asked))
        registry = ours._now.registry
        await until(lambda: [each for each in registry.pending() if each.done])
        await until(lambda: [each for each in registry.finished() if each.path == "first"])
        asked.stop(error)
        with pytest.raises(type(error)):
            await sending
        assert not registry.pending()
        assert [row["path"] for rows in asked.of("entries") for row in rows] == ["first"]
        assert not (devices.inbox("nas") / "large").exists()

    @pytest.mark.parametrize(
        ("args", "rows"),
        [
            ({}, []),
            ({"as": "x"}, [{"path": "/a", "dev": 1, "ino": 1}] * 2),
            ({"conflict": "what"}, [{"path": "/a", "dev": 1, "ino": 1}]),
            ({}, [{"path": "/a", "dev": 1}]),
            ({"view": None}, [{"path": "/a", "dev": 1, "ino": 1}]),
        ],
    )
    def test_nonsense(self, args: dict[str, Any], rows: list[Args]) -> None:
        """What makes no sense is refused before anything is looked at."""
        call: Any = Asker({"peer": "nas", "view": "", **args}, format_rows(rows))
        with pytest.raises(BadHeader):
            parse_job(call)
