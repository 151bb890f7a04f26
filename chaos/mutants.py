"""Bugs planted on purpose, one at a time, in a copy of the package: each has to be found.

What would let a real bug through would let these through.  Every mutant names
the command, or the test, that must end with a breach; one whose command does
not exist here is said and not counted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from attrs import frozen

from chaos.figures import BREACH, Figures

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 60.0
"""Seconds after which a command that no longer ends has noticed as well."""


@frozen
class Mutant:
    """``before`` stands once in ``file`` and becomes ``after``; ``by`` must notice."""

    name: str
    file: str
    before: str
    after: str
    by: tuple[str, ...]


SIM = ("sim", "--seeds", "1500", "--first")
FUZZ = ("fuzz", "--count", "10000", "--first")
LEAK = ("leak", "--lives", "28")


def _resume(form: str) -> tuple[str, ...]:
    return ("resume", "--size", "96", "--form", form)


def _test(name: str, about: str = "") -> tuple[str, ...]:
    return ("pytest", name, *(("-k", about) if about else ()))


MUTANTS = (
    Mutant(
        "ok before the file has its name",
        "lanxfer/commands/receiving.py",
        "        return await node.in_store(store, part.publish, digest)\n",
        "        node.in_store(store, part.publish, digest)\n"
        '        return Stored(str(path), offer.size, digest or "")\n',
        SIM,
    ),
    Mutant(
        "a name that is taken is taken again",
        "lanxfer/storage/memory.py",
        "if facts is None and conflict is not Conflict.SERIES:",
        "if conflict is not Conflict.SERIES:",
        SIM,
    ),
    Mutant(
        "receipts not recorded",
        "lanxfer/storage/publishing.py",
        "            self.receipts.remember(published)\n",
        "            pass\n",
        _test("tests/test_storage.py", "receipt or remembered or again"),
    ),
    Mutant(
        "a part stays locked",
        "lanxfer/storage/memory.py",
        "        self._closed = True\n        self._store._open.discard(self._key)\n",
        "        self._closed = True\n",
        SIM,
    ),
    Mutant(
        "a place for receiving never comes back",
        "lanxfer/commands/receiving.py",
        "    finally:\n        node.received(call.principal)\n",
        "    finally:\n        pass\n",
        SIM,
    ),
    Mutant(
        "a transfer finishes twice",
        "lanxfer/registry.py",
        '        """The one way out; whoever comes second changes nothing."""\n'
        "        if self.state.finished:\n            return\n",
        '        """The one way out; whoever comes second changes nothing."""\n',
        SIM,
    ),
    Mutant(
        "no credit is given back",
        "lanxfer/calls.py",
        "            self._outbox.say(Window(self.id, self._owed))\n",
        "            pass\n",
        SIM,
    ),
    Mutant(
        "a request is forgotten when its connection breaks",
        "lanxfer/protocol.py",
        "        self._end_exchanges(error)\n        if self.queue is not None:\n",
        "        self._exchanges = {}\n        if self.queue is not None:\n",
        SIM,
    ),
    Mutant(
        "something is asked on a connection that is over",
        "lanxfer/asking.py",
        "        if outbox is None or outbox.closed or self.deaf:\n",
        "        if outbox is None:\n",
        SIM,
    ),
    Mutant(
        "of a pack that was lost nothing can have arrived",
        "lanxfer/ahead.py",
        "loaded.unsure = entry.path in self._unsure",
        "loaded.unsure = False",
        SIM,
    ),
    Mutant(
        "a cancel is answered twice",
        "lanxfer/protocol.py",
        "        call.over()\n        call.answered()\n",
        '        if isinstance(answer, Failed) and answer.code == "cancelled":\n'
        "            self._outbox.say(answer)\n"
        "        call.over()\n        call.answered()\n",
        SIM,
    ),
    Mutant(
        "what was cancelled between two tries is sent",
        "lanxfer/delivery.py",
        "            if transfer.given_up is not None:  # cancelled while that took its time\n",
        "            if False:\n",
        SIM,
    ),
    Mutant(
        "a source that changed is not noticed",
        "lanxfer/bodies.py",
        "        self._source.check_unchanged()\n",
        "",
        SIM,
    ),
    Mutant(
        "the offset of a resume is not proved",
        "lanxfer/storage/sources.py",
        "agreed = [at for at, digest in have if at in found and found[at].hexdigest() == digest]",
        "agreed = [at for at, digest in have if at in found]",
        _resume("damaged"),
    ),
    Mutant(
        "a resume begins at 0",
        "lanxfer/storage/sources.py",
        "        self.position = max(agreed, default=0)\n",
        "        self.position, agreed = 0, []\n",
        _resume("cut"),
    ),
    Mutant(
        "names are not looked at",
        "lanxfer/storage/names.py",
        "        _refuse_component(part)\n",
        "        pass\n",
        FUZZ,
    ),
    Mutant(
        "a ticket is good twice",
        "lanxfer/node.py",
        "        del self.slots[session]\n",
        "",
        FUZZ,
    ),
    Mutant(
        "a stranger is no longer refused",
        "lanxfer/policy.py",
        "        return NotPaired(_LOG_IN) if principal.standing is Standing.VISITOR"
        " else NotPaired()\n",
        "        return None if known else UnknownCommand()\n",
        FUZZ,
    ),
    Mutant(
        "a source is not closed",
        "lanxfer/bodies.py",
        "        self._ahead.clear()\n        self._source.close()\n",
        "        self._ahead.clear()\n",
        LEAK,
    ),
    Mutant(
        "a stretch takes parts of other files for its own",
        "lanxfer/stretch_in.py",
        "return packet.body if goes_on and fits else 0",
        "return packet.body if fits else 0",
        _test("tests/test_stretch_in.py"),
    ),
    Mutant(
        "a stretch that was taken back sends on",
        "lanxfer/stretch_out.py",
        "            if self.revoked or not self._credit:\n",
        "            if not self._credit:\n",
        _test("tests/test_stretch_out.py"),
    ),
    Mutant(
        "what is encrypted already is sent again",
        "lanxfer/sealed.py",
        "return None if self._plain.lost and not sent else sent",
        "return None if self._plain.lost else sent",
        _test("tests/test_sealed.py"),
    ),
    Mutant(
        "memory that is still being sent is used again",
        "lanxfer/direct.py",
        "        return bool(self.said - self._left - otherwise >= said)\n",
        "        return True\n",
        _test("tests/test_packs.py", "answered_early"),
    ),
    Mutant(
        "what lies behind a body is taken for a part of it",
        "lanxfer/gathering.py",
        "            size = min(size, left)\n",
        "            size = size\n",
        _test("tests/test_gathering.py"),
    ),
    Mutant(
        "no sync before the ok",
        "lanxfer/storage/publishing.py",
        "        self.dress(fd, offer)\n        sync(fd)\n",
        "        self.dress(fd, offer)\n",
        _test("tests/test_storage_local.py", "sync or order or crash"),
    ),
    Mutant(
        "the digest is not compared",
        "lanxfer/storage/parts.py",
        "        if digest is not None and digest != found:\n            self.discard()\n"
        "            raise DigestMismatch()\n        try:\n",
        "        try:\n",
        _test("tests/test_storage.py", "digest or mismatch"),
    ),
    Mutant(
        "staging is not tidied",
        "lanxfer/storage/staging.py",
        "                removed += self._tidy_one(match[1], now - older_than)\n",
        "                pass\n",
        _test("tests/test_storage_local.py", "tidy or tidied or stage or staging"),
    ),
    Mutant(
        "what could not be written gets its name with the folder",
        "lanxfer/storage/batches.py",
        "                    file.new.remove(file.name)\n",
        "                    pass\n",
        _test("tests/test_storage_new_folders.py", "damaged or half_written"),
    ),
    Mutant(
        "a folder has its name, and staging may still have it as well",
        "lanxfer/storage/tree.py",
        "                for each in (staging, folder):\n",
        "                for each in (folder,):\n",
        _test("tests/test_storage_new_folders.py", "durable"),
    ),
    Mutant(
        "nobody claims what is to be there once more",
        "lanxfer/storage/batches.py",
        "            if file.small.conflict is Conflict.SERIES:\n",
        "            if False:\n",
        _test("tests/test_storage.py", "one_writer"),
    ),
    Mutant(
        "what broke off on the short way is forgotten",
        "lanxfer/cli/straight_many.py",
        "            self._left[:0] = chain.from_iterable("
        "map(_given_back, [*self._open, *way.files]))\n",
        "",
        _test("tests/test_cli_straight_many.py", "lost"),
    ),
    Mutant(
        "a large file that is to be tried again on the short way is forgotten",
        "lanxfer/cli/straight_many.py",
        "            self._left.append(large.give_back())\n",
        "            large.give_back()\n",
        _test("tests/test_cli_straight_large.py", "busy or changed or lost"),
    ),
    Mutant(
        "whoever shows a certificate is whom one met before",
        "lanxfer/peers.py",
        "            return self._by_certificate.get(name_certificate(der))\n",
        "            return next(iter(self._by_certificate.values()), None)\n",
        _test("tests/test_cli_straight.py", "met_before"),
    ),
    Mutant(
        "many senders may fill the memory",
        "lanxfer/backpressure.py",
        " or (self._over_share and not self._lapsed)",
        "",
        _test("tests/test_packs.py", "many_connections"),
    ),
    Mutant(
        "a limit off by one",
        "lanxfer/receiver.py",
        "            if len(line) > limit:\n",
        "            if len(line) > limit + 1:\n",
        _test("tests/test_receiver.py"),
    ),
    Mutant(
        "the deadline of a header never starts",
        "lanxfer/door.py",
        "        self._deadline = self.factory.clock.callLater(seconds, self._too_late)\n",
        "        pass\n",
        _test("tests/test_door.py"),
    ),
)


def plant(mutant: Mutant, folder: Path) -> None:
    """A copy of the checkout with the bug in it; ClickException where it no longer fits."""
    for name in ("lanxfer", "chaos", "tests", "twisted", "bench", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", ".mypy_cache", ".hypothesis")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.cfg", "README.rst"):
        shutil.copy(ROOT / name, folder / name)
    path = folder / mutant.file
    text = path.read_text()
    if text.count(mutant.before) != 1:
        raise click.ClickException(f"{mutant.name}: {mutant.file} is not as it was")
    path.write_text(text.replace(mutant.before, mutant.after))


def exists(by: Sequence[str]) -> bool:
    return by[0] == "pytest" or (ROOT / "chaos" / f"{by[0]}.py").exists()


def caught(mutant: Mutant) -> bool:
    """Whether what must notice it does."""
    with tempfile.TemporaryDirectory(prefix="lanxfer-mutant-") as name:
        folder = Path(name)
        plant(mutant, folder)
        if mutant.by[0] == "pytest":
            options = ("-x", "-q", "-p", "no:cacheprovider", "--no-header")
            run = ["-m", *mutant.by, *options]
        else:
            run = ["-m", "chaos", *mutant.by]
        environment = {**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            ended = subprocess.run(
                [sys.executable, *run],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return True
        return ended.returncode == (1 if mutant.by[0] == "pytest" else BREACH)


@click.command(help=__doc__)
@click.option("--only", help="those with this in their name")
@click.option("--processes", default=2, show_default=True)
def command(only: str | None, processes: int) -> None:
    figures = Figures()
    chosen = [each for each in MUTANTS if only is None or only in each.name]
    able = [each for each in chosen if exists(each.by)]
    for each in chosen:
        if each not in able:
            print(f"{each.name}: there is no chaos {each.by[0]} here")
    found = 0
    with ThreadPoolExecutor(processes) as pool:
        for at, (mutant, noticed) in enumerate(zip(able, pool.map(caught, able), strict=True)):
            found += noticed
            figures.tell(at + 1, len(able), "mutants")
            print(f"{mutant.name}: {'caught' if noticed else 'SURVIVED'} ({' '.join(mutant.by)})")
    figures.add("planted", len(able))
    figures.add("caught", found, least=len(able))
    figures.finish()
