"""Networks of a test's own: namespaces with cables between them, where the machine allows that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from test_cli_real import Done, finish

_numbers = count()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


class Host:
    """A namespace with its own interfaces, and a device in it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.state = folder / f"{name[-1]}.state"
        self.inbox = folder / f"{name[-1]}.inbox"
        self._running: list[subprocess.Popen[bytes]] = []

    def ip(self, *words: str) -> None:
        ip("-n", self.name, *words)

    def start(
        self, *line: object, module: str = "lanxfer.cli.main", group: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Run a command here, from its beginning in that control ``group`` if there is one."""
        words = ["ip", "netns", "exec", self.name, sys.executable, "-m", module, *map(str, line)]
        if group is not None:
            enter = 'echo $$ > "$0" && exec "$@"'
            words = ["sh", "-c", enter, str(group / "cgroup.procs"), *words]
        process = subprocess.Popen(
            words,
            env={**os.environ, "LANXFER_STATE": str(self.state), "LANXFER_ALLOW_ROOT": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._running.append(process)
        return process

    def run(self, *line: object, data: bytes | None = None) -> Done:
        return finish(self.start(*line), data)

    def python(self, source: str, *args: str) -> Done:
        words = ["ip", "netns", "exec", self.name, sys.executable, "-c", source, *args]
        return finish(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE))

    def serve(self, *options: object) -> dict[str, Any]:
        """Start a service here; what it says first."""
        line = ["serve", "--json", "--allow-root", "-i", self.inbox, "-d", "nas", *options]
        process = self.start(*line)
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            raise AssertionError(process.communicate()[1].decode())
        return dict(json.loads(first))

    def key(self) -> str:
        return str(self.run("key", "show", "--json").rows[0]["key"])

    def end(self) -> None:
        for each in self._running:
            if each.poll() is None:
                each.send_signal(signal.SIGTERM)
                try:
                    each.wait(10)
                except subprocess.TimeoutExpired:
                    each.kill()
            for stream in (each.stdin, each.stdout, each.stderr):
                if stream is not None:
                    stream.close()
        self._running.clear()


def connect(one: Host, here: str, other: Host, there: str) -> None:
    """A cable from one to the other; skips where there are none."""
    cable = ("type", "veth", "peer", there, "netns", other.name)
    try:
        ip("link", "add", here, "netns", one.name, *cable)
    except subprocess.SubprocessError:
        pytest.skip("virtual cables (veth) are not allowed")
    one.ip("link", "set", here, "up")
    other.ip("link", "set", there, "up")


@contextmanager
def hosts(folder: Path, names: str) -> Iterator[list[Host]]:
    """So many namespaces without cables; skips where they cannot be had."""
    made: list[Host] = []
    start = f"lxt{os.getpid() % 100000}-{next(_numbers)}"
    try:
        for name in names:
            host = Host(f"{start}{name}", folder)
            try:
                ip("netns", "add", host.name)
            except (OSError, subprocess.SubprocessError):
                pytest.skip("network namespaces need root and iproute2")
            made.append(host)
            host.ip("link", "set", "lo", "up")
        yield made
    finally:
        for host in made:
            host.end()
            subprocess.run(["ip", "netns", "del", host.name], check=False, timeout=20)


def know(one: Host, other: Host, address: str = "", name: str = "nas") -> None:
    """``one`` knows ``other`` by name, and is known there."""
    at = f"@{address}" if address else ""
    assert one.run("peer", "add", name, other.key() + at).code == 0
    assert other.run("peer", "add", "laptop", one.key()).code == 0


def until(true: Any, seconds: float = 20.0) -> Any:
    """What ``true`` gives, as soon as that is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it never happened")
