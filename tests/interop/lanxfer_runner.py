"""Runs lanxfer services and clients for tests; speaks with ``children.Child``."""

from __future__ import annotations

import ast
import os
import sys
import threading
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver

from lanxfer import ae, client
from lanxfer.errors import LanxferError
from lanxfer.service import Message, Settings, TransferService
from lanxfer.storage.sources import Source
from lanxfer.transfers import Conflict, as_row

the_reactor: Any = reactor


class Runner:
    """Services by name, and what may be asked; each method is one request."""

    def __init__(self) -> None:
        self.services: dict[str, TransferService] = {}
        self.messages_of: dict[str, list[str]] = {}

    async def start(self, name: str, settings: dict[str, Any]) -> Any:
        texts: list[str] = []

        def show(message: Message) -> None:
            if message.text == "break":
                raise RuntimeError("the application has a bug")
            texts.append(message.text)

        service = TransferService(the_reactor, Settings(**settings), on_message=show)
        service.startService()
        addresses = await service.when_listening()
        self.services[name], self.messages_of[name] = service, texts
        return addresses

    async def stop(self, name: str) -> Any:
        await self.services.pop(name).stopService()

    async def messages(self, name: str) -> Any:
        return self.messages_of[name]

    async def pending(self, name: str) -> Any:
        return [as_row(each) for each in self.services[name].registry.pending()]

    async def finished(self, name: str) -> Any:
        return [as_row(each) for each in self.services[name].registry.finished()]

    async def tell(self, name: str, args: dict[str, Any]) -> Any:
        return dict(await self.services[name].send(args))

    async def modules(self) -> Any:
        return sorted(each for each in sys.modules if each.startswith("lanxfer"))

    async def chdir(self, path: str) -> Any:
        os.chdir(path)

    async def slow_check(self, seconds: float) -> Any:
        """Make the last look at a source take that long from now on."""
        look = Source.check_unchanged

        def slowly(source: Source) -> None:
            time.sleep(seconds)
            look(source)

        Source.check_unchanged = slowly  # type: ignore[method-assign]

    async def answer_timeout(self, seconds: float) -> Any:
        ae.ANSWER_TIMEOUT = seconds

    async def send(
        self,
        peer: str,
        state: str,
        patience: float,
        path: str = "",
        text: str = "",
        name: str | None = None,
        conflict: str | None = None,
    ) -> Any:
        device = await client.connect(
            the_reactor, peer, state=state, legacy=True, patience=patience
        )
        try:
            if not path:
                return (await device.send_message(text))._asdict()
            policy = None if conflict is None else Conflict(conflict)
            receipt = await device.send_file(path, name=name, conflict=policy)
            return receipt._asdict()
        finally:
            await device.close()

    async def end(self) -> None:
        for each in list(self.services):
            await self.stop(each)


def main() -> None:
    """See the module."""
    out = sys.stdout
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    runner = Runner()

    def say(number: int, answer: Any) -> None:
        out.write(f"{(number, answer)!r}\n")
        out.flush()

    async def answer(number: int, name: str, args: dict[str, Any]) -> None:
        try:
            say(number, {"answer": await getattr(runner, name)(**args)})
        except LanxferError as error:
            say(number, {"error": error.code, "class": type(error).__name__, "reason": str(error)})
        except Exception as error:
            say(number, {"raised": f"{type(error).__name__}: {error}"})

    def start(number: int, request: dict[str, Any]) -> None:
        Deferred.fromCoroutine(answer(number, request.pop("do"), request))

    def stop() -> None:
        Deferred.fromCoroutine(runner.end()).addBoth(lambda _: the_reactor.stop())

    def read() -> None:
        for line in sys.stdin:
            the_reactor.callFromThread(start, *ast.literal_eval(line))
        the_reactor.callFromThread(stop)

    the_reactor.callWhenRunning(say, 0, "")
    threading.Thread(target=read, daemon=True).start()
    the_reactor.run()


if __name__ == "__main__":
    main()
