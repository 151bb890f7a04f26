"""The service in the foreground: what it listens to, and a line for all that comes and goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from attrs import asdict, evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.usage import UsageError

from lanxfer.cli.asking import Names
from lanxfer.cli.output import count, human_size
from lanxfer.cli.running import Run
from lanxfer.cli.telling import Telling, now
from lanxfer.cli.weblink import show_link
from lanxfer.configured import Configured
from lanxfer.control import NoService
from lanxfer.errors import Exit
from lanxfer.hangup import reload_on_hangup
from lanxfer.keys import format_key
from lanxfer.logged import labels
from lanxfer.logs import TransferLog
from lanxfer.pipes import splice
from lanxfer.sandbox import refuse_root
from lanxfer.service import Message, OnReload, Prompt, Settings, TransferService
from lanxfer.state import StateFolder
from lanxfer.storage.names import shown

TEXT_MAX = 4000
"""Characters of a message that are printed; the history keeps all of it."""


class _Printer:
    """Says what the service does."""

    def __init__(self, here: Run, settings: Settings) -> None:
        self._out = here.out
        self._names = Names(settings.state)

    def begun(self, service: TransferService, addresses: list[str]) -> None:
        """It listens; where, as whom, and what its owner gave up."""
        out, status = self._out, service.status()
        out.row({"listening": addresses, **{key: status[key] for key in ("key", "inbox", "state")}})
        out.done(f"Listening on {', '.join(addresses)}")
        out.done(f"Key of this device: {format_key(service.key)}")
        out.done(f"Files go to {shown(status['inbox'], 1000)}")
        if not self._names.any():
            out.say('Nobody is known here yet; "lanxfer pair" lets a device in.')
        if status["metrics"]:
            out.done(f"Figures are at {status['metrics']}")
        if status["web"]:
            show_link(out, service.web_link())
        for each in service.warnings():
            out.row({"warning": each})
            if out.tell is None:  # or the log has it already
                out.warn(each)

    def reloading(self, configured: Configured) -> OnReload:
        """Reading the configuration file again, and a line about it."""

        def told(found: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
            self._out.row({"reloaded": dict(found)})
            self._out.done(f"{now()}  {reloaded(found)}")
            return found

        return lambda service: configured.reload(service).addCallback(told)

    def asked(self, prompt: Prompt) -> None:
        """Something is offered that waits for a yes."""
        self._out.row({"asked": asdict(prompt)})
        plain = "" if prompt.secure else " (unauthenticated)"
        self._out.done(
            f"{now()}  {shown(prompt.label, 40)}{plain} wants to send {offered(prompt)};"
            f' "lanxfer accept {prompt.id}" takes it, "lanxfer reject {prompt.id}" does not.'
        )

    def message(self, message: Message) -> None:
        """A text came."""
        plain = "" if message.secure else " (unauthenticated)"
        self._out.row(
            {
                "message": {
                    "id": message.id,
                    "peer": message.peer,
                    "label": message.label,
                    "text": message.text,
                    "secure": message.secure,
                }
            }
        )
        self._out.done(
            f'{now()}  from {shown(message.label, 40)}{plain}: "{shown(message.text, TEXT_MAX)}"'
        )


def reloaded(found: Mapping[str, Sequence[str]]) -> str:
    """What came of reading the configuration file again."""
    changed, restart = (", ".join(found.get(name, ())) for name in ("changed", "restart"))
    said = f"Changed: {changed}" if changed else "Nothing has changed"
    return f"{said}; needs a restart: {restart}" if restart else said


def offered(prompt: Prompt) -> str:
    """What is offered, in a few words; of a folder it is not known how much is still to come."""
    if not prompt.what.endswith("/"):
        return f"{shown(prompt.what)} ({human_size(prompt.size)})"
    so_far = f" ({count(prompt.files, 'file')} so far)" if prompt.files else ""
    return f"{shown(prompt.what)} and what is in it{so_far}"


def _configured(here: Run, options: Mapping[str, Any]) -> Configured | None:
    """What was asked for, here and in the file; None, and said, where the line makes no sense."""
    refuse_root(bool(options.get("allow-root")))
    try:
        return Configured(options)
    except UsageError as error:
        here.out.warn(str(error))
        return None


async def speak(here: Run, options: Mapping[str, Any]) -> int:
    """Answer whoever is at the other end of standard input and output, who is the owner.

    A service that runs here already does it; without one there is one for as long as this
    lasts, which listens to nobody else.  Nothing but packets is written to standard output.
    """
    configured = _configured(here, options)
    if configured is None:
        return int(Exit.USAGE)
    settings = configured.settings
    with suppress(NoService):
        await splice(here.reactor, StateFolder(settings.state).socket_path)
        return int(Exit.OK)
    settings = evolve(settings, port=None, listen=())
    service = TransferService(here.reactor, settings, on_reload=configured.reload)
    service.startService()
    try:
        await service.when_listening()
        for each in service.warnings():
            here.out.warn(each)
        await service.serve_descriptors()
    except CancelledError:
        pass
    finally:
        await service.stopService()
    return int(Exit.OK)


async def serve(here: Run, options: Mapping[str, Any]) -> int:
    """Serve until Ctrl-C."""
    configured = _configured(here, options)
    if configured is None:
        return int(Exit.USAGE)
    settings, jobs = configured.settings, configured.jobs
    if jobs:
        from lanxfer.jobs.beside import ServiceWithJobs, with_jobs
        from lanxfer.jobs.errors import Error

        try:
            settings = with_jobs(settings, jobs)
        except Error as error:
            here.out.warn(error.reason)
            return int(Exit.CONFIG)
    printer = _Printer(here, settings)
    service = TransferService(
        here.reactor,
        settings,
        on_message=printer.message,
        on_prompt=printer.asked,
        on_reload=printer.reloading(configured),
    )
    telling = Telling(here.reactor, here.out, Names(settings.state))
    service.subscribe_many(telling.hear)
    log = TransferLog(here.reactor, labels(settings.state))
    if configured.values.get("log-format") == "json":
        service.subscribe_many(log.hear)
    whole = ServiceWithJobs(here.reactor, service, jobs) if jobs else service
    whole.startService()
    reload_on_hangup(here.reactor, service.reload)
    try:
        printer.begun(service, await service.when_listening())
        await Deferred()
    except CancelledError:
        pass
    finally:
        await whole.stopService()
        telling.stop()
        log.stop()
    return int(Exit.OK)
