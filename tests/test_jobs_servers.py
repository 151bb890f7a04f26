"""Jobs to and from real FTP, FTPS and SFTP servers."""

from __future__ import annotations

import ftplib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor
from servers import (
    PASSWORD,
    USER,
    Sshd,
    certificate,
    ftp_server,
    refuse_write,
    silent_server,
    sshd,
)

from lanxfer.jobs import ConfigError, ConnectError, FileTag, TransferError, transfer
from lanxfer.jobs.config.job import read_job, read_sections
from lanxfer.jobs.config.settings import Host, Password
from lanxfer.jobs.ends import Absent, Broken, EndError, FileInfo
from lanxfer.jobs.ends.backend import FsspecEnd
from lanxfer.jobs.ends.ftp import FtpEnd
from lanxfer.jobs.ends.sftp import SftpEnd
from lanxfer.jobs.moving import Run
from lanxfer.jobs.running import Job

FILES = {
    "a.txt": b"first",
    "empty": b"",
    "sub/b.bin": bytes(range(256)) * 5000,
    "sub/deep/ü c.txt": "später".encode(),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd") / "keys") as found:
        yield found


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ftp(server: Any, kind: str = "FTP", **more: Any) -> dict[str, Any]:
    host = {"type": kind, "host": f"127.0.0.1:{server.port}", "user": USER, "password": PASSWORD}
    return {**host, **more}


def sftp(server: Sshd, **more: Any) -> dict[str, Any]:
    host = {
        "type": "SFTP",
        "host": f"127.0.0.1:{server.port}",
        "user": server.user,
        "key_type": "ED25519",
        "key_file": server.user_key,
        "key_pass": server.passphrase,
        "known_hosts": server.known_hosts(),
    }
    return {**host, **more}


def here(folder: Path, **more: Any) -> dict[str, Any]:
    return {"path": folder, "recursive": True, **more}


class FtpTests:
    # covers: S4-60 S4-61 S4-62 S4-03
    @in_reactor
    async def test_there_and_back(self, tmp_path: Path, source: Path) -> None:
        """What went to an FTP server and back is the same, times included."""
        root = tmp_path / "root"
        with ftp_server(root) as server:
            result = await transfer(here(source), ftp(server, path="up/loads"), collect_data=True)
            assert (result.files_cnt, result.exit_code) == (4, 0)
            assert tree(root / "up" / "loads") == FILES
            back = await transfer(
                ftp(server, path="up/loads", recursive=True), {"path": tmp_path / "out"}
            )
            assert back.files_cnt == 4
            assert tree(tmp_path / "out") == FILES
            assert os.stat(tmp_path / "out" / "a.txt").st_mtime == 1_700_000_000
            again = await transfer(here(source), ftp(server, path="up/loads"))
            assert (again.files_cnt, again.skipped) == (0, 4)
        assert PASSWORD not in " ".join(server.said)

    @in_reactor
    async def test_two_servers(self, tmp_path: Path, source: Path) -> None:
        """Neither end has to be this machine."""
        with ftp_server(source) as one, ftp_server(tmp_path / "two") as two:
            result = await transfer(
                ftp(one, path="/", recursive=True), ftp(two, path="x"), collect_data=True
            )
        assert result.exit_code == 0
        assert tree(tmp_path / "two" / "x") == FILES

    # covers: S4-64
    @in_reactor
    async def test_switches(self, tmp_path: Path, source: Path) -> None:
        """Active mode, LIST -a, and clear data under an encrypted login are as one says."""
        with ftp_server(tmp_path / "active") as server:
            result = await transfer(here(source), ftp(server, path="x", passive_mode=False))
            assert result.files_cnt == 4
            assert {each.split()[0] for each in server.said} & {"PORT", "EPRT"}
            assert not {each.split()[0] for each in server.said} & {"PASV", "EPSV"}
        (source / ".hidden").write_text("x")
        with ftp_server(source, proto_cmds=_without("MLSD", "MLST")) as server:
            for switch, flag in ((True, True), (False, False)):
                server.said.clear()
                await transfer(ftp(server, path="/", dir_a_option=switch), {"path": tmp_path / "b"})
                assert any(each.startswith("LIST -a") for each in server.said) is flag
        cert = certificate(tmp_path)
        for switch, said in ((True, [True]), (False, [])):
            root = tmp_path / f"data{switch}"
            with ftp_server(root, cert=cert) as server:
                await transfer(
                    here(source),
                    ftp(server, "FTPS", path="/", tls_ca=cert, encrypt_data=switch),
                )
                assert server.secure_data == said
            assert tree(root) == FILES

    # covers: S4-65
    def test_kept_alive(self, tmp_path: Path) -> None:
        """The control connection is kept open by the system while data flows elsewhere."""
        with ftp_server(tmp_path / "root") as server:
            end = FtpEnd(_host(server.port, keep_alive=7.0), "/")
            end.connect()
            control = end._ftp.sock
            assert control.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert control.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
            end.close()

    # covers: S4-63
    @in_reactor
    async def test_silence(self, tmp_path: Path, source: Path) -> None:
        """A server that takes a connection and says nothing is given up."""
        with silent_server() as port:
            host = {"type": "ftp", "host": f"127.0.0.1:{port}", "user": "u", "password": "p"}
            with pytest.raises(ConnectError) as caught:
                await transfer(here(source), {**host, "path": "/", "timeout": "0.3"})
        assert caught.value.code == 2

    @in_reactor
    async def test_wrong_password(self, tmp_path: Path, source: Path) -> None:
        """A password that is not taken is said so, and not tried again."""
        refused = pytest.raises(ConnectError, match="does not take that user")
        with ftp_server(tmp_path / "root") as server, refused:
            await transfer(here(source), ftp(server, path="/", password="other"))

    @in_reactor
    async def test_no_such_folder(self, tmp_path: Path) -> None:
        """A source folder that is not there is an error, not an empty folder."""
        missing = pytest.raises(TransferError, match="There is no folder")
        with ftp_server(tmp_path / "root") as server, missing:
            await transfer(ftp(server, path="nix"), {"path": tmp_path / "out"})

    # covers: S4-46
    @in_reactor
    async def test_delete_only_what_is_proved(self, tmp_path: Path, source: Path) -> None:
        """A server that keeps other bytes than it was sent costs no source file."""
        root = tmp_path / "root"
        with ftp_server(root) as server:
            server.handler.dtp_handler = _rotten(server.handler.dtp_handler)
            result = await transfer(
                here(source, delete=True), ftp(server, path="/"), collect_data=True
            )
        assert tree(source) == {name: data for name, data in FILES.items() if data}
        assert result.tgt_error_cnt == 3
        assert {row.tag for row in result.file_list or ()} == {FileTag.TRANSF, FileTag.TGTERR}
        assert set(tree(root)) == {"empty"}  # nothing wrong has a final name

    @in_reactor
    async def test_delete_and_may_not_write(self, tmp_path: Path, source: Path) -> None:
        """A target that refuses costs no source file."""
        with ftp_server(tmp_path / "root", perm="elr") as server:
            result = await transfer(here(source, delete=True), ftp(server, path="/"))
        assert (result.files_cnt, result.tgt_error_cnt) == (0, 4)
        assert tree(source) == FILES

    # covers: S4-46
    @in_reactor
    async def test_one_folder(self, tmp_path: Path, source: Path) -> None:
        """A server that shows the source folder itself as the target is found out."""
        with ftp_server(source) as server:
            for one, other in (
                (here(source, delete=True), ftp(server, path="/")),
                (ftp(server, path="/", recursive=True, delete=True), {"path": source}),
            ):
                with pytest.raises(TransferError, match="same folder"):
                    await transfer(one, other)
                assert tree(source) == FILES

    # covers: S4-43
    @in_reactor
    async def test_goes_on_in_the_middle(self, tmp_path: Path) -> None:
        """A connection that breaks is made anew, and the file goes on where it stopped."""
        source, root = tmp_path / "in", tmp_path / "root"
        source.mkdir()
        data = os.urandom(12_000_000)
        (source / "big").write_bytes(data)
        with ftp_server(root) as server:
            cut = _Cut(server.handler.dtp_handler, 7_000_000)
            server.handler.dtp_handler = cut.handler
            config = read_sections(here(source), ftp(server, path="/"))
            job = Job(_reactor(), _with(config, retries=1))
            ran = await job.run()
            assert ran.result.files_cnt == 1
            rests = [int(each.split()[1]) for each in server.said if each.startswith("REST")]
        assert rests and 1_000_000 < rests[0] <= 7_300_000
        assert (root / "big").read_bytes() == data
        assert os.listdir(root) == ["big"]

    def test_hostile_names(self, tmp_path: Path) -> None:
        """A path that leads elsewhere, or carries a command, never goes to a server."""
        with ftp_server(tmp_path / "root") as server:
            end = FtpEnd(_host(server.port), "/")
            end.connect()
            for name in ("../x", "a/../../x", "a\r\nDELE b", "/etc/passwd", "."):
                with pytest.raises(Exception, match="cannot be used"):
                    end.look(name)
            end.close()

    @pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
    @in_reactor
    async def test_odd_files(self, tmp_path: Path) -> None:
        """A name that is not UTF-8 is an error of that file alone, and a time may be left out."""
        with ftp_server(tmp_path / "root") as server:
            await _odd_files(tmp_path, ftp(server, path="x"), tmp_path / "root" / "x")

    def test_odd_names_there(self) -> None:
        """A name that is not UTF-8 ends the connection: half of what the server says is unread."""
        with pytest.raises(Broken, match="UTF-8"), FtpEnd(_host(0), "/")._typed():
            b"\xff".decode()

    @pytest.mark.parametrize("second", [253_402_300_800, 2**62, -(2**62), -1])
    def test_time_that_cannot_be_set(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: int
    ) -> None:
        """A time that the protocol has no room for, or a server refuses, is left out."""
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "a").touch()
        with ftp_server(tmp_path / "root") as server:
            end = FtpEnd(_host(server.port), "/")
            end.connect()
            monkeypatch.setattr(end._ftp, "voidcmd", _refuse)
            end.set_time("a", second * 10**9)
            monkeypatch.undo()
            assert end.look("a") is not None
            end.close()


class FtpsTests:
    # covers: S4-60
    @in_reactor
    async def test_there_and_back(self, tmp_path: Path, source: Path) -> None:
        """The same over TLS, with a server that is known by its certificate."""
        cert, root = certificate(tmp_path), tmp_path / "root"
        with ftp_server(root, cert=cert, tls_data_required=True) as server:
            there = ftp(server, "FTPS", tls_ca=cert)
            result = await transfer(here(source), {**there, "path": "x"})
            assert result.files_cnt == 4
            back = await transfer(
                {**there, "path": "x", "recursive": True}, {"path": tmp_path / "out"}
            )
        assert back.files_cnt == 4
        assert tree(tmp_path / "out") == FILES

    # covers: S4-66
    @in_reactor
    async def test_unknown_certificate(self, tmp_path: Path, source: Path) -> None:
        """A certificate nobody vouches for ends it before a name or a password is said."""
        with ftp_server(tmp_path / "root", cert=certificate(tmp_path)) as server:
            with pytest.raises(ConnectError, match="cannot be trusted"):
                await transfer(here(source), ftp(server, "FTPS", path="/"))
            assert not {"USER", "PASS"} & {each.split()[0] for each in server.said}


class ChangedTests:
    """Files that change between arrival and removal, and have the same size and time."""

    @pytest.fixture
    def source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "old").write_bytes(b"as ever")
        os.utime(folder / "old", (1_700_000_000, 1_700_000_000))
        for name in ("a", "b"):
            (folder / name).write_bytes(b"first")
        plain = Run.arrived

        def arrived(run: Run, info: FileInfo, since: float) -> None:
            plain(run, info, since)
            if info.path == "a":
                found = (folder / "a").stat()
                (folder / "a").write_bytes(b"newer")
                os.utime(folder / "a", ns=(found.st_atime_ns, found.st_mtime_ns))

        monkeypatch.setattr(Run, "arrived", arrived)
        return folder

    # covers: S4-46
    @in_reactor
    async def test_without_times(self, tmp_path: Path, source: Path) -> None:
        """Where a source has no times, what is in the file says whether it is still the same."""
        result = await transfer(
            {"type": "fsspec:file", "path": source, "delete": True}, {"path": tmp_path / "out"}
        )
        assert result.files_cnt == 3
        assert tree(source) == {"a": b"newer"}
        assert tree(tmp_path / "out") == {"a": b"first", "b": b"first", "old": b"as ever"}

    # covers: S4-46
    @in_reactor
    async def test_within_a_second(self, tmp_path: Path, source: Path) -> None:
        """So it does where the time of a new file is no more exact than its changes are apart."""
        with ftp_server(source) as server:
            result = await transfer(ftp(server, path="/", delete=True), {"path": tmp_path / "out"})
        assert result.files_cnt == 3
        assert tree(source) == {"a": b"newer"}
        read = [each.split("/")[-1] for each in server.said if each.startswith("RETR")]
        assert sorted(read) == ["a", "a", "b", "b", "old"]

    # covers: S4-46
    @in_reactor
    async def test_through_a_spool(self, tmp_path: Path, source: Path) -> None:
        """What rested here on its way to a device is what the source is compared with."""
        devices = Devices(tmp_path)
        try:
            service = await devices.start("nas")
            await devices.pair("desk", service, "nas")
            host = {"type": "lanxfer", "host": "nas", "state": devices.state("desk").path}
            with ftp_server(source) as server:
                result = await transfer(ftp(server, path="/", delete=True), {**host, "path": "x"})
            assert result.files_cnt == 3
            assert tree(source) == {"a": b"newer"}
            assert tree(devices.inbox("nas") / "x")["a"] == b"first"
        finally:
            await devices.close()


class SftpTests:
    # covers: S4-46
    @in_reactor
    async def test_one_folder_below(self, tmp_path: Path, source: Path, server: Sshd) -> None:
        """Where only a folder below leads to the source's own, what is in that stays."""
        far = tmp_path / "far"
        far.mkdir()
        (far / "sub").symlink_to(source / "sub")
        result = await transfer(here(source, delete=True), sftp(server, path=far))
        assert (result.files_cnt, result.src_error_cnt) == (2, 2)
        assert tree(source) == {name: FILES[name] for name in FILES if "/" in name}

    # covers: S4-60 S4-66
    @in_reactor
    async def test_there_and_back(self, tmp_path: Path, source: Path, server: Sshd) -> None:
        """What went to an SFTP server and back is the same, times included."""
        there = sftp(server, path=tmp_path / "far" / "away")
        result = await transfer(here(source), there, collect_data=True)
        assert (result.files_cnt, result.exit_code) == (4, 0)
        assert tree(tmp_path / "far" / "away") == FILES
        back = await transfer({**there, "recursive": True}, {"path": tmp_path / "out"})
        assert back.files_cnt == 4
        assert tree(tmp_path / "out") == FILES
        assert os.stat(tmp_path / "out" / "a.txt").st_mtime == 1_700_000_000
        again = await transfer(here(source), there)
        assert (again.files_cnt, again.skipped) == (0, 4)

    # covers: S4-66
    @in_reactor
    async def test_wrong_host_key(self, tmp_path: Path, source: Path, server: Sshd) -> None:
        """Another host key ends it, and the server never heard who wanted to come in."""
        other = server.key(f"other{tmp_path.name}")
        before = len(server.log.read_text())
        with pytest.raises(ConnectError, match="another host key") as caught:
            await transfer(
                here(source),
                sftp(server, path=tmp_path / "far", known_hosts=server.known_hosts(other)),
            )
        assert caught.value.code == 2
        said = server.log.read_text()[before:]
        assert "Connection from" in said
        assert "userauth" not in said
        assert not (tmp_path / "far").exists()

    # covers: S4-66 S4-24
    @in_reactor
    async def test_unknown_host(self, tmp_path: Path, source: Path, server: Sshd) -> None:
        """A host that is in no file is not known, whatever else this machine knows."""
        nothing = tmp_path / "known"
        for _ in range(2):
            with pytest.raises(ConnectError, match="is not in"):
                await transfer(here(source), sftp(server, path="far", known_hosts=nothing))
            nothing.write_text("# nothing\n")

    # covers: S4-37
    @in_reactor
    async def test_key_of_the_application(self, tmp_path: Path, source: Path, server: Sshd) -> None:
        """A host that says only the type of a key gets it from the application's file."""
        (tmp_path / "jobs").mkdir()
        (tmp_path / "app.cfg").write_text(
            "[global]\njobs_dir = jobs\nhosts_cfg = hosts.cfg\nlocks_dir = locks\n"
            f"[sftp]\nknown_hosts = {server.known_hosts()}\n"
            f"key_ed25519_file = {server.user_key}\nkey_ed25519_pass = {server.passphrase}\n"
            "[logging]\ndisabled = yes\n"
        )
        (tmp_path / "hosts.cfg").write_text(
            f"[far]\ntype = SFTP\nhost = 127.0.0.1:{server.port}\nuser = {server.user}\n"
            "key_type = Ed25519\n"
        )
        (tmp_path / "jobs" / "j.cfg").write_text(
            f"[source]\npath = in\nrecursive = yes\n[target]\nhost_id = far\npath = {tmp_path}/x\n"
        )
        config = read_job(str(tmp_path / "app.cfg"), "j")
        ran = await Job(_reactor(), config).run()
        assert ran.result.files_cnt == 4
        assert tree(tmp_path / "x") == FILES

    @in_reactor
    async def test_wrong_key(self, tmp_path: Path, source: Path, server: Sshd) -> None:
        """A key the server does not know, and a passphrase that does not fit, are told apart."""
        stranger = server.key(f"stranger{tmp_path.name}")
        with pytest.raises(ConnectError, match="does not take"):
            await transfer(here(source), sftp(server, path="x", key_file=stranger, key_pass=""))
        with pytest.raises(ConnectError, match=r"cannot be used|does not take"):
            await transfer(here(source), sftp(server, path="x", key_pass="wrong"))

    # covers: S4-65
    def test_kept_alive(self, tmp_path: Path, server: Sshd) -> None:
        """Something is said every so often, so that nobody in between forgets the connection."""
        host = _sftp_host(server, keep_alive=11.0)
        end = SftpEnd(host, str(tmp_path))
        end.connect()
        assert end.fs.client.get_transport().packetizer._Packetizer__keepalive_interval == 11
        end.close()

    def test_goes_on(self, tmp_path: Path, server: Sshd) -> None:
        """What is written from an offset on replaces what lay behind it."""
        (tmp_path / "x").write_bytes(b"0123456789")
        end = SftpEnd(_sftp_host(server), str(tmp_path))
        end.connect()
        writer = end.writer("x", 4)
        writer.write(b"abc")
        writer.finish()
        assert (tmp_path / "x").read_bytes() == b"0123abc"
        reader = end.reader("x", 2)
        assert reader.read(100) == b"23abc"
        reader.close()
        end.close()

    def test_refused_write(self, tmp_path: Path, server: Sshd) -> None:
        """One refused write fails the file, and what is kept of it has no hole."""
        (tmp_path / "x").write_bytes(b"0123456789")
        end = SftpEnd(_sftp_host(server), str(tmp_path))
        end.connect()
        refuse_write(end.fs.ftp, 2)
        writer = end.writer("x", 4)
        writer.write(b"x" * 200_000)
        with pytest.raises(EndError, match="refused"):
            writer.finish()
        writer.close()
        assert (tmp_path / "x").read_bytes() == b"0123"
        end.close()

    def test_aborted(self, tmp_path: Path, server: Sshd) -> None:
        """What was aborted is broken, and says so."""
        end = SftpEnd(_sftp_host(server), str(tmp_path))
        end.connect()
        assert end.alive()
        end.abort()
        assert not end.alive()
        with pytest.raises(Broken):
            end.look("x")
        end.close()

    # covers: S4-46
    @in_reactor
    async def test_delete(self, tmp_path: Path, source: Path, server: Sshd) -> None:
        """What arrived is read back before the source goes; what could not be written stays."""
        far = tmp_path / "far"
        (far / "sub" / "b.bin").mkdir(parents=True)  # in the way
        result = await transfer(
            here(source, delete=True), sftp(server, path=far), collect_data=True
        )
        assert (result.files_cnt, result.tgt_error_cnt) == (3, 1)
        assert tree(source) == {"sub/b.bin": FILES["sub/b.bin"]}
        assert tree(far) == {name: data for name, data in FILES.items() if name != "sub/b.bin"}

    @pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
    @in_reactor
    async def test_odd_files(self, tmp_path: Path, server: Sshd) -> None:
        """A name that is not UTF-8 is an error of that file alone, and a time may be left out."""
        there = tmp_path / "x"
        await _odd_files(tmp_path, sftp(server, path=str(there)), there)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
    @in_reactor
    async def test_odd_names_there(self, tmp_path: Path, source: Path, server: Sshd) -> None:
        """A folder that cannot be listed for a name that is not UTF-8 keeps no other back."""
        (source / "sub" / "bad\udcff").touch()
        there = sftp(server, path=str(source), recursive=True)
        result = await transfer(there, {"path": tmp_path / "out"}, collect_data=True)
        assert (result.files_cnt, result.src_error_cnt) == (2, 1)
        assert {each.path for each in result.file_list or ()} == {"a.txt", "empty", "sub/"}


def _refuse(command: str) -> None:
    assert command == "MFMT 19691231235959 /a"
    raise ftplib.error_perm("501 No.")


async def _odd_files(folder: Path, target: dict[str, Any], there: Path) -> None:
    """Move some that no server takes as they are, and some others."""
    source = folder / "odd"
    (source / "z\udcff").mkdir(parents=True)
    for name in ("a", "bad\udcff", "early", "late", "z\udcff/x", "zz"):
        (source / name).write_bytes(b"x")
    os.utime(source / "early", (-300_000_000, -300_000_000))
    os.utime(source / "late", (2**33, 2**33))
    result = await transfer(here(source), target, collect_data=True)
    assert (result.files_cnt, result.src_error_cnt + result.tgt_error_cnt) == (4, 2)
    failed = [each for each in result.file_list or () if each.tag is not FileTag.TRANSF]
    assert {each.path for each in failed} == {"bad\udcff", "z\udcff/x"}
    assert {each.info for each in failed} == {"Its name is not UTF-8; rename it first."}
    assert sorted(tree(there)) == ["a", "early", "late", "zz"]


class HostTests:
    # covers: S4-62
    @pytest.mark.parametrize("kind", ["FTP", "FTPS", "SFTP"])
    def test_no_credentials(self, kind: str) -> None:
        """A host without password or key is named, and the code is 3."""
        host = {"type": kind, "host": "nas", "path": "/", "user": "u"}
        with pytest.raises(ConfigError, match=r"\[target\].*password") as caught:
            read_sections({"path": "/tmp"}, host)
        assert caught.value.code == 3

    # covers: S4-61
    @pytest.mark.parametrize(
        ("kind", "port"), [("FTP", 21), ("FTPS", 21), ("SFTP", 22), ("sftp", 22)]
    )
    def test_default_ports(self, kind: str, port: int) -> None:
        """Every type has its own default port, however it is written."""
        host = {"type": kind, "host": "nas", "path": "/", "user": "u", "password": "p"}
        config = read_sections({"path": "/tmp"}, host)
        assert (config.target.host.host, config.target.host.port) == ("nas", port)
        named = read_sections({"path": "/tmp"}, {**host, "host": "nas:2121"})
        assert named.target.host.port == 2121
        six = read_sections({"path": "/tmp"}, {**host, "host": "[fe80::1]:2121"})
        assert (six.target.host.host, six.target.host.port) == ("fe80::1", 2121)

    @in_reactor
    async def test_any_back_end(self, tmp_path: Path, source: Path) -> None:
        """Other back ends of fsspec are ends, too."""
        result = await transfer(
            here(source), {"type": "fsspec:memory", "path": f"/{tmp_path.name}"}
        )
        assert (result.files_cnt, result.exit_code) == (4, 0)
        back = await transfer(
            {"type": "fsspec:memory", "path": f"/{tmp_path.name}", "recursive": True},
            {"path": tmp_path / "out"},
        )
        assert back.files_cnt == 4
        assert tree(tmp_path / "out") == FILES

    def test_pattern(self, tmp_path: Path) -> None:
        """A name that looks like a pattern is replaced alone, and what would fit it stays."""
        end = FsspecEnd(Host(kind="fsspec:memory"), f"/{tmp_path.name}", Absent.MAKE)
        end.connect()
        for name in ("x[1].part", "x1.part"):
            writer = end.writer(name, 0)
            writer.write(name.encode())
            writer.finish()
        end.replace("x[1].part", "x[1]")
        assert [each.path for each in end.listing("")] == ["x1.part", "x[1]"]
        reader = end.reader("x[1]", 0)
        assert reader.read(100) == b"x[1].part"
        reader.close()
        end.close()


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def _with(config: Any, **changes: Any) -> Any:
    from attrs import evolve

    return evolve(config, **changes)


def _host(port: int, **more: Any) -> Host:
    return Host(
        kind="ftp", host="127.0.0.1", port=port, user=USER, password=Password(PASSWORD), **more
    )


def _sftp_host(server: Sshd, **more: Any) -> Host:
    return Host(
        kind="sftp",
        host="127.0.0.1",
        port=server.port,
        user=server.user,
        key_file=str(server.user_key),
        key_pass=Password(server.passphrase),
        known_hosts=str(server.known_hosts()),
        **more,
    )


def _without(*commands: str) -> dict[str, Any]:
    from pyftpdlib.handlers import FTPHandler  # type: ignore[import-untyped]

    return {name: each for name, each in FTPHandler.proto_cmds.items() if name not in commands}


def _rotten(base: Any) -> Any:
    """A data connection that writes something else than it was sent, of the same size."""

    class Rotten(base):  # type: ignore[misc]
        def recv(self, size: int) -> bytes:
            return bytes(each ^ 1 for each in super().recv(size))

    return Rotten


class _Cut:
    """Data connections of which the first breaks after some bytes, and the server with it."""

    def __init__(self, base: Any, after: int) -> None:
        cut = self
        self.left: int | None = after

        class Handler(base):  # type: ignore[misc]
            def recv(self, size: int) -> bytes:
                data: bytes = super().recv(size)
                if cut.left is not None:
                    cut.left -= len(data)
                    if cut.left < 0:
                        cut.left = None
                        self.cmd_channel.close()
                        return b""
                return data

        self.handler = Handler
