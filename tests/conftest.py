"""What several test modules share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, run
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer

# Tests may be run as root, as in a container; a service is told so twice (see test_sandbox).
os.environ.setdefault("LANXFER_ALLOW_ROOT", "1")


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Devices]:
    """Real devices on loopback; whatever is left of them is closed."""
    made = Devices(tmp_path)
    yield made
    run(made.close())


@pytest.fixture(scope="module")
def _watched() -> Iterator[list[str]]:
    """Everything that is logged as an error while a module's tests run, Deferreds included."""
    found: list[str] = []

    @implementer(ILogObserver)
    def watch(event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure")
            text = str(event.get("log_format"))
            found.append(text if failure is None else f"{text}\n{failure.getTraceback()}")

    gc.collect()
    globalLogPublisher.addObserver(watch)
    yield found
    gc.collect()  # Deferreds whose failure nobody handled speak up when they go
    globalLogPublisher.removeObserver(watch)
    assert found == []


@pytest.fixture
def logged(_watched: list[str]) -> Iterator[list[str]]:
    """The errors that were logged; one that the test has not taken out fails it."""
    del _watched[:]
    yield _watched
    left = list(_watched)
    del _watched[:]
    assert left == []
