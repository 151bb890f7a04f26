"""The page in a real Chromium: what a person does, and what other pages try."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from browser import PHONE, Plain, Visit, beside, chromium, in_service, needs_chromium
from devices import Devices, in_reactor, until
from twisted.logger import globalLogPublisher

from lanxfer.transfers import State
from lanxfer.wire import limits

pytestmark = needs_chromium

MARKUP = "<img src=x onerror=alert(1)>.txt"
QUOTES = '"><script>alert(1)<\\script>.txt'
SCHEME = "javascript_alert(1).txt"


async def page(devices: Devices, name: str = "nas", **options: Any) -> Any:
    return await devices.start(name, **{"web": True, "web_port": 0, **options})


@contextmanager
def elsewhere(body: str) -> Iterator[str]:
    """Another site, on another port of this machine; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class PersonTests:
    @in_reactor
    async def test_cut_and_resumed(self, devices: Devices) -> None:
        """A file whose connection breaks half-way goes on by itself and is identical."""
        nas = await page(devices, rate_in=4_000_000)
        data = os.urandom(12 * limits.MIB)
        path = devices.source("film.bin", data)

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas)
                visit.sign_in()
                visit.choose(path)
                visit.reach(0.4)
                visit.cut()
                visit.reach(0.6)
                in_service(lambda: nas.limit(rate_in=None))
                visit.item("film.bin").get_by_text("Received").wait_for()
                assert visit.trouble == []
                assert all(each.startswith(visit.url) for each in visit.requests)
                patches = [each for each in visit.requests if "/files/" in each]
                assert len(patches) > 1

        await beside(go)
        assert (devices.inbox("nas") / "film.bin").read_bytes() == data
        ends = [each.state for each in nas.registry.finished()]
        assert ends == [State.DONE]

    @in_reactor
    async def test_reloaded(self, devices: Devices) -> None:
        """After a reload the same file, chosen again, goes on where it was."""
        nas = await page(devices, rate_in=2_000_000)
        data = os.urandom(6 * limits.MIB)
        path = devices.source("film.bin", data)
        begun: list[int] = []

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas)
                visit.sign_in()
                visit.choose(path)
                visit.reach(0.4)
                visit.page.on("dialog", lambda dialog: dialog.accept())
                visit.page.goto(visit.url)
                visit.page.get_by_role("button", name="Choose files").wait_for()
                begun.append(in_service(lambda: nas.registry.pending()[0].done))
                in_service(lambda: nas.limit(rate_in=None))
                visit.choose(path)
                visit.item("film.bin").get_by_text("Received").wait_for()
                assert visit.page.locator("#transfers .item").count() == 1

        await beside(go)
        assert (devices.inbox("nas") / "film.bin").read_bytes() == data
        assert begun[0] > 0
        assert len(list(devices.inbox("nas").glob("film*"))) == 1

    @in_reactor
    async def test_received_is_stored(self, devices: Devices) -> None:
        """An answer that names nothing that was stored is not taken for "received"."""
        nas = await page(devices)
        path = devices.source("film.bin", b"film")
        empty = [1]

        def answer(route: Any) -> None:
            if route.request.method == "PATCH" and empty:
                empty.pop()
                route.fulfill(status=204)
            else:
                route.continue_()

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas)
                visit.sign_in()
                visit.page.route("**/files/*", answer)
                visit.choose(path)
                visit.item("film.bin").get_by_text("Received").wait_for()
                assert not empty and (devices.inbox("nas") / "film.bin").exists()

        await beside(go)
        assert [each.state for each in nas.registry.finished()] == [State.DONE]

    @in_reactor
    async def test_pause_and_cancel(self, devices: Devices) -> None:
        """Pause holds a file, "Go on" lets it go on, Cancel leaves nothing of it."""
        nas = await page(devices, rate_in=1_000_000)
        path = devices.source("film.bin", os.urandom(8 * limits.MIB))

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas)
                visit.sign_in()
                visit.choose(path)
                item = visit.item("film.bin")
                item.get_by_text("B/s").wait_for()
                item.get_by_role("button", name="Pause").click()
                item.get_by_text("Paused").wait_for()
                visit.page.wait_for_timeout(1500)
                held = in_service(lambda: nas.registry.pending()[0].done)
                visit.page.wait_for_timeout(700)
                assert in_service(lambda: nas.registry.pending()[0].done) == held
                item.get_by_role("button", name="Go on").click()
                item.get_by_text("B/s").wait_for()
                item.get_by_role("button", name="Cancel").click()
                item.get_by_text("Cancelled").wait_for()

        await beside(go)
        await until(lambda: not len(nas.registry))
        assert [each.state for each in nas.registry.finished()] == [State.CANCELLED]
        await until(lambda: not list(devices.inbox("nas").glob(".lanxfer-staging/[0-9a-f]*")))

    @in_reactor
    async def test_keyboard_only(self, devices: Devices, tmp_path: Path) -> None:
        """Everything is reached by Tab, shows where it is, and does what it says by Enter."""
        messages: list[Any] = []
        share = tmp_path / "share"
        share.mkdir()
        (share / "a.txt").write_bytes(b"hello")
        nas = await page(devices, hooks={"on_message": messages.append}, shares=(f"s={share}",))
        path = devices.source("notes.txt", b"notes")

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas)
                page = visit.page
                choosers: list[Any] = []
                # From the start, or the first may be missed.
                page.on("filechooser", lambda chooser: choosers.append(chooser))
                page.goto(visit.url)
                page.locator("#code").wait_for()
                assert page.evaluate("document.activeElement.id") == "code"
                page.keyboard.type(visit.link())
                page.keyboard.press("Enter")
                page.get_by_text("Connected", exact=True).wait_for()
                page.locator("#rows button").wait_for()

                def tab_to(name: str) -> None:
                    for _ in range(30):
                        page.keyboard.press("Tab")
                        found = page.evaluate(
                            "[document.activeElement.textContent, document.activeElement.id,"
                            " getComputedStyle(document.activeElement).outlineStyle]"
                        )
                        if name in found[:2]:
                            assert found[2] != "none"
                            return
                    raise AssertionError(f"no way to {name}")

                tab_to("choose")
                page.keyboard.press("Enter")
                for _ in range(100):
                    if choosers:
                        break
                    page.wait_for_timeout(100)
                choosers[0].set_files(path)
                visit.item("notes.txt").get_by_text("Received").wait_for()
                tab_to("text")
                page.keyboard.type("hello from the keyboard")
                page.keyboard.press("Control+Enter")
                page.get_by_text("hello from the keyboard").wait_for()
                tab_to("s")
                page.keyboard.press("Enter")
                page.get_by_role("button", name="Download a.txt").wait_for()
                tab_to("a.txt5 B")
                with page.expect_download() as came:
                    page.keyboard.press("Enter")
                assert Path(came.value.path()).read_bytes() == b"hello"
                assert came.value.suggested_filename == "a.txt"

        await beside(go)
        assert [each.text for each in messages] == ["hello from the keyboard"]

    @in_reactor
    async def test_offers_and_messages(self, devices: Devices) -> None:
        """What waits is taken or refused on the page; messages go both ways; transfers are live."""
        devices.state("nas").write("rights", b"[peers]\noffers = ask\n")
        nas = await page(devices)
        await devices.pair("laptop", nas, "nas")
        laptop = await devices.client("laptop", "nas")
        control = await devices.control("nas")
        first = devices.source("plan.txt", b"plan")
        second = devices.source("other.txt", b"other")
        asked: list[Any] = []

        def offer(path: str) -> None:
            asked.append(laptop.send_file(path))

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas, viewport=PHONE)
                visit.sign_in()
                page = visit.page
                in_service(lambda: offer(first))
                page.locator("#prompts").get_by_text("plan.txt").wait_for()
                page.get_by_role("button", name="Accept").click()
                visit.item("plan.txt").get_by_text("Received").wait_for()
                in_service(lambda: offer(second))
                page.get_by_role("button", name="Reject").click()
                visit.item("other.txt").get_by_text("Failed").wait_for()
                in_service(lambda: laptop.send_message("from the laptop"))
                page.get_by_text("from the laptop").wait_for()
                in_service(lambda: control.call("web.say", {"text": "from the owner"}))
                page.get_by_text("from the owner").wait_for()
                assert visit.trouble == []
                page.get_by_role("button", name="Sign out").click()
                page.get_by_role("heading", name="Sign in").wait_for()
                assert page.locator("#messages li").count() == 0

        await beside(go)
        assert (await asked[0]).stored == "plan.txt"
        asked[1].addErrback(lambda why: asked.append(why))
        await until(lambda: len(asked) == 3)
        assert (devices.inbox("nas") / "plan.txt").read_bytes() == b"plan"
        assert not (devices.inbox("nas") / "other.txt").exists()

    @in_reactor
    async def test_folder_and_drop(self, devices: Devices) -> None:
        """A folder keeps its shape, and what is dropped on the page is sent."""
        nas = await page(devices)
        one = devices.source("trip/a.txt", b"a")
        devices.source("trip/b/c.txt", b"c")

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas)
                visit.sign_in()
                visit.page.set_input_files("#folder", str(Path(one).parent))
                visit.item("trip/b/c.txt").get_by_text("Received").wait_for()
                visit.page.evaluate(
                    """() => {
                        const carried = new DataTransfer();
                        carried.items.add(new File(['dropped'], 'dropped.txt'));
                        const how = {dataTransfer: carried, bubbles: true, cancelable: true};
                        document.body.dispatchEvent(new DragEvent('dragenter', how));
                        document.body.dispatchEvent(new DragEvent('drop', how));
                    }"""
                )
                visit.item("dropped.txt").get_by_text("Received").wait_for()

        await beside(go)
        found = devices.inbox("nas")
        assert (found / "trip" / "a.txt").read_bytes() == b"a"
        assert (found / "trip" / "b" / "c.txt").read_bytes() == b"c"
        assert (found / "dropped.txt").read_bytes() == b"dropped"


class OtherPagesTests:
    @in_reactor
    async def test_secret_stays_here(self, devices: Devices) -> None:
        """The secret of a link is in no request, no referrer, no log and not in the address."""
        # covers: W09
        nas = await page(devices)
        heard: list[str] = []

        def listen(event: Any) -> None:
            heard.append(repr(sorted(event.items(), key=lambda each: each[0])))

        globalLogPublisher.addObserver(listen)

        def go() -> str:
            with chromium() as browser:
                visit = Visit(browser, nas)
                headers: list[str] = []
                visit.page.on("request", lambda each: headers.append(repr(each.all_headers())))
                link = visit.link()
                code = link.partition("#")[2]
                visit.page.goto(link)
                visit.page.get_by_text("Connected", exact=True).wait_for()
                assert visit.page.url == visit.url
                assert code not in "".join(visit.requests) + "".join(headers)
                assert visit.page.evaluate("document.cookie") == ""
                kept = visit.page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
                cookie = visit.context.cookies()[0]
                assert cookie["value"] not in kept and code not in kept
                assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict"
                again = Visit(browser, nas)
                again.page.goto(link)
                again.page.get_by_text("not good any more").wait_for()
                return code

        try:
            code = await beside(go)
        finally:
            globalLogPublisher.removeObserver(listen)
        assert code not in "".join(heard)

    @in_reactor
    async def test_foreign_page(self, devices: Devices) -> None:
        """Another site in the same browser can neither read nor change anything, nor frame it."""
        # covers: W02 W08
        nas = await page(devices)

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas)
                visit.sign_in()
                body = f"""<iframe id=frame src="{visit.url}"></iframe>
                    <form id=form action="{visit.url}api/do/recv_message" method=post
                     enctype=text/plain target=out>
                    <input name='{{"text":"x","a":"' value='"}}'></form>
                    <iframe name=out></iframe><img src="{visit.url}api/session">
                    <script src="{visit.url}page.js"></script>"""
                with elsewhere(body) as other:
                    page = visit.context.new_page()
                    page.goto(other)
                    found = page.evaluate(
                        """async (url) => {
                            const tried = [];
                            const json = {'Content-Type': 'application/json'};
                            const mode = 'no-cors';
                            const own = {credentials: 'include'};
                            for (const how of [
                                {},
                                own,
                                {mode, ...own},
                                {method: 'POST', body: '{}', mode, ...own},
                                {method: 'POST', body: '{}', headers: json, ...own},
                                {method: 'PATCH', body: 'x', ...own},
                                {method: 'DELETE', ...own},
                            ]) for (const path of ['api/session', 'api/do/recv_message', 'files']) {
                                try {
                                    const answer = await fetch(url + path, how);
                                    tried.push(answer.type + ' ' + await answer.text());
                                } catch (error) { tried.push('refused'); }
                            }
                            const opened = window.open(url);
                            await new Promise((done) => setTimeout(done, 1500));
                            let seen = 'hidden';
                            try { if (opened.document) seen = 'seen'; } catch { /* hidden */ }
                            document.getElementById('form').submit();
                            await new Promise((done) => setTimeout(done, 500));
                            return [tried, seen, opened === null || opened.closed];
                        }""",
                        visit.url,
                    )
                    assert set(found[0]) <= {"refused", "opaque "}, found
                    assert found[1] == "hidden" and found[2]
                    frame = page.frames[1]
                    assert not frame.url.startswith(visit.url) or not frame.query_selector("#page")

        await beside(go)
        assert nas.registry.finished() == []

    @in_reactor
    async def test_names_are_text(self, devices: Devices, tmp_path: Path) -> None:
        """Names that are markup are shown as they are, wherever they are shown, and do nothing."""
        # covers: W04
        share = tmp_path / "share"
        share.mkdir()
        for name in (MARKUP, QUOTES, SCHEME):
            (share / name).write_bytes(b"x")
        devices.state("nas").write("rights", b"[peers]\noffers = ask\n")
        nas = await page(devices, shares=(f"s={share}",), web_names=())
        await devices.pair("laptop", nas, "nas")
        laptop = await devices.client("laptop", "nas")
        asked: list[Any] = []

        def go() -> None:
            with chromium() as browser:
                visit = Visit(browser, nas)
                visit.sign_in(label="browser")
                page, shown = visit.page, []
                page.on("dialog", lambda dialog: shown.append(dialog.message))
                for name in (MARKUP, SCHEME):
                    path = devices.source(name, b"x")
                    visit.choose(path)
                    page.locator("#transfers").get_by_text(name).wait_for()
                page.locator("#rows button").click()
                page.locator("#rows").get_by_text(MARKUP).wait_for()
                page.fill("#text", MARKUP)
                page.get_by_role("button", name="Send").click()
                page.locator("#messages").get_by_text(MARKUP).wait_for()
                in_service(lambda: asked.append(laptop.send_file(str(share / MARKUP))))
                page.locator("#prompts").get_by_text(MARKUP).wait_for()
                in_service(lambda: laptop.send_message("<b onclick=alert(1)>bold</b>"))
                page.get_by_text("<b onclick").wait_for()
                page.get_by_role("button", name="Reject").click()
                page.wait_for_timeout(300)
                assert page.locator("main img, main script, main b").count() == 1  # our own icon
                assert shown == [] and visit.trouble == []
                # Even markup that a bug would put in runs nothing and loads nothing.
                refused = page.evaluate(
                    "() => { try { document.body.innerHTML = '<img src=x onerror=alert(1)>';"
                    " return false } catch { return true } }"
                )
                assert refused
                assert all(each.startswith(visit.url) for each in visit.requests)

        await beside(go)
        asked[0].addErrback(lambda why: None)

    @in_reactor
    async def test_received_page(self, devices: Devices, tmp_path: Path) -> None:
        """An HTML file that is shared is downloaded, never rendered where the page is."""
        # covers: W05
        share = tmp_path / "share"
        share.mkdir()
        (share / "evil.html").write_bytes(b"<script>fetch('/api/session')</script>")
        nas = await page(devices, shares=(f"s={share}",))

        def go() -> None:
            plain = Plain(nas).sign_in()
            url = plain.ask("POST", "/api/get", json={"path": "s/evil.html"}).json()["url"]
            with chromium() as browser:
                visit = Visit(browser, nas)
                visit.sign_in()
                before = len(visit.requests)
                with visit.page.expect_download() as came:
                    visit.page.evaluate("(url) => { location.href = url }", url)
                assert came.value.suggested_filename == "evil.html"
                assert visit.page.url == visit.url
                after = visit.requests[before:]
                assert [each for each in after if "session" in each] == []

        await beside(go)
