"""``lanxfer send`` of large files without a service and without a reactor."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from lanxfer.cli import progress, straight_many
from lanxfer.cli.choices import Choices
from lanxfer.cli.jobs import Job, Over
from lanxfer.errors import Exit
from lanxfer.tally import Tally
from lanxfer.wire import limits
from tests.odd_devices import TAKES, Make, odd_devices
from tests.scripted_device import Device, Hear
from tests.scripted_service import Say
from tests.test_cli_real import (
    Serving,
    end,
    finish,
    met,
    moving,
    run,
    serve,
    start,
    until,
)
from tests.test_cli_straight import ELSEWHERE, imported

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

SIZE = 5 * limits.MIB + 12_345
"""More than goes with others, and no whole number of units."""


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    options = ("--plain-from", "127.0.0.0/8", "--open")
    serving = serve(tmp_path_factory.mktemp("nas") / "nas", *options)
    yield serving
    assert end(serving) == Exit.OK


@pytest.fixture(scope="module")
def here(nas: Serving, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a device that has no service."""
    return met(nas, tmp_path_factory.mktemp("here") / "state")


@pytest.fixture
def make(here: Path, tmp_path: Path) -> Iterator[Make]:
    """A device that says what it is told to, known here as "odd"."""
    with odd_devices(here, tmp_path, ["folders"], **TAKES) as make:
        yield make


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


def go(asked: dict[str, Any], window: int, have: Sequence[Any] = ()) -> dict[str, Any]:
    return {"go": asked["do"], "window": window, "have": [*have]}


def ok(asked: dict[str, Any], last: dict[str, Any], **more: Any) -> dict[str, Any]:
    """All of it arrived, as its last packet says."""
    said = {"stored": asked["path"], "size": asked["size"], "blake3": last["blake3"]}
    return {"ok": asked["do"], **said, **more}


def refusal(asked: dict[str, Any], code: str, reason: str, retry: bool) -> dict[str, Any]:
    return {"error": asked["do"], "code": code, "reason": reason, "retry": retry}


def to_its_end(hear: Hear) -> dict[str, Any]:
    """Hear parts up to the packet that is none."""
    while "part" in (said := hear()):
        pass
    return said


def takes_large(hear: Hear, say: Say) -> None:
    """Take whatever comes, large files as well."""
    asked = {}
    while said := hear():
        if said.get("name") == "recv_file":
            asked[said["do"]] = said
            say(go(said, 8 * limits.MIB) if said["size"] else ok(said, {"blake3": ""}))
        elif said.get("name") == "recv_files":
            say({"ok": said["do"], "files": said["files"], "outcomes": 0})
        elif "end" in said:
            say(ok(asked[said["end"]], said))


class RealTests:
    """Against a service."""

    @pytest.mark.parametrize("way", [("nas",), ("", "--plain")])
    def test_light(self, nas: Serving, here: Path, large: Path, way: tuple[str, ...]) -> None:
        """It takes no reactor, in TLS and in plain text, under its own name or another."""
        whom = (way[0] or nas.address, *way[1:])
        large.chmod(0o755)
        os.utime(large, ns=(10**18 + 7, 10**18 + 7))
        name = f"films/large{len(way)}.bin"
        done, heavy = imported("send", large, *whom, "--name", name, "-s", here)
        assert (done.code, heavy) == (Exit.OK, [])
        assert done.out.splitlines()[0] == f"{name}: 5.0 MiB"
        stored = nas.inbox / name
        assert stored.read_bytes() == large.read_bytes()
        assert (stored.stat().st_mtime_ns, stored.stat().st_mode & 0o100) == (10**18 + 7, 0o100)
        again, heavy = imported("send", large, *whom, "--name", name, "-s", here)
        assert (again.code, heavy) == (Exit.OK, [])
        assert f"{name}: 5.0 MiB, 5.0 MiB of it from before, already there" in again.out

    @pytest.mark.parametrize("how", [(), ("--json",), ("-q",)])
    def test_same(self, nas: Serving, here: Path, large: Path, how: tuple[str, ...]) -> None:
        """What is printed is what the long way prints."""
        (nas.inbox / "folder.bin").mkdir(parents=True, exist_ok=True)

        def outcome(*options: str) -> list[Any]:
            found = []
            (nas.inbox / "large.bin").unlink(missing_ok=True)
            (nas.inbox / "large.bin").write_bytes(b"something else")
            for path, *line in (
                (large,),
                (large,),
                (large, "--conflict", "refuse"),
                (large, "--name", "../x"),
                (large, "--name", "folder.bin", "--conflict", "refuse"),
                (large.parent / "missing",),
                (large, large.parent / "missing"),
                (large.parent / "odd name\n",),
            ):
                done = run("send", path, "nas", "-s", here, *line, *how, *options)
                out = re.sub(r'( in [0-9.]+ s(, .*/s)?|"seconds": [0-9.]+)', "", done.out)
                found.append((done.code, out, done.err))
            for each in nas.inbox.glob("large*"):
                each.unlink()
            return found

        assert outcome() == outcome(*ELSEWHERE)

    # covers: J01 J02
    def test_resumes(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """A sender that was killed goes on where it was, and says so."""
        film = tmp_path / "film.mkv"
        size = 160 * limits.MIB
        block = os.urandom(limits.MIB)
        with film.open("wb") as file:
            for number in range(size // limits.MIB):
                file.write(number.to_bytes(8, "big") + block[8:])
        assert nas.ask("limit", "--in", "20M").code == Exit.OK
        sending = start("send", film, "nas", "-s", here)
        try:
            moving(nas, "film.mkv")
            time.sleep(0.5)
        finally:
            sending.kill()
            sending.communicate()
            assert nas.ask("limit", "--in", "any").code == Exit.OK
        done, heavy = imported("send", film, "nas", "-s", here)
        assert (done.code, heavy) == (Exit.OK, [])
        assert " of it from before" in done.out and "already there" not in done.out
        assert (nas.inbox / "film.mkv").read_bytes() == film.read_bytes()

    # covers: A08
    def test_forgotten(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """Whose key is known no longer gets nothing more, and that is said of all that is left."""
        state = met(nas, tmp_path / "state", "forgetful")
        for name in ("one", "two"):
            with (tmp_path / name).open("wb") as file:
                file.truncate(100 * limits.MIB)
        assert nas.ask("limit", "--in", "10M").code == Exit.OK
        try:
            sending = start("send", tmp_path / "one", tmp_path / "two", "nas", "-s", state)
            moving(nas, "one")
            assert run("peer", "forget", "nas", "-s", state).code == Exit.OK
            done = finish(sending)
        finally:
            assert nas.ask("limit", "--in", "any").code == Exit.OK
        assert done.code == Exit.REFUSED
        assert [line.split(": ")[1] for line in done.err.splitlines()] == ["one", "two"]
        assert done.err.count("known no longer") == 2

    def test_paused(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """One that is paused over there holds up no other, and goes on when it may."""
        folder = tmp_path / "movies"
        folder.mkdir()
        for name in "abc":
            (folder / name).write_bytes(os.urandom(12 * limits.MIB))
        assert nas.ask("limit", "--in", "2M").code == Exit.OK
        try:
            sending = start("send", folder, "nas", "-s", here)
            id = moving(nas, "movies/a")
            assert nas.ask("pause", id).code == Exit.OK
            assert nas.ask("limit", "--in", "any").code == Exit.OK
            others = [nas.inbox / "movies" / name for name in "bc"]
            until(lambda: all(each.exists() for each in others))
            assert not (nas.inbox / "movies" / "a").exists() and sending.poll() is None
            assert nas.ask("resume", id).code == Exit.OK
            done = finish(sending)
        finally:
            assert nas.ask("limit", "--in", "any").code == Exit.OK
        assert done.code == Exit.OK and "3 files" in done.out
        for each in folder.iterdir():
            assert (nas.inbox / "movies" / each.name).read_bytes() == each.read_bytes()

    def test_several(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """Larger and smaller ones of a folder, and one that is a link."""
        folder = tmp_path / "several"
        folder.mkdir()
        sizes = [*[300_000] * 30, 5_000_000, 10, 9_000_000, 5_000_000, 20_000_000, 10, 4_194_304]
        for number, size in enumerate(sizes):
            (folder / f"{number:02}").write_bytes(os.urandom(size))
        (folder / "link").symlink_to("30")
        for already in (0, 1):
            done, heavy = imported("send", folder, nas.address, "-s", here)
            assert (done.code, heavy) == (Exit.OK, [])
            assert f"several/: {len(sizes)} files, " in done.out
            assert (f"{len(sizes)} already there" in done.out) == already
        for each in folder.iterdir():
            assert each.is_symlink() or (nas.inbox / "several" / each.name).read_bytes() == (
                each.read_bytes()
            )


class WireTests:
    """What is said, packet by packet."""

    # covers: H08
    @pytest.mark.parametrize("window", [1, limits.UNIT - 1, 2 * limits.UNIT, 15 * limits.MIB])
    def test_credit(self, make: Make, here: Path, large: Path, window: int) -> None:
        """No more is sent than was granted, one part after the other, and all of it."""
        data = large.read_bytes()
        left: list[int] = []

        def grants(hear: Hear, say: Say) -> None:
            asked = hear()
            say(go(asked, window))
            credit = window
            while "part" in (said := hear()):
                credit -= said["body"]
                left.append(credit)
                if credit <= 0:
                    credit += limits.UNIT // 2
                    say({"window": asked["do"], "bytes": limits.UNIT // 2})
            say(ok(asked, said))
            hear()

        device = make(grants)
        done = run("send", large, "odd", "-s", here)
        assert (done.code, done.err) == (Exit.OK, "")
        assert min(left) >= 0
        packets = zip(device.heard[0], device.bodies, strict=True)
        parts = [(packet["offset"], body) for packet, body in packets if "part" in packet]
        assert b"".join(body for _, body in parts) == data
        assert [at for at, _ in parts] == [
            *accumulate([len(body) for _, body in parts[:-1]], initial=0)
        ]
        last = device.heard[0][-1]
        assert (last["size"], last["blake3"]) == (SIZE, blake3(data).hexdigest())

    # covers: J01 J04
    def test_proves(self, make: Make, here: Path, large: Path) -> None:
        """It goes on from the largest offset at which both have the same."""
        data = large.read_bytes()
        have = [
            [4 * limits.MIB, "00" * 32],
            [3 * limits.MIB + 5, blake3(data[: 3 * limits.MIB + 5]).hexdigest()],
            [limits.MIB, blake3(data[: limits.MIB]).hexdigest()],
        ]

        def holds(hear: Hear, say: Say) -> None:
            asked = hear()
            time.sleep(0.2)  # it reads what it has; what is sent is read meanwhile
            say(go(asked, 8 * limits.MIB, have))
            say(ok(asked, to_its_end(hear)))
            hear()

        device = make(holds)
        done = run("send", large, "odd", "-s", here)
        assert done.code == Exit.OK and "3.0 MiB of it from before" in done.out
        first = next(each for each in device.heard[0] if "part" in each)
        assert first["offset"] == 3 * limits.MIB + 5
        last = next(each for each in device.heard[0] if "end" in each)
        assert last["blake3"] == blake3(data).hexdigest()

    def test_waits(self, make: Make, here: Path, large: Path) -> None:
        """Somebody is asked first; and who asks whether this one lives is answered."""

        def asks(hear: Hear, say: Say) -> None:
            asked = hear()
            say({"event": asked["do"], "waiting": True})
            say({"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": "odd"})
            assert hear()["error"] == 1
            say({"do": 2, "name": "ping"})
            assert hear() == {"ok": 2}
            say(go(asked, limits.UNIT))
            assert "part" in hear()
            say({"do": 3, "name": "ping"})
            say({"do": 4, "name": "list"})
            assert hear() == {"ok": 3}
            assert hear()["error"] == 4
            say({"window": asked["do"], "bytes": 8 * limits.MIB})
            say(ok(asked, to_its_end(hear)))
            hear()

        make(asks)
        done = run("send", large, "odd", "-s", here)
        assert done.code == Exit.OK and done.err == "Waiting for odd to accept.\n"

    def test_two_at_once(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Of files that are small beside a window the next ones are asked for meanwhile."""
        folder = tmp_path / "folder"
        folder.mkdir()
        for name in "abcd":
            (folder / name).write_bytes(os.urandom(2_000_000))
        asked: list[dict[str, Any]] = []

        def notes(hear: Hear, say: Say) -> None:
            ends = 0
            while said := hear():
                if said.get("name") == "recv_file":
                    asked.append(said)
                    say(go(said, 8 * limits.MIB))
                elif said.get("name") == "recv_files":
                    say({"ok": said["do"], "files": said["files"], "outcomes": 0})
                elif "end" in said:
                    ends += 1
                    ahead.append(len(asked) - ends)
                    one = next(each for each in asked if each["do"] == said["end"])
                    say(ok(one, said))

        ahead: list[int] = []
        make(notes)
        done = run("send", folder, "odd", "-s", here)
        assert done.code == Exit.OK and "4 files" in done.out
        assert len(asked) == 4 and max(ahead) >= 2

    def test_asked_in_time(self, make: Make, here: Path, tmp_path: Path) -> None:
        """The next one is asked for before the end of the one that goes, and a window before it."""
        paths = [tmp_path / "a", tmp_path / "b"]
        for path in paths:
            path.write_bytes(os.urandom(limits.WINDOW + 3 * limits.MIB))

        def notes(hear: Hear, say: Say) -> None:
            went, asked = 0, {}
            while said := hear():
                if said.get("name") == "recv_file":
                    before.append(went)
                    asked[said["do"]] = said
                    say(go(said, 15 * limits.MIB))
                elif "end" in said:
                    say(ok(asked[said["end"]], said))
                went += said.get("body", 0)

        before: list[int] = []
        make(notes)
        done = run("send", *paths, "odd", "-s", here)
        assert done.code == Exit.OK and "2 files" in done.out
        assert before == [0, 3 * limits.MIB]


class TroubleTests:
    # covers: J01
    def test_lost(self, make: Make, here: Path, large: Path) -> None:
        """Where the connection breaks it goes on, on another one, and with its reactor."""
        data = large.read_bytes()
        half = 2 * limits.UNIT

        def breaks(hear: Hear, say: Say) -> None:
            say(go(hear(), half))
            hear()
            hear()

        def goes_on(hear: Hear, say: Say) -> None:
            asked = hear()
            say(go(asked, 8 * limits.MIB, [[half, blake3(data[:half]).hexdigest()]]))
            say(ok(asked, to_its_end(hear)))
            hear()

        device = make(breaks, goes_on)
        done = run("send", large, "odd", "-s", here)
        assert done.code == Exit.OK and "2.0 MiB of it from before" in done.out
        assert next(each for each in device.heard[1] if "part" in each)["offset"] == half

    def test_lost_unsent(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Files that were asked for and not begun go on the other connection, all of them."""
        folder = tmp_path / "folder"
        folder.mkdir()
        for name in "abcde":
            (folder / name).write_bytes(os.urandom(5_000_000))

        def breaks(hear: Hear, say: Say) -> None:
            while (asked := hear()).get("name") != "recv_file":
                say({"ok": asked["do"], "files": asked["files"], "outcomes": 0})
            say(go(asked, 8 * limits.MIB))
            while "part" not in hear():
                pass

        device = make(breaks, takes_large)
        done = run("send", folder, "odd", "-s", here)
        assert done.code == Exit.OK and "5 files" in done.out
        paths = [each["path"] for each in device.heard[1] if each.get("size") and "do" in each]
        assert sorted(paths) == [f"folder/{name}" for name in "abcde"]

    @pytest.mark.parametrize("when", ["at once", "after a part", "at the end"])
    def test_refused(self, make: Make, here: Path, large: Path, when: str) -> None:
        """What its receiver says of it is the last word, and nothing is sent after that."""

        def refuses(hear: Hear, say: Say) -> None:
            asked = hear()
            if when != "at once":
                say(go(asked, limits.UNIT if when == "after a part" else 8 * limits.MIB))
                hear()
            if when == "at the end":
                to_its_end(hear)
            say(refusal(asked, "forbidden", "Not that one.", False))
            assert hear() == {}

        make(refuses)
        done = run("send", large, "odd", "-s", here)
        assert done.code == Exit.REFUSED and "Not that one." in done.err
        assert "Nothing arrived at odd." in done.out

    def test_refused_late(self, make: Make, here: Path, tmp_path: Path) -> None:
        """What is read meanwhile has no say where its receiver does not want it."""
        huge = tmp_path / "huge"
        with huge.open("wb") as file:
            file.truncate(1 << 40)

        def refuses(hear: Hear, say: Say) -> None:
            asked = hear()
            time.sleep(0.3)
            say(refusal(asked, "forbidden", "Not that one.", False))
            assert hear() == {}

        make(refuses)
        done = run("send", huge, "odd", "-s", here)
        assert done.code == Exit.REFUSED and "Not that one." in done.err

    def test_busy(self, make: Make, here: Path, large: Path) -> None:
        """What may be otherwise in a moment is tried again, with patience."""

        def busy(hear: Hear, say: Say) -> None:
            say(refusal(hear(), "busy", "Somebody writes that file.", True))
            hear()

        def takes(hear: Hear, say: Say) -> None:
            asked = hear()
            say(go(asked, 8 * limits.MIB))
            say(ok(asked, to_its_end(hear)))
            hear()

        make(busy, takes)
        done = run("send", large, "odd", "-s", here)
        assert (done.code, done.err) == (Exit.OK, "")

    # covers: J05
    def test_changed(self, make: Make, here: Path, large: Path) -> None:
        """A file that changes meanwhile is given up there, and goes once more as it is then."""

        def changes(hear: Hear, say: Say) -> None:
            asked = hear()
            say(go(asked, limits.UNIT))
            hear()
            large.write_bytes(bytes(SIZE))
            say({"window": asked["do"], "bytes": 8 * limits.MIB})
            assert to_its_end(hear)["code"] == "source-changed"
            say(refusal(asked, "source-changed", "It changed.", False))
            hear()

        def takes(hear: Hear, say: Say) -> None:
            asked = hear()
            say(go(asked, 8 * limits.MIB))
            say(ok(asked, to_its_end(hear)))
            hear()

        device = make(changes, takes)
        done = run("send", large, "odd", "-s", here)
        assert done.code == Exit.OK
        last = next(each for each in device.heard[1] if "end" in each)
        assert last["blake3"] == blake3(bytes(SIZE)).hexdigest()

    # covers: J03
    @pytest.mark.parametrize("when", ["before its go", "while it is proved", "while it is sent"])
    def test_interrupted(self, make: Make, here: Path, tmp_path: Path, when: str) -> None:
        """Ctrl-C gives it up there, and the answer is waited for."""
        huge = tmp_path / "huge"
        with huge.open("wb") as file:
            file.truncate(1 << 40)
        heard: list[str] = []

        def waits(hear: Hear, say: Say) -> None:
            asked = hear()
            if when == "while it is proved":
                say(go(asked, limits.UNIT, [[1 << 40, "00" * 32]]))
            if when == "while it is sent":
                say(go(asked, limits.UNIT))
                hear()
            heard.append("ready")
            assert to_its_end(hear)["cancel"] == asked["do"]
            say(refusal(asked, "cancelled", "", False))
            hear()

        make(waits)
        process = start("send", huge, "odd", "-s", here)
        until(lambda: heard)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        assert (done.code, done.err) == (Exit.CANCELLED, "lanxfer: Cancelled.\n")

    def test_interrupted_and_lost(self, make: Make, here: Path, large: Path) -> None:
        """Where the connection breaks just then, nobody knows whether it arrived."""

        def breaks(hear: Hear, say: Say) -> None:
            asked = hear()
            say(go(asked, 8 * limits.MIB))
            to_its_end(hear)
            hear()  # the cancel

        device = make(breaks)
        process = start("send", large, "odd", "-s", here)
        until(lambda: device.heard and any("end" in each for each in device.heard[0]))
        process.send_signal(signal.SIGINT)
        done = finish(process)
        assert done.code == Exit.CANCELLED and "it may have arrived before that" in done.err

    def test_unreadable(self, nas: Serving, here: Path, large: Path, tmp_path: Path) -> None:
        """What cannot be read has its sentence, and the others arrive."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        done = run("send", large, pipe, "nas", "-s", here)
        long = run("send", large, pipe, "nas", "-s", here, *ELSEWHERE)
        assert (done.code, done.err) == (long.code, long.err)
        assert (nas.inbox / "large.bin").read_bytes() == large.read_bytes()

    @pytest.mark.parametrize("code", ["", "busy", "cancelled"])
    def test_nonsense(self, make: Make, here: Path, tmp_path: Path, code: str) -> None:
        """Whoever says what makes no sense, or wants no more at all, is left, and asked anew."""
        names = ["a", "b", "c"]
        for name in names:
            (tmp_path / name).write_bytes(os.urandom(SIZE))

        def raves(hear: Hear, say: Say) -> None:
            say(go(hear(), limits.UNIT))
            hear()
            end = {"error": 0, "code": code, "reason": "No more.", "retry": True}
            say(end if code else {"nonsense": 1})
            while hear():  # what was on its way by then
                pass

        device = make(raves, takes_large)
        done = run("send", *[tmp_path / name for name in names], "odd", "-s", here)
        assert done.code == Exit.OK and "3 files" in done.out
        assert len(device.heard) == 2

    def test_two_stuck(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Two that cannot go on hold up no small ones, and go on when they may."""
        folder = tmp_path / "folder"
        (folder / "z").mkdir(parents=True)
        for name in "abc":
            (folder / name).write_bytes(os.urandom(SIZE))
        for number in range(3000):
            (folder / "z" / str(number)).write_bytes(b"x")
        stuck: list[dict[str, Any]] = []

        def holds(hear: Hear, say: Say) -> None:
            files, asked = 0, {}
            while said := hear():
                if said.get("name") == "recv_files":
                    files += said["files"]
                    say({"ok": said["do"], "files": said["files"], "outcomes": 0})
                elif said.get("name") == "recv_file":
                    asked[said["do"]] = said
                    stuck.append(said)
                    say(go(said, 1000 if len(stuck) < 3 else 8 * limits.MIB))
                elif "end" in said:
                    say(ok(asked[said["end"]], said))
                if files == 3002 and len(stuck) == 2:  # the folders count as well
                    for each in stuck:
                        say({"window": each["do"], "bytes": 8 * limits.MIB})

        device = make(holds)
        done = run("send", folder, "odd", "-s", here)
        assert done.code == Exit.OK and "3003 files" in done.out
        assert len(device.heard) == 1 and len(stuck) == 3

    def test_answered_and_lost(self, make: Make, here: Path, tmp_path: Path) -> None:
        """What was answered when the connection broke is not sent again."""
        for name in "ab":
            (tmp_path / name).write_bytes(os.urandom(SIZE))
        folder = tmp_path / "f"
        folder.mkdir()
        for number in range(20):
            (folder / str(number)).write_bytes(b"x")

        def breaks(hear: Hear, say: Say) -> None:
            ended, pack = 0, {}
            while ended < 2 or not pack:
                said = hear()
                if said.get("name") == "recv_files":
                    pack = said
                elif said.get("name") == "recv_file":
                    say(go(said, 8 * limits.MIB))
                ended += "end" in said
            say({"ok": pack["do"], "files": pack["files"], "outcomes": 0})

        device = make(breaks, takes_large)
        done = run("send", tmp_path / "a", tmp_path / "b", folder, "odd", "-s", here)
        assert done.code == Exit.OK and "22 files" in done.out
        assert not any(each.get("name") == "recv_files" for each in device.heard[1])

    def test_said_lost(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Who says of one file that a connection was lost has not lost this one."""
        for name in "ab":
            (tmp_path / name).write_bytes(os.urandom(SIZE))

        def says(hear: Hear, say: Say) -> None:
            say(refusal(hear(), "connection-lost", "That one's disk went.", True))
            asked = hear()
            say(go(asked, 8 * limits.MIB))
            say(ok(asked, to_its_end(hear)))
            hear()

        device = make(says, takes_large)
        done = run("send", tmp_path / "a", tmp_path / "b", "odd", "-s", here)
        assert done.code == Exit.OK and "2 files" in done.out
        assert [each["path"] for each in device.heard[1] if each.get("size") and "do" in each] == [
            "a"
        ]

    def test_gone_named(self, make: Make, here: Path, large: Path) -> None:
        """A file that was given its name is reported by it, whoever reports it."""
        made: list[Device] = []

        def busy(hear: Hear, say: Say) -> None:
            asked = hear()
            made[0]._listening.close()
            say(refusal(asked, "busy", "Somebody writes that file.", True))
            hear()

        made.append(make(busy))
        done = run("send", large, "odd", "--name", "films/x.bin", "-s", here)
        assert done.code == Exit.UNREACHABLE
        assert done.out == "Nothing arrived at odd.\n" and done.err.startswith(
            "lanxfer: films/x.bin: "
        )


class ProgressTests:
    """What is shown meanwhile; in this process, so that it can be looked at."""

    @pytest.fixture(autouse=True)
    def often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "BARS_AFTER", 0.01)
        monkeypatch.setattr(progress, "LINE_EVERY", 0.01)

    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """What was shown, each time something was."""
        found: list[dict[str, Any]] = []

        def line_of(tally: Tally) -> str:
            found.append({**tally.as_row(), "total": tally.total, "waits": tally.waits})
            return ""

        monkeypatch.setattr(progress, "line_of", line_of)
        return found

    def test_moves(self, make: Make, here: Path, large: Path, seen: list[dict[str, Any]]) -> None:
        """It grows with what was sent, from where it begins, and all of it is there at the end."""
        data = large.read_bytes()
        begun = limits.UNIT

        def slow(hear: Hear, say: Say) -> None:
            asked = hear()
            say({"event": asked["do"], "waiting": True})
            until(lambda: any(each["waits"] for each in seen))
            say(go(asked, 2 * limits.UNIT, [[begun, blake3(data[:begun]).hexdigest()]]))
            hear()
            hear()
            until(lambda: seen[-1]["done"] == 3 * limits.UNIT)
            say({"window": asked["do"], "bytes": 8 * limits.MIB})
            last = to_its_end(hear)
            until(lambda: seen[-1]["done"] == SIZE)
            say(ok(asked, last))
            hear()

        make(slow)
        job = Job((str(large),), Over("odd"))
        assert straight_many.send(Choices(state=str(here)), job) == Exit.OK
        at = [each for each in seen if each["done"] == 3 * limits.UNIT][-1]
        assert (at["moved"], at["current"], at["total"]) == (2 * limits.UNIT, "large.bin", SIZE)
        assert not at["waits"]
        done = [each["done"] for each in seen]
        assert done == sorted(done)

    def test_second(self, make: Make, here: Path, tmp_path: Path, capsys: Any) -> None:
        """That somebody is asked about one file is heard while another one is sent."""
        for name in "ab":
            (tmp_path / name).write_bytes(os.urandom(2_000_000))

        def asks(hear: Hear, say: Say) -> None:
            first, second = hear(), hear()
            say(go(first, limits.UNIT))
            hear()
            say({"event": second["do"], "waiting": True})
            say({"window": first["do"], "bytes": 8 * limits.MIB})
            say(ok(first, to_its_end(hear)))
            say(go(second, 8 * limits.MIB))
            say(ok(second, to_its_end(hear)))
            hear()

        make(asks)
        job = Job((str(tmp_path / "a"), str(tmp_path / "b")), Over("odd"))
        assert straight_many.send(Choices(state=str(here)), job) == Exit.OK
        assert capsys.readouterr().err.splitlines().count("Waiting for odd to accept.") == 1
