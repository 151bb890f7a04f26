"""What SIGHUP means to a service: read the configuration file again, or end with the terminal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred

from lanxfer.errors import LanxferError


def has_terminal() -> bool:
    """Whether there is a terminal whose end would end this process: not so for a daemon's."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def reload_on_hangup(
    reactor: Any, reload: Callable[[], Deferred[Any]], end: Callable[[], object]
) -> None:
    """Have SIGHUP call ``reload``, or ``end`` where the process has a terminal.

    What ``reload`` fails with is logged by whoever it belongs to.  What nohup said to
    ignore stays ignored.
    """
    number = getattr(signal, "SIGHUP", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(number) == signal.SIG_IGN:
        return

    def called() -> None:
        if has_terminal():
            end()
        else:
            with suppress(LanxferError):
                reload().addErrback(lambda why: why.trap(LanxferError) and None)

    signal.signal(number, lambda *_: reactor.callFromThread(called))
