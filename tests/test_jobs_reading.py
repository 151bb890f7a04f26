"""Configuration files, and what becomes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lanxfer.jobs import ConfigError, load
from lanxfer.jobs.config.app import read_app
from lanxfer.jobs.config.files import as_parser, config_path
from lanxfer.jobs.config.job import job_ids, read_job, read_sections
from lanxfer.jobs.config.settings import JobConfig, Password

APP = """
[global]
jobs_dir = jobs
"""
JOB = """
[source]
path = in
[target]
path = out
"""


class Files:
    """Configuration files in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = str(folder / "app.cfg")
        (folder / "jobs").mkdir()
        self.write("app.cfg", APP)
        self.write("jobs/j.cfg", JOB)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    def job(self) -> JobConfig:
        return read_job(self.app, "j")

    def fails(self, why: str) -> None:
        with pytest.raises(ConfigError, match=why) as caught:
            self.job()
        assert caught.value.code == 3


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class AppTests:
    # covers: S4-30
    def test_job_files(self, files: Files) -> None:
        """Jobs are files of one folder, with an extension of one's choice."""
        files.write("app.cfg", "[global]\njobs_dir = elsewhere\njob_cfg_ext = job\n")
        files.write("elsewhere/j.job", JOB)
        files.write("elsewhere/j.cfg", "nonsense")
        assert files.job().id == "j"
        assert job_ids(read_app(files.app)) == ["j"]

    def test_no_job(self, files: Files) -> None:
        """A job that has no file is named; so is what no job can be called."""
        for name in ("nope", "../j", "", "a/b", ".."):
            with pytest.raises(ConfigError, match="job"):
                read_job(files.app, name)

    def test_where(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file is named, or the environment says where it is, in the older words too."""
        for name in ("LANXFER_CFG", "FILETRANSFER_CFG"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ConfigError, match="LANXFER_CFG"):
            config_path(None)
        monkeypatch.setenv("FILETRANSFER_CFG", files.app)
        assert config_path(None) == files.app
        monkeypatch.setenv("LANXFER_CFG", "/other")
        assert config_path(None) == "/other"
        assert config_path(files.app) == files.app

    # covers: S4-31
    def test_hosts(self, files: Files) -> None:
        """A host that is not in the file of hosts is named; one that needs no file is not."""
        files.write("jobs/j.cfg", JOB + "host_id = nas\n")
        files.fails("hosts_cfg")
        files.write("app.cfg", APP + "hosts_cfg = hosts.cfg\n")
        files.write("hosts.cfg", "[other]\ntype = FTP\n")
        files.fails("'nas'")
        files.write("hosts.cfg", "[nas]\ntype = lanxfer\nhost = kitchen\n")
        assert files.job().target.host.peer == "kitchen"
        files.write("jobs/j.cfg", JOB + "host_id = lanxfer://nas:4000\n")
        host = files.job().target.host
        assert (host.kind, host.peer) == ("lanxfer", "nas:4000")
        files.write("jobs/j.cfg", JOB + "host_id = sftp://u@nas:2222\npassword = p\n")
        host = files.job().target.host
        assert (host.kind, host.host, host.port, host.user) == ("sftp", "nas", 2222, "u")
        files.write("jobs/j.cfg", JOB + "host_id = sftp://u:secret@nas\n")
        files.fails("password does not belong")

    # covers: S4-32
    def test_collect_data(self, files: Files) -> None:
        """The application says whether rows are kept, and a job says otherwise."""
        assert files.job().collect_data is False
        files.write("app.cfg", APP + "collect_data = yes\n")
        assert files.job().collect_data is True
        files.write("jobs/j.cfg", JOB + "[job]\ncollect_data = no\n")
        assert files.job().collect_data is False

    # covers: S4-34
    def test_locks(self, files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Locks are where the file says, else below the state folder."""
        monkeypatch.setenv("LANXFER_STATE", str(tmp_path / "state"))
        assert files.job().app.locks_dir == str(tmp_path / "state" / "jobs")
        files.write("app.cfg", APP + "locks_dir = locks\n")
        assert files.job().app.locks_dir == str(files.folder / "locks")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "no section"),
            ("[global]\n", "jobs_dir is missing"),
            ("[global]\njobs_dir = jobs\ncollect_data = maybe\n", '"yes" or "no"'),
            ("[global]\njobs_dir = jobs\n[logging]\nlog_level = LOUD\n", "one of DEBUG"),
            ("[global]\njobs_dir = jobs\n[logging]\nmsg_format = %(nonsense\n", "logging"),
            ("[global]\njobs_dir = jobs\n[mail]\nhost = nas:port\n", "HOST"),
            ("[global]\njobs_dir = jobs\n[mail]\nhost = a\n", "from is missing"),
            ("[global]\njobs_dir = jobs\n[notify]\nerror = nobody\n", "names nobody"),
            ("[global\n", "cannot be understood"),
            ("[global]\njobs_dir = jobs\njobs_dir = x\n", "cannot be understood"),
        ],
    )
    def test_nonsense(self, files: Files, text: str, why: str) -> None:
        """What makes no sense is said, with the section and the option."""
        files.write("app.cfg", text)
        files.fails(why)


class JobTests:
    # covers: S4-50
    def test_paths(self, files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Paths are relative to the configuration file, from wherever it is used."""
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        found = []
        for name in ("one", "two"):
            monkeypatch.chdir(tmp_path / name)
            found.append((files.job().source.path, files.job().target.path))
        assert found == [(str(tmp_path / "in"), str(tmp_path / "out"))] * 2
        monkeypatch.setenv("HOME", "/home/carol")
        files.write("jobs/j.cfg", JOB.replace("in", "~/in"))
        assert files.job().source.path == "/home/carol/in"
        files.write("app.cfg", APP + "paths = cwd\n")
        files.write("two/jobs/j.cfg", JOB)
        assert files.job().source.path == str(tmp_path / "two" / "in")

    # covers: S4-40
    def test_name(self, files: Files) -> None:
        """A job has a name and a text; without, its id."""
        assert files.job().name == "j"
        files.write("jobs/j.cfg", JOB + "[job]\nname = Every night\ninfo = two\n  lines\n")
        assert (files.job().name, files.job().info) == ("Every night", "two\nlines")

    # covers: S4-44
    def test_logging(self, files: Files) -> None:
        """A job may say how loud its log is, and that there is none."""
        files.write("app.cfg", APP + "[logging]\nlog_dir = logs\nlog_level = INFO\n")
        files.write("jobs/j.cfg", JOB + "[job]\nlog_level = debug\n")
        job = files.job()
        assert (job.logging.log_level, job.logging.disabled) == ("DEBUG", False)
        files.write("jobs/j.cfg", JOB + "[job]\nlog_disabled = yes\n")
        assert files.job().logging.disabled
        files.write("app.cfg", APP + "[logging]\ndisabled = yes\n")
        files.write("jobs/j.cfg", JOB + "[job]\nlog_disabled = no\n")
        assert not files.job().logging.disabled

    # covers: S4-49 S4-39
    def test_notify(self, files: Files) -> None:
        """A job adds its addresses to the application's, and nothing of one is in another."""
        files.write(
            "app.cfg",
            APP + "[mail]\nhost = mail\nfrom = a@b.c\n"
            "[notify]\nmail_cfg = all\nerror = admin@example.com\ndone = log@example.com\n",
        )
        files.write("jobs/j.cfg", JOB + "[notify]\nmail_cfg = mine\nerror = carol@example.com\n")
        files.write("jobs/k.cfg", JOB)
        job, other = files.job(), read_job(files.app, "k")
        assert job.notify.whom(False) == (
            "admin@example.com",
            "carol@example.com",
            "log@example.com",
        )
        assert job.notify.whom(True) == ("log@example.com",)
        assert job.notify.mail_cfg == "mine"
        assert other.notify.whom(False) == ("admin@example.com", "log@example.com")
        assert other.notify.mail_cfg == "all"
        assert not job.warnings

    # covers: S4-39
    def test_nobody_to_send(self, files: Files) -> None:
        """Addresses without a mail server are warned of; commands and hooks need none."""
        files.write("jobs/j.cfg", JOB + "[notify]\nerror = carol@example.com\n")
        assert "no mail server" in files.job().warnings[0]
        files.write(
            "jobs/j.cfg", JOB + "[notify]\ndone = exec:beep -n 1, 2\n  https://h.example/x?a,b\n"
        )
        assert not files.job().warnings
        assert files.job().notify.whom(True) == ("exec:beep -n 1, 2", "https://h.example/x?a,b")

    def test_not_understood(self, files: Files) -> None:
        """What is not known is said and not dropped, and the job runs all the same."""
        files.write("app.cfg", APP + "speed = warp\n[colors]\nx = y\n")
        files.write("jobs/j.cfg", JOB + "temp = dot\nnonsense = 1\n[odd]\n")
        said = " ".join(files.job().warnings)
        for each in ("speed", "[colors]", "nonsense", "[odd]"):
            assert each in said
        assert files.job().target.temp.kind == "dot"

    def test_older_patterns(self, files: Files) -> None:
        """A pattern that means something else by now is warned of, unless one says which."""
        files.write("jobs/j.cfg", JOB.replace("path = in", "path = in\nfiles = /*.txt, *.csv"))
        assert "/*.txt" in files.job().warnings[0]
        files.write(
            "jobs/j.cfg",
            JOB.replace("path = in", "path = in\nfiles = /*.txt, *.csv\nmatch = fnmatch"),
        )
        assert not files.job().warnings

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[source]\npath = in\n", r"\[target\] is missing"),
            ("[source]\n[target]\npath = x\n", "path is missing"),
            (JOB + "temp = never\n", "temp is"),
            (JOB + "host_id = \ntype = gopher\n", "one of local"),
            (JOB + "type = fsspec:\n", "one of local"),
            (JOB + "[job]\nretries = -1\n", "a number"),
            (JOB + "[job]\nsingle_instance = a/b\n", "plain name"),
            (JOB + "[schedule]\nevery = never\n", "a time"),
            (JOB + "type = lanxfer\n", "host is missing"),
        ],
    )
    def test_nonsense(self, files: Files, text: str, why: str) -> None:
        """A job that cannot be run is said to be so before anything happens."""
        files.write("jobs/j.cfg", text)
        files.fails(why)


class SecretTests:
    # covers: S4-36
    def test_never_shown(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        """Passwords come from the environment or a file, and show as stars everywhere."""
        monkeypatch.setenv("FTP_PASSWORD", "s3cret-e")
        secret = files.write("secret", "s3cret-f\n")
        os.chmod(secret, 0o600)
        files.write("app.cfg", APP + "hosts_cfg = hosts.cfg\n")
        host = "type = FTP\nhost = h\nuser = u\npassword ="
        files.write(
            "hosts.cfg",
            f"[e]\n{host} env:FTP_PASSWORD\n[f]\n{host} file:secret\n[p]\n{host} s3cret-%p\n",
        )
        for name, said in (("e", "s3cret-e"), ("f", "s3cret-f"), ("p", "s3cret-%p")):
            files.write("jobs/j.cfg", JOB + f"host_id = {name}\n")
            job = files.job()
            assert job.target.host.password == Password(said)
            assert "s3cret" not in repr(job)
            assert not job.warnings
        monkeypatch.delenv("FTP_PASSWORD")
        files.write("jobs/j.cfg", JOB + "host_id = e\n")
        files.fails("FTP_PASSWORD")
        os.chmod(secret, 0o644)
        files.write("jobs/j.cfg", JOB + "host_id = f\n")
        assert "open to other users" in files.job().warnings[0]
        os.unlink(secret)
        files.fails("cannot be read")

    # covers: S4-36
    def test_not_in_errors(self, files: Files) -> None:
        """A line that makes no sense may be a password: its number is said, and not the line."""
        for text, why in (
            ("[far]\npassword s3cret\n", "line 2 is no option"),
            ("password = s3cret\n", "line 1 stands before the first section"),
        ):
            path = files.folder / "broken.cfg"
            path.write_text(text)
            with pytest.raises(ConfigError, match=why) as caught:
                read_app(str(path))
            assert "s3cret" not in str(caught.value)

    # covers: S4-36
    def test_of_any_back_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What goes to a back end of fsspec may be secret, and may come from the environment."""
        monkeypatch.setenv("TOKEN", "s3cret")
        (tmp_path / "jobs").mkdir()
        app = tmp_path / "app.cfg"
        app.write_text("[global]\njobs_dir = jobs\nhosts_cfg = hosts\n")
        (tmp_path / "hosts").write_text("[far]\ntype = fsspec:memory\nfs_token = env:TOKEN\n")
        (tmp_path / "jobs" / "j.cfg").write_text(
            "[source]\npath = in\n[target]\nhost_id = far\npath = x\n"
        )
        job = read_job(str(app), "j")
        assert job.target.host.options == {"token": Password("s3cret")}
        assert "s3cret" not in repr(job)


class ExtraTests:
    # covers: S4-10
    def test_merged(self, files: Files) -> None:
        """Sections of one's own are merged, the job's values winning, without their prefix."""
        files.write("app.cfg", APP + "[x:name]\nk = 1\nm = 2\n[x:app]\na = b\n")
        files.write("jobs/j.cfg", JOB + "[x:name]\nk = 3\n")
        _, extra = load(files.app, "j", reactor=object())
        assert dict(extra["name"]) == {"k": "3", "m": "2"}
        assert extra.sections() == ["name", "app"]

    # covers: S4-11
    def test_how(self, files: Files) -> None:
        """What a ConfigParser can be told is passed on to it."""
        files.write("jobs/j.cfg", JOB + "[x:name]\nk = %(base)s/x\n")
        _, extra = load(files.app, "j", reactor=object(), defaults={"base": "/srv", "more": "1"})
        assert extra["name"]["k"] == "/srv/x"
        assert extra["name"]["more"] == "1"
        _, plain = load(files.app, "j", reactor=object(), interpolation=None)
        assert plain["name"]["k"] == "%(base)s/x"
        files.write("jobs/j.cfg", JOB + "[x:name]\nk = 100%\n")
        own = read_job(files.app, "j").own
        with pytest.raises(ConfigError, match="of your own"):
            as_parser(own)


class SectionsTests:
    # covers: S4-03
    def test_values(self, tmp_path: Path) -> None:
        """Mappings may have what Python has for text."""
        source: dict[str, Any] = {"path": tmp_path, "files": ["*.a", "*.b"], "delete": True}
        job = read_sections(source, {"path": "x", "temp": "ext:.x"}, True)
        assert job.source.rules.files == ("*.a", "*.b")
        assert job.source.delete and job.collect_data
        assert job.target.path == os.path.abspath("x")
        with pytest.raises(ConfigError, match="host_id"):
            read_sections(source, {"path": "x", "host_id": "nas"})
