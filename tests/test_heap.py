"""Settings that hold for a whole process, and are made in processes of their own alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

TOLD = """
import gc, sys
from lanxfer import heap
gc.disable()
heap.arrange()
assert gc.isenabled() and gc.get_threshold()[0] == heap.GARBAGE
assert gc.get_freeze_count() > 1000
"""

SERVING = """
import gc
gc.disable()
from lanxfer import heap
from lanxfer.service import TransferService
heap.arrange(serving=True)
gc.unfreeze()
left = gc.collect()
assert left < 100, left
"""

UNTOUCHED = """
import gc
from twisted.internet import reactor
from lanxfer.service import Settings, TransferService
service = TransferService(reactor, Settings(inbox="in", state="state", port=0, sandbox=False))
before = gc.get_threshold()
service.startService()
assert gc.get_threshold() == before and not gc.get_freeze_count()
service.stopService().addBoth(lambda _: reactor.stop())
reactor.run()
"""


def _run(source: str, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", source],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "LANXFER_ALLOW_ROOT": "1"},
        check=True,
        timeout=60,
    )


class HeapTests:
    def test_own_process(self, tmp_path: Path) -> None:
        """What was imported is looked at no more, and the rest less often."""
        _run(TOLD, tmp_path)

    def test_service(self, tmp_path: Path) -> None:
        """A service keeps nothing that importing left behind."""
        _run(SERVING, tmp_path)

    def test_application(self, tmp_path: Path) -> None:
        """An application with a service in it is left as it is."""
        _run(UNTOUCHED, tmp_path)
