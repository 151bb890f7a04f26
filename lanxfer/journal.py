"""What this device remembers: what it published, what happened, what still waits to be sent.

Kept in SQLite, one row a fact.  Every row carries a checksum of its own, since
SQLite notices a damaged page but not a flipped bit in a value.  A journal that
is damaged or of a newer version is refused and left as it is: nothing is ever
deleted, or guessed, on its strength (docs/protocol.rst, "Received").

A row that a crash took away costs a comparison with what lies on the disk,
never a file.  Everything here blocks; it may be used from several threads.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain, islice
from typing import Any

from lanxfer.errors import BadState, DiskFailed, DiskFull, LanxferError, Overloaded
from lanxfer.rows import Damaged, ended_in, opened, plain, row_of, rows_with, sealed
from lanxfer.state import sync_folder
from lanxfer.transfers import Snapshot, Stored, Together, Usage, used_by
from lanxfer.wire import limits

VERSION = 2
APPLICATION = 0x4C414E58  # "LANX", so that another program's database is not taken for ours

RECEIPT_LIFETIME = 90 * 24 * 3600.0
RECEIPTS_KEPT = 10_000
"""The newest receipts stay whatever the clock says: it may have jumped by a year."""
RECEIPTS_MAX = 100_000
USAGE_MAX = 10_000
"""Principals whose files are counted; those that sent nothing for longest go first."""
PAGE_MAX = 1000
_KEYS_MAX = 500
"""Of one question; SQLite itself has taken no more than 999 values in some versions."""
_CACHE = 512
"""KiB of the file that are kept in memory; a quarter of what SQLite would keep, and as fast."""
BUSY_WAIT = 5.0
"""Seconds to wait for another process that writes just now."""

_MEMORY = ":memory:"
_SEQ_MAX = 2**63 - 1
_IN_THE_WAY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)

_SCHEMA = (
    "CREATE TABLE receipts (seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,"
    " at REAL NOT NULL, data TEXT NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE history (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " peer TEXT NOT NULL, data TEXT NOT NULL, crc INTEGER NOT NULL)",
    "CREATE INDEX history_by_peer ON history (peer, seq)",
    "CREATE TABLE queue (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " data TEXT NOT NULL, crc INTEGER NOT NULL)",
)

# Not a new version: those before it leave a table that they do not know alone.
_USAGE = (
    "CREATE TABLE IF NOT EXISTS usage (peer TEXT PRIMARY KEY, data TEXT NOT NULL,"
    " crc INTEGER NOT NULL)"
)


_RECORD = (
    "INSERT INTO history (seq, id, peer, data, crc) VALUES"
    " (coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'history'), 0) + ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET"
    " peer = excluded.peer, data = excluded.data, crc = excluded.crc"
)
"""So that numbers count files, whether they have a row each or one together (``prune``)."""


# No name can look like it: in JSON its quotes have backslashes.
_TEXT = """instr(data, '"direction": "in", "kind": "message"') > 0"""
_PRUNE = (
    f"DELETE FROM history WHERE seq <= (SELECT max(seq) FROM history) - ? AND NOT {_TEXT}",
    f"DELETE FROM history WHERE {_TEXT} AND seq <="
    f" (SELECT seq FROM history WHERE {_TEXT} ORDER BY seq DESC LIMIT 1 OFFSET ?)",
)


class Journal:
    """The journal in one file, made where there is none.

    It meets ``lanxfer.storage.Receipts``.  Whoever makes it closes it, and calls
    ``prune`` now and then.  Every method raises BadState where the file is
    damaged, of a newer version, of another program or held by another process,
    and DiskFull or DiskFailed where the disk says so; nothing has changed then.
    ``now`` gives the time of day, in seconds since the epoch.
    """

    def __init__(self, path: str, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._guard = threading.Lock()
        self._closed = False
        # False: there are none.  Who receives is alone with its journal, and adds them here.
        self._receipts = True
        self._database: sqlite3.Connection | None = None
        if path != _MEMORY:
            with self._typed_errors():
                _make_private(path)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def any(self) -> bool:
        """Whether anything was published that is remembered.

        Most devices have nothing: there is a receipt only of a file that had to be renamed.
        """
        with self._reading() as database:
            if self._receipts:
                found = database.execute("SELECT 1 FROM receipts LIMIT 1").fetchone()
                self._receipts = found is not None
            return self._receipts

    def recall(self, keys: Sequence[str]) -> dict[str, Stored]:
        """What was published under these keys; those under which nothing was are missing."""
        found: dict[str, Stored] = {}
        with self._reading() as database:
            for at in range(0, len(keys), _KEYS_MAX):
                some = [plain(key) for key in keys[at : at + _KEYS_MAX]]
                marks = ", ".join("?" * len(some))
                rows = database.execute(
                    f"SELECT key, at, data, crc FROM receipts WHERE key IN ({marks})", some
                )
                found.update((row[0], Stored(**opened(row))) for row in rows)
        return found

    def remember(self, published: Mapping[str, Stored]) -> None:
        """Keep these, all or none; durable when this returns."""
        at = self._now()
        rows = [sealed(plain(key), at, stored._asdict()) for key, stored in published.items()]
        if rows:
            with self._writing() as database:
                self._receipts = True  # in here, or a look at the empty table might come after it
                database.executemany(
                    "INSERT OR REPLACE INTO receipts (key, at, data, crc) VALUES (?, ?, ?, ?)", rows
                )

    def record(self, ended: Sequence[Snapshot | Together]) -> None:
        """Keep what became of transfers; a later snapshot of one replaces the earlier.

        What was received counts as used, so each end is to be recorded once.
        """
        if ended:
            with self._writing() as database:
                for each in ended:
                    files = len(each) if isinstance(each, Together) else 1
                    database.execute(_RECORD, (files, *row_of(each)))
                _count(database, ended)

    def usage(self) -> dict[str, Usage]:
        """What was received from each principal since it was last forgotten."""
        with self._reading() as database:
            rows = database.execute("SELECT peer, data, crc FROM usage")
            return {row[0]: Usage(**opened(row)) for row in rows}

    def forget_usage(self, peer: str) -> None:
        """Count what comes from that principal from nothing again."""
        with self._writing() as database:
            database.execute("DELETE FROM usage WHERE peer = ?", (plain(peer),))

    def history(
        self, limit: int = 100, before: str | None = None, peer: str | None = None
    ) -> list[Snapshot]:
        """At most ``limit`` (and ``PAGE_MAX``) of them, newest first: by when each was new here.

        The next page is ``before`` the id of the last one; before an id that is
        not there (any more) there is nothing.  ``peer`` leaves only that
        principal's.
        """
        wanted, values = "", list[str | int]()
        if peer is not None:
            wanted, values = " AND peer = ?", [plain(peer)]
        query = f"SELECT seq, id, peer, data, crc FROM history WHERE seq < ?{wanted}"
        with self._reading() as database:
            newest, rest = (_SEQ_MAX, []) if not before else _place_of(database, before)
            older = (each for each in rest if peer is None or each.peer == peer)
            with closing(database.execute(f"{query} ORDER BY seq DESC", [newest, *values])) as rows:
                found = chain(older, chain.from_iterable(map(_newest_first, rows)))
                return list(islice(found, _page(limit)))

    def prune(self, keep: int | None = None) -> int:
        """Forget history beyond ``keep`` files, old receipts, old usage; how many rows went.

        Of those that came together, all go or none.  A text that came is nowhere but in the
        history, so no file makes it go: as many of these are kept again.
        """
        keep = limits.HISTORY_MAX if keep is None else max(0, keep)
        beyond = (
            "DELETE FROM {0} WHERE rowid <="
            " (SELECT rowid FROM {0} ORDER BY rowid DESC LIMIT 1 OFFSET ?)"
        )
        receipts, usage = beyond.format("receipts"), beyond.format("usage")
        oldest = self._now() - RECEIPT_LIFETIME
        gone = 0
        with self._writing() as database:
            for statement in _PRUNE:
                gone += database.execute(statement, (keep,)).rowcount
            gone += database.execute(receipts, (RECEIPTS_MAX,)).rowcount
            gone += database.execute(usage, (USAGE_MAX,)).rowcount
            gone += database.execute(f"{receipts} AND at < ?", (RECEIPTS_KEPT, oldest)).rowcount
            return gone

    def enqueue(self, id: str, job: Mapping[str, Any]) -> None:
        """Keep a send that waits for its peer; durable when this returns.

        ``job`` is plain JSON.  The same id again changes the job and keeps its place.
        """
        with self._writing() as database:
            database.execute(
                "INSERT INTO queue (id, data, crc) VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET data = excluded.data, crc = excluded.crc",
                sealed(plain(id), job),
            )

    def dequeue(self, id: str) -> None:
        """It waits no longer; fine where it did not."""
        with self._writing() as database:
            database.execute("DELETE FROM queue WHERE id = ?", (plain(id),))

    def queued(self) -> list[tuple[str, Mapping[str, Any]]]:
        """What waits, in the order it came."""
        with self._reading() as database:
            rows = database.execute("SELECT id, data, crc FROM queue ORDER BY seq")
            return [(row[0], opened(row)) for row in rows]

    def close(self) -> None:
        """Let go of the file; closing twice is fine, using it afterwards is BadState."""
        with self._guard:
            self._closed = True
            database, self._database = self._database, None
            if database is not None:
                with suppress(sqlite3.Error):
                    database.close()

    def _prepare(self) -> None:
        with self._writing() as database:
            # Looked at before anything is written: a newer version's file stays as it is.
            version = _number(database, "PRAGMA user_version")
            ours = _number(database, "PRAGMA application_id")
            tables = _number(database, "SELECT count(*) FROM sqlite_master")
            if version > VERSION and ours == APPLICATION:
                raise BadState(
                    f"The journal {shlex.quote(self._path)} was written by a newer lanxfer;"
                    " use that one, or name another folder with --state."
                )
            if (version, ours, tables) == (0, 0, 0):
                for statement in _SCHEMA:
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {VERSION}")
            elif ours != APPLICATION or not 1 <= version <= VERSION:
                raise Damaged
            elif version < VERSION:  # which had no rows about many files, and would not read them
                database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute(_USAGE)
        with self._reading() as database:
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise Damaged
            _use_log(database)
            # SQLite makes the name of its log durable when it makes the log.  Whoever made
            # the one that is here may have been killed between the two.
            database.execute("SELECT 1 FROM receipts LIMIT 1").fetchone()
            if self._path != _MEMORY:
                sync_folder(os.path.dirname(os.path.abspath(self._path)))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._guard, self._typed_errors():
            if self._closed:
                raise BadState("The journal is closed.")
            if self._database is None:
                self._database = _connected(self._path)
            try:
                yield self._database
            except sqlite3.OperationalError as error:
                if _code(error) in _IN_THE_WAY or self._database.in_transaction:
                    self._let_go()
                raise

    def _let_go(self) -> None:
        """Close the file, which gives back all its locks; the next use opens it again.

        Where the system did not take a lock back, SQLite goes on as if it held it, and
        would be in its own way for ever.
        """
        database = self._database
        if database is not None and self._path != _MEMORY:
            self._database = None
            with suppress(sqlite3.Error):
                database.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, MemoryError, UnicodeDecodeError, Damaged) as error:
            # Out of damaged files come complaints that cannot even be decoded.
            raise self._typed(error) from error
        except OSError as error:
            raise BadState(
                f"The journal {shlex.quote(self._path)} cannot be used: {error.strerror}."
            ) from error

    def _typed(self, error: Exception) -> LanxferError:
        shown = shlex.quote(self._path)
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            return DiskFull("There is no space left for the journal on this device.")
        if isinstance(error, MemoryError):
            return Overloaded("There is not enough memory for the journal.")
        if code == sqlite3.SQLITE_IOERR:
            return DiskFailed(f"The disk did not do what the journal asked of it ({error}).")
        if code in _IN_THE_WAY:
            return BadState(f"Another process holds the journal {shown}; end it and try again.")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return BadState(f"The journal {shown} cannot be written: {error}.")
        return BadState(
            f"The journal {shown} is damaged; it was left as it is, and so was every received file."
            " To go on without it, move it away together with the files of the same name that end"
            " in -wal and -shm: history and waiting sends then begin anew."
        )


class MemoryJournal(Journal):
    """The same without a file, for tests and for those that are to remember nothing."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        super().__init__(_MEMORY, now)


def _newest_first(row: Sequence[Any]) -> list[Snapshot]:
    """What a row of the history says, which begins with its number."""
    ended = ended_in(opened(row[1:]))
    return [ended] if isinstance(ended, Snapshot) else [*reversed(ended)]


def _place_of(database: sqlite3.Connection, id: str) -> tuple[int, list[Snapshot]]:
    """The row that tells of a transfer, and what in it is older; 0 where there is none."""
    for row in database.execute(
        "SELECT seq, id, peer, data, crc FROM history WHERE id IN (?, ?, ?)", rows_with(id)
    ).fetchall():
        found = _newest_first(row)
        ids = [each.id for each in found]
        if id in ids:
            return int(row[0]), found[ids.index(id) + 1 :]
    return 0, []


def _count(database: sqlite3.Connection, ended: Sequence[Snapshot | Together]) -> None:
    """Add what was received to what was there, in the transaction that records it."""
    used: dict[str, Usage] = {}
    for name, more in used_by(ended).items():
        peer = plain(name)
        row = database.execute(
            "SELECT peer, data, crc FROM usage WHERE peer = ?", (peer,)
        ).fetchone()
        before = Usage() if row is None else Usage(**opened(row))
        used[peer] = used.get(peer, before).plus(more)
    database.executemany(
        "INSERT OR REPLACE INTO usage (peer, data, crc) VALUES (?, ?, ?)",
        [sealed(peer, use._asdict()) for peer, use in used.items()],
    )


def _connected(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        path, timeout=BUSY_WAIT, isolation_level=None, check_same_thread=False
    )
    try:
        # As FULL, and where a file system cannot have a WAL, durable all the same.
        database.execute("PRAGMA synchronous = EXTRA")
        # Else what takes back half a statement goes to a file in /tmp once it is large, and
        # a service may write nowhere but in its own folders.
        database.execute("PRAGMA temp_store = MEMORY")
        database.execute(f"PRAGMA cache_size = -{_CACHE}")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _make_private(path: str) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        sync_folder(os.path.dirname(os.path.abspath(path)))


def _use_log(database: sqlite3.Connection) -> None:
    """Switch to a write-ahead log, waiting ourselves: for this SQLite does not."""
    deadline = time.monotonic() + BUSY_WAIT
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(0.01)


def _code(error: Exception) -> int:
    """The primary code of SQLite's, 0 where there is none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _number(database: sqlite3.Connection, query: str) -> int:
    return int(database.execute(query).fetchone()[0])


def _page(limit: int) -> int:
    return max(0, min(limit, PAGE_MAX))
