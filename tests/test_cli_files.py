"""``lanxfer ls``, ``get``, ``put``, ``mv``, ``rm`` and ``mkdir`` as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lanxfer.errors import Exit
from lanxfer.storage.staging import NAME as STAGING
from tests.devices import Devices

SERVE = [sys.executable, "-m", "lanxfer.cli.main"]
ENVIRONMENT = {**os.environ, "LANXFER_ALLOW_ROOT": "1"}


class Here:
    """Two devices: one that serves, and the one that is typed at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.devices = Devices(folder)
        state, inbox = self.devices.state("nas").path, str(self.devices.inbox("nas"))
        command = [*SERVE, "-s", state, "--json", "serve", "--port", "0", "--bind", "127.0.0.1"]
        command += ["--inbox", inbox, "--share", f"docs={self.shared}:rw", "--allow-root"]
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        address = json.loads(self.process.stdout.readline())["listening"][0]
        self.devices.pin("kitchen", "nas", address)
        self.devices.pin("nas", "kitchen")

    def type(self, *words: str) -> tuple[int, str]:
        command = [*SERVE, "-s", self.devices.state("kitchen").path, *words]
        done = subprocess.run(
            command, cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    made = Here(tmp_path)
    yield made
    made.process.terminate()
    made.process.communicate()


def test_all(here: Here) -> None:
    """What docs/files.rst shows does what it says, with exit codes and rows for programs."""
    # covers: S2-66 S2-20 S2-21 S2-33 S2-34
    (here.folder / "report.pdf").write_bytes(b"a report")
    assert here.type("ls", "nas:")[1].split()[-1] == "docs/"
    assert here.type("put", "report.pdf", "nas:docs/report.pdf")[0] == Exit.OK
    assert here.type("put", "report.pdf", "nas:docs/in/")[0] == Exit.OK
    assert (here.shared / "in" / "report.pdf").read_bytes() == b"a report"
    assert here.type("mkdir", "nas:docs/in/today")[0] == Exit.OK
    assert here.type("mv", "nas:docs/report.pdf", "docs/old.pdf")[0] == Exit.OK
    code, text = here.type("--json", "ls", "-r", "nas:docs")
    assert code == Exit.OK
    rows = {row["path"]: row["kind"] for row in map(json.loads, text.splitlines())}
    assert rows == {
        "docs/in": "folder",
        "docs/in/report.pdf": "file",
        "docs/in/today": "folder",
        "docs/old.pdf": "file",
    }
    code, text = here.type("--json", "get", "nas:docs/old.pdf")
    row = json.loads(text)
    assert (code, row["size"], row["resumed_from"]) == (Exit.OK, 8, 0)
    assert (here.folder / "old.pdf").read_bytes() == b"a report"
    assert here.type("get", "nas:docs", "copy")[0] == Exit.OK
    assert (here.folder / "copy" / "in" / "today").is_dir()
    assert here.type("--quiet", "rm", "nas:docs/in") == (Exit.FAILED, "")
    assert here.type("rm", "-r", "nas:docs/in")[0] == Exit.OK
    assert sorted(os.listdir(here.shared)) == [STAGING, "old.pdf"]
    assert here.type("get", "nas:docs/none")[0] == Exit.FAILED
    assert here.type("ls", "nas")[0] == Exit.USAGE


def test_left_behind(here: Here) -> None:
    """Of a folder with a name that cannot be used some did not arrive; the last row sums it up."""
    (here.shared / "a").write_bytes(b"a")
    (here.shared / "b:b").write_bytes(b"lost")
    (here.shared / "c").symlink_to("a")
    code, text = here.type("--json", "get", "nas:docs", "copy")
    assert code == Exit.PARTIAL
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["path"] for row in rows if "error" in row] == ["docs/b:b"]
    del rows[-1]["seconds"]
    assert rows[-1] == {
        "peer": "nas",
        "files": 1,
        "folders": 0,
        "bytes": 1,
        "already": 0,
        "skipped": 1,
        "failed": 1,
    }
    (here.shared / "b:b").unlink()
    code, text = here.type("get", "nas:docs", "copy", "--conflict", "skip")
    assert code == Exit.OK, "a link is left out by rule"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["rm", "nas:docs/none"], 'There is no "none".'),
        (["mv", "nas:docs/none", "docs/other"], 'There is no "none".'),
        (["mv", "nas:docs/a", "docs/b"], "See --overwrite."),
        (["put", "a", "nas:docs/a"], "See --conflict."),
        (["get", "nas:docs/a", "a"], "See --conflict."),
        (["get", "nas:"], "A shared folder has to be named"),
    ],
)
def test_refusals(here: Here, line: list[str], said: str) -> None:
    """What cannot be done is named, and the option with which it can be."""
    (here.folder / "a").write_bytes(b"other")
    for name in ("a", "b"):
        (here.shared / name).write_bytes(b"there")
    code, text = here.type("--json", *line)
    assert code == Exit.FAILED
    assert said in json.loads(text)["reason"]
