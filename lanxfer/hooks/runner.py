"""The process that runs commands of hooks; the service may not, once it is confined.

It is started before that, reads one JSON object a line, ``{"id", "argv", "env",
"seconds"}``, runs that program without a shell, and says ``{"id", "error"}`` when it
is over, with "" where all was well.  A program that takes too long is killed with all
that it started.  At the end of its input everything that still runs is killed, too.

It knows nothing but what it is told, and is told the programs by its owner alone:
what others sent is an argument or a value in the environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any


class Runner:
    """See the module."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._ended = False

    def run(self) -> None:
        """Until nobody asks any more."""
        for line in sys.stdin.buffer:
            job = json.loads(line)
            threading.Thread(target=self._do, args=(job,), daemon=True).start()
        with self._guard:
            self._ended = True
            for each in self._running.values():
                _kill(each)

    def _do(self, job: dict[str, Any]) -> None:
        error = self._run(job)
        with self._guard, suppress(OSError, ValueError):  # nobody may listen any more
            print(json.dumps({"id": job["id"], "error": error}), flush=True)

    def _run(self, job: dict[str, Any]) -> str:
        with self._guard:
            if self._ended:
                return "the service ended"
            try:
                process = subprocess.Popen(
                    job["argv"],
                    env={**os.environ, **job["env"]},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                return getattr(error, "strerror", None) or str(error)
            self._running[job["id"]] = process
        try:
            code = process.wait(job["seconds"])
        except subprocess.TimeoutExpired:
            return f"it took more than {job['seconds']:g} s, and was killed"
        finally:
            # Whatever it left in the background goes with it.
            _kill(process)
            process.wait()
            with self._guard:
                del self._running[job["id"]]
        return "" if code == 0 else f"it ended with {code}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    # Ctrl-C is the service's; it ends this by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Runner().run()
