"""``python -m chaos escape``: folders become links to elsewhere while files arrive (F16, P12)."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import random
import tempfile
from collections import Counter
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import click
from blake3 import blake3

from chaos.figures import Figures
from lanxfer.errors import LanxferError
from lanxfer.storage import Small
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import part_key, safe_path
from lanxfer.transfers import Conflict, Offer, Stored

FOLDERS = 4
NAMES = 200
NAIVE = 20_000

_AT_FDCWD = -100
_EXCHANGE = 2


def _exchange(inbox: str, outside: str, going: Any, count: Synchronized[int]) -> None:
    """Swap each folder and the link beside it, as fast as it goes."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    pairs = [
        (os.fsencode(f"{inbox}/{name}"), os.fsencode(f"{inbox}/{name}-other"))
        for name in _folders()
    ]
    done = 0
    while going.value:
        for one, other in pairs:
            failed = renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _EXCHANGE)
            # The inner ones are reached through the outer ones, which may be links just now.
            if failed and ctypes.get_errno() != errno.ENOENT:
                raise OSError(ctypes.get_errno(), "renameat2")
            done += not failed
        count.value = done


def _folders() -> list[str]:
    """Some at the top and some within others that are exchanged themselves."""
    return [f"d{each}" for each in range(FOLDERS)] + ["d0/sub", "d1/sub"]


def _lay_out(inbox: Path, outside: Path) -> None:
    for number in range(FOLDERS):
        (inbox / f"d{number}" / "sub").mkdir(parents=True)
        (outside / f"d{number}" / "sub").mkdir(parents=True)
    for name in _folders():
        os.symlink(outside / name, inbox / f"{name}-other")


def _naive(inbox: Path, outside: Path, number: int, chance: random.Random) -> int:
    """What check-then-open does in the same storm, so that the storm is known to be one."""
    root = os.path.realpath(inbox)
    for at in range(number):
        folder = os.path.join(root, f"d{chance.randrange(FOLDERS)}")
        path = os.path.join(folder, f"naive{at % NAMES}")
        try:
            if os.path.realpath(folder).startswith(root + os.sep):
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError:
            continue
    return len(list(outside.rglob("naive*")))


def _small(name: str, data: bytes, conflict: Conflict) -> Small:
    path = safe_path(name)
    offer = Offer(name, len(data), digest=blake3(data).hexdigest(), conflict=conflict)
    return Small("peer:chaos", offer, path, conflict, [data])


def _stream(store: LocalStore, name: str, data: bytes) -> Stored:
    offer = Offer(name, len(data))
    key = part_key("peer:chaos", name, len(data), None)
    part = store.open_part(key, offer, safe_path(name), Conflict.OVERWRITE)
    try:
        part.begin(0, True)
        part.write([data])
        return part.publish(blake3(data).hexdigest())
    except BaseException:
        part.discard()
        raise


def _storm(store: LocalStore, number: int, chance: random.Random, figures: Figures) -> Counter[str]:
    """Publish ``number`` files through the folders; what became of them."""
    found: Counter[str] = Counter()
    done = 0
    while done < number:
        batch = []
        for _ in range(min(64, number - done)):
            name = f"{chance.choice(_folders())}/f{chance.randrange(NAMES)}"
            data = chance.randbytes(chance.randrange(64))
            batch.append(_small(name, data, chance.choice([Conflict.OVERWRITE, Conflict.SKIP])))
        done += len(batch)
        found.update(_word(each) for each in store.put_many(batch))
        for attempt in (
            lambda name: _stream(store, name, chance.randbytes(chance.randrange(1, 5000))),
            lambda name: store.make_folder(safe_path(f"{name}-folder")),
            lambda name: store.make_link(safe_path(f"{name}-link"), "x", Conflict.OVERWRITE),
        ):
            name = f"{chance.choice(_folders())}/g{chance.randrange(NAMES)}"
            try:
                found[_word(attempt(name))] += 1
            except LanxferError as error:
                found[_word(error)] += 1
        figures.tell(done, number, "files")
    return found


def _word(outcome: Stored | LanxferError) -> str:
    return outcome.code if isinstance(outcome, LanxferError) else "stored"


@click.command()
@click.option("--writes", default=1_000_000, help="Files that are published.")
@click.option("--seed", default=0, help="Chooses names, sizes and folders.")
@click.option("--short", is_flag=True, help="50,000 of them.")
def command(writes: int, seed: int, short: bool) -> None:
    """Publish files through folders that another process exchanges for links to outside.

    Nothing may be created, changed or removed outside. A writer that checks first and opens
    then runs in the same storm beforehand, as a proof that there is one.
    """
    number = 50_000 if short else writes
    figures = Figures(seed)
    chance = random.Random(seed)
    context = multiprocessing.get_context("spawn")
    where = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="lanxfer-chaos-", dir=where) as name:
        inbox, outside = Path(name, "inbox"), Path(name, "outside")
        inbox.mkdir()
        _lay_out(inbox, outside)
        store = LocalStore(str(inbox), reserve_bytes=0, reserve_share=0.0)
        going, count = context.Value("b", 1, lock=False), context.Value("q", 0, lock=False)
        other = context.Process(
            target=_exchange, args=(str(inbox), str(outside), going, count), daemon=True
        )
        other.start()
        try:
            while not count.value and other.is_alive():
                pass
            figures.add("a naive writer's escapes", _naive(inbox, outside, NAIVE, chance), least=1)
            for each in outside.rglob("naive*"):
                each.unlink()
            before = sorted(map(str, outside.rglob("*")))
            found = _storm(store, number, chance, figures)
            exchanges = count.value
        finally:
            going.value = 0
            other.join(10)
            store.close()
        after = sorted(map(str, outside.rglob("*")))
        changed = len(set(before) ^ set(after))
        figures.add("exchanges", exchanges)
        for code, times in sorted(found.items()):
            figures.add(f"outcome: {code}", times)
        figures.add("refused because a link was there", found["bad-name"], least=1)
        figures.add("stored", found["stored"], least=1)
        figures.add("bugs", found["internal"], most=0)
        figures.add("escapes", changed, most=0)
    figures.finish()
