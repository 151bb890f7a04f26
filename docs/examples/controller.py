"""What a window's buttons call, and what it is told; here the window is a terminal.

python docs/examples/controller.py FILE PEER        Ctrl-C is the button "Cancel"
"""

from __future__ import annotations

import signal
import sys
from typing import Any, Protocol

from twisted.internet import defer, task

from lanxfer.client import Client, connect
from lanxfer.errors import LanxferError


class View(Protocol):
    """A window, of any toolkit whose loop the reactor runs in."""

    def show(self, fraction: float, said: str) -> None:
        """Set the bar, 0 to 1, and the line below it."""

    def busy(self, sending: bool) -> None:
        """Enable "Cancel" and disable "Send", or the other way round."""


class Controller:
    """Sends one file at a time; nothing here waits, so the window stays awake."""

    def __init__(self, client: Client, view: View) -> None:
        self._client = client
        self._view = view
        self._sending: defer.Deferred[Any] | None = None

    def send(self, path: str) -> defer.Deferred[None]:
        """The button "Send"; fires when it is over, well or not, and never fails."""
        if self._sending is not None:
            return defer.succeed(None)
        self._view.busy(True)
        self._sending = self._client.send_file(path, on_progress=self._moved)
        return self._sending.addCallbacks(self._done, self._failed)

    def cancel(self) -> None:
        """The button "Cancel"; the other device keeps nothing of it."""
        if self._sending is not None:
            self._sending.cancel()

    def _moved(self, done: int, size: int) -> None:
        self._view.show(done / size if size else 1.0, f"{done} of {size} bytes")

    def _done(self, receipt: Any) -> None:
        self._over(1.0, f"{receipt.stored} is there: {receipt.size} bytes")

    def _failed(self, why: Any) -> None:
        why.trap(LanxferError)
        self._over(0.0, why.value.reason)

    def _over(self, fraction: float, said: str) -> None:
        self._sending = None
        self._view.show(fraction, said)
        self._view.busy(False)


class Terminal:
    def show(self, fraction: float, said: str) -> None:
        print(f"{fraction:4.0%} {said}", flush=True)

    def busy(self, sending: bool) -> None:
        print("Ctrl-C cancels" if sending else "over", flush=True)


async def main(reactor: Any, path: str, peer: str) -> None:
    client = await connect(reactor, peer)
    controller = Controller(client, Terminal())
    signal.signal(signal.SIGINT, lambda *_: reactor.callFromThread(controller.cancel))
    await controller.send(path)
    await client.close()


if __name__ == "__main__":
    task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
