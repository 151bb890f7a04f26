"""The package as people install it: a wheel, a fresh environment, another directory."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment into which only the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    quiet = ["-q", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "-w", folder, ROOT],
        check=True,
        timeout=300,
    )
    subprocess.run([sys.executable, "-m", "venv", folder / "fresh"], check=True, timeout=120)
    (wheel,) = folder.glob("lanxfer-*.whl")
    subprocess.run([folder / "fresh/bin/pip", "install", *quiet, wheel], check=True, timeout=300)
    return folder / "fresh" / "bin"


def environment(folder: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    told = {"LANXFER_ALLOW_ROOT": "1"}
    return {**kept, **told, "HOME": str(folder), "PYTHONUNBUFFERED": "1"}


class Daemon:
    """``twistd -n lanxfer`` in a folder of its own."""

    def __init__(self, bin: Path, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.bin, self.folder, self.options = bin, folder, options
        self.state = folder / "state"
        self.process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self, port: int = 0) -> None:
        """Start it and wait until it says where it listens."""
        self.log = open(self.folder / "log", "w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [
                str(self.bin / "twistd"),
                "-n",
                "--pidfile=",
                "lanxfer",
                f"--port={port}",
                "--bind=127.0.0.1",
                f"--inbox={self.folder / 'inbox'}",
                f"--state={self.state}",
                "--allow-root",
                *self.options,
            ],
            cwd=self.folder,
            env=environment(self.folder),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(200):
            found = re.findall(r"lanxfer listens on 127.0.0.1:(\d+)", self.said())
            if found and self.process.poll() is None and self._answers():
                self.port = int(found[-1])
                return
            time.sleep(0.1)
        raise AssertionError(self.said())

    def _answers(self) -> bool:
        return (self.state / "control.sock").exists()

    def said(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self, sign: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sign)
            self.process.wait(20)
        self.log.close()


def lanxfer(bin: Path, state: Path, *words: str | Path, timeout: float = 100) -> str:
    """Run one command; gives what it printed, fails if it does."""
    done = subprocess.run(
        [bin / "lanxfer", *words, "--state", state],
        cwd=state.parent,
        env=environment(state.parent),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def key(bin: Path, state: Path) -> str:
    found: str = json.loads(lanxfer(bin, state, "key", "show", "--json"))["key"]
    return found


@pytest.fixture
def daemon(bin: Path, tmp_path: Path) -> Iterator[Daemon]:
    """A running service that a laptop's state folder is paired with."""
    made = Daemon(bin, tmp_path / "nas")
    made.start()
    laptop = tmp_path / "laptop"
    address = f"127.0.0.1:{made.port}"
    lanxfer(bin, laptop, "peer", "add", "nas", f"{key(bin, made.state)}@{address}")
    lanxfer(bin, made.state, "peer", "add", "laptop", key(bin, laptop))
    yield made
    made.stop()


def contents(top: Path) -> dict[str, tuple[str, int]]:
    """Every path below ``top`` with its digest and its time, by a program that is not ours."""
    listed = subprocess.run(
        [
            "find",
            ".",
            "-type",
            "f",
            "-printf",
            "%P\\0%T@\\0",
            "-exec",
            "sha256sum",
            "-z",
            "{}",
            ";",
        ],
        cwd=top,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    found = {}
    for name, stamp, digest in zip(listed[::3], listed[1::3], listed[2::3], strict=False):
        found[name.decode()] = (digest.split()[0].decode(), int(float(stamp) * 1000))
    folders = subprocess.run(
        ["find", ".", "-type", "d", "-printf", "%P\\0"], cwd=top, capture_output=True, check=True
    )
    found.update({name.decode() + "/": ("", 0) for name in folders.stdout.split(b"\0")})
    return found


class WheelTests:
    def test_twistd_knows_it(self, bin: Path, tmp_path: Path) -> None:
        """twistd lists lanxfer in an environment that has only the wheel."""
        shown = subprocess.run(
            [bin / "twistd", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert re.search(r"^ +lanxfer +Files and text messages", shown.stdout, re.MULTILINE)

    def test_manual(self, bin: Path) -> None:
        """The manual page is where man looks for it, beside the programs."""
        assert (bin.parent / "share/man/man1/lanxfer.1").is_file()
        man = shutil.which("man")
        if man is not None and shutil.which("groff"):
            told = {"PATH": f"{bin}:{os.environ['PATH']}", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"}
            done = subprocess.run([man, "lanxfer"], capture_output=True, text=True, env=told)
            assert "lanxfer config set" in done.stdout, done.stderr

    def test_words(self, bin: Path, tmp_path: Path) -> None:
        """The words that devices are paired by come with it."""
        code = "from lanxfer.codes import words; print(len(words()))"
        done = subprocess.run(
            [bin / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "1024\n", done.stderr

    def test_page(self, bin: Path, tmp_path: Path) -> None:
        """The page's files come with it; without the extra "web" the service says what to do."""
        code = "import pkgutil; print(all(map(lambda name: pkgutil.get_data('lanxfer.web', name), "
        code += "['static/index.html', 'static/page.css', 'static/page.js', 'static/icon.svg'])))"
        done = subprocess.run(
            [bin / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "True\n", done.stderr
        words = ["serve", "--web", "--port", "none", "--allow-root", "--state", tmp_path / "state"]
        refused = subprocess.run(
            [bin / "lanxfer", *words],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (refused.returncode, "lanxfer[web]" in refused.stderr) == (3, True), refused

    def test_mixed_folder(self, bin: Path, daemon: Daemon, tmp_path: Path) -> None:
        """A folder of 1,000 mixed files, the largest 300 MiB, arrives identical."""
        top = tmp_path / "mixed"
        dice = random.Random(1)
        for number in range(999):
            folder = top / f"ordner {number % 7}" / ("ü☃"[: number % 3] or "plain")
            folder.mkdir(parents=True, exist_ok=True)
            size = 0 if number % 50 == 0 else int(dice.lognormvariate(9, 2)) % (2 * MIB)
            path = folder / f"datei {number} – ñ.bin"
            path.write_bytes(dice.randbytes(size))
            os.utime(path, (number, 1_500_000_000 + number))
        (top / "leer").mkdir()
        with open(top / "large.bin", "wb") as file:
            for _ in range(300):
                file.write(dice.randbytes(MIB))
        said = lanxfer(bin, tmp_path / "laptop", "send", top, "nas", "--json")
        summary = json.loads(said.splitlines()[-1])
        assert summary["files"] == 1000
        assert contents(daemon.folder / "inbox" / "mixed") == contents(top)

    def test_python_sources(self, bin: Path, daemon: Daemon, tmp_path: Path) -> None:
        """The sources of an installed Python arrive identical, by an independent comparison."""
        library = Path(os.__file__).parent
        top = tmp_path / "python"
        names = [each for each in library.iterdir() if each.name != "site-packages"]
        top.mkdir()
        subprocess.run(["cp", "-r", "--preserve=timestamps", *names, top], check=True)
        lanxfer(bin, tmp_path / "laptop", "send", top, "nas", "--quiet")
        compared = subprocess.run(
            ["diff", "-r", "--no-dereference", top, daemon.folder / "inbox" / "python"],
            capture_output=True,
            text=True,
        )
        assert compared.returncode == 0, compared.stdout[:2000]

    @pytest.mark.parametrize("victim", ["sender", "receiver"])
    def test_kill(self, bin: Path, daemon: Daemon, tmp_path: Path, victim: str) -> None:
        """After kill -9 of either side in a 1 GiB file the same command resumes and is right."""
        big = tmp_path / "big.bin"  # covers: K01 K02
        with open(big, "wb") as file:
            for _ in range(1024):
                file.write(os.urandom(MIB))
        command = [bin / "lanxfer", "send", big, "nas", "--state", tmp_path / "laptop", "--quiet"]
        sender = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path))
        staging = daemon.folder / "inbox" / ".lanxfer-staging"
        for _ in range(1000):
            if any(each.stat().st_size > 200 * MIB for each in staging.glob("*.part")):
                break
            time.sleep(0.02)
        if victim == "receiver":
            daemon.stop(signal.SIGKILL)
        sender.kill()
        sender.wait(20)
        held = max(each.stat().st_size for each in staging.glob("*.part"))
        assert 200 * MIB < held < 1024 * MIB
        if victim == "receiver":
            daemon.start(daemon.port)
        said = lanxfer(bin, tmp_path / "laptop", "send", big, "nas", "--json")
        row = json.loads(said.splitlines()[0])
        assert row["resumed_from"] >= held - 32 * MIB
        sums = subprocess.run(
            ["sha256sum", big, daemon.folder / "inbox" / "big.bin"], capture_output=True, text=True
        ).stdout.split()
        assert sums[0] == sums[2]
        assert not list(staging.glob("*.part"))
