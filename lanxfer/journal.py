"""What this device remembers: what it published, what happened, what still waits to be sent.

Kept in SQLite, one row a fact.  Every row carries a checksum of its own, since
SQLite notices a damaged page but not a flipped bit in a value.  A journal that
is damaged or of a newer version is refused and left as it is: nothing is ever
deleted, or guessed, on its strength (docs/protocol.rst, "Received").

A row that a crash took away costs a comparison with what lies on the disk,
never a file.  Everything here blocks; it may be used from several threads.
"""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from attrs import fields

from lanxfer.errors import BadState, DiskFailed, DiskFull, LanxferError, Overloaded
from lanxfer.state import sync_folder
from lanxfer.transfers import Direction, Kind, Snapshot, State, Stored, Usage, used_by
from lanxfer.wire import limits

VERSION = 1
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
_ROWS_MAX = 200
"""Of one statement, four values each: that takes half the time of a statement a row."""
_CACHE = 512
"""KiB of the file that are kept in memory; a quarter of what SQLite would keep, and as fast."""
BUSY_WAIT = 5.0
"""Seconds to wait for another process that writes just now."""

_MEMORY = ":memory:"
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

    def recall(self, keys: Sequence[str]) -> dict[str, Stored]:
        """What was published under these keys; those under which nothing was are missing."""
        found: dict[str, Stored] = {}
        with self._reading() as database:
            if not self._receipts:
                return found
            # Most devices have none: there is one only of a file that had to be renamed.
            self._receipts = (
                database.execute("SELECT 1 FROM receipts LIMIT 1").fetchone() is not None
            )
            for at in range(0, len(keys), _KEYS_MAX):
                some = [_plain(key) for key in keys[at : at + _KEYS_MAX]]
                marks = ", ".join("?" * len(some))
                rows = database.execute(
                    f"SELECT key, at, data, crc FROM receipts WHERE key IN ({marks})", some
                )
                found.update((row[0], Stored(**_opened(row))) for row in rows)
        return found

    def remember(self, published: Mapping[str, Stored]) -> None:
        """Keep these, all or none; durable when this returns."""
        at = self._now()
        rows = [_sealed(_plain(key), at, _flat(stored)) for key, stored in published.items()]
        if rows:
            with self._writing() as database:
                self._receipts = True  # in here, or a look at the empty table might come after it
                database.executemany(
                    "INSERT OR REPLACE INTO receipts (key, at, data, crc) VALUES (?, ?, ?, ?)", rows
                )

    def record(self, snapshots: Sequence[Snapshot]) -> None:
        """Keep what became of transfers; a later snapshot of one replaces the earlier.

        What was received counts as used, so each end is to be recorded once.
        """
        if snapshots:
            with self._writing() as database:
                for at in range(0, len(snapshots), _ROWS_MAX):
                    some = [_row(each) for each in snapshots[at : at + _ROWS_MAX]]
                    marks = ", ".join(["(?, ?, ?, ?)"] * len(some))
                    database.execute(
                        f"INSERT INTO history (id, peer, data, crc) VALUES {marks}"
                        " ON CONFLICT (id) DO UPDATE SET"
                        " peer = excluded.peer, data = excluded.data, crc = excluded.crc",
                        [value for row in some for value in row],
                    )
                _count(database, snapshots)

    def usage(self) -> dict[str, Usage]:
        """What was received from each principal since it was last forgotten."""
        with self._reading() as database:
            rows = database.execute("SELECT peer, data, crc FROM usage")
            return {row[0]: Usage(**_opened(row)) for row in rows}

    def forget_usage(self, peer: str) -> None:
        """Count what comes from that principal from nothing again."""
        with self._writing() as database:
            database.execute("DELETE FROM usage WHERE peer = ?", (_plain(peer),))

    def history(
        self, limit: int = 100, before: str | None = None, peer: str | None = None
    ) -> list[Snapshot]:
        """At most ``limit`` (and ``PAGE_MAX``) of them, newest first: by when each was new here.

        The next page is ``before`` the id of the last one; before an id that is
        not there (any more) there is nothing.  ``peer`` leaves only that
        principal's.
        """
        wanted, values = [], []
        if before:
            wanted.append("seq < (SELECT seq FROM history WHERE id = ?)")
            values.append(_plain(before))
        if peer is not None:
            wanted.append("peer = ?")
            values.append(_plain(peer))
        where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
        with self._reading() as database:
            rows = database.execute(
                f"SELECT id, peer, data, crc FROM history{where} ORDER BY seq DESC LIMIT ?",
                (*values, _page(limit)),
            )
            return [_snapshot(_opened(row)) for row in rows]

    def prune(self, keep: int | None = None) -> int:
        """Forget history beyond ``keep``, old receipts, old usage; how many rows went."""
        keep = limits.HISTORY_MAX if keep is None else keep
        beyond = (
            "DELETE FROM {0} WHERE seq <= (SELECT seq FROM {0} ORDER BY seq DESC LIMIT 1 OFFSET ?)"
        )
        history, receipts = beyond.format("history"), beyond.format("receipts")
        oldest = self._now() - RECEIPT_LIFETIME
        with self._writing() as database:
            gone = database.execute(history, (max(0, keep),)).rowcount
            gone += database.execute(receipts, (RECEIPTS_MAX,)).rowcount
            usage = beyond.format("usage").replace("seq", "rowid")
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
                _sealed(_plain(id), job),
            )

    def dequeue(self, id: str) -> None:
        """It waits no longer; fine where it did not."""
        with self._writing() as database:
            database.execute("DELETE FROM queue WHERE id = ?", (_plain(id),))

    def queued(self) -> list[tuple[str, Mapping[str, Any]]]:
        """What waits, in the order it came."""
        with self._reading() as database:
            rows = database.execute("SELECT id, data, crc FROM queue ORDER BY seq")
            return [(row[0], _opened(row)) for row in rows]

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
            elif (version, ours) != (VERSION, APPLICATION):
                raise _Damaged
            database.execute(_USAGE)
        with self._reading() as database:
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise _Damaged
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
        except (sqlite3.Error, MemoryError, UnicodeDecodeError, _Damaged) as error:
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


# Not ``asdict``, which costs more than the rows themselves.
_NAMES = {kind: [each.name for each in fields(kind)] for kind in (Stored, Usage)}


class MemoryJournal(Journal):
    """The same without a file, for tests and for those that are to remember nothing."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        super().__init__(_MEMORY, now)


class _Damaged(Exception):
    """Something that SQLite took for good is not what was written."""


def _count(database: sqlite3.Connection, snapshots: Sequence[Snapshot]) -> None:
    """Add what was received to what was there, in the transaction that records it."""
    used: dict[str, Usage] = {}
    for name, more in used_by(snapshots).items():
        peer = _plain(name)
        row = database.execute(
            "SELECT peer, data, crc FROM usage WHERE peer = ?", (peer,)
        ).fetchone()
        before = Usage() if row is None else Usage(**_opened(row))
        used[peer] = used.get(peer, before).plus(more)
    database.executemany(
        "INSERT OR REPLACE INTO usage (peer, data, crc) VALUES (?, ?, ?)",
        [_sealed(peer, _flat(use)) for peer, use in used.items()],
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


def _plain(text: str) -> str:
    """Text for a column: SQLite takes no lone surrogates, which names of files may have."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _sealed(*parts: Any) -> tuple[Any, ...]:
    """Columns of a row, the last part as JSON, and a checksum over them all."""
    return _summed((*parts[:-1], json.dumps(dict(parts[-1]))))


def _summed(columns: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*columns, zlib.crc32(repr(columns).encode()))


def _opened(row: Sequence[Any]) -> dict[str, Any]:
    """The JSON of a row that is as it was written; else _Damaged."""
    *columns, crc = row
    if zlib.crc32(repr(tuple(columns)).encode("utf-8", "backslashreplace")) != crc:
        raise _Damaged
    content: dict[str, Any] = json.loads(columns[-1])
    return content


def _flat(value: Stored | Usage) -> dict[str, Any]:
    return {name: getattr(value, name) for name in _NAMES[type(value)]}


def _row(snapshot: Snapshot) -> tuple[Any, ...]:
    """The columns for a snapshot, as ``_sealed`` would make them of it, in a fifth of the time.

    There is a row for every small file, and most of what it says of one it says of many.
    """
    id, direction, kind, peer, path, size, state, done, stored, digest, *others = snapshot
    text, of_many = encode_basestring_ascii, (direction, kind, peer, state, *others)
    try:
        rest = _of_many(*of_many)
    except TypeError:  # it cannot be looked up
        rest = _of_many.__wrapped__(*of_many)
    data = (
        f'{{"id": {text(id)}, "path": {text(path)}, "size": {size}, "done": {done},'
        f' "stored": {text(stored)}, "digest": {text(digest)}, {rest}'
    )
    return _summed((_plain(id), _plain(peer), data))


@lru_cache(64)
def _of_many(*values: Any) -> str:
    """The end of the JSON of a snapshot: of the rest what differs from the defaults.

    Those are what a reader of the row puts in their place.
    """
    rest = {
        name: value.value if isinstance(value, Enum) else value
        for name, value in zip(_OF_MANY, values, strict=True)
        if value != Snapshot._field_defaults.get(name)
    }
    return json.dumps(rest)[1:]


_OF_ONE = ("id", "path", "size", "done", "stored", "digest")
_OF_MANY = tuple(name for name in Snapshot._fields if name not in _OF_ONE)


def _snapshot(row: Mapping[str, Any]) -> Snapshot:
    # Fields that this version does not know are left out; those that row lacks have defaults.
    known = {name: row[name] for name in Snapshot._fields if name in row}
    try:
        known["direction"] = Direction(row["direction"])
        known["kind"] = Kind(row["kind"])
        known["state"] = State(row["state"])
        return Snapshot(**known)
    except (KeyError, ValueError, TypeError) as error:
        raise _Damaged from error
