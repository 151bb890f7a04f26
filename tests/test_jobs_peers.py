"""Jobs to and from lanxfer devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from devices import Devices, in_reactor, run, until
from servers import PASSWORD, USER, ftp_server
from twisted.internet import reactor
from twisted.internet.task import Clock

from lanxfer.jobs import ConnectError, FileTag, JobResult, TransferError, transfer
from lanxfer.jobs import running as running_module
from lanxfer.jobs.config.job import read_sections
from lanxfer.jobs.ends import EndError
from lanxfer.jobs.ends.device import DeviceEnd
from lanxfer.jobs.moving.devices import SendMover
from lanxfer.jobs.running import Job

FILES = {
    "a.txt": b"first",
    "empty": b"",
    "sub/b.bin": os.urandom(3_000_000),
    "sub/deep/ü c.txt": "später".encode(),
}


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Devices]:
    made = Devices(tmp_path)
    yield made
    run(made.close())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return fill(tmp_path / "in", FILES)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(1_700_000_000_123_456_789,) * 2)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".lanxfer")
    }


class Nas:
    """A device that shares a folder, and one that knows it."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self.folder = devices.folder / "shared"
        self.folder.mkdir()
        self.service: Any = None

    async def start(self, **settings: Any) -> None:
        self.service = await self.devices.start(
            "nas", shares=(f"box={self.folder}:rw",), **settings
        )
        await self.devices.pair("desk", self.service, "nas")

    def host(self, **more: Any) -> dict[str, Any]:
        return {
            "type": "lanxfer",
            "host": "nas",
            "state": self.devices.state("desk").path,
            **more,
        }


@pytest.fixture
def nas(devices: Devices) -> Nas:
    return Nas(devices)


class PeerTests:
    # covers: S4-60 S4-03
    @in_reactor
    async def test_inbox(self, nas: Nas, source: Path) -> None:
        """Files go into the inbox of a device, below a folder of one's choice."""
        await nas.start()
        there = {"path": source, "recursive": True}
        result = await transfer(there, nas.host(path="from/desk"), collect_data=True)
        assert (result.files_cnt, result.exit_code, result.bytes) == (4, 0, 3_000_012)
        assert tree(nas.devices.inbox("nas") / "from" / "desk") == FILES
        again = await transfer(there, nas.host(path="from/desk"))
        assert (again.files_cnt, again.skipped) == (0, 4)

    # covers: S4-60
    @in_reactor
    async def test_share_and_back(self, nas: Nas, source: Path, tmp_path: Path) -> None:
        """Into a shared folder, and from it, with times and all."""
        await nas.start()
        target = nas.host(path="box/x", shared=True)
        result = await transfer({"path": source, "recursive": True}, target)
        assert result.files_cnt == 4
        assert tree(nas.folder / "x") == FILES
        again = await transfer({"path": source, "recursive": True}, target)
        assert (again.files_cnt, again.skipped) == (0, 4)
        back = await transfer(
            nas.host(path="box/x", recursive=True), {"path": tmp_path / "out"}, collect_data=True
        )
        assert back.files_cnt == 4
        assert tree(tmp_path / "out") == FILES
        assert os.stat(tmp_path / "out" / "a.txt").st_mtime_ns == 1_700_000_000_123_456_789
        once_more = await transfer(
            nas.host(path="box/x", recursive=True), {"path": tmp_path / "out"}
        )
        assert (once_more.files_cnt, once_more.skipped) == (0, 4)

    @in_reactor
    async def test_delete(self, nas: Nas, source: Path, tmp_path: Path) -> None:
        """What a device confirmed goes at the source, at either end of the way."""
        await nas.start()
        sent = await transfer(
            {"path": source, "recursive": True, "delete": True},
            nas.host(path="box/x", shared=True),
        )
        assert sent.files_cnt == 4
        assert tree(source) == {}
        back = await transfer(
            nas.host(path="box/x", recursive=True, delete=True), {"path": tmp_path / "out"}
        )
        assert back.files_cnt == 4
        assert tree(nas.folder) == {}
        assert tree(tmp_path / "out") == FILES

    # covers: S4-46
    @pytest.mark.parametrize("shared", [True, False])
    @in_reactor
    async def test_one_folder(self, nas: Nas, shared: bool) -> None:
        """What a device shows or receives in the source folder itself is not removed there."""
        await nas.start()
        folder = nas.folder if shared else nas.devices.inbox("nas")
        fill(folder, FILES)
        there = {"path": "box", "shared": True} if shared else {"path": ""}
        result = await transfer(
            {"path": folder, "recursive": True, "delete": True}, nas.host(**there)
        )
        assert (result.files_cnt, result.src_error_cnt) == (0, 4)
        assert tree(folder) == FILES
        if shared:
            with pytest.raises(TransferError, match="same folder"):
                await transfer(nas.host(path="box", recursive=True, delete=True), {"path": folder})
            assert tree(folder) == FILES

    # covers: S4-46
    @pytest.mark.parametrize("shared", [True, False])
    @in_reactor
    async def test_there_already(self, nas: Nas, source: Path, shared: bool) -> None:
        """What a run left that was killed before it removed anything, the next one removes."""
        await nas.start()
        target = nas.host(path="box/x" if shared else "x", shared=shared)
        await transfer({"path": source, "recursive": True}, target)
        result = await transfer({"path": source, "recursive": True, "delete": True}, target)
        assert (result.files_cnt, result.skipped, result.exit_code) == (0, 4, 0)
        assert tree(source) == {}
        folder = nas.folder if shared else nas.devices.inbox("nas")
        assert tree(folder / "x") == FILES

    # covers: S4-46
    @in_reactor
    async def test_delete_and_refused(self, nas: Nas, source: Path, devices: Devices) -> None:
        """A device that takes some of it costs what it took, and nothing else."""
        fill(devices.inbox("nas"), {"x/a.txt": b"mine"})
        await nas.start()
        result = await transfer(
            {"path": source, "recursive": True, "delete": True},
            nas.host(path="x", conflict="refuse"),
            collect_data=True,
        )
        assert (result.files_cnt, result.tgt_error_cnt) == (3, 1)
        assert tree(source) == {"a.txt": b"first"}
        assert (devices.inbox("nas") / "x" / "a.txt").read_bytes() == b"mine"

    # covers: S4-46
    @in_reactor
    async def test_delete_and_full(self, nas: Nas, source: Path) -> None:
        """A device without room takes nothing, and nothing is gone."""
        await nas.start(reserve_bytes=2**60)
        result = await transfer(
            {"path": source, "recursive": True, "delete": True}, nas.host(path="x")
        )
        assert result.tgt_error_cnt >= 3
        found = tree(nas.devices.inbox("nas"))
        assert {**{name[2:]: data for name, data in found.items()}, **tree(source)} == FILES

    # covers: S4-46 S4-08
    @in_reactor
    async def test_delete_and_dies(
        self, nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A device that goes away in the middle has every file that is gone here."""
        monkeypatch.setattr(running_module, "PEER_PATIENCE", 0.5)
        files = {f"d{number % 7}/{number}": os.urandom(60_000) for number in range(600)}
        source = fill(tmp_path / "in", files)
        await nas.start()
        inbox = nas.devices.inbox("nas")
        work = transfer({"path": source, "recursive": True, "delete": True}, nas.host(path="x"))
        errors = list[Any]()
        work.addErrback(errors.append)
        await until(lambda: len(tree(inbox / "x")) > 50, 60)
        await nas.service.stopService()
        await until(lambda: work.called, 60)
        left, there = tree(source), {name[2:]: data for name, data in tree(inbox).items()}
        assert 0 < len(there) < 600
        assert set(left) | set(there) == set(files)
        assert all(there[name] == files[name] for name in set(files) - set(left))
        assert errors and errors[0].value.code == 2
        assert isinstance(errors[0].value.result, JobResult)

    # covers: S4-66
    @in_reactor
    async def test_other_key(self, nas: Nas, source: Path, devices: Devices) -> None:
        """A device with another key than the known one is not told anything."""
        await nas.start()
        other = await devices.start("thief")
        from lanxfer.peers import Peer, Peers

        Peers(devices.state("desk")).add(Peer("nas", devices.key("nas"), (other.address,)))
        with pytest.raises(ConnectError) as caught:
            await transfer({"path": source}, nas.host(path="x"))
        assert caught.value.code == 2
        assert tree(devices.inbox("thief")) == {}

    @pytest.mark.skipif(sys.platform == "darwin", reason="one name there")
    @pytest.mark.parametrize("shared", [True, False])
    @in_reactor
    async def test_names_in_two_forms(
        self, nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
    ) -> None:
        """Names that would be one at a device stay where they are, both, however often it runs."""
        monkeypatch.setattr(SendMover, "batch", 1)
        alike = {"e\u0301.txt": b"one", "\u00e9.txt": b"other", "e\u0301/x": b"", "\u00e9/x": b"1"}
        alone = {"x\u0301.txt": b"alone", "ü.txt": b"whole"}
        source = fill(tmp_path / "in", {**alike, **alone})
        await nas.start()
        there = {"path": source, "recursive": True, "delete": True}
        for files in (2, 0):
            result = await transfer(there, nas.host(path="box/x", shared=shared), collect_data=True)
            assert (result.files_cnt, result.src_error_cnt, result.tgt_error_cnt) == (files, 4, 0)
            assert tree(source) == alike
        assert {each.path for each in result.file_list or ()} == {
            "e\u0301.txt", "\u00e9.txt", "e\u0301/", "\u00e9/"
        }  # fmt: skip

    @pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
    @pytest.mark.parametrize("shared", [True, False])
    @in_reactor
    async def test_names_that_are_no_text(self, nas: Nas, tmp_path: Path, shared: bool) -> None:
        """A name that is not UTF-8 is an error of that file, and all others arrive."""
        source = fill(tmp_path / "in", {"a": b"1", "bad\udcff": b"2", "z\udcff/x": b"3", "c": b"4"})
        await nas.start()
        result = await transfer(
            {"path": source, "recursive": True},
            nas.host(path="box", shared=shared),
            collect_data=True,
        )
        assert (result.files_cnt, result.src_error_cnt, result.tgt_error_cnt) == (2, 2, 0)
        rows = result.file_list or ()
        errors = [each.path for each in rows if each.tag is FileTag.SRCERR]
        assert errors == ["bad\udcff", "z\udcff/"]

    @in_reactor
    async def test_nobody_there(self, nas: Nas, source: Path) -> None:
        """A device that is not there is a ConnectError."""
        await nas.start()
        await nas.service.stopService()
        with pytest.raises(ConnectError):
            await transfer({"path": source}, nas.host(path="x"))

    # covers: S4-60
    @in_reactor
    async def test_ftp_to_lanxfer_to_ftp(self, nas: Nas, source: Path, tmp_path: Path) -> None:
        """Where no end is this machine, files rest here on their way, and nothing stays."""
        await nas.start()
        host = {"type": "FTP", "user": USER, "password": PASSWORD, "recursive": True, "path": "/"}
        with ftp_server(source) as one, ftp_server(tmp_path / "two") as two:
            result = await transfer(
                {**host, "host": f"127.0.0.1:{one.port}"}, nas.host(path="box/x", shared=True)
            )
            assert (result.files_cnt, result.exit_code) == (4, 0)
            assert tree(nas.folder / "x") == FILES
            host.pop("recursive")
            result = await transfer(
                nas.host(path="box/x", recursive=True, delete=True),
                {**host, "host": f"127.0.0.1:{two.port}"},
                collect_data=True,
            )
            assert (result.files_cnt, result.exit_code) == (4, 0)
        assert tree(tmp_path / "two") == FILES
        assert tree(nas.folder) == {}

    # covers: S4-46
    @in_reactor
    async def test_there_already_on_the_second_half(self, nas: Nas, tmp_path: Path) -> None:
        """What is to be removed on such a way, too, is compared, whatever its size and time."""
        await nas.start()
        fill(nas.folder, {"same": b"same", "other": b"new!"})
        two = fill(tmp_path / "two", {"same": b"same", "other": b"old!"})
        host = {"type": "FTP", "user": USER, "password": PASSWORD, "path": "/"}
        with ftp_server(two) as server:
            result = await transfer(
                nas.host(path="box", delete=True), {**host, "host": f"127.0.0.1:{server.port}"}
            )
        assert (result.files_cnt, result.skipped, result.exit_code) == (1, 1, 0)
        assert tree(two) == {"same": b"same", "other": b"new!"}
        assert tree(nas.folder) == {}

    # covers: S4-46
    @in_reactor
    async def test_inbox_on_the_second_half(self, nas: Nas, source: Path) -> None:
        """What came from a server and is in an inbox already is removed, but not out of that."""
        await nas.start()
        inbox = nas.devices.inbox("nas")
        host = {"type": "FTP", "user": USER, "password": PASSWORD, "recursive": True, "path": "/"}
        with ftp_server(source) as server:
            there = {**host, "host": f"127.0.0.1:{server.port}"}
            await transfer(there, nas.host(path=""))
            result = await transfer({**there, "delete": True}, nas.host(path=""))
        assert (result.skipped, result.exit_code) == (4, 0)
        assert tree(source) == {}
        with ftp_server(inbox) as server:
            there = {**host, "host": f"127.0.0.1:{server.port}"}
            result = await transfer({**there, "delete": True}, nas.host(path=""))
        assert (result.files_cnt, result.src_error_cnt) == (0, 4)
        assert tree(inbox) == FILES

    # covers: S4-46
    @in_reactor
    async def test_between_devices(self, nas: Nas, devices: Devices) -> None:
        """From one device to another what arrives is removed, and what was there already stays."""
        await nas.start()
        other = await devices.start("attic")
        await devices.pair("desk", other, "attic")
        fill(nas.folder, {"a": b"first", "b": b"second"})
        fill(devices.inbox("attic"), {"a": b"first"})
        result = await transfer(
            nas.host(path="box", delete=True), {**nas.host(path=""), "host": "attic"}
        )
        assert (result.files_cnt, result.src_error_cnt) == (1, 1)
        assert tree(nas.folder) == {"a": b"first"}
        assert tree(devices.inbox("attic")) == {"a": b"first", "b": b"second"}

    # covers: S4-46
    @in_reactor
    async def test_not_answered(
        self, nas: Nas, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file about which a device is asked in vain has its name again, and stays."""
        await nas.start()
        there = {"path": source, "recursive": True}
        await transfer(there, nas.host(path="x"))
        plain, times = DeviceEnd.send, list[int]()

        def send(end: DeviceEnd, files: Any) -> Iterator[Any]:
            times.append(len(files))
            if len(times) == 1:
                return plain(end, files)
            return iter([(info, EndError("Not now."), False) for info, _ in files])

        monkeypatch.setattr(DeviceEnd, "send", send)
        result = await transfer({**there, "delete": True}, nas.host(path="x"))
        assert (result.src_error_cnt, times) == (4, [4, 1, 1, 1, 1])
        assert tree(source) == FILES

    # covers: S4-43
    @in_reactor
    async def test_tried_again_on_the_second_half(
        self, nas: Nas, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a device did not take of what was fetched for it is fetched and sent again."""
        plain, times = DeviceEnd.send, list[int]()

        def send(end: DeviceEnd, files: Any) -> Iterator[Any]:
            times.append(len(files))
            if len(times) > 1:
                return plain(end, files)
            return iter([(info, EndError("Not now."), False) for info, _ in files])

        monkeypatch.setattr(DeviceEnd, "send", send)
        await nas.start()
        clock = Clock()
        with ftp_server(source) as server:
            job = read_sections(
                {
                    **{"type": "FTP", "host": f"127.0.0.1:{server.port}", "path": "/"},
                    **{"user": USER, "password": PASSWORD, "recursive": True, "delete": True},
                },
                nas.host(path="box", shared=True),
            )
            running = Job(reactor, evolve(job, retries=1), clock=clock).run()
            await until(lambda: clock.getDelayedCalls() or running.called)
            assert tree(source) == FILES
            clock.advance(5)
            result = (await running).result
        assert (result.files_cnt, result.exit_code, times) == (4, 0, [4, 4])
        assert tree(nas.folder) == FILES
        assert tree(source) == {}


class ManyFilesTests:
    # covers: S4-60 S4-04 S4-09
    def test_five_thousand_and_a_signal(self, tmp_path: Path) -> None:
        """5,000 files to a device and back are the same tree; killed on the way, a job goes on."""
        everything = Everything(tmp_path)
        try:
            everything.go()
        finally:
            everything.end()


class Everything:
    """A service and jobs as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {
            f"d{number % 50}/e{number % 7}/f{number}.bin": os.urandom(number % 3000)
            for number in range(5000)
        }
        fill(folder / "in", self.files)
        (folder / "shared").mkdir()
        (folder / "jobs").mkdir()
        self.env = {**os.environ, "LANXFER_ALLOW_ROOT": "1", "PYTHONUNBUFFERED": "1"}
        self.devices = Devices(folder)
        self.service: subprocess.Popen[bytes] | None = None

    def lanxfer(self, *words: str, state: str = "desk") -> list[str]:
        return [
            sys.executable,
            "-m",
            "lanxfer.cli.main",
            "--state",
            self.devices.state(state).path,
            *words,
        ]

    def go(self) -> None:
        self.devices.pin("nas", "desk")
        self.devices.pin("desk", "nas", self._serve())
        for direction, source, target in (
            (
                "up",
                "path = in",
                "host_id = lanxfer://nas\npath = box\nshared = yes",
            ),
            ("down", "host_id = lanxfer://nas\npath = box", "path = out"),
        ):
            (self.folder / "jobs" / f"{direction}.cfg").write_text(
                f"[source]\n{source}\nrecursive = yes\n[target]\n{target}\n"
            )
        (self.folder / "app.cfg").write_text(
            "[global]\njobs_dir = jobs\nlocks_dir = locks\n[logging]\ndisabled = yes\n"
        )
        killed = self._kill_in_the_middle()
        assert killed["exit"] == 5
        assert 0 < killed["files_cnt"] < 5000
        there = tree(self.folder / "shared")
        assert killed["files_cnt"] <= len(there) < 5000
        up = self._run("up")
        assert (up["files_cnt"], up["skipped"]) == (5000 - len(there), len(there))
        assert tree(self.folder / "shared") == self.files
        down = self._run("down")
        assert (down["files_cnt"], down["exit"], down["bytes"]) == (
            5000,
            0,
            sum(map(len, self.files.values())),
        )
        assert tree(self.folder / "out") == self.files
        assert self._run("down")["skipped"] == 5000

    def _serve(self) -> str:
        words = ("serve", "--port", "0", "--bind", "127.0.0.1")
        paths = ("--inbox", str(self.folder / "inbox"), "--share", f"box={self.folder}/shared:rw")
        # A file: what nobody reads from a pipe would hold the service up.
        said = self.folder / "said"
        with said.open("w") as out:
            self.service = subprocess.Popen(
                self.lanxfer(*words, *paths, "--allow-root", "--json", state="nas"),
                stdout=out,
                env=self.env,
            )
        deadline = time.monotonic() + 60
        while "\n" not in said.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        return str(json.loads(said.read_text().partition("\n")[0])["listening"][0])

    def _begin(self, job: str) -> subprocess.Popen[str]:
        config = str(self.folder / "app.cfg")
        return subprocess.Popen(
            self.lanxfer("job", "run", job, "-c", config, "--json"),
            stdout=subprocess.PIPE,
            env=self.env,
            text=True,
        )

    def _run(self, job: str) -> dict[str, Any]:
        said, _ = self._begin(job).communicate(timeout=200)
        return dict(json.loads(said))

    def _kill_in_the_middle(self) -> dict[str, Any]:
        running = self._begin("up")
        deadline = time.monotonic() + 100
        while not (self.folder / "shared" / "d1").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=100)
        row = dict(json.loads(said))
        assert running.returncode == 5
        return row

    def end(self) -> None:
        if self.service is not None:
            self.service.terminate()
            self.service.wait(30)
