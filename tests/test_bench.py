"""The bench runs and prints what it promises; how fast anything is is not asserted here."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import floor, pages, picture, workloads
from bench.__main__ import main
from bench.figures import Bar, Report, simple_table
from bench.goals import Goal, judge
from bench.options import NAMES, QUICK, parse
from bench.peers import Peer
from bench.peers.ftp import Aioftp, Vsftpd, VsftpdAgain
from bench.peers.lanxfer import Plain, Resumed
from bench.peers.limit import Limit
from bench.peers.nginx import Nginx, NginxTls
from bench.peers.rsync import Append, Durable, Rsync
from bench.peers.ssh import RsyncSsh, Scp
from bench.peers.twisted import BareTls
from bench.place import MIB, Place, check_same, place
from bench.processes import BenchFailed, Side
from bench.programs import HOST, children, free_port, run, serving
from bench.samples import Sample

OTHERS = (
    *(Rsync(), Durable(), Scp(), RsyncSsh(), Nginx(), NginxTls(), Vsftpd(), Aioftp()),
    *(Limit("loops"), Limit("sendfile"), Limit("splice"), Limit("tls"), BareTls()),
)


def named(peer: Peer) -> str:
    return peer.name


def samples(*seconds: float, peak: int = 0) -> list[Sample]:
    return [Sample(each, client_peak=peak) for each in seconds]


class BenchTests:
    def test_small(self, capsys: pytest.CaptureFixture[str]) -> None:
        """lanxfer and a peer take turns; tables, goals and samples come out, and nothing stays."""
        with pytest.MonkeyPatch.context() as patch:
            few = (Plain(), Limit("loops"))
            patch.setitem(
                workloads.FILES, "small", workloads.Workload("few", "files/s", few, _three)
            )
            # The path of a control socket has to be short.
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                args = ["--quick", "--dir", folder, "--only", "small", "--json"]
                assert main(args) == 0, capsys.readouterr().err
                assert os.listdir(folder) == []
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("  ")[0] for line in lines[2:4]] == ["lanxfer", "limit, loops"]
        found = json.loads(lines[-1])["small"]["samples"]
        assert all(found[name][0]["client_peak"] > MIB for name in found)

    def test_profile(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """A profile names functions of the side that was asked for, and is no measurement."""
        args = ["--files", "10", "--dir", str(tmp_path), "profile", "small", "--side", "client"]
        assert main(args) == 0
        text = capsys.readouterr().out
        assert "small, lanxfer, client" in text
        assert "tottime" in text and "/lanxfer/" in text

    def test_floor(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """The least for a small file stores each of them where it belongs, and leaves nothing."""
        seen: list[bytes] = []
        receive = floor._receive

        def look(files: Sequence[tuple[str, bytes]], inbox: Path) -> None:
            receive(files, inbox)
            assert not list((inbox / "staging").iterdir())
            seen.extend(each.read_bytes() for each in sorted(inbox.glob("*/*.bin")))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(floor, "_receive", look)
            args = ["--files", "300", "--runs", "1", "--dir", str(tmp_path), "--only", "floor"]
            assert main(args) == 0
        assert len(set(seen)) == 300 and os.listdir(tmp_path) == []
        rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:4]]
        assert [row[0] for row in rows] == ["sender", "receiver"]

    def test_no_room(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """What cannot be measured ends with a sentence and exit code 1."""
        size = str(10**9)
        assert main(["--size", size, "--dir", str(tmp_path), "--only", "large"]) == 1
        assert "has room for" in capsys.readouterr().err
        assert os.listdir(tmp_path) == []

    def test_durable_needs_a_disk(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Nothing is called durable that was not synced to a disk somebody named."""
        assert main(["--only", "durable"]) == 0
        assert "--disk" in capsys.readouterr().out


def _three(there: Place, _: object) -> Path:
    return there.tree(3)


class PeerTests:
    @pytest.mark.parametrize("peer", OTHERS, ids=named)
    def test_one_file(self, tmp_path: Path, peer: Peer) -> None:
        """Each peer that is installed takes a file, which is compared, and leaves no process."""
        if missing := peer.missing():
            pytest.skip(f"not installed: {missing}")
        there = Place(tmp_path)
        sample = workloads.one(there, peer, [there.large(1)])
        assert sample.seconds > 0 and sample.server_cpu > 0
        assert children(os.getpid()) == []

    @pytest.mark.parametrize("peer", [Nginx(), Rsync(), Limit("loops")], ids=named)
    def test_tree(self, tmp_path: Path, peer: Peer) -> None:
        """Folders arrive as folders."""
        if missing := peer.missing():
            pytest.skip(f"not installed: {missing}")
        there = Place(tmp_path)
        workloads.one(there, peer, [there.tree(101)])

    @pytest.mark.parametrize("peer", [Append(), VsftpdAgain()], ids=named)
    def test_half(self, tmp_path: Path, peer: Peer) -> None:
        """What goes on from a half ends as a whole."""
        if missing := peer.missing():
            pytest.skip(f"not installed: {missing}")
        there = Place(tmp_path)
        workloads.one(there, peer, [there.large(1)])

    def test_begun_anew(self) -> None:
        """A resume that was none is no measurement of one."""
        Resumed().confirm('{"resumed_from": 134217728}')
        for said in ('{"resumed_from": 0}', ""):
            with pytest.raises(BenchFailed, match="anew"):
                Resumed().confirm(said)

    def test_left_out(self, tmp_path: Path) -> None:
        """Who is not installed, and who fails, is left out and named."""
        absent, broken = _Absent(), _Broken()
        with pytest.MonkeyPatch.context() as patch:
            peers = (absent, broken, Limit("loops"))
            patch.setitem(workloads.FILES, "small", workloads.Workload("", "ms", peers, _three))
            report = workloads.measure("small", Place(tmp_path), QUICK)
        assert [row[0] for row in report.rows] == ["limit, loops"]
        assert report.notes[0] == "left out: absent, not installed: no-such-program"
        assert report.notes[1].startswith("left out: broken: false failed with 1")

    def test_far(self, tmp_path: Path) -> None:
        """Over a long wire everything arrives, no sooner than light would."""
        there = Place(tmp_path)
        sample = workloads.one(there, Limit("loops"), [there.large(1)], round_trip=0.3)
        assert sample.seconds >= 0.3


class _Absent(Limit):
    needs = ("no-such-program",)

    def __init__(self) -> None:
        super().__init__("loops")
        self.name = "absent"


class _Broken(_Absent):
    needs = ()

    def __init__(self) -> None:
        super().__init__()
        self.name = "broken"

    def send(self, *_: object) -> Sequence[str]:
        return ["false"]


class ProgramTests:
    def test_used(self, tmp_path: Path) -> None:
        """Time and memory of what a program starts are its own."""
        held = f"{sys.executable} -c 'b\"x\" * (64 << 20)'"
        used = run(["sh", "-c", f"{held}; true"], tmp_path / "log")
        assert 64 * MIB < used.peak < 128 * MIB
        assert used.cpu > 0 and used.seconds > 0

    def test_failure(self, tmp_path: Path) -> None:
        """A program that fails is an error with its own last words."""
        with pytest.raises(BenchFailed, match="failed with 2\\.\nalas"):
            run(["sh", "-c", "echo alas; exit 2"], tmp_path / "log")

    def test_deaf(self, tmp_path: Path) -> None:
        """A service that ends before it listens is noticed soon."""
        argv = ["sh", "-c", "echo alas"]
        with (
            pytest.raises(BenchFailed, match="does not listen\\.\nalas"),
            serving(argv, free_port(), tmp_path / "log"),
        ):
            pass

    def test_ends(self, tmp_path: Path) -> None:
        """A service is gone when its turn is over, and its port with it."""
        there, port = Place(tmp_path), free_port()
        with there.run() as one, serving(Limit("loops").serve(one, port), port, tmp_path / "log"):
            socket.create_connection((HOST, port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port), timeout=5)

    def test_side_killed(self, tmp_path: Path) -> None:
        """Whoever leaves early takes the process along."""
        received = str(tmp_path / "received")
        args = ["serve", received, "--unit", "1", "--read-size", "1024"]
        with Side("bench.bare", args, str(tmp_path / "errors")) as side:
            said = side.hear()
        assert said is not None
        host, _, port = said["listening"].partition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=5)


class GoalTests:
    def test_words(self) -> None:
        """A figure is short of what must be, there, or as good as could be wished."""
        assert Goal("", 0.89, 0.9, 1.2).word == "MISSED"
        assert Goal("", 0.9, 0.9, 1.2).word == "must reached"
        assert Goal("", 1.2, 0.9, 1.2).word == "reached"
        assert Goal("", 1.2, 1.2).word == "reached"

    def test_bounds(self) -> None:
        """A bound may be met and not be passed."""
        assert Goal("", 80.1, 80, 60, bound=True).word == "MISSED"
        assert Goal("", 80.0, 80, 60, bound=True).word == "must reached"
        assert Goal("", 60.0, 80, 60, bound=True).word == "reached"

    def test_judge(self) -> None:
        """Ratios are of medians; what was not measured is not judged."""
        report = Report("", ())
        report.samples = {
            "lanxfer": samples(1.0, 2.0, 9.0, peak=70 * MIB),
            "rsync daemon": samples(8.0, 3.0, 0.1, peak=900 * MIB),
        }
        found = judge({"small": report})
        assert [(each.found, each.word) for each in found] == [
            (1.5, "reached"),
            (70.0, "must reached"),
        ]

    def test_cold(self) -> None:
        """Cold starts are compared by time."""
        taken = {"lanxfer TLS": samples(0.3), "scp": samples(0.4)}
        taken["lanxfer TLS, service here"] = samples(0.1)
        cold, handed, *_ = judge({"cold": Report("", (), samples=taken)})
        assert (round(cold.found, 2), cold.word) == (0.75, "must reached")
        assert (round(handed.found, 2), handed.word) == (0.25, "reached")


class PageTests:
    def test_write(self, tmp_path: Path) -> None:
        """New figures take the place of old ones, and the rest of a page stays."""
        page = tmp_path / pages.PAGE
        page.write_text(f"Words\n\n{pages.BEGIN}\nold\n{pages.END}\nmore words\n")
        report = Report("small: few", ("", "files/s"), [("lanxfer", "7")], ["left out: x"])
        report.bars = [Bar("lanxfer", 7.0, ours=True)]
        pages.write(tmp_path, {"small": report}, [Goal("g", 1, 2)], "Quiet.")
        text = page.read_text()
        assert text.startswith("Words\n") and text.endswith("more words\n")
        assert "old" not in text and "Quiet." in text and "MISSED" in text
        assert (tmp_path / pages.PICTURE).exists()

    def test_no_place(self, tmp_path: Path) -> None:
        """A page without marks is left alone."""
        (tmp_path / pages.PAGE).write_text("Words\n")
        with pytest.raises(BenchFailed, match="no place"):
            pages.write(tmp_path, {}, [], "")

    def test_picture(self) -> None:
        """The picture is XML, with a bar and two texts for each contender."""
        report = Report("a < b", (), unit="MiB/s")
        report.bars = [Bar("x & y", 2.0, ours=False), Bar("lanxfer", 1.0, ours=True)]
        root = ElementTree.fromstring(picture.draw({"a": report, "b": Report("", ())}))
        space = "{http://www.w3.org/2000/svg}"
        assert len(root.findall(f"{space}rect")) == 3
        widths = [float(each.get("width", "0")) for each in root.findall(f"{space}rect")[1:]]
        assert widths[0] == pytest.approx(2 * widths[1])

    def test_tables(self) -> None:
        """Columns stay apart, whatever stands in them."""
        rows = list(simple_table([("", "a"), ("one", ""), ("three", "100")]))
        assert rows[0] == rows[2] == rows[5] == "=====  ==="
        assert rows[1].startswith("\\") and rows[4] == "three  100"
        assert len(rows) == 6

    def test_docs(self) -> None:
        """The page of this project has a place for figures."""
        text = (Path(__file__).parent.parent / "docs" / pages.PAGE).read_text(encoding="utf-8")
        assert text.index(pages.BEGIN) < text.index(pages.END)


class PlaceTests:
    def test_difference(self, tmp_path: Path) -> None:
        """One wrong byte, and one missing file, is noticed."""
        with place(str(tmp_path)) as there:
            tree = there.tree(3)
            with there.run() as run:
                copy = run.inbox / "copy"
                copy.mkdir()
                for each in tree.rglob("*.bin"):
                    (copy / each.relative_to(tree).parent).mkdir(exist_ok=True)
                    (copy / each.relative_to(tree)).write_bytes(each.read_bytes())
                check_same(tree, copy)
                wrong = next(copy.rglob("*.bin"))
                data = wrong.read_bytes()
                wrong.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
                with pytest.raises(BenchFailed):
                    check_same(tree, copy)
                wrong.unlink()
                with pytest.raises(BenchFailed):
                    check_same(tree, copy)
        assert os.listdir(tmp_path) == []

    def test_runs_apart(self, tmp_path: Path) -> None:
        """Each run has folders of its own, with the keys that know each other."""
        there = Place(tmp_path)
        with there.run() as one:
            (one.inbox / "left").touch()
        with there.run() as two:
            assert os.listdir(two.inbox) == []
            assert (two.server / "key.pem").stat().st_mode & 0o077 == 0
            assert two.server.stat().st_mode & 0o077 == 0

    def test_mixed(self, tmp_path: Path) -> None:
        """A mixed tree is the same each time, and its files are of very different sizes."""
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        one, two = Place(tmp_path / "a").mixed(100), Place(tmp_path / "b").mixed(100)
        sizes = [sorted(f.stat().st_size for f in each.rglob("*.bin")) for each in (one, two)]
        assert sizes[0] == sizes[1]
        assert sizes[0][5] * 20 < sizes[0][95]


class OptionsTests:
    def test_quick(self) -> None:
        """What is said wins over what --quick would choose."""
        options = parse(["--quick", "--files", "7"])
        assert (options.size, options.files, options.runs) == (256, 7, 1)
        assert options.only == NAMES

    @pytest.mark.parametrize("args", [["profile"], ["profile", "warm"], ["large"], ["--runs", "0"]])
    def test_nonsense(self, args: list[str]) -> None:
        """What makes no sense is refused before anything is measured."""
        with pytest.raises(SystemExit) as ended:
            parse(args)
        assert ended.value.code == 2
