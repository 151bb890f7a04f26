"""The pictures of docs/web.rst, made by looking at the page while it works.

::

    LANXFER_PICTURES=docs/pictures .venv/bin/python -m pytest tests/test_web_pictures.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from browser import DESKTOP, PHONE, Visit, beside, chromium, in_service, needs_chromium
from devices import Devices, in_reactor

from lanxfer.wire import limits

KINDS = [(name, scheme) for name in ("phone", "desktop") for scheme in ("light", "dark")]


class Painter:
    def __init__(self, visit: Visit, folder: Path, kind: str) -> None:
        self.visit, self.folder, self.kind = visit, folder, kind

    def __call__(self, what: str) -> None:
        path = self.folder / f"{what}-{self.kind}.png"
        self.visit.page.wait_for_timeout(350)  # what glides has arrived
        self.visit.page.evaluate("document.activeElement.blur()")
        self.visit.page.screenshot(path=path)
        smaller(path)
        wide = self.visit.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{what} is wider than the window by {wide}"


def smaller(path: Path) -> None:
    """A picture with 256 colours, where Pillow is there to make one."""
    try:
        from PIL import Image
    except ImportError:
        return
    with Image.open(path) as found:
        found.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), KINDS)
@in_reactor
async def test_pictures(devices: Devices, tmp_path: Path, width: str, scheme: str) -> None:
    """Everything a person meets can be seen, and fits on a phone 360 pixels wide."""
    folder = Path(os.environ.get("LANXFER_PICTURES", tmp_path))
    share = tmp_path / "share"
    (share / "2026 Lofoten").mkdir(parents=True)
    (share / "Recipes.pdf").write_bytes(b"x" * 731_000)
    (share / "Map of the island.svg").write_bytes(b"x" * 52_300)
    nas = await devices.start("nas", web=True, web_port=0, shares=(f"photos={share}",))
    await devices.pair("laptop", nas, "nas")
    film = devices.source("Lofoten in winter.mp4", os.urandom(24 * limits.MIB))
    notes = devices.source("Notes.txt", b"n" * 18_200)
    offered = devices.source("Holiday plan.pdf", b"p" * 2_400_000)
    devices.state("nas").write("rights", b"[peers]\noffers = ask\n")
    laptop = await devices.client("laptop", "nas")
    sending: list[Any] = []

    def offer() -> None:
        sending.append(laptop.send_file(offered))
        sending[0].addErrback(lambda why: None)

    def look() -> None:
        options: dict[str, Any] = {"color_scheme": scheme, "viewport": DESKTOP}
        if width == "phone":
            options |= {
                "viewport": PHONE,
                "device_scale_factor": 2,
                "is_mobile": True,
                "has_touch": True,
            }
        with chromium() as browser:
            visit = Visit(browser, nas, **options)
            paint = Painter(visit, folder, f"{width}-{scheme}")
            page = visit.page
            page.goto(visit.url)
            page.get_by_role("heading", name="Sign in").wait_for()
            paint("sign-in")
            visit.sign_in()
            if width == "phone":
                page.get_by_text("photos").wait_for()
            paint("idle")
            visit.choose(notes)
            visit.item("Notes.txt").get_by_text("Received").wait_for()
            in_service(lambda: nas.limit(rate_in=2_600_000))
            visit.choose(film)
            visit.item("Lofoten").get_by_text("MB/s").wait_for()
            page.wait_for_timeout(2500)
            paint("progress")
            visit.context.set_offline(True)
            visit.cut()
            visit.item("Lofoten").get_by_text("Interrupted").wait_for()
            paint("interrupted")
            visit.context.set_offline(False)
            visit.item("Lofoten").get_by_text("MB/s").wait_for()
            page.wait_for_timeout(1500)
            paint("resumed")
            in_service(lambda: nas.limit(rate_in=None))
            visit.item("Lofoten").get_by_text("Received").wait_for()
            paint("finished")
            in_service(offer)
            page.get_by_role("button", name="Accept").wait_for()
            page.evaluate("scrollTo(0, 0)")
            paint("offer")
            page.get_by_role("button", name="Accept").click()
            visit.item("Holiday").get_by_text("Received").wait_for()
            page.fill("#text", "The film is on its way, have a look at minute three.")
            page.get_by_role("button", name="Send").click()
            page.get_by_text("minute three").wait_for()
            in_service(lambda: nas._now.page.say("Got it, thank you! Dinner is at seven."))
            page.get_by_text("Dinner").wait_for()
            page.locator("#messages-title").scroll_into_view_if_needed()
            if width == "phone":
                page.evaluate("document.getElementById('messages-title').scrollIntoView()")
            paint("message")
            assert visit.trouble == []
            assert all(each.startswith(visit.url) for each in visit.requests)

    await beside(look)
    assert (devices.inbox("nas") / "Lofoten in winter.mp4").read_bytes() == Path(film).read_bytes()
