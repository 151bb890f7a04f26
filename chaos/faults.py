"""Every file call of the storage fails, with every error there is (catalogue R01, R02, R05; F19).

The storage's modules see another ``os``, whose n-th call of one kind fails,
once or from then on.  Whatever is asked of the store then ends in a receipt
that is true or in a typed error; nothing is lost, no descriptor is left open,
and the same without the fault goes through.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from attrs import define, field, frozen
from blake3 import blake3

from chaos.figures import Figures
from chaos.proof import Verdict, files_below
from chaos.tracing import named
from lanxfer.errors import Internal, LanxferError
from lanxfer.journal import MemoryJournal
from lanxfer.storage import Small, local, parts, publishing, staging, system, tree, wholes
from lanxfer.storage import batches as batch_module
from lanxfer.storage.batches import TOGETHER
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import part_key, safe_path
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits

MODULES: tuple[ModuleType, ...] = (
    local, parts, publishing, staging, system, tree, wholes, batch_module,
)  # fmt: skip
"""Where files are received; those that read what is to be sent are not among them."""

CALLS = (
    "open", "close", "write", "writev", "pread", "lseek", "ftruncate", "fsync", "fchmod",
    "utime", "link", "rename", "symlink", "readlink", "unlink", "mkdir", "stat", "fstat",
    "statvfs", "scandir",
)  # fmt: skip

ERRORS = (
    errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EMFILE, errno.EROFS,
)  # fmt: skip

MTIME = 1_700_000_000_123_456_789
THEIRS = b"somebody else's"
CHECKPOINT = 64 * limits.KIB


@frozen
class Point:
    """The n-th call of a name, from 1; ``ever`` says that all after it fail, too."""

    call: str
    number: int
    error: int
    ever: bool

    def __str__(self) -> str:
        often = " and after" if self.ever else ""
        return f"{self.call} {self.number}{often}: {named(self.error)}"


@define
class _Os:
    """``os`` as the storage sees it."""

    point: Point | None = None
    seen: Counter[str] = field(factory=Counter)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args: Any, **named_args: Any) -> Any:
            self.seen[name] += 1
            self._fail(name, real, args)
            return real(*args, **named_args)

        return call

    def _fail(self, name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> None:
        point = self.point
        if point is None or point.call != name or self.seen[name] < point.number:
            return
        if self.seen[name] > point.number and not point.ever:
            return
        if name == "close":
            real(*args)  # it closes, whatever it says
        raise OSError(point.error, os.strerror(point.error))


@contextmanager
def _seen_as(fake: _Os) -> Iterator[None]:
    try:
        for module in MODULES:
            module.os = fake  # type: ignore[attr-defined]
        yield
    finally:
        for module in MODULES:
            module.os = os  # type: ignore[attr-defined]


# What is asked of the store.


@define
class _Asking:
    """Everything that a peer can have a store do, each step by itself."""

    root: Path
    receipts: MemoryJournal
    data: Mapping[str, bytes]
    answers: dict[str, Stored | BaseException] = field(factory=dict)

    def run(self) -> None:
        """All steps; one that fails does not keep the next ones back."""
        try:
            store = LocalStore(
                str(self.root), receipts=self.receipts, reserve_bytes=0, reserve_share=0.0
            )
        except BaseException as error:
            self.answers["opening"] = error
            return
        try:
            self._note("tidying", lambda: _nothing(store.tidy(0.0)))
            for kind in ("small", "new"):
                self._several(store, [self._small(name) for name in self.data if kind in name])
            for name in self.data:
                if name.startswith(("large", "over")):
                    self._note(name, partial(self._stream, store, name))
            self._note("folder", lambda: store.make_folder(safe_path("made/below")))
            rename = Conflict.RENAME
            self._note("link", lambda: store.make_link(safe_path("to"), "small/0", rename))
            over = Conflict.OVERWRITE
            self._note("relink", lambda: store.make_link(safe_path("old"), "small/0", over))
        finally:
            self._note("closing", store.close)

    def _note(self, name: str, step: Callable[[], Stored | None]) -> None:
        try:
            if (stored := step()) is not None:
                self.answers[name] = stored
        except BaseException as error:
            self.answers[name] = error

    def _several(self, store: LocalStore, smalls: list[Small]) -> None:
        try:
            answers = store.put_many(smalls)
        except BaseException as error:
            answers = [error] * len(smalls)  # type: ignore[list-item]
        for small, answer in zip(smalls, answers, strict=True):
            self.answers[small.offer.path] = answer

    def _small(self, name: str) -> Small:
        offer = self._offer(name)
        return Small("peer:a", offer, safe_path(name), Conflict.RENAME, [self.data[name]])

    def _offer(self, name: str) -> Offer:
        data = self.data[name]
        return Offer(name, len(data), mtime_ns=MTIME, digest=blake3(data).hexdigest())

    def _stream(self, store: LocalStore, name: str) -> Stored:
        """Half of it, a break, and the rest, as a peer sends it whose connection broke."""
        offer, data, path = self._offer(name), self.data[name], safe_path(name)
        conflict = Conflict.OVERWRITE if name == "over" else Conflict.RENAME
        for end in (len(data) // 2, len(data)):
            part = store.open_part(_key(offer), offer, path, conflict)
            try:
                proved = {at: digest for at, digest in part.have() if at <= len(data)}
                same = [
                    at for at, digest in proved.items() if blake3(data[:at]).hexdigest() == digest
                ]
                part.begin(max(same, default=0))
                while part.position < end:
                    part.write([data[part.position : min(end, part.position + 40_000)]])
                if end == len(data):
                    return part.publish(offer.digest)
            finally:
                part.keep()
        raise AssertionError


def _nothing(done: object) -> None:
    """Of some steps no receipt is expected."""


def _key(offer: Offer) -> str:
    return part_key("peer:a", offer.path, offer.size, offer.mtime_ns)


def _descriptors() -> set[str]:
    found = set()
    for each in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(f"{each} {os.readlink(f'/proc/self/fd/{each}')}")
    return {each for each in found if "/proc/" not in each}


@define
class _Trial:
    """One fault, and what was left of it."""

    above: Path
    data: Mapping[str, bytes]
    verdict: Verdict
    complaints: dict[str, list[str]]

    def count(self) -> Counter[str]:
        """The calls made where nothing goes wrong."""
        fake = _Os()
        self._judged(fake, None)
        return fake.seen

    def run(self, point: Point) -> None:
        """Have it happen, look, and do it again without."""
        self._judged(_Os(point), point)

    def _judged(self, fake: _Os, point: Point | None) -> None:
        when = str(point or "no fault")
        root = Path(tempfile.mkdtemp(dir=self.above))
        (root / "small").mkdir()
        (root / "small" / "1").write_bytes(THEIRS)
        (root / "over").write_bytes(THEIRS)
        (root / "old").symlink_to("elsewhere")
        receipts = MemoryJournal()
        before = _descriptors()
        first = _Asking(root, receipts, self.data)
        with _seen_as(fake):
            first.run()
        self._true(root, first, when)
        if more := _descriptors() - before:
            self.complaints["descriptors left open"].append(f"{when}: {more}")
        again = _Asking(root, receipts, self.data)
        again.run()
        for name, answer in again.answers.items():
            if not isinstance(answer, Stored):
                self.complaints["never went through"].append(f"{when}: {name}: {answer!r}")
        self._true(root, again, f"{when}, again")
        for each in sorted(set(files_below(root)) - self._final()):
            self.verdict.complain("doubled", f"{each}, {when}")
        for each in os.listdir(root / ".lanxfer-staging"):
            if each != "lock":
                self.verdict.complain("left over", f"{each}, {when}")
        receipts.close()
        shutil.rmtree(root)

    def _final(self) -> set[str]:
        return {*self.data, "small/1 (2)", "to", "old"}

    def _true(self, root: Path, asking: _Asking, when: str) -> None:
        """Every receipt is true, and everything else is a typed error."""
        for name, answer in asking.answers.items():
            if not isinstance(answer, Stored):
                if not isinstance(answer, LanxferError) or isinstance(answer, Internal):
                    self.complaints["untyped"].append(f"{when}: {name}: {answer!r}")
            elif name in self.data:
                path = root / answer.path
                if not path.exists():
                    self.verdict.complain("lost", f"{answer.path}, {when}")
                elif path.read_bytes() != self.data[name]:
                    self.verdict.complain("damaged", f"{answer.path}, {when}")
        for name, path in files_below(root).items():
            right = [self.data.get(name, THEIRS)] if name != "small/1" else [THEIRS]
            right += [THEIRS] if name == "over" else []
            if name in self.data and path.read_bytes() not in right:
                self.verdict.complain("damaged", f"{name} is half there, {when}")
        for name in ("small/1", "over"):
            if not (root / name).exists():
                self.verdict.complain("lost", f"{name}, that was there before, {when}")


KINDS = ("untyped", "descriptors left open", "never went through")


@click.command()
@click.option("--sample", default=0, help="Only so many of them, drawn by chance; 0 is all.")
@click.option("--seed", type=int, default=None, help="For the same again.")
def command(sample: int, seed: int | None) -> None:
    """Fail each file call of the storage: each answer is true or typed, nothing is lost or left."""
    seed = random.randrange(2**32) if seed is None else seed
    rng = random.Random(seed)
    figures = Figures(seed)
    limits.CHECKPOINT = CHECKPOINT
    data = {f"small/{number}": rng.randbytes(rng.randrange(5000)) for number in range(3)}
    data |= {f"new/{number}": rng.randbytes(100) for number in range(TOGETHER)}
    data |= {"small/a/b/3": b"", "large": rng.randbytes(300_000)}
    data["over"] = rng.randbytes(100_000)
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="lanxfer-chaos-", dir=shared) as above:
        trial = _Trial(Path(above), data, Verdict(), {kind: [] for kind in KINDS})
        seen = trial.count()
        points = [
            Point(call, number, error, ever)
            for call in CALLS
            for number in range(1, seen[call] + 1)
            for error in ERRORS
            for ever in (False, True)
        ]
        if sample and sample < len(points):
            points = rng.sample(points, sample)
        for number, point in enumerate(points):
            trial.run(point)
            figures.tell(number + 1, len(points), "faults")
    figures.add("calls of the storage", sum(seen.values()))
    figures.add("faults", len(points), least=1)
    trial.verdict.show(figures)
    for kind, found in trial.complaints.items():
        figures.add(kind, len(found), most=0)
        for each in found[:8]:
            print(f"  {kind}: {each}")
    figures.finish()
