"""Both ends of pairing at a terminal: showing the words, and asking for them."""

from __future__ import annotations

import os
import select
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.threads import deferToThread

from lanxfer.cli.keys import key_of
from lanxfer.cli.output import count, harmless
from lanxfer.cli.peers import reachable_at
from lanxfer.cli.running import Run, service
from lanxfer.client import pair
from lanxfer.codes import Secret, code_secret, load_token, parse_code
from lanxfer.connecting import check_newcomer, find_target
from lanxfer.errors import BadConfig, Cancelled, Exit, LanxferError, NotFound, Unreachable
from lanxfer.identity import load_identity
from lanxfer.introducing import Introduced
from lanxfer.keys import short_key
from lanxfer.peers import Peers, parse_address
from lanxfer.state import StateFolder, default_state
from lanxfer.storage.names import shown
from lanxfer.wire.packets import Args

CODE_MAX = 1024
"""Bytes of a file with words."""

_LEFT = (60, 30, 10)
"""Seconds before the end at which it is said how long there is."""

_LOOK = 0.1


@frozen
class Asked:
    """With whom to pair, and where the secret is: a file, a token, or the terminal."""

    host: str
    name: str | None = None
    code: str | None = None
    token_file: str | None = None


# The device that shows the words.


async def show(here: Run, once: bool, name: str | None) -> int:
    """Open a window, and say how it ends; the exit code."""
    args: dict[str, Any] = {"once": once}
    if name is not None:
        args["label"] = name
    async with service(here) as client:
        about = (await client.call("status")).args
        addresses = reachable_at(about.get("listening"))
        if about.get("discovery") == "on" and not once:
            addresses.append("--find")
        marks = list(_LEFT)

        def told(event: Args) -> None:
            if "words" in event:
                _show_words(here, event, addresses, once)
            elif marks and event["seconds"] <= marks[0]:
                marks.pop(0)
                here.out.say(f"{count(event['seconds'], 'second')} left.")

        found = (await client.call("pair_open", args, on_event=told)).args
    here.out.row({"paired": dict(found)})
    whom = f"{shown(str(found['peer']))}, with the key {short_key(str(found['key']))}-..."
    if found["once"]:
        here.out.done(f"{whom}, may send once, within a minute.")
    else:
        here.out.done(f"Paired with {whom}")
    return int(Exit.OK)


def _show_words(here: Run, event: Args, addresses: list[str], once: bool) -> None:
    words = [str(each) for each in event["words"]]
    here.out.row({"words": words, "seconds": event["seconds"], "addresses": addresses})
    what = "lanxfer send FILE {}" if once else "lanxfer pair {}"
    here.out.done("On the other device, type within two minutes:\n")
    for each in addresses or ["HOST"]:
        here.out.done(f"    {what.format(each)}")
    here.out.done("\nand there, when it asks, these words:\n")
    # What was asked for, even with --quiet.
    here.out.line(f"    {' '.join(words)}")
    here.out.done("")
    here.out.say("They are good for one try. Ctrl-C takes them back.")


# The device that asks for them.


def find_words(state: str | None) -> str:
    """The address of the one device that shows words just now; looks for it, and blocks.

    NotFound where there is none, BadConfig where there are several or nothing is marked.
    """
    from lanxfer.discovery.looking import FIND, look
    from lanxfer.discovery.marks import read_marks

    folder = StateFolder(state or default_state())
    if not read_marks(folder):
        raise BadConfig('Nobody is looked for here: type "lanxfer discovery on" first.')
    found = [each for each in look(folder, FIND) if each.pairing]
    if not found:
        raise NotFound(
            'Nobody is seen who shows words just now: type "lanxfer discovery on" and "lanxfer'
            ' pair" on the other device, or this with its address.'
        )
    if len(found) > 1:
        where = ", ".join(each.addresses[0] for each in found)
        raise BadConfig(f"Several devices show words just now, at {where}; say which.")
    return found[0].addresses[0]


async def join(here: Run, asked: Asked) -> int:
    """Pair with the device at a host; the exit code."""
    found = await introduce(here, asked)
    here.out.row({"paired": {"peer": found.name, "key": found.key, "once": found.once}})
    here.out.done(
        f"Paired with {shown(found.name)}, with the key {short_key(found.key)}-...\n"
        f"Send with: lanxfer send FILE {shlex.quote(found.name)}"
    )
    return int(Exit.OK)


def may_ask(here: Run) -> bool:
    """Whether somebody sits there who can be asked for words."""
    return here.out.talks and all(
        stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)
    )


async def introduce(here: Run, asked: Asked, once: bool = False) -> Introduced:
    """Get the secret, from wherever it is, and pair by it."""
    secret = await _secret(here, asked)
    return await pair(
        here.reactor,
        asked.host,
        secret,
        state=here.choices.state,
        name=asked.name,
        once=once,
    )


async def _secret(here: Run, asked: Asked) -> Secret:
    if asked.token_file is not None:
        return load_token(asked.token_file)
    if asked.code is not None:
        return code_secret(parse_code(await deferToThread(_read_code, asked.code)))
    if not may_ask(here):
        raise BadConfig("There is no terminal to ask for the words; say where, with --code FILE.")
    address, key = await _look(here, asked.host, asked.name)
    here.out.say(
        f'{address} answers, with the key {short_key(key)}-...; "lanxfer pair" there shows three'
        " words. Enter alone gives up."
    )
    while True:
        text = await _ask(here, "Words: ")
        if not text.strip():
            raise Cancelled("Cancelled; nothing was tried.")
        try:
            return code_secret(parse_code(text))
        except BadConfig as error:
            here.out.warn(error.reason)


async def _look(here: Run, host: str, name: str | None) -> tuple[str, str]:
    """Who answers there, so that nobody types words in vain."""
    folder = StateFolder(here.choices.state or default_state())
    peers, identity = Peers(folder), load_identity(folder)
    target = find_target(peers, host)
    error: LanxferError = Unreachable()
    for address in target.addresses:
        try:
            key = await key_of(here.reactor, *parse_address(address), identity)
        except LanxferError as why:
            error = why
            continue
        check_newcomer(peers, identity.key, target, address, key, name)
        return address, key
    raise error


def _read_code(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.buffer.read(CODE_MAX).decode("utf-8", "replace")
        with Path(path).open("rb") as file:
            return file.read(CODE_MAX).decode("utf-8", "replace")
    except OSError as error:
        why = error.strerror or str(error)
        raise BadConfig(f"The words in {shlex.quote(path)} cannot be read: {why}.") from error


async def _ask(here: Run, prompt: str) -> str:
    """A line from the terminal; Ctrl-C meanwhile ends the waiting."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    stop = threading.Event()
    forget = here.if_killed(stop.set)
    try:
        return await deferToThread(_read_line, stop.is_set)
    finally:
        stop.set()
        forget()


def _read_line(stopped: Callable[[], bool]) -> str:
    if sys.platform == "win32":  # pragma: no cover
        return sys.stdin.readline()  # select is for sockets there
    descriptor = sys.stdin.fileno()
    while not stopped():
        if select.select([descriptor], [], [], _LOOK)[0]:
            return harmless(os.read(descriptor, CODE_MAX).decode("utf-8", "replace").strip())
    return ""
