"""Two processes on loopback: one that serves, and one after the other that asks it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from types import TracebackType

from bench.place import Run
from bench.processes import BenchFailed, Side
from bench.samples import Sample
from lanxfer.sockets import READ_SIZE
from lanxfer.wire import limits


class Speech(Enum):
    """Who talks, and how."""

    BARE = "bare Twisted"
    PLAIN = "lanxfer"
    TLS = "lanxfer TLS"


class Pair:
    """A server of its own for one run; ``profile`` is where its profiler writes, if it has one."""

    def __init__(self, speech: Speech, run: Run, profile: Path | None = None) -> None:
        self._speech = speech
        self._run = run
        if speech is Speech.BARE:
            self._server = self._side("bare", ["serve", str(self.received)], run.server, profile)
        else:
            self._server = self._side("inbox", [str(run.inbox)], run.server, profile)
        self._address = ""

    @property
    def received(self) -> Path:
        """Where the bare pair puts its one file."""
        return self._run.inbox / "received.bin"

    def _side(self, module: str, args: list[str], state: Path, profile: Path | None) -> Side:
        if self._speech is Speech.BARE:
            args += ["--unit", str(limits.UNIT), "--read-size", str(READ_SIZE)]
        else:
            args += ["--state", str(state)]
            if self._speech is Speech.PLAIN:
                args.append("--plain")
        if profile is not None:
            args += ["--profile", str(profile)]
        return Side(f"bench.{module}", args, str(self._run.folder / f"{state.name}.log"))

    def ask(self, verb: str, what: Path | int, profile: Path | None = None) -> Sample:
        """Have a client do one thing, and see what it cost both."""
        before = self._server.ask()
        args = [verb, str(what), "--address", self._address]
        module = "bare" if self._speech is Speech.BARE else "ours"
        with self._side(module, args, self._run.client, profile) as client:
            ended = client.end()
        after = self._server.ask()
        said = ended.said
        return Sample(
            said.get("seconds", 0.0),
            ended.cpu,
            after["cpu"] - before["cpu"],
            said.get("peak", 0),
            after["peak"],
            said.get("each", []),
        )

    def __enter__(self) -> Pair:
        self._server.__enter__()
        try:
            said = self._server.hear()
            if said is None or "listening" not in said:
                self._server.end()
                raise BenchFailed("The server did not say where it listens.")
            self._address = str(said["listening"])
        except BaseException:
            self._server.__exit__()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._server.end()
        finally:
            self._server.__exit__()
