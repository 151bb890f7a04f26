"""A large file cut off at 99 %, and how soon and how little of it is sent again.

Five times: just cut; with the last byte of the part damaged; with its last 8 MiB
zeroed, as after a power cut; with bytes behind its end that nobody sent; and with
both sides begun anew, so that neither remembers anything.  Bytes sent again
are those the first run had sent beyond the point where the second began.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
from twisted.internet.defer import Deferred

from chaos.figures import Figures
from chaos.sides import MIB, Sides, reactor, run, sleep
from lanxfer.client import Client
from lanxfer.errors import Lost
from lanxfer.storage import sources
from lanxfer.transfers import Receipt, Snapshot

AGAIN_MOST = 32
"""MiB that an interruption may cost."""

SOON = 2.0
"""Seconds from asking again to the first new byte."""

ANEW_RATE = 1024
"""MiB a second at which two sides that remember nothing read what each of them has."""

ZEROED = 8 * MIB


def _damage(part: Path) -> None:
    with open(part, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


def _zero(part: Path) -> None:
    with open(part, "r+b") as file:
        file.seek(-ZEROED, os.SEEK_END)
        file.write(bytes(ZEROED))


def _lengthen(part: Path) -> None:
    with open(part, "ab") as file:
        file.write(os.urandom(MIB))


def _leave(part: Path) -> None:
    """Nothing happens to it."""


FORMS: dict[str, Callable[[Path], None]] = {
    "cut": _leave,
    "damaged": _damage,
    "zeroed": _zero,
    "longer": _lengthen,
    "anew": _leave,
}


async def _cut(client: Client, path: str, name: str) -> int:
    """Send until 99 % and break the connection; how far it came."""
    reached: Deferred[int] = Deferred()

    def progress(done: int, size: int) -> None:
        if done >= size * 0.99 and not reached.called:
            reached.callback(done)

    last: list[int] = []
    unsubscribe = client.registry.subscribe(lambda now: last.append(now.done))
    sending = client.send_file(path, name=name, on_progress=progress)
    await reached
    (await client.connected()).abort(Lost())
    try:
        await sending
    except Lost:
        return max(last)
    finally:
        unsubscribe()
    raise RuntimeError("the connection was not cut in time; use a larger --size")


async def _again(client: Client, path: str, name: str) -> tuple[Receipt, float]:
    """Send the rest; the receipt, and the seconds until the first of it was under way."""
    began = reactor.seconds()
    first: list[float] = []

    def told(now: Snapshot) -> None:
        if now.done and not first:
            first.append(reactor.seconds() - began)

    unsubscribe = client.registry.subscribe(told)
    receipt = await client.send_file(path, name=name)
    unsubscribe()
    return receipt, first[0]


async def _form(sides: Sides, path: str, form: str, figures: Figures) -> None:
    name = f"{form}.bin"
    size = os.path.getsize(path) // MIB
    client = await sides.client(patience=0.0)
    sent = await _cut(client, path, name)
    while len(sides.service.registry):
        await sleep(0.01)
    if form == "anew":
        await client.close(1.0)
        await sides.stop()
        sources.forget_marks()
        await sides.start()
        client = await sides.client(patience=0.0)
    (part,) = (sides.inbox / ".lanxfer-staging").glob("*.part")
    FORMS[form](part)
    receipt, soon = await _again(client, path, name)
    await client.close(1.0)
    same = await _same(Path(path), sides.inbox / receipt.stored)
    figures.add(f"{form}: sent again", (sent - receipt.resumed_from) / MIB, "MiB", most=AGAIN_MOST)
    most = SOON if form != "anew" else SOON + size / ANEW_RATE
    figures.add(f"{form}: first new byte", soon, "s", most=most)
    figures.add(f"{form}: the same file", same, least=1)
    os.unlink(sides.inbox / receipt.stored)


async def _same(one: Path, two: Path) -> bool:
    with open(one, "rb") as first, open(two, "rb") as second:
        while piece := first.read(MIB):
            if piece != second.read(MIB):
                return False
        return not second.read(1)


def numbered(folder: Path, size: int) -> str:
    """A file of ``size`` bytes of which no two MiB are alike."""
    path = folder / "large.bin"
    block = os.urandom(MIB)
    with open(path, "wb") as file:
        for at in range(size // MIB):
            file.write(at.to_bytes(8, "big") + block[8:])
    return str(path)


def place(parent: str | None, needed: int) -> str | None:
    """Where there is room for so many bytes: in memory if that can be, else on the disk."""
    if parent is not None or not os.path.isdir("/dev/shm"):
        return parent
    room = shutil.disk_usage("/dev/shm").free > needed + 2048 * MIB
    return "/dev/shm" if room else None


@click.command(help=__doc__)
@click.option("--size", default=4096, show_default=True, help="of the file, in MiB")
@click.option("--form", "forms", multiple=True, type=click.Choice(list(FORMS)))
@click.option("--dir", "parent", help="on the disk to be measured (default: in memory)")
def command(size: int, forms: tuple[str, ...], parent: str | None) -> None:
    figures = Figures()
    where = place(parent, 3 * size * MIB)

    async def work() -> None:
        sides = Sides(os.path.realpath(folder))
        path = numbered(sides.folder, size * MIB)
        await sides.start()
        for at, form in enumerate(forms or FORMS):
            figures.tell(at, len(forms or FORMS), "forms")
            await _form(sides, path, form, figures)
        await sides.stop()

    with tempfile.TemporaryDirectory(prefix="lanxfer-resume-", dir=where) as folder:
        run(work)
    figures.add("forms", len([each for each in figures.all if "same" in each.name]), least=1)
    figures.finish()
