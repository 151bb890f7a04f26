"""A real Chromium for tests of the page, and plain requests to it.

Everything blocks, and so runs in a thread beside the reactor::

    await beside(lambda: ...)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

T = TypeVar("T")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here")

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1180, "height": 820}


def beside(work: Callable[[], T]) -> Deferred[T]:
    """Run what blocks in a thread of its own."""
    return deferToThread(work)


def in_service(function: Callable[..., Any], *args: Any) -> Any:
    """Call something of the service's from there."""
    return blockingCallFromThread(reactor, function, *args)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One browser that looks at the page of a service."""

    def __init__(self, browser: Browser, service: Any, **options: Any) -> None:
        self.service = service
        self.url = in_service(service.status)["web"][0]
        self.origin = self.url.rstrip("/")
        self.context: BrowserContext = browser.new_context(
            ignore_https_errors=True, **{"viewport": DESKTOP, **options}
        )
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.trouble: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("console", self._noted)

    def _noted(self, message: Any) -> None:
        if "Content Security" in message.text or "Refused to" in message.text:
            self.trouble.append(message.text)

    def link(self, **how: Any) -> str:
        return str(in_service(lambda: self.service.web_link(**how))["links"][0])

    def sign_in(self, **how: Any) -> None:
        self.page.goto(self.link(**how))
        self.page.get_by_role("button", name="Choose files").wait_for()
        self.page.get_by_text("Connected", exact=True).wait_for()

    def choose(self, *paths: str) -> None:
        self.page.set_input_files("#files", list(paths))

    def item(self, name: str) -> Any:
        return self.page.locator("#transfers .item", has_text=name)

    def reach(self, share: float) -> None:
        """Wait until the first bar is that far."""
        for _ in range(600):
            bar = "(document.querySelector('#transfers progress') || {value: 0}).value"
            if self.page.evaluate(bar) >= share:
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not get so far")

    def cut(self) -> None:
        """Break all connections to the page."""
        in_service(self.service._now.page.site.abort)


class Plain:
    """A program without a browser that signs in and asks."""

    def __init__(self, service: Any, **how: Any) -> None:
        link = in_service(lambda: service.web_link(**how))["links"][0]
        self.url, _, self.code = link.partition("/#")
        self.session = requests.Session()
        self.session.trust_env = False
        self.token = ""

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"X-Lanxfer-Token": self.token, **options.pop("headers", {})}
        return self.session.request(
            method, self.url + path, headers=headers, verify=False, timeout=60, **options
        )

    def sign_in(self) -> Plain:
        answer = self.ask("POST", "/login", json={"code": self.code})
        answer.raise_for_status()
        self.token = answer.json()["token"]
        return self

    def do(self, name: str, **args: Any) -> requests.Response:
        return self.ask("POST", f"/api/do/{name}", json=args)

    def tus(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Tus-Resumable": "1.0.0", **options.pop("headers", {})}
        return self.ask(method, path, headers=headers, **options)
