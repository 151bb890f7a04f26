"""What docs/tutorial.rst shows is typed as it stands there, into the terminals of two devices."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.newcomer import ASKED, WORDS, Terminal, terminal

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "tutorial.rst").read_text()
LINES = re.findall(r"^   (nas|laptop)\$ (.+)$", TEXT, re.MULTILINE)
LINK = re.compile(r"https://\S+/#\S+")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


def _copy(there: Terminal) -> None:
    """The sources as they are now, in the folder the user is in."""
    subprocess.run(["git", "clone", "-q", ROOT, there.home / "sources"], check=True, timeout=60)
    told = ["git", "ls-files", "-mo", "--exclude-standard"]
    for name in subprocess.run(told, cwd=ROOT, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file():
            target = there.home / "sources" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    for folder, _, names in os.walk(there.home / "sources"):
        there.own(Path(folder), *(Path(folder) / each for each in names))
    there.run("cd sources")


@pytest.fixture
def devices() -> Iterator[dict[str, Terminal]]:
    # Not below pytest's own folder: who types is not root, and is not let in there.
    with tempfile.TemporaryDirectory(prefix="lanxfer-tutorial-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with terminal("nas", folder) as nas, terminal("laptop", folder) as laptop:
            for each in (nas, laptop):
                _copy(each)
            yield {"nas": nas, "laptop": laptop}


def test_tutorial(devices: dict[str, Terminal]) -> None:
    """From nothing to a film, a folder, the rest of a file, messages and the page for a phone."""
    nas, laptop = devices["nas"], devices["laptop"]
    seen: dict[str, str] = {}
    words = ""
    assert len(LINES) >= 15
    for device, line in LINES:
        there = devices[device]
        line = line.replace("192.168.1.20", "127.0.0.1")
        if line == "lanxfer pair":
            nas.command(line)
            nas.wait(lambda: WORDS.search(nas.screen()) is not None)
            words = WORDS.findall(nas.screen())[-1]
        elif line.startswith("lanxfer send film.mkv"):
            laptop.command(line)
            laptop.wait(lambda: ASKED.search(laptop.screen()) is not None)
            laptop.type(words)
            laptop.wait(laptop.is_ready)
            nas.wait(nas.is_ready)
        elif line.startswith("lanxfer serve"):
            nas.command(line)
            nas.wait(lambda: LINK.search(nas.screen("-J", "-S", "-200")) is not None)
            links = LINK.findall(nas.screen("-J", "-S", "-200"))
            assert any(_is_page(link) for link in links), links
            nas.press("C-c")
            nas.wait(nas.is_ready)
        else:
            seen[line] = there.run(line)
        if line.startswith("kill"):
            nas.wait(lambda: not nas.pid().exists())
    inbox = nas.home / "Downloads" / "lanxfer"
    sources = laptop.home / "sources"
    for name in ("film.mkv", "holiday/beach.mkv", "holiday/diary.txt", "backup.img"):
        assert (inbox / name).read_bytes() == (sources / name).read_bytes(), name
    (again,) = [each for line, each in seen.items() if "--json backup.img" in line]
    assert int(re.findall(r'"resumed_from": (\d+)', again)[0]) > 0
    assert "nas" in seen["lanxfer peers"]
    assert "the film is there" in seen["lanxfer history"]


def _is_page(link: str) -> bool:
    """Whether a page for browsers is behind the link; its certificate is nobody's but its own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(link.partition("#")[0], context=context, timeout=20) as got:
            return b"<html" in got.read()
    except OSError:
        return False
