"""Posting to a web server; imported where there is a webhook.

No redirect is followed, and of the answer only its status counts.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer


@implementer(IBodyProducer)
class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is one piece."""

    def resumeProducing(self) -> None:
        """It is one piece."""

    def stopProducing(self) -> None:
        """It is one piece."""


class _Drop(Protocol):
    """Reads nothing of an answer."""

    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


async def post(reactor: Any, url: str, document: bytes) -> str:
    """What went wrong, "" for nothing; raises what the connection fails with."""
    headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["lanxfer"]})
    agent = Agent(reactor, connectTimeout=10)
    answer = await agent.request(b"POST", url.encode("ascii"), headers, _Body(document))
    answer.deliverBody(_Drop())
    return "" if 200 <= answer.code < 300 else f"the server answered {answer.code}"
