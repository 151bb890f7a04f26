"""Noticing that something in a folder changed: by the system's own word, or by looking again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lanxfer.jobs.config.rules import Rules
from lanxfer.jobs.ends import EndError, walk
from lanxfer.jobs.ends.local import LocalEnd

LOOK_AGAIN = 1.0
"""Seconds after which a watching thread sees that it is to end."""


class FolderWatch:
    """Calls ``changed``, from a thread, when a file comes or changes.

    What is there when it begins to watch has come.  One that goes is no reason: it
    may have been moved by what is called here.
    Without the package watchfiles, or where that cannot watch, the folder is
    listed every ``poll`` seconds; ``deep``: also the folders in it.
    """

    def __init__(self, path: str, deep: bool, poll: float, changed: Callable[[], object]) -> None:
        self._path = path
        self._deep = deep
        self._matcher = Rules(ignore=(), recursive=deep).matcher()
        self._poll = poll
        self._changed = changed
        self._before = set[tuple[str, int, int | None]]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End soon; does not wait."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._by_notice()
            except (ImportError, OSError, RuntimeError):
                self._by_looking()

    def _by_notice(self) -> None:
        from watchfiles import watch

        begun = False
        # Its own filter leaves out what developers do not want to see.
        for changes in watch(
            self._path,
            watch_filter=None,
            stop_event=self._stop,
            rust_timeout=int(LOOK_AGAIN * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=self._deep,
        ):
            if changes or not begun:
                self._look()
            begun = True

    def _by_looking(self) -> None:
        self._look()
        while not self._stop.wait(self._poll):
            self._look()

    def _look(self) -> None:
        before, self._before = self._before, self._files()
        if self._before - before:
            self._changed()

    def _files(self) -> set[tuple[str, int, int | None]]:
        end = LocalEnd(self._path)
        try:
            end.connect()
            return {(each.path, each.size, each.mtime_ns) for each in walk(end, self._matcher)}
        except EndError:
            return set()
        finally:
            end.close()
