"""``lanxfer job`` as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import PASSWORD, USER, Sshd, free_port, ftp_server, silent_server, sshd

from lanxfer.storage.claims import claim


class Cli:
    """A folder with the files of an application, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "LANXFER_STATE": str(folder / "state"), "LANXFER_ALLOW_ROOT": "1"}
        self.write(
            "app.cfg", "[global]\njobs_dir = jobs\nlocks_dir = locks\n[logging]\nlog_dir = logs"
        )
        self.write("in/a.txt", "first")
        self.write("in/b.txt", "second")

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def job(self, target: str = "path = out", *, job: str = "", source: str = "path = in") -> None:
        self.write("jobs/j.cfg", f"[job]\n{job}\n[source]\n{source}\n[target]\n{target}\n")

    def begin(self, *words: str, config: bool = True, **env: str) -> subprocess.Popen[str]:
        place = ("-c", str(self.folder / "app.cfg")) if config else ()
        return subprocess.Popen(
            [sys.executable, "-m", "lanxfer.cli.main", "job", *words, *place],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.env, **env},
        )

    def __call__(self, *words: str, **how: Any) -> tuple[int, str, str]:
        running = self.begin(*words, **how)
        said, complained = running.communicate(timeout=100)
        return running.returncode, said, complained

    def rows(self, *words: str) -> list[dict[str, Any]]:
        _, said, _ = self(*words, "--json")
        return [json.loads(line) for line in said.splitlines()]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    found = Cli(tmp_path)
    found.job()
    return found


class RunTests:
    # covers: S4-20
    @pytest.mark.parametrize("name", ["LANXFER_CFG", "FILETRANSFER_CFG"])
    def test_environment(self, cli: Cli, name: str) -> None:
        """The environment says which file it is, under the older name, too."""
        found = cli("run", "j", config=False, **{name: str(cli.folder / "app.cfg")})
        assert found == (0, "", "")
        assert (cli.folder / "out" / "b.txt").read_text() == "second"

    # covers: S4-21
    def test_what_is_said(self, cli: Cli) -> None:
        """Nothing by itself; the result with -v; a row with --json; where it failed with -vv."""
        cli.job(job="collect_data = yes")
        code, said, complained = cli("run", "j", "-v")
        assert (code, complained) == (0, "")
        assert said.startswith(
            "2 transferred, 0 source errors, 0 target errors, 0 skipped\n= a.txt"
        )
        (row,) = cli.rows("run", "j")
        assert (row["job"], row["exit"], row["files_cnt"], row["skipped"]) == ("j", 0, 0, 2)
        assert [each[::2] for each in row["file_list"]] == [["a.txt", "~"], ["b.txt", "~"]]
        cli.job(source="path = away")
        for words, trace in ((("-v",), False), (("-vv",), True)):
            code, _, complained = cli("run", "j", *words)
            assert code == 2
            assert "away cannot be used" in complained
            assert ("Traceback" in complained) is trace

    # covers: S4-39
    def test_command_is_told(self, cli: Cli) -> None:
        """A run from the command line hears when the command it told has ended."""
        cli.job(f"path = out\n[notify]\ndone = exec:tee {cli.folder / 'told'}")
        code, _, complained = cli("run", "j")
        assert (code, complained) == (0, "")
        logs = "".join(each.read_text() for each in (cli.folder / "logs").iterdir())
        assert json.loads((cli.folder / "told").read_text())["exit"] == 0
        assert "told: exec:tee" in logs and "not told" not in logs

    # covers: S4-22
    @pytest.mark.parametrize(
        ("code", "words", "source", "target"),
        [
            (0, ("run", "j"), "path = in", "path = out"),
            (1, ("run", "j"), "path = in", "path = occupied"),
            (2, ("run", "j"), "path = missing", "path = out"),
            (3, ("run", "j"), "path = in\nrecursive = perhaps", "path = out"),
            (3, ("run", "nobody"), "path = in", "path = out"),
            (4, ("run",), "path = in", "path = out"),
            (4, ("walk", "j"), "path = in", "path = out"),
        ],
    )
    def test_exit_codes(
        self, cli: Cli, code: int, words: tuple[str, ...], source: str, target: str
    ) -> None:
        """Every way to end has its number."""
        (cli.folder / "occupied" / "a.txt").mkdir(parents=True)
        cli.job(target, source=source)
        assert cli(*words)[0] == code

    # covers: S4-22 S4-09
    def test_terminated(self, cli: Cli) -> None:
        """SIGTERM ends a run with 5, here one whose server says nothing."""
        with silent_server() as port:
            cli.job(f"type = FTP\nhost = 127.0.0.1:{port}\nuser = x\npassword = y\npath = /")
            running = cli.begin("run", "j", "--json")
            threads = Path(f"/proc/{running.pid}/task")
            while running.poll() is None and len(list(threads.iterdir())) == 1:
                time.sleep(0.01)
            running.send_signal(signal.SIGTERM)
            said, _ = running.communicate(timeout=60)
        assert running.returncode == 5
        assert json.loads(said)["exit"] == 5

    # covers: S4-23 S4-35
    @pytest.mark.parametrize(("words", "code"), [((), 0), (("--strict",), 75)])
    def test_not_run(self, cli: Cli, words: tuple[str, ...], code: int) -> None:
        """What is not ready, or runs already, is no failure, and leaves no log."""
        cli.job(job="single_instance = yes\nready_file = go")
        found, _, complained = cli("run", "j", *words)
        assert (found, complained) == (code, "lanxfer: go is not there.\n")
        held = claim(str(cli.folder / "locks"), "j")
        assert held is not None
        found, _, complained = cli("run", "j", *words)
        held.release()
        assert (found, complained) == (code, "lanxfer: The job j is running already.\n")
        assert not (cli.folder / "logs").exists()
        assert not (cli.folder / "out").exists()

    def test_dry(self, cli: Cli) -> None:
        """A dry run says what it would move, and makes nothing, not even a folder."""
        cli.job(source="path = in\ndelete = yes")
        code, said, _ = cli("run", "j", "--dry-run")
        assert code == 0
        assert said.startswith("j would move 2 files")
        assert sorted(path.name for path in (cli.folder / "in").iterdir()) == ["a.txt", "b.txt"]
        assert not (cli.folder / "out").exists()

    # covers: S4-25
    def test_help(self, cli: Cli) -> None:
        """Help for jobs and each of their commands, and the version."""
        code, said, _ = cli("--help", config=False)
        assert code == 0
        for name in ("run", "check", "list", "status", "mail-preview", "trust", "untrust"):
            assert f"\n  {name} " in said
        assert cli("run", "--help", config=False)[0] == 0
        version = [sys.executable, "-m", "lanxfer.cli.main", "--version"]
        assert subprocess.run(version, capture_output=True, check=True).stdout


class ViewTests:
    # covers: S4-40
    def test_status(self, cli: Cli) -> None:
        """Name, words, and what became of the last run."""
        cli.job(job="name = Every night\ninfo = to the cellar\nsingle_instance = yes")
        (row,) = cli.rows("status")
        assert (row["name"], row["info"], row["last"]) == ("Every night", "to the cellar", None)
        assert cli("run", "j")[0] == 0
        held = claim(str(cli.folder / "locks"), "j")
        assert held is not None
        (row,) = cli.rows("status", "j")
        held.release()
        assert row["running"] is True
        assert (row["last"]["exit"], row["last"]["files_cnt"]) == (0, 2)
        _, said, _ = cli("status")
        assert "2 transferred" in said

    # covers: S4-72 S4-40 S4-70
    def test_mail_preview(self, cli: Cli) -> None:
        """The mail is printed and sent to nobody: there is no mail server at all."""
        cli.job("path = out\n[notify]\nerror = bad@example.org", job="name = Nightly\ninfo = why")
        code, said, _ = cli("mail-preview", "j", "--failed")
        assert code == 0
        assert said.startswith(
            "To: bad@example.org\nSubject: [ERROR] Nightly: some files were not transferred\n"
        )
        assert "why" in said
        assert "< b.txt (No space left.)" in said
        assert cli("mail-preview", "j")[1].startswith("To: (nobody)\nSubject: [OK] Nightly")

    # covers: S4-71 S4-72
    def test_broken_template(self, cli: Cli) -> None:
        """A template that is not whole is said to be so; the default one is shown."""
        cli.write("mails/mine", "subject: $nothing")
        cli.write("app.cfg", "[global]\njobs_dir = jobs\nmail_cfgs_dir = mails")
        cli.job("path = out\n[notify]\nmail_cfg = mine")
        code, said, complained = cli("mail-preview", "j")
        assert code == 1
        assert "Using the default." in complained
        assert "Subject: [OK] j" in said

    def test_check(self, cli: Cli) -> None:
        """What a job does in words; what is not understood with file, section and option."""
        code, said, complained = cli("check", "j")
        assert (code, complained) == (0, "")
        assert f"takes * from file://{cli.folder}/in\n" in said
        cli.job("path = out\ncolour = blue\n[fun]\nx = 1", source="path = in\ndelete = yes")
        code, said, complained = cli("check")
        assert code == 1
        assert "removes each at the source" in said
        assert "j.cfg: [target] colour is not known." in complained
        assert "j.cfg: [fun] is not known." in complained
        cli.job("nowhere = x")
        assert cli("check", "j")[0] == 3
        (cli.folder / "in").mkdir(exist_ok=True)
        cli.job("path = in/../in", source="path = in\ndelete = yes")
        code, _, complained = cli("check", "j")
        assert code == 3
        assert "the same folder" in complained

    def test_list(self, cli: Cli) -> None:
        """The jobs with their names and times; one that cannot be read does not hide others."""
        cli.job("path = out\n[schedule]\nevery = 10", job="name = Often")
        cli.write("jobs/broken.cfg", "[source]\npath = x")
        code, said, complained = cli("list")
        assert code == 1
        assert "Often" in said
        assert "every 0:10:00" in said
        assert "broken.cfg: the section [target] is missing." in complained


OLD_APP = """
[global]
jobs_dir = jobs
job_cfg_ext = .job
hosts_cfg = hosts
collect_data = yes
mail_cfgs_dir = mails
locks_dir = locks
[logging]
log_dir = logs
use_subdirs = yes
msg_format = %%(asctime)s %%(levelname)-8s %%(message)s
log_level = DEBUG
[sftp]
known_hosts = known_hosts
[notify]
mail_cfg = default
[x:mine]
a = 1
"""
OLD_JOB = """
[job]
name = Old files
info = as they have always been
single_instance = yes
ready_file = go
retries = 1
log_level = INFO
[source]
path = in
files = *.txt, *.csv
ignore = .*
recursive = yes
delete = no
[target]
host_id = far
path = /
temp = ext:.tmp
[notify]
success =
[x:mine]
b = 2
"""


class OldFilesTests:
    # covers: S4-30 S4-31 S4-34
    def test_run_unchanged(self, cli: Cli) -> None:
        """The files of an application for the filetransfer package do what they did."""
        cli.write("app.cfg", OLD_APP)
        cli.write("jobs/old.job", OLD_JOB)
        cli.write("in/go", "")
        with ftp_server(cli.folder / "far") as server:
            cli.write(
                "hosts",
                f"[far]\ntype = FTP\nhost = 127.0.0.1:{server.port}\nuser = {USER}\n"
                f"password = {PASSWORD}\ntimeout = 20\npassive_mode = yes\n",
            )
            assert cli("check", "old")[0] == 0
            code, said, complained = cli("run", "old", "-v")
        assert (code, complained) == (0, "")
        assert said.startswith("2 transferred")
        assert sorted(path.name for path in (cli.folder / "far").iterdir()) == ["a.txt", "b.txt"]
        assert not (cli.folder / "in" / "go").exists()
        (log,) = (cli.folder / "logs" / "old").iterdir()
        assert "transferred: a.txt" in log.read_text()
        assert PASSWORD not in log.read_text()


class TrustTests:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Sshd]:
        with sshd(tmp_path / "sshd") as found:
            yield found

    # covers: S4-24 S4-66
    @pytest.mark.parametrize("hashed", [False, True])
    def test_trust(self, cli: Cli, server: Sshd, hashed: bool) -> None:
        """Refused until its key was shown and kept, and again when it was forgotten."""
        cli.write(
            "hosts",
            f"[far]\ntype = SFTP\nhost = 127.0.0.1:{server.port}\nuser = {server.user}\n"
            f"key_file = {server.user_key}\nkey_pass = {server.passphrase}\n",
        )
        cli.write(
            "app.cfg",
            "[global]\njobs_dir = jobs\nlocks_dir = locks\nhosts_cfg = hosts\n"
            "[sftp]\nknown_hosts = known\n[logging]\ndisabled = yes\n",
        )
        cli.job(f"host_id = far\npath = {cli.folder}/far")
        known = cli.write("known", "other.example.org ssh-ed25519 AAAA\n")
        assert cli("run", "j")[0] == 2
        code, said, _ = cli("trust", "far", "--yes", *(("--hashed",) if hashed else ()))
        assert code == 0
        shown = ["ssh-keygen", "-l", "-f", f"{server.host_key}.pub"]
        print_ = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()[1]
        assert print_ in said
        assert ("127.0.0.1" in known.read_text()) is not hashed
        assert cli("run", "j")[0] == 0
        assert "is in" in cli("trust", "far")[1]
        assert cli("untrust", "far")[0] == 0
        assert known.read_text() == "other.example.org ssh-ed25519 AAAA\n"
        assert cli("untrust", "far")[0] == 2
        assert cli("run", "j")[0] == 2

    # covers: S4-24
    def test_asked(self, cli: Cli, server: Sshd) -> None:
        """Nothing is kept without a yes, and another key is warned of before it is replaced."""
        name = f"[127.0.0.1]:{server.port}"
        other = Path(f"{server.key('other')}.pub").read_text().split()[1]
        known = cli.write("known", f"{name} ssh-ed25519 {other}\n")
        place = ("trust", f"127.0.0.1:{server.port}", "-f", str(known))
        code, _, complained = cli(*place)
        assert code != 0
        assert "has another key for it" in complained
        assert other in known.read_text()
        assert cli(*place, "--yes")[0] == 0
        assert other not in known.read_text()
        assert len(known.read_text().splitlines()) == 1
        assert cli("trust", f"127.0.0.1:{free_port()}", "-f", str(known), "-y")[0] == 2
