"""A real server of S3's protocol on loopback, in a process of its own, with one bucket."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import free_port

BUCKET = "bucket"


class ObjectServer:
    """moto's server; ``options`` are what fsspec needs to reach it."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("moto.server")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "s3.log"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.options: dict[str, Any] = {
            "key": "nobody",
            "secret": "nothing",
            "endpoint_url": f"http://127.0.0.1:{self.port}",
        }
        try:
            self._await()
            self.fs.mkdir(BUCKET)
        except BaseException:
            self.stop()
            raise

    def _await(self) -> None:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.05)
        raise AssertionError(f"moto does not answer: {self.log.read_text()}")

    @property
    def fs(self) -> Any:
        """What is in it, seen by fsspec itself."""
        from s3fs import S3FileSystem  # type: ignore[import-untyped]

        options = {"use_listings_cache": False, "skip_instance_cache": True}
        return S3FileSystem(**self.options, **options)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def object_server(folder: Path) -> Iterator[ObjectServer]:
    server = ObjectServer(folder)
    try:
        yield server
    finally:
        server.stop()
