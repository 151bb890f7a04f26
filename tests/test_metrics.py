"""The figures: what is counted, how it reads, and who may ask for it."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from devices import Devices, in_reactor, run, until
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as older_families
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from lanxfer.errors import BadConfig, Cancelled, Forbidden, LanxferError, NotPaired
from lanxfer.metrics import door
from lanxfer.metrics.counts import Counts
from lanxfer.metrics.figures import Now, exposition, families
from lanxfer.policy import Standing
from lanxfer.registry import Registry, Transfer, new_ids
from lanxfer.transfers import Direction, Kind, Offer, Snapshot, State, Stored

DOCUMENT = Path(__file__).parent.parent / "docs" / "operations.rst"

NOTHING = Now(0.0, [], {}, {}, 0, 0, 0, 0, None)


class Counting:
    """Counts that listen to a registry whose clock is ours."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.counts = Counts()
        self.registry = Registry(lambda: self.now, new_ids(), lambda error: None)
        self.registry.subscribe_many(self.counts.hear)

    def open(self, size: int = 100, direction: Direction = Direction.IN) -> Transfer:
        return self.registry.open(direction, Kind.FILE, "peer:x", "a", size)

    def moved(self, direction: Direction = Direction.IN) -> int:
        return self.counts.moved(self.registry.pending())[direction]


def move(transfer: Transfer, offset: int = 0) -> None:
    """As everybody does who begins to move bytes."""
    transfer.enter(State.ACCEPTED)
    transfer.enter(State.MOVING)
    transfer.progressed(offset)


def done(size: int, already: bool = False) -> dict[str, Any]:
    return {"stored": Stored("a", size, "d", already)}


class CountsTests:
    def test_moved(self) -> None:
        """Bytes count while they move, those that were here before a resume do not."""
        here = Counting()
        fresh, resumed = here.open(100), here.open(1000)
        move(fresh)
        move(resumed, 400)
        assert here.moved() == 0
        fresh.progressed(60)
        resumed.progressed(500)
        assert here.moved() == 160
        fresh.retire(State.DONE, **done(100))
        resumed.retire(State.INTERRUPTED, error=LanxferError())
        assert here.moved() == 200
        assert here.moved(Direction.OUT) == 0

    def test_already(self) -> None:
        """What was here already was not moved, and is no stored file."""
        here = Counting()
        here.open().retire(State.DONE, **done(100, already=True))
        assert (here.moved(), here.counts.stored) == (0, 0)
        assert here.counts.ended[Direction.IN, Kind.FILE, State.DONE] == 1
        here.open().retire(State.DONE, **done(100))
        assert (here.moved(), here.counts.stored) == (100, 1)
        here.open(direction=Direction.OUT).retire(State.DONE, **done(100))
        assert here.counts.stored == 1

    @pytest.mark.parametrize("direction", list(Direction))
    def test_together(self, direction: Direction) -> None:
        """Files of one pack count as if they had come one by one."""
        here, single = Counting(), Counts()
        here.registry.subscribe(lambda snapshot: single.hear([snapshot]))
        stored = [Stored(name, 2, "d", already) for name in "ab" for already in (True, False)]
        files = [*(Offer(each.path, 2) for each in stored), Offer("c", 3)]
        here.registry.passed(direction, "peer:x", files, [*stored, LanxferError()], started=990.0)
        assert here.moved(direction) == single.moved([])[direction] == 4
        counts = here.counts
        assert (counts.ended, counts.failed, counts.stored, counts.took) == (
            single.ended,
            single.failed,
            single.stored,
            single.took,
        )

    def test_foreign_codes(self) -> None:
        """Whatever codes another device makes up, they are one."""
        here = Counting()
        for number in range(100):
            made_up = type("MadeUp", (LanxferError,), {"code": f"made-up-{number}"})
            here.open().retire(State.FAILED, error=made_up())
        here.open().retire(State.CANCELLED, error=Cancelled())
        assert here.counts.failed == {
            (Direction.IN, "other"): 100,
            (Direction.IN, "cancelled"): 1,
        }

    def test_seconds(self) -> None:
        """How long files took falls into classes; a clock that jumped back is no time at all."""
        here = Counting()
        for took in (0.005, 0.01, 5.0, 9999.0, -3.0):
            transfer = here.open()
            here.now += took
            transfer.retire(State.DONE, **done(100))
        spread = here.counts.took[Direction.IN]
        assert spread.classes == [3, 0, 0, 1, 0, 0, 0, 1]
        assert spread.total == pytest.approx(10004.015)

    def test_jobs(self) -> None:
        """A run of a job is no transfer."""
        counts = Counts()
        counts.hear([Snapshot("i", Direction.OUT, Kind.JOB, "job:x", "x", 0, State.FAILED)])
        assert counts.jobs == {State.FAILED: 1} and not counts.ended and not counts.failed

    def test_forgotten(self) -> None:
        """Nothing is kept of what is over."""
        here = Counting()
        for end in (State.DONE, State.FAILED):
            transfer = here.open()
            move(transfer)
            transfer.retire(end)
        assert not here.counts._begins

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 100))))
    def test_never_fewer(self, steps: list[tuple[int, int, int]]) -> None:
        """Whatever happens to transfers, a counter never goes back."""
        here = Counting()
        transfers = [here.open() for _ in range(3)]
        before = 0
        for which, what, number in steps:
            transfer = transfers[which]
            here.now += 1
            if what == 0:
                move(transfer, number)
            elif what == 1:
                transfer.progressed(number)
            elif what == 2:
                transfer.again()
            elif what == 3:
                transfer.resized(number)
            else:
                transfer.retire(State.DONE if what == 4 else State.FAILED, **done(number))
                transfers[which] = here.open()
            assert here.moved() >= before
            before = here.moved()


def parsed(text: str) -> dict[str, Any]:
    """Samples by name and labels, read by the strict parser of the specification's authors."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


class FiguresTests:
    def test_openmetrics(self) -> None:
        """It is OpenMetrics, to its last line, and the older format says the same."""
        here = Counting()
        here.open().retire(State.DONE, **done(100))
        here.open().retire(State.FAILED, error=NotPaired())
        now = Now(5.0, [here.open().snapshot], {"bad-header": 2}, {Standing.PEER: 3}, 4, 5, 6, 7, 8)
        text = exposition(here.counts, now).decode()
        assert text.endswith("\n# EOF\n")
        found = parsed(text)
        for name, value in {
            "lanxfer_start_time_seconds": 5,
            "lanxfer_transfers_total{direction=in,kind=file,outcome=done}": 1,
            "lanxfer_transfers_total{direction=out,kind=file,outcome=done}": 0,
            "lanxfer_transfer_errors_total{code=not-paired,direction=in}": 1,
            "lanxfer_transferred_bytes_total{direction=in}": 100,
            "lanxfer_stored_files_total": 1,
            "lanxfer_transfer_duration_seconds_count{direction=in}": 1,
            "lanxfer_transfer_duration_seconds_bucket{direction=in,le=0.01}": 1,
            "lanxfer_active_transfers{direction=in,state=offered}": 1,
            "lanxfer_refused_connections_total{code=bad-header}": 2,
            "lanxfer_connections{standing=peer}": 3,
            "lanxfer_connections{standing=stranger}": 0,
            "lanxfer_unidentified_connections": 4,
            "lanxfer_dialed_connections": 5,
            "lanxfer_queued_sends": 6,
            "lanxfer_waiting_offers": 7,
            "lanxfer_inbox_free_bytes": 8,
        }.items():
            assert found[name] == value, name
        older = exposition(here.counts, now, classic=True).decode()
        assert "# EOF" not in older and "# UNIT" not in older
        names = {sample.name for family in older_families(older) for sample in family.samples}
        assert names == {name.partition("{")[0] for name in found}

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
    def test_process(self) -> None:
        """What the system says of the process is there as well."""
        found = parsed(exposition(Counts(), NOTHING).decode())
        assert found["process_resident_memory_bytes"] > 1e6
        assert found["process_open_fds"] > 2
        assert "lanxfer_inbox_free_bytes" not in found

    def test_documented(self) -> None:
        """Every figure, its kind and its labels are in the table of docs/operations.rst."""
        now = Now(0.0, [], {"busy": 1}, {}, 0, 0, 0, 0, 1)
        counts = Counts()
        counts.failed[Direction.IN, "busy"] = 1
        suffixes = {"counter": "_total", "info": "_info"}
        made = {
            each.name + suffixes.get(each.type, ""): (
                each.type,
                " ".join(
                    sorted({key for sample in each.samples for key in sample.labels} - {"le"})
                ),
            )
            for each in families(counts, now)
        }
        rows = re.findall(
            r"^``(lanxfer_\w+)``\s+(\w+)(?:\s+((?:``\w+`` ?)+))?", DOCUMENT.read_text(), re.M
        )
        written = {
            name: (kind, " ".join(sorted(labels.replace("`", "").split())))
            for name, kind, labels in rows
        }
        assert written == made


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Devices]:
    made = Devices(tmp_path)
    yield made
    run(made.close())


def ask(url: str, *lines: str, method: str = "GET", body: bytes = b"") -> Deferred[tuple[int, str]]:
    """Status and body of one answer, over a socket of its own."""
    where, _, path = url.removeprefix("http://").partition("/")
    host, _, port = where.rpartition(":")

    def talk() -> tuple[int, str]:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=20) as wire:
            heads = [f"{method} /{path} HTTP/1.1", *(lines or (f"Host: {where}",))]
            if body:
                heads.append(f"Content-Length: {len(body)}")
            wire.sendall("\r\n".join([*heads, "Connection: close", "", ""]).encode() + body)
            answer = b""
            while more := wire.recv(65536):
                answer += more
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), rest.decode()

    return deferToThread(talk)


class ServiceTests:
    @in_reactor
    async def test_scraped(self, devices: Devices) -> None:
        """What devices and strangers did is there, in numbers, and nobody's name is."""
        service = await devices.start("nas", metrics_port=0)
        await devices.pair("laptop", service, "nas")
        devices.pin("mallory", "nas", service.address)
        client = await devices.client("laptop", "nas")
        await client.send_file(devices.source("secret-name.txt", b"x" * 3000000))
        await client.send_file(devices.source("small", b"hello"))
        await client.send_message("hello")
        with pytest.raises(NotPaired):
            await devices.client("mallory", "nas")
        status, text = await ask(service.status()["metrics"])
        assert status == 200
        found = parsed(text)
        assert found["lanxfer_transfers_total{direction=in,kind=file,outcome=done}"] == 2
        assert found["lanxfer_transfers_total{direction=in,kind=message,outcome=done}"] == 1
        assert found["lanxfer_transferred_bytes_total{direction=in}"] == 3000010
        assert found["lanxfer_stored_files_total"] == 2
        assert found["lanxfer_connections{standing=peer}"] == 1
        assert found["lanxfer_inbox_free_bytes"] > 0
        assert sum(each for name, each in found.items() if "refused_connections" in name) == 1
        key = devices.key("laptop")
        for name in ("laptop", "mallory", "secret", "small", key, key[:8], str(devices.folder)):
            assert name not in text

    @in_reactor
    async def test_together_and_again(self, devices: Devices) -> None:
        """Many may ask at once, and a service that was started again begins to count anew."""
        service = await devices.start("nas", metrics_port=0)
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        await client.send_file(devices.source("a", b"hello"))
        url = service.status()["metrics"]
        answers = await gatherResults([ask(url) for _ in range(8)])
        assert {status for status, _ in answers} == {200}
        first = [parsed(text) for _, text in answers]
        assert {each["lanxfer_stored_files_total"] for each in first} == {1}
        await client.close()
        await service.stopService()
        with pytest.raises(ConnectionRefusedError):
            await ask(url)
        service.startService()
        await service.when_listening()
        status, text = await ask(service.status()["metrics"])
        second = parsed(text)
        assert status == 200 and second["lanxfer_stored_files_total"] == 0
        since = "lanxfer_start_time_seconds"
        assert second[since] > first[0][since]

    @in_reactor
    async def test_doors(self, devices: Devices) -> None:
        """One path, two methods, no name but its own: nothing else is answered."""
        service = await devices.start("nas", metrics_port=0, web_names=("nas.example",))
        url = service.status()["metrics"]
        root = url.removesuffix("/metrics")
        for line in ("Host: nas.example", "Host: NAS.example:99", "Host: localhost", "Host: [::1]"):
            assert (await ask(url, line))[0] == 200
        # A name somebody else had point here.
        for lines in (("Host: evil.example",), ("Host: x", "Host: 127.0.0.1"), ("X: y",)):
            status, body = await ask(url, *lines)
            assert status in (400, 421) and "lanxfer_" not in body
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert await ask(url, method=method) == (405, "")
        assert (await ask(url, method="POST", body=b"x" * 100))[0] == 405
        assert (await ask(url, method="POST", body=b"x" * 200000))[0] == 413
        assert await ask(url, method="HEAD") == (200, "")
        for path in ("/", "/metrics/", "/metrics/x", "/Metrics", "/../metrics"):
            status, body = await ask(root + path)
            assert status == 404 and "lanxfer_" not in body
        status, text = await ask(url, "Host: localhost", "Accept: text/plain;version=0.0.4")
        assert status == 200 and "# EOF" not in text
        both = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4"
        assert (await ask(url, "Host: localhost", both))[1].endswith("# EOF\n")

    @in_reactor
    async def test_hanging_disk(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that does not answer is left out, takes one thread, and comes back."""
        service = await devices.start("nas", metrics_port=0)
        hanging, asked = Event(), []
        store = service._running().store

        def free() -> int:
            asked.append(1)
            hanging.wait(60)
            return 7

        monkeypatch.setattr(store, "free", free)
        monkeypatch.setattr(door, "LOOK", 0.05)
        metrics = service._running().metrics
        try:
            for _ in range(3):
                assert "lanxfer_inbox_free_bytes" not in parsed((await metrics.text()).decode())
            assert len(asked) == 1
        finally:
            hanging.set()
        await until(lambda: not metrics._asking)
        monkeypatch.setattr(door, "LOOK", 60)
        assert parsed((await metrics.text()).decode())["lanxfer_inbox_free_bytes"] == 7

    @in_reactor
    async def test_owner_only(self, devices: Devices) -> None:
        """By way of a connection only the owner is told; without a port, too."""
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        with pytest.raises(Forbidden):
            await client.call("metrics.text")
        owner = await devices.control("nas")
        answer = await owner.call("metrics.text")
        found = parsed(bytes(answer.body).decode())
        assert found["lanxfer_connections{standing=local}"] == 1
        assert service.status()["metrics"] == ""

    @in_reactor
    async def test_without_the_extra(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The service does without it, and says what is missing where it is asked for."""
        for name in ("lanxfer.metrics.figures", "lanxfer.metrics.scraping"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr("lanxfer.metrics.figures", raising=False)
        monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
        service = devices.service("nas", metrics_port=0)
        with pytest.raises(BadConfig, match=r"lanxfer\[metrics\]"):
            service.startService()
        await devices.start("other")
        owner = await devices.control("other")
        with pytest.raises(BadConfig, match=r"lanxfer\[metrics\]"):
            await owner.call("metrics.text")

    @in_reactor
    async def test_said(self, devices: Devices) -> None:
        """That others may read the figures is among what the owner should know."""
        closed = await devices.start("nas", metrics_port=0)
        assert not [each for each in closed.warnings() if "METRICS" in each]
        opened = await devices.start("open", metrics_port=0, metrics_bind="0.0.0.0")
        assert [each for each in opened.warnings() if "METRICS" in each]
        if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
            sixth = await devices.start("six", metrics_port=0, metrics_bind="::1")
            assert (await ask(sixth.status()["metrics"]))[0] == 200
