"""The service of this user on this machine, asked through its control socket without a reactor.

``lanxfer.client.local`` is the same for those who have a reactor.
"""

from __future__ import annotations

import socket

from lanxfer.conversation import HELLO_WAIT, Conversation
from lanxfer.errors import Lost, Unreachable
from lanxfer.packet_socket import Wait, wait

NO_SERVICE = (
    "No lanxfer service of yours runs here with this state folder;"
    ' start one with "lanxfer serve" or "twistd lanxfer".'
)

NO_ANSWER = (
    "A lanxfer service of yours runs here with this state folder, and does not answer."
    ' It may have too much to do: try again. If it was suspended (Ctrl-Z), "fg" or "kill -CONT"'
    " lets it go on; if nothing helps, end it and start it again."
)


class NoService(Unreachable):
    """No lanxfer service of yours answers here."""


class ServiceLost(Lost):
    """The lanxfer service on this machine ended before it had answered."""


class _Silent(ServiceLost):
    """The lanxfer service on this machine does not answer any more."""


def _lost(silent: bool) -> ServiceLost:
    return _Silent() if silent else ServiceLost()


class Control(Conversation):
    """A connection to the service.

    Making it raises NoService where no service answers; it says whether one runs.
    """

    def __init__(self, path: str, wait: Wait = wait) -> None:
        family = getattr(socket, "AF_UNIX", None)
        if family is None:
            raise NoService(NO_SERVICE)
        super().__init__(socket.socket(family, socket.SOCK_STREAM), wait, _lost)
        try:
            self.socket.settimeout(HELLO_WAIT)
            self.socket.connect(path)
            self.greet("lanxfer")
        except (BlockingIOError, TimeoutError, _Silent):  # the first where many wait already
            self.socket.close()
            raise NoService(NO_ANSWER) from None
        except (OSError, ServiceLost):
            self.socket.close()
            raise NoService(NO_SERVICE) from None
        except BaseException:
            self.socket.close()
            raise
