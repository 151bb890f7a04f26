"""Run a program, and say what it used, with all that it started.

A process of its own, small and without imports, because the kernel's mark for
the most memory begins with the size of whoever forked, and because children
that were not waited for would go missing from the sum.

``weigh.py run|serve LOG PROGRAM ARGUMENT…``: ``run`` waits for the program's own
end, ``serve`` ends it when standard input ends.  One JSON object comes out.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time

_SUBREAPER = 36
_GRACE = 10
"""Seconds to end in, after which whatever is left is killed."""


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(each) for each in file.read().split()]


def _kill(*_: object) -> None:
    for pid in _children():
        os.kill(pid, signal.SIGKILL)
    signal.alarm(1)


def main() -> None:
    how, log, *program = sys.argv[1:]
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    began = time.perf_counter()
    first = os.posix_spawnp(program[0], program, os.environ, file_actions=actions)
    if how == "serve":
        # A service that ends too early is noticed too.
        select.select([0, os.pidfd_open(first)], [], [])
        signal.signal(signal.SIGALRM, _kill)
        signal.alarm(_GRACE)
        os.kill(first, signal.SIGTERM)
    cpu, peak, seconds, status = 0.0, 0, 0.0, 0
    while True:
        try:
            pid, code, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss * 1024)
        if pid == first:
            seconds = time.perf_counter() - began
            status = os.waitstatus_to_exitcode(code)
            if how == "run":
                signal.signal(signal.SIGALRM, _kill)
                signal.alarm(_GRACE)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "status": status}))


main()
