"""From options and a file to settings, and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from devices import in_reactor
from twisted.internet import reactor
from twisted.python import usage

from lanxfer.configured import Configured
from lanxfer.errors import BadConfig
from lanxfer.service import TransferService
from lanxfer.tap import Options


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """The least that a command line says."""
    (tmp_path / "state").mkdir(mode=0o700)
    places = {"state": str(tmp_path / "state"), "inbox": str(tmp_path / "inbox")}
    return {**places, "bind": "127.0.0.1", "no-sandbox": True}


def write(given: dict[str, Any], text: str) -> None:
    Path(given["state"] + ".toml").write_text(text)


class StartTests:
    def test_precedence(self, given: dict[str, Any]) -> None:
        """The command line counts before the file, a whole list before a whole list."""
        write(
            given, 'port = 1\nrate-in = "5M"\nopen = true\nshare = ["a=/x"]\nlisten = ["tcp:5"]\n'
        )
        found = Configured({**given, "port": None, "share": ("b=/y",), "rate-in": None}).settings
        assert (found.port, found.rate_in, found.open) == (None, None, True)
        assert (found.shares, found.listen) == (("b=/y",), ("tcp:5",))
        found = Configured(given).settings
        assert (found.port, found.rate_in, found.shares) == (1, 5 << 20, ("a=/x",))

    def test_given(self, given: dict[str, Any]) -> None:
        """twistd's options know what was said and what is only as usual."""
        options = Options()
        options.parseOptions(["--port", "36969", "--web", "--share", "a", "--share", "b"])  # type: ignore[no-untyped-call]
        said = {"port": 36969, "web": 1, "share": ["a", "b"]}
        assert options.said() == said
        assert options["buf-len"] == 262144 and not options["open"]
        write(given, "port = 1\nweb-port = 5\n")
        found = Configured({**given, **said}).settings
        assert (found.port, found.web, found.web_port) == (36969, True, 5)

    def test_logins(self, given: dict[str, Any]) -> None:
        """Who may log in is said in either place, and a mistake is said where it was made."""
        write(given, 'auth = ["memory:a:b"]\n')
        assert len(Configured(given).settings.checkers) == 1
        assert (
            len(Configured({**given, "auth": ("memory:c:d", "memory:e:f")}).settings.checkers) == 2
        )
        write(given, 'auth = ["nonsense"]\n')
        with pytest.raises(BadConfig, match=r"state\.toml: "):
            Configured(given)
        assert len(Configured({**given, "auth": ("memory:c:d",)}).settings.checkers) == 1
        with pytest.raises(usage.UsageError):
            Configured({**given, "auth": ("nonsense",)})

    def test_jobs(self, given: dict[str, Any]) -> None:
        """The file of jobs is known by its whole name."""
        assert Configured(given).jobs is None
        write(given, 'jobs = "/etc/jobs.cfg"\n')
        assert Configured(given).jobs == "/etc/jobs.cfg"
        assert Configured({**given, "jobs": "jobs.cfg"}).jobs == str(Path("jobs.cfg").absolute())


class ReloadTests:
    @in_reactor
    async def test_again(self, given: dict[str, Any]) -> None:
        """What needs a restart is said each time until it is as it was; the rest holds at once."""
        auth = 'auth = ["memory:a:b"]\n'
        write(given, f"port = 0\n{auth}")
        configured = Configured(given)
        service = TransferService(reactor, configured.settings, on_reload=configured.reload)
        service.startService()
        try:
            await service.when_listening()
            assert await service.reload() == {"changed": [], "restart": []}
            write(given, 'port = 5\njobs = "/x"\nopen = true\nauth = ["memory:a:c"]\n')
            left = ["port", "auth", "jobs"]
            assert await service.reload() == {"changed": ["open"], "restart": left}
            assert await service.reload() == {"changed": [], "restart": left}
            assert service.settings.open and service.settings.port == 0
            write(given, f"port = 0\nopen = true\n{auth}")
            assert await service.reload() == {"changed": [], "restart": []}
            write(given, f"port = 0\n{auth}")
            assert await service.reload() == {"changed": ["open"], "restart": []}
            Path(configured.path).unlink()
            assert await service.reload() == {"changed": [], "restart": ["port", "auth"]}
        finally:
            await service.stopService()

    @in_reactor
    async def test_mistake(self, given: dict[str, Any], logged: list[str]) -> None:
        """A mistake anywhere changes nothing, is in the log, and is said to who asked."""
        write(given, "port = 0\n")
        configured = Configured(given)
        service = TransferService(reactor, configured.settings, on_reload=configured.reload)
        service.startService()
        try:
            await service.when_listening()
            before = service.settings
            for text, said in (
                ('port = 0\nopen = true\nrate-in = "slow"\n', "line 3: rate-in is"),
                ('port = 0\nopen = true\nshare = ["a=/nowhere/at/all"]\n', "cannot be shared"),
                ('port = 0\nopen = true\nauth = ["nonsense"]\n', "state.toml: "),
            ):
                write(given, text)
                with pytest.raises(Exception, match=said):
                    await service.reload()
                assert service.settings == configured.settings == before
                assert logged == ["Nothing was changed: {reason}"]
                logged.clear()
        finally:
            await service.stopService()
