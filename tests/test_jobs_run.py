"""Jobs between folders of one machine: what is moved, what is left, what is said of it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from devices import in_reactor, until
from twisted.internet import reactor
from twisted.internet.task import Clock

from lanxfer.jobs import (
    ConfigError,
    ConnectError,
    Error,
    FileTag,
    FileTags,
    JobResult,
    NotReadyError,
    SingleInstanceError,
    Terminated,
    TransferError,
    blocking,
    configure,
    load,
    transfer,
)
from lanxfer.jobs import running as running_module
from lanxfer.jobs.config.job import read_sections
from lanxfer.jobs.ends import Broken, EndError
from lanxfer.jobs.ends.local import LocalEnd
from lanxfer.jobs.moving import Run
from lanxfer.jobs.results import Row, Tally
from lanxfer.jobs.running import Job

FILES = {"a.txt": b"first", "b.csv": b"x" * 70_000, "sub/c.txt": b"", "sub/deep/d": b"last"}


def fill(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() or path.is_symlink()
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return fill(tmp_path / "in")


def all_of(folder: Path, **more: Any) -> dict[str, Any]:
    return {"path": folder, "recursive": True, **more}


class Config:
    """A job in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = folder / "app.cfg"
        (folder / "jobs").mkdir()
        self.write("", "")

    def write(self, app: str, job: str, source: str = "recursive = yes", target: str = "") -> None:
        self.app.write_text(
            f"[global]\njobs_dir = jobs\nlocks_dir = locks\ncollect_data = yes\n{app}\n"
            "[logging]\nlog_dir = logs\n"
        )
        (self.folder / "jobs" / "j.cfg").write_text(
            f"[job]\n{job}\n[source]\npath = in\n{source}\n[target]\npath = out\n{target}\n"
        )

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("logs/*.log")))


@pytest.fixture
def config(tmp_path: Path, source: Path) -> Config:
    return Config(tmp_path)


class ApiTests:
    # covers: S4-01 S4-04 S4-05
    @in_reactor
    async def test_configure(self, config: Config, tmp_path: Path) -> None:
        """A job is read from its files and run, and says what it did."""
        run, extra = configure(config.app, "j")
        result, code = await run()
        assert extra.sections() == []
        assert code == 0
        assert tree(tmp_path / "out") == FILES
        assert result == evolve(
            JobResult(files_cnt=4, bytes=70_009),
            file_list=result.file_list,
            duration=result.duration,
        )
        assert result.file_list is not None
        assert [row.path for row in result.file_list] == sorted(FILES)
        assert all(isinstance(row.info, float) for row in result.file_list)
        assert result.duration >= max(float(row.info) for row in result.file_list)

    # covers: S4-02
    @in_reactor
    async def test_failure_handed_over(self, config: Config, tmp_path: Path) -> None:
        """What went wrong before is logged, told and raised, and nothing is moved."""
        told = tmp_path / "told"
        config.write("", "", target=f"[notify]\nerror = exec:sh -c 'cat > {told}'")
        run, _ = configure(config.app, "j")
        with pytest.raises(ZeroDivisionError):
            await run(ZeroDivisionError("before it began"))
        assert not (tmp_path / "out").exists()
        assert "before it began" in config.logs()
        assert "before it began" in told.read_text()
        with pytest.raises(Terminated):
            await run(Terminated())

    # covers: S4-03
    @in_reactor
    async def test_transfer(self, source: Path, tmp_path: Path) -> None:
        """Two mappings are enough, and so is a ConfigParser that has both."""
        result = await transfer(all_of(source), {"path": tmp_path / "one"}, collect_data=True)
        assert result.files_cnt == 4
        parser = ConfigParser()
        parser.read_dict(
            {"source": {"path": str(source)}, "target": {"path": str(tmp_path / "two")}}
        )
        result = await transfer(parser)
        assert (result.files_cnt, result.file_list) == (2, None)
        with pytest.raises(ConfigError, match="target"):
            parser.remove_section("target")
            await transfer(parser)
        with pytest.raises(ConfigError):
            await transfer({"path": "x"})

    # covers: S4-05
    @in_reactor
    async def test_not_collected(self, config: Config) -> None:
        """Rows are kept where that is wanted only; counts always are."""
        config.write("", "collect_data = no")
        result, _ = await configure(config.app, "j")[0]()
        assert (result.files_cnt, result.file_list) == (4, None)

    # covers: S4-06
    def test_tags(self) -> None:
        """A tag is its character, under both of its names."""
        assert [str(each) for each in FileTag] == ["=", ">", "<", "~", "!"]
        assert FileTags is FileTag
        assert str(FileTag.TRANSF) == "="
        assert FileTag(">") is FileTag.SRCERR

    # covers: S4-04
    def test_counts(self) -> None:
        """What is said last of a file is what holds."""
        tally = Tally()
        tally.add("b", "no", FileTag.TGTERR)
        tally.add("a", 1.0, FileTag.TRANSF, 10)
        tally.add("b", 2.0, FileTag.TRANSF, 5)
        tally.add("c", "gone", FileTag.SRCERR)
        tally.add("d", "there", FileTag.SKIPPED, 7)
        assert tally.result(True, 3.0) == JobResult(
            2,
            1,
            0,
            (
                Row("a", 1.0, FileTag.TRANSF),
                Row("b", 2.0, FileTag.TRANSF),
                Row("c", "gone", FileTag.SRCERR),
                Row("d", "there", FileTag.SKIPPED),
            ),
            15,
            1,
            3.0,
        )
        assert tally.result(False, 0.0).exit_code == 1

    # covers: S4-07
    @pytest.mark.parametrize(
        ("kind", "code"),
        [
            (ConfigError, 3),
            (ConnectError, 2),
            (TransferError, 2),
            (SingleInstanceError, 0),
            (NotReadyError, 0),
            (Terminated, 5),
        ],
    )
    def test_codes(self, kind: type[BaseException], code: int) -> None:
        """Every error has the code it always had, and a sentence."""
        error: Any = kind()
        assert error.code == code
        assert str(error).endswith(".")
        assert error.result is None
        assert isinstance(error, Error) is (kind is not Terminated)
        assert isinstance(error, Exception) is (kind is not Terminated)


class BlockingTests:
    # covers: S4-01 S4-03
    def test_script(self, config: Config, tmp_path: Path) -> None:
        """A script needs no reactor, may run jobs again, and ends when it ends."""
        script = f"""
from lanxfer.jobs.blocking import *
run, extra = configure({str(config.app)!r}, "j")
result, code = run()
print(result.files_cnt, code)
result, code = run()
print(result.files_cnt, result.skipped, code)
inbox, two = {str(tmp_path / "in")!r}, {str(tmp_path / "two")!r}
print(transfer({{"path": inbox}}, {{"path": two}}).files_cnt)
try:
    transfer({{"path": "/nowhere/at/all"}}, {{"path": "x"}})
except TransferError as error:
    print(error.code, error.result.files_cnt)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.split("\n") == ["4 0", "0 4 0", "2", "2 0", ""], done.stderr

    # covers: S4-09 S4-08
    def test_sigterm(self, tmp_path: Path) -> None:
        """SIGTERM in a script raises Terminated with what had been done, and tidies up."""
        fill(tmp_path / "in", {f"{number:03}": os.urandom(2_000_000) for number in range(60)})
        script = f"""
import os, signal, threading, time
from pathlib import Path
from lanxfer.jobs.blocking import *
set_sigterm_handler()
out = Path({str(tmp_path / "out")!r})
def kill():
    while len([each for each in os.listdir(out) if each[0] != "."] if out.exists() else ()) < 3:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=kill, daemon=True).start()
try:
    transfer({{"path": {str(tmp_path / "in")!r}}}, {{"path": out}}, collect_data=True)
except Terminated as error:
    print(error.code, error.result.files_cnt)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
        )
        code, count = done.stdout.split()
        out = tree(tmp_path / "out")
        assert code == "5", done.stderr
        assert 3 <= int(count) == len(out) < 60
        assert all(data == (tmp_path / "in" / name).read_bytes() for name, data in out.items())

    @in_reactor
    async def test_in_the_reactor(self, source: Path) -> None:
        """It does not block the reactor's own thread."""
        with pytest.raises(RuntimeError):
            blocking.transfer({"path": source}, {"path": "x"})


class LockTests:
    # covers: S4-41 S4-34
    @in_reactor
    async def test_one_at_a_time(self, config: Config, tmp_path: Path) -> None:
        """The second of two runs is not run, and the first does not notice."""
        config.write("", "single_instance = yes", target="temp = ext:.part")
        job, _ = load(config.app, "j")
        other, _ = load(config.app, "j")
        hold = _Hold(tmp_path / "in" / "a.txt")
        with hold:
            first = job.run()
            await until(lambda: hold.reached.is_set())
            with pytest.raises(SingleInstanceError) as caught:
                await other.run()
            assert caught.value.code == 0
            hold.release()
        assert (await first).result.files_cnt == 4
        assert (await other.run()).result.skipped == 4

    # covers: S4-41
    @in_reactor
    async def test_named(self, config: Config, tmp_path: Path) -> None:
        """Jobs that name the same lock wait for each other, too."""
        config.write("", "single_instance = disk")
        (tmp_path / "jobs" / "k.cfg").write_text((tmp_path / "jobs" / "j.cfg").read_text())
        hold = _Hold(tmp_path / "in" / "a.txt")
        with hold:
            first = load(config.app, "j")[0].run()
            await until(lambda: hold.reached.is_set())
            with pytest.raises(SingleInstanceError):
                await load(config.app, "k")[0].run()
            hold.release()
        await first

    # covers: S4-41
    @in_reactor
    async def test_holder_killed(self, config: Config, tmp_path: Path) -> None:
        """Whoever is killed with the lock in its hands keeps nobody out."""
        config.write("", "single_instance = yes")
        script = (
            "import sys; from lanxfer.storage.claims import claim; import time\n"
            f"held = claim({str(tmp_path / 'locks')!r}, 'j'); print('held', flush=True)\n"
            "time.sleep(600)"
        )
        holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(SingleInstanceError):
                await load(config.app, "j")[0].run()
        finally:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()
        assert (await load(config.app, "j")[0].run()).result.files_cnt == 4

    # covers: S4-34
    @in_reactor
    async def test_private(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where nothing is said of locks they are below the state folder, open to nobody else."""
        monkeypatch.setenv("LANXFER_STATE", str(tmp_path / "share" / "state"))
        text = config.app.read_text()
        config.app.write_text(text.replace("locks_dir = locks\n", ""))
        assert (await load(config.app, "j")[0].run()).code == 0
        for each in ("share", "share/state", "share/state/jobs"):
            assert (tmp_path / each).stat().st_mode & 0o777 == 0o700


class ReadyTests:
    # covers: S4-42 S4-35
    @in_reactor
    async def test_ready_file(self, config: Config, tmp_path: Path) -> None:
        """Without the file nothing happens, not even in a log; with it, it goes at the end."""
        config.write("", "ready_file = sub/.ready")
        job, _ = load(config.app, "j")
        with pytest.raises(NotReadyError) as caught:
            await job.run()
        assert caught.value.code == 0
        assert not (tmp_path / "out" / "a.txt").exists()
        assert not list(tmp_path.glob("logs/*"))
        assert not (tmp_path / "locks" / "j.last.json").exists()
        (tmp_path / "in" / "sub" / ".ready").touch()
        assert (await job.run()).result.files_cnt == 4
        assert tree(tmp_path / "out") == FILES
        assert not (tmp_path / "in" / "sub" / ".ready").exists()
        assert "ended: 4 transferred" in config.logs()

    # covers: S4-42
    @in_reactor
    async def test_kept_on_errors(self, config: Config, tmp_path: Path) -> None:
        """After errors it stays, and is never one of the files."""
        config.write("", "ready_file = *.ready")
        (tmp_path / "in" / "today.ready").touch()
        (tmp_path / "out" / "a.txt").mkdir(parents=True)
        job, _ = load(config.app, "j")
        result, code = await job.run()
        assert (result.files_cnt, result.tgt_error_cnt, code) == (3, 1, 1)
        assert (tmp_path / "in" / "today.ready").exists()
        assert not (tmp_path / "out" / "today.ready").exists()
        (tmp_path / "out" / "a.txt").rmdir()
        assert (await job.run()).code == 0
        assert not (tmp_path / "in" / "today.ready").exists()

    # covers: S4-42
    @pytest.mark.parametrize("named", ["today.ready", "*.ready"])
    @in_reactor
    async def test_written_anew(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
    ) -> None:
        """One that was written anew during the run announces the next, and stays for that."""
        config.write("", f"ready_file = {named}")
        ready = tmp_path / "in" / "today.ready"
        ready.write_text("one")
        arrived = Run.arrived

        def and_another(run: Run, *args: Any) -> None:
            arrived(run, *args)
            ready.write_text("another")

        monkeypatch.setattr(Run, "arrived", and_another)
        job, _ = load(config.app, "j")
        assert (await job.run()).result.files_cnt == 4
        assert ready.read_text() == "another"
        assert (await job.run()).result.skipped == 4
        assert not ready.exists()


class RetryTests:
    # covers: S4-43
    @in_reactor
    async def test_delays(self, source: Path, tmp_path: Path) -> None:
        """A source that is away twice is waited for, one second and then two."""
        clock = Clock()
        away = tmp_path / "later"
        job = Job(reactor, _job(all_of(away), tmp_path / "out", retries=2), clock=clock)
        running = job.run()
        waited = []
        for attempt in range(2):
            await until(lambda: clock.getDelayedCalls())
            waited.append(clock.getDelayedCalls()[0].getTime() - clock.seconds())
            if attempt == 1:
                os.rename(source, away)
            clock.advance(waited[-1])
        assert (await running).result.files_cnt == 4
        assert 1.0 <= waited[0] < 1.2
        assert 2.0 <= waited[1] < 2.2

    @in_reactor
    async def test_given_up(self, tmp_path: Path) -> None:
        """After the last attempt the error of that is the run's."""
        clock = Clock()
        job = Job(reactor, _job(all_of(tmp_path / "x"), tmp_path / "out", retries=1), clock=clock)
        running = job.run()
        await until(lambda: clock.getDelayedCalls() or running.called)
        clock.advance(5)
        with pytest.raises(TransferError) as caught:
            await running
        assert caught.value.code == 2
        assert caught.value.result is not None

    # covers: S4-43
    @in_reactor
    async def test_goes_on_in_the_middle(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that broke off goes on where it was, and files that arrived are left alone."""
        data = os.urandom(9_000_000)
        fill(tmp_path / "in", {"a": b"small", "big": data})
        opened = list[tuple[str, int]]()
        plain = LocalEnd.reader

        def reader(self: LocalEnd, path: str, offset: int) -> Any:
            opened.append((path, offset))
            found = plain(self, path, offset)
            if path == "big" and len(opened) == 2:
                return _Breaking(found, 5_000_000)
            return found

        monkeypatch.setattr(LocalEnd, "reader", reader)
        clock = Clock()
        job = Job(reactor, _job(all_of(tmp_path / "in"), tmp_path / "out", retries=3), clock=clock)
        running = job.run()
        await until(lambda: clock.getDelayedCalls())
        clock.advance(5)
        assert (await running).result == JobResult(
            2, bytes=9_000_005, duration=(await _same(running)).result.duration
        )
        assert [path for path, _ in opened] == ["a", "big", "big"]
        assert 4_000_000 < opened[2][1] <= 5_300_000
        assert (tmp_path / "out" / "big").read_bytes() == data


class DeleteTests:
    # covers: S4-46
    @in_reactor
    async def test_after_it_arrived(self, source: Path, tmp_path: Path) -> None:
        """What the target has proved to hold goes at the source; the rest does not."""
        (tmp_path / "out" / "b.csv").mkdir(parents=True)
        result = await transfer(
            all_of(source, delete=True), {"path": tmp_path / "out"}, collect_data=True
        )
        assert (result.files_cnt, result.tgt_error_cnt) == (3, 1)
        assert tree(source) == {"b.csv": FILES["b.csv"]}

    # covers: S4-46
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
    @in_reactor
    async def test_target_fills_up(
        self, source: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that is full in the middle of a file costs nothing, at neither end."""
        out = fill(tmp_path / "out", {"b.csv": b"the old one"})
        real = os.write

        def write(fd: int, data: Any) -> int:
            if len(data) >= 70_000:
                real(fd, data[:1000])
                raise OSError(number, os.strerror(number))
            return real(fd, data)

        monkeypatch.setattr("lanxfer.storage.plain.os.write", write)
        result = await transfer(all_of(source, delete=True), {"path": out}, collect_data=True)
        monkeypatch.undo()
        assert (result.files_cnt, result.tgt_error_cnt) == (3, 1)
        assert tree(source) == {"b.csv": FILES["b.csv"]}
        assert (out / "b.csv").read_bytes() == b"the old one"
        assert all(not name.startswith(".") for name in os.listdir(out))

    # covers: S4-46 S4-43
    @in_reactor
    async def test_source_breaks_before(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What arrived just before the source was lost goes when that is back."""
        plain, tried = LocalEnd.remove, list[str]()

        def remove(end: LocalEnd, path: str) -> None:
            tried.append(path)
            if len(tried) == 1:
                raise Broken("It went away.")
            plain(end, path)

        monkeypatch.setattr(LocalEnd, "remove", remove)
        clock = Clock()
        job = _job(all_of(source, delete=True), tmp_path / "out", retries=1)
        running = Job(reactor, job, clock=clock).run()
        await until(lambda: clock.getDelayedCalls() or running.called)
        assert tree(source) == FILES
        clock.advance(5)
        result = (await running).result
        assert (result.files_cnt, result.exit_code) == (4, 0)
        assert tried[:2] == ["a.txt", "a.txt"]
        assert tree(source) == {}
        assert tree(tmp_path / "out") == FILES

    # covers: S4-46
    @in_reactor
    async def test_target_lies(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What reads back as something else is not there, whatever its size."""
        real = os.write
        monkeypatch.setattr(
            "lanxfer.storage.plain.os.write",
            lambda fd, data: real(fd, bytes(each ^ 1 for each in bytes(data))),
        )
        result = await transfer(all_of(source, delete=True), {"path": tmp_path / "out"})
        monkeypatch.undo()
        assert (result.files_cnt, result.tgt_error_cnt) == (1, 3)
        assert tree(source) == {name: data for name, data in FILES.items() if data}
        assert set(tree(tmp_path / "out")) == {"sub/c.txt"}

    @in_reactor
    async def test_changed_meanwhile(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A source that was changed after it was read stays."""
        plain = LocalEnd.replace

        def replace(self: LocalEnd, path: str, to: str) -> None:
            plain(self, path, to)
            if to == "a.txt":
                (source / "a.txt").write_bytes(b"newer")

        monkeypatch.setattr(LocalEnd, "replace", replace)
        await transfer(all_of(source, delete=True), {"path": tmp_path / "out"})
        assert tree(source) == {"a.txt": b"newer"}
        assert (tmp_path / "out" / "a.txt").read_bytes() == b"first"

    @in_reactor
    async def test_there_already(self, source: Path, tmp_path: Path) -> None:
        """What is there already is compared before it goes: same size and time prove nothing."""
        out = tmp_path / "out"
        await transfer(all_of(source), {"path": out})
        found = os.stat(out / "a.txt")
        (out / "a.txt").write_bytes(b"other")
        os.utime(out / "a.txt", ns=(found.st_mtime_ns, found.st_mtime_ns))
        result = await transfer(all_of(source, delete=True), {"path": out})
        assert (result.files_cnt, result.skipped) == (1, 3)
        assert tree(source) == {}
        assert tree(out) == FILES


class DurableTests:
    # covers: S4-46
    @in_reactor
    async def test_there_already(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What somebody else put there is durable, and its name, before the source goes."""
        out = tmp_path / "out"
        shutil.copytree(source, out)
        log = _Synced(monkeypatch)
        result = await transfer(all_of(source, delete=True), {"path": out})
        assert (result.skipped, tree(source)) == (4, {})
        for name in FILES:
            before = log.before(os.path.basename(name))
            assert {(out / name).stat().st_ino, (out / name).parent.stat().st_ino} <= before

    # covers: S4-46
    @in_reactor
    async def test_there_already_and_failing(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What cannot be made durable there stays here."""
        out = tmp_path / "out"
        shutil.copytree(source, out)
        log = _Synced(monkeypatch)
        log.failing = (out / "a.txt").stat().st_ino
        result = await transfer(all_of(source, delete=True), {"path": out})
        assert (result.skipped, result.tgt_error_cnt) == (3, 1)
        assert tree(source) == {"a.txt": b"first"}

    # covers: S4-46 S4-47
    @in_reactor
    async def test_new_folders(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every folder in which one was made is durable before a source goes."""
        log = _Synced(monkeypatch)
        await transfer(all_of(source, delete=True), {"path": tmp_path / "x" / "y" / "z"})
        made = (tmp_path, tmp_path / "x", tmp_path / "x" / "y")
        assert {each.stat().st_ino for each in made} <= log.before("a.txt")


class OneFolderTests:
    # covers: S4-46
    @in_reactor
    async def test_refused(self, source: Path, tmp_path: Path) -> None:
        """A job that would remove what it has just found at the target is not begun."""
        (tmp_path / "link").symlink_to(source)
        for name in ("in", "link"):
            with pytest.raises(TransferError, match="same folder"):
                await transfer(all_of(source, delete=True), {"path": tmp_path / name})
        assert tree(source) == FILES
        assert (await transfer(all_of(source), {"path": tmp_path / "link"})).skipped == 4

    @in_reactor
    async def test_same_file(self, source: Path, tmp_path: Path) -> None:
        """A file that is the target's own stays, and the others go."""
        (tmp_path / "out").mkdir()
        os.link(source / "a.txt", tmp_path / "out" / "a.txt")
        result = await transfer(
            all_of(source, delete=True), {"path": tmp_path / "out"}, collect_data=True
        )
        assert (result.files_cnt, result.src_error_cnt) == (3, 1)
        assert tree(source) == {"a.txt": b"first"}
        assert tree(tmp_path / "out") == FILES


class NamesTests:
    # covers: S4-47
    @in_reactor
    async def test_folders_are_made(self, source: Path, tmp_path: Path) -> None:
        """A target that is not there is made, with all above it."""
        result = await transfer(all_of(source), {"path": tmp_path / "a" / "b" / "c"})
        assert result.exit_code == 0
        assert tree(tmp_path / "a" / "b" / "c") == FILES

    # covers: S4-48
    @pytest.mark.parametrize("temp", ["dot", "ext:.part", "dir:incoming"])
    @in_reactor
    async def test_never_half(
        self, tmp_path: Path, temp: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever looks at the target sees the old file or the new one, and no other name stays."""
        new = os.urandom(5_000_000)
        source = fill(tmp_path / "in", {"sub/x": new, "y": new})
        out = fill(tmp_path / "out", {"sub/x": b"old"})
        seen, names = set[int](), set[str]()
        real = os.write

        def write(fd: int, data: Any) -> int:
            seen.update(path.stat().st_size for path in (out / "sub").glob("x"))
            names.update(tree(out))
            return real(fd, data)

        monkeypatch.setattr("lanxfer.storage.plain.os.write", write)
        await transfer(all_of(source), {"path": out, "temp": temp})
        monkeypatch.undo()
        assert seen <= {3, len(new)}
        assert len(names) == 4  # two on their way, and two that are there
        assert tree(out) == {"sub/x": new, "y": new}
        assert not (out / "incoming").exists()

    # covers: S4-48
    @in_reactor
    async def test_read_error_in_the_middle(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A read error is the source's, and the old file stays as it was."""
        out = fill(tmp_path / "out", {"b.csv": b"the old one"})
        plain = LocalEnd.reader
        monkeypatch.setattr(
            LocalEnd,
            "reader",
            lambda self, path, offset: (
                _Breaking(plain(self, path, offset), 0)
                if path == "b.csv"
                else plain(self, path, offset)
            ),
        )
        result = await transfer(all_of(source), {"path": out}, collect_data=True)
        assert (result.src_error_cnt, result.tgt_error_cnt) == (1, 0)
        assert result.file_list is not None
        assert [row.tag for row in result.file_list if row.path == "b.csv"] == [FileTag.SRCERR]
        assert (out / "b.csv").read_bytes() == b"the old one"
        assert set(tree(out)) == set(FILES)

    @in_reactor
    async def test_links(self, source: Path, tmp_path: Path) -> None:
        """Links are not followed, so none leads in circles, and none leads out."""
        (source / "sub" / "loop").symlink_to(source)
        (source / "link").symlink_to("/etc/passwd")
        result = await transfer(all_of(source), {"path": tmp_path / "out"})
        assert (result.files_cnt, result.exit_code) == (4, 0)
        assert tree(tmp_path / "out") == FILES

    @in_reactor
    async def test_target_is_a_link(self, source: Path, tmp_path: Path) -> None:
        """A folder at the target that leads elsewhere is not written through."""
        (tmp_path / "else").mkdir()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "sub").symlink_to(tmp_path / "else")
        result = await transfer(all_of(source), {"path": tmp_path / "out"})
        assert (result.files_cnt, result.tgt_error_cnt) == (2, 2)
        assert tree(tmp_path / "else") == {}

    @in_reactor
    async def test_any_name(self, tmp_path: Path) -> None:
        """Between folders of one machine every name goes that its disk takes."""
        names = ["a:b", "con", "ends ", "täglich", "tab\there", "x" * 250, "-rf", "%2F"]
        source = fill(tmp_path / "in", {name: name.encode() for name in names})
        result = await transfer({"path": source}, {"path": tmp_path / "out"})
        assert result.files_cnt == len(names)
        assert tree(tmp_path / "out") == tree(source)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    @in_reactor
    async def test_unreadable(self, source: Path, tmp_path: Path) -> None:
        """What cannot be read is the source's error, and the rest goes on."""
        (source / "a.txt").chmod(0)
        (source / "sub" / "deep").chmod(0)
        result = await transfer(all_of(source), {"path": tmp_path / "out"})
        (source / "sub" / "deep").chmod(0o755)
        assert (result.files_cnt, result.src_error_cnt) == (2, 2)

    @in_reactor
    async def test_too_deep(self, tmp_path: Path) -> None:
        """What lies in more than a hundred folders is not moved, and that is said."""
        source = tmp_path / "in"
        deepest = source.joinpath(*["d"] * 101)
        fill(deepest, {"x": b"1", "d/x": b"2", "e.txt/x": b"3"})
        fill(source, {"a": b"4"})
        result = await transfer(
            {"path": source, "recursive": True}, {"path": tmp_path / "out"}, collect_data=True
        )
        assert (result.files_cnt, result.src_error_cnt, result.exit_code) == (2, 2, 1)
        failed = [each for each in result.file_list or () if each.tag is FileTag.SRCERR]
        top = str(deepest.relative_to(source))
        assert [each.path for each in failed] == [f"{top}/d/", f"{top}/e.txt/"]
        assert {each.info for each in failed} == {
            "It lies in more than 100 folders; move it further up."
        }


class EndTests:
    # covers: S4-09 S4-08 S4-06
    @in_reactor
    async def test_cancelled(self, config: Config, tmp_path: Path) -> None:
        """A run that is cancelled ends in good order, says what it did, and leaves no parts."""
        told = tmp_path / "told"
        config.write("", "", target=f"[notify]\nerror = exec:sh -c 'cat > {told}'")
        job, _ = load(config.app, "j")
        hold = _Hold(tmp_path / "in" / "b.csv")
        with hold:
            run = job.run()
            await until(lambda: hold.reached.is_set())
            run.cancel()
            hold.release()
            with pytest.raises(Terminated) as caught:
                await run
        result = caught.value.result
        assert result is not None
        assert (caught.value.code, result.files_cnt) == (5, 1)
        assert result.file_list is not None
        assert {row.path: str(row.tag) for row in result.file_list} == {"a.txt": "=", "b.csv": "!"}
        assert os.listdir(tmp_path / "out") == ["a.txt"]
        assert '"exit": 5' in told.read_text()
        # The next run does the rest, and only that.
        result, _ = await job.run()
        assert (result.files_cnt, result.skipped) == (3, 1)

    # covers: S4-09
    @in_reactor
    async def test_reactor_stops(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before the reactor stops, running jobs are ended and waited for."""
        triggers = list[Any]()

        class Stopping:
            def addSystemEventTrigger(self, phase: str, event: str, call: Any) -> None:
                assert (phase, event) == ("before", "shutdown")
                triggers.append(call)

        running_module.set_sigterm_handler(Stopping())
        hold = _Hold(tmp_path / "in" / "b.csv")
        with hold:
            run = load(config.app, "j")[0].run()
            caught = list[Any]()
            run.addErrback(caught.append)
            await until(lambda: hold.reached.is_set())
            ended = triggers[0]()
            assert not ended.called
            hold.release()
            await ended
        await until(lambda: caught)
        assert caught[0].check(Terminated)
        assert caught[0].value.result.files_cnt == 1

    @in_reactor
    async def test_dry(self, config: Config, tmp_path: Path) -> None:
        """A dry run says what it would do, and does nothing."""
        config.write("", "single_instance = yes", source="recursive = yes\ndelete = yes")
        result, code = await load(config.app, "j")[0].run(dry=True)
        assert (result.files_cnt, code) == (4, 0)
        assert tree(tmp_path / "in") == FILES
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "locks").exists()
        (tmp_path / "out").mkdir()
        shutil.copy2(tmp_path / "in" / "a.txt", tmp_path / "out")
        result, _ = await load(config.app, "j")[0].run(dry=True)
        assert (result.files_cnt, result.skipped) == (3, 1)
        assert tree(tmp_path / "in") == FILES


class LogTests:
    # covers: S4-35 S4-44
    @in_reactor
    async def test_where_and_how(self, config: Config, tmp_path: Path) -> None:
        """The log is in one file a run, in the form and as loud as one said."""
        await configure(config.app, "j")[0]()
        (file,) = tmp_path.glob("logs/*")
        assert file.name.startswith("j_") and file.name.endswith(".log")
        assert " INFO     transferred: a.txt (5 bytes" in file.read_text()
        assert "configuration:" not in file.read_text()
        config.app.write_text(
            config.app.read_text() + "use_subdirs = yes\nmsg_format = %(levelname)s|%(message)s\n"
        )
        job = tmp_path / "jobs" / "j.cfg"
        job.write_text(job.read_text().replace("[job]", "[job]\nlog_level = debug"))
        await configure(config.app, "j")[0]()
        (file,) = tmp_path.glob("logs/j/*")
        assert "DEBUG|configuration: JobConfig(" in file.read_text()
        config.app.write_text(config.app.read_text() + "json = yes\n")
        job.write_text(job.read_text().replace("[job]", "[job]\nlog_disabled = no"))
        file.unlink()
        await configure(config.app, "j")[0]()
        (file,) = tmp_path.glob("logs/j/*")
        assert file.read_text().startswith('{"time": ')
        job.write_text(job.read_text().replace("log_disabled = no", "log_disabled = yes"))
        file.unlink()
        await configure(config.app, "j")[0]()
        assert not list(tmp_path.glob("logs/j/*"))

    @pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
    @in_reactor
    async def test_name_that_is_no_text(self, config: Config, tmp_path: Path) -> None:
        """A file whose name is not UTF-8 is in the log as any other."""
        (tmp_path / "in" / "bad\udcff").touch()
        await configure(config.app, "j")[0]()
        assert "transferred: bad\\udcff (0 bytes" in config.logs()

    # covers: S4-36
    @in_reactor
    async def test_no_secrets(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The most talkative log has no password in it, nor has what is told."""
        told = tmp_path / "told"
        config.write(
            "hosts_cfg = hosts.cfg",
            "log_level = DEBUG",
            target=f"host_id = far\n[notify]\ndone = exec:sh -c 'cat > {told}; env >> {told}'",
        )
        (tmp_path / "hosts.cfg").write_text(
            "[far]\ntype = FTP\nhost = 127.0.0.1:1\nuser = u\npassword = s3cret\n"
        )
        with pytest.raises(ConnectError):
            await configure(config.app, "j")[0]()
        assert "configuration:" in config.logs()
        assert "s3cret" not in config.logs() + told.read_text()


class _Hold:
    """Keeps the reading of one file until it is released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reached = threading.Event()
        self._go = threading.Event()
        self._plain = LocalEnd.reader

    def release(self) -> None:
        self._go.set()

    def __enter__(self) -> None:
        plain, hold = self._plain, self

        def reader(end: LocalEnd, path: str, offset: int) -> Any:
            found = plain(end, path, offset)
            if end.folder.local(path) == str(hold.path):
                hold.reached.set()
                hold._go.wait(30)
            return found

        LocalEnd.reader = reader  # type: ignore[method-assign,assignment]

    def __exit__(self, *_: object) -> None:
        self.release()
        LocalEnd.reader = self._plain  # type: ignore[method-assign]


class _Synced:
    """Which inodes were made durable, and what was removed after that."""

    failing = 0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = list[int | str]()
        fsync, unlink = os.fsync, os.unlink

        def synced(fd: int) -> None:
            inode = os.fstat(fd).st_ino
            if inode == self.failing:
                raise OSError(errno.EIO, "It is broken")
            fsync(fd)
            self._log.append(inode)

        def removed(path: Any, **options: Any) -> None:
            self._log.append(os.path.basename(path))
            unlink(path, **options)

        monkeypatch.setattr("lanxfer.storage.system._full_sync", lambda fd: False)
        monkeypatch.setattr("lanxfer.storage.system.os.fsync", synced)
        monkeypatch.setattr("lanxfer.storage.plain.os.unlink", removed)

    def before(self, name: str) -> set[int | str]:
        return set(self._log[: self._log.index(name)])


class _Breaking:
    """A reader that fails after some bytes."""

    def __init__(self, reader: Any, after: int) -> None:
        self._reader = reader
        self._left = after

    def read(self, size: int) -> bytes:
        if self._left <= 0:
            raise EndError("The disk is not well.")
        data: bytes = self._reader.read(size)
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._reader.close()


def _job(source: dict[str, Any], out: Path, **changes: Any) -> Any:
    return evolve(read_sections(source, {"path": out}), **changes)


async def _same(deferred: Any) -> Any:
    return deferred.result if deferred.called else await deferred
