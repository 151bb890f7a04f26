"""A service that makes a small picture of each one that arrives (needs Pillow).

python docs/examples/thumbnails.py INBOX
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image
from twisted.internet import defer, task
from twisted.internet.threads import deferToThread

from lanxfer.service import Event, Settings, TransferService

SIZE = (160, 160)


def shrink(picture: Path, folder: Path) -> None:
    """Others made the picture: only two formats are read, and none that is huge."""
    with Image.open(picture, formats=("JPEG", "PNG")) as image:
        if image.width * image.height > 50_000_000:
            return
        image.thumbnail(SIZE)
        folder.mkdir(exist_ok=True)
        part = folder / f"{picture.name}.part"
        image.convert("RGB").save(part, "JPEG")
        part.replace(folder / f"{picture.name}.jpg")


class Thumbnails:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def received(self, event: Event) -> None:
        """The sender has its answer already; what blocks belongs in a thread."""
        if event.path.lower().endswith((".jpg", ".jpeg", ".png")):
            await deferToThread(shrink, Path(event.path), self._folder)


async def main(reactor: Any, inbox: str) -> None:
    pictures = Thumbnails(Path(inbox + ".thumbnails"))
    service = TransferService(reactor, Settings(inbox=inbox), on_received=pictures.received)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    print(*await service.when_listening(), flush=True)
    await defer.Deferred()


if __name__ == "__main__":
    task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor, sys.argv[1])))
