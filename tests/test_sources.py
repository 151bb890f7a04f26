"""Reading what is to be sent, and finding it."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.errors import BadName, Forbidden, SourceChanged, SourceUnreadable, TooLarge
from lanxfer.storage.sources import Entry, confined, open_source, read_small, walk
from lanxfer.transfers import Kind
from lanxfer.wire import limits

DATA = bytes(range(256)) * 1000


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file.bin"
    file.write_bytes(DATA)
    os.utime(file, ns=(5, 1_700_000_000_000_000_007))
    return file


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class OpenTests:
    def test_facts(self, file: Path) -> None:
        """Size, mtime and the x bit come from the open file."""
        with open_source(str(file)) as source:
            assert source.size == len(DATA)
            assert source.mtime_ns == 1_700_000_000_000_000_007
            assert not source.executable
        file.chmod(0o755)
        with open_source(str(file)) as source:
            assert source.executable

    # covers: P23
    @pytest.mark.parametrize(
        ("make", "sentence"),
        [
            (lambda path: path.symlink_to("file.bin"), "is a symbolic link; name the file"),
            (lambda path: path.symlink_to("nowhere"), "is a symbolic link; name the file"),
            (lambda path: path.symlink_to("/dev/zero"), "is a symbolic link; name the file"),
            (lambda path: path.mkdir(), "is a folder"),
            (lambda path: os.mkfifo(path), "is not a regular file"),
            (lambda path: None, "There is no"),
        ],
        ids=["link", "dangling", "device-link", "folder", "fifo", "missing"],
    )
    def test_refuses(
        self, tmp_path: Path, file: Path, make: Callable[[Path], None], sentence: str
    ) -> None:
        """What is no regular file is refused at once, in a sentence that says what it is."""
        path = tmp_path / "x"
        make(path)
        before = descriptors()
        with pytest.raises(SourceUnreadable, match=sentence):
            open_source(str(path))
        assert descriptors() == before

    # covers: P23
    def test_refuses_devices_and_sockets(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Devices without end and sockets are no regular files."""
        with pytest.raises(SourceUnreadable, match="not a regular file"):
            open_source("/dev/zero")
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
            with pytest.raises(SourceUnreadable, match="not a regular file"):
                open_source("s")

    # covers: P23
    @pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
    def test_refuses_content_without_size(self) -> None:
        """A file whose content is made on reading would arrive empty, so it is refused."""
        before = descriptors()
        with pytest.raises(SourceUnreadable, match="no size"):
            open_source("/proc/self/status")
        assert descriptors() == before

    @pytest.mark.parametrize(
        ("number", "sentence"),
        [
            (errno.EACCES, "may not be read"),
            (errno.EIO, "cannot be read"),
            (errno.EMFILE, "cannot"),
        ],
    )
    def test_refused_by_the_system(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
    ) -> None:
        """What the system says becomes a sentence."""

        def refuse(*args: Any, **named: Any) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(SourceUnreadable, match=sentence):
            open_source(str(file))

    # covers: P03
    def test_odd_names(self, tmp_path: Path) -> None:
        """Names that cannot exist, or act on a terminal, give one printable sentence."""
        for name in ("a\x00b", "\x1b[2J\n", "\ud800"):
            with pytest.raises(SourceUnreadable) as caught:
                open_source(str(tmp_path / name))
            assert caught.value.reason.isprintable()

    def test_close(self, file: Path) -> None:
        """Closing twice is fine, and a closed file gives a typed error."""
        before = descriptors()
        source = open_source(str(file))
        source.close()
        source.close()
        assert descriptors() == before
        with pytest.raises(SourceUnreadable):
            source.read(1)
        with pytest.raises(SourceUnreadable):
            source.check_unchanged()


class SharesTests:
    @pytest.fixture
    def share(self, tmp_path: Path) -> Path:
        """A shared folder, with what is not shared beside it."""
        share = tmp_path / "share"
        (share / "sub").mkdir(parents=True)
        for folder in (share, share / "sub", tmp_path):
            (folder / "x").write_bytes(b"x")
        for other in ("share2", "Share", "shar"):
            (tmp_path / other).mkdir()
            (tmp_path / other / "x").write_bytes(b"x")
        (share / "out").symlink_to(tmp_path / "x")
        (share / "up").symlink_to("..")
        (share / "in").symlink_to("sub/x")
        (tmp_path / "door").symlink_to("share")
        return share

    # covers: L05
    @pytest.mark.parametrize(
        "name",
        [
            *("../x", "sub/../../x", "out", "up/x", "up/share2/x", "../share2/x", "../shar/x"),
            *("../Share/x", "../SHARE/x", "//etc/passwd", "/etc/passwd", "", "../share/../x", "~"),
            *("../../../../../../../../etc/passwd", "sub/../up/x"),
        ],
    )
    def test_outside(self, name: str, share: Path) -> None:
        """What is not below a shared folder is refused, however it is written."""
        path = name if name.startswith("/") or not name else f"{share}/{name}"
        if name == "~":
            path = "~/x"
        with pytest.raises(Forbidden):
            confined(path, [str(share)])

    # covers: L05
    @pytest.mark.parametrize("name", ["x", "sub/x", "sub/../x", "in", "up/share/x", "../door/x"])
    def test_inside(self, name: str, share: Path) -> None:
        """What is below one is not, whichever of several it is, and with a slash at the end too."""
        confined(f"{share}/{name}", [str(share)])
        confined(f"{share}/{name}", ["/nowhere", f"{share}/"])

    def test_one_step(self, share: Path, tmp_path: Path) -> None:
        """A folder that becomes a link after it was looked at leads nowhere."""
        # covers: L05 P23
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "x").write_bytes(b"secret")
        path = confined(f"{share}/sub/x", [str(share)])
        assert read_small(path).size == open_source(path).size
        (share / "sub").rename(share / "was")
        (share / "sub").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(SourceUnreadable):
            open_source(path)
        with pytest.raises(SourceUnreadable):
            read_small(path)

    # covers: L05, H14
    @pytest.mark.parametrize("name", ["a\x00b", "a\ud800"])
    def test_no_name(self, name: str, share: Path) -> None:
        """A path that no file can have is refused with a sentence."""
        with pytest.raises((SourceUnreadable, Forbidden)):
            open_source(confined(f"{share}/{name}", [str(share)])).close()
        with pytest.raises(SourceUnreadable):
            open_source(f"{share}/{name}").close()


class ReadTests:
    def test_whole(self, file: Path) -> None:
        """The pieces are the file, and the digest is that of the file."""
        with open_source(str(file)) as source:
            pieces = []
            while piece := source.read(100_000):
                pieces.append(piece)
            assert b"".join(pieces) == DATA
            assert [len(piece) for piece in pieces] == [100_000, 100_000, 56_000]
            assert source.position == len(DATA)
            assert source.digest() == digest(DATA)
            source.check_unchanged()
            assert source.read(10) == b""
            assert source.read(0) == b""

    # covers: S02
    def test_empty(self, tmp_path: Path) -> None:
        """An empty file is a file."""
        (tmp_path / "e").touch()
        with open_source(str(tmp_path / "e")) as source:
            assert source.size == 0
            assert source.read(10) == b""
            assert source.digest() == digest(b"")
            assert source.prove([]) == 0

    # covers: S10
    def test_grows(self, file: Path) -> None:
        """Of a file that grows no more is read than it had, and the growth is noticed."""
        with open_source(str(file)) as source:
            with file.open("ab") as more:
                more.write(b"more")
            assert len(source.read(10**9)) == len(DATA)
            assert source.read(10) == b""
            with pytest.raises(SourceChanged):
                source.check_unchanged()

    # covers: S10
    @pytest.mark.parametrize("left", [0, 5, 100_000])
    def test_shrinks(self, file: Path, left: int) -> None:
        """A file that ends too early has changed."""
        with open_source(str(file)) as source:
            os.truncate(file, left)
            with pytest.raises(SourceChanged):
                for _ in range(3):
                    source.read(100_000)
            with pytest.raises(SourceChanged):
                source.check_unchanged()

    # covers: S10
    def test_rewritten(self, file: Path) -> None:
        """Other content of the same size is noticed by its mtime."""
        with open_source(str(file)) as source:
            file.write_bytes(bytes(len(DATA)))
            with pytest.raises(SourceChanged):
                source.check_unchanged()

    # covers: S10, P23
    def test_exchanged(self, tmp_path: Path, file: Path) -> None:
        """A name that now means another file does not matter: the open file is sent."""
        with open_source(str(file)) as source:
            file.rename(tmp_path / "old")
            file.write_bytes(b"another")
            assert source.read(10**9) == DATA
            source.check_unchanged()

    def test_disk_fails(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that fails makes the file unreadable, in a sentence."""

        def broken(*args: Any) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        with open_source(str(file)) as source:
            monkeypatch.setattr(os, "pread", broken)
            with pytest.raises(SourceUnreadable, match="Input/output error"):
                source.read(1)

    def test_short_reads(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Reads that give less than asked are put together."""
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 70_000), at))
        with open_source(str(file)) as source:
            assert source.read(10**9) == DATA
            assert source.digest() == digest(DATA)

    def test_without_pread(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system has no pread a file is read all the same."""
        monkeypatch.delattr(os, "pread")
        with open_source(str(file)) as source:
            source.read(1000)
            assert source.prove([(5, digest(DATA[:5]))]) == 5
            assert source.read(10**9) == DATA[5:]


class ResumeTests:
    def test_prefixes(self, file: Path) -> None:
        """Digests of beginnings are made in one pass; offsets beyond the file have none."""
        with open_source(str(file)) as source:
            offsets = [0, 1, 100_000, len(DATA), len(DATA) + 1, -1]
            found = source.digests(offsets)
            assert found == {at: digest(DATA[:at]) for at in (0, 1, 100_000, len(DATA))}
            assert source.position == 0

    # covers: J12
    @pytest.mark.parametrize(
        ("have", "expected"),
        [
            ([], 0),
            ([(100, digest(DATA[:100]))], 100),
            ([(200, digest(DATA[:200])), (100, digest(DATA[:100]))], 200),
            ([(200, "0" * 64), (100, digest(DATA[:100]))], 100),
            ([(200, digest(DATA[:100])), (100, digest(DATA[:200]))], 0),
            ([(100, digest(DATA[:100])), (200, digest(DATA[:200]))], 200),
            ([(100, "0" * 64), (100, digest(DATA[:100]))], 100),
            ([(len(DATA), digest(DATA))], len(DATA)),
            ([(len(DATA) + 1, digest(DATA)), (2**63, ""), (-5, "")], 0),
            ([(0, digest(b""))], 0),
        ],
    )
    def test_proof(self, file: Path, have: list[tuple[int, str]], expected: int) -> None:
        """The largest offset on which both agree is where it goes on, digest included."""
        with open_source(str(file)) as source:
            source.read(50)
            assert source.prove(have) == expected
            assert source.position == expected
            assert source.digest() == digest(DATA[:expected])
            rest = source.read(10**9)
            assert rest == DATA[expected:]
            assert source.digest() == digest(DATA)

    # covers: S07
    def test_reads_once(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The beginning that was proved is not read again for the digest of the whole."""
        real, count = os.pread, [0]

        def counted(fd: int, n: int, at: int) -> bytes:
            data = real(fd, n, at)
            count[0] += len(data)
            return data

        monkeypatch.setattr(os, "pread", counted)
        with open_source(str(file)) as source:
            at = source.prove([(at, digest(DATA[:at])) for at in (200_000, 100_000)])
            source.read(source.size - at)
            assert source.digest() == digest(DATA)
        assert count[0] == len(DATA)

    @pytest.mark.parametrize("positional", [True, False])
    def test_read_into(self, file: Path, monkeypatch: pytest.MonkeyPatch, positional: bool) -> None:
        """The same bytes and digests in memory that is there already, wherever preadv is not."""
        # covers: S10
        if not positional:
            monkeypatch.delattr(os, "preadv")
        unit = bytearray(70_000)
        with open_source(str(file)) as source:
            found = b""
            while size := source.read_into(memoryview(unit)):
                found += unit[:size]
            assert found == DATA
            assert source.digest() == digest(DATA)
            source.seek(0)
            os.truncate(file, 50_000)
            with pytest.raises(SourceChanged):
                source.read_into(memoryview(unit))
        with pytest.raises(SourceUnreadable):
            source.read_into(memoryview(unit))

    def test_seek(self, file: Path) -> None:
        """An offset that nobody proved can be gone to, and the digest is still the file's."""
        with open_source(str(file)) as source:
            source.seek(1000)
            assert source.read(500) == DATA[1000:1500]
            assert source.digest() == digest(DATA[:1500])
            source.seek(0)
            assert source.read(10**9) == DATA
            assert source.digest() == digest(DATA)
            for offset in (-1, len(DATA) + 1):
                with pytest.raises(ValueError, match="within"):
                    source.seek(offset)

    # covers: S10
    def test_shrinks_before_the_proof(self, file: Path) -> None:
        """A file that lost its end cannot prove anything about it."""
        with open_source(str(file)) as source:
            os.truncate(file, 10)
            with pytest.raises(SourceChanged):
                source.prove([(1000, digest(DATA[:1000]))])

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("read"), st.integers(0, 3000)),
                st.tuples(st.just("seek"), st.integers(0, 2560)),
                st.tuples(st.just("prove"), st.integers(0, 2560)),
                st.tuples(st.just("digests"), st.integers(0, 2560)),
            ),
            max_size=8,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_any_order(self, steps: list[tuple[str, int]]) -> None:
        """However one jumps about, what is read and digested is the file."""
        import tempfile

        data = DATA[:2560]
        with tempfile.NamedTemporaryFile() as temporary:
            temporary.write(data)
            temporary.flush()
            with open_source(temporary.name) as source:
                for name, n in steps:
                    at = source.position
                    if name == "read":
                        assert source.read(n) == data[at : at + n]
                    elif name == "seek":
                        source.seek(n)
                    elif name == "prove":
                        assert source.prove([(n, digest(data[:n]))]) == n
                    else:
                        source.digests([n])
                        assert source.position == at
                    assert source.digest() == digest(data[: source.position])


class ReadSmallTests:
    def test_whole(self, file: Path) -> None:
        """A small file comes whole, with all that is said of it."""
        whole = read_small(str(file))
        assert whole == (DATA, len(DATA), 1_700_000_000_000_000_007, digest(DATA), False)

    def test_grown(self, file: Path) -> None:
        """A file that is not small is not read."""
        with pytest.raises(TooLarge):
            read_small(str(file), limit=1000)

    def test_changes_while_read(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that changes just then is not sent."""
        real = os.read

        def meanwhile(fd: int, n: int) -> bytes:
            data = real(fd, n)
            file.write_bytes(b"x")
            return data

        monkeypatch.setattr(os, "read", meanwhile)
        with pytest.raises(SourceChanged):
            read_small(str(file))

    @pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 0, len(DATA)])
    @pytest.mark.parametrize("mtime_ns", [1_700_000_000_000_000_007, 5, None])
    def test_listed_otherwise(self, file: Path, size: int, mtime_ns: int | None) -> None:
        """What its folder said of it before is not what is said of it now."""
        assert read_small(str(file), listed=(size, mtime_ns)) == read_small(str(file))

    @pytest.mark.parametrize("what", ["folder", "pipe", "link", "nothing", "large"])
    def test_something_else_by_now(self, file: Path, what: str) -> None:
        """Something else may have taken its place since; what is said is what is said of that."""
        file.unlink()
        if what == "folder":
            file.mkdir()
        elif what == "pipe":
            os.mkfifo(file)
        elif what == "link":
            file.symlink_to("elsewhere")
        elif what == "large":
            file.write_bytes(b"x" * (limits.INLINE_MAX + 1))
        outcomes = []
        for listed in (None, (len(DATA), 1_700_000_000_000_000_007)):
            with pytest.raises((SourceUnreadable, TooLarge)) as caught:
                read_small(str(file), listed=listed)
            outcomes.append(str(caught.value))
        assert outcomes[0] == outcomes[1]

    def test_changed_once(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that was changed while it was read is read as it is then."""
        real, listed = os.read, (len(DATA), 1_700_000_000_000_000_007)

        def meanwhile(fd: int, n: int) -> bytes:
            data = real(fd, n)
            if file.stat().st_size > 1:
                file.write_bytes(b"x")
            return data

        monkeypatch.setattr(os, "read", meanwhile)
        assert read_small(str(file), listed=listed).data == b"x"


def brief(entries: Any) -> list[tuple[str, str]]:
    """Path and what it is, for a glance at a walk."""

    def word(entry: Entry) -> str:
        if entry.error is not None:
            return type(entry.error).__name__
        return entry.skipped or entry.kind.value

    return [(entry.path, word(entry)) for entry in entries]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "b" / "deep").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "a.txt").write_text("a")
    (tree / "b" / "z").write_text("zz")
    (tree / "b" / "deep" / "x").write_text("xxx")
    (tree / "c").write_text("")
    return tree


class WalkTests:
    def test_tree(self, tree: Path) -> None:
        """A folder comes before what is in it, everything sorted, empty folders too."""
        assert brief(walk([str(tree)])) == [
            ("tree", "folder"),
            ("tree/a.txt", "file"),
            ("tree/b", "folder"),
            ("tree/b/deep", "folder"),
            ("tree/b/deep/x", "file"),
            ("tree/b/z", "file"),
            ("tree/c", "file"),
            ("tree/empty", "folder"),
        ]

    def test_facts(self, tree: Path) -> None:
        """An entry says where the file is here, how long it is and what it is like."""
        (tree / "a.txt").chmod(0o755)
        os.utime(tree / "a.txt", ns=(1, 1234))
        (entry,) = walk([str(tree / "a.txt")])
        assert entry == Entry(Kind.FILE, "a.txt", str(tree / "a.txt"), 1, 1234, executable=True)

    @pytest.mark.parametrize("text", ["tree/", "tree/.", "tree/b/..", "./tree", "tree//"])
    def test_real_base_name(self, tree: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        """However a folder is named, it is sent under its own name."""
        monkeypatch.chdir(tree.parent)
        assert next(walk([text])).path == "tree"

    def test_working_folder(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The working folder is sent under its own name, and its files can be opened."""
        monkeypatch.chdir(tree)
        entries = list(walk(["."]))
        assert (entries[0].path, entries[1].path) == ("tree", "tree/a.txt")
        assert read_small(entries[1].local).data == b"a"
        monkeypatch.chdir(tree / "b")
        assert next(walk([".."])).path == "tree"

    def test_the_root_has_no_name(self) -> None:
        """What has no name cannot be sent under it."""
        (entry,) = walk(["/"])
        assert isinstance(entry.error, BadName)

    def test_missing(self, tree: Path) -> None:
        """What is not there is an entry with the reason, and the others go on."""
        entries = list(walk([str(tree / "none"), "", "a\x00b", str(tree / "c")]))
        assert [type(entry.error) for entry in entries[:3]] == [SourceUnreadable] * 3
        assert entries[3].path == "c"

    def test_same_name_twice(self, tree: Path) -> None:
        """Two things of one name cannot both be sent, and neither is what is below the second."""
        (tree / "empty" / "b").mkdir()
        (tree / "empty" / "b" / "x").touch()
        entries = list(walk([str(tree / "b"), str(tree / "empty" / "b")]))
        assert brief(entries)[-1] == ("b", "BadName")
        assert len(entries) == 5
        assert isinstance(entries[-1].error, BadName)
        assert "b" in entries[-1].error.reason

    @pytest.mark.skipif(sys.platform == "darwin", reason="one name there")
    def test_same_name_in_another_form(self, tmp_path: Path) -> None:
        """Names that differ in their Unicode form alone are one where they go: one is sent."""
        whole, pieces = tmp_path / "d" / "\u00e9", tmp_path / "d" / "e\u0301"
        for name in ("a", "K", "\u212a", "x\u0301"):
            pieces.mkdir(parents=True, exist_ok=True)
            (pieces / name).touch()
        whole.mkdir()
        (whole / "y").touch()
        assert brief(walk([str(tmp_path / "d")])) == [
            ("d", "folder"),
            ("d/e\u0301", "folder"),
            ("d/e\u0301/K", "file"),
            ("d/e\u0301/a", "file"),
            ("d/e\u0301/x\u0301", "file"),
            ("d/e\u0301/\u212a", "BadName"),
            ("d/\u00e9", "BadName"),
        ]
        assert brief(walk([str(whole), str(pieces)]))[-1] == ("e\u0301", "BadName")

    @pytest.mark.skipif(sys.platform == "darwin", reason="one name there")
    def test_skipped_in_another_form(self, tmp_path: Path) -> None:
        """What is not sent takes no name from what is."""
        (tmp_path / "e\u0301").symlink_to("x")
        (tmp_path / "\u00e9").touch()
        assert brief(walk([str(tmp_path)]))[1:] == [
            (f"{tmp_path.name}/e\u0301", "symbolic link"),
            (f"{tmp_path.name}/\u00e9", "file"),
        ]

    # covers: P23
    def test_links(self, tmp_path: Path) -> None:
        """Links are passed by with the reason, or given as links; never followed."""
        tree = tmp_path / "t"
        tree.mkdir()
        (tree / "l").symlink_to("..")
        (tree / "m").symlink_to("nowhere")
        assert brief(walk([str(tree)])) == [
            ("t", "folder"),
            ("t/l", "symbolic link"),
            ("t/m", "symbolic link"),
        ]
        found = list(walk([str(tree)], links=True))
        assert [(entry.kind, entry.target) for entry in found[1:]] == [
            (Kind.LINK, ".."),
            (Kind.LINK, "nowhere"),
        ]

    def test_named_link(self, tree: Path) -> None:
        """A link that was named itself is an error, unless links are wanted."""
        (tree / "l").symlink_to("a.txt")
        (entry,) = walk([str(tree / "l")])
        assert isinstance(entry.error, SourceUnreadable)
        assert "name the file it points to" in entry.error.reason
        (entry,) = walk([str(tree / "l")], links=True)
        assert (entry.kind, entry.target) == (Kind.LINK, "a.txt")

    # covers: P23
    def test_special_files(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pipes, sockets and devices are passed by with the reason."""
        os.mkfifo(tree / "empty" / "pipe")
        monkeypatch.chdir(tree / "empty")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("sock")
        assert brief(walk([str(tree / "empty")]))[1:] == [
            ("empty/pipe", "named pipe"),
            ("empty/sock", "socket"),
        ]
        (entry,) = walk(["pipe"])
        assert isinstance(entry.error, SourceUnreadable)
        (entry,) = walk(["/dev/null"])
        assert isinstance(entry.error, SourceUnreadable)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        """A name that is not UTF-8 is an entry with the reason, and the others go on."""
        tree = os.fsencode(tmp_path) + b"/t"
        os.makedirs(tree + b"/bad\xff")
        for name in (b"a", b"b\xff", b"c"):
            with open(tree + b"/" + name, "wb"):
                pass
        os.symlink(b"x\xff", tree + b"/l")
        entries = list(walk([os.fsdecode(tree)], links=True))
        assert sorted(word for _, word in brief(entries)) == [
            "BadName", "BadName", "BadName", "file", "file", "folder"
        ]  # fmt: skip
        for entry in entries:
            assert entry.path.isprintable()
            entry.path.encode()

    def test_unreadable_folder(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder that cannot be read is an entry with the reason, and the walk goes on."""
        real = os.open

        def refuse(path: Any, *args: Any, **named: Any) -> int:
            if str(path).endswith("/b"):
                raise PermissionError(errno.EACCES, "no")
            return real(path, *args, **named)

        monkeypatch.setattr(os, "open", refuse)
        assert brief(walk([str(tree)]))[2:4] == [("tree/b", "SourceUnreadable"), ("tree/c", "file")]

    # covers: P23
    def test_folder_exchanged_for_a_link(self, tmp_path: Path, tree: Path) -> None:
        """A folder that became a link meanwhile is not followed."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").touch()
        found = walk([str(tree)])
        assert next(found).path == "tree"
        (tree / "empty").rmdir()
        (tree / "empty").symlink_to(outside)
        assert brief(found)[-1] == ("tree/empty", "SourceUnreadable")

    def test_lazy(self, tree: Path) -> None:
        """What is below a folder is looked at when its turn comes."""
        found = walk([str(tree)])
        next(found)
        (tree / "empty" / "late").touch()
        assert brief(found)[-1] == ("tree/empty/late", "file")

    def test_deep(self, tmp_path: Path) -> None:
        """Depth is no matter of the interpreter's stack."""
        folders = [tmp_path / "d"]
        for _ in range(1200):
            folders[-1].mkdir()
            folders.append(folders[-1] / "d")
        entries = list(walk([str(tmp_path / "d")]))
        assert len(entries) == 1200
        assert entries[-1].path == "/".join("d" * 1200)
        # Not left to what clears up after tests, which may be recursive.
        for folder in reversed(folders[:-1]):
            folder.rmdir()

    def test_no_leak(self, tree: Path) -> None:
        """A walk that is given up leaves nothing open."""
        before = descriptors()
        for n in range(8):
            found = walk([str(tree)])
            for _ in range(n):
                next(found)
            assert descriptors() == before
