"""Telling of runs: by mail, by a command, by a web server; and that it changes nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from devices import in_reactor
from servers import certificate, free_port
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.mail import imap4, smtp
from zope.interface import implementer

from lanxfer.jobs import configure

USER, SECRET = "carol", "top s3cret"


@implementer(smtp.IMessage)
class _Letter:
    def __init__(self, box: list[tuple[Message, list[str]]], whom: list[str]) -> None:
        self._box, self._whom, self._lines = box, whom, list[bytes]()

    def lineReceived(self, line: bytes) -> None:
        self._lines.append(line)

    def eomReceived(self) -> Any:
        self._box.append((message_from_bytes(b"\n".join(self._lines)), self._whom))
        return smtp.defer.succeed(None)

    def connectionLost(self) -> None:
        self._lines.clear()


@implementer(smtp.IMessageDelivery)
class _Delivery:
    def __init__(self, box: list[tuple[Message, list[str]]]) -> None:
        self._box = box

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b"Received: here"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Any:
        return lambda: _Letter(self._box, [str(user.dest)])


class _Realm:
    def __init__(self, delivery: _Delivery) -> None:
        self._delivery = delivery

    def requestAvatar(self, avatar: Any, mind: Any, *interfaces: Any) -> Any:
        return smtp.IMessageDelivery, self._delivery, lambda: None


class Post:
    """A mail server; ``box`` is what it took, ``logins`` who logged in."""

    def __init__(self, cert: Path | None, login: bool) -> None:
        self.box: list[tuple[Message, list[str]]] = []
        self.secure: list[bool] = []
        users = InMemoryUsernamePasswordDatabaseDontUse(**{USER: SECRET.encode()})
        context = None if cert is None else DefaultOpenSSLContextFactory(str(cert), str(cert))
        self.context = context
        delivery, secure = _Delivery(self.box), self.secure

        class Server(smtp.ESMTP):
            def do_MAIL(self, rest: bytes) -> Any:
                secure.append(bool(self.startedTLS))
                if login and not self.authenticated:
                    return self.sendCode(530, b"who are you?")
                return super().do_MAIL(rest)

        factory = smtp.SMTPFactory(Portal(_Realm(delivery), [users]))  # type: ignore[arg-type]
        challenge = {b"LOGIN": imap4.LOGINCredentials, b"PLAIN": imap4.PLAINCredentials}
        made = {"chal": challenge if login else {}, "contextFactory": context}

        def build(addr: Any) -> Any:
            found = Server(**made)
            found.factory, found.portal, found.host = factory, factory.portal, b"post"
            found.delivery = delivery
            return found

        factory.buildProtocol = build  # type: ignore[method-assign,assignment]
        self.factory = factory


@asynccontextmanager
async def post_office(
    cert: Path | None = None, *, login: bool = False, tls: bool = False
) -> AsyncIterator[tuple[Post, int]]:
    made = Post(cert, login)
    net: Any = reactor
    port = (
        net.listenSSL(0, made.factory, made.context, interface="127.0.0.1")
        if tls
        else net.listenTCP(0, made.factory, interface="127.0.0.1")
    )
    try:
        yield made, port.getHost().port
    finally:
        await port.stopListening()


class Job:
    """One file, and who is told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "in").mkdir()
        (folder / "in" / "a.txt").write_text("a")
        (folder / "jobs").mkdir()

    async def run(self, app: str, notify: str = "", *, bad: bool = False) -> int:
        (self.folder / "app.cfg").write_text(
            "[global]\njobs_dir = jobs\nlocks_dir = locks\ncollect_data = yes\n"
            f"[logging]\nlog_dir = logs\nlog_level = DEBUG\n{app}\n"
        )
        (self.folder / "jobs" / "j.cfg").write_text(
            "[job]\nname = Nightly\n[source]\npath = in\n[target]\npath = out\n"
            f"[notify]\n{notify}\n"
        )
        (self.folder / "out").mkdir(exist_ok=True)
        (self.folder / "out" / "a.txt").unlink(missing_ok=True)
        if bad:
            (self.folder / "out" / "a.txt").mkdir()
        try:
            return int((await configure(self.folder / "app.cfg", "j")[0]()).code)
        finally:
            if bad:
                (self.folder / "out" / "a.txt").rmdir()

    @property
    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("logs/*.log")))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


class MailTests:
    # covers: S4-38 S4-39 S4-49
    @in_reactor
    async def test_who_is_told(self, job: Job) -> None:
        """Of a good run one half of the addresses, of a bad one the other, of both the rest."""
        async with post_office() as (post, port):
            app = (
                f"[mail]\nhost = 127.0.0.1:{port}\nfrom = Jobs <jobs@example.org>\n"
                "[notify]\nsuccess = good@example.org\nerror = bad@example.org\n"
                "done = all@example.org"
            )
            assert await job.run(app, "success = mine@example.org") == 0
            assert await job.run(app, "success = mine@example.org", bad=True) == 1
        told = [(str(mail["Subject"]), str(mail["To"])) for mail, _ in post.box]
        good = "good@example.org, mine@example.org, all@example.org"
        assert sorted(set(told)) == [
            (
                "[ERROR] Nightly: some files were not transferred",
                "bad@example.org, all@example.org",
            ),
            ("[OK] Nightly: all files were transferred", good),
        ]
        whom = [name for mail, names in post.box for name in names if "OK" in str(mail["Subject"])]
        assert sorted(whom) == sorted(good.split(", "))
        mail = post.box[0][0]
        assert mail["From"] == "Jobs <jobs@example.org>"
        assert b"= a.txt (" in bytes(mail.get_payload(decode=True))

    # covers: S4-38
    @pytest.mark.parametrize(("security", "tls"), [("STARTTLS", False), ("TLS", True)])
    @in_reactor
    async def test_login_in_tls(self, job: Job, tmp_path: Path, security: str, tls: bool) -> None:
        """The password goes out in TLS only, to the server whose certificate is the right one."""
        cert = certificate(tmp_path)
        async with post_office(cert, login=True, tls=tls) as (post, port):
            app = (
                f"[mail]\nhost = 127.0.0.1:{port}\nsecurity = {security}\nuser = {USER}\n"
                f"password = {SECRET}\nfrom = jobs@example.org\n"
            )
            notify = "done = all@example.org"
            assert await job.run(app + f"tls_ca = {cert}", notify) == 0
            assert len(post.box) == 1
            assert await job.run(app, notify) == 0  # nobody vouches for that certificate
            assert len(post.box) == 1
        assert post.secure == [not tls]
        assert "not told: all@example.org" in job.logs
        assert SECRET not in job.logs

    # covers: S4-38
    @in_reactor
    async def test_no_tls_no_password(self, job: Job) -> None:
        """A server that has no TLS where it is wanted gets neither the password nor the mail."""
        async with post_office(login=True) as (post, port):
            app = (
                f"[mail]\nhost = 127.0.0.1:{port}\nsecurity = STARTTLS\nuser = {USER}\n"
                f"password = {SECRET}\nfrom = jobs@example.org\n"
            )
            assert await job.run(app, "done = all@example.org") == 0
        assert post.box == []
        assert "not told: all@example.org" in job.logs

    # covers: S4-73
    @in_reactor
    async def test_nobody_there(self, job: Job) -> None:
        """A mail that cannot be sent is in the log, word for word, and the run ends as it did."""
        app = f"[mail]\nhost = 127.0.0.1:{free_port()}\nfrom = jobs@example.org"
        assert await job.run(app, "done = all@example.org") == 0
        assert "not told: all@example.org" in job.logs
        assert "Nightly (j): all files were transferred" in job.logs
        assert await job.run(app, "done = all@example.org", bad=True) == 1

    # covers: S4-39
    @in_reactor
    async def test_no_mail_server(self, job: Job) -> None:
        """Addresses without a server are warned of, in the log of the run."""
        assert await job.run("", "done = all@example.org") == 0
        assert "there is no mail server" in job.logs


class HookTests:
    # covers: S4-39
    @in_reactor
    async def test_command(self, job: Job, tmp_path: Path) -> None:
        """A command has the report on its standard input, its heart in the environment."""
        told = tmp_path / "told"
        say = f'cat > {told}; echo "$LANXFER_JOB $LANXFER_JOB_EXIT" > {told}.env'
        notify = f"done = exec:sh -c '{say}'"
        assert await job.run("", notify) == 0
        row = json.loads(told.read_text())
        assert (row["job"], row["name"], row["exit"], row["files_cnt"]) == ("j", "Nightly", 0, 1)
        assert Path(f"{told}.env").read_text() == "j 0\n"

    # covers: S4-73
    @pytest.mark.parametrize(
        "command", ["sh -c 'echo no luck >&2; exit 3'", "/no/such/program", "sh -c '", ""]
    )
    @in_reactor
    async def test_command_fails(self, job: Job, command: str) -> None:
        """A command that fails is in the log with what it said, and changes nothing."""
        assert await job.run("", f"done = exec:{command}") == 0
        assert f"not told: exec:{command}".rstrip() in job.logs
        assert ("no luck" in job.logs) is ("luck" in command)

    # covers: S4-39 S4-36
    @in_reactor
    async def test_webhook(self, job: Job) -> None:
        """A web server gets the report as JSON; what its address says is nobody else's business."""
        with web_server() as (port, bodies):
            hook = f"http://127.0.0.1:{port}/hooks/t0ken?k=s3cret"
            assert await job.run("", f"done = {hook}") == 0
            assert await job.run("", f"done = {hook}-fail") == 0
        assert [(row["job"], row["exit"]) for row in bodies] == [("j", 0)] * 2
        assert f"told: http://127.0.0.1:{port}/..." in job.logs
        assert "It answered 500." in job.logs
        assert "t0ken" not in job.logs
        assert "s3cret" not in job.logs


@contextmanager
def web_server() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Takes what is posted; what ends in "fail" is answered with 500."""
    bodies = list[dict[str, Any]]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path.endswith("fail") else 204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    assert isinstance(server.socket, socket.socket)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port, bodies
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
