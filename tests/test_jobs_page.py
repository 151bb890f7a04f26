"""What docs/jobs.rst shows is run as it stands there."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from lanxfer.jobs.config import options

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "jobs.rst").read_text()
BLOCK = re.compile(
    r"(?<=\n\n)((?:[^ \n].*\n)*?(?:[^ \n].*)?::(?: python)?\n)\n((?:(?:    .*)?\n)+)"
)


def blocks() -> list[tuple[str, str]]:
    """Everything indented that is a file, a session or a script: its name or kind, and its text."""
    found = []
    for before, text in BLOCK.findall(TEXT):
        text = dedent(text).strip("\n")
        if text.startswith("$ "):
            kind = "session"
        elif before.startswith(".. code-block:: python"):
            kind = "python"
        else:
            kind = re.findall(r"``([\w./]+)``", before)[-1]
        found.append((kind, text))
    return found


class Reader:
    """Somebody who does what the page says, from its beginning to its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANXFER_STATE": str(folder / "state"),
            "LANXFER_ALLOW_ROOT": "1",
        }
        for name, text in (("outbox/monday.pdf", "first"), ("outbox/numbers.csv", "1,2,3")):
            self.write(name, text)
        self.write("outbox/notes.txt", "stays")
        self.write("old.password", "secret").chmod(0o600)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n" if "/" not in name or name.endswith(".cfg") else text)
        return path

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=100
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        return done.stdout.replace(str(self.folder), "/home/me")

    def session(self, text: str) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                self.env[name] = value.replace("$PWD", str(self.folder))
                continue
            said = self.run("bash", "-c", command)
            same(expected, said)


def same(expected: str, said: str) -> None:
    """Compare as doctest does: blanks are blanks, and three dots are anything."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    said = re.sub(r"\(0\.0\d\d s\)", "(0.000 s)", said)
    expected = re.sub(r"\(0\.0\d\d s\)", "(0.000 s)", expected)
    assert doctest.OutputChecker().check_output(expected + "\n", said, flags), said


class PageTests:
    def test_all(self, tmp_path: Path) -> None:
        """Every file on the page is understood, every command says what it shows, scripts run."""
        reader = Reader(tmp_path)
        kinds = [kind for kind, _ in blocks()]
        assert kinds.count("session") == 2
        assert kinds.count("python") == 2
        assert len(kinds) == 14
        for number, (kind, text) in enumerate(blocks()):
            if kind == "session":
                reader.session(text)
            elif kind == "python":
                said = reader.run(sys.executable, str(reader.write(f"script{number}.py", text)))
                assert said
            else:
                reader.write(kind, text)
        assert sorted(path.name for path in (tmp_path / "outbox").iterdir()) == ["notes.txt"]
        names = ["monday.pdf", "numbers.csv"]
        for folder in ("archive/reports", "copy/reports", "second copy/reports"):
            assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
        reader.run("lanxfer", "job", "check")

    @pytest.mark.parametrize("table", [*options.APP.values(), options.HOST, *options.JOB.values()])
    def test_every_option(self, table: options.Table) -> None:
        """There is no option that the page does not name."""
        named = set(re.findall(r"[\w_]+", TEXT))
        keys = {name for name in table if not name.startswith("key_") and name != "from_addr"}
        assert keys <= named
