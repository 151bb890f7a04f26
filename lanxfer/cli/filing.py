"""What ``lanxfer ls``, ``get``, ``put``, ``rm``, ``mv`` and ``mkdir`` do."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from lanxfer.cli.jobs import Over
from lanxfer.cli.output import count, harmless, human_size
from lanxfer.cli.progress import show_progress
from lanxfer.cli.running import Run
from lanxfer.client import Client, connect
from lanxfer.errors import Cancelled, Exists, Exit, LanxferError
from lanxfer.fetching import FileFacts, as_row
from lanxfer.tally import Tally
from lanxfer.transfers import Conflict, Kind, Receipt
from lanxfer.trees import Sent


@asynccontextmanager
async def _device(here: Run, over: Over) -> AsyncIterator[Client]:
    client = await connect(here.reactor, over.peer, state=here.choices.state)
    try:
        yield client
    finally:
        with suppress(Cancelled):
            await client.close()


async def ls(here: Run, over: Over, path: str, recursive: bool) -> int:
    """List it, line by line as it comes; the exit code."""
    async with _device(here, over) as client:
        if not path:
            entries = client.list()
        else:
            facts = await client.stat(path)
            if facts.kind != "folder":
                _show(here, facts, facts.name)
                return int(Exit.OK)
            entries = client.walk(path) if recursive else client.list(path)
        top = path.strip("/")
        async for facts in entries:
            _show(here, facts, facts.path[len(top) :].lstrip("/") if top else facts.path)
    return int(Exit.OK)


def _show(here: Run, facts: FileFacts, name: str) -> None:
    here.out.row(as_row(facts))
    size = human_size(facts.size) if facts.kind == "file" else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(facts.mtime_ns / 1e9))
    mark = {"folder": "/", "link": f" -> {facts.target}"}.get(facts.kind, "")
    here.out.line(f"{size:>10}  {when}  {harmless(name + mark)}")


async def get(here: Run, over: Over, path: str, local: str, conflict: Conflict) -> int:
    """Fetch it; the exit code."""
    began = here.reactor.seconds()
    async with _device(here, over) as client:
        facts = await client.stat(path)
        if facts.kind != "folder":
            with _shown(here, over, client, facts.size), _option("--conflict"):
                receipt = await client.get(path, local, conflict=conflict)
            return _told(here, facts.path, receipt)
        target = os.path.join(local, facts.name) if os.path.isdir(local) else local
        with _shown(here, over, client, None):
            sent = await client.get_tree(path, target, conflict=conflict, on_entry=_entries(here))
        return _summed(here, over, sent, "Fetched", began)


async def put(here: Run, over: Over, path: str, local: str, conflict: Conflict) -> int:
    """Put it there; the exit code."""
    name = os.path.basename(os.path.abspath(local))
    if path.endswith("/") or "/" not in path:
        path = f"{path.rstrip('/')}/{name}"
    began = here.reactor.seconds()
    async with _device(here, over) as client:
        if os.path.isdir(local):
            with _shown(here, over, client, None):
                sent = await client.put_tree(
                    local, path, conflict=conflict, on_entry=_entries(here)
                )
            return _summed(here, over, sent, "Put", began)
        size = os.path.getsize(local) if os.path.exists(local) else 0
        with _shown(here, over, client, size), _option("--conflict"):
            receipt = await client.put(local, path, conflict=conflict)
        return _told(here, path, receipt)


async def rm(here: Run, over: Over, path: str, recursive: bool) -> int:
    """Remove it; the exit code."""
    async with _device(here, over) as client:
        await client.remove(path, recursive=recursive)
    here.out.row({"path": path, "removed": True})
    return int(Exit.OK)


async def mv(here: Run, over: Over, path: str, to: str, overwrite: bool) -> int:
    """Give it another name; the exit code."""
    async with _device(here, over) as client:
        with _option("--overwrite"):
            await client.move(path, to, overwrite=overwrite)
    here.out.row({"path": path, "moved": to})
    return int(Exit.OK)


async def mkdir(here: Run, over: Over, path: str, exist_ok: bool) -> int:
    """Make it; the exit code."""
    async with _device(here, over) as client:
        made = await client.mkdir(path, exist_ok=exist_ok)
    here.out.row({"path": path, "made": made})
    return int(Exit.OK)


@contextmanager
def _option(name: str) -> Iterator[None]:
    """Of a name that is taken it is said by which option it may be had."""
    try:
        yield
    except Exists as error:
        raise Exists(f"{error.reason} See {name}.") from error


class _shown:
    """Progress for as long as something is under way."""

    def __init__(self, here: Run, over: Over, client: Client, size: int | None) -> None:
        tally = Tally(here.reactor.seconds, peer=over.peer)
        if size is not None:
            tally.expect(Kind.FILE, size)
            tally.counted = True
        client.registry.subscribe_many(tally.hear)
        self._stop: Callable[[], object] = show_progress(here.every, tally, here.out)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *why: object) -> None:
        self._stop()


def _told(here: Run, path: str, receipt: Receipt) -> int:
    here.out.row(
        {
            "path": path,
            "stored": receipt.stored,
            "size": receipt.size,
            "blake3": receipt.digest,
            "already": receipt.already,
            "resumed_from": receipt.resumed_from,
        }
    )
    was = " was there already" if receipt.already else ""
    here.out.done(harmless(f"{receipt.stored}{was}, {human_size(receipt.size)}"))
    return int(Exit.OK)


def _entries(here: Run) -> Callable[[str, Receipt | LanxferError], None]:
    def tell(path: str, outcome: Receipt | LanxferError) -> None:
        if isinstance(outcome, LanxferError):
            here.out.row({"path": path, "error": outcome.code, "reason": outcome.reason})
            here.out.warn(f"{path}: {outcome.reason}")
        else:
            here.out.row({"path": path, "stored": outcome.stored, "size": outcome.size})

    return tell


def _summed(here: Run, over: Over, sent: Sent, verb: str, began: float) -> int:
    for path, why in sent.skipped:
        here.out.row({"path": path, "skipped": why})
        here.out.say(f"{path} {why}; left out.")
    here.out.row(
        {
            "peer": over.peer,
            "files": sent.files,
            "folders": sent.folders,
            "bytes": sent.bytes,
            "already": sent.already,
            "skipped": len(sent.skipped),
            "failed": len(sent.failed),
            "seconds": round(here.reactor.seconds() - began, 3),
        }
    )
    failed = f" {len(sent.failed)} did not arrive." if sent.failed else ""
    here.out.done(
        f"{verb} {count(sent.files, 'file')} and {count(sent.folders, 'folder')},"
        f" {human_size(sent.bytes)}.{failed}"
    )
    if not sent.failed:
        return int(Exit.OK)
    return int(Exit.PARTIAL if sent.files or sent.folders else sent.failed[0][1].exit)
