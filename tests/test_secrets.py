"""Private keys and tickets stay where they belong: not in logs, arguments, environment or files."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from attrs import define, field
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from devices import Devices, in_reactor, run, sleep
from test_cli_real import Serving, end, know, own_key, serve, start
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher, textFileLogObserver

from lanxfer.errors import LanxferError, NotPaired
from lanxfer.identity import load_identity
from lanxfer.state import KEY_FILE, StateFolder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")


@define
class Secrets:
    """What must not be found, and where it was looked for."""

    texts: set[bytes] = field(factory=set)

    def add_key(self, state: StateFolder) -> None:
        """The private key of that folder, in whatever dress."""
        pem = load_identity(state).key_pem
        number = load_pem_private_key(pem, None).private_numbers().private_value  # type: ignore[union-attr]
        self.texts |= {line for line in pem.splitlines() if not line.startswith(b"-----")}
        self.texts |= {b"%064x" % number, b"%d" % number, number.to_bytes(32, "big")}

    def add(self, text: str) -> None:
        self.texts.add(text.encode())

    def within(self, data: bytes) -> list[bytes]:
        lower = data.lower()
        return [each for each in self.texts if each in data or each.lower() in lower]


def open_to_others(folder: str) -> list[str]:
    """What below a folder, and the folder itself, others than its owner may touch."""
    found = [folder]
    for inside, folders, files in os.walk(folder):
        found += [os.path.join(inside, name) for name in (*folders, *files)]
    return [each for each in found if stat.S_IMODE(os.lstat(each).st_mode) & 0o077]


def files_with(secrets: Secrets, folder: Path) -> list[str]:
    """The files below a folder in which a secret is."""
    files = (each for each in folder.rglob("*") if each.is_file() and not each.is_socket())
    return sorted(
        str(each.relative_to(folder)) for each in files if secrets.within(each.read_bytes())
    )


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Everything that is logged, at every level, with tracebacks."""
    text = StringIO()
    observer = textFileLogObserver(text)
    globalLogPublisher.addObserver(observer)
    yield text
    globalLogPublisher.removeObserver(observer)


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Devices]:
    before = os.umask(0)  # whatever is not closed on purpose is open now
    made = Devices(tmp_path)
    yield made
    run(made.close())
    os.umask(before)


class ServiceTests:
    @in_reactor
    async def test_in_process(self, devices: Devices, log: StringIO) -> None:
        """Whatever devices and strangers do, keys and tickets are in no log and no other file."""
        # covers: A11, I11
        service = await devices.start("nas", tickets_plain=True, plain_from=("127.0.0.1",))
        await devices.pair("laptop", service, "nas")
        devices.pin("stranger", "nas", service.address)
        secrets = Secrets()
        for name in ("nas", "laptop", "stranger"):
            secrets.add_key(devices.state(name))
        slots = [service.offer_slot(f"up/{n}", 5) for n in range(3)]
        late = service.offer_slot("late", 5, expires=0.01)
        for each in (*slots, late):
            each.done.addErrback(lambda why: None)
            secrets.add(each.session)
            secrets.add(each.file)
        client = await devices.client("laptop", "nas")
        await client.send_file(devices.source("a", b"hello"))
        await client.send_message("hello")
        with pytest.raises(LanxferError):
            await client.call("send_file", {"path": "/etc/passwd", "peer": "x"})
        with pytest.raises(NotPaired):
            await devices.client("stranger", "nas")
        await sleep(0.05)
        good, wrong, cut = (each.line for each in slots)
        for line in (
            good + b"hello",
            good + b"hello",
            wrong.replace(b" 5", b" 6") + b"hello!",
            wrong[:60],
            b"x" + wrong,
            late.line + b"hello",
            b'{"do": 1, "name": "' + wrong.strip() + b'"}\n',
            cut + b"he",
        ):
            await deferToThread(_say, service.address, line)
        await client.close()
        await service.stopService()
        assert "lanxfer listens on" in log.getvalue()
        assert secrets.within(log.getvalue().encode()) == []
        assert files_with(secrets, devices.folder) == [
            f"{name}.state/{KEY_FILE}" for name in ("laptop", "nas", "stranger")
        ]

    @in_reactor
    async def test_modes(self, devices: Devices) -> None:
        """No other user can touch anything of a state folder, while the service runs and after."""
        # covers: A11, I11, L03
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        await client.send_file(devices.source("a", b"hello"))
        assert (Path(devices.state("nas").path) / "control.sock").is_socket()
        folders = [devices.state(name).path for name in ("nas", "laptop")]
        staging = str(devices.inbox("nas") / ".lanxfer-staging")
        assert [open_to_others(each) for each in (*folders, staging)] == [[], [], []]
        await client.close()
        await service.stopService()
        assert [open_to_others(each) for each in (*folders, staging)] == [[], [], []]


def _say(address: str, line: bytes) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(line)
        wire.shutdown(socket.SHUT_WR)
        while wire.recv(4096):
            pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
class ProcessTests:
    @pytest.fixture
    def nas(self, tmp_path: Path) -> Iterator[Serving]:
        serving = serve(tmp_path / "nas")
        yield serving
        end(serving)

    def test_processes(self, nas: Serving, tmp_path: Path) -> None:
        """Nothing secret is among what other users can see of the processes, or in their output.

        And when one of them crashes, it leaves no image of its memory behind.
        """
        # covers: A11, I11
        here = tmp_path / "here"
        know(nas.state, "laptop", own_key(here))
        know(here, "nas", own_key(nas.state), nas.address)
        secrets = Secrets()
        for state in (nas.state, here):
            secrets.add_key(StateFolder(str(state)))
        watching = start("watch", "--json", "-s", nas.state)
        for process in (nas.process, watching):
            for name in ("cmdline", "environ"):
                seen = Path(f"/proc/{process.pid}/{name}").read_bytes()
                assert seen and secrets.within(seen) == []
        for line in ("status", "doctor", "key show", "peers", "history"):
            done = nas.ask(*line.split(), "--json")
            assert secrets.within((done.out + done.err).encode()) == []
        limits = Path(f"/proc/{nas.process.pid}/limits").read_text()
        (core,) = (line.split() for line in limits.splitlines() if "core file" in line)
        assert core[4] == "0"
        watching.terminate()
        out, err = watching.communicate(timeout=15)
        said = nas.log.read_bytes() + nas.errors.read_bytes() + out + err
        assert said and secrets.within(said) == []
        assert files_with(secrets, tmp_path) == [f"here/{KEY_FILE}", f"nas/state/{KEY_FILE}"]
