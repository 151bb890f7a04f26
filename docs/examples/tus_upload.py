"""Upload a file with tuspy, the tus project's own client for Python (docs/web.rst).

::

    python tus_upload.py https://127.0.0.1:36970 CODE film.mkv

CODE is what stands behind "#" in the link of ``lanxfer web link``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import requests
from tusclient.client import TusClient


def upload(page: str, code: str, path: str) -> str:
    """Sign in with ``code`` and send a file; the address of the upload."""
    session = requests.Session()
    # The certificate of the page is its own: compare its fingerprint once.
    answer = session.post(f"{page}/login", json={"code": code}, verify=False, timeout=30)
    answer.raise_for_status()
    headers = {
        "Cookie": "; ".join(f"{each.name}={each.value}" for each in session.cookies),
        "X-Lanxfer-Token": answer.json()["token"],
    }
    client = TusClient(f"{page}/files", headers=headers)
    uploader = client.uploader(
        path,
        chunk_size=8 * 1024 * 1024,
        metadata={"filename": Path(path).name},
        verify_tls_cert=False,
    )
    uploader.upload()
    return str(uploader.url)


if __name__ == "__main__":
    print(upload(*sys.argv[1:4]))
