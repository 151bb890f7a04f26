"""What README.rst shows is run as it stands there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.rst").read_text()


def blocks(after: str) -> list[str]:
    """The literal and code blocks that follow the heading ``after``."""
    part = TEXT.partition(f"\n{after}\n")[2]
    part = re.split(r"\n\n\n[^\n]+\n[=-]{3,}\n", part)[0] + "\n"
    found = re.findall(r"(?:::|\.\. code-block:: \w+)\n\n((?:(?:    .*)?\n)+)", part)
    return [dedent(each).strip("\n") for each in found]


class Home:
    """A fresh user on a fresh machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": f"{folder}/.venvs/lanxfer/bin:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANXFER_STATE": str(folder / "nas-state"),
            "PYTHONUNBUFFERED": "1",
            "LANXFER_ALLOW_ROOT": "1",
        }

    def run(self, command: str, **more: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={**self.env, **more},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    def background(self, command: str, cwd: Path, says: str) -> subprocess.Popen[bytes]:
        """Start something that stays; back when it has said ``says``."""
        log = self.folder / "log"
        log.write_text("")
        with open(log, "a") as out:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=cwd,
                env=self.env,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        for _ in range(1800):
            if says in log.read_text():
                return process
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        raise AssertionError(log.read_text())


def end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home in which the first line of the README was run; its service has been stopped."""
    made = Home(tmp_path_factory.mktemp("home"))
    (line,) = [each for each in blocks("Start\n-----")[0].splitlines() if each]
    if os.geteuid() == 0:  # what the README says of root
        line += " --allow-root"
    sources = made.folder / "sources"
    subprocess.run(["git", "clone", "-q", ROOT, sources], check=True, timeout=60)
    for name in subprocess.run(
        ["git", "ls-files", "-mo", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n"):
        if name and (ROOT / name).is_file():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            (sources / name).write_bytes((ROOT / name).read_bytes())
    process = made.background(line, sources, "lanxfer listens on 0.0.0.0:36969")
    try:
        yield made
    finally:
        if process.poll() is None:
            end(process)


class ReadmeTests:
    def test_length(self) -> None:
        """The README stays about a page long."""
        assert len(TEXT.splitlines()) < 180

    def test_second_terminal(self, home: Home) -> None:
        """Two devices get to know each other and send, in the lines that are shown."""
        laptop = str(home.folder / "laptop-state")
        there, here = (line.partition("#")[0] for line in blocks("Start\n-----")[1].splitlines())
        shows = subprocess.Popen(
            [*there.split(), "--json"],
            env=home.env,
            executable=f"{home.folder}/.venvs/lanxfer/bin/lanxfer",
            stdout=subprocess.PIPE,
        )
        assert shows.stdout is not None
        code = " ".join(json.loads(shows.stdout.readline())["words"])
        joins = here.replace("192.168.1.20", "127.0.0.1") + " --code -"
        home.run(f"echo {code} | {joins}", LANXFER_STATE=laptop)
        shows.communicate(timeout=20)
        assert shows.returncode == 0
        (home.folder / "film.mkv").write_bytes(os.urandom(3_000_000))
        (home.folder / "holiday").mkdir()
        (home.folder / "holiday" / "1.jpg").write_bytes(b"jpeg")
        (home.folder / "src").mkdir()
        for line in blocks("Start\n-----")[2].splitlines():
            home.run(line, LANXFER_STATE=laptop)
        inbox = home.folder / "Downloads" / "lanxfer"
        assert (inbox / "film.mkv").read_bytes() == (home.folder / "film.mkv").read_bytes()
        assert (inbox / "holiday" / "1.jpg").read_bytes() == b"jpeg"
        assert (inbox / "src.tar").stat().st_size > 0
        assert "it is on the way" in home.run("lanxfer history")

    def test_embedding(self, home: Home) -> None:
        """The ten lines are a service, and the others send to it."""
        server, client = blocks("In your own application\n-----------------------")
        folder = home.folder / "mine"
        folder.mkdir()
        server = server.replace('inbox="in"', 'inbox="in", port=36970, state="state"')
        (folder / "mine.tac").write_text(server)
        process = home.background(
            "exec twistd -n --pidfile= -y mine.tac", folder, "lanxfer listens"
        )
        try:
            key = json.loads(home.run(f"lanxfer key show --json --state {folder}/state"))["key"]
            laptop = str(home.folder / "other-state")
            own = json.loads(home.run("lanxfer key show --json", LANXFER_STATE=laptop))["key"]
            home.run(f"lanxfer peer add nas {key}@127.0.0.1:36970", LANXFER_STATE=laptop)
            home.run(f"lanxfer peer add laptop {own} --state {folder}/state")
            (home.folder / "film.mkv").write_bytes(b"short film")
            (home.folder / "send.py").write_text(
                client
                + "\nfrom twisted.internet.task import react\n"
                + "from twisted.internet.defer import ensureDeferred\n"
                + "react(lambda r: ensureDeferred(send(r)).addCallback(print))\n"
            )
            said = home.run("python3 send.py", LANXFER_STATE=laptop)
        finally:
            end(process)
        assert "('film.mkv', 10, '" in said
        assert (folder / "in" / "film.mkv").read_bytes() == b"short film"
