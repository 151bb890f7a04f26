"""lanxfer itself, as its user runs it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.peers import Peer
from bench.place import Run
from bench.processes import BenchFailed
from bench.programs import HOST, Serving, free_port, serving
from bench.programs import run as measured

_PATIENCE = 10.0
"""Seconds in which a service that listens also has its control socket."""


def command() -> str:
    """The ``lanxfer`` of the environment that runs the bench."""
    return str(Path(sys.executable).with_name("lanxfer"))


class Lanxfer(Peer):
    """Two devices that know each other, over TLS."""

    name = "lanxfer TLS"
    secure = True
    ours = True
    needs = (command(),)

    def serve(self, run: Run, port: int) -> Sequence[str]:
        where = ("-p", str(port), "-b", HOST, "-i", str(run.inbox), "--state", str(run.server))
        return [command(), "serve", "--allow-root", *where, *self.also_serve]

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        how = ("-q", "--state", str(run.client), *self.also_send)
        return [command(), "send", *how, *map(str, sources), f"{HOST}:{port}"]

    also_serve: tuple[str, ...] = ()
    also_send: tuple[str, ...] = ()


class Handed(Lanxfer):
    """As it is where the sending device has a service of its own, which the command asks."""

    name = "lanxfer TLS, service here"

    @contextmanager
    def beside(self, run: Run) -> Iterator[Serving]:
        port = free_port()
        where = ("-p", str(port), "-b", HOST, "-i", str(run.folder / "own"))
        argv = [command(), "serve", "--allow-root", *where, "--state", str(run.client)]
        with serving(argv, port, run.folder / "own.log") as service:
            until = time.monotonic() + _PATIENCE
            while not (run.client / "control.sock").exists():
                if time.monotonic() > until:
                    raise BenchFailed("The sender's own service has no control socket.")
                time.sleep(0.01)
            yield service


class Plain(Lanxfer):
    """In clear, as on a wire that is nobody else's."""

    name = "lanxfer"
    secure = False
    also_serve: tuple[str, ...] = ("--plain-from", "127.0.0.0/8", "--open")
    also_send: tuple[str, ...] = ("--plain",)


class ClearBody(Lanxfer):
    """Over TLS but for the bytes of large files, which anybody may read and nobody change."""

    name = "lanxfer clear body"
    also_serve = ("--accept-clear-body",)
    also_send = ("--clear-body",)


class HandedPlain(Plain, Handed):
    """In clear, by a service on the sending device."""

    name = "lanxfer, service here"


class Together(Plain):
    """The same files named to one ``lanxfer send``, which takes them as they come."""

    name = "lanxfer send"


class Many(Plain):
    """All files of one folder at once, by the client API in one process."""

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        return self._api("many", run, port, sources)

    def _api(self, verb: str, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        (source,) = sources
        what = (verb, str(source), "--address", f"{HOST}:{port}", "--state", str(run.client))
        return [sys.executable, "-m", "bench.ours", *what, *self.also_send]

    def received(self, run: Run, source: Path) -> Path:
        return run.inbox


class ManyTls(Many):
    name = Lanxfer.name
    secure = True
    also_serve = ()
    also_send = ()


class Resumed(Many):
    """Goes on with what a sender that vanished half-way left behind."""

    def prepare(self, run: Run, port: int, sources: Sequence[Path]) -> None:
        (source,) = sources
        measured(self._api("half", run, port, sources), run.folder / "half.log")
        # Nothing else there may be as large: it has to be seen that there is something to resume.
        held = max(each.stat().st_size for each in run.inbox.rglob("*") if each.is_file())
        if held < 0.4 * source.stat().st_size:
            raise BenchFailed("A transfer that broke half-way left nothing to go on with.")

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        said = Lanxfer.send(self, run, port, sources)
        return ["--json" if each == "-q" else each for each in said]

    def confirm(self, said: str) -> None:
        if '"resumed_from": ' not in said or '"resumed_from": 0' in said:
            raise BenchFailed("The broken transfer was begun anew.")

    def received(self, run: Run, source: Path) -> Path:
        return run.inbox / source.name


class ResumedTls(Resumed):
    name = Lanxfer.name
    secure = True
    also_serve = ()
    also_send = ()
