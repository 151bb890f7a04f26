"""What docs/tickets.rst shows is run as it stands there, and so is its example."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from blake3 import blake3
from devices import Devices, in_reactor, until
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.web.server import Site

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "tickets.rst").read_text()
BLOCKS = [
    dedent(each).strip("\n")
    for each in re.findall(r"\.\. code-block:: \w+\n\n((?:(?:    .*)?\n)+)", TEXT)
]
OFFER, BASH, NC, PYTHON = BLOCKS
DATA = b"march" * 20_000


async def shell(*line: str, **env: str) -> str:
    def work() -> str:
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=env or None)
        return done.stdout + done.stderr

    return await deferToThread(work)


class PageTests:
    @in_reactor
    async def test_offer(self, devices: Devices) -> None:
        """The lines that make a ticket make one."""
        service = await devices.start("nas", tickets_plain=True)
        lines = [each for each in OFFER.splitlines() if each.startswith("slot")]
        names: dict[str, Any] = {"service": service}
        exec("\n".join(lines), names)
        assert names["slot"].line.endswith(b" 86431\n")
        names["slot"].done.cancel()
        names["slot"].done.addErrback(lambda why: None)

    @pytest.mark.parametrize("how", ["bash", "nc", "python"])
    @in_reactor
    async def test_upload(self, devices: Devices, how: str) -> None:
        """A file gets there by the lines that are shown, and the answer is about it."""
        # covers: S1-01
        if how == "nc" and shutil.which("nc") is None:
            pytest.skip("there is no nc here")
        service = await devices.start("nas", tickets_plain=True)
        path = devices.source("march.pdf", DATA)
        slot = service.offer_slot("reports/march.pdf")
        host, port = service.address.split(":")
        words = (host, port, slot.session, slot.file, path)
        if how == "bash":
            said = await shell("bash", "-c", f'{BASH}\nupload "$@"', "bash", *words)
        elif how == "nc":
            names = ("HOST", "PORT", "SESSION", "FILE", "NAME")
            env = dict(zip(names, words, strict=True))
            said = await shell("bash", "-c", NC, PATH="/usr/bin:/bin", **env)
        else:
            said = await shell(sys.executable, "-c", PYTHON, *words)
        assert blake3(DATA).hexdigest() in said, said
        assert (await slot.done).path == "reports/march.pdf"
        assert (devices.inbox("nas") / "reports/march.pdf").read_bytes() == DATA

    def test_few_lines(self) -> None:
        """The client in Python is as short as it is said to be."""
        assert len([line for line in PYTHON.splitlines() if line]) <= 15

    @in_reactor
    async def test_refused(self, devices: Devices) -> None:
        """A client that is refused says so, and fails."""
        service = await devices.start("nas", tickets_plain=True)
        path = devices.source("x", b"hello")
        slot = service.offer_slot("x", 6)
        words = (*service.address.split(":"), slot.session, slot.file, path)
        said = await shell(sys.executable, "-c", PYTHON, *words)
        assert said.startswith("error forbidden")


class FormTests:
    @in_reactor
    async def test_form(self, devices: Devices) -> None:
        """The page makes a ticket, the line it shows uploads, and the page says that it is here."""
        spec = importlib.util.spec_from_file_location(
            "upload_form", ROOT / "docs" / "examples" / "upload_form.py"
        )
        assert spec is not None and spec.loader is not None
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        service = await devices.start("nas", tickets_plain=True)
        site = Site(example.Form(service, service.address))
        port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        url = f"http://127.0.0.1:{port.getHost().port}/"

        def get(where: str, **form: str) -> tuple[str, str]:
            data = urllib.parse.urlencode(form).encode() if form else None
            request = urllib.request.Request(where, data, {"Connection": "close"})
            with urllib.request.urlopen(request, timeout=20) as found:
                return found.geturl(), found.read().decode()

        try:
            assert "Which file" in (await deferToThread(get, url))[1]
            with pytest.raises(urllib.error.HTTPError, match="400"):
                await deferToThread(get, url, name="../../etc/<b>")
            here, said = await deferToThread(get, url, name="a <b>.txt")
            words = re.search(r"echo &quot;(\S+) (\S+) ", said)
            assert words is not None, said
            path = devices.source("a", DATA)
            line = (*service.address.split(":"), words[1], words[2], path)
            assert "stored" in await shell(sys.executable, "-c", PYTHON, *line)
            await until(lambda: not len(service.registry))
            _, said = await deferToThread(get, here)
            assert "uploads/a &lt;b&gt;.txt is here" in said and blake3(DATA).hexdigest() in said
        finally:
            await port.stopListening()
