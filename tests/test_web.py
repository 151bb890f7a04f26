"""The page's door, asked by programs: signing in, tus, shares, and every attack of group W."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import runpy
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from browser import Plain, beside, in_service
from devices import Devices, in_reactor, sleep, until
from tusclient.client import TusClient

from lanxfer.errors import BadConfig, DiskFull, Forbidden, NotFound
from lanxfer.rights.file import LOOK_EVERY
from lanxfer.service import Settings
from lanxfer.storage.parts import LocalPart
from lanxfer.transfers import State
from lanxfer.web.tls import CERTIFICATE_FILE, KEY_FILE
from lanxfer.web.uploads import Upload
from lanxfer.wire import limits

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
OCTETS = {"Content-Type": "application/offset+octet-stream"}


async def page(devices: Devices, name: str = "nas", **options: Any) -> Any:
    return await devices.start(name, **{"web": True, "web_port": 0, **options})


def metadata(name: str) -> str:
    return f"filename {base64.b64encode(name.encode()).decode()}"


def create(plain: Plain, name: str, size: int, **headers: str) -> Any:
    sent = {"Upload-Length": str(size), "Upload-Metadata": metadata(name), **headers}
    return plain.tus("POST", "/files", headers=sent)


def patch(plain: Plain, where: str, offset: int, data: bytes, **headers: str) -> Any:
    sent = {**OCTETS, "Upload-Offset": str(offset), **headers}
    return plain.tus("PATCH", where, headers=sent, data=data)


def raw(plain: Plain, sent: bytes, more: bytes = b"", until_bytes: bytes = b"") -> bytes:
    """What comes back for some bytes in TLS, until the other side closes."""
    host, _, port = plain.url.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    got = b""
    bare = socket.create_connection((host, int(port)), 10)
    with suppress(ConnectionError, ssl.SSLError), context.wrap_socket(bare) as secure:
        secure.sendall(sent + more)
        while data := secure.recv(65536):
            got += data
            if until_bytes and until_bytes in got:
                break
    return got


def head(plain: Plain, method: str, path: str, *lines: str, signed: bool = True) -> bytes:
    """The beginning of a request as bytes, with what a page of ours would send."""
    own = [f"Host: {plain.url.removeprefix('https://')}"]
    if signed:
        cookie = "; ".join(f"{each.name}={each.value}" for each in plain.session.cookies)
        own += [f"Cookie: {cookie}", f"X-Lanxfer-Token: {plain.token}"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *own, *lines, "", ""]).encode()


def inbox(devices: Devices, name: str = "nas") -> dict[str, bytes]:
    folder = devices.inbox(name)
    found = [each for each in folder.rglob("*") if each.is_file()]
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in found
        if not str(each.relative_to(folder)).startswith(".lanxfer")
    }


class SigningInTests:
    @in_reactor
    async def test_off_by_default(self, devices: Devices) -> None:
        """Without --web nothing of it is there: no port, no key, no command."""
        service = await devices.start("nas")
        assert service.status()["web"] == []
        assert not Path(devices.state("nas").file(KEY_FILE)).exists()
        with pytest.raises(BadConfig, match="--web"):
            service.web_link()

    @in_reactor
    async def test_own_key(self, devices: Devices) -> None:
        """The page has a key of its own, that stays, in a file nobody else reads."""
        nas = await page(devices)
        first = nas.web_link()["fingerprint"]
        state = devices.state("nas")
        assert state.read(KEY_FILE, secret=True) != state.read("key.pem", secret=True)
        assert state.read(CERTIFICATE_FILE) is not None
        await nas.stopService()
        again = await page(devices)
        assert again.web_link()["fingerprint"] == first
        assert Settings().web is False and Settings().web_bind == "127.0.0.1"

    @in_reactor
    async def test_link_once(self, devices: Devices) -> None:
        """A link works once; the cookie is one that no script and no other site gets."""
        # covers: W09
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas)
            answer = plain.ask("POST", "/login", json={"code": plain.code})
            assert answer.status_code == 200
            cookie = answer.headers["Set-Cookie"]
            assert cookie.startswith("__Host-lanxfer=") and "Domain" not in cookie
            assert all(f"; {each}" in cookie for each in ("Secure", "HttpOnly", "Path=/"))
            assert "; SameSite=Strict" in cookie
            assert plain.code not in cookie and plain.code not in answer.text
            again = plain.ask("POST", "/login", json={"code": plain.code})
            assert (again.status_code, again.json()["code"]) == (401, "auth-failed")

        await beside(go)

    @in_reactor
    async def test_guessing(self, devices: Devices) -> None:
        """After five wrong links from an address none is looked at, not even a good one."""
        # covers: W09
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas)
            wrong = [plain.ask("POST", "/login", json={"code": f"x{n}"}) for n in range(8)]
            assert [each.status_code for each in wrong] == [401] * 5 + [429] * 3
            assert plain.ask("POST", "/login", json={"code": plain.code}).status_code == 429

        await beside(go)

    @in_reactor
    async def test_fixing_and_foreign(self, devices: Devices) -> None:
        """A cookie that somebody else chose is nobody's, before signing in and after it."""
        # covers: W09
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas)
            chosen = {"Cookie": "__Host-lanxfer=chosen"}
            answer = plain.ask("POST", "/login", json={"code": plain.code}, headers=chosen)
            assert "chosen" not in answer.headers["Set-Cookie"]
            assert Plain(nas).ask("GET", "/api/session", headers=chosen).status_code == 401

        await beside(go)

    @in_reactor
    async def test_out(self, devices: Devices) -> None:
        """Signing out, and "lanxfer web end", end what was begun, and the session with it."""
        nas = await page(devices)
        control = await devices.control("nas")

        def begin() -> tuple[Plain, str]:
            plain = Plain(nas).sign_in()
            where = create(plain, "a.bin", 10).headers["Location"]
            assert patch(plain, where, 0, b"12345").status_code == 204
            return plain, where

        first, _ = await beside(begin)
        second, _ = await beside(begin)
        await beside(lambda: first.ask("POST", "/logout", json={}).raise_for_status())
        assert (await beside(lambda: first.ask("GET", "/api/session"))).status_code == 401
        assert (await control.call("web.end")).args["ended"] == 1
        assert (await beside(lambda: second.ask("GET", "/api/session"))).status_code == 401
        await until(lambda: not len(nas.registry))
        assert {each.state for each in nas.registry.finished()} == {State.CANCELLED}
        await until(lambda: not list(devices.inbox("nas").glob(".lanxfer-staging/[0-9a-f]*")))

    @in_reactor
    async def test_commands_are_the_owners(self, devices: Devices) -> None:
        """A paired device cannot make links or talk in the owner's name."""
        nas = await page(devices)
        await devices.pair("laptop", nas, "nas")
        laptop = await devices.client("laptop", "nas")
        for name in ("web.link", "web.end"):
            with pytest.raises(Forbidden):
                await laptop.call(name)
        control = await devices.control("nas")
        link = (await control.call("web.link", {"guest": True, "label": "ana"})).args
        assert link["guest"] and link["label"] == "ana" and "/#" in link["links"][0]
        with pytest.raises(NotFound, match="page open"):
            await control.call("web.say", {"text": "hello"})


class TusTests:
    @in_reactor
    async def test_foreign_client(self, devices: Devices) -> None:
        """A stock tus client sends in parts, with checksums, and goes on where it was stopped."""
        nas = await page(devices)
        data = os.urandom(3 * limits.MIB + 17)
        path = devices.source("film.bin", data)

        def go() -> None:
            plain = Plain(nas).sign_in()
            headers = {
                "Cookie": "; ".join(f"{c.name}={c.value}" for c in plain.session.cookies),
                "X-Lanxfer-Token": plain.token,
            }
            client = TusClient(f"{plain.url}/files", headers=headers)
            options: dict[str, Any] = {"chunk_size": limits.MIB, "verify_tls_cert": False}
            named = {"metadata": {"filename": "film.bin"}, **options}
            first = client.uploader(path, **named)
            first.upload(stop_at=limits.MIB)
            assert first.offset == limits.MIB
            second = client.uploader(path, url=first.url, **options)
            assert second.offset == limits.MIB
            second.upload()
            checked = {"metadata": {"filename": "second.bin"}, "upload_checksum": True, **options}
            client.uploader(path, **checked).upload()

        os.environ.pop("REQUESTS_CA_BUNDLE", None)
        await beside(go)
        assert inbox(devices) == {"film.bin": data, "second.bin": data}
        assert [each.state for each in nas.registry.finished()] == [State.DONE] * 2

    @in_reactor
    async def test_example(self, devices: Devices) -> None:
        """The example of docs/web.rst uploads a file."""
        nas = await page(devices)
        path = devices.source("notes.txt", b"hello")
        link = nas.web_link()["links"][0]
        url, _, code = link.partition("/#")
        upload = runpy.run_path(str(EXAMPLES / "tus_upload.py"))["upload"]
        os.environ.pop("REQUESTS_CA_BUNDLE", None)
        await beside(lambda: upload(url, code, path))
        assert inbox(devices) == {"notes.txt": b"hello"}

    @in_reactor
    async def test_words(self, devices: Devices) -> None:
        """Each header and status is the one that tus 1.0 asks for."""
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            about = plain.ask("OPTIONS", "/files")
            assert (about.status_code, about.headers["Tus-Version"]) == (204, "1.0.0")
            assert "creation,termination,checksum,expiration" in about.headers["Tus-Extension"]
            assert int(about.headers["Tus-Max-Size"]) > 0
            assert "sha1" in about.headers["Tus-Checksum-Algorithm"].split(",")
            assert not [each for each in about.headers if each.startswith("Access-Control")]

            made = create(plain, "a.bin", 10)
            where = made.headers["Location"]
            assert (made.status_code, made.headers["Tus-Resumable"]) == (201, "1.0.0")
            assert "GMT" in made.headers["Upload-Expires"]
            assert patch(plain, where, 0, b"01234").headers["Upload-Offset"] == "5"
            found = plain.tus("HEAD", where)
            assert (found.headers["Upload-Offset"], found.headers["Upload-Length"]) == ("5", "10")
            assert found.headers["Upload-Metadata"] == metadata("a.bin")
            assert found.headers["Cache-Control"] == "no-store"

            assert patch(plain, where, 4, b"x").status_code == 409
            assert patch(plain, where, 5, b"x" * 6).status_code == 413
            other = {"Content-Type": "text/plain", "Upload-Offset": "5"}
            assert plain.tus("PATCH", where, headers=other, data=b"x").status_code == 415
            old = {"Tus-Resumable": "0.9", **OCTETS, "Upload-Offset": "5"}
            assert plain.tus("PATCH", where, headers=old, data=b"x").status_code == 412
            wrong = base64.b64encode(hashlib.sha1(b"other").digest()).decode()
            bad = patch(plain, where, 5, b"56789", **{"Upload-Checksum": f"sha1 {wrong}"})
            assert bad.status_code == 460
            unknown = patch(plain, where, 5, b"56789", **{"Upload-Checksum": "md4 eA=="})
            assert unknown.status_code == 400
            assert plain.tus("HEAD", where).headers["Upload-Offset"] == "5"
            right = base64.b64encode(hashlib.sha256(b"56789").digest()).decode()
            last = patch(plain, where, 5, b"56789", **{"Upload-Checksum": f"sha256 {right}"})
            assert (last.status_code, last.headers["Upload-Offset"]) == (204, "10")
            assert last.headers["Lanxfer-Stored"] == "a.bin"
            assert plain.tus("HEAD", where).headers["Upload-Offset"] == "10"
            assert patch(plain, where, 5, b"56789").status_code == 409

            empty = create(plain, "empty.txt", 0)
            assert empty.headers["Lanxfer-Stored"] == "empty.txt"
            given = create(plain, "b.bin", 10).headers["Location"]
            patch(plain, given, 0, b"abc")
            assert plain.tus("DELETE", given).status_code == 204
            assert plain.tus("HEAD", given).status_code in (404, 410)
            assert patch(plain, given, 3, b"d").status_code == 410

        await beside(go)
        assert inbox(devices) == {"a.bin": b"0123456789", "empty.txt": b""}
        await until(lambda: not list(devices.inbox("nas").glob(".lanxfer-staging/[0-9a-f]*")))

    @in_reactor
    async def test_interrupted(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """A browser that stays away loses its place, not its bytes: the transfer is begun again."""
        monkeypatch.setattr(limits, "WEB_PATIENCE", 0.2)
        nas = await page(devices)
        data = os.urandom(2 * limits.MIB)

        def begin() -> tuple[Plain, str]:
            plain = Plain(nas).sign_in()
            where = create(plain, "film.bin", len(data)).headers["Location"]
            assert patch(plain, where, 0, data[: limits.MIB]).status_code == 204
            return plain, where

        plain, where = await beside(begin)
        await until(lambda: not len(nas.registry))
        assert nas.registry.finished()[0].state is State.INTERRUPTED

        def go_on() -> None:
            assert plain.tus("HEAD", where).headers["Upload-Offset"] == str(limits.MIB)
            last = patch(plain, where, limits.MIB, data[limits.MIB :])
            assert last.headers["Lanxfer-Stored"] == "film.bin"

        await beside(go_on)
        assert inbox(devices) == {"film.bin": data}

    @in_reactor
    async def test_torn(self, devices: Devices) -> None:
        """What arrived before the connection broke is kept, and the rest makes the same file."""
        nas = await page(devices)
        data = os.urandom(4 * limits.MIB)

        def go() -> None:
            plain = Plain(nas).sign_in()
            where = create(plain, "film.bin", len(data)).headers["Location"]
            lines = ["Tus-Resumable: 1.0.0", "Upload-Offset: 0", f"Content-Length: {len(data)}"]
            lines.append("Content-Type: application/offset+octet-stream")
            host, _, port = plain.url.removeprefix("https://").rpartition(":")
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            bare = socket.create_connection((host, int(port)), 10)
            with context.wrap_socket(bare) as secure:
                secure.sendall(head(plain, "PATCH", where, *lines) + data[: 3 * limits.MIB])
            for _ in range(100):
                offset = int(plain.tus("HEAD", where).headers["Upload-Offset"])
                if offset:
                    break
                time.sleep(0.05)
            assert 0 < offset <= 3 * limits.MIB
            assert patch(plain, where, offset, data[offset:]).status_code == 204

        await beside(go)
        assert inbox(devices) == {"film.bin": data}

    @in_reactor
    async def test_not_stored(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """An upload that failed at its end does not look complete, and is begun anew."""
        nas = await page(devices)
        data = os.urandom(limits.MIB)
        path = devices.source("film.bin", data)
        publish, trouble = LocalPart._publish, [DiskFull()]

        def full(part: LocalPart, digest: str | None) -> Any:
            if trouble:
                raise trouble.pop()
            return publish(part, digest)

        monkeypatch.setattr(LocalPart, "_publish", full)

        def go() -> None:
            plain = Plain(nas).sign_in()
            where = create(plain, "film.bin", len(data)).headers["Location"]
            assert patch(plain, where, 0, data).status_code == 507
            found = plain.tus("HEAD", where)
            assert found.headers["Upload-Offset"] == "0" and "Lanxfer-Stored" not in found.headers
            assert patch(plain, where, len(data), b"").status_code == 409
            headers = {
                "Cookie": "; ".join(f"{c.name}={c.value}" for c in plain.session.cookies),
                "X-Lanxfer-Token": plain.token,
            }
            client = TusClient(f"{plain.url}/files", headers=headers)
            client.uploader(path, url=plain.url + where, verify_tls_cert=False).upload()

        os.environ.pop("REQUESTS_CA_BUNDLE", None)
        await beside(go)
        assert inbox(devices) == {"film.bin": data}

    @pytest.mark.parametrize("error", [None, DiskFull()])
    @in_reactor
    async def test_being_stored(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch, error: DiskFull | None
    ) -> None:
        """Who looks while a file is being stored hears what has become of it, as who sent it."""
        nas = await page(devices)
        publish = LocalPart._publish
        begun, go_on = threading.Event(), threading.Event()

        def slow(part: LocalPart, digest: str | None) -> Any:
            begun.set()
            assert go_on.wait(30)
            if error is not None:
                raise error
            return publish(part, digest)

        monkeypatch.setattr(LocalPart, "_publish", slow)
        interrupt = Upload.interrupt

        def looked(upload: Upload) -> None:
            if begun.is_set():
                go_on.set()  # whoever looks is there
            interrupt(upload)

        monkeypatch.setattr(Upload, "interrupt", looked)

        def go() -> None:
            plain, other = Plain(nas).sign_in(), Plain(nas)
            other.session.cookies, other.token = plain.session.cookies, plain.token
            where = create(plain, "a.bin", 10).headers["Location"]
            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(patch, plain, where, 0, b"0123456789")
                assert begun.wait(30)
                found = other.tus("HEAD", where)
                sent = sending.result()
            stored = None if error else "a.bin"
            assert sent.status_code == (507 if error else 204)
            assert found.headers["Upload-Offset"] == ("0" if error else "10")
            for each in (sent, found):
                assert each.headers.get("Lanxfer-Stored") == stored

        await beside(go)
        assert inbox(devices) == ({} if error else {"a.bin": b"0123456789"})

    @in_reactor
    async def test_lost_here(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """What goes on where nothing is any more is refused, and not put somewhere else."""
        nas = await page(devices)

        def begin() -> tuple[Plain, str]:
            plain = Plain(nas).sign_in()
            where = create(plain, "a.bin", 10).headers["Location"]
            monkeypatch.setattr(limits, "WEB_PATIENCE", 0.01)
            assert patch(plain, where, 0, b"01234").status_code == 204
            return plain, where

        plain, where = await beside(begin)
        await until(lambda: not len(nas.registry))
        monkeypatch.setattr(limits, "WEB_PATIENCE", 60)
        for part in devices.inbox("nas").glob(".lanxfer-staging/[0-9a-f]*"):
            part.unlink()

        def go_on() -> None:
            assert patch(plain, where, 5, b"56789").status_code == 409
            assert plain.tus("HEAD", where).headers["Upload-Offset"] == "0"
            assert patch(plain, where, 0, b"0123456789").headers["Lanxfer-Stored"] == "a.bin"

        await beside(go_on)
        assert inbox(devices) == {"a.bin": b"0123456789"}

    @in_reactor
    async def test_same_rules(self, devices: Devices) -> None:
        """Names, quotas, the largest size and "deny" hold as for any other sender."""
        # covers: W11 W07
        devices.state("nas").write("rights", b"[browsers]\nlargest = 100\n")
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            assert create(plain, "a.bin", 101).json()["code"] == "too-large"
            for name in ("../x", "/etc/x", "a/../../x", "a\0b", ".hidden", "con\n"):
                answer = create(plain, name, 1)
                assert (answer.status_code, answer.json()["code"]) == (400, "bad-name"), name
            assert create(plain, "", 1).status_code == 400
            assert create(plain, "a.bin", 10**18).status_code == 413

        await beside(go)
        devices.state("nas").write("rights", b"[browsers]\noffers = deny\n")
        await sleep(LOOK_EVERY + 0.1)

        def off() -> None:
            plain = Plain(nas).sign_in()
            answer = create(plain, "a.bin", 10)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

        await beside(off)
        assert inbox(devices) == {}


class GuestTests:
    @in_reactor
    async def test_asks(self, devices: Devices) -> None:
        """What a guest sends waits for a yes; a no is a refusal before any byte."""
        prompts: list[Any] = []
        nas = await page(devices, hooks={"on_prompt": prompts.append})
        plain = await beside(lambda: Plain(nas, guest=True, label="ana").sign_in())
        asking = beside(lambda: create(plain, "a.bin", 5))
        await until(lambda: prompts)
        assert prompts[0].label == "ana"
        nas.answer(prompts[0].id, False)
        assert (await asking).status_code == 403
        asking = beside(lambda: create(plain, "b.bin", 5))
        await until(lambda: len(prompts) == 2)
        nas.answer(prompts[1].id, True)
        where = (await asking).headers["Location"]
        await beside(lambda: patch(plain, where, 0, b"hello").raise_for_status())
        assert inbox(devices) == {"b.bin": b"hello"}

    @in_reactor
    async def test_reach(self, devices: Devices, tmp_path: Path) -> None:
        """A guest neither decides, nor looks into shares, nor touches what is another's."""
        # covers: W11
        (tmp_path / "share").mkdir()
        nas = await page(devices, shares=(f"s={tmp_path / 'share'}",))

        def go() -> None:
            owner = Plain(nas).sign_in()
            guest = Plain(nas, guest=True).sign_in()
            where = create(owner, "a.bin", 5).headers["Location"]
            transfer = in_service(lambda: nas.registry.pending()[0].id)
            for name in ("cancel_request", "pause", "resume"):
                assert guest.do(name, id=transfer).status_code == 404
            for name in ("accept", "reject"):
                assert guest.do(name, id=transfer).status_code == 403
            assert guest.ask("GET", "/api/files?path=").status_code == 403
            for method in ("HEAD", "DELETE"):
                assert guest.tus(method, where).status_code == 404
            assert patch(guest, where, 0, b"hello").status_code == 404
            assert owner.tus("HEAD", where).status_code == 200
            for name in ("send_file", "status", "login", "recv_slot", "hello", "web.link"):
                assert owner.do(name).status_code == 404

        await beside(go)


class FetchTests:
    @in_reactor
    async def test_fetch(self, devices: Devices, tmp_path: Path) -> None:
        """What is shared comes as an attachment that no page of ours can run, cookie or not."""
        # covers: W05
        share = tmp_path / "share"
        (share / "in").mkdir(parents=True)
        evil = b"<script>alert(1)</script>"
        (share / "in" / "page.html").write_bytes(evil)
        (share / "in" / 'pi"c;\u00e4.svg').write_bytes(b"<svg onload='alert(1)'/>")
        nas = await page(devices, shares=(f"s={share}",))

        def go() -> None:
            plain = Plain(nas).sign_in()
            rows = plain.ask("GET", "/api/files?path=s/in").json()["rows"]
            assert [row["name"] for row in rows] == ["page.html", 'pi"c;\u00e4.svg']
            for row in rows:
                asked = plain.ask("POST", "/api/get", json={"path": f"s/in/{row['name']}"})
                answer = Plain(nas).ask("GET", asked.json()["url"])
                assert answer.headers["Content-Disposition"].startswith('attachment; filename="')
                assert answer.headers["Content-Disposition"].count('"') == 2
                assert answer.headers["Content-Type"] == "application/octet-stream"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "sandbox" in answer.headers["Content-Security-Policy"]
            url = plain.ask("POST", "/api/get", json={"path": "s/in/page.html"}).json()["url"]
            assert plain.ask("GET", url).content == evil
            part = plain.ask("GET", url, headers={"Range": "bytes=8-13"})
            assert (part.status_code, part.content) == (206, b"alert(")
            for path in ("s/../x", "s/in/../../x", "/etc/passwd", "other/x", "s/in", 5):
                assert plain.ask("POST", "/api/get", json={"path": path}).status_code >= 400

        await beside(go)

    @in_reactor
    async def test_one_object(self, devices: Devices, tmp_path: Path) -> None:
        """A link is for one file as it was: not for a new one of that name, nor its neighbours."""
        # covers: W11
        share = tmp_path / "share"
        share.mkdir()
        (share / "a.txt").write_bytes(b"first")
        nas = await page(devices, shares=(f"s={share}",))

        def go() -> None:
            plain = Plain(nas).sign_in()
            url = plain.ask("POST", "/api/get", json={"path": "s/a.txt"}).json()["url"]
            assert plain.ask("GET", url).content == b"first"
            plain.ask("GET", "/api/session")  # on the same connection: the file is closed now
            (share / "a.txt").write_bytes(b"second one")
            assert plain.ask("GET", url).status_code >= 400
            for wrong in (url[:-1], url + "a", "/get/", "/get/a.txt", url + "/../a.txt"):
                assert plain.ask("GET", wrong).status_code in (404, 405)
            fresh = plain.ask("POST", "/api/get", json={"path": "s/a.txt"}).json()["url"]
            plain.ask("POST", "/logout", json={})
            assert plain.ask("GET", fresh).status_code == 404

        await beside(go)

    @in_reactor
    async def test_large(self, devices: Devices, tmp_path: Path) -> None:
        """A file larger than all buffers comes whole."""
        share = tmp_path / "share"
        share.mkdir()
        data = os.urandom(12 * limits.MIB)
        (share / "film.bin").write_bytes(data)
        (share / "empty").write_bytes(b"")
        nas = await page(devices, shares=(f"s={share}",))

        def go() -> None:
            plain = Plain(nas).sign_in()
            for name, wanted in (("film.bin", data), ("empty", b"")):
                url = plain.ask("POST", "/api/get", json={"path": f"s/{name}"}).json()["url"]
                assert plain.ask("GET", url).content == wanted

        await beside(go)


class AttackTests:
    @in_reactor
    async def test_form_to_the_transfer_port(self, devices: Devices) -> None:
        """A form whose body is a header does nothing at the port where headers count."""
        # covers: W01
        nas = await page(devices)
        host, _, port = nas.address.rpartition(":")
        body = b'{"do": 1, "name": "recv_file", "path": "a", "size": 1, "body": 1}\nx'
        sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\r\n" + body

        def go() -> bytes:
            got = b""
            with socket.create_connection((host, int(port)), 10) as bare:
                bare.sendall(sent)
                try:
                    while data := bare.recv(4096):
                        got += data
                except ConnectionError:
                    pass
            return got

        assert b"HTTP" not in await beside(go)
        assert inbox(devices) == {} and nas.registry.finished() == []

    @pytest.mark.parametrize(
        "told",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"X-Lanxfer-Token": ""},
            {"X-Lanxfer-Token": "guess"},
            {"Cookie": ""},
        ],
    )
    @in_reactor
    async def test_foreign_pages(self, devices: Devices, told: dict[str, str]) -> None:
        """What another page could send changes nothing, with the cookie of the owner, too."""
        # covers: W02
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            where = create(plain, "a.bin", 5).headers["Location"]
            if "Cookie" in told:
                plain.session.cookies.clear()
            wanted = 401 if "Cookie" in told else 403
            tries = [
                plain.ask("POST", "/api/do/recv_message", json={"text": "x"}, headers=told),
                plain.ask("POST", "/logout", json={}, headers=told),
                plain.ask("POST", "/api/get", json={"path": "s/x"}, headers=told),
                create(plain, "b.bin", 5, **told),
                patch(plain, where, 0, b"hello", **told),
                plain.tus("DELETE", where, headers=told),
            ]
            assert [each.status_code for each in tries] == [wanted] * len(tries)
            if "Origin" in told or "Sec-Fetch-Site" in told:
                login = Plain(nas)
                answer = login.ask("POST", "/login", json={"code": login.code}, headers=told)
                assert answer.status_code == 403
            if told.get("Sec-Fetch-Site", "none") != "none":
                assert plain.ask("GET", "/api/session", headers=told).status_code == 403
                assert plain.ask("GET", "/", headers=told).status_code == 200
            for each in tries:
                assert "Access-Control-Allow-Origin" not in each.headers

        await beside(go)
        assert inbox(devices) == {}
        assert [each.kind.value for each in nas.registry.finished()] == []

    @in_reactor
    async def test_simple_requests(self, devices: Devices) -> None:
        """Forms and simple content types are refused before their body is looked at."""
        # covers: W02 W07
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            for kind in ("text/plain", "application/x-www-form-urlencoded", "", "text/json"):
                answer = plain.ask(
                    "POST",
                    "/api/do/recv_message",
                    data=b'{"text": "x"}',
                    headers={"Content-Type": kind},
                )
                assert answer.status_code == 415, kind
            assert plain.ask("GET", "/logout").status_code in (404, 405)

        await beside(go)
        assert nas.registry.finished() == []

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example:{port}",
            "evil.example",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.0.0.2:{port}",
            "localhost.evil.example:{port}",
            "[::1]:{port}",
            "",
            "127.0.0.1:{port}x",
            "2130706433:{port}",
        ],
    )
    @in_reactor
    async def test_rebinding(self, devices: Devices, host: str) -> None:
        """A page whose name suddenly means this machine gets nothing, not even the page."""
        # covers: W03
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            port = plain.url.rpartition(":")[2]
            for path in ("/", "/api/session", "/page.js", "/get/x"):
                answer = plain.ask("GET", path, headers={"Host": host.format(port=port)})
                assert answer.status_code in (400, 421)
                assert answer.status_code == 400 or answer.content == b""

        await beside(go)

    @in_reactor
    async def test_names(self, devices: Devices) -> None:
        """A configured name and "localhost" are this device; two Hosts are nobody."""
        # covers: W03
        nas = await page(devices, web_names=("nas.home",))

        def go() -> None:
            plain = Plain(nas)
            port = plain.ask and in_service(nas.status)["web"][1].rpartition(":")[2].strip("/")
            plain.url = f"https://127.0.0.1:{port}"
            for name in ("nas.home", "NAS.home", "localhost", "127.0.0.1"):
                answer = plain.ask("GET", "/", headers={"Host": f"{name}:{port}"})
                assert answer.status_code == 200, name
            both = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil:{port}\r\n\r\n"
            assert raw(plain, both.encode(), until_bytes=b"\r\n\r\n").startswith(b"HTTP/1.1 421")

        await beside(go)

    @in_reactor
    async def test_headers(self, devices: Devices) -> None:
        """Every answer forbids frames, openers, foreign code and guessing at its type."""
        # covers: W04 W08
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            for path in ("/", "/page.js", "/api/session", "/nothing", "/api/files?path=x"):
                told = plain.ask("GET", path).headers
                policy = told["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; script-src 'self';")
                assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
                assert "require-trusted-types-for 'script'" in policy
                assert told["X-Frame-Options"] == "DENY"
                assert told["X-Content-Type-Options"] == "nosniff"
                assert told["Cross-Origin-Opener-Policy"] == "same-origin"
                assert told["Cross-Origin-Resource-Policy"] == "same-origin"
                assert told["Referrer-Policy"] == "no-referrer"
                assert "Twisted" not in told["Server"]

        await beside(go)

    @in_reactor
    async def test_endless_bodies(self, devices: Devices) -> None:
        """A body too long is refused at its headers; one that says no length, on its way."""
        # covers: W06
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            where = create(plain, "a.bin", 100).headers["Location"]
            much = f"Content-Length: {100 * 1024**3}"
            tus = ["Tus-Resumable: 1.0.0", "Upload-Offset: 0"]
            octets = "Content-Type: application/offset+octet-stream"
            js = "Content-Type: application/json"
            for method, path, *lines in (
                ("PATCH", where, *tus, octets, much),
                ("POST", "/api/do/recv_message", js, much),
                ("POST", "/login", js, much),
                ("POST", "/files", *tus, octets, much),
                ("PUT", "/x", much),
                ("GET", "/", much),
            ):
                answer = raw(plain, head(plain, method, path, *lines))
                assert answer.split(b" ")[1] in (b"413", b"400", b"405"), (method, path, answer)
            chunked = "Transfer-Encoding: chunked"
            chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
            for method, path, *lines in (
                ("PATCH", where, *tus, octets, chunked),
                ("POST", "/api/do/recv_message", js, chunked),
            ):
                answer = raw(plain, head(plain, method, path, *lines), chunk * 64)
                assert not answer or answer.split(b" ")[1] == b"413"
            unsigned = head(plain, "PATCH", where, *tus, octets, much, signed=False)
            assert raw(plain, unsigned).split(b" ")[1] == b"401"

        await beside(go)
        await until(lambda: not nas._now.page.site.channels)
        assert nas._now.page.uploads._held == 0
        parts = list(devices.inbox("nas").glob(".lanxfer-staging/[0-9a-f]*"))
        assert sum(each.stat().st_size for each in parts) <= 100

    @in_reactor
    async def test_multipart(self, devices: Devices) -> None:
        """Multipart forms are nobody's way in, whatever is in them."""
        # covers: W07
        nas = await page(devices)
        part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="../x"\r\n\r\nx\r\n'
        bodies = [
            part * 10_000 + b"--b--\r\n",
            b"no boundary at all",
            b'--b\r\nContent-Disposition: form-data; filename="a"; filename="../x"\r\n\r\nx\r\n',
            b"--b\r\nX: " + b"y" * limits.MIB + b"\r\n\r\nx\r\n--b--\r\n",
        ]

        def go() -> None:
            plain = Plain(nas).sign_in()
            for body in bodies:
                for path in ("/files", "/login", "/api/do/recv_message", "/"):
                    kind = "Content-Type: multipart/form-data; boundary=b"
                    told = head(plain, "POST", path, kind, f"Content-Length: {len(body)}")
                    answer = raw(plain, told, body)
                    assert not answer or answer.split(b" ")[1] in (b"400", b"413", b"415")

        await beside(go)
        assert inbox(devices) == {}

    @in_reactor
    async def test_smuggling(self, devices: Devices) -> None:
        """Pipelined requests are answered in order; lengths that contradict each other by none."""
        # covers: W10
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            where = create(plain, "a.bin", 5).headers["Location"]
            octets = "Content-Type: application/offset+octet-stream"
            tus = ["Tus-Resumable: 1.0.0", "Upload-Offset: 0", octets]
            sent = (
                head(plain, "GET", "/api/session")
                + head(plain, "PATCH", where, *tus, "Content-Length: 5")
                + b"hello"
                + head(plain, "GET", "/icon.svg", "Connection: close")
            )
            answers = raw(plain, sent)
            order = [answers.index(each) for each in (b'"token"', b"Lanxfer-Stored", b"<svg")]
            assert order == sorted(order) and answers.count(b"HTTP/1.1 ") == 3

            inner = head(plain, "DELETE", where)
            for lines in (
                ["Content-Length: 0", f"Content-Length: {len(inner)}"],
                [f"Content-Length: {len(inner)}", "Transfer-Encoding: chunked"],
                ["Transfer-Encoding: chunked, identity"],
                ["Transfer-Encoding: xchunked"],
                ["Content-Length: +5"],
                ["Content-Length : 5"],
                ["Content-Length: 5\r\n\tX: y"],
            ):
                kind = "Content-Type: application/json"
                told = head(plain, "POST", "/api/do/pause", kind, *lines)
                answer = raw(plain, told, inner)
                assert answer.count(b"HTTP/1.1 ") <= 1, lines
                assert not answer or answer.split(b" ")[1] in (b"400", b"413"), lines

        await beside(go)
        assert inbox(devices) == {"a.bin": b"hello"}

    @in_reactor
    async def test_dripping_headers(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Headers that never end are cut off, and so is one connection too many of an address."""
        # covers: H05
        monkeypatch.setattr(limits, "HEADER_TIMEOUT", 0.3)
        monkeypatch.setattr(limits, "WEB_CONNECTIONS_PER_SOURCE", 3)
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas)
            assert raw(plain, b"GET / HTTP/1.1\r\nHost: ") == b""
            host, _, port = plain.url.removeprefix("https://").rpartition(":")
            held = [socket.create_connection((host, int(port)), 10) for _ in range(3)]
            with suppress(ConnectionError), socket.create_connection((host, int(port)), 10) as one:
                assert one.recv(1) == b""
            for each in held:
                each.close()

        await beside(go)
        await until(lambda: not nas._now.page.site.channels)

    @in_reactor
    async def test_words_of_others(self, devices: Devices, tmp_path: Path) -> None:
        """Broken JSON, odd types and deep nesting are sentences, and never a traceback."""
        nas = await page(devices)

        def go() -> None:
            plain = Plain(nas).sign_in()
            js = {"Content-Type": "application/json"}
            for body in (
                b"{",
                b"[]",
                b"5",
                b"[" * 100_000,
                b'{"text": 5}',
                b'{"text": null}',
                b'{"text": "\\ud800"}',
                b"\xff",
            ):
                answer = plain.ask("POST", "/api/do/recv_message", data=body, headers=js)
                assert answer.status_code == 400, body[:20]
                assert json.loads(answer.content)["reason"]
            long = plain.do("recv_message", text="x" * (limits.MESSAGE_MAX + 1))
            assert long.status_code == 413
            for path in (
                "/%00",
                "/%ff",
                "/..%2f",
                "/files/x",
                "/api/do/%00",
                "//",
                "/files/" + "0" * 64,
            ):
                assert plain.tus("HEAD", path).status_code in (400, 404, 405)

        await beside(go)
