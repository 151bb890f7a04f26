"""A page on which people make tickets, and see what becomes of them.

    python docs/examples/upload_form.py INBOX

Open http://127.0.0.1:8080/, name a file, and upload it from anywhere with the line that
is shown.
"""

from __future__ import annotations

import sys
from html import escape
from typing import Any

from twisted.internet import defer, endpoints, task
from twisted.web.resource import NoResource, Resource
from twisted.web.server import Site

from lanxfer.errors import BadName
from lanxfer.service import Settings, Slot, TransferService

PAGE = """<!doctype html><meta charset="utf-8"><title>Upload</title>{refresh}
<h1>Upload</h1><p>{said}</p>
<form method="post" action="/"><input name="name" required placeholder="report.pdf">
<button>Make a ticket</button></form>"""

LINE = """{{ echo "{session} {file} $(stat -c %s FILE)"; cat FILE; }} | nc {host} {port}"""


class Form(Resource):
    """``/`` makes a ticket for whatever name is said; ``/<file id>`` is about that one."""

    def __init__(self, service: TransferService, address: str) -> None:
        super().__init__()
        self._service = service
        self._host, _, self._port = address.rpartition(":")

    def getChild(self, path: bytes, request: Any) -> Resource:
        return self if path == b"" else NoResource()

    def render_GET(self, request: Any) -> bytes:
        return page("Which file will it be?")

    def render_POST(self, request: Any) -> bytes:
        name = request.args.get(b"name", [b""])[0].decode("utf-8", "replace")
        try:
            slot = self._service.offer_slot(f"uploads/{name}", most=2**30, keep=True)
        except BadName as error:
            request.setResponseCode(400)
            return page(escape(error.reason))
        self.putChild(slot.file.encode("ascii"), Progress(self._service, slot, self._told(slot)))
        request.redirect(f"/{slot.file}".encode("ascii"))
        return b""

    def _told(self, slot: Slot) -> str:
        return LINE.format(session=slot.session, file=slot.file, host=self._host, port=self._port)


class Progress(Resource):
    """One ticket: the line to upload with, then how far it is, then what became of it."""

    isLeaf = True

    def __init__(self, service: TransferService, slot: Slot, line: str) -> None:
        super().__init__()
        self._service = service
        self._slot = slot
        self._said = f"Upload it with <code>{escape(line)}</code>"
        slot.done.addCallbacks(self._done, self._failed)

    def _done(self, stored: Any) -> None:
        self._said = f"{escape(stored.path)} is here: {stored.size} bytes, {stored.digest}"

    def _failed(self, why: Any) -> None:
        self._said = f"Nothing came of it: {escape(why.value.reason)}"

    def render_GET(self, request: Any) -> bytes:
        for each in self._service.registry.pending():
            if each.id == self._slot.transfer:
                return page(f"{each.done} of {each.size} bytes are here.", again=True)
        return page(self._said, again=not self._slot.done.called)


def page(said: str, again: bool = False) -> bytes:
    refresh = '<meta http-equiv="refresh" content="2">' if again else ""
    return PAGE.format(said=said, refresh=refresh).encode("utf-8")


async def main(reactor: Any, inbox: str) -> None:
    """Serve the page on port 8080 of this machine, and uploads on a port of their own."""
    service = TransferService(reactor, Settings(inbox=inbox, port=0, tickets_plain=True))
    service.startService()
    [address] = await service.when_listening()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    site = endpoints.serverFromString(reactor, "tcp:8080:interface=127.0.0.1")
    await site.listen(Site(Form(service, address.replace("0.0.0.0", "127.0.0.1"))))
    print("http://127.0.0.1:8080/", flush=True)
    await defer.Deferred()


if __name__ == "__main__":
    task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor, sys.argv[1])))
