"""rsync's own daemon: in clear, and it verifies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.peers import Peer, path_of, place_half
from bench.place import Run
from bench.programs import HOST


class Rsync(Peer):
    name = "rsync daemon"
    needs = ("rsync",)
    also: tuple[str, ...] = ()

    def serve(self, run: Run, port: int) -> Sequence[str]:
        settings = run.folder / "rsyncd.conf"
        settings.write_text(
            f"use chroot = no\nlog file = {run.folder / 'rsyncd.log'}\n"
            f"pid file = {run.folder / 'rsyncd.pid'}\n"
            f"[in]\npath = {run.inbox}\nread only = no\n"
            + (f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.getuid() == 0 else "")
        )
        where = (f"--config={settings}", f"--port={port}", f"--address={HOST}")
        return [path_of("rsync"), "--daemon", "--no-detach", *where]

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        target = f"rsync://{HOST}:{port}/in/"
        return [path_of("rsync"), "-a", *self.also, *map(str, sources), target]


class Durable(Rsync):
    """Each file on the disk before rsync goes on."""

    name = "rsync daemon --fsync"
    also = ("--fsync",)


class Append(Rsync):
    """Goes on with what is there, and reads it on both sides, as lanxfer does."""

    name = "rsync --append-verify"
    also = ("--append-verify",)

    def prepare(self, run: Run, port: int, sources: Sequence[Path]) -> None:
        for each in sources:
            place_half(each, self.received(run, each))
