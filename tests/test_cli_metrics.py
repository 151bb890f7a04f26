"""``lanxfer metrics`` and what scrapes the port, as people have them: real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as older_families
from test_cli_real import Serving, end, run, serve
from test_metrics import parsed

from lanxfer.errors import Exit

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and control sockets of POSIX")


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = serve(tmp_path_factory.mktemp("nas") / "nas", "--metrics-port", 0)
    yield serving
    assert end(serving) == Exit.OK
    assert serving.errors.read_text() == ""


class MetricsTests:
    def test_printed(self, nas: Serving) -> None:
        """The owner has the figures printed, in either format, or as a row."""
        done = run("metrics", "-s", nas.state)
        assert done.code == 0 and done.out.endswith("# EOF\n")
        assert parsed(done.out)["lanxfer_connections{standing=local}"] == 1
        older = run("metrics", "-s", nas.state, "--classic").out
        assert "# EOF" not in older
        names = {family.name for family in older_families(older)}
        assert {"lanxfer_transfers", "process_open_fds"} <= names
        (row,) = run("metrics", "-s", nas.state, "--json").rows
        assert parsed(row["text"])["lanxfer_queued_sends"] == 0

    def test_nobody(self, tmp_path: Path) -> None:
        """Where no service runs there are none, and that is said."""
        done = run("metrics", "-s", tmp_path)
        assert done.code == Exit.UNREACHABLE and not done.out

    @pytest.mark.skipif(not shutil.which("curl"), reason="curl is not there")
    def test_curl(self, nas: Serving) -> None:
        """curl gets them from the port that the status names."""
        url = run("status", "--json", "-s", nas.state).rows[0]["metrics"]
        form = "%{http_code} %{content_type}"
        line = ["curl", "-sS", "-w", form, url]
        out = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout
        text, end, said = out.partition("# EOF\n")
        assert said == "200 application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert parsed(text + end)["lanxfer_stored_files_total"] == 0
        line = [*line, "-H", "Host: evil.example"]
        out = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout
        assert out.strip() == "421"
