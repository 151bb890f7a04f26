"""What docs/stores.rst shows is run as it stands there, with real servers in place of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from devices import Devices, in_reactor
from object_server import BUCKET, object_server
from servers import sshd

from lanxfer.errors import Exit
from lanxfer.storage.objects import MARK
from lanxfer.wire import limits

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "stores.rst").read_text()


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"\.\. code-block:: {kind}\n\n((?:(?:    .*)?\n)+)", TEXT)
    return [dedent(each).strip("\n") for each in found]


SHELL, PYTHON = blocks("sh"), blocks("python")
LANXFER = [sys.executable, "-m", "lanxfer.cli.main"]


class Typed:
    """A service that was started as the page shows, and another device that is typed at."""

    def __init__(self, devices: Devices, line: str, environment: dict[str, str]) -> None:
        self.devices = devices
        self.environment = {**os.environ, "LANXFER_ALLOW_ROOT": "1", **environment}
        program, *words = shlex.split(line)
        assert program == "lanxfer"
        words += ["--port", "0", "--bind", "127.0.0.1", "--allow-root", "--json"]
        state, inbox = devices.state("nas").path, str(devices.inbox("nas"))
        words += ["--state", state, "--inbox", inbox]
        self.errors = devices.folder / "errors"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*LANXFER, *words], env=self.environment, stdout=subprocess.PIPE, stderr=errors
            )
        assert self.process.stdout is not None
        self.first: dict[str, Any] = json.loads(self.process.stdout.readline())
        devices.pin("kitchen", "nas", self.first["listening"][0])
        devices.pin("nas", "kitchen")

    def type(self, *words: str) -> tuple[int, str]:
        command = [*LANXFER, "-s", self.devices.state("kitchen").path, *words]
        done = subprocess.run(
            command, env=self.environment, cwd=self.devices.folder, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate()


def test_serve(tmp_path: Path) -> None:
    """The commands that share a bucket and a server's folder share them."""
    # covers: S2-47
    pytest.importorskip("s3fs")
    pytest.importorskip("paramiko")
    install, serve = SHELL[0].splitlines()
    extras = (ROOT / "setup.cfg").read_text()
    assert install == "pip install '.[stores]'" and "\nstores =" in extras
    served = tmp_path / "served"
    with object_server(tmp_path / "s3") as s3, sshd(tmp_path / "ssh") as ssh:
        s3.fs.pipe_file(f"{BUCKET}/films/a.mkv", b"film")
        line = serve.replace("my-bucket", BUCKET)
        line = line.replace("anna@backup/srv/work", f"{ssh.user}@127.0.0.1:{ssh.port}{served}")
        environment = {
            "FSSPEC_S3_ENDPOINT_URL": s3.options["endpoint_url"],
            "FSSPEC_S3_KEY": s3.options["key"],
            "FSSPEC_S3_SECRET": s3.options["secret"],
            "FSSPEC_SFTP_KEY_FILENAME": str(ssh.user_key),
            "FSSPEC_SFTP_PASSPHRASE": ssh.passphrase,
            "FSSPEC_SFTP_KNOWN_HOSTS": str(ssh.known_hosts()),
        }
        named = re.findall(r"export (\w+)=", SHELL[1])
        assert set(named) <= set(environment) and SHELL[1].splitlines()[-1] in serve.replace(
            "--share films=s3://my-bucket/films ", ""
        )
        (tmp_path / "report.pdf").write_bytes(b"a report")
        typed = Typed(Devices(tmp_path), line, environment)
        try:
            assert "SHARE work" in typed.errors.read_text()
            code, listed = typed.type("ls", "nas:")
            assert code == Exit.OK and "films/" in listed and "work/" in listed
            assert typed.type("get", "nas:films/a.mkv")[0] == Exit.OK
            assert (tmp_path / "a.mkv").read_bytes() == b"film"
            assert typed.type("put", "report.pdf", "nas:work/in/")[0] == Exit.OK
            assert (served / "in" / "report.pdf").read_bytes() == b"a report"
            code, said = typed.type("put", "report.pdf", "nas:films/b.pdf")
            assert code != Exit.OK and "reading only" in said
            assert typed.type("mv", "nas:work/in/report.pdf", "work/old.pdf")[0] == Exit.OK
            assert typed.type("rm", "-r", "nas:work/in")[0] == Exit.OK
            assert [each for each in os.listdir(served) if each[0] != "."] == ["old.pdf"]
        finally:
            typed.end()


class ApplicationTests:
    @in_reactor
    async def test_programs(self, devices: Devices, tmp_path: Path) -> None:
        """The programs of the page share what they say they share."""
        # covers: S2-44
        pytest.importorskip("s3fs")
        service = await devices.start("nas")
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        file = devices.source("f", b"content")
        closes: list[Callable[[], object]] = []
        with object_server(tmp_path / "s3") as s3:
            there = s3.options["endpoint_url"]
            for program in PYTHON:
                text = program.replace("http://minio:9000", there).replace("bucket/", f"{BUCKET}/")
                names: dict[str, Any] = {"service": service}
                exec(text.replace("/var/lib/app", str(tmp_path / "app")), names)
                if "store" in names:
                    closes.append(names["store"].close)
            shared = [each.name async for each in client.list()]
            assert shared == ["scratch", "home", "films", "counted"]
            for name in shared:
                assert (await client.put(file, f"{name}/a/b")).stored == f"{name}/a/b"
                await client.get(f"{name}/a/b", tmp_path / f"{name}.got")
                assert (tmp_path / f"{name}.got").read_bytes() == b"content"
            assert names["counting"].stored == 1
            assert s3.fs.cat(f"{BUCKET}/films/a/b") == b"content"
            await client.close()
            await devices.close()
            for close in closes:
                close()


def test_numbers() -> None:
    """The numbers and names of the page are those of the code."""
    assert MARK in TEXT and f"{limits.STORE_WAITING} may wait" in TEXT
    assert limits.STORE_PATIENCE == 60.0 and "for a minute" in TEXT
