"""What a running service can change, with real devices on loopback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, until

from lanxfer import sandbox
from lanxfer.admission import Legacy
from lanxfer.changing import LIVE
from lanxfer.client import Client
from lanxfer.config.table import TABLE
from lanxfer.errors import BadConfig, BadState, Forbidden, LanxferError, NotFound, NotPaired
from lanxfer.rates import Speeds
from lanxfer.service import Settings, TransferService
from lanxfer.transfers import Conflict, State
from lanxfer.wire import limits

MIB = limits.MIB


async def names(entries: Any) -> list[str]:
    return sorted([each.path async for each in entries])


async def reach(devices: Devices, **settings: Any) -> tuple[Any, Client]:
    service = await devices.start("nas", **settings)
    await devices.pair("kitchen", service, "nas")
    return service, await devices.client("kitchen", "nas")


def folder(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


class ShareTests:
    @in_reactor
    async def test_come_and_go(self, devices: Devices, tmp_path: Path) -> None:
        """A folder is shared and not shared any more while a device is connected."""
        a, b = folder(tmp_path / "a", x="1"), folder(tmp_path / "b", y="2")
        service, client = await reach(devices, shares=(f"a={a}",))
        assert await names(client.list()) == ["a"]
        assert await service.change(shares=(f"a={a}", f"b={b}:rw")) == ()
        assert await names(client.list("b")) == ["b/y"]
        await client.put(devices.source("new", b"3"), "b/new")
        assert (b / "new").read_text() == "3"
        assert await service.change(shares=(f"b={b}",)) == ()
        assert await names(client.list()) == ["b"]
        with pytest.raises(NotFound):
            await client.stat("a/x")
        with pytest.raises(Forbidden):
            await client.put(devices.source("more", b"4"), "b/more")
        # What was there before comes back, under another name as well: a folder has one store.
        assert await service.change(shares=(f"b={b}:rw", f"c={b}:rw", f"a={a}:rw")) == ()
        await client.put(devices.source("more", b"4"), "c/more")
        await client.put(devices.source("more", b"4"), "a/more")
        assert await names(client.list("b")) == ["b/more", "b/new", "b/y"]

    @in_reactor
    async def test_read_to_the_end(self, devices: Devices, tmp_path: Path) -> None:
        """What is being read of a folder that is not shared any more is read to its end."""
        data = os.urandom(4 * MIB)
        a = folder(tmp_path / "a")
        (a / "big").write_bytes(data)
        service, client = await reach(devices, shares=(f"a={a}",), rate_out=512 * limits.KIB)
        target = tmp_path / "got"
        getting = client.get("a/big", str(target))
        await until(lambda: any(each.done for each in client.registry.pending()))
        await service.change(shares=(), rate_out=None)
        assert not getting.called
        await getting
        assert target.read_bytes() == data
        with pytest.raises(NotFound):
            await client.stat("a/big")

    @in_reactor
    async def test_mistakes(self, devices: Devices, tmp_path: Path) -> None:
        """One share that cannot be, and nothing changes, nothing else that was asked for either."""
        a = folder(tmp_path / "a", x="1")
        service, client = await reach(devices, shares=(f"a={a}",))
        before = service.settings
        for share, error in (
            (f"b={tmp_path}/missing", BadState),
            (f"A={tmp_path}", BadConfig),
            (f"b={tmp_path}", BadConfig),  # the state folder is in there
        ):
            with pytest.raises(error):
                await service.change(shares=(f"a={a}", f"c={a}", share), rate_in=MIB, open=True)
        assert service.settings == before
        assert await names(client.list()) == ["a"]
        assert service.limit() == Speeds()
        service.share("mine", lambda principal: None)
        with pytest.raises(BadConfig, match="two shares"):
            await service.change(shares=(f"mine={a}",))

    @in_reactor
    async def test_out_of_reach(self, devices: Devices, tmp_path: Path, monkeypatch: Any) -> None:
        """Where the process has given up to write, a share needs a new start to be written to."""
        a, b = folder(tmp_path / "a"), folder(tmp_path / "b", y="2")
        service, client = await reach(devices, shares=(f"a={a}:rw",))
        kept = sandbox.writable([str(a), service.settings.inbox, service.settings.state])
        monkeypatch.setattr(sandbox, "_kept", kept)
        assert await service.change(shares=(f"a={a}:rw", f"b={b}:rw"), rate_in=MIB) == ("shares",)
        assert await names(client.list()) == ["a"]
        assert service.limit().rate_in == MIB
        assert await service.change(shares=(f"a={a}:rw", f"b={b}")) == ()
        assert await names(client.list("b")) == ["b/y"]
        (a / "deeper").mkdir()
        assert await service.change(shares=(f"c={a}/deeper:rw",)) == ()


class ApartTests:
    @in_reactor
    async def test_inbox_and_state(self, devices: Devices, tmp_path: Path) -> None:
        """Nothing that arrives can land where key, rights and settings are."""
        # covers: A11
        for name, inbox in (("state", "state"), ("in/state", "in"), ("in/deep/state", "in")):
            (tmp_path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            places = {"inbox": str(tmp_path / inbox), "state": str(tmp_path / name)}
            service = TransferService(None, Settings(**places))
            with pytest.raises(BadConfig, match="contains the state folder"):
                service.startService()
            assert os.listdir(tmp_path / name) == []

    @in_reactor
    async def test_hidden_between(self, devices: Devices, tmp_path: Path) -> None:
        """A home folder may be the inbox while what is hidden is not taken, and only then."""
        home = folder(tmp_path / "home")
        (home / ".local").mkdir()
        (home / ".local/nas.state").mkdir(mode=0o700)
        hidden = Devices(home / ".local")
        try:
            service = await hidden.start("nas", inbox=str(home))
            with pytest.raises(BadConfig, match="contains the state folder"):
                await service.change(dotfiles=True)
            assert not service.settings.dotfiles
        finally:
            await hidden.close()


class OtherTests:
    @in_reactor
    async def test_names(self, devices: Devices) -> None:
        """Only what the table calls live changes; all else is given back by name and stays."""
        service, _ = await reach(devices)
        other = {"port": 1, "inbox": "/x", "web": True, "device": "x", "token_file": "/x"}
        assert sorted(await service.change(conflict=Conflict.SKIP, **other)) == sorted(other)
        assert service.settings.conflict is Conflict.SKIP
        assert service.settings.device == "nas"
        assert {each.name for each in TABLE if each.live} == LIVE
        with pytest.raises(TypeError):
            await service.change(nonsense=1)

    @in_reactor
    async def test_under_way(self, devices: Devices) -> None:
        """A transfer that is held back goes on at the new speed, and is whole."""
        service, client = await reach(devices, rate_in=limits.SPEED_LEAST)
        data = os.urandom(4 * MIB)
        sending = client.send_file(devices.source("big", data))
        moving = lambda: [each for each in service.registry.pending() if each.done]  # noqa: E731
        await until(moving)
        assert moving()[0].state is State.MOVING
        await service.change(
            rate_in=None, open=True, dotfiles=True, limits=("receives-max=1",), buf_len=4096
        )
        await sending
        assert (devices.inbox("nas") / "big").read_bytes() == data

    @in_reactor
    async def test_only_what_changed(self, devices: Devices) -> None:
        """What "lanxfer limit" said stays, unless that very speed is changed."""
        service, _ = await reach(devices, rate_in=5 * MIB)
        service.limit(rate_in=9 * MIB)
        await service.change(rate_out=MIB)
        assert service.limit() == Speeds(9 * MIB, MIB)
        await service.change(rate_in=6 * MIB)
        assert service.limit() == Speeds(6 * MIB, MIB)

    @in_reactor
    async def test_taking(self, devices: Devices) -> None:
        """What is done about names that are taken, and hidden ones, is another from then on."""
        service, client = await reach(devices)
        source = devices.source("a", b"one")
        await client.send_file(source)
        await service.change(conflict=Conflict.OVERWRITE, dotfiles=True)
        await client.send_file(devices.source("b/a", b"two"))
        assert (devices.inbox("nas") / "a").read_bytes() == b"two"
        await client.send_file(devices.source(".hidden", b"x"))
        await service.change(dotfiles=False)
        with pytest.raises(LanxferError):
            await client.send_file(devices.source(".other", b"x"))

    @in_reactor
    async def test_who_comes_in(self, devices: Devices) -> None:
        """A service opens and closes its door; who is inside stays."""
        service, _ = await reach(devices)
        devices.pin("stranger", "nas", service.address)
        with pytest.raises(NotPaired):
            await devices.client("stranger", "nas")
        await service.change(open=True)
        guest = await devices.client("stranger", "nas")
        await service.change(open=False)
        await guest.send_message("still here")
        devices.pin("late", "nas", service.address)
        with pytest.raises(NotPaired):
            await devices.client("late", "nas")
        await service.change(legacy=Legacy.FULL, plain_from=("127.0.0.1",))
        assert [each[:6] for each in service.warnings()][:2] == ["LEGACY", "PLAIN "]
        with pytest.raises(BadConfig, match="no address"):
            await service.change(plain_from=("nowhere",), legacy=Legacy.OFF)
        assert service.settings.legacy is Legacy.FULL

    @in_reactor
    async def test_limits(self, devices: Devices) -> None:
        """Limits change for the process, and are as usual where they are not named any more."""
        usual = limits.STRANGERS_MAX, limits.RECEIVES_MAX, limits.RESERVE_BYTES
        service, client = await reach(devices, limits=("strangers-max=7",), reserve_bytes=None)
        before = service.status()["free"]
        await service.change(limits=("receives-max=3", f"reserve-bytes={2 * limits.RESERVE_BYTES}"))
        assert (usual[0], 3) == (limits.STRANGERS_MAX, limits.RECEIVES_MAX)
        assert service.status()["free"] < before
        await client.send_file(devices.source("a", b"one"))
        with pytest.raises(BadConfig, match="no limit"):
            await service.change(limits=("receivesmax=1",))
        assert limits.RECEIVES_MAX == 3
        await service.stopService()
        assert usual == (limits.STRANGERS_MAX, limits.RECEIVES_MAX, limits.RESERVE_BYTES)

    @in_reactor
    async def test_hooks(self, devices: Devices, tmp_path: Path, monkeypatch: Any) -> None:
        """Hooks come and go; where the process may run nothing, what runs them cannot come."""
        said = tmp_path / "said"
        script = tmp_path / "hook.py"
        script.write_text(f"import sys\nopen({str(said)!r}, 'a').write(sys.argv[1] + '\\n')\n")
        hook = f"received={sys.executable} {script}"
        service, client = await reach(devices)
        await client.send_file(devices.source("early", b"1"))
        assert await service.change(hook=(hook,)) == ()
        await client.send_file(devices.source("a", b"1"))
        await until(lambda: said.exists() and said.read_text().count("\n") == 1)
        assert await service.change(hook=()) == ()
        await client.send_file(devices.source("b", b"1"))
        assert await service.change(hook=(hook,)) == ()
        await client.send_file(devices.source("c", b"1"))
        await until(lambda: said.read_text().count("\n") == 2)
        found = [Path(each).name for each in said.read_text().splitlines()]
        assert found == ["a", "c"]

    @in_reactor
    async def test_no_first_hook_when_confined(self, devices: Devices, tmp_path: Path) -> None:
        """A process that may run no program says so of a first hook that is one; an address may."""
        service, _ = await reach(devices)
        hooks = service._now.hooks
        assert not hooks.can_run(service_hooks("received=true"), confined=True)
        assert not hooks.can_run(service_hooks("received=notify"), confined=True)
        assert hooks.can_run(service_hooks("received=http://localhost/x"), confined=True)
        assert hooks.can_run(service_hooks("received=true"), confined=False)

    @in_reactor
    async def test_without_a_file(self, devices: Devices) -> None:
        """An application's service that reads no file says so to its owner."""
        await reach(devices)
        with pytest.raises(BadConfig, match="no configuration file"):
            await (await devices.control("nas")).call("reload")

    @in_reactor
    async def test_only_its_owner(self, devices: Devices) -> None:
        """Other devices cannot have it read anything."""
        # covers: A14
        _, client = await reach(devices)
        with pytest.raises(Forbidden):
            await client.call("reload")


def service_hooks(text: str) -> Any:
    from lanxfer.hooks.events import parse_hooks

    return parse_hooks((text,))
