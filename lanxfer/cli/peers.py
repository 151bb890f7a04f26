"""``lanxfer peers``, ``peer add``, ``peer forget`` and ``key show``: who knows whom."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lanxfer.cli import rights
from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common
from lanxfer.cli.output import Output, columns
from lanxfer.errors import BadConfig, Exit, LanxferError

if TYPE_CHECKING:
    from lanxfer.cli.brief import Brief
    from lanxfer.cli.running import Run
    from lanxfer.discovery.table import Seen
    from lanxfer.peers import Peer, Peers

LOUD = "TRUSTED UNSEEN: nobody compared this key. Compare it with what the other device shows."


def _known(choices: Choices) -> Peers:
    from lanxfer.peers import Peers
    from lanxfer.state import StateFolder, default_state

    return Peers(StateFolder(choices.state or default_state()))


def _row(peer: Peer) -> dict[str, Any]:
    return {
        "name": peer.name,
        "key": peer.key,
        "addresses": list(peer.addresses),
        "legacy": peer.legacy,
    }


@click.command()
@click.option("--known", is_flag=True, help="Do not look who is there.")
@common
@click.pass_obj
def peers(choices: Choices, known: bool) -> int:
    """List the devices that are known here, and who is seen just now.

    Only networks that "lanxfer discovery on" marked are looked at.
    """
    from lanxfer.keys import short_key
    from lanxfer.storage.names import shown

    out = Output(choices.json, choices.quiet)
    seen = None if known else _look(choices, out)
    lines = [("NAME", "KEY", "ADDRESSES", *(("SEEN AT",) if seen is not None else ()))]
    for peer in _known(choices).all():
        row, cells = _row(peer), [shown(peer.name)]
        cells.append(f"{short_key(peer.key)}-..." if peer.key else "none: ae, in plain text")
        cells.append(", ".join(peer.addresses))
        if seen is not None:
            row["seen"] = [at for each in seen if each.key == peer.key for at in each.addresses]
            cells.append(", ".join(row["seen"]))
        out.row(row)
        lines.append(tuple(cells))
    for each in seen or []:
        if each.key is None:
            unknown: dict[str, Any] = {"name": None, "key": None, "addresses": [], "legacy": False}
            out.row({**unknown, "seen": list(each.addresses), "pairing": each.pairing})
            what = "shows words for pairing" if each.pairing else "not known here"
            lines.append(("-", what, "", ", ".join(each.addresses)))
    if len(lines) == 1:
        out.say('Nobody is known here; see "lanxfer pair --help".')
        return int(Exit.OK)
    for line in columns(lines):
        out.line(line)
    return int(Exit.OK)


def _look(choices: Choices, out: Output) -> list[Seen] | None:
    """Who is seen; None where nobody is looked for."""
    from lanxfer.discovery.looking import look
    from lanxfer.discovery.marks import read_marks
    from lanxfer.state import StateFolder, default_state

    state = StateFolder(choices.state or default_state())
    if not read_marks(state):
        return None
    try:
        return look(state)
    except LanxferError as error:
        out.warn(error.reason)
        return None


@click.group()
@common
def peer() -> None:
    """Say which devices are known here."""


@peer.command()
@click.argument("name")
@click.argument("where", metavar="KEY[@HOST[:PORT]]|HOST[:PORT]")
@click.option("--tofu", is_flag=True, help="Fetch the key from HOST, and trust it unseen.")
@click.option("--legacy", is_flag=True, help="HOST is an ae device, spoken to in plain text.")
@click.option("--replace", is_flag=True, help="Let NAME stand for another key than before.")
@common
@click.pass_obj
def add(choices: Choices, name: str, where: str, tofu: bool, legacy: bool, replace: bool) -> int:
    """Know a device as NAME by its KEY, which "lanxfer key show" prints there.

    With --tofu or --legacy the HOST is given instead of a key.
    """
    if tofu and legacy:
        raise click.UsageError("An ae device has no key that could be fetched.")
    from lanxfer.peers import Peer, parse_address, parse_name

    parse_name(name)
    if tofu:
        parse_address(where)
        from lanxfer.cli.running import run

        return run(lambda here: _add_unseen(here, name, where, replace), choices)
    if legacy:
        parse_address(where)
        found = Peer(name, "", (where,), legacy=True)
    else:
        key, _, address = where.partition("@")
        found = Peer(name, key, (address,) if address else ())
    return _keep(choices, found, replace)


def _keep(choices: Choices, peer: Peer, replace: bool) -> int:
    from lanxfer.keys import format_key

    out = Output(choices.json, choices.quiet)
    kept = _known(choices).add(peer, replace)
    out.row(_row(kept))
    whom = f"the key {format_key(kept.key)}" if kept.key else "no key: an ae device, in plain text"
    out.done(f"{kept.name} is known by {whom}.")
    return int(Exit.OK)


async def _add_unseen(here: Run, name: str, where: str, replace: bool) -> int:
    from lanxfer.cli.keys import key_of
    from lanxfer.identity import load_identity
    from lanxfer.peers import Peer, parse_address
    from lanxfer.state import StateFolder, default_state

    folder = StateFolder(here.choices.state or default_state())
    identity = load_identity(folder)
    host, port = parse_address(where)
    key = await key_of(here.reactor, host, port, identity)
    if key == identity.key:
        raise BadConfig(f"{where} is this device itself.")
    code = _keep(here.choices, Peer(name, key, (where,)), replace)
    here.out.warn(LOUD)
    return code


@peer.command()
@click.argument("name")
@common
@click.pass_obj
def forget(choices: Choices, name: str) -> int:
    """Know NAME no longer; its connections end within a second, and it is let in no more."""
    out = Output(choices.json, choices.quiet)
    gone = _known(choices).forget(name)
    out.row(_row(gone))
    out.done(f"{gone.name} is forgotten.")
    return int(Exit.OK)


@click.group()
@common
def key() -> None:
    """This device's own key."""


@key.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the service, if another.")
@common
@click.pass_obj
def show(choices: Choices, port: int | None) -> int:
    """Print this device's key, and what to type on the other one."""
    from lanxfer.cli.brief import Brief, run

    return run(lambda here: _show(here, port), Brief(choices))


def _show(here: Brief, port: int | None) -> int:
    from lanxfer.identity import load_identity
    from lanxfer.keys import format_key

    own, out = load_identity(here.state).key, here.out
    device, listening = _service(here)
    if port is not None:
        hosts = [each.rpartition(":")[0] for each in listening]
        listening = [f"{host}:{port}" for host in hosts or ["0.0.0.0"]]
    commands = paste_lines(own, device, reachable_at(listening))
    out.row({"key": own, "shown": format_key(own), "commands": commands})
    out.line(format_key(own))
    if commands:
        out.done("\nOn the other device, one of these lets this one in:\n")
    for line in commands:
        out.done(f"  {line}")
    return int(Exit.OK)


def _service(here: Brief) -> tuple[str, list[str]]:
    """What the service here calls itself, and where it listens; where none runs, where it would."""
    from lanxfer.config.file import config_path, read_config
    from lanxfer.errors import Lost, Unreachable
    from lanxfer.peers import DEFAULT_PORT

    with suppress(Unreachable, Lost), here.service() as service:
        about = service.ask("status").args
        return str(about["device"]), [str(each) for each in about["listening"]]
    try:
        said = read_config(config_path(None, here.choices.state))
    except BadConfig as error:
        here.out.warn(error.reason)
        said = {}
    port = said.get("port", DEFAULT_PORT)
    # 0 is a port that nobody knows yet.
    listening = [f"[{said.get('bind') or '0.0.0.0'}]:{port}"] if port else []
    return said.get("device") or socket.gethostname(), listening


def paste_lines(own: str, device: str, addresses: Sequence[str]) -> list[str]:
    """The command for another device, for each address it may reach this one at."""
    from lanxfer.keys import format_key
    from lanxfer.peers import parse_name

    try:
        name = shlex.quote(parse_name(device))
    except BadConfig:
        name = "NAME"
    return [f"lanxfer peer add {name} {format_key(own)}@{each}" for each in addresses]


def reachable_at(listening: object) -> list[str]:
    """Where others may reach a service that listens there, as they would type it."""
    from lanxfer.peers import format_address

    found: list[str] = []
    for each in listening if isinstance(listening, list) else []:
        host, _, port = str(each).rpartition(":")
        hosts = [host.strip("[]")]
        if hosts == ["::"]:
            hosts = own_addresses()
        elif hosts == ["0.0.0.0"]:  # every address, but of IPv4 alone
            hosts = [ip for ip in own_addresses() if ":" not in ip]
        found += [format_address(address, int(port)) for address in hosts]
    return list(dict.fromkeys(found))


def own_addresses() -> list[str]:
    """Where others may reach this machine: no loopback, and nothing that needs a zone."""
    from ipaddress import ip_address

    import ifaddr

    found = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            ip = each.ip if isinstance(each.ip, str) else each.ip[0]
            number = ip_address(ip)
            if not (number.is_loopback or number.is_link_local):
                found.append(ip)
    return sorted(dict.fromkeys(found), key=lambda ip: (":" in ip, ip))


for each in rights.COMMANDS:
    peer.add_command(each)

COMMANDS = (peers, peer, key)
