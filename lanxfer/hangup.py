"""What SIGHUP means to a service: read the configuration file again, or end with the terminal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
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


def reload_on_hangup(reactor: Any, reload: Callable[[], Deferred[Any]]) -> None:
    """Have SIGHUP call ``reload``; with a terminal, do what it did before, or end in order.

    To be called when a daemon has let go of its terminal.  What ``reload`` fails with is
    logged by whoever it belongs to.  What nohup said to ignore stays ignored.
    """
    number = getattr(signal, "SIGHUP", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(number)
    if before == signal.SIG_IGN:
        return
    ends = has_terminal()  # asked now: when it hangs up it is not there any more

    def called() -> None:
        if not ends:
            reload().addErrback(lambda why: None if why.check(LanxferError) else why)
        elif callable(before):
            before(number, None)
        else:
            reactor.stop()

    signal.signal(number, lambda *_: reactor.callFromThread(called))
