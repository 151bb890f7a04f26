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
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import blockingCallFromThread, deferToThread

from chaos.figures import Figures
from chaos.resume import _same, numbered, place
from chaos.sides import MIB, Sides, reactor, resident, run

GROWS = 128
"""MiB by which the service's memory may grow meanwhile, whatever the size of the file."""

_STATE = "(document.querySelector('#transfers .state') || {textContent: ''}).textContent"


def _break(service: Any, at: int) -> Deferred[int]:
    """Break every connection of the page once so many bytes are there; fires with how many were."""
    done: Deferred[int] = Deferred()

    def look() -> None:
        for each in service.registry.pending():
            if each.done >= at:
                looking.stop()
                service._now.page.site.abort()
                done.callback(each.done)
                return

    looking = LoopingCall(look)
    looking.start(0.002)
    return done


def _watch(service: Any, path: str, figures: Figures) -> None:
    """Send the file, break everything at a half, and wait until the page says "Received"."""
    size = os.path.getsize(path)
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
        broken: list[int] = []
        reactor.callFromThread(lambda: _break(service, size // 2).addCallback(broken.append))
        page.set_input_files("#files", path)
        while page.evaluate(_STATE) not in ("Received", "Failed", "Cancelled"):
            page.wait_for_timeout(50)
        took = time.monotonic() - began
        size //= MIB
        cut = sum(broken) / MIB
        figures.add("cut at", cut, "MiB", least=size / 2, most=size - 1)
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
