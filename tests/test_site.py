"""The site made of docs/, and what a newcomer types."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a single warning."""
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / "trees"]
    done = subprocess.run(
        [*line, DOCS, folder / "html"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


class SiteTests:
    def test_every_page(self, site: Path) -> None:
        """Every page of docs/ is there, and the list beside each leads to it."""
        index = (site / "index.html").read_text()
        for page in DOCS.glob("*.rst"):
            assert (site / f"{page.stem}.html").is_file()
            assert page.stem == "index" or f'href="{page.stem}.html"' in index, page

    def test_commands(self, site: Path) -> None:
        """Every command and every option of it has its place."""
        from lanxfer.cli.main import _MODULES

        page = (site / "commands.html").read_text()
        for name in _MODULES:
            assert f'id="lanxfer-{name}"' in page, name
        assert "--limit-rate" in page

    def test_library(self, site: Path) -> None:
        """The public names are there with what they say about themselves."""
        page = (site / "api.html").read_text()
        for name in (
            "lanxfer.client.connect",
            "lanxfer.client.Client.send_file",
            "lanxfer.service.TransferService",
            "lanxfer.settings.Settings",
            "lanxfer.errors.DiskFull",
            "lanxfer.testing.Pair",
        ):
            assert f'id="{name}"' in page, name

    def test_nothing_from_elsewhere(self, site: Path) -> None:
        """A page loads nothing from anybody else's server."""
        for page in site.glob("*.html"):
            loads = re.findall(r'<(?:script|img|iframe)[^>]+src="([^"]+)"', page.read_text())
            loads += re.findall(r'<link[^>]+stylesheet[^>]+href="([^"]+)"', page.read_text())
            assert loads and not [each for each in loads if "//" in each], page
        assert "url(" not in re.sub(
            r"url\(#[^)]*\)", "", (DOCS / "pictures" / "newcomer.svg").read_text()
        )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_newcomer(tmp_path: Path) -> None:
    """Four commands from nothing to a file on the second device, one for the next; a picture."""
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "newcomer", "--write", str(tmp_path / "seen.svg")],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "commands until the first file is there: 4 (<= 4): kept" in done.stdout
    assert "commands for the next one: 1 (<= 1): kept" in done.stdout
    picture = (tmp_path / "seen.svg").read_text()
    assert "Paired" in picture and "photo.jpg" in picture
