"""FTP, which verifies nothing: vsftpd with lftp, and aioftp with itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.peers import Peer, path_of, place_half
from bench.place import Run
from bench.processes import ROOT
from bench.programs import HOST

ENVIRONMENT = ROOT / ".cache" / "bench-peers" / "bin" / "python"
"""Where aioftp is looked for first, so that it needs no place beside lanxfer."""


class Vsftpd(Peer):
    name = "vsftpd"
    needs = ("vsftpd", "lftp")

    def serve(self, run: Run, port: int) -> Sequence[str]:
        empty = run.folder / "empty"
        empty.mkdir()
        settings = run.folder / "vsftpd.conf"
        yes = ["listen", "pasv_enable", "run_as_launching_user"]
        yes += ["anonymous_enable", "no_anon_password", "anon_upload_enable", "write_enable"]
        yes += ["anon_mkdir_write_enable", "anon_other_write_enable", "allow_writeable_chroot"]
        no = ["listen_ipv6", "background", "local_enable", "xferlog_enable", "seccomp_sandbox"]
        settings.write_text(
            "".join(f"{each}=YES\n" for each in yes)
            + "".join(f"{each}=NO\n" for each in no)
            + f"listen_address={HOST}\nlisten_port={port}\nanon_root={run.inbox}\n"
            f"anon_umask=022\nsecure_chroot_dir={empty}\n"
            f"vsftpd_log_file={run.folder / 'vsftpd.log'}\n"
        )
        return [path_of("vsftpd"), str(settings)]

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        what = [
            f"mirror -R --parallel=4 {each} {each.name}"
            if each.is_dir()
            else f"put {self._again} {each} -o {each.name}"
            for each in sources
        ]
        script = run.folder / "lftp"
        script.write_text(
            "set cmd:fail-exit yes\nset net:max-retries 1\nset ftp:use-site-utime2 no\n"
            f"open -u anonymous,bench -p {port} {HOST}\n" + "\n".join(what) + "\n"
        )
        return [path_of("lftp"), "--norc", "-f", str(script)]

    _again = ""


class VsftpdAgain(Vsftpd):
    """Goes on with what is there, unseen."""

    name = "vsftpd, put -c"
    _again = "-c"

    def prepare(self, run: Run, port: int, sources: Sequence[Path]) -> None:
        for each in sources:
            place_half(each, self.received(run, each))


class Aioftp(Peer):
    name = "aioftp"

    def missing(self) -> str:
        return "" if ENVIRONMENT.exists() or find_spec("aioftp") else "aioftp"

    def _program(self, *args: str) -> Sequence[str]:
        python = str(ENVIRONMENT) if ENVIRONMENT.exists() else sys.executable
        return [python, str(Path(__file__).with_name("with_aioftp.py")), *args]

    def serve(self, run: Run, port: int) -> Sequence[str]:
        return self._program("serve", str(port), str(run.inbox))

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        return self._program("send", str(port), *map(str, sources))
