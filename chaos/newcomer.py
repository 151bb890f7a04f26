"""A new user in two terminals: how much has to be typed until a file is on the second device.

Types into tmux what docs/tutorial.rst says, on two devices that have nothing
yet but Python and a built wheel (in place of a copy from a package index): a home
folder each, a fresh environment each.  A command is what ends with Enter at the shell's
prompt; the three words are an answer.  Seconds count from the first key on
and include both installations, and nobody's time for thinking.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from chaos.figures import Figures

ROOT = Path(__file__).resolve().parent.parent
COMMANDS_MOST = 4
AFTER_MOST = 1
PATIENCE = 120.0
"""Seconds for any one thing that is waited for."""
WIDTH, HEIGHT = 88, 24
_USER = 1000
_AS_USER = (
    ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]
    if os.geteuid() == 0
    else []
)
"""A newcomer is not root, whoever runs this."""
ASKED = re.compile(r"words\b.*: *$", re.IGNORECASE)
WORDS = re.compile(r"^ *([a-z]+[ -][a-z]+[ -][a-z]+) *$", re.MULTILINE)
_ENDED = re.compile(r"^ended: \d+$", re.MULTILINE)


class Terminal:
    """A shell in a tmux of its own, on a device of its own."""

    def __init__(self, device: str, home: Path) -> None:
        self.device = device
        self.home = home
        self.commands = 0
        self._prompt = re.compile(rf"(?:\^C)?{device}:\S*\$")
        self._server = f"lanxfer-{os.getpid()}-{device}"
        home.mkdir()
        (home / ".bashrc").write_text(f"PS1='{device}:\\w$ '\nunset HISTFILE\n")
        kept = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
        shell = {
            **kept,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TERM": "tmux-256color",
            "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        }
        size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
        told = [f"{key}={value}" for key, value in shell.items()]
        tmux = ["tmux", "-L", self._server, "-f", "/dev/null", "new-session", "-d", "-s", device]
        subprocess.run(
            [*tmux, *size, "-c", str(home), *_AS_USER, "env", "-i", *told, "bash"],
            check=True,
        )
        self.own(home, home / ".bashrc")
        self.wait(self.is_ready)

    def own(self, *paths: Path) -> None:
        """What is put into the home folder belongs to whoever types there."""
        for path in paths:
            if _AS_USER:
                os.chown(path, _USER, _USER)

    def type(self, line: str) -> None:
        """Type ``line`` and Enter; returns at once."""
        self._tmux("send-keys", "-t", f"={self.device}:", "-l", line)
        self._tmux("send-keys", "-t", f"={self.device}:", "Enter")

    def command(self, line: str) -> None:
        """Type a command at the prompt."""
        self.commands += 1
        self.type(line)

    def run(self, line: str) -> str:
        """Type a command that ends by itself; what it left on the screen, which it has to itself.

        It has to end well.
        """
        self.type("clear")
        self.wait(lambda: self.is_ready() and len(self.screen().splitlines()) == 1)
        self.command(f"{line}; echo ended: $?")
        self.wait(lambda: _ENDED.search(self.screen()) is not None and self.is_ready())
        shown = self.screen("-J")
        if "\nended: 0\n" not in shown:
            raise click.ClickException(f"{self.device}:\n{shown}")
        return shown

    def press(self, key: str) -> None:
        """Press a key, by tmux's name for it."""
        self._tmux("send-keys", "-t", f"={self.device}:", key)

    def pid(self) -> Path:
        """Where ``twistd`` keeps its number."""
        return self._cwd() / "twistd.pid"

    def screen(self, *options: str) -> str:
        """What can be seen now, without the empty lines below."""
        return self._tmux("capture-pane", "-p", *options, "-t", f"={self.device}:").rstrip()

    def is_ready(self) -> bool:
        """The shell waits for a command."""
        lines = self.screen().splitlines()
        return bool(lines) and self._prompt.fullmatch(lines[-1].rstrip()) is not None

    def wait(self, until: Callable[[], bool]) -> None:
        """Look until it is so."""
        end = time.monotonic() + PATIENCE
        while not until():
            if time.monotonic() > end:
                raise click.ClickException(f"{self.device} got stuck:\n{self.screen()}")
            time.sleep(0.05)

    def end(self) -> None:
        """Stop the service of this device, if it has one, and its terminal."""
        pid = self.pid()
        if pid.exists():
            service = int(pid.read_text())
            os.kill(service, signal.SIGTERM)
            self.wait(lambda: not _lives(service))
        self._tmux("kill-server")

    def _cwd(self) -> Path:
        return Path(
            self._tmux("display", "-p", "-t", f"={self.device}:", "#{pane_current_path}").strip()
        )

    def _tmux(self, *words: str) -> str:
        line = ["tmux", "-L", self._server, *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout


@contextmanager
def terminal(device: str, folder: Path) -> Iterator[Terminal]:
    """A terminal that is closed at the end."""
    there = Terminal(device, folder / device)
    try:
        yield there
    finally:
        there.end()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _wheel(folder: Path) -> Path:
    quiet = ["-q", "--disable-pip-version-check"]
    line = [sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(line, check=True)
    (found,) = folder.glob("lanxfer-*.whl")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def _shown(screen: str) -> str:
    """A screen without what belongs to the machine it was taken on."""
    return screen.replace(socket.gethostname(), "laptop")


def picture(screens: dict[str, str]) -> str:
    """The screens, with their colours, one below the other, as SVG."""
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.text import Text

    console = Console(record=True, width=WIDTH + 4, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(
        Group(*(Panel(Text.from_ansi(text), title=name) for name, text in screens.items()))
    )
    svg = console.export_svg(title="lanxfer: from nothing to the first file", unique_id="lanxfer")
    # The font would come from somebody else's server; a reader's own does as well.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


@click.command()
@click.option("--write", metavar="FILE", help="Keep a picture of both terminals (SVG).")
def command(write: str | None) -> None:
    """Type what a newcomer types, and count."""
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the user may be another one
        wheel = _wheel(folder)
        with terminal("nas", folder) as nas, terminal("laptop", folder) as laptop:
            _play(nas, laptop, wheel, figures)
            if write is not None:
                screens = {each.device: _shown(each.screen("-e")) for each in (nas, laptop)}
                Path(write).write_text(picture(screens))
    figures.finish()


def _play(nas: Terminal, laptop: Terminal, wheel: Path, figures: Figures) -> None:
    port = _free_port()  # the usual one may be taken on the machine this is run on
    install = f"python3 -m venv lanxfer && . lanxfer/bin/activate && pip install -q {wheel.name}"
    inbox = nas.home / "Downloads" / "lanxfer"
    for each in (nas, laptop):
        shutil.copy(wheel, each.home)
    film, photo = laptop.home / "film.mkv", laptop.home / "photo.jpg"
    film.write_bytes(os.urandom(64 << 20))
    photo.write_bytes(os.urandom(3 << 20))
    laptop.own(film, photo)

    begun = time.monotonic()
    nas.command(f"{install} && twistd lanxfer -d nas -p {port}")
    nas.wait(lambda: nas.pid().exists() and nas.is_ready())
    laptop.command(install)
    laptop.wait(lambda: (laptop.home / "lanxfer/bin/lanxfer").exists() and laptop.is_ready())
    installed = time.monotonic()
    nas.command("lanxfer pair")
    nas.wait(lambda: WORDS.search(nas.screen()) is not None)
    found = WORDS.search(nas.screen())
    assert found is not None
    laptop.command(f"lanxfer send film.mkv 127.0.0.1:{port}")
    laptop.wait(lambda: ASKED.search(laptop.screen()) is not None)
    laptop.type(found[1])
    laptop.wait(lambda: _same(film, inbox / film.name))
    first = time.monotonic()
    typed = nas.commands + laptop.commands
    for each in (nas, laptop):
        each.wait(each.is_ready)

    again = time.monotonic()
    laptop.command("lanxfer send photo.jpg nas")
    laptop.wait(lambda: _same(photo, inbox / photo.name))
    second = time.monotonic()
    laptop.wait(laptop.is_ready)
    figures.add("commands until the first file is there", typed, most=COMMANDS_MOST)
    figures.add(
        "commands for the next one", nas.commands + laptop.commands - typed, most=AFTER_MOST
    )
    figures.add("from nothing to the first file", round(first - begun, 1), "s")
    figures.add("of which both installations", round(installed - begun, 1), "s")
    figures.add("the next file", round(second - again, 2), "s")
