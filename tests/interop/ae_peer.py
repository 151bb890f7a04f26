"""Real ae_transfer_service peers: a server, and an app that uses the client function."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from interop.children import PORT, Child, new_address

HERE = Path(__file__).resolve().parent
_CACHE = HERE.parent.parent / ".cache" / "ae"
_IN_CACHE = _CACHE / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
PYTHON = Path(os.environ.get("LANXFER_AE_PYTHON") or _IN_CACHE)

needs_ae = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="ae_transfer_service is not installed; run tests/interop/install_ae.py",
)


def _surroundings(home: Path) -> dict[str, str]:
    """An environment in which nothing of the user's is found, or touched."""
    return {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "USERPROFILE": str(home)}


class AeServer:
    """A real server with a working folder ``folder`` and a home of its own below ``base``."""

    def __init__(self, base: Path, name: str = "ae") -> None:
        self.address = new_address()
        self.folder = base / name
        self.home = base / f"{name}-home"
        for each in (self.folder, self.home / "Documents"):
            each.mkdir(parents=True)
        # At the debug level it has by default it would print its whole environment.
        options = [f"--bind={self.address}", "--debug_level=0"]
        self._child = Child(
            [PYTHON, HERE / "ae_runner.py", "server", *options],
            cwd=self.folder,
            env=_surroundings(self.home),
            log=base / f"{name}.log",
        )
        assert self._child.ready == "", self._child.ready

    def end(self) -> None:
        self._child.end()


class AeApp:
    """A process that calls the real client function for us."""

    def __init__(self, base: Path) -> None:
        (base / "app-home").mkdir(parents=True)
        self._child = Child(
            [PYTHON, HERE / "ae_runner.py", "app"],
            cwd=base,
            env=_surroundings(base / "app-home"),
            log=base / "app.log",
        )

    def _result(self, number: int, timeout: float) -> Any:
        found = self._child.wait(number, timeout)
        assert "raised" not in found, found["raised"]
        return found["answer"]

    def begin(
        self,
        address: str,
        request: dict[str, Any],
        *,
        keep: str = "",
        timeout: float | None = 2.7,
        source: str = "",
    ) -> int:
        """Have a request made, to ``address`` and port 36969; ``wait`` for the number.

        ``keep`` names the connection, to go on with it.  2.7 seconds are what the
        real function waits if it is not told otherwise; ``source`` is the address it
        comes from.
        """
        request = {"server_address": (address, PORT), "local_ip": source or "127.0.0.1", **request}
        return self._child.begin(
            "request", request=request, keep=keep, timeout=timeout, source=source
        )

    def wait(self, number: int, timeout: float = 20.0) -> dict[str, Any]:
        """The answer, as the client function gives it."""
        answer = self._result(number, timeout)
        assert isinstance(answer, dict)
        return answer

    def request(self, address: str, request: dict[str, Any], **how: Any) -> dict[str, Any]:
        """Have a request made, and its answer; ``how`` as for ``begin``."""
        return self.wait(self.begin(address, request, **how))

    def send(self, keep: str, path: Path, offset: int, length: int) -> None:
        """Send a piece of a file on a connection that was kept."""
        self._result(
            self._child.begin("send", keep=keep, path=str(path), offset=offset, length=length), 20
        )

    def line(self, keep: str) -> dict[str, Any]:
        """The next line on a connection that was kept."""
        answer = self._result(self._child.begin("line", keep=keep), 20)
        assert isinstance(answer, dict)
        return answer

    def half_close(self, keep: str) -> None:
        self._result(self._child.begin("half_close", keep=keep), 20)

    def close(self, keep: str) -> None:
        self._result(self._child.begin("close", keep=keep), 20)

    def end(self) -> None:
        self._child.end()
