"""``lanxfer send`` of many small files without a service and without a reactor."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lanxfer.conversation import Conversation
from lanxfer.errors import Exit, Lost
from lanxfer.packet_socket import HEARD_MAX, wait
from lanxfer.wire import limits
from tests.odd_devices import TAKES, Make, odd_devices
from tests.scripted_device import Hear
from tests.scripted_service import Say
from tests.test_cli_real import (
    Serving,
    end,
    finish,
    met,
    next_line,
    run,
    serve,
    start,
    until,
)
from tests.test_cli_straight import ELSEWHERE, imported

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    options = ("--plain-from", "127.0.0.0/8", "--open")
    serving = serve(tmp_path_factory.mktemp("nas") / "nas", *options)
    yield serving
    assert end(serving) == Exit.OK
    assert len(serving.errors.read_text().splitlines()) == 2  # about those options


@pytest.fixture(scope="module")
def here(nas: Serving, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a device that has no service."""
    return met(nas, tmp_path_factory.mktemp("here") / "state")


@pytest.fixture
def make(here: Path, tmp_path: Path) -> Iterator[Make]:
    """A device that takes packs and says what it is told to, known here as "odd"."""
    with odd_devices(here, tmp_path, ["folders"], **TAKES) as make:
        yield make


def tree(folder: Path, files: int = 30, size: int = 1000) -> Path:
    """Small files in folders, one of them empty, and an empty folder."""
    for number in range(files):
        path = folder / f"f{number % 3}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number % 256]) * size)
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    (folder / "empty").touch()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "nothing").mkdir()
    return folder


def facts(folder: Path) -> dict[str, Any]:
    """What is there: of files their bytes, whether they run, and when they were changed."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        status = path.stat()
        file = (path.read_bytes(), status.st_mode, status.st_mtime_ns) if path.is_file() else None
        found[name] = file
    return found


def takes(hear: Hear, say: Say) -> dict[str, Any]:
    """Take a pack, or a file that goes by itself, whatever it is; {} at the end."""
    asked = hear()
    said: dict[str, Any] = {}
    match asked.get("name"):
        case "recv_files":
            said = {"files": asked["files"], "outcomes": 0}
        case "recv_file":
            digest = asked.get("blake3", "")
            said = {"stored": asked["path"], "size": asked["size"], "blake3": digest}
        case _:
            return {}
    say({"ok": asked["do"], **said})
    return asked


def takes_all(hear: Hear, say: Say) -> None:
    while takes(hear, say):
        pass


class LightTests:
    @pytest.mark.parametrize("way", [("nas",), ("", "--plain")])
    def test_light(self, nas: Serving, here: Path, tmp_path: Path, way: tuple[str, ...]) -> None:
        """A folder, or some files, take no reactor, in TLS and in plain text."""
        whom = (way[0] or nas.address, *way[1:])
        sent = tree(tmp_path / f"light{len(way)}", 3000, 700)  # more than one request
        done, heavy = imported("send", sent, *whom, "-s", here)
        assert (done.code, heavy) == (Exit.OK, [])
        assert facts(nas.inbox / sent.name) == facts(sent)
        assert f"{sent.name}/: 3002 files, 2.0 MiB" in done.out
        assert "3002 files (2.0 MiB) sent to" in done.out
        done, heavy = imported("message", "light", *whom, "-s", here)
        assert (done.code, heavy) == (Exit.OK, [])
        some = [tmp_path / name for name in ("a.txt", "b.txt", "c" * 100)]
        for each in some:
            each.write_text(each.name)
        done, heavy = imported("send", *some, *whom, "-s", here)
        assert (done.code, heavy) == (Exit.OK, [])
        assert all((nas.inbox / each.name).read_text() == each.name for each in some)

    @pytest.mark.parametrize("how", [(), ("--json",), ("-q",)])
    def test_same(self, nas: Serving, here: Path, tmp_path: Path, how: tuple[str, ...]) -> None:
        """What is printed, and what arrives, is what the long way prints and sends."""
        sent = tree(tmp_path / "same")
        (sent / "link").symlink_to("empty")
        os.mkfifo(sent / "pipe")
        (sent / "large").write_bytes(os.urandom(5 * limits.MIB))
        (sent / "CON").write_text("refused there")

        def outcome(*options: str) -> list[Any]:
            found: list[Any] = []
            shutil.rmtree(nas.inbox / "same", ignore_errors=True)
            (nas.inbox / "same" / "f0").mkdir(parents=True)
            (nas.inbox / "same" / "f0" / "0.bin").write_text("something else")
            os.utime(nas.inbox / "same" / "f0" / "0.bin", (0, 0))
            shutil.copy2(sent / "f0" / "3.bin", nas.inbox / "same" / "f0" / "3.bin")
            for line in ((), (), ("--links",), ("--conflict", "refuse")):
                done = run("send", sent, "nas", "-s", here, *line, *how, *options)
                rows = done.rows if how == ("--json",) else []
                said = sorted(str({k: row[k] for k in row if k != "seconds"}) for row in rows)
                out = re.sub(r" in [0-9.]+ s(, .*/s)?", "", done.out)
                found.append((done.code, said or out, sorted(done.err.splitlines())))
            return [*found, facts(nas.inbox / "same")]

        assert outcome() == outcome(*ELSEWHERE)

    def test_large_among_small(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """What is large goes by itself, and all of it is one send to whoever reads of it."""
        sent = tree(tmp_path / "among", 2000)
        (sent / "f1" / "large").write_bytes(os.urandom(6 * limits.MIB))
        done = run("send", sent, "nas", "-s", here, "--json")
        assert done.code == Exit.OK and facts(nas.inbox / "among") == facts(sent)
        *rows, last = done.rows
        assert (last["files"], last["folders"], last["failed"]) == (2003, 5, 0)
        assert len(rows) == 2008 and len({row["path"] for row in rows}) == 2008

    def test_just_too_large(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """A file that would fit, were it not for its line in the manifest, goes by itself."""
        sent = tree(tmp_path / "just", 300, 30_000)  # so that more goes together by then
        for size in (limits.PACK_MAX, limits.PACK_MAX - 50):
            (sent / "f2" / f"z{size}").write_bytes(os.urandom(size))
        done = run("send", sent, "nas", "-s", here)
        assert (done.code, done.err) == (Exit.OK, "")
        assert "304 files (16.6 MiB) sent to nas" in done.out
        assert facts(nas.inbox / "just") == facts(sent)

    # covers: J01
    def test_already_there(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """Larger files ask before they travel once some of them were there in vain."""
        (tmp_path / "again").mkdir()
        for number in range(40):
            (tmp_path / "again" / f"{number:02}").write_bytes(os.urandom(400_000))
        line = ("send", tmp_path / "again", "nas", "-s", here)
        first, heavy = imported(*line)
        assert (first.code, heavy) == (Exit.OK, [])
        again, heavy = imported(*line)
        assert (again.code, heavy) == (Exit.OK, [])
        assert "40 files (15.3 MiB) there already" in again.out

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_unwritten(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """Who cannot be told how it ended hears that, whichever way it was sent."""
        sent = tree(tmp_path / "unwritten")
        (sent / "large").write_bytes(os.urandom(5 * limits.MIB))
        found = []
        for options in ((), ELSEWHERE):
            with open("/dev/full", "wb") as full:
                done = run("send", sent, "nas", "-s", here, *options, stdout=full)
            found.append((done.code, done.err))
        assert found[0] == found[1] and found[0][0] != Exit.OK

    def test_nothing_together(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Where somebody would be asked first, nothing is offered this way."""

        def alone(hear: Hear, say: Say) -> None:
            assert hear() == {}

        def asks(hear: Hear, say: Say) -> None:
            while (asked := hear()).get("name") == "recv_file":
                say({"error": asked["do"], "code": "forbidden", "reason": "No.", "retry": False})

        device = make(alone, asks)
        device._hello["limits"] = {}
        for name in "ab":
            (tmp_path / name).write_text(name)
        done = run("send", tmp_path / "a", tmp_path / "b", "odd", "-s", here)
        assert done.code == Exit.REFUSED and "No." in done.err
        assert [each["name"] for each in device.heard[0]] == ["hello"]


class TroubleTests:
    # covers: J01
    def test_lost(self, make: Make, here: Path, tmp_path: Path) -> None:
        """What was not answered when the connection broke goes once more, and nothing else."""

        def breaks(hear: Hear, say: Say) -> None:
            takes(hear, say)
            hear()
            hear()

        device = make(breaks, takes_all)
        sent = tree(tmp_path / "lost", 2500)
        done = run("send", sent, "odd", "-s", here)
        assert done.code == Exit.OK and "2502 files" in done.out
        first, second = (
            [each["files"] for each in heard if each.get("name") == "recv_files"]
            for heard in device.heard
        )
        assert len(first) == 3 and sum(second) == 2507 - first[0]

    def test_refused_together(self, make: Make, here: Path, tmp_path: Path) -> None:
        """A request that is refused as a whole is tried the long way, where each has its chance."""

        def busy(hear: Hear, say: Say) -> None:
            asked = hear()
            say({"error": asked["do"], "code": "busy", "reason": "Busy.", "retry": True})
            hear()

        make(busy, takes_all)
        for name in "ab":
            (tmp_path / name).write_text(name)
        done = run("send", tmp_path / "a", tmp_path / "b", "odd", "-s", here)
        assert done.code == Exit.OK and "2 files" in done.out

    def test_lies(self, make: Make, here: Path, tmp_path: Path) -> None:
        """An answer that leaves something unsaid is not taken for good."""

        def lies(hear: Hear, say: Say) -> None:
            asked = hear()
            say({"ok": asked["do"], "files": asked["files"], "outcomes": 1})
            hear()

        def one_by_one(hear: Hear, say: Say) -> None:
            while (asked := hear()).get("name") == "recv_files":
                say({"ok": asked["do"], "files": asked["files"], "outcomes": 1})
            while "size" in asked:
                said = {key: asked[key] for key in ("size", "blake3")}
                say({"ok": asked["do"], "stored": asked["path"], **said, "already": True})
                asked = hear()

        make(lies, one_by_one)
        for name in "ab":
            (tmp_path / name).write_text(name)
        done = run("send", tmp_path / "a", tmp_path / "b", "odd", "-s", here)
        assert done.code == Exit.OK and "there already" in done.out

    def test_gone(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Where the other device has gone for good, what had arrived is not forgotten."""

        def once(hear: Hear, say: Say) -> None:
            takes(hear, say)
            hear()
            hear()

        device = make(once)
        sent = tree(tmp_path / "gone", 2500)
        process = start("send", sent, "odd", "-s", here)
        until(lambda: len(device.heard) == 1 and not device._thread.is_alive())
        device.close()
        assert "Trying again for" in next_line(process.stderr)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        assert done.code == Exit.CANCELLED
        first = device.heard[0][1]["files"]
        had = f"{first - 2} files had arrived. More may have arrived."
        assert done.err == f"lanxfer: Cancelled; {had}\n"

    def test_interrupted(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Ctrl-C gives up what is under way, waits for the answers, and says what arrived."""

        def waits(hear: Hear, say: Say) -> None:
            takes(hear, say)
            open_ones = []
            while "cancel" not in (asked := hear()):
                open_ones.append(asked["do"])
            for _ in open_ones[1:]:
                hear()
            for id in open_ones:
                say({"error": id, "code": "cancelled", "reason": "", "retry": False})
            hear()

        device = make(waits)
        sent = tree(tmp_path / "interrupted", 12_000)
        process = start("send", sent, "odd", "-s", here)
        until(lambda: device.heard and len(device.heard[0]) >= 5)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        first = device.heard[0][1]["files"]  # with the top, one folder in it, and an empty one
        assert done.code == Exit.CANCELLED
        assert done.err == f"lanxfer: Cancelled; {first - 2} files had arrived.\n"
        cancelled = [each["cancel"] for each in device.heard[0] if "cancel" in each]
        asked = [each["do"] for each in device.heard[0] if each.get("name") == "recv_files"]
        assert {*asked[1:]} <= {*cancelled} <= {*asked}  # the first answer may be unread yet

    def test_says_too_much(self) -> None:
        """Who says without end what nobody asked for, and reads nothing, is left."""
        ours, theirs = socket.socketpair()

        def talk() -> None:
            with suppress(OSError):
                while True:
                    theirs.sendall(bytes(limits.MIB))

        talking = threading.Thread(target=talk, daemon=True)
        there = Conversation(ours, wait, lambda silent: Lost())
        there._packets.greeted = True
        talking.start()
        body = memoryview(bytes(limits.PACK_MAX))
        with pytest.raises(Lost):
            there.ask_ahead("recv_files", {"files": 1, "manifest": 10}, [body])
        assert len(there._packets._data) < HEARD_MAX + 2 * limits.MIB
        there.close()
        theirs.close()
        talking.join(10)

    def test_changed(self, make: Make, here: Path, tmp_path: Path) -> None:
        """A file that changed on its way goes once more, by itself."""

        def mismatch(hear: Hear, say: Say) -> None:
            asked = hear()
            row = {"at": 1, "error": "digest-mismatch", "reason": "Other bytes.", "retry": False}
            body = str(row).replace("'", '"').replace("False", "false").encode() + b"\n"
            said = {"files": asked["files"], "outcomes": 1, "rows": 1, "body": len(body)}
            say({"ok": asked["do"], **said}, body)
            hear()

        device = make(mismatch, takes_all)
        for name in "abc":
            (tmp_path / name).write_text(name)
        line = [tmp_path / name for name in "abc"]
        done = run("send", *line, "odd", "-s", here)
        assert done.code == Exit.OK and "3 files (3 B) sent" in done.out
        assert [each["path"] for each in device.heard[1] if "path" in each] == ["b"]
