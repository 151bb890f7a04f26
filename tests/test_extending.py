"""The programs of docs/extending.rst, run as they stand there."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, until
from twisted.internet.threads import deferToThread

from lanxfer.errors import BadRequest
from lanxfer.links import Link
from lanxfer.remote import remote
from lanxfer.testing import Pair
from lanxfer.wire import limits

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "extending.rst").read_text()


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # where annotations are looked up
    spec.loader.exec_module(made)
    return made


def code_lines(name: str) -> int:
    """Lines of a program but for blank ones and its docstring."""
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    return len([line for line in lines if line and not line.startswith('"""')])


class PageTests:
    def test_all_named(self) -> None:
        """Each program is on the page, and each one on the page is there."""
        named = set(re.findall(r"(\w+)\.py\b", PAGE))
        assert named == {each.stem for each in EXAMPLES.glob("*.py")}

    @pytest.mark.parametrize("name, most", [("coll", 15), ("typed", 20)])
    def test_short(self, name: str, most: int) -> None:
        """They are as short as such a thing ought to be."""
        assert code_lines(name) <= most


class CommandTests:
    @in_reactor
    async def test_coll(self, devices: Devices) -> None:
        """A paired device collects numbers from a service."""
        coll = example("coll")
        nas = await devices.start("nas", {"commands": coll.Coll()})
        await devices.pair("laptop", nas, "nas")
        client = await devices.client("laptop", "nas")
        assert await coll.collect(await client.link(), 10_000) == list(range(10_000))
        assert await coll.collect(await client.link(), 0) == []

    def test_typed(self) -> None:
        """Both sides have values of the same classes; what does not fit is refused."""
        # covers: S3-31
        typed = example("typed")
        pair = Pair(commands=typed.Sums())
        pair.pump()
        link = Link(pair.client)
        assert pair.result(remote(link, typed.Sums).add(typed.Add(7, b"abc"))) == typed.Sum(10)
        with pytest.raises(BadRequest):
            pair.result(link.call("sums.add", {"n": "seven"}))


class ProgramTests:
    @in_reactor
    async def test_in_order(self) -> None:
        """The answer that is there first comes first, whatever was asked first."""
        # covers: S3-11 S3-25
        line = [sys.executable, str(EXAMPLES / "in_order.py")]

        def run() -> Any:
            return subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=ROOT)

        done = await deferToThread(run)
        assert (done.stdout, done.returncode) == ("1\n3\n5\n", 0), done.stderr

    @in_reactor
    async def test_thumbnails(self, devices: Devices) -> None:
        """A picture that arrives has a small one soon after; what is none has none."""
        image = pytest.importorskip("PIL.Image")
        thumbnails = example("thumbnails")
        folder = devices.folder / "small"
        pictures = thumbnails.Thumbnails(folder)
        nas = await devices.start("nas", {"on_received": pictures.received})
        await devices.pair("laptop", nas, "nas")
        client = await devices.client("laptop", "nas")
        image.new("RGBA", (1600, 800), "red").save(devices.folder / "beach.png")
        await client.send_file(devices.source("false.png", b"no picture"))
        await client.send_file(devices.source("notes.txt", b"text"))
        await client.send_file(str(devices.folder / "beach.png"))
        await until((folder / "beach.png.jpg").exists)
        await until(lambda: not list(folder.glob("*.part")))

        def size() -> Any:
            with image.open(folder / "beach.png.jpg") as small:
                return small.size

        assert size() == (160, 80)
        assert [each.name for each in folder.iterdir()] == ["beach.png.jpg"]


class Window:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, str]] = []
        self.sending: list[bool] = []
        self.on_show: Any = lambda: None

    def show(self, fraction: float, said: str) -> None:
        self.shown.append((fraction, said))
        self.on_show()

    def busy(self, sending: bool) -> None:
        self.sending.append(sending)


class ControllerTests:
    async def made(self, devices: Devices) -> tuple[Any, Window, Any]:
        nas = await devices.start("nas")
        await devices.pair("laptop", nas, "nas")
        window = Window()
        client = await devices.client("laptop", "nas")
        return example("controller").Controller(client, window), window, client

    @in_reactor
    async def test_send(self, devices: Devices) -> None:
        """The window sees it move and arrive; a second press while it does is nothing."""
        controller, window, _ = await self.made(devices)
        sending = controller.send(devices.source("a.bin", bytes(3_000_000)))
        await controller.send("another")
        await sending
        assert window.sending == [True, False]
        assert window.shown[-1] == (1.0, "a.bin is there: 3000000 bytes")
        fractions = [fraction for fraction, _ in window.shown]
        assert len(fractions) >= 2 and fractions == sorted(fractions)

    @in_reactor
    async def test_cancel(self, devices: Devices) -> None:
        """Cancelled in the middle nothing is there, the window says so, and the next one goes."""
        controller, window, client = await self.made(devices)
        client.limit(rate_out=4 * limits.MIB)
        path = devices.source("a.bin", bytes(100_000_000))
        sending = controller.send(path)
        await until(lambda: any(fraction for fraction, _ in window.shown))
        controller.cancel()
        await sending
        assert window.sending == [True, False]
        assert window.shown[-1][0] == 0.0, window.shown[:4]
        assert "cancel" in window.shown[-1][1].lower()
        assert not (devices.inbox("nas") / "a.bin").exists()
        client.limit(rate_out=None)
        await controller.send(devices.source("b.bin", b"small"))
        assert window.shown[-1] == (1.0, "b.bin is there: 5 bytes")

    @in_reactor
    async def test_cancel_at_once(self, devices: Devices) -> None:
        """The button may be pressed while the window is being told of the first byte."""
        controller, window, client = await self.made(devices)
        client.limit(rate_out=4 * limits.MIB)
        window.on_show = controller.cancel
        await controller.send(devices.source("a.bin", bytes(100_000_000)))
        assert window.sending == [True, False]
        assert "cancel" in window.shown[-1][1].lower()
        assert not (devices.inbox("nas") / "a.bin").exists()

    @in_reactor
    async def test_refused(self, devices: Devices) -> None:
        """What fails is a sentence in the window."""
        controller, window, _ = await self.made(devices)
        await controller.send(str(devices.folder / "missing"))
        assert window.sending == [True, False] and window.shown[-1][1]


class StdioTests:
    def test_shown(self) -> None:
        """The line of the page is one that there is; tests/test_pipes.py runs it by SSH."""
        assert "ssh nas lanxfer serve --stdio" in PAGE
        lanxfer = shutil.which("lanxfer", path=str(Path(sys.executable).parent))
        line = [lanxfer] if lanxfer else [sys.executable, "-m", "lanxfer.cli.main"]
        said = subprocess.run([*line, "serve", "--help"], capture_output=True, text=True, cwd=ROOT)
        assert "--stdio" in said.stdout
