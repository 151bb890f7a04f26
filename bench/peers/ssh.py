"""OpenSSH, with the fastest cipher it has: scp, and rsync over it."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.peers import Peer, path_of
from bench.place import Run
from bench.programs import HOST

_CIPHER = "aes128-gcm@openssh.com"
_SEPARATED = Path("/run/sshd")
"""An sshd of root's insists on this empty folder, which nothing else makes where no sshd runs."""


class _Ssh(Peer):
    secure = True

    def missing(self) -> str:
        found = super().missing()
        if not found and os.getuid() == 0 and not _SEPARATED.is_dir():
            return f"{_SEPARATED} (root's sshd wants it: mkdir {_SEPARATED})"
        return found

    def serve(self, run: Run, port: int) -> Sequence[str]:
        for name in ("host", "user"):
            key = ("-t", "ed25519", "-N", "", "-f", str(run.folder / name))
            subprocess.run([path_of("ssh-keygen"), "-q", *key], check=True)
        settings = run.folder / "sshd_config"
        settings.write_text(
            f"ListenAddress {HOST}\nPort {port}\nHostKey {run.folder / 'host'}\n"
            f"PidFile {run.folder / 'sshd.pid'}\nAuthorizedKeysFile {run.folder / 'user.pub'}\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            "PrintMotd no\nSubsystem sftp internal-sftp\n"
        )
        return [path_of("sshd"), "-D", "-e", "-f", str(settings)]

    def _options(self, run: Run) -> tuple[str, ...]:
        known = f"UserKnownHostsFile={run.folder / 'known'}"
        options = ("StrictHostKeyChecking=no", known, f"Ciphers={_CIPHER}", "BatchMode=yes")
        key = ("-q", "-F", os.devnull, "-i", str(run.folder / "user"), "-o", "IdentitiesOnly=yes")
        return (*key, *(part for each in options for part in ("-o", each)))


class Scp(_Ssh):
    name = "scp"
    needs = ("sshd", "ssh-keygen", "scp")

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        target = f"{getpass.getuser()}@{HOST}:{run.inbox}/"
        names = map(str, sources)
        return [path_of("scp"), *self._options(run), "-r", "-P", str(port), *names, target]


class RsyncSsh(_Ssh):
    name = "rsync over ssh"
    needs = ("sshd", "ssh-keygen", "ssh", "rsync")

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        shell = shlex.join([path_of("ssh"), *self._options(run), "-p", str(port)])
        target = f"{getpass.getuser()}@{HOST}:{run.inbox}/"
        return [path_of("rsync"), "-a", "-e", shell, *map(str, sources), target]
