"""The conversation of the literal dialect, in both roles (docs/protocol.rst).

One connection, one request.  The client says one line; the server answers
``recv_file`` with an accept line, takes the body and says a final line, and
everything else with the final line alone.  An ``error`` key in a line, and
nothing else, means failure, and that line is the last one.

Server role: the request becomes ``Do(1, ...)``.  ``Go`` is the accept line;
``implied`` then gives the ``Part`` that is the body and, once that is complete,
the ``End``.  ``Ok`` and ``Failed`` are the final line.  Between the accept line
and the final one nothing is ever written: an ae sender leaves it unread, and
its close would then destroy what it had still to send.

Client role: ``Do`` is the request line.  The accept line becomes ``Go``, the
final one ``Ok`` or ``Failed``; the offset in ``Go`` has no digest, it is the
receiver's word.  After ``End`` the client half-closes, because ae receivers read
whole blocks.  An ``error`` counts at once, a good final line never before all was
sent: while parts are missing it is refused, before our ``End`` it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import Factory, define

from lanxfer.errors import (
    BY_CODE,
    BadHeader,
    BadName,
    BadOffset,
    Forbidden,
    Foreign,
    Internal,
    LanxferError,
    UnknownCommand,
)
from lanxfer.sessions.single import SingleSession, Step, failed
from lanxfer.wire import limits
from lanxfer.wire.literal import (
    VALUES_MAX,
    format_error,
    format_literal,
    parse_error,
    parse_literal,
)
from lanxfer.wire.packets import (
    Args,
    Do,
    Failed,
    Go,
    Ok,
    Packet,
)

PORT = 36969

LIST_MAX = limits.MIB
"""Bytes of the one answer that may be long, the list; only controllers ask for it."""
LIST_VALUES_MAX = 32_768

_HALF = re.compile("[\ud800-\udfff]")


def _whole(text: str) -> str:
    """``text`` with each half character (a lone surrogate) replaced by U+FFFD."""
    return _HALF.sub("\ufffd", text)


# Requests, as a server reads them.


def _text(request: Args, field: str, default: str | None = None) -> str:
    value = request.get(field, default)
    if not isinstance(value, str):
        raise BadHeader(f"The request needs a text {field!r}.")
    return value


def _name(request: Args, field: str) -> str:
    value = _text(request, field)
    if not value or _HALF.search(value):
        raise BadHeader(f"The text {field!r} in the request is empty, or not Unicode.")
    return value


def request_id(request: Args) -> str:
    """The ``rt_id`` of a request; where it has none, the one an ae peer would have given it."""
    if given := _text(request, "rt_id", ""):
        return _whole(given)
    about = (request.get(key) for key in ("file_path", "message", "rt_id_to_cancel"))
    first = next((each for each in about if isinstance(each, str)), "")
    address = request.get("local_ip")
    where = address if isinstance(address, str) and address else "?"
    return _whole(f"{request.get('method_name')}:{first}@{where}")


def _recv_file(request: Args) -> dict[str, Any]:
    path = _name(request, "file_path")
    size = request.get("total_bytes")
    if size is None or size == 0:
        # The beginning is what ae controllers know; to them the two are one.
        raise BadHeader(
            "recv_file called without file name/length arguments: "
            "'total_bytes' in the request is missing or 0."
        )
    if type(size) is not int or size < 0:
        raise BadHeader("'total_bytes' in the request is not a number of bytes.")
    found = {"path": path, "size": size, "dialect": "literal"}
    if request.get("series_file"):
        found["conflict"] = "series"
    return found


def _recv_message(request: Args) -> dict[str, Any]:
    return {"text": _whole(_text(request, "message"))}


def _send_file(request: Args) -> dict[str, Any]:
    peer = _name(request, "remote_ip")
    series = _text(request, "local_ip", "") == peer
    return {"path": _name(request, "file_path"), "peer": peer, "legacy": True, "series": series}


def _send_message(request: Args) -> dict[str, Any]:
    return {**_recv_message(request), "peer": _name(request, "remote_ip"), "legacy": True}


def _pending_requests(request: Args) -> dict[str, Any]:
    return {}


def _cancel_request(request: Args) -> dict[str, Any]:
    return {"rt_id": _whole(_text(request, "rt_id_to_cancel"))}


_METHODS: dict[str, Callable[[Args], dict[str, Any]]] = {
    "recv_file": _recv_file,
    "recv_message": _recv_message,
    "send_file": _send_file,
    "send_message": _send_message,
    "pending_requests": _pending_requests,
    "cancel_request": _cancel_request,
}
"""All that a peer can reach; an ae peer would look up any name."""


def read_request(request: Args) -> Do:
    """The packet that a request dict means.

    Its arg ``request`` is the rt_id, invented where there is none, and ``literal``
    the whole dict.  In ``text`` and the ids half characters are replaced, so that
    whoever gets them may encode them.  Raises UnknownCommand, or BadHeader that
    names the field.
    """
    method = _text(request, "method_name")
    reader = _METHODS.get(method)
    if reader is None:
        raise UnknownCommand()
    args = reader(request)
    return Do(1, method, {**args, "request": request_id(request), "literal": dict(request)})


# Answers, as a client reads them.


def _read_failure(answer: Args, total: int) -> Failed:
    """A line with an ``error`` key; ``have`` where it tells what is there already."""
    text = answer["error"]
    code, reason = parse_error(text) if isinstance(text, str) else (Foreign.code, "")
    have = answer.get("transferred_bytes")
    if isinstance(text, str) and "already transferred" in text:
        have = total
    args = {"have": have} if type(have) is int and have >= 0 else {}
    return Failed(1, code, reason, BY_CODE.get(code, Foreign).retry, args)


def _details(answer: Args) -> dict[str, Any]:
    """The args of a good answer: the dict as it came, and the name of a series if it has one."""
    series = answer.get("series_file_name")
    named = {"series_file_name": series} if isinstance(series, str) else {}
    return {**named, "literal": answer}


@define
class LiteralSession(SingleSession):
    """See ``lanxfer.sessions.Session`` and the top of this module.

    ``local_ip``, ``remote_ip`` and ``port`` are what a client puts into its
    request: its own address, and the one it is connected to.
    """

    dialect = "literal"
    halves = True
    local_ip: str = ""
    remote_ip: str = ""
    port: int = PORT
    line_limit: int = limits.HEADER_LITERAL
    _request: dict[str, Any] = Factory(dict)
    _name: str = ""

    @property
    def _method(self) -> str:
        return str(self._request["method_name"])

    def ask(self, name: str, args: Args, body: int = 0) -> Do:
        """See ``Session``; raises Forbidden or BadName for what an ae peer cannot take."""
        if self.server or self._step is not Step.IDLE or body:
            raise ValueError("one request, by the client, without a body")
        self._compose(name, args)
        return Do(1, name, args)

    def complaint(self, error: Exception) -> bytes:
        """The error line, with the request if one was understood; a client has no such line."""
        self.finished = True
        if self._closed or not self.server:
            return b""
        known = error if isinstance(error, LanxferError) else Internal()
        return self._fail(Failed(1, known.code, known.reason, known.retry, known.details))

    def lost(self) -> Failed | None:
        """What the end of the stream means to a client that still waits for its final line.

        Once all was sent it is ``unconfirmed``, since another try might store or
        show the thing twice; a message is all in its request.  Before that it is
        ``connection-lost``.  A final line that was kept until our own end counts
        now; ``implied`` has it.  To a server it means nothing: it asked for
        nothing, and that a body was cut short the protocol sees for itself.
        """
        if self.server or self._step is Step.IDLE or self.finished:
            return None
        if self._kept is not None:
            self._settle()
            return None
        self._closed = self.finished = True
        gone = self._step is Step.GOING and self._position == self._total
        sent = gone or self._step is Step.ENDED or self._method.endswith("_message")
        return failed("unconfirmed" if sent else "connection-lost")

    # The server's half.

    def _requested(self, line: bytes) -> Do:
        self._request = parse_literal(line)
        do = read_request(self._request)
        self._step = Step.ASKED
        self._total = do.args.get("size", 0)
        return do

    def _answer(self, packet: Packet) -> bytes | None:
        match packet:
            case Go() if self._step is Step.ASKED and self._method == "recv_file":
                return self._accept(packet)
            case Ok() if self._step in (Step.ASKED, Step.ENDED):
                return self._last(self._good(packet))
            case Failed() if self._step is not Step.IDLE:
                return self._fail(packet)
        return None

    def _echo(self, **more: object) -> dict[str, Any]:
        # A request that brings an ``error`` along must not make every answer a failure.
        kept = {key: value for key, value in self._request.items() if key != "error"}
        return {**kept, **more}

    def _accept(self, go: Go) -> bytes:
        offset = go.have[0][0] if go.have else 0
        if not 0 <= offset <= self._total:
            raise ValueError(f"an offset of {offset} in {self._total}")
        if "series_file_name" in go.args:
            # The one detail of ours that ae peers know; the final line repeats it.
            self._request["series_file_name"] = go.args["series_file_name"]
        self._imply_body(offset)
        return format_literal(self._echo(transferred_bytes=offset))

    def _good(self, ok: Ok) -> Mapping[str, Any]:
        """The final line; of what was passed on, that receiver's own answer if we have it."""
        relayed = ok.args.get("literal")
        match self._method:
            case "recv_file":
                if "series_file_name" in self._request and "stored" in ok.args:
                    # Others may have been faster at that name, and it is the last word.
                    self._request["series_file_name"] = ok.args["stored"]
                return self._echo(transferred_bytes=self._total)
            case "recv_message":
                return self._echo(transferred_bytes=len(self._request["message"]))
            case "pending_requests":
                rows = ok.args.get("rows", ()) if ok.rows is None else ok.rows
                return self._echo(pending_requests=list(rows))
            case "send_file" | "send_message" if isinstance(relayed, Mapping):
                return relayed
            case "send_file":
                size = ok.args.get("size", 0)
                return self._echo(total_bytes=size, transferred_bytes=size)
            case "send_message":
                size = len(self._request["message"])
                return self._echo(total_bytes=size, transferred_bytes=size)
        return self._echo()

    def _fail(self, failed: Failed) -> bytes:
        have = failed.args.get("have")
        answer = self._echo() if type(have) is not int else self._echo(transferred_bytes=have)
        text = format_error(failed.code, failed.reason, have, self._request)
        return self._last({**answer, "error": text})

    def _last(self, answer: Mapping[str, Any]) -> bytes:
        self._end()
        return format_literal(answer)

    # The client's half.

    def _compose(self, name: str, args: Args) -> dict[str, Any]:
        """The request dict; its keys and their order are those of an ae peer."""
        ends = {"local_ip": self.local_ip, "remote_ip": self.remote_ip}
        match name:
            case "recv_file":
                path = _bare_name(args)
                request = {
                    "method_name": name,
                    "file_path": path,
                    "transferred_bytes": 0,
                    "total_bytes": args["size"],
                    "remote_ip": self.remote_ip,
                    "local_ip": self.local_ip,
                    "server_address": (self.remote_ip, self.port),
                    "rt_id": f"{name}:{path}@{self.local_ip}",
                }
                if args.get("conflict") == "series" or args.get("series"):
                    request["series_file"] = True
                return request
            case "recv_message":
                text = args["text"]
                return {
                    "method_name": name,
                    "message": text,
                    **ends,
                    "rt_id": f"{name}:{text}@{self.local_ip}",
                    "total_bytes": len(text),
                    "transferred_bytes": 0,
                    "server_address": (self.remote_ip, self.port),
                }
            case "send_file" | "send_message":
                file = name == "send_file"
                request = {
                    "method_name": name,
                    **({"file_path": args["path"]} if file else {"message": args["text"]}),
                    "remote_ip": args["peer"],
                    "local_ip": self.local_ip,
                }
            case "cancel_request":
                request = {"method_name": name, "rt_id_to_cancel": args["rt_id"]}
            case "pending_requests":
                request = {"method_name": name}
            case _:
                raise UnknownCommand("An ae peer has no such command.")
        # One that has only rt_id_to_cancel can make an ae server stumble over itself.
        rt_id = args.get("request") or request_id({**request, "local_ip": self.local_ip})
        return {**request, "rt_id": rt_id}

    def _demand(self, do: Do) -> bytes:
        self._request = self._compose(do.name, do.args)
        self._name = _last_part(do.args.get("path", ""))
        self._step = Step.ASKED
        self._total = self._request.get("total_bytes", 0)
        line = format_literal(self._request)
        # Answers repeat the request, and an error may quote it once more, escaped.
        self.line_limit = limits.HEADER_KNOWN + 4 * len(line)
        if do.name == "pending_requests":
            self.line_limit = LIST_MAX
        return line

    def _answered(self, line: bytes) -> Packet | None:
        if self._step is Step.IDLE:
            raise BadHeader("The other side answered before it was asked.")
        listed = self._method == "pending_requests"
        answer = parse_literal(
            line,
            limit=self.line_limit,
            depth=limits.DEPTH + 2,  # requests within a list within an answer
            values=LIST_VALUES_MAX if listed else 2 * VALUES_MAX,
        )
        if "error" in answer:
            self._closed = self.finished = True
            return _read_failure(answer, self._total)
        if self._step is Step.ASKED and self._method == "recv_file":
            return self._accepted(answer)
        if self._position < self._total and self._step is Step.GOING:
            raise BadHeader("The other side was done before all was sent.")
        self._kept = self._kept or self._outcome(answer)
        if self._step is Step.GOING:
            return None
        self._settle()
        return self.implied()

    def _accepted(self, answer: Args) -> Go:
        offset = answer.get("transferred_bytes")
        if type(offset) is not int:
            raise BadHeader("The answer needs a number 'transferred_bytes'.")
        if not 0 <= offset <= self._total:
            raise BadOffset("The other side wants to go on where the file does not reach.")
        self._step = Step.GOING
        self._position = offset
        return Go(1, self._total - offset, ((offset, ""),), _details(answer))

    def _outcome(self, answer: Args) -> Ok | Failed:
        """What a line without ``error`` says at the end."""
        if self._method == "pending_requests":
            rows = answer.get("pending_requests")
            if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
                raise BadHeader("The answer needs a list of dicts 'pending_requests'.")
            return Ok(1, {"rows": rows, "literal": answer})
        done = answer.get("transferred_bytes")
        size = done if type(done) is int else -1
        if self._method in ("recv_file", "recv_message") and size != self._total:
            if size < 0:
                return failed("unconfirmed")
            code = "short-body" if size < self._total else "bad-offset"
            return failed(code, f"The other side says it has {size} of {self._total}.")
        details = _details(answer)
        stored = details.get("series_file_name", self._name).rpartition("/")[2]
        return Ok(1, {"stored": stored, "size": max(size, 0), **details})


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _bare_name(args: Args) -> str:
    """The ``file_path`` for an ae receiver: a name alone, with what its formatter eats doubled."""
    if args.get("kind", "file") != "file":
        raise Forbidden("An ae device takes files and messages, nothing else.")
    if args["size"] == 0:
        raise Forbidden("The file is empty, and an ae device takes no empty files.")
    name = _last_part(args["path"])
    if name in ("", ".", "..") or "\\" in name or "\0" in name:
        raise BadName("An ae device cannot take a file of that name.")
    return name.replace("{", "{{").replace("}", "}}")
