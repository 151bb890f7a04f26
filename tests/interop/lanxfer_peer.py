"""lanxfer's side of the tests: a process with services, and a client that sends."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any

from attrs import frozen

from interop.children import Child, new_address

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

FOLDER = "from-ae"
"""Where in the inbox files of ae peers go."""


@frozen
class Refused(Exception):
    """What a client of ours failed with: the wire code, and the words."""

    code: str
    reason: str


class Lanxfer:
    """A process for services and clients; both are wanted as real as they can be."""

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)
        self.base = base
        self._numbers = itertools.count(1)
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._child = Child(
            [sys.executable, HERE / "lanxfer_runner.py"],
            cwd=base,
            env={"PYTHONPATH": path},
            log=base / "lanxfer.log",
        )

    def ask(self, do: str, **args: Any) -> Any:
        """One request to the process."""
        return self._result(self._child.begin(do, **args))

    def begin(self, do: str, **args: Any) -> int:
        """One request, whose answer can wait."""
        return self._child.begin(do, **args)

    def _result(self, number: int, timeout: float = 20.0) -> Any:
        found = self._child.wait(number, timeout)
        assert "raised" not in found, found["raised"]
        if "error" in found:
            raise Refused(found["error"], found["reason"])
        return found["answer"]

    def service(self, *, port: int = 0, address: str = "", **settings: Any) -> Served:
        """A service with an inbox and a state of its own, for ae peers on this machine."""
        name = f"service{next(self._numbers)}"
        base = self.base / name
        address = address or new_address()
        wanted: dict[str, Any] = {
            "inbox": str(base / "inbox"),
            "state": str(base / "state"),
            "bind": address,
            "port": port,
            "legacy": "full",
            "legacy_from": ("127.0.0.0/8",),
            "legacy_folder": FOLDER,
            "reserve_bytes": 0,
            "reserve_share": 0.0,
            "drain": 1.0,
            **settings,
        }
        (shown,) = self.ask("start", name=name, settings=wanted)
        return Served(self, name, address, int(shown.rpartition(":")[2]), base / "inbox")

    def begin_send(self, peer: str, *, patience: float = 0.0, **what: Any) -> int:
        """Send as lanxfer's client does to an ae device; ``sent`` has the receipt."""
        state = str(self.base / "client-state")
        return self._child.begin("send", peer=peer, state=state, patience=patience, **what)

    def sent(self, number: int) -> dict[str, Any]:
        """The receipt of what ``begin_send`` began; raises Refused."""
        found = self._result(number)
        assert isinstance(found, dict)
        return found

    def send(self, peer: str, **what: Any) -> dict[str, Any]:
        """Send a ``path`` or a ``text``; the receipt, or Refused."""
        return self.sent(self.begin_send(peer, **what))

    @property
    def log(self) -> str:
        """All that it logged."""
        return self._child.log.read_text("utf-8")

    def end(self) -> None:
        self._child.end()


@frozen
class Served:
    """A service that runs in a ``Lanxfer`` process."""

    host: Lanxfer
    name: str
    address: str
    port: int
    inbox: Path

    @property
    def folder(self) -> Path:
        """Where files of ae peers are."""
        return self.inbox / FOLDER

    def files(self) -> dict[str, bytes]:
        """What is in that folder, by path below it."""
        found = (each for each in self.folder.rglob("*") if each.is_file())
        return {each.relative_to(self.folder).as_posix(): each.read_bytes() for each in found}

    def unfinished(self) -> list[int]:
        """The lengths of the part files."""
        visible = self.folder
        found = (each for each in self.inbox.rglob("*") if visible not in each.parents)
        return sorted(each.stat().st_size for each in found if each.suffix == ".part")

    def messages(self) -> list[str]:
        found: list[str] = self.host.ask("messages", name=self.name)
        return found

    def finished(self) -> list[dict[str, Any]]:
        """The transfers that are over, newest first, as rows."""
        found: list[dict[str, Any]] = self.host.ask("finished", name=self.name)
        return found

    def pending(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.host.ask("pending", name=self.name)
        return found

    def begin_tell(self, **args: Any) -> int:
        """Have the service itself send; ``Lanxfer.sent`` has what comes of it."""
        return self.host.begin("tell", name=self.name, args=args)

    def stop(self) -> None:
        self.host.ask("stop", name=self.name)
