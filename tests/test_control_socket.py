"""``lanxfer.control``, against a service that says what it is told to."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor

from lanxfer import conversation as conversation_module
from lanxfer.control import Control, NoService, ServiceLost
from lanxfer.errors import BadHeader, Cancelled, HeaderTooLong, NotFound, TimedOut
from lanxfer.wire import limits
from tests.scripted_service import HELLO, Say, Script, Service, greeted, listen

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no control sockets here")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Script], Service]]:
    made: list[Service] = []

    def make(script: Script) -> Service:
        made.append(Service(str(tmp_path / "control.sock"), script))
        return made[0]

    yield make
    for each in made:
        each.close()


class ControlTests:
    def test_answer(self, serve: Callable[[Script], Service]) -> None:
        """An answer comes with its body, after the events before it; other packets pass by."""

        @greeted
        def script(hear: Callable[[], dict[str, Any]], say: Say) -> None:
            assert hear() == {"do": 2, "name": "history", "limit": 3}
            say({"do": 1, "name": "hello", "speaks": ["lanxfer/1"]})
            say({"do": 2, "name": "ping"})
            assert [hear(), hear()] == [
                {"error": 1, "code": "unknown-command", "reason": "", "retry": False},
                {"ok": 2},
            ]
            say({"event": 2, "number": 1})
            say({"event": 2, "number": 2})
            say({"ok": 2, "rows": 1, "body": 9}, b'{"a": 1}\n')
            assert hear()["name"] == "again"
            say({"error": 3, "code": "not-found", "reason": "No.", "retry": False})
            hear()

        service = serve(script)
        control, events = Control(service.path), []
        answer = control.ask("history", {"limit": 3}, on_event=lambda args: events.append(args))
        assert (answer.args["rows"], answer.body) == (1, b'{"a": 1}\n')
        assert [each["number"] for each in events] == [1, 2]
        with pytest.raises(NotFound, match=r"No\."):
            control.ask("again")
        control.close()

    def test_cancel(self, serve: Callable[[Script], Service]) -> None:
        """What is given up is still answered, and is given up once."""

        @greeted
        def script(hear: Callable[[], dict[str, Any]], say: Say) -> None:
            hear()
            say({"event": 2})
            say({"event": 2})
            assert hear()["cancel"] == 2
            say({"error": 2, "code": "cancelled", "reason": "", "retry": False})
            assert hear() == {}

        service = serve(script)
        control = Control(service.path)
        assert not control.cancel()
        with pytest.raises(Cancelled):
            control.ask("watch", on_event=lambda args: control.cancel())
        control.close()

    def test_nobody(self, tmp_path: Path) -> None:
        """No socket, or one that a crash left, is no service."""
        path = str(tmp_path / "control.sock")
        with pytest.raises(NoService, match="lanxfer serve"):
            Control(path)
        left = socket.socket(socket.AF_UNIX)
        left.bind(path)
        left.close()
        with pytest.raises(NoService):
            Control(path)

    def test_silent(
        self, serve: Callable[[Script], Service], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of one that does not even say hello it is said that it runs: another could not start."""
        monkeypatch.setattr(conversation_module, "HELLO_WAIT", 0.05)
        service = serve(lambda hear, say: listen(hear, 2))
        with pytest.raises(NoService, match="and does not answer"):
            Control(service.path)

    @in_reactor
    async def test_silent_in_reactor(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Commands that have a reactor say the same of it."""
        monkeypatch.setattr("lanxfer.connecting.HELLO_WAIT", 0.05)
        with socket.socket(socket.AF_UNIX) as service:
            service.bind(devices.state("nas").socket_path)
            service.listen()
            with pytest.raises(TimedOut, match="and does not answer"):
                await devices.control("nas")

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it looks like no service")
    def test_many_wait(self, tmp_path: Path) -> None:
        """One that took nobody for so long that no more may wait is not taken for none."""
        path = str(tmp_path / "control.sock")
        with socket.socket(socket.AF_UNIX) as service, socket.socket(socket.AF_UNIX) as other:
            service.bind(path)
            service.listen(0)
            other.connect(path)
            with pytest.raises(NoService, match="and does not answer"):
                Control(path)

    def test_falls_silent(
        self, serve: Callable[[Script], Service], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before one that says nothing more is given up it is asked whether it lives."""
        monkeypatch.setattr(limits, "PING_AFTER", 0.05)
        monkeypatch.setattr(limits, "PING_TIMEOUT", 0.05)
        service = serve(greeted(lambda hear, say: listen(hear, 3)))
        control = Control(service.path)
        with pytest.raises(ServiceLost, match="not answer any more"):
            control.ask("status")
        control.close()
        service.close()
        assert [each.get("name") for each in service.heard] == ["hello", "status", "ping", None]

    def test_ends(self, serve: Callable[[Script], Service]) -> None:
        """One that ends in the middle is lost, however it says so."""

        @greeted
        def script(hear: Callable[[], dict[str, Any]], say: Say) -> None:
            hear()
            say(b'{"ok": 2, "body": 100}\nhalf')

        control = Control(serve(script).path)
        with pytest.raises(ServiceLost):
            control.ask("history")
        with pytest.raises(ServiceLost):
            control.ask("history")
        control.close()

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            (b"no packet\n", BadHeader),
            (b"{" + b" " * (limits.HEADER_KNOWN + 8), HeaderTooLong),
            (b'{"bye": "all"}\n', ServiceLost),
            (b'{"error": 0, "code": "cancelled", "reason": "", "retry": false}\n', Cancelled),
        ],
    )
    def test_nonsense(
        self, serve: Callable[[Script], Service], line: bytes, error: type[Exception]
    ) -> None:
        """What is not in the protocol is an error, and waits for nothing more."""

        @greeted
        def script(hear: Callable[[], dict[str, Any]], say: Say) -> None:
            hear()
            say(line)
            hear()

        control = Control(serve(script).path)
        with pytest.raises(error):
            control.ask("status")
        control.close()

    def test_another_version(self, serve: Callable[[Script], Service]) -> None:
        """One of another version is not asked."""

        def script(hear: Callable[[], dict[str, Any]], say: Say) -> None:
            hear()
            say({**HELLO, "speaks": "lanxfer/9"})

        with pytest.raises(BadHeader):
            Control(serve(script).path)
