"""How many files may be open."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from lanxfer.descriptors import connections_most, raise_limit


class DescriptorsTests:
    # covers: R04
    def test_raised(self) -> None:
        """The soft limit becomes the hard one, in this process and for good."""
        script = (
            "import resource\n"
            "from lanxfer.descriptors import raise_limit\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))\n"
            "print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE), raise_limit())\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout.split() == ["512", "512", "512", "512"]

    def test_high_enough(self) -> None:
        """A limit that is the hard one already stays."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
            raise_limit()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    @pytest.mark.parametrize(
        ("limit", "most"), [(20_000, 19_744), (1024, 768), (64, 24), (16, 8), (1_000_000, 999_744)]
    )
    def test_reserve(self, limit: int, most: int) -> None:
        """Some are kept for files, and some connections are always possible."""
        assert connections_most(limit) == most
