from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lanxfer import journal as journal_module
from lanxfer.errors import BadName, BadState, DiskFailed, DiskFull, Overloaded
from lanxfer.journal import Journal, MemoryJournal
from lanxfer.registry import Registry
from lanxfer.rows import row_of, sealed
from lanxfer.transfers import (
    Direction,
    Kind,
    Offer,
    Snapshot,
    State,
    Stored,
    Together,
    Usage,
)

DAY = 24 * 3600.0

FILM = Stored("films/film.mkv", 2**40, "ab" * 32)
NOTE = Stored("n\u00f6te \udcff.txt", 0, "", already=True)  # a name that is not UTF-8

DONE = Snapshot(
    id="a1",
    direction=Direction.IN,
    kind=Kind.FILE,
    peer="peer:AAAA",
    path="n\u00f6te \udcff.txt",
    size=2**62,
    state=State.DONE,
    done=2**62,
    stored="n\u00f6te \udcff.txt",
    digest="ab" * 32,
    code="disk-full",
    reason="No space\n\x1b[31m",
    request="{'a': 1}",
    started=1700000000.123456,
    changed=1700000001.25,
    secure=False,
    group="g",
)


class Time:
    """A time of day that tests set."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture(params=["file", "memory"])
def journal(request: pytest.FixtureRequest, tmp_path: Path, clock: Time) -> Iterator[Journal]:
    if request.param == "file":
        made = Journal(str(tmp_path / "journal.db"), clock)
    else:
        made = MemoryJournal(clock)
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


def ids(found: list[Snapshot]) -> list[str]:
    return [each.id for each in found]


def pack(id: str, files: int, **changes: Any) -> Together:
    common = DONE._replace(id=id, path="", stored="", digest="", size=0, done=0, **changes)
    some = range(files)
    paths = [f"{id}/n\u00f6te {number} \udcff.txt" for number in some]
    return Together(common, some, paths, [10] * files, ["ab" * 32] * files)


class ReceiptsTests:
    def test_recall(self, journal: Journal) -> None:
        """What was published is known by its key, exactly as it was."""
        assert journal.recall(["k1"]).get("k1") is None
        journal.remember({"k1": FILM, "k2": NOTE})
        journal.remember({})
        assert journal.recall(["k1"]).get("k1") == FILM
        assert journal.recall(["k2"]).get("k2") == NOTE
        assert journal.recall(["k"]).get("k") is None

    def test_again(self, journal: Journal) -> None:
        """The latest word counts."""
        journal.remember({"k": FILM})
        journal.remember({"k": NOTE})
        assert journal.recall(["k"]).get("k") == NOTE

    def test_first_receipt(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who looks while the first receipt waits for its turn does not make it unseen."""
        # covers: K12
        writing = journal._writing

        @contextlib.contextmanager
        def late() -> Iterator[Any]:
            assert journal.recall(["first"]) == {}
            with writing() as database:
                yield database

        stored = Stored("a (2)", 1, "ab" * 32)
        monkeypatch.setattr(journal, "_writing", late)
        journal.remember({"first": stored})
        assert journal.recall(["first"]) == {"first": stored}

    # covers: C12
    def test_a_jump_of_the_clock(self, journal: Journal, clock: Time) -> None:
        """A year forward or back costs none of the newest receipts."""
        journal.remember({"k": FILM})
        for jump in (400 * DAY, -800 * DAY):
            clock.now += jump
            assert journal.prune() == 0
            assert journal.recall(["k"]).get("k") == FILM

    def test_age(self, journal: Journal, clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
        """Receipts beyond the newest go after 90 days, not before."""
        monkeypatch.setattr(journal_module, "RECEIPTS_KEPT", 2)
        journal.remember({"old1": FILM, "old2": FILM})
        clock.now += 50 * DAY
        journal.remember({"new1": FILM, "new2": FILM, "new3": FILM})
        assert journal.prune() == 0
        clock.now += 41 * DAY
        assert journal.prune() == 2
        assert journal.recall(["old1"]).get("old1") is journal.recall(["old2"]).get("old2") is None
        assert journal.recall(["new1"]).get("new1") == FILM

    def test_number(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is an end to how many are kept, the latest said last to go."""
        monkeypatch.setattr(journal_module, "RECEIPTS_MAX", 3)
        journal.remember({f"k{number}": FILM for number in range(5)})
        journal.remember({"k0": FILM})
        assert journal.prune() == 2
        assert [n for n in range(5) if journal.recall([f"k{n}"]).get(f"k{n}")] == [0, 3, 4]


class HistoryTests:
    def test_round_trip(self, journal: Journal) -> None:
        """A snapshot comes back exactly as it was, whatever a peer's name has in it."""
        failed = DONE._replace(id="a2", state=State.FAILED, direction=Direction.OUT, kind=Kind.LINK)
        journal.record([DONE, failed])
        journal.record([])
        assert journal.history() == [failed, DONE]

    def test_later_word(self, journal: Journal) -> None:
        """A later snapshot takes the place of the earlier and does not move."""
        journal.record([DONE, DONE._replace(id="a2")])
        journal.record([DONE._replace(state=State.CANCELLED, peer="peer:B")])
        assert ids(journal.history()) == ["a2", "a1"]
        assert journal.history()[1].state is State.CANCELLED
        assert ids(journal.history(peer="peer:B")) == ["a1"]

    # covers: L09
    def test_pages(self, journal: Journal) -> None:
        """Page after page shows each once, newest first, while others are added."""
        journal.record([DONE._replace(id=f"{number:02}") for number in range(25)])
        first = journal.history(10)
        journal.record([DONE._replace(id="new"), DONE._replace(id="07")])
        second = journal.history(10, before=first[-1].id)
        third = journal.history(10, before=second[-1].id)
        seen = ids(first + second + third)
        assert seen == [f"{number:02}" for number in reversed(range(25))]
        assert journal.history(10, before=third[-1].id) == []
        assert journal.history(before="never was") == []
        assert ids(journal.history(1, before="")) == ["new"]

    # covers: L02
    def test_one_peer(self, journal: Journal) -> None:
        """With a peer, only that principal's own are shown, pages included."""
        for number in range(20):
            journal.record([DONE._replace(id=f"{number:02}", peer=f"peer:{number % 2}")])
        page = journal.history(4, peer="peer:1")
        assert ids(page) == ["19", "17", "15", "13"]
        assert ids(journal.history(2, before="13", peer="peer:1")) == ["11", "09"]
        assert journal.history(peer="peer:") == []

    def test_limits(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        """A page has an end, and a negative one is empty."""
        monkeypatch.setattr(journal_module, "PAGE_MAX", 3)
        journal.record([DONE._replace(id=str(number)) for number in range(5)])
        assert len(journal.history(10**30)) == 3
        assert journal.history(0) == journal.history(-1) == []

    # covers: R13
    def test_prune(self, journal: Journal) -> None:
        """The oldest go first; what is pruned and comes again is new."""
        journal.record([DONE._replace(id=str(number)) for number in range(10)])
        assert journal.prune(keep=4) == 6
        assert journal.prune(keep=4) == 0
        assert ids(journal.history()) == ["9", "8", "7", "6"]
        assert journal.history(before="5") == []
        journal.record([DONE._replace(id="0")])
        assert ids(journal.history(2)) == ["0", "9"]
        assert journal.prune(keep=0) == 5

    def test_hostile_columns(self, journal: Journal) -> None:
        """Ids and peers with quotes, NULs or half characters are values like others."""
        odd = DONE._replace(id="'; DROP TABLE history; --\0\udc80", peer="\ud800'")
        journal.record([odd])
        assert journal.history(peer="\ud800'") == [odd]
        assert journal.history(before=odd.id) == []

    def test_odd(self) -> None:
        """What has no right to be there is no reason to lose the others."""
        journal = MemoryJournal()
        odd: Any = DONE._replace(id="b2", request=[1, None])
        journal.record([DONE, odd])
        assert journal.history(2) == [odd, DONE]
        journal.close()

    # covers: L09
    def test_together(self, journal: Journal) -> None:
        """Files that came together are shown one by one, among the others, page by page."""
        journal.record([DONE._replace(id="one")])
        journal.record([pack("p", 3), DONE._replace(id="two"), pack("q", 2, peer="peer:B")])
        shown = ["q-1", "q-0", "two", "p-2", "p-1", "p-0", "one"]
        assert ids(journal.history()) == shown
        for size in range(1, 8):
            found: list[Snapshot] = []
            while page := journal.history(size, before=found[-1].id if found else None):
                found += page
            assert ids(found) == shown
        assert journal.history(2)[0] == pack("q", 2, peer="peer:B")[1]
        assert ids(journal.history(peer="peer:B")) == ["q-1", "q-0"]
        assert ids(journal.history(peer="peer:AAAA", before="q-1")) == shown[2:]
        assert journal.history(before="p-7") == journal.history(before="p") == []

    # covers: L09
    def test_all_of_a_pack(self, journal: Journal) -> None:
        """Of a pack there are files that are new, some that were there, and odd ones: all stay."""
        told: list[Snapshot | Together] = []

        def hear(some: Sequence[Snapshot]) -> None:
            told.extend([some] if isinstance(some, Together) else some)

        registry = Registry(lambda: 5.0, iter(["x", "y"]).__next__, lambda error: None)
        registry.subscribe_many(hear)
        files = [Offer(f"f{number}", number) for number in range(9)]
        ends = [Stored(each.path, each.size, "d", already=each.size % 2 > 0) for each in files]
        ends[4] = ends[4]._replace(path="f4 (2)")
        for _ in range(2):
            registry.passed(Direction.IN, "peer:A", files, [*ends[:8], BadName("No.")], started=1.0)
        journal.record(told)
        shown = [f"{pack}-{number}" for pack in "yx" for number in (8, 4, 7, 5, 3, 1, 6, 2, 0)]
        assert ids(journal.history()) == shown
        for size in range(1, 6):
            found: list[Snapshot] = []
            while page := journal.history(size, before=found[-1].id if found else None):
                found += page
            assert ids(found) == shown
        assert journal.usage() == {"peer:A": Usage(8, 24)}

    # covers: R13
    def test_prune_together(self, journal: Journal) -> None:
        """Files are counted, not rows; those that came together go together."""
        journal.record([pack("p", 5), pack("q", 4), DONE])
        assert journal.prune(keep=5) == 1
        assert len(journal.history()) == 5
        assert journal.prune(keep=4) == 0
        assert journal.prune(keep=1) == 1
        assert journal.history() == [DONE]
        journal.record([pack("r", 2)])
        assert ids(journal.history()) == ["r-1", "r-0", "a1"]

    # covers: R13
    def test_prune_messages(self, journal: Journal) -> None:
        """Texts that came go for newer texts only, whatever files there were, or are called."""
        text = DONE._replace(kind=Kind.MESSAGE, path="hello")
        odd = '", "direction": "in", "kind": "message", "x": "'
        journal.record([text._replace(id="t1"), text._replace(id="t2", path=odd)])
        journal.record([text._replace(id="mine", direction=Direction.OUT)])
        journal.record([DONE._replace(id="odd", path=odd), pack("p", 5)])
        journal.record([text._replace(id="t3")])
        assert journal.prune(keep=6) == 2
        assert ids(journal.history()) == ["t3", "p-4", "p-3", "p-2", "p-1", "p-0", "t2", "t1"]
        assert journal.history()[-2].path == odd
        assert journal.prune(keep=2) == 1
        assert ids(journal.history(before="p-0")) == ["t2"]
        assert journal.prune(keep=1) == 2
        assert ids(journal.history()) == ["t3"]
        assert journal.prune(keep=1) == 0
        assert journal.prune(keep=0) == 1


class UsageTests:
    def test_counted(self, journal: Journal) -> None:
        """What was received counts once for each file, under the principal it came from."""
        # covers: S08
        assert journal.usage() == {}
        journal.record([*(DONE._replace(id=str(n), size=n) for n in (1, 3)), pack("p", 1)])
        journal.record([pack("q", 2, already=True), pack("r", 2, direction=Direction.OUT)])
        journal.record([DONE._replace(id="5", size=2**62, peer="user:\udcff")])
        journal.record([DONE._replace(id="6", size=2**62, peer="user:\udcff")])
        assert journal.usage() == {
            "peer:AAAA": Usage(3, 14),
            "user:\\udcff": Usage(2, 2**63),
        }

    @pytest.mark.parametrize(
        "changes",
        [
            {"already": True},
            {"kind": Kind.FOLDER},
            {"direction": Direction.OUT},
            {"state": State.FAILED},
        ],
    )
    def test_not_counted(self, journal: Journal, changes: dict[str, object]) -> None:
        """What is not new on this disk does not count."""
        journal.record([DONE._replace(**changes)])  # type: ignore[arg-type]
        assert journal.usage() == {}

    def test_forgotten(self, journal: Journal) -> None:
        """After that it is counted from nothing; the history stays."""
        journal.record([DONE])
        journal.forget_usage(DONE.peer)
        journal.forget_usage(DONE.peer)
        assert journal.usage() == {}
        assert ids(journal.history()) == [DONE.id]
        journal.record([DONE._replace(id="b", size=1)])
        assert journal.usage() == {DONE.peer: Usage(1, 1)}

    def test_bounded(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of too many principals those go that sent nothing for longest."""
        monkeypatch.setattr(journal_module, "USAGE_MAX", 2)
        for number, peer in enumerate("abca"):
            journal.record([DONE._replace(id=str(number), peer=peer)])
        assert journal.prune() == 1
        assert set(journal.usage()) == {"a", "c"}

    def test_survives(self, path: str) -> None:
        """It is there after the next start, and in a journal that was made before it was."""
        # covers: K12
        made = Journal(path)
        made.record([DONE])
        made.close()
        again = Journal(path)
        assert again.usage() == {DONE.peer: Usage(1, DONE.size)}
        again.close()
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("DROP TABLE usage")
        old = Journal(path)
        assert (old.usage(), ids(old.history())) == ({}, [DONE.id])
        old.close()

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE usage SET data = replace(data, '1', '2')",
            "UPDATE usage SET peer = 'peer:B'",
            "UPDATE usage SET crc = crc + 1",
        ],
    )
    def test_changed(self, path: str, change: str) -> None:
        """A count that is not what was written is refused, not believed."""
        # covers: K06
        made = Journal(path)
        made.record([DONE])
        made.close()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            assert database.execute(change).rowcount == 1
        damaged = Journal(path)
        with pytest.raises(BadState):
            damaged.usage()
        damaged.close()


class QueueTests:
    def test_order(self, journal: Journal) -> None:
        """Jobs wait in the order they came, and go by their id."""
        journal.enqueue("b", {"paths": ["/x", "\udcff"], "peer": "nas"})
        journal.enqueue("a", {"n": 1, "deep": {"x": [None, True, 1.5]}})
        assert journal.queued() == [
            ("b", {"paths": ["/x", "\udcff"], "peer": "nas"}),
            ("a", {"n": 1, "deep": {"x": [None, True, 1.5]}}),
        ]
        journal.dequeue("b")
        journal.dequeue("b")
        assert [id for id, _ in journal.queued()] == ["a"]

    def test_change(self, journal: Journal) -> None:
        """The same id again changes the job and keeps its place."""
        journal.enqueue("a", {"try": 1})
        journal.enqueue("b", {})
        journal.enqueue("a", {"try": 2})
        assert journal.queued() == [("a", {"try": 2}), ("b", {})]

    def test_not_json(self, journal: Journal) -> None:
        """A job that is no JSON changes nothing."""
        with pytest.raises(TypeError):
            journal.enqueue("a", {"path": Path("/x")})
        assert journal.queued() == []


class ClosingTests:
    def test_closed(self, journal: Journal) -> None:
        """After closing, which may be done twice, everything is a sentence."""
        journal.close()
        journal.close()
        questions: list[Callable[[], object]] = [
            lambda: journal.recall(["k"]).get("k"),
            lambda: journal.remember({"k": FILM}),
            lambda: journal.record([DONE]),
            journal.history,
            journal.prune,
            lambda: journal.enqueue("a", {}),
            lambda: journal.dequeue("a"),
            journal.queued,
        ]
        for ask in questions:
            with pytest.raises(BadState, match="closed"):
                ask()

    def test_threads(self, journal: Journal) -> None:
        """Several threads write and read at once and lose nothing."""

        def work(name: str) -> None:
            for number in range(20):
                journal.remember({f"{name}{number}": FILM})
                journal.record([DONE._replace(id=f"{name}{number}")])
                assert journal.recall([f"{name}{number}"]).get(f"{name}{number}") == FILM

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(journal.history()) == 80


class FileTests:
    def test_survives(self, path: str) -> None:
        """The next start knows everything."""
        first = Journal(path)
        first.remember({"k": FILM})
        first.record([DONE])
        first.enqueue("q", {"x": 1})
        first.close()
        assert os.listdir(os.path.dirname(path)) == ["journal.db"]
        second = Journal(path)
        assert second.recall(["k"]).get("k") == FILM
        assert second.history() == [DONE]
        assert second.queued() == [("q", {"x": 1})]
        second.close()

    # covers: A11
    @pytest.mark.skipif(os.name == "nt", reason="modes of POSIX systems")
    def test_private(self, path: str) -> None:
        """The file and those SQLite puts beside it are for this user alone."""
        journal = Journal(path)
        journal.record([DONE])
        found = os.listdir(os.path.dirname(path))
        assert len(found) == 3
        for name in found:
            mode = os.stat(os.path.join(os.path.dirname(path), name)).st_mode
            assert stat.S_IMODE(mode) == 0o600
        journal.close()

    def test_durable_settings(self, path: str) -> None:
        """Every transaction is synced before it is said to be done."""
        journal = Journal(path)
        with journal._reading() as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert database.execute("PRAGMA synchronous").fetchone()[0] >= 2
        journal.close()

    # covers: K05
    def test_names_of_its_files_are_durable(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even those that another process made and was killed before it made them durable."""
        Journal(path).close()
        with sqlite3.connect(path) as other:
            other.execute("SELECT count(*) FROM receipts").fetchone()
            assert os.path.exists(f"{path}-wal")
            synced: list[int] = []
            monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
            Journal(path).close()
            assert synced == [os.stat(os.path.dirname(path)).st_ino]
        other.close()

    # covers: K09, K03
    @pytest.mark.skipif(os.name == "nt", reason="signals of POSIX systems")
    def test_killed(self, path: str) -> None:
        """What was remembered before a kill is there after it."""
        program = (
            "import sys\n"
            "from lanxfer.journal import Journal\n"
            "from lanxfer.transfers import Stored\n"
            "journal = Journal(sys.argv[1])\n"
            "for number in range(10**6):\n"
            "    journal.remember({str(number): Stored('x', number, 'd')})\n"
            "    print(number, flush=True)\n"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", program, path],
            stdout=subprocess.PIPE,
            cwd=Path(journal_module.__file__).parent.parent,
        )
        assert other.stdout is not None
        for _ in range(50):
            last = int(other.stdout.readline())
        other.send_signal(signal.SIGKILL)
        other.communicate()
        journal = Journal(path)
        for number in range(last + 1):
            assert journal.recall([str(number)])[str(number)] == Stored("x", number, "d")
        journal.close()

    def test_two_processes(self, path: str) -> None:
        """A command may read and write beside the service."""
        service, command = Journal(path), Journal(path)
        service.remember({"k": FILM})
        assert command.recall(["k"]).get("k") == FILM
        command.enqueue("q", {})
        assert service.queued() == [("q", {})]
        service.close()
        command.close()

    def test_made_by_two_at_once(self, path: str) -> None:
        """Two that make the same journal at once both have it."""
        made: list[Journal] = []
        barrier = threading.Barrier(4)

        def make() -> None:
            barrier.wait()
            made.append(Journal(path))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(made) == 4
        made[0].remember({"k": FILM})
        for journal in made:
            assert journal.recall(["k"]).get("k") == FILM
            journal.close()

    # covers: R13, F23
    def test_many(self, path: str) -> None:
        """A hundred thousand records open, answer and shrink fast."""
        journal = Journal(path)
        with journal._writing() as database:
            database.executemany(
                "INSERT INTO history (id, peer, data, crc) VALUES (?, ?, ?, ?)",
                (
                    sealed(str(number), "peer:A", {"id": str(number), "path": "x" * 100})
                    for number in range(100_000)
                ),
            )
        journal.record([DONE])
        journal.remember({"k": FILM})
        journal.close()
        begin = time.monotonic()
        journal = Journal(path)
        assert journal.recall(["k"]).get("k") == FILM
        assert journal.history(1, peer="peer:AAAA") == [DONE]
        assert journal.history(1) == [DONE]
        assert time.monotonic() - begin < 1.0
        assert journal.prune() == 90_001
        journal.close()


class DamageTests:
    # covers: K07
    @pytest.mark.parametrize("content", [b"hello", b"SQLite format 3\0", b"\0" * 8192])
    def test_no_database(self, path: str, content: bytes) -> None:
        """Another kind of file is refused and stays as it is."""
        Path(path).write_bytes(content)
        with pytest.raises(BadState, match="damaged"):
            Journal(path)
        assert Path(path).read_bytes() == content

    # covers: K07
    def test_foreign_database(self, path: str) -> None:
        """A database of another program is refused and stays as it is."""
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE history (id)")
        before = Path(path).read_bytes()
        with pytest.raises(BadState):
            Journal(path)
        assert Path(path).read_bytes() == before

    # covers: K07, K12
    def test_newer(self, path: str) -> None:
        """A journal of a newer version is refused and stays as it is."""
        Journal(path).close()
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute(f"PRAGMA user_version = {journal_module.VERSION + 1}")
        before = Path(path).read_bytes()
        with pytest.raises(BadState, match="newer lanxfer"):
            Journal(path)
        assert Path(path).read_bytes() == before

    # covers: K12
    def test_older(self, path: str) -> None:
        """One of the version before, which knew no rows about many files, is gone on with."""
        made = Journal(path)
        made.record([DONE])
        made.close()
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA user_version = 1")
        again = Journal(path)
        again.record([pack("p", 2)])
        assert ids(again.history()) == ["p-1", "p-0", DONE.id]
        again.close()
        with contextlib.closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA user_version").fetchone() == (journal_module.VERSION,)

    # covers: K06
    def test_said_at_once(self, path: str) -> None:
        """A page that is gone is noticed at the start, not when somebody asks for it."""
        journal = Journal(path)
        journal.record([DONE._replace(id=str(number)) for number in range(1000)])
        journal.close()
        data = bytearray(Path(path).read_bytes())
        middle = len(data) // 2 // 4096 * 4096
        data[middle : middle + 4096] = bytes(4096)
        Path(path).write_bytes(data)
        with pytest.raises(BadState, match="damaged"):
            Journal(path)
        assert Path(path).read_bytes() == data

    # covers: K07
    def test_empty(self, path: str) -> None:
        """An empty file is a new journal."""
        Path(path).touch()
        journal = Journal(path)
        assert journal.recall(["k"]).get("k") is None
        journal.close()

    # covers: K06
    @pytest.mark.parametrize("kind", ["cut", "flip"])
    @pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
    def test_sweep(self, tmp_path: Path, kind: str, name: str) -> None:
        """Cut or flipped anywhere, it answers with what was written, less, or BadState."""
        whole, copy = tmp_path / "whole", tmp_path / "copy"
        self.fill(whole, crash=name.endswith("-wal"))
        good = (whole / name).read_bytes()
        refused = 0
        for place, at in enumerate(range(1, len(good), 512)):
            shutil.copytree(whole, copy)
            data = bytearray(good)
            if kind == "cut":
                del data[at:]
            else:
                for offset in (at + place % 97, at + place * 31 % 512):
                    data[min(offset, len(good) - 1)] ^= 1 << place % 8
            (copy / name).write_bytes(data)
            try:
                self.check(str(copy / "journal.db"))
            except BadState:
                refused += 1
                assert (copy / name).read_bytes() == data
            assert (copy / "journal.db").exists()
            shutil.rmtree(copy)
        # A damaged log ends, for SQLite, where the damage begins: that is what a power cut looks
        # like, so it cannot be told from one.
        assert refused == 0 if name.endswith("-wal") else refused > 0.25 * len(good) / 512

    def fill(self, folder: Path, crash: bool) -> None:
        """A journal at rest, or one with half of its rows in the log, as a crash leaves it."""
        living = folder.parent / "living"
        living.mkdir()
        journal = Journal(str(living / "journal.db"))
        for half in (range(15), range(15, 30)):
            journal.record([DONE._replace(id=str(number), size=number) for number in half])
            with journal._reading() as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            journal.remember({f"k{number}": Stored("x", number, "d") for number in half})
        journal.enqueue("q", {"x": 1})
        if not crash:
            journal.close()
        shutil.copytree(living, folder)
        journal.close()

    def check(self, path: str) -> None:
        journal = Journal(path)
        try:
            for each in journal.history():
                assert each == DONE._replace(id=each.id, size=int(each.id))
            for number in range(30):
                assert journal.recall([f"k{number}"]).get(f"k{number}") in (
                    None,
                    Stored("x", number, "d"),
                )
            assert journal.queued() in ([], [("q", {"x": 1})])
        finally:
            journal.close()

    # covers: K06
    @pytest.mark.parametrize(
        "change", ["data = replace(data, 'film', 'filn')", "at = at + 1", "crc = 0"]
    )
    def test_changed_value(self, path: str, change: str) -> None:
        """A changed value that SQLite cannot notice is noticed."""
        journal = Journal(path)
        journal.remember({"k": FILM, "other": NOTE})
        with journal._writing() as database:
            database.execute(f"UPDATE receipts SET {change} WHERE key = 'k'")
        with pytest.raises(BadState, match="damaged"):
            journal.recall(["k"]).get("k")
        assert journal.recall(["other"]).get("other") == NOTE
        journal.close()

    # covers: K06
    @pytest.mark.parametrize(
        "change",
        [
            "peer = 'peer:B'",
            "data = x'00'",
            "data = CAST(x'ff' AS TEXT)",
            "id = 'z'",
            "data = 5",
        ],
    )
    def test_changed_history(self, path: str, change: str) -> None:
        """So it is in the history, in every column."""
        journal = Journal(path)
        journal.record([DONE])
        with journal._writing() as database:
            database.execute(f"UPDATE history SET {change}")
        with pytest.raises(BadState, match="damaged"):
            journal.history()
        journal.close()

    def test_unknown_fields(self, path: str) -> None:
        """Fields may be unknown here or lacking there; an unknown word is not guessed."""
        journal = Journal(path)
        row = json.loads(row_of(DONE)[2])
        del row["group"]
        for extra, sense in (({"colour": "red"}, True), ({"state": "dreaming"}, False)):
            with journal._writing() as database:
                database.execute(
                    "INSERT OR REPLACE INTO history (id, peer, data, crc) VALUES (?, ?, ?, ?)",
                    sealed(DONE.id, DONE.peer, {**row, **extra}),
                )
            if sense:
                assert journal.history() == [DONE._replace(group="")]
            else:
                with pytest.raises(BadState):
                    journal.history()
        journal.close()


class DiskTests:
    # covers: R14
    def test_folder_missing(self, tmp_path: Path) -> None:
        """Where the file cannot be made, the sentence has the reason."""
        with pytest.raises(BadState, match="No such file"):
            Journal(str(tmp_path / "missing" / "journal.db"))

    # covers: K07
    def test_a_folder_in_its_place(self, path: str) -> None:
        """A folder of that name is no journal."""
        os.mkdir(path)
        with pytest.raises(BadState, match="cannot be written"):
            Journal(path)

    # covers: K07
    def test_held(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A journal that another process keeps to itself is a sentence, not an endless wait."""
        monkeypatch.setattr(journal_module, "BUSY_WAIT", 0.05)
        journal = Journal(path)
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BadState, match="nother process"):
                journal.remember({"k": FILM})
            with pytest.raises(BadState, match="nother process"):
                Journal(path)
            other.execute("ROLLBACK")
        journal.remember({"k": FILM})
        assert journal.recall(["k"]).get("k") == FILM
        journal.close()

    # covers: K07 R14
    def test_in_its_own_way(self, path: str) -> None:
        """A lock that the system did not take back costs one operation, not all that follow."""

        class Stuck(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                if sql.startswith("BEGIN"):
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error
                return super().execute(sql, *args)

        journal = Journal(path)
        journal._let_go()
        journal._database = sqlite3.connect(path, factory=Stuck, check_same_thread=False)
        with pytest.raises(BadState, match="nother process"):
            journal.remember({"k": FILM})
        journal.remember({"k": FILM})
        assert journal.recall(["k"]).get("k") == FILM
        journal.close()

    # covers: R01
    def test_full(self, path: str) -> None:
        """A full disk is disk-full, nothing is half kept, and afterwards it goes on."""
        journal = Journal(path)
        journal.remember({"k": FILM})
        with journal._reading() as database:
            pages = database.execute("PRAGMA page_count").fetchone()[0]
            database.execute(f"PRAGMA max_page_count = {pages}")
        many = {f"n{number}": FILM for number in range(1000)}
        with pytest.raises(DiskFull):
            journal.remember(many)
        with pytest.raises(DiskFull):
            journal.record([DONE._replace(id=str(number)) for number in range(1000)])
        assert journal.recall(["k"]).get("k") == FILM
        assert journal.recall(["n0"]).get("n0") is None
        assert journal.history() == []
        with journal._reading() as database:
            database.execute("PRAGMA max_page_count = 1000000")
        journal.remember(many)
        assert journal.recall(["n999"]).get("n999") == FILM
        journal.close()

    # covers: R05
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (sqlite3.SQLITE_IOERR_FSYNC, DiskFailed),
            (sqlite3.SQLITE_IOERR_WRITE, DiskFailed),
            (sqlite3.SQLITE_FULL, DiskFull),
            (sqlite3.SQLITE_BUSY_SNAPSHOT, BadState),
            (sqlite3.SQLITE_PROTOCOL, BadState),
            (sqlite3.SQLITE_READONLY_DBMOVED, BadState),
            (sqlite3.SQLITE_CORRUPT_INDEX, BadState),
        ],
    )
    def test_typed(self, path: str, code: int, expected: type[Exception]) -> None:
        """Every complaint of SQLite has a type, its extended kinds included."""
        journal = Journal(path)
        error = sqlite3.OperationalError("words")
        error.sqlite_errorcode = code
        with pytest.raises(expected) as caught, journal._writing():
            raise error
        assert type(caught.value) is expected
        with pytest.raises(Overloaded), journal._writing():
            raise MemoryError
        journal.remember({"k": FILM})
        journal.close()

    def test_descriptors(self, path: str) -> None:
        """A journal that was refused, or closed, leaves no file open."""
        if not os.path.isdir("/proc/self/fd"):
            pytest.skip("no /proc here")
        Path(path).write_bytes(b"hello")
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(BadState):
            Journal(path)
        Journal(path + "2").close()
        assert len(os.listdir("/proc/self/fd")) == before
