"""What the page and its files, its requests and stock tus clients are answered."""

from __future__ import annotations

import json
import pkgutil
import re
import secrets
from collections import OrderedDict
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from attrs import define, field, frozen
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException

from lanxfer.commands.table import Table
from lanxfer.errors import BadOffset, BadRequest, Cancelled, LanxferError, NotFound, TooLarge
from lanxfer.node import ServiceNode
from lanxfer.web import tus
from lanxfer.web.asked import Download, PageCall, Rows, ask
from lanxfer.web.gate import COOKIE, TOKEN_HEADER, Asked, Gate, Session
from lanxfer.web.http import BadType, PageRequest, read_json
from lanxfer.web.live import Live
from lanxfer.web.uploads import Body, Upload, Uploads
from lanxfer.wire import limits

STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""All that the page loads, for whoever asks."""

ASKED = frozenset({"cancel_request", "pause", "resume", "accept", "reject", "recv_message"})
"""Commands a page may ask for by name; its principal may reach them or not."""

SANDBOX = "default-src 'none'; sandbox"

_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})", re.ASCII)
_STEP = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_TAG = re.compile(r"[a-z0-9]{0,32}", re.ASCII)
_UPLOAD = re.compile(r"/files/([0-9a-f]{64})", re.ASCII)


@frozen
class _Get:
    """One file that one browser may fetch for a while, as it was when it was asked for."""

    session: Session
    path: str
    name: str
    size: int
    mtime_ns: int
    until: float


@define(eq=False)
class Pages:
    """The answers; ``opened`` is what ``PageSite`` asks at the headers of each request."""

    node: ServiceNode
    table: Table
    gate: Gate
    uploads: Uploads
    live: Live
    _gets: OrderedDict[str, _Get] = field(factory=OrderedDict)

    app = Klein()

    # Before anything of a body.

    def opened(self, request: PageRequest, length: int | None) -> Body | None:
        """Who asks for what; where the body goes, if it is a file's.  Raises the refusal."""
        asked = _asked(request)
        public = asked.path in STATIC
        if not _plain(asked.path):
            raise NotFound("There is nothing there.")
        self.gate.check(asked, public)
        if not (public or asked.path == "/login" or asked.path.startswith("/get/")):
            request.signed_in = self.gate.session(asked)
        content = _header(request, "Content-Type")
        content = "" if content is None else content.partition(";")[0].strip().lower()
        if asked.method == "PATCH":
            if content != tus.BODY_TYPE:
                raise BadType()
            return self._patch(request, asked, length)
        if length == 0:
            return None
        if asked.method != "POST" or asked.path == "/files":
            raise BadRequest("That request has no body.")
        if content != "application/json":
            raise BadType()
        if length is not None and length > limits.WEB_BODY_MAX:
            raise TooLarge("The request is too long.")
        return None

    def _patch(self, request: PageRequest, asked: Asked, length: int | None) -> Body:
        _speaks_tus(request)
        upload = self._find(request, asked.path)
        offset = tus.parse_number(_header(request, "Upload-Offset"), "Upload-Offset")
        checksum = tus.parse_checksum(_header(request, "Upload-Checksum"))
        body = upload.accept(offset, length, checksum, request.flow, request.refuse)
        return body

    def _find(self, request: PageRequest, path: str) -> Upload:
        found = _UPLOAD.fullmatch(path)
        if found is None or request.signed_in is None:
            raise NotFound("There is no such upload.")
        return self.uploads.find(found[1], request.signed_in)

    # The page.

    @app.handle_errors(Exception)  # type: ignore[arg-type]  # a method with a Deferred
    def failed(self, request: Any, why: Failure) -> Any:
        """A refusal, as JSON; anything else is logged and says nothing."""
        if why.check(LanxferError) is None and why.check(HTTPException) is None:
            # werkzeug's own are about addresses and methods that there are not.
            request.answer(request.known(why.value))
        elif why.check(LanxferError) is not None:
            request.answer(why.value)
        else:
            request.answer(NotFound("There is nothing there."))
        return Deferred()

    @app.route("/", methods=["GET", "HEAD"])
    @app.route("/page.css", methods=["GET", "HEAD"])
    @app.route("/page.js", methods=["GET", "HEAD"])
    @app.route("/icon.svg", methods=["GET", "HEAD"])
    def static(self, request: Any) -> bytes:
        name, kind = STATIC[request.path.decode("ascii")]
        request.setHeader("Content-Type", kind)
        request.setHeader("Cache-Control", "no-cache")
        data = pkgutil.get_data("lanxfer.web", f"static/{name}")
        assert data is not None
        return data

    @app.route("/login", methods=["POST"])
    def login(self, request: Any) -> Any:
        code = read_json(request).get("code")
        if not isinstance(code, str) or len(code) > 100:
            raise BadRequest('The request needs a text "code".')
        session, cookie = self.gate.sign_in(code, request.getClientAddress().host)
        age = int(limits.WEB_SESSION_LIFETIME)
        request.responseHeaders.addRawHeader(
            "Set-Cookie",
            f"{COOKIE}={cookie}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Strict",
        )
        return _json(request, self.live.about(session))

    @app.route("/logout", methods=["POST"])
    def logout(self, request: Any) -> Any:
        self.gate.end(request.signed_in)
        request.responseHeaders.addRawHeader(
            "Set-Cookie", f"{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict"
        )
        return _json(request, {})

    @app.route("/api/session", methods=["GET"])
    def session(self, request: Any) -> Any:
        return _json(request, self.live.about(request.signed_in))

    @app.route("/api/events", methods=["GET"])
    def events(self, request: Any) -> Any:
        self.live.open(request.signed_in, request)
        return Deferred()

    @app.route("/api/do/<name>", methods=["POST"])
    async def do(self, request: Any, name: str) -> Any:
        if name not in ASKED:
            raise NotFound("There is nothing there.")
        args = read_json(request)
        text = args.pop("text", None) if name == "recv_message" else None
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else None
        call = PageCall(self.node, request.signed_in, name, args, data)
        reply = await ask(call, self.node, self.table)
        return _json(request, dict(reply.args))

    # What is shared.

    @app.route("/api/files", methods=["GET"])
    async def files(self, request: Any) -> Any:
        path = _argument(request, "path")
        rows = Rows()
        call = PageCall(self.node, request.signed_in, "list_files", {"path": path}, out=rows)
        await ask(call, self.node, self.table)
        return _json(request, {"path": path, "rows": rows.rows})

    @app.route("/api/get", methods=["POST"])
    async def get(self, request: Any) -> Any:
        session = request.signed_in
        path = read_json(request).get("path")
        call = PageCall(self.node, session, "stat_file", {"path": path})
        facts = (await ask(call, self.node, self.table)).args
        if facts["kind"] != "file":
            raise BadRequest("Only files can be fetched.")
        id = secrets.token_urlsafe(16)
        until = self.node.clock.seconds() + limits.WEB_GET_LIFETIME
        self._gets[id] = _Get(
            session, str(path), facts["name"], facts["size"], facts["mtime_ns"], until
        )
        if len(self._gets) > limits.WEB_GETS:
            self._gets.popitem(last=False)
        return _json(request, {"url": f"/get/{id}"})

    @app.route("/get/<id>", methods=["GET"])
    async def fetch(self, request: Any, id: str) -> Any:
        """One file by the id it was given; no cookie is needed, and none is looked at."""
        got = self._gets.get(id)
        if got is None or got.until <= self.node.clock.seconds():
            raise NotFound("That link is not good any more.")
        begin, end = _range(request, got.size)
        fallback = re.sub(r"[^A-Za-z0-9 ._()-]", "_", got.name)
        name = quote(got.name.encode("utf-8", "surrogatepass"), safe="")
        request.setHeader("Content-Security-Policy", SANDBOX)
        request.setHeader("Content-Type", "application/octet-stream")
        request.setHeader(
            "Content-Disposition", f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{name}"
        )
        request.setHeader("Accept-Ranges", "bytes")
        principal = got.session.principal
        meters = self.node.rates.join(principal)
        out = Download(request, meters[1])
        args = {
            "path": got.path,
            "size": got.size,
            "mtime_ns": got.mtime_ns,
            "offset": begin,
            "length": end - begin,
        }
        call = PageCall(self.node, got.session, "read_file", args, out=_Begun(out, got, begin, end))
        out.on_lost = call.stop
        try:
            await ask(call, self.node, self.table)
        except Exception:
            if request.startedWriting:
                request.channel and request.channel.forceAbortClient()
                return Deferred()  # the length was said already
            raise
        finally:
            self.node.rates.leave(principal, meters)
        if begin == end:
            await _Begun(out, got, begin, end).write(b"")
        request.unregisterProducer()
        request.finish()
        return Deferred()

    def forget(self, session: Session) -> None:
        """It was signed out: what it was going to fetch, too."""
        for id in [id for id, each in self._gets.items() if each.session is session]:
            del self._gets[id]

    # tus.

    @app.route("/files", methods=["OPTIONS"])
    async def options(self, request: Any) -> Any:
        most = await self.node.disk.run(self.node.store.free)
        for name, value in tus.about(most).items():
            request.setHeader(name, value)
        return _empty(request, 204)

    @app.route("/files", methods=["POST"])
    async def create(self, request: Any) -> Any:
        _speaks_tus(request)
        size = tus.parse_number(_header(request, "Upload-Length"), "Upload-Length")
        metadata = _header(request, "Upload-Metadata") or ""
        said = tus.parse_metadata(metadata)
        path = said.get("filename") or said.get("name")
        if not path:
            raise BadRequest("Upload-Metadata has to say the filename.")
        tag = said.get("tag", "")
        if not _TAG.fullmatch(tag):
            raise BadRequest("A tag is up to 32 of the letters a to z and digits.")
        upload, accepted = await self.uploads.create(request.signed_in, path, size, metadata, tag)
        request.notifyFinish().addErrback(lambda why: accepted.cancel())
        await accepted
        request.setHeader("Location", f"/files/{upload.id}")
        _describe(request, upload)
        return _empty(request, 201)

    @app.route("/files/<id>", methods=["HEAD"])
    async def look(self, request: Any, id: str) -> Any:
        _speaks_tus(request)
        upload = self._find(request, request.path.decode("ascii"))
        upload.interrupt()
        with suppress(LanxferError):
            await upload.ended()  # an upload whose bytes are all here looks like one that is stored
        if upload.over and upload.stored is None:
            raise upload.given_up or upload.error or NotFound("There is no such upload.")
        request.setHeader("Upload-Length", str(upload.size))
        request.setHeader("Upload-Offset", str(upload.offset))
        if upload.metadata:
            request.setHeader("Upload-Metadata", upload.metadata)
        _describe(request, upload)
        return _empty(request, 200)

    @app.route("/files/<id>", methods=["PATCH"])
    async def send(self, request: Any, id: str) -> Any:
        body: Body = request.body
        upload = body.upload
        try:
            await upload.taken(body)
        finally:
            request.leave()
        request.setHeader("Upload-Offset", str(upload.offset))
        _describe(request, upload)
        return _empty(request, 204)

    @app.route("/files/<id>", methods=["DELETE"])
    def give_up(self, request: Any, id: str) -> Any:
        _speaks_tus(request)
        upload = self._find(request, request.path.decode("ascii"))
        if upload.over:
            raise NotFound("That upload is over.")
        upload.interrupt()
        upload.give_up(Cancelled("Cancelled by the browser."))
        return _empty(request, 204)


@define(eq=False)
class _Begun:
    """Says what comes in the moment the first bytes are there: until then a refusal can be said."""

    out: Download
    got: _Get
    begin: int
    end: int
    _begun: bool = False

    async def write(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            request = self.out.request
            size = self.got.size
            request.setHeader("Content-Length", str(self.end - self.begin))
            if self.end - self.begin != size:
                request.setResponseCode(206)
                request.setHeader("Content-Range", f"bytes {self.begin}-{self.end - 1}/{size}")
            self.out.begin()
        if data:
            await self.out.write(data)


def _headers(request: PageRequest, name: str) -> tuple[str, ...]:
    found = request.requestHeaders.getRawHeaders(name.encode("ascii"), [])
    return tuple(each.decode("utf-8", "surrogateescape") for each in found)


def _header(request: PageRequest, name: str) -> str | None:
    """Its one value; BadRequest where there are two."""
    found = _headers(request, name)
    if len(found) > 1:
        raise BadRequest(f"{name} is there twice.")
    return found[0] if found else None


def _plain(path: str) -> bool:
    """Whether nothing in it is to be decoded, or means another place: "/", "/a", "/a/b"."""
    first, *steps = path.split("/")
    return not first and (steps == [""] or (steps != [] and all(map(_STEP.fullmatch, steps))))


def _asked(request: PageRequest) -> Asked:
    token = _headers(request, TOKEN_HEADER)
    prefix = f"{COOKIE}="
    parts = [part.strip() for each in _headers(request, "Cookie") for part in each.split(";")]
    return Asked(
        method=request.method.decode("ascii", "replace"),
        path=request.path.decode("ascii", "replace"),
        hosts=_headers(request, "Host"),
        local=request.getHost().host,
        source=request.getClientAddress().host,
        cookies=tuple(each.removeprefix(prefix) for each in parts if each.startswith(prefix))[:4],
        token=token[0] if len(token) == 1 else "",
        origins=_headers(request, "Origin"),
        sites=_headers(request, "Sec-Fetch-Site"),
    )


def _speaks_tus(request: PageRequest) -> None:
    request.setHeader("Tus-Resumable", tus.VERSION)
    if _header(request, "Tus-Resumable") != tus.VERSION:
        request.setHeader("Tus-Version", tus.VERSION)
        raise tus.WrongVersion()


def _describe(request: PageRequest, upload: Upload) -> None:
    request.setHeader("Tus-Resumable", tus.VERSION)
    if upload.stored is None:
        request.setHeader("Upload-Expires", tus.format_expires(upload.expires))
    else:
        stored = str(upload.stored["stored"])
        request.setHeader("Lanxfer-Stored", quote(stored.encode("utf-8", "surrogatepass")))
        request.setHeader("Lanxfer-Blake3", str(upload.stored["blake3"]))


def _json(request: PageRequest, value: Any) -> bytes:
    request.setHeader("Content-Type", "application/json")
    return json.dumps(value).encode("ascii")


def _empty(request: PageRequest, status: int) -> bytes:
    request.setResponseCode(status)
    return b""


def _argument(request: Any, name: str) -> str:
    found = request.args.get(name.encode("ascii"), [b""])
    if len(found) != 1:
        raise BadRequest(f"{name} is there twice.")
    return bytes(found[0]).decode("utf-8", "replace")


def _range(request: PageRequest, size: int) -> tuple[int, int]:
    """From where to where; one range, or all of it."""
    found = _RANGE.fullmatch(_header(request, "Range") or "")
    if found is None:
        return 0, size
    begin = int(found[1])
    end = min(size, int(found[2]) + 1) if found[2] else size
    if begin >= end:
        raise BadOffset("The file ends before that.", have=size)
    return begin, end
