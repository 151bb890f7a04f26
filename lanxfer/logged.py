"""The service of ``twistd`` with its log as JSON: where twistd itself would have written text."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver
from twisted.python.logfile import LogFile
from twisted.python.usage import UsageError

from lanxfer.logs import TransferLog, json_observer
from lanxfer.peers import Peers
from lanxfer.service import TransferService
from lanxfer.state import StateFolder


def check_log(format: str, twistd: Any) -> None:
    """Raise UsageError for a format there is not, or that goes with nothing else that was said.

    ``twistd`` are the options around those of the service, None where there are none.
    """
    if format not in ("text", "json"):
        raise UsageError('--log-format is "text" or "json".')
    if format == "json" and twistd is not None:
        for name in ("logger", "syslog"):
            if twistd.get(name):
                raise UsageError(f"--log-format json writes a file; it does not go with --{name}.")
        if twistd.get("logfile") == "-" and not twistd.get("nodaemon", True):
            raise UsageError("A daemon cannot log to standard output.")


class Logged(MultiService):
    """``whole``, in which ``transfers`` is, and a log as JSON that has those, too."""

    def __init__(
        self, reactor: Any, whole: IService, transfers: TransferService, twistd: Any
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._twistd = twistd
        self._transfers = TransferLog(reactor, labels(transfers.settings.state))
        transfers.subscribe_many(self._transfers.hear)
        whole.setServiceParent(self)
        if twistd is not None and "fileLogObserverFactory" in twistd:  # "twist", not "twistd"
            twistd["fileLogObserverFactory"] = json_observer

    def setServiceParent(self, parent: Any) -> None:
        # An application: twistd asks it for an observer before it makes its own.
        if hasattr(parent, "setComponent") and self._twistd is not None:
            parent.setComponent(ILogObserver, json_observer(_file(self._reactor, self._twistd)))
        super().setServiceParent(parent)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any] = super().stopService()
        return stopped.addBoth(self._stopped)

    def _stopped(self, result: Any) -> Any:
        self._transfers.stop()
        return result


def labels(state: str) -> Any:
    """A function from a principal to what it is called here."""
    peers = Peers(StateFolder(state))

    def label(principal: str) -> str:
        kind, _, key = principal.partition(":")
        known = peers.by_key(key) if kind == "peer" else None
        return principal if known is None else known.name

    return label


def _file(reactor: Any, twistd: Any) -> Any:
    """Where twistd writes its log, turned over in the same way."""
    name = twistd.get("logfile")
    if twistd.get("nodaemon") and name in (None, "", "-"):
        return sys.stdout
    file = LogFile.fromFullPath(name or "twistd.log")
    with suppress(AttributeError, ValueError):  # no such signal, or not the main thread
        if not signal.getsignal(signal.SIGUSR1):
            signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    return file
