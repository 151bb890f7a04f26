"""lanxfer with real ae_transfer_service 0.3.14 peers, over loopback.

The peers run in an environment of their own (tests/interop/install_ae.py).  What
they cannot be made to do, such as breaking off in the middle, scripted sockets
do between them and us; and two lanxfers speak the dialect with each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import ifaddr
import pytest
from interop.ae_peer import AeApp, AeServer, needs_ae
from interop.children import PORT, new_address
from interop.lanxfer_peer import FOLDER, Lanxfer, Refused, Served
from interop.scripted import Listener, Wire, ramp7

from lanxfer.wire import limits
from lanxfer.wire.literal import format_literal, parse_literal

Request = dict[str, Any]


@pytest.fixture(scope="module")
def lanxfer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanxfer]:
    host = Lanxfer(tmp_path_factory.mktemp("lanxfer"))
    try:
        yield host
    finally:
        host.end()


@pytest.fixture(scope="module")
def served(lanxfer: Lanxfer) -> Served:
    """A service where real peers look for one: port 36969."""
    return lanxfer.service(port=PORT)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AeApp]:
    """The real client function."""
    process = AeApp(tmp_path_factory.mktemp("app"))
    try:
        yield process
    finally:
        process.end()


@pytest.fixture(scope="module")
def ae(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AeServer]:
    """A real server."""
    server = AeServer(tmp_path_factory.mktemp("ae"))
    try:
        yield server
    finally:
        server.end()


def eventually(found: Callable[[], Any], seconds: float = 5.0) -> Any:
    """What ``found`` gives as soon as it is something; what a real sender sent is not there yet
    when it says so."""
    until = time.monotonic() + seconds
    while not (result := found()) and time.monotonic() < until:
        time.sleep(0.02)
    assert result, "it did not happen"
    return result


def arrived(served: Served, path: str) -> bytes:
    """The content of a file of an ae peer, when it is there."""
    data = eventually(lambda: served.files().get(path))
    assert isinstance(data, bytes)
    return data


def recv_file(path: str, size: int, **more: Any) -> Request:
    rt_id = f"recv_file:{path}@127.0.0.1"
    base = {"method_name": "recv_file", "file_path": path, "total_bytes": size, "rt_id": rt_id}
    return {**base, **more}


def polled(app: AeApp, address: str, **how: Any) -> list[Request]:
    """The requests on the list there; real servers have log entries in it, too."""
    answer = app.request(address, {"method_name": "pending_requests", "rt_id": "poll"}, **how)
    assert "error" not in answer, answer
    rows = answer["pending_requests"]
    return [each for each in rows if not each["method_name"].endswith("_log")]


def made(folder: Path, name: str, size: int, seed: int = 0) -> tuple[Path, bytes]:
    """A file to send, and its content."""
    data = ramp7(0, size, seed)
    path = folder / name
    path.write_bytes(data)
    return path, data


@needs_ae
class RealClientTests:
    """The real client function against our service."""

    def test_message(self, app: AeApp, served: Served) -> None:
        """Every key comes back, the count is in characters, and the text is handed over."""
        request = {"method_name": "recv_message", "message": "grüß 'dich'\n😀", "total_bytes": 13}
        answer = app.request(served.address, {**request, "rt_id": "m", "mine": (1, [2.5, None])})
        assert answer.pop("server_address") == (served.address, PORT)
        assert answer.pop("local_ip") == "127.0.0.1"
        assert answer == {
            **request,
            "rt_id": "m",
            "mine": (1, [2.5, None]),
            "transferred_bytes": 13,
        }
        assert served.messages()[-1] == "grüß 'dich'\n😀"

    @pytest.mark.parametrize("half_closed", [True, False])
    def test_file(self, app: AeApp, served: Served, tmp_path: Path, half_closed: bool) -> None:
        """Accept line, body, final line, the last whether or not the stream is ended."""
        path, data = made(tmp_path, f"fresh-{half_closed}.bin", 40_001)
        request = recv_file(path.name, len(data), message=7, remote_ip=None)  # not its keys
        accept = app.request(served.address, request, keep="fresh")
        assert accept["transferred_bytes"] == 0
        assert "error" not in accept
        app.send("fresh", path, 0, len(data))
        if half_closed:
            app.half_close("fresh")
        final = app.line("fresh")
        assert final == {**accept, "transferred_bytes": len(data)}
        assert served.files()[path.name] == data

    @pytest.mark.parametrize("sent", [1, 49_152, 70_001, 99_999])
    def test_resumed(self, app: AeApp, served: Served, tmp_path: Path, sent: int) -> None:
        """After a break the second accept line has the offset, and only the rest is sent."""
        path, data = made(tmp_path, f"cut-{sent}.bin", 100_000, seed=sent)
        request = recv_file(path.name, len(data))
        first = app.request(served.address, request, keep="cut")
        assert first["transferred_bytes"] == 0
        app.send("cut", path, 0, sent)
        app.close("cut")
        eventually(lambda: not served.pending())
        assert path.name not in served.files()
        second = app.request(served.address, request, keep="cut")
        assert second == {**first, "transferred_bytes": sent}
        app.send("cut", path, sent, len(data) - sent)
        app.half_close("cut")
        assert app.line("cut")["transferred_bytes"] == len(data)
        assert served.files()[path.name] == data

    def test_already_complete(self, app: AeApp, served: Served, tmp_path: Path) -> None:
        """A file of that length is there: one line with the words that controllers show."""
        path, data = made(tmp_path, "done.bin", 500)
        for _ in range(2):
            answer = app.request(served.address, recv_file("done.bin", 500), keep="done")
            if "error" not in answer:
                app.send("done", path, 0, 500)
                assert app.line("done")["transferred_bytes"] == 500
        assert "already transferred" in answer["error"]
        assert answer["transferred_bytes"] == 500
        assert served.files()["done.bin"] == data

    def test_series(self, app: AeApp, served: Served, tmp_path: Path) -> None:
        """The same file as one of a series is another file each time, two at once as well."""
        path, data = made(tmp_path, "pic.tar.gz", 300)
        request = recv_file("pic.tar.gz", 300, series_file=True)
        names = []
        for keep in ("one", "two"):
            names.append(app.request(served.address, request, keep=keep)["series_file_name"])
        for keep in ("one", "two"):
            app.send(keep, path, 0, 300)
            assert app.line(keep)["series_file_name"] in names
        names.append(app.request(served.address, request, keep="three")["series_file_name"])
        app.send("three", path, 0, 300)
        assert "error" not in app.line("three")
        assert names == [f"{FOLDER}/pic.tar {number}.gz" for number in ("01", "02", "03")]
        for name in names:
            assert served.files()[Path(name).name] == data

    def test_pending(self, app: AeApp, served: Served, tmp_path: Path) -> None:
        """A transfer is listed while it runs, once when it is over, and then no more."""
        path, data = made(tmp_path, "run.bin", 100_000)
        polled(app, served.address)
        request = recv_file("run.bin", len(data))
        app.request(served.address, request, keep="run")
        app.send("run", path, 0, 60_000)

        def progress() -> Any:
            (row,) = polled(app, served.address)
            assert not {"completed", "error"} & row.keys()
            return row.get("transferred_bytes")

        assert eventually(progress) == 60_000
        app.send("run", path, 60_000, 40_000)
        app.line("run")
        (row,) = polled(app, served.address)
        assert {key: row[key] for key in request} == request
        assert row["completed"] is True
        assert row["transferred_bytes"] == 100_000
        assert polled(app, served.address) == []

    def test_cancel(self, app: AeApp, served: Served, tmp_path: Path) -> None:
        """A running reception is cancelled by its id: an error for its sender, nothing is kept."""
        path, data = made(tmp_path, "stop.bin", 100_000)
        polled(app, served.address)
        request = recv_file("stop.bin", len(data))
        app.request(served.address, request, keep="stop")
        app.send("stop", path, 0, 30_000)
        cancel = {"method_name": "cancel_request", "rt_id_to_cancel": request["rt_id"]}
        answer = app.request(served.address, {**cancel, "rt_id": "cancel"})
        assert "error" not in answer
        assert "cancelled" in app.line("stop")["error"]
        failed, cancelled = polled(app, served.address)
        assert "error" in failed
        assert cancelled["completed"] is True
        assert "stop.bin" not in served.files()
        assert 30_000 not in served.unfinished()
        again = app.request(served.address, {**cancel, "rt_id": "cancel"})
        assert "not found/cancelled" in again["error"]

    def test_bug_here(self, app: AeApp, served: Served) -> None:
        """A bug of the application is an error without its words, and listed as one, once."""
        polled(app, served.address)
        request = {"method_name": "recv_message", "message": "break", "total_bytes": 5}
        answer = app.request(served.address, {**request, "rt_id": "b"})
        assert "internal" in answer["error"]
        assert "has a bug" not in str(answer)
        (row,) = polled(app, served.address)
        assert "error" in row
        assert polled(app, served.address) == []

    @pytest.mark.parametrize("much", [50, 3_000_000])
    def test_too_much(self, app: AeApp, served: Served, tmp_path: Path, much: int) -> None:
        """No byte behind the declared ones is stored, and none of it is taken for a request."""
        path, data = made(tmp_path, f"much-{much}.bin", much)
        accept = app.request(served.address, recv_file(path.name, 20), keep="much")
        assert accept["transferred_bytes"] == 0
        with suppress(AssertionError):  # it may be cut off in the middle
            app.send("much", path, 0, much)
        eventually(lambda: not served.pending())
        assert served.files().get(path.name, data[:20]) == data[:20]
        assert max(served.unfinished(), default=0) != much

    @pytest.mark.parametrize(
        ("path", "stored"),
        [
            ("{doc}/../up.txt", None),
            ("../../up.txt", None),
            ("{doc}\\..\\up.txt", None),
            ("{home}/home.txt", "home.txt"),
            ("{videos}/film.txt", "Videos/film.txt"),
            ("{doc}/{doc}/twice.txt", "Documents/twice.txt"),
            ("/etc/cron.d/job.txt", "job.txt"),
            ("~/notes", "notes"),
            ("~/.bashrc", None),
            ("{0.__class__}/class.txt", "class.txt"),
            ("{doc!r}.txt", "{doc!r}.txt"),
            ("{doc:99999999}.txt", None),
            ("{cwd}", None),
            (".lanxfer-staging/x", "x"),
            ("x/.lanxfer-staging", None),
        ],
    )
    def test_paths(self, app: AeApp, served: Served, path: str, stored: str | None) -> None:
        """Whatever a peer names is one file in the folder for such peers, or refused."""
        # covers: J22
        answer = app.request(served.address, recv_file(path, 9), keep="path")
        if stored is None:
            assert "bad-name" in answer["error"]
            return
        assert "error" not in answer
        with_size = served.inbox.parent / "nine"
        with_size.write_bytes(b"123456789")
        app.send("path", with_size, 0, 9)
        assert app.line("path")["transferred_bytes"] == 9
        assert served.files()[stored] == b"123456789"


@pytest.fixture(scope="module")
def open_to_peers(lanxfer: Lanxfer) -> Served:
    """A service at which callers on this machine are peers like any other."""
    return lanxfer.service(port=PORT, legacy="receive")


@needs_ae
class StrangerTests:
    """Callers that may do less than an app on this machine (security design, section 7)."""

    @pytest.mark.parametrize("method", ["send_file", "send_message"])
    def test_sending_is_for_controllers(
        self, app: AeApp, open_to_peers: Served, method: str
    ) -> None:
        """Nobody but an app on this machine makes this device send, and only if that is let in."""
        # covers: J20
        request = {"file_path": "/etc/hostname", "message": "x", "remote_ip": "127.0.0.1"}
        answer = app.request(open_to_peers.address, {"method_name": method, **request})
        assert "forbidden" in answer["error"]

    def test_sending_is_not_for_the_network(self, lanxfer: Lanxfer, app: AeApp) -> None:
        """With "full", too, a caller that is not on a loopback address cannot make us send."""
        # covers: J20
        address = _own_address()
        if address is None:
            pytest.skip("this machine has no other address than its loopback one")
        served = lanxfer.service(port=PORT, address=address, legacy_from=("0.0.0.0/0",))
        listener = Listener(receiver := new_address(), lambda wire: None)
        request = {"method_name": "send_file", "file_path": "/etc/hostname", "remote_ip": receiver}
        answer = app.request(served.address, request, source=address)
        assert "forbidden" in answer["error"]
        assert "transferred_bytes" not in answer
        Wire.to(receiver, PORT).close()  # nobody else came
        listener.join()
        message = {"method_name": "recv_message", "message": "x", "total_bytes": 1}
        assert "error" not in app.request(served.address, message, source=address)
        served.stop()

    def test_of_others(self, app: AeApp, open_to_peers: Served, tmp_path: Path) -> None:
        """Another address sees nothing of a transfer and cannot cancel it, whatever id it uses."""
        # covers: J21
        mine, other = new_address(), new_address()
        path, data = made(tmp_path, "mine.bin", 50_000)
        request = recv_file("/home/me/mine.bin", len(data), rt_id="shared id")
        app.request(open_to_peers.address, request, keep="mine", source=mine)
        app.send("mine", path, 0, 10_000)
        assert polled(app, open_to_peers.address, source=other) == []
        answers = []
        for id in ("shared id", "never seen"):
            cancel = {"method_name": "cancel_request", "rt_id_to_cancel": id, "rt_id": "c"}
            answer = app.request(open_to_peers.address, cancel, source=other)
            answers.append(answer["error"].replace(id, "…"))
        assert answers[0] == answers[1]
        assert "not found/cancelled" in answers[0]
        # The same id, chosen by somebody else as well, does not get in the way.
        theirs = recv_file("theirs.bin", 5, rt_id="shared id")
        app.request(open_to_peers.address, theirs, keep="theirs", source=other)
        (row,) = polled(app, open_to_peers.address, source=mine)
        assert row["file_path"] == "/home/me/mine.bin"
        assert str(open_to_peers.inbox) not in str(row)
        cancel = {"method_name": "cancel_request", "rt_id_to_cancel": "shared id", "rt_id": "c"}
        assert "error" not in app.request(open_to_peers.address, cancel, source=mine)
        assert "cancelled" in app.line("mine")["error"]
        app.send("theirs", path, 0, 5)
        assert app.line("theirs")["transferred_bytes"] == 5

    def test_from_elsewhere(self, app: AeApp, lanxfer: Lanxfer) -> None:
        """An address outside the networks that are let in hears one word and no more."""
        # covers: J21
        mine = new_address()
        served = lanxfer.service(port=PORT, legacy_from=(mine,))
        message = {"method_name": "recv_message", "message": "x", "total_bytes": 1}
        assert "error" not in app.request(served.address, message, source=mine)
        answer = app.request(served.address, message, source=new_address())
        assert answer["code"] == "tls-required"
        assert "error" in answer
        assert served.messages() == ["x"]
        served.stop()


def _own_address() -> str | None:
    found = (ip.ip for each in ifaddr.get_adapters() for ip in each.ips)
    return next(
        (each for each in found if isinstance(each, str) and not each.startswith("127.")), None
    )


@needs_ae
class RealSenderTests:
    """A real server that is told to send to our service."""

    def told(self, app: AeApp, ae: AeServer, path: Path, to: str) -> Request:
        request = {"method_name": "send_file", "file_path": str(path), "remote_ip": to}
        return app.request(ae.address, {**request, "rt_id": f"send:{path}"}, timeout=None)

    @pytest.mark.parametrize(
        ("name", "size"),
        [
            ("one.bin", 1),
            ("block.bin", 16_384),
            ("more.bin", 16_385),
            ("large.bin", 5_000_000),
            ('Müller\'s "Bericht" ☃.txt', 1000),
            ("日本 語.tar.gz", 1000),
        ],
    )
    def test_file(self, app: AeApp, ae: AeServer, served: Served, name: str, size: int) -> None:
        """It arrives as it was, and the sender says so."""
        path, data = made(ae.folder, name, size)
        answer = self.told(app, ae, path, served.address)
        assert "error" not in answer
        assert answer["transferred_bytes"] == size
        assert answer["file_path"] == f"{{cwd}}/{name}"
        assert arrived(served, name) == data

    def test_from_documents(self, app: AeApp, ae: AeServer, served: Served) -> None:
        """What lies in its documents folder goes to a folder of that name."""
        path, data = made(ae.home / "Documents", "letter.txt", 5000)
        answer = self.told(app, ae, path, served.address)
        assert answer["file_path"] == "{doc}/letter.txt"
        assert arrived(served, "Documents/letter.txt") == data

    def test_resumed(self, app: AeApp, ae: AeServer, served: Served) -> None:
        """A break on the way costs nothing but the time: only the rest is sent again."""
        path, data = made(ae.folder, "broken.bin", 3_000_000)
        offsets: list[int] = []
        bodies: list[bytes] = []

        def through(wire: Wire, much: int) -> None:
            """Pass a transfer on, with at most so many bytes of its body."""
            with Wire.to(served.address, PORT) as there:
                there.send(wire.line())
                accept = there.line()
                offsets.append(parse_literal(accept[:-1])["transferred_bytes"])
                wire.send(accept)
                bodies.append(wire.read(much))
                there.send(bodies[-1])

        on_the_way = new_address()
        listener = Listener(
            on_the_way, lambda wire: through(wire, 1_234_567), lambda wire: through(wire, len(data))
        )
        # What it says then is worth nothing: all may be in its network stack already.
        self.told(app, ae, path, on_the_way)
        eventually(lambda: not served.pending())
        assert 1_234_567 in served.unfinished()
        assert "error" not in self.told(app, ae, path, on_the_way)
        listener.join()
        assert offsets == [0, 1_234_567]
        assert [len(each) for each in bodies] == [1_234_567, 3_000_000 - 1_234_567]
        assert arrived(served, "broken.bin") == data
        assert 1_234_567 not in served.unfinished()

    def test_already_there(self, app: AeApp, ae: AeServer, served: Served) -> None:
        """Its controller hears that the file is there already."""
        path, _ = made(ae.folder, "twice.bin", 700)
        self.told(app, ae, path, served.address)
        arrived(served, "twice.bin")
        assert "already transferred" in self.told(app, ae, path, served.address)["error"]

    def test_message(self, app: AeApp, ae: AeServer, served: Served) -> None:
        """A message is passed on with our answer."""
        request = {"method_name": "send_message", "message": "ä\n'x'", "remote_ip": served.address}
        answer = app.request(ae.address, {**request, "rt_id": "sm"})
        assert answer["method_name"] == "recv_message"
        assert answer["transferred_bytes"] == 5
        assert served.messages()[-1] == "ä\n'x'"


@needs_ae
class OurSenderTests:
    """Our client against a real server."""

    def test_message(self, app: AeApp, ae: AeServer, lanxfer: Lanxfer) -> None:
        """A text arrives, and is listed there as it was."""
        polled(app, ae.address)
        text = 'it\'s "quoted" \\ back\nnew ünï 😀'
        assert lanxfer.send(ae.address, text=text)["size"] == len(text.encode())
        (row,) = (each for each in polled(app, ae.address) if "message" in each)
        assert row["message"] == text
        assert row["completed"] is True

    @pytest.mark.parametrize("size", [1, 16_383, 16_384, 65_536, 5_000_000])
    def test_file(self, ae: AeServer, lanxfer: Lanxfer, tmp_path: Path, size: int) -> None:
        """A file arrives and is confirmed, whole blocks or not."""
        path, data = made(tmp_path, f"size-{size}.bin", size)
        receipt = lanxfer.send(ae.address, path=str(path))
        assert (receipt["stored"], receipt["size"]) == (path.name, size)
        assert (ae.folder / path.name).read_bytes() == data

    @pytest.mark.parametrize(
        "name",
        [
            "{cwd}.txt",
            "{{x}}.txt",
            "{.txt",
            "{}.txt",
            'it\'s "both".txt',
            "ünïcödé ☃ 日本.txt",
            ".hidden",
            "two\nlines",
        ],
    )
    def test_names(self, ae: AeServer, lanxfer: Lanxfer, tmp_path: Path, name: str) -> None:
        """A name arrives as it was, whatever the receiver's formatter makes of such characters."""
        path, data = made(tmp_path, name, 50)
        assert lanxfer.send(ae.address, path=str(path))["stored"] == name
        assert (ae.folder / name).read_bytes() == data

    def test_already_there(self, ae: AeServer, lanxfer: Lanxfer, tmp_path: Path) -> None:
        """A file of that length is there: Exists, and nothing is sent."""
        path, _ = made(tmp_path, "there.bin", 900)
        made(ae.folder, "there.bin", 900, seed=5)
        with pytest.raises(Refused) as caught:
            lanxfer.send(ae.address, path=str(path))
        assert caught.value.code == "exists"
        assert "already transferred" in caught.value.reason

    @pytest.mark.parametrize(("size", "held"), [(1000, 400), (1000, 0), (3_000_000, 1_000_000)])
    def test_part_there(
        self, ae: AeServer, lanxfer: Lanxfer, tmp_path: Path, size: int, held: int
    ) -> None:
        """A real receiver refuses to go on with a part; the file goes there as one of a series."""
        path, data = made(tmp_path, f"part-{size}-{held}.bin", size)
        (ae.folder / path.name).write_bytes(data[:held])
        receipt = lanxfer.send(ae.address, path=str(path))
        assert receipt["stored"] == f"{path.stem} 01.bin"
        assert receipt["resumed_from"] == 0
        assert (ae.folder / receipt["stored"]).read_bytes() == data
        assert (ae.folder / path.name).read_bytes() == data[:held]

    def test_series(self, ae: AeServer, lanxfer: Lanxfer, tmp_path: Path) -> None:
        """Sent as one of a series, a file gets the next number."""
        path, _ = made(tmp_path, "shot.png", 10)
        sent = [lanxfer.send(ae.address, path=str(path), conflict="series") for _ in range(2)]
        assert [each["stored"] for each in sent] == ["shot 01.png", "shot 02.png"]

    @pytest.mark.parametrize("name", ["folder", "~"])
    def test_folder_in_the_way(
        self, ae: AeServer, lanxfer: Lanxfer, tmp_path: Path, name: str
    ) -> None:
        """A folder of that name there, or what it takes for one, is a refusal with a type."""
        path, _ = made(tmp_path, name, 10)
        (ae.folder / name).mkdir()
        with pytest.raises(Refused) as caught:
            lanxfer.send(ae.address, path=str(path))
        assert caught.value.code == "exists"

    def test_empty(self, ae: AeServer, lanxfer: Lanxfer, tmp_path: Path) -> None:
        """An empty file is refused before anything is said."""
        path, _ = made(tmp_path, "empty", 0)
        with pytest.raises(Refused) as caught:
            lanxfer.send(ae.address, path=str(path))
        assert caught.value.code == "forbidden"
        assert not (ae.folder / "empty").exists()


class OurSenderScriptedTests:
    """Our client against receivers as real ones can be, but cannot be made to be."""

    def test_unconfirmed(self, lanxfer: Lanxfer, tmp_path: Path) -> None:
        """All was sent and the last line is missing: nobody knows, and nothing is sent again."""
        path, data = made(tmp_path, "lost.bin", 100_000)
        bodies: list[bytes] = []

        def forgetful(wire: Wire) -> None:
            wire.line()
            wire.send(b"{'transferred_bytes': 0}\n")
            bodies.append(wire.rest())

        listener = Listener(address := new_address(), forgetful)
        with pytest.raises(Refused) as caught:
            lanxfer.send(address, path=str(path), patience=10.0)
        listener.join()
        assert caught.value.code == "unconfirmed"
        assert bodies == [data]

    def test_unconfirmed_message(self, lanxfer: Lanxfer) -> None:
        """A message whose answer is missing may have been read, and is not sent twice."""
        listener = Listener(address := new_address(), lambda wire: bool(wire.line()) and None)
        with pytest.raises(Refused) as caught:
            lanxfer.send(address, text="x", patience=10.0)
        listener.join()
        assert caught.value.code == "unconfirmed"

    def test_faster_than_our_end(
        self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """A receiver of whole blocks says its last word and closes before we end the stream."""
        host = Lanxfer(tmp_path_factory.mktemp("slow"))
        try:
            host.ask("slow_check", seconds=0.3)
            path, data = made(tmp_path, "blocks.bin", 32_768)

            def fast(wire: Wire) -> None:
                wire.line()
                wire.send(b"{'transferred_bytes': 0}\n")
                assert wire.read(len(data)) == data
                wire.send(b"{'transferred_bytes': 32768}\n")

            listener = Listener(address := new_address(), fast)
            assert host.send(address, path=str(path))["size"] == 32_768
            listener.join()
        finally:
            host.end()

    def test_unreachable(self, lanxfer: Lanxfer, tmp_path: Path) -> None:
        """Nobody listens there."""
        path, _ = made(tmp_path, "x", 5)
        for what in ({"path": str(path)}, {"text": "x"}):
            with pytest.raises(Refused) as caught:
                lanxfer.send(new_address(), **what)
            assert caught.value.code == "unreachable"

    def test_interrupted_and_resumed(self, lanxfer: Lanxfer, tmp_path: Path) -> None:
        """A break in the body is made good from the offset that the receiver then names."""
        path, data = made(tmp_path, "again.bin", 30_000_000)

        def cut(wire: Wire) -> None:
            wire.line()
            wire.send(b"{'transferred_bytes': 0}\n")
            assert wire.read(1_000_000) == data[:1_000_000]
            wire.reset()

        def rest(wire: Wire) -> None:
            wire.line()
            wire.send(b"{'transferred_bytes': 1000000}\n")
            assert wire.rest() == data[1_000_000:]
            wire.send(b"{'transferred_bytes': 30000000}\n")

        listener = Listener(address := new_address(), cut, rest)
        receipt = lanxfer.send(address, path=str(path), patience=10.0)
        listener.join()
        assert receipt["resumed_from"] == 1_000_000

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (b"{'transferred_bytes': -1}\n", "bad-offset"),
            (b"{'transferred_bytes': 11}\n", "bad-offset"),
            (b"{'transferred_bytes': True}\n", "bad-header"),
            (b"{'transferred_bytes': 1e999}\n", "bad-header"),
            (b"__import__('os')\n", "bad-header"),
            (b"{'error': None}\n", "unknown-reason"),
            (b"{" * 3000 + b"\n", "bad-header"),
            (b"x" * 100_000, "header-too-long"),
            (b"HTTP/1.0 400 Bad Request\r\n\r\n", "bad-header"),
        ],
    )
    def test_odd_answers(self, lanxfer: Lanxfer, tmp_path: Path, answer: bytes, code: str) -> None:
        """Whatever comes instead of an accept line is an error with a type, and not a byte goes."""
        # covers: J01 J04
        path, _ = made(tmp_path, "ten.bin", 10)

        def odd(wire: Wire) -> None:
            wire.line()
            wire.send(answer)
            assert wire.rest() == b""

        listener = Listener(address := new_address(), odd)
        with pytest.raises(Refused) as caught:
            lanxfer.send(address, path=str(path))
        listener.join()
        assert caught.value.code == code


def slow_receiver() -> tuple[Listener, str, Event]:
    """One that accepts a file and then does not read on until it is told to."""
    go_on = Event()

    def slow(wire: Wire) -> None:
        wire.line()
        wire.send(b"{'transferred_bytes': 0}\n")
        wire.read(100_000)
        assert go_on.wait(10)
        assert len(wire.rest()) < 25_000_000

    address = new_address()
    return Listener(address, slow), address, go_on


def moving(app: AeApp, served: Served) -> Request | None:
    """The first transfer on the list, if some of it was sent."""
    rows = polled(app, served.address)
    return rows[0] if rows and rows[0].get("transferred_bytes") else None


@needs_ae
class ControllerTests:
    """A real client function asks our service to send, as an app on the same device does."""

    def test_file(self, app: AeApp, ae: AeServer, served: Served, tmp_path: Path) -> None:
        """Our service sends to a real one; the app gets that one's answer."""
        path, data = made(tmp_path, "by-control.bin", 200_000)
        request = {"method_name": "send_file", "file_path": str(path), "remote_ip": ae.address}
        answer = app.request(served.address, {**request, "rt_id": "s"}, timeout=None)
        assert "error" not in answer
        assert answer["method_name"] == "recv_file"
        assert answer["transferred_bytes"] == answer["total_bytes"] == 200_000
        assert (ae.folder / path.name).read_bytes() == data

    def test_message(self, app: AeApp, ae: AeServer, served: Served) -> None:
        """A message as well."""
        polled(app, ae.address)
        request = {"method_name": "send_message", "message": "ça va?", "remote_ip": ae.address}
        answer = app.request(served.address, {**request, "rt_id": "s"})
        assert "error" not in answer
        assert answer["method_name"] == "recv_message"
        assert answer["transferred_bytes"] == 6
        (row,) = (each for each in polled(app, ae.address) if "message" in each)
        assert row["message"] == "ça va?"

    def test_refusals(self, app: AeApp, ae: AeServer, served: Served, tmp_path: Path) -> None:
        """What goes wrong is an error at once: the app waits 2.7 seconds and no longer."""
        path, _ = made(tmp_path, "wrong.bin", 10)
        empty, _ = made(tmp_path, "nothing.bin", 0)
        (ae.folder / "wrong.bin").write_bytes(b"0123456789")
        for name, to, words in [
            (path, ae.address, "already transferred"),
            (path, new_address(), "transfer_service.connect_and_request() exception"),
            (empty, ae.address, "is empty"),
            (tmp_path / "missing", ae.address, "There is no"),
            (path, "not a host", "bad-config"),
        ]:
            request = {"method_name": "send_file", "file_path": str(name), "remote_ip": to}
            answer = app.request(served.address, {**request, "rt_id": "s"})
            assert words in answer["error"], (name, to)

    def test_progress_and_cancel(self, app: AeApp, served: Served, tmp_path: Path) -> None:
        """What is being sent is listed with its progress, and can be cancelled."""
        path, _ = made(tmp_path, "slow.bin", 30_000_000)
        listener, address, go_on = slow_receiver()
        polled(app, served.address)
        request = {"method_name": "send_file", "file_path": str(path), "remote_ip": address}
        sending = app.begin(served.address, {**request, "rt_id": "slow"}, timeout=None)
        row = eventually(lambda: moving(app, served))
        assert {key: row[key] for key in request} == request
        assert row["rt_id"] == "slow"
        assert row["total_bytes"] == 30_000_000
        cancel = {"method_name": "cancel_request", "rt_id_to_cancel": "slow", "rt_id": "c"}
        assert "error" not in app.request(served.address, cancel)
        assert "cancelled" in app.wait(sending)["error"]
        go_on.set()
        listener.join()
        assert len(polled(app, served.address)) == 2
        assert polled(app, served.address) == []

    def test_what_others_asked_for(self, app: AeApp, served: Served, tmp_path: Path) -> None:
        """What the service sends by itself is listed and can be cancelled as well."""
        path, _ = made(tmp_path, "others.bin", 30_000_000)
        listener, address, go_on = slow_receiver()
        polled(app, served.address)
        sending = served.begin_tell(path=str(path), peer=address, legacy=True)
        row = eventually(lambda: moving(app, served))
        assert (row["method_name"], row["remote_ip"]) == ("send_file", "")
        assert row["file_path"] == "others.bin"
        cancel = {"method_name": "cancel_request", "rt_id_to_cancel": row["rt_id"], "rt_id": "c"}
        assert "error" not in app.request(served.address, cancel)
        with pytest.raises(Refused) as caught:
            served.host.sent(sending)
        assert caught.value.code == "cancelled"
        go_on.set()
        listener.join()
        over, _ = polled(app, served.address)
        assert over["rt_id"] == row["rt_id"]
        assert "error" in over
        assert polled(app, served.address) == []

    def test_shares(self, app: AeApp, lanxfer: Lanxfer, ae: AeServer, tmp_path: Path) -> None:
        """Where folders are shared, a controller can have nothing else sent, links included."""
        # covers: J20
        shared, secret = tmp_path / "shared", tmp_path / "secret.txt"
        shared.mkdir()
        secret.write_bytes(b"secret")
        made(shared, "open.txt", 10)
        (shared / "link").symlink_to(secret)
        served = lanxfer.service(port=PORT, shares=(str(shared),))
        for path, good in [
            (shared / "open.txt", True),
            (secret, False),
            (shared / ".." / "secret.txt", False),
            (shared / "link", False),
        ]:
            request = {"method_name": "send_file", "file_path": str(path), "remote_ip": ae.address}
            answer = app.request(served.address, {**request, "rt_id": "s"}, timeout=None)
            assert ("error" not in answer) is good, path
        assert not (ae.folder / "secret.txt").exists()
        assert not (ae.folder / "link").exists()
        served.stop()


class BothOursTests:
    """Two lanxfers that speak the literal dialect with each other."""

    def test_file_and_message(self, lanxfer: Lanxfer, served: Served, tmp_path: Path) -> None:
        """Files and texts arrive."""
        path, data = made(tmp_path, "ours {x} ü.bin", 3_000_000)
        receipt = lanxfer.send(served.address, path=str(path))
        assert receipt["stored"] == path.name
        assert served.files()[path.name] == data
        lanxfer.send(served.address, text="zwischen uns")
        assert served.messages()[-1] == "zwischen uns"

    def test_resumed(self, lanxfer: Lanxfer, served: Served, tmp_path: Path) -> None:
        """What is there of a file is not sent again, and nothing of it is taken for a conflict."""
        path, data = made(tmp_path, "half.bin", 500_000)
        with Wire.to(served.address, PORT) as wire:
            wire.send(format_literal(recv_file("half.bin", len(data))) + data[:123_456])
        eventually(lambda: not served.pending() and 123_456 in served.unfinished())
        receipt = lanxfer.send(served.address, path=str(path))
        assert receipt["resumed_from"] == 123_456
        assert served.files()["half.bin"] == data

    def test_codes(self, lanxfer: Lanxfer, served: Served, tmp_path: Path) -> None:
        """Refusals keep their code."""
        path, _ = made(tmp_path, "once.bin", 50)
        lanxfer.send(served.address, path=str(path))
        bad, _ = made(tmp_path, "con.txt", 50)
        for what, code in [
            ({"path": str(path)}, "exists"),
            ({"path": str(bad)}, "bad-name"),
            ({"text": "x" * limits.HEADER_LITERAL}, "header-too-long"),
        ]:
            with pytest.raises(Refused) as caught:
                lanxfer.send(served.address, **what)
            assert caught.value.code == code

    def test_series(self, lanxfer: Lanxfer, served: Served, tmp_path: Path) -> None:
        """The receipt has the name that the file got."""
        path, data = made(tmp_path, "cam.jpg", 50)
        sent = [lanxfer.send(served.address, path=str(path), conflict="series") for _ in range(2)]
        assert [each["stored"] for each in sent] == ["cam 01.jpg", "cam 02.jpg"]
        assert served.files()["cam 02.jpg"] == data


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The one service of its process, started without --legacy."""
    host = Lanxfer(tmp_path_factory.mktemp("off"))
    try:
        yield host.service(legacy="off", legacy_from=())
    finally:
        host.end()


class OffTests:
    """Without --legacy."""

    @pytest.mark.parametrize(
        "line",
        [
            b"{'method_name': 'recv_message', 'message': 'x', 'total_bytes': 1}\n",
            b'{"method_name": "pending_requests"}\n',
            b"{'",
        ],
    )
    def test_one_line(self, off: Served, line: bytes) -> None:
        """One line, which ae peers can read too, and the end; the dialect is not even loaded."""
        with Wire.to(off.address, off.port) as wire:
            wire.send(line)
            answer = parse_literal(wire.line()[:-1])
            assert answer["code"] == "tls-required"
            assert "error" in answer
            assert wire.rest() == b""
        modules = off.host.ask("modules")
        assert "lanxfer.sessions.native" in modules
        assert "lanxfer.sessions.literal" not in modules
        assert off.messages() == []
