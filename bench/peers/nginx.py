"""nginx takes what curl puts; nothing is verified."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.peers import Peer, files_below, path_of
from bench.peers.certificate import certificate
from bench.place import Run
from bench.programs import HOST

_AT_ONCE = 64
"""Uploads of one curl at a time."""


class Nginx(Peer):
    name = "nginx PUT"
    needs = ("nginx", "curl")

    def serve(self, run: Run, port: int) -> Sequence[str]:
        folder = run.folder
        security = "ssl" if self.secure else ""
        keys = ""
        if self.secure:
            key, cert = certificate(folder)
            keys = f"ssl_certificate {cert};\nssl_certificate_key {key};\n"
        temporary = "".join(
            f"{each}_temp_path {folder / each};\n"
            for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        settings = folder / "nginx.conf"
        settings.write_text(
            f"daemon off;\npid {folder / 'nginx.pid'};\nworker_processes 1;\n"
            + ("user root root;\n" if os.getuid() == 0 else "")
            + "events { worker_connections 2048; }\n"
            f"http {{\naccess_log off;\nclient_max_body_size 0;\nkeepalive_requests 1000000;\n"
            f"{temporary}"
            f"server {{\nlisten {HOST}:{port} {security};\n{keys}root {run.inbox};\n"
            "location / { dav_methods PUT; create_full_put_path on; }\n}\n}\n"
        )
        return [path_of("nginx"), "-e", str(folder / "nginx.log"), "-c", str(settings)]

    def send(self, run: Run, port: int, sources: Sequence[Path]) -> Sequence[str]:
        scheme = "https" if self.secure else "http"
        lines = []
        for source in sources:
            for file, name in files_below(source):
                url = f"{scheme}://{HOST}:{port}/{name}"
                lines.append(f'upload-file = "{file}"\nurl = "{url}"\n')
        (run.folder / "curl").write_text("".join(lines))
        many = ("--parallel", "--parallel-max", str(_AT_ONCE)) if len(lines) > 1 else ()
        how = ("-q", "-sSfk", "-H", "Expect:", *many)
        return [path_of("curl"), *how, "-K", str(run.folder / "curl")]


class NginxTls(Nginx):
    name = "nginx PUT TLS"
    secure = True
