"""Many requests at once, and their answers as they come, whichever is first.

python docs/examples/in_order.py
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import defer, task

from lanxfer.commands.declared import command
from lanxfer.linking import spawn_link, stdio_link
from lanxfer.links import as_completed

HERE = [sys.executable, __file__, "child"]


class Sleepy:
    @command("sleepy.wait")
    async def wait(self, tenths: int) -> int:
        from twisted.internet import reactor

        await task.deferLater(reactor, tenths / 10, lambda: None)
        return tenths


async def main(reactor: Any) -> None:
    link = await spawn_link(reactor, HERE)
    asked = [link.call("sleepy.wait", {"tenths": tenths}) for tenths in (5, 1, 3)]
    async for answer in as_completed(asked):
        print(answer.flags, flush=True)
    await link.close()


def child() -> None:
    """What the other process does: it answers on its standard input and output."""
    from twisted.internet import reactor

    found: Any = reactor
    stdio_link(found, Sleepy()).when_closed().addCallback(lambda _: found.stop())
    found.run()


if __name__ == "__main__":
    if sys.argv[1:] == ["child"]:
        child()
    else:
        task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor)))
