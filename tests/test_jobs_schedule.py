"""Jobs that run by themselves: when, how often, and what is kept of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, run, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from lanxfer.jobs import ConfigError, watching
from lanxfer.jobs.beside import ServiceWithJobs, with_jobs, writable
from lanxfer.jobs.config.settings import JobConfig, Schedule
from lanxfer.jobs.planned import AGAIN, Planned
from lanxfer.jobs.schedule import JobsService, scheduled
from lanxfer.jobs.times import check, next_run
from lanxfer.jobs.watching import FolderWatch
from lanxfer.tap import Options, makeService
from lanxfer.transfers import Kind, Snapshot, State

NOON = datetime(2026, 3, 2, 12, 0)


class Files:
    """The files of one application."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = str(folder / "app.cfg")
        (folder / "jobs").mkdir()
        (folder / "in").mkdir()
        (folder / "app.cfg").write_text("[global]\njobs_dir = jobs\nlocks_dir = locks\n")

    def job(self, schedule: str, id: str = "j", source: str = "path = in") -> None:
        (self.folder / "jobs" / f"{id}.cfg").write_text(
            f"[source]\n{source}\n[target]\npath = out\n[schedule]\n{schedule}\n"
        )

    def out(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("out/[!.]*"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class TimesTests:
    @pytest.mark.parametrize(
        ("schedule", "last", "due"),
        [
            (Schedule(every=600), None, NOON),
            (Schedule(every=600), NOON - timedelta(minutes=4), NOON + timedelta(minutes=6)),
            (Schedule(every=600), NOON - timedelta(hours=4), NOON),
            (Schedule(every=600), NOON + timedelta(hours=4), NOON),  # the clock was set
            (Schedule(cron="30 3 * * *"), None, datetime(2026, 3, 3, 3, 30)),
            (Schedule(cron="0 13 * * *", every=7200), NOON, datetime(2026, 3, 2, 13)),
            (Schedule(watch=True), None, None),
        ],
    )
    def test_next(self, schedule: Schedule, last: datetime | None, due: datetime | None) -> None:
        """The next time, counted from the last run, or as cron has it."""
        assert next_run(schedule, NOON, last) == due

    def test_nonsense(self) -> None:
        """What cron cannot mean is said at once."""
        assert check(Schedule(cron="30 3 * * *")) == ""
        assert "makes no sense" in check(Schedule(cron="a b c"))
        with pytest.raises(ConfigError):
            next_run(Schedule(cron="61 * * * *"), NOON, None)


class _Scheduler:
    """A service whose clock is the test's, and which only counts what it is to run."""

    def __init__(self, files: Files) -> None:
        self.app_cfg, self.state = files.app, None
        self.clock = Clock()
        self.ran: list[datetime] = []
        self.errors: list[str] = []
        self.log: Any = self
        self.running = True

    def error(self, text: str, **fields: Any) -> None:
        self.errors.append(text.format(**fields))

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.clock.seconds())

    def sleep(self, seconds: float) -> Deferred[None]:
        waiting: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self.clock.callLater(seconds, waiting.callback, None)
        return waiting

    def from_thread(self, call: Any) -> None:
        call()

    async def run(self, config: JobConfig) -> None:
        self.ran.append(self.now())

    def advance(self, **time: float) -> None:
        until = self.clock.seconds() + timedelta(**time).total_seconds()
        while calls := [each for each in self.clock.getDelayedCalls() if each.getTime() <= until]:
            self.clock.advance(min(each.getTime() for each in calls) - self.clock.seconds())
        self.clock.advance(until - self.clock.seconds())


class PlannedTests:
    def begin(self, files: Files) -> tuple[_Scheduler, Deferred[None]]:
        scheduler = _Scheduler(files)
        return scheduler, Deferred.fromCoroutine(Planned(scheduler, "j").loop())

    def test_every(self, files: Files) -> None:
        """At once, and then every so often, until it is cancelled."""
        files.job("every = 10")
        scheduler, loop = self.begin(files)
        scheduler.advance(minutes=35)
        assert scheduler.ran == [NOON + timedelta(minutes=each) for each in (0, 10, 20, 30)]
        loop.cancel()
        assert loop.called
        assert scheduler.clock.getDelayedCalls() == []

    def test_cron(self, files: Files) -> None:
        """When its time comes it runs, once, also where that is hours away."""
        files.job("cron = 30 15 * * *")
        scheduler, loop = self.begin(files)
        scheduler.advance(hours=3)
        assert scheduler.ran == []
        scheduler.advance(days=1, hours=1)
        first = NOON + timedelta(hours=3, minutes=30)
        assert scheduler.ran == [first, first + timedelta(days=1)]
        loop.cancel()

    def test_broken_meanwhile(self, files: Files) -> None:
        """Files that make no sense for a while are looked at again."""
        files.job("every = 10")
        scheduler, loop = self.begin(files)
        files.job("every = often")
        scheduler.advance(minutes=12)
        assert len(scheduler.ran) == 1
        assert scheduler.errors[0].startswith("job j: j.cfg: [schedule] every")
        files.job("every = 10")
        scheduler.advance(seconds=AGAIN)
        assert len(scheduler.ran) == 2
        loop.cancel()

    def test_no_schedule_any_more(self, files: Files) -> None:
        """A job that has none any more is left alone from then on."""
        files.job("every = 10")
        scheduler, loop = self.begin(files)
        files.job("")
        scheduler.advance(minutes=40)
        assert len(scheduler.ran) == 2  # the second had its time already
        assert loop.called

    def test_watch(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a change it waits until whoever writes there is done."""
        monkeypatch.setattr(FolderWatch, "_by_notice", _not_here)
        (files.folder / "in" / "a.txt").write_text("x")  # came while nobody watched
        files.job("watch = yes\nsettle = 5\npoll = 0.05")
        scheduler, loop = self.begin(files)
        deadline = time.monotonic() + 60
        while not scheduler.clock.getDelayedCalls() and time.monotonic() < deadline:
            time.sleep(0.01)
        scheduler.advance(seconds=4)
        assert len(scheduler.ran) == 0
        scheduler.advance(seconds=2)
        assert len(scheduler.ran) == 1
        scheduler.advance(hours=2)
        assert len(scheduler.ran) == 1
        loop.cancel()


class WatchTests:
    @pytest.mark.parametrize("by_looking", [False, True])
    def test_noticed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_looking: bool
    ) -> None:
        """A file that comes is noticed, whether the system tells or somebody looks."""
        if by_looking:
            monkeypatch.setattr(FolderWatch, "_by_notice", _not_here)
        monkeypatch.setattr(watching, "LOOK_AGAIN", 0.05)
        noticed = threading.Event()
        watch = FolderWatch(str(tmp_path), False, 0.05, noticed.set)
        watch.start()
        try:
            for number in range(200):
                (tmp_path / f"{number}.txt").write_text("x")
                if noticed.wait(0.1):
                    break
            assert noticed.is_set()
            while noticed.is_set():  # by the last of them, too
                noticed.clear()
                noticed.wait(1.0)
            for path in tmp_path.iterdir():
                path.unlink()
            assert not noticed.wait(1.0)  # what goes is no reason
        finally:
            watch.stop()


def _more(told: list[Snapshot], before: int) -> bool:
    return len([each for each in told if each.size]) > before


class ServiceTests:
    @pytest.fixture
    def devices(self, tmp_path: Path) -> Iterator[Devices]:
        made = Devices(tmp_path)
        yield made
        run(made.close())

    @in_reactor
    async def test_history(self, files: Files, devices: Devices) -> None:
        """What ran beside a service is in its history, with what came of it."""
        (files.folder / "in" / "a.txt").write_text("a")
        files.job("every = 10")
        files.job("every = 10", "bad", source="path = missing")
        service = devices.service("nas")
        whole = ServiceWithJobs(reactor, service, files.app)
        whole.startService()
        try:
            await until(lambda: len(_jobs(service)) == 2)
            assert [(each.path, each.state) for each in _jobs(service)] == [
                ("bad", State.FAILED),
                ("j", State.DONE),
            ]
            good = _jobs(service)[1]
            assert (good.size, good.reason.partition(",")[0]) == (1, "1 transferred")
            assert files.out() == ["a.txt"]
        finally:
            await whole.stopService()

    @in_reactor
    async def test_stopped_in_a_run(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stopping ends what runs, in good order, and says so."""
        from lanxfer.jobs.ends.local import LocalEnd

        (files.folder / "in" / "a.txt").write_text("a")
        files.job("every = 10")
        reached, go_on = threading.Event(), threading.Event()
        plain = LocalEnd.reader

        def reader(end: LocalEnd, path: str, offset: int) -> Any:
            reached.set()
            go_on.wait(30)
            return plain(end, path, offset)

        monkeypatch.setattr(LocalEnd, "reader", reader)
        told = list[Snapshot]()
        service = JobsService(reactor, files.app, on_end=told.append, new_id=lambda: "1")
        service.startService()
        await until(reached.is_set)
        stopped = service.stopService()
        assert not stopped.called
        go_on.set()
        await stopped
        assert [each.state for each in told] == [State.CANCELLED]
        assert files.out() == []

    @in_reactor
    async def test_when_the_folder_changes(self, files: Files) -> None:
        """A file that comes is gone from there a moment later."""
        files.job("watch = yes\nsettle = 0.05\npoll = 0.05", source="path = in\ndelete = yes")
        told = list[Snapshot]()
        service = JobsService(reactor, files.app, on_end=told.append)
        service.startService()
        try:
            for name in ("0", "1", "2"):
                before = len([each for each in told if each.size])
                (files.folder / "in" / name).write_text("x")
                # The file goes before the run is over.
                await until(partial(_more, told, before), 60)
                assert os.listdir(files.folder / "in") == []
            assert files.out() == ["0", "1", "2"]
        finally:
            await service.stopService()
        assert [each.reason[0] for each in told if each.size] == ["1"] * 3
        assert len(told) == 3

    def test_twistd(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        """``twistd lanxfer --jobs`` makes both services, or says what is wrong with the file."""
        monkeypatch.setenv("LANXFER_ALLOW_ROOT", "1")
        state = (
            "--allow-root",
            "--state",
            str(files.folder / "state"),
            "--inbox",
            str(files.folder / "inbox"),
        )
        options = Options()
        options.parseOptions([*state, "--jobs", files.app])
        assert isinstance(makeService(options), ServiceWithJobs)
        options = Options()
        options.parseOptions([*state, "--jobs", str(files.folder / "nothing")])
        with pytest.raises(SystemExit):
            makeService(options)

    def test_sandbox(self, files: Files, devices: Devices) -> None:
        """What scheduled jobs write to is left open to them, and nothing else."""
        files.job("every = 10", source="path = in\ndelete = yes")
        files.job("", "by_hand", source="path = elsewhere")
        assert scheduled(files.app) == ["j"]
        folders = writable(files.app, str(files.folder / "state"))
        names = [os.path.relpath(each, files.folder) for each in folders]
        assert names == ["locks", "out", "in"]
        service = devices.service("nas")
        settings = with_jobs(service.settings, files.app)
        assert set(settings.also_writable) == (set(folders) if settings.sandbox else set())


def _not_here(watch: FolderWatch) -> None:
    raise ImportError


def _jobs(service: Any) -> list[Snapshot]:
    found = [each for each in service.registry.finished() if each.kind is Kind.JOB]
    return sorted(found, key=lambda each: each.path)
