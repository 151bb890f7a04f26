"""``lanxfer web``, and what ``lanxfer serve --web`` prints."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import segno
from browser import Plain, beside
from devices import Devices, in_reactor

PAGE = (Path(__file__).parent.parent / "docs" / "web.rst").read_text()
PROGRAM = [sys.executable, "-m", "lanxfer.cli.main"]
WEB = ["--web", "--web-port", "0", "--port", "0", "--bind", "127.0.0.1"]
WEB += ["--allow-root", "--no-sandbox"]


def lanxfer(state: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words, "--state", state], capture_output=True, text=True, timeout=60
    )


@in_reactor
async def test_link(devices: Devices) -> None:
    """A link that was printed signs in; --json has it, too, and --guest makes it a guest's."""
    nas = await devices.start("nas", web=True, web_port=0)
    state = devices.state("nas").path
    printed = await beside(lambda: lanxfer(state, "web", "link"))
    assert printed.returncode == 0, printed.stderr
    (line,) = [each.strip() for each in printed.stdout.splitlines() if "/#" in each]
    assert nas.web_link()["fingerprint"][:47] in printed.stdout
    assert "\u2580" not in printed.stdout  # a code is for terminals
    rows = await beside(lambda: lanxfer(state, "web", "link", "--guest", "--name", "ana", "--json"))
    row = json.loads(rows.stdout)["web"]
    assert (row["guest"], row["label"], row["seconds"]) == (True, "ana", 600)

    def go() -> None:
        for link, guest in ((line, False), (row["links"][0], True)):
            plain = Plain(nas)
            plain.code = link.partition("#")[2]
            assert plain.sign_in().ask("GET", "/api/session").json()["guest"] is guest

    await beside(go)
    ended = await beside(lambda: lanxfer(state, "web", "end"))
    assert "Signed out 2 browsers" in ended.stdout
    said = await beside(lambda: lanxfer(state, "web", "say", "hello"))
    assert said.returncode != 0 and "Nobody has the page open" in said.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@in_reactor
async def test_documented(devices: Devices) -> None:
    """The commands in docs/web.rst do what is said there."""
    nas = await devices.start("nas", web=True, web_port=0)
    state = devices.state("nas").path
    for words in re.findall(r"^    lanxfer web (.*?)(?:  .*)?$", PAGE, re.MULTILINE):
        done = await beside(lambda words=words: lanxfer(state, "web", *shlex.split(words)))
        assert done.returncode == (2 if words.startswith("say") else 0), done
    url, _, code = nas.web_link()["links"][0].partition("/#")
    (shown,) = re.findall(r"\$ (curl .*?\n.*?)\n", PAGE)
    command = shown.replace("https://127.0.0.1:36970", url).replace("THE PART BEHIND #", code)
    curl = ["bash", "-c", f"cd {devices.folder} && {command}"]
    answer = await beside(lambda: subprocess.run(curl, capture_output=True, timeout=60))
    assert json.loads(answer.stdout).keys() == {"token", "device", "label", "guest"}, answer
    assert "__Host-lanxfer" in (devices.folder / "jar").read_text()


@in_reactor
async def test_no_page(devices: Devices) -> None:
    """Without a page the command says how to get one."""
    await devices.start("nas")
    found = await beside(lambda: lanxfer(devices.state("nas").path, "web", "link"))
    assert (found.returncode, "--web" in found.stderr) == (3, True)


@in_reactor
async def test_serve(devices: Devices, tmp_path: Path) -> None:
    """ "lanxfer serve --web" shows link and code on a terminal; nobody else is told the link."""
    above, below = pty.openpty()
    state = devices.state("desk").path
    process = subprocess.Popen(
        [*PROGRAM, "serve", *WEB, "--inbox", str(tmp_path / "in"), "--state", state],
        stdout=below,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LANXFER_ALLOW_ROOT": "1"},
    )
    os.close(below)
    got: list[bytes] = []

    def read() -> None:
        while b"fingerprint is" not in b"".join(got):
            got.append(os.read(above, 65536))

    try:
        await beside(read)
    finally:
        process.terminate()
        await beside(lambda: process.wait(20))
        os.close(above)
    text = b"".join(got).decode()
    (line,) = [each.strip() for each in text.splitlines() if "/#" in each]
    assert line.startswith("https://127.0.0.1:")
    assert "\u2580" in text or "\u2584" in text
    kept = [each.read_bytes() for each in Path(state).iterdir() if each.is_file()]
    assert not any(line.partition("#")[2].encode() in each for each in kept)


def test_code() -> None:
    """The longest link that is likely still makes a code that a terminal of 80 columns shows."""
    link = "https://[fd00:1234:5678:9abc:def0:1234:5678:9abc]:36970/#" + "x" * 22
    width = segno.make(link, error="l", micro=False).symbol_size(border=2)[0]
    assert width <= 80
