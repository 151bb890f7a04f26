"""Hooks: what they are told, and that nothing they do matters to a transfer."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from devices import Devices, in_reactor, until
from hypothesis import given
from hypothesis import strategies as st
from test_cli_real import Serving, end, know, own_key, run, serve
from test_cli_real import until as until_here
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from lanxfer.errors import BadConfig
from lanxfer.hooks import hooks
from lanxfer.hooks.events import Event, Hook, command_line, events_of, parse_hook
from lanxfer.opening import path_of
from lanxfer.settings import Settings
from lanxfer.transfers import Direction, Kind, Snapshot, State

PAGE = (Path(__file__).parent.parent / "docs" / "hooks.rst").read_text()

NASTY = ["-rf", "$(id)", "a;b", "--", '"', "it's", "a b", "\N{SNOWMAN}"]


def snapshot(path: str, kind: Kind = Kind.FILE, **more: Any) -> Snapshot:
    said = {"direction": Direction.IN, "state": State.DONE, "stored": path, **more}
    return Snapshot(id="1", kind=kind, peer="peer:K", path=path, size=1, **said)


class EventTests:
    @given(st.text(min_size=1))
    def test_one_argument(self, name: str) -> None:
        """Whatever a name is, it is one argument, no option, and can be given to a program."""
        # covers: J24
        for about, path in ((snapshot(name), f"/in/{name}"), (snapshot(name), "")):
            for event in events_of(about, "laptop", path, None):
                line = command_line(Hook("received", ("run", "--now")), event)
                assert line[:2] == ["run", "--now"] and len(line) == 3
                assert not line[2].startswith("-")
                assert "\0" not in line[2] + "".join(event.environment().values())

    @given(st.text())
    def test_notice(self, text: str) -> None:
        """A notification's text is no option either."""
        (event, _) = events_of(snapshot(text, Kind.MESSAGE), "laptop", "", text)
        line = command_line(Hook("message", notify=True), event)
        assert line[:3] == ["notify-send", "--app-name=lanxfer", "--"] and len(line) == 5

    def test_document(self) -> None:
        """A webhook is told the same."""
        event = Event("received", snapshot("a"), "laptop", "/in/a")
        said = json.loads(event.document())
        assert (said["event"], said["peer"], said["path"]) == ("received", "laptop", "/in/a")
        assert said["transfer"]["state"] == "done"

    @pytest.mark.parametrize(
        ("about", "names"),
        [
            (snapshot("a"), ["received", "finished"]),
            (snapshot("a", Kind.FOLDER), ["received", "finished"]),
            (snapshot("a", Kind.MESSAGE), ["message", "finished"]),
            (snapshot("a", state=State.FAILED), ["finished"]),
            (snapshot("a", direction=Direction.OUT), ["finished"]),
        ],
    )
    def test_names(self, about: Snapshot, names: list[str]) -> None:
        """What came well is received; everything that is over is finished."""
        assert [each.name for each in events_of(about, "x", "", None)] == names

    @pytest.mark.parametrize(
        ("text", "hook"),
        [
            ("received=run 'a b' --c", Hook("received", ("run", "a b", "--c"))),
            ("message=https://h/x?k=v", Hook("message", url="https://h/x?k=v")),
            ("finished=notify", Hook("finished", notify=True)),
        ],
    )
    def test_parse(self, text: str, hook: Hook) -> None:
        """A command, an address, or the word."""
        assert parse_hook(text) == hook

    @pytest.mark.parametrize(
        "text", ["", "received", "received=", "sent=x", "received='x", "received=http://a b"]
    )
    def test_no_hook(self, text: str) -> None:
        """What is none is said when the settings are made."""
        with pytest.raises(BadConfig, match="--hook"):
            Settings(hook=(text,))

    def test_secret(self) -> None:
        """An address is a secret: no log shows all of it."""
        assert str(parse_hook("message=https://h/token?k=v")) == "message=https://h/..."


def script(folder: Path, body: str) -> str:
    """A program that appends its words and what it is told to a file, then does ``body``."""
    path = folder / "hook"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys, time\n"
        "told = {k: v for k, v in os.environ.items() if k.startswith('LANXFER_')}\n"
        f"log = os.open({str(folder / 'log')!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "os.write(log, json.dumps([sys.argv[1:], told]).encode() + b'\\n')\n" + body
    )
    path.chmod(0o755)
    return str(path)


def told(folder: Path) -> list[Any]:
    log = folder / "log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[Serving, Path]]:
    """A service that knows a laptop, and the state folder of that."""
    nas = serve(folder / "nas", *options)
    try:
        state = folder / "laptop"
        know(nas.state, "laptop", own_key(state))
        know(state, "nas", own_key(nas.state), nas.address)
        yield nas, state
    finally:
        assert end(nas) == 0


class CommandTests:
    def test_confined(self, tmp_path: Path) -> None:
        """A service that may run no program has its hooks run; names stay names."""
        # covers: J24
        hook = script(tmp_path, "")
        options = [f"received={hook} --into x", f"message={hook}", f"finished={hook}"]
        words = (word for each in options for word in ("--hook", each))
        folder = tmp_path / "files"
        folder.mkdir()
        with serving(tmp_path, *words) as (nas, state):
            for name in NASTY:
                (folder / name).write_text("x")
                assert run("--state", state, "send", "--", folder / name, "nas").code == 0
            assert run("--state", state, "message", "--", "-x $(id)\n;", "nas").code == 0
            until_here(lambda: len(told(tmp_path)) == 2 * len(NASTY) + 2)
        received = [each for each in told(tmp_path) if each[1]["LANXFER_EVENT"] == "received"]
        wanted = sorted(["--into", "x", str(nas.inbox / name)] for name in NASTY)
        assert sorted(words for words, _ in received) == wanted
        assert all(os.path.exists(words[-1]) for words, _ in received)
        (message,) = [each for each in told(tmp_path) if each[1]["LANXFER_EVENT"] == "message"]
        assert message[0] == ["laptop"] and message[1]["LANXFER_TEXT"] == "-x $(id)\n;"
        assert "hook failed" not in nas.errors.read_text()

    def test_failing(self, tmp_path: Path) -> None:
        """A hook that is not there, fails or hangs is no business of anybody else's."""
        hook = script(tmp_path, "time.sleep(600)\n")
        options = ["received=/no/such", "received=false", f"received={hook}", "finished=notify"]
        words = (word for each in options for word in ("--hook", each))
        (tmp_path / "a").write_text("x")
        with serving(tmp_path, *words) as (nas, state):
            for number in range(8):
                sent = run("--state", state, "send", tmp_path / "a", "nas", "--name", f"a{number}")
                assert sent.code == 0
            until_here(lambda: nas.errors.read_text().count("hook failed") >= 2)
            until_here(lambda: told(tmp_path))
        assert "/no/such: No such file" in nas.errors.read_text()
        assert nas.errors.read_text().count("received=/no/such") == 1
        # What hung has gone with the service.
        until_here(lambda: not running(hook))


def running(program: str) -> list[str]:
    """The processes that have this on their command line."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes()
        except OSError:
            continue
        if program.encode() in words.split(b"\0"):
            found.append(each.parent.name)
    return found


class ServiceTests:
    async def _send(self, devices: Devices, nas: Any, name: str = "a.txt") -> Any:
        await devices.pair("laptop", nas, "nas")
        client = await devices.client("laptop", "nas")
        return await client.send_file(devices.source(name, b"hello"))

    @in_reactor
    async def test_callbacks(self, devices: Devices) -> None:
        """An application is told in its own process; on_message is as it was."""
        events: list[Event] = []
        hooked = {"on_received": events.append, "on_finished": events.append}
        nas = await devices.start("nas", {**hooked, "on_message": lambda message: None})
        await self._send(devices, nas)
        client = await devices.client("laptop", "nas")
        await client.send_message("hi there")
        await until(lambda: len(events) == 3)
        assert [each.name for each in events] == ["received", "finished", "finished"]
        assert Path(events[0].path).read_bytes() == b"hello"
        assert (events[0].label, events[2].text) == ("laptop", "hi there")

    @in_reactor
    async def test_callbacks_fail(self, devices: Devices, logged: list[str]) -> None:
        """A callback that raises, or never ends, changes nothing; one that hangs is given up."""
        hung: list[Deferred[None]] = []

        def hang(event: Event) -> Deferred[None]:
            hung.append(Deferred())
            return hung[-1]

        def fail(event: Event) -> None:
            raise RuntimeError("no")

        nas = await devices.start("nas", {"on_received": fail, "on_finished": hang})
        for number in range(2 * hooks.RUNNING_MAX):
            assert (await self._send(devices, nas, f"{number}.txt")).size == 5
        await until(lambda: len(hung) >= hooks.RUNNING_MAX)
        assert len(hung) == hooks.RUNNING_MAX
        assert ["hook failed" in each for each in logged] == [True]
        logged.clear()
        for each in list(hung):
            each.callback(None)
        await until(lambda: len(hung) == 2 * hooks.RUNNING_MAX)
        for each in hung[hooks.RUNNING_MAX :]:
            each.callback(None)

    @in_reactor
    async def test_time(self, devices: Devices, logged: list[str], monkeypatch: Any) -> None:
        """What takes too long is ended, a command with all that it started."""
        monkeypatch.setattr(hooks, "SECONDS", 0.3)
        hook = script(devices.folder, "os.fork(); time.sleep(600)\n")
        stuck: list[Deferred[None]] = []

        def hang(event: Event) -> Deferred[None]:
            stuck.append(Deferred())
            return stuck[-1]

        nas = await devices.start("nas", {"on_finished": hang}, hook=(f"received={hook}",))
        await self._send(devices, nas)
        await until(lambda: len(logged) == 2)
        assert stuck[0].called
        await until(lambda: not running(hook))
        logged.clear()

    @in_reactor
    async def test_webhook(self, devices: Devices, logged: list[str]) -> None:
        """A web server is told; one that complains, or is not there, is complained of."""
        posted: list[Any] = []

        class Door(Resource):
            isLeaf = True

            def render_POST(self, request: Any) -> bytes:
                posted.append(json.loads(request.content.read()))
                request.setResponseCode(500 if request.path == b"/no" else 204)
                return b""

        port = reactor.listenTCP(0, Site(Door()), interface="127.0.0.1")  # type: ignore[attr-defined]
        url = f"http://127.0.0.1:{port.getHost().port}"
        said = (f"received={url}/yes", f"finished={url}/no", "finished=http://127.0.0.1:9/")
        nas = await devices.start("nas", hook=said)
        await self._send(devices, nas)
        await until(lambda: len(posted) == 2 and len(logged) == 2)
        logged.clear()
        assert {each["event"] for each in posted} == {"received", "finished"}
        assert all(each["transfer"]["blake3"] for each in posted)
        await port.stopListening()

    @in_reactor
    async def test_shared(self, devices: Devices) -> None:
        """Where something is in a shared folder is not told."""
        events: list[Event] = []
        (devices.folder / "music").mkdir()
        share = (f"music={devices.folder / 'music'}:rw",)
        nas = await devices.start("nas", {"on_received": events.append}, shares=share)
        about = snapshot("music/a.mp3")
        assert path_of(nas.settings, about) == ""
        await self._send(devices, nas)
        await until(lambda: events)
        assert events[0].path == str(devices.inbox("nas") / "a.txt")

    @in_reactor
    async def test_page(self, devices: Devices, monkeypatch: Any) -> None:
        """The lines of docs/hooks.rst mean something."""
        shell, example = (dedent(each) for each in re.findall(r"::\n\n((?:(?:    .*)?\n)+)", PAGE))
        words = re.findall(r"--hook (?:'([^']+)'|(\S+))", shell)
        assert len([parse_hook(a or b) for a, b in words]) == 3
        devices.folder.mkdir(exist_ok=True)
        monkeypatch.chdir(devices.folder)
        names: dict[str, Any] = {"reactor": reactor}
        exec(example, names)
        service = names["service"]
        service.startService()
        await service.when_listening()
        await service.stopService()
