"""A large file from a real Chromium, its connections broken half-way, gone on with by the page.

Needs Debian's ``chromium`` and the extras ``web`` and ``test``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import sync_playwright
from twisted.internet.threads import blockingCallFromThread, deferToThread

from chaos.figures import Figures
from chaos.resume import _same, numbered, place
from chaos.sides import MIB, Sides, reactor, resident, run

GROWS = 128
"""MiB by which the service's memory may grow meanwhile, whatever the size of the file."""

_BAR = "(document.querySelector('#transfers progress') || {value: 0}).value"
_STATE = "(document.querySelector('#transfers .state') || {textContent: ''}).textContent"


def _watch(service: Any, path: str, figures: Figures) -> None:
    """Send the file, break everything at a half, and wait until the page says "Received"."""
    link = blockingCallFromThread(reactor, service.web_link)["links"][0]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        page = browser.new_context(ignore_https_errors=True).new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
        page.goto(link)
        page.get_by_text("Connected", exact=True).wait_for()
        before, began = resident(), time.monotonic()
        page.set_input_files("#files", path)
        while page.evaluate(_BAR) < 0.5:
            page.wait_for_timeout(20)
        at = blockingCallFromThread(reactor, lambda: service.registry.pending()[0].done)
        blockingCallFromThread(reactor, service._now.page.site.abort)
        while (state := page.evaluate(_STATE)) != "Received":
            if state in ("Failed", "Cancelled"):
                break
            page.wait_for_timeout(50)
        took = time.monotonic() - began
        size = os.path.getsize(path) // MIB
        figures.add("cut at", at / MIB, "MiB", least=size / 2 - 1, most=size - 1)
        figures.add("requests with bytes", sum("PATCH" in each for each in asked), least=2)
        figures.add("seconds, the break included", took, "s")
        figures.add("rate", size / took, "MiB/s")
        figures.add("memory grew by", (resident() - before) / MIB, "MiB", most=GROWS)
        browser.close()


@click.command(help=__doc__)
@click.option("--size", default=1024, show_default=True, help="of the file, in MiB")
@click.option("--dir", "parent", help="on the disk to be measured (default: in memory)")
def command(size: int, parent: str | None) -> None:
    figures = Figures()

    async def work() -> None:
        sides = Sides(os.path.realpath(folder))
        path = numbered(sides.folder, size * MIB)
        await sides.start(web=True, web_port=0)
        await deferToThread(_watch, sides.service, path, figures)
        files = [each for each in sides.inbox.iterdir() if each.is_file()]
        figures.add("files there", len(files), least=1, most=1)
        figures.add("the same file", await _same(Path(path), files[0]), least=1)
        await sides.stop()

    with tempfile.TemporaryDirectory(prefix="lanxfer-page-", dir=place(parent, 2 * size * MIB)) as (
        folder
    ):
        run(work)
    figures.finish()
