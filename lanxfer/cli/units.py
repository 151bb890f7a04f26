"""``lanxfer unit``: systemd's words for this installation of the service (docs/service.rst).

The service gives up by itself what it can (lanxfer.sandbox); the unit takes the
rest away, for kernels without Landlock and for what Landlock does not know
(security design, section 6).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from lanxfer.cli.options import Choices, common

PORT = 36969

OPEN_FILES = 16384
"""Ten thousand idle connections and what the service opens beside them."""

_SERVICE = """\
[Unit]
Description=lanxfer: files and messages between the devices of this network
After=network-online.target
Wants=network-online.target

[Service]
{user}
ExecStart={command}
# It waits for the answer, so a mistake in the file shows in "systemctl reload".
ExecReload={reload}
Restart=on-failure
# Settings, state folder or inbox cannot be used: trying again does not help.
RestartPreventExitStatus=3

# It writes where files arrive and where it keeps its state.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writable}
PrivateTmp=yes
PrivateDevices=yes
UMask=0077

# It is an ordinary program of an ordinary user.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM

# TCP, the control socket, and the list of this machine's networks.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK

LimitNOFILE={files}
MemoryMax=1G
TasksMax=64
{install}"""

_INSTALL = """
[Install]
WantedBy=multi-user.target
"""

_SOCKET = """\
[Unit]
Description=The port of lanxfer

[Socket]
ListenStream={address}
Backlog=1024

[Install]
WantedBy=sockets.target
"""


def quoted(text: str) -> str:
    """A path as systemd reads it back: one word, without specifiers and variables."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if set(text) & set(" \t'\"\\;#") else text


def _line(words: Sequence[str]) -> str:
    return " ".join(quoted(each).replace("$", "$$") for each in words)


def service_unit(user: str, inbox: str, state: str, port: int, bind: str, socket: bool) -> str:
    """The text of ``lanxfer.service``; ``user`` "" lets systemd make one for it.

    With ``socket`` the port comes from ``socket_unit``.
    """
    listen = (
        ["--port", "none", "--listen", "systemd:domain=INET:index=0"]
        if socket
        else ["--port", str(port), *(["--bind", bind] if bind else [])]
    )
    twistd = os.path.join(os.path.dirname(sys.executable), "twistd")
    words = [twistd, "-n", "--pidfile=", "lanxfer", *listen, "--inbox", inbox, "--state", state]
    lanxfer = os.path.join(os.path.dirname(sys.executable), "lanxfer")
    reload = [lanxfer, "config", "reload", "--state", state]
    own = "DynamicUser=yes\nStateDirectory=lanxfer\nStateDirectoryMode=0700"
    return _SERVICE.format(
        user=f"User={user}" if user else own,
        command=_line(words),
        reload=_line(reload),
        writable=" ".join(quoted(each) for each in sorted({inbox, state})),
        files=OPEN_FILES,
        install="" if socket else _INSTALL,
    )


def socket_unit(port: int, bind: str) -> str:
    """The text of ``lanxfer.socket``."""
    return _SOCKET.format(address=f"{bind or '0.0.0.0'}:{port}")


@click.command()
@click.argument("which", type=click.Choice(["service", "socket"]), default="service")
@click.option("-i", "--inbox", help="Folder for what arrives (default: lanxfer in downloads).")
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=PORT, help="TCP port.")
@click.option("-b", "--bind", default="", help="Address to listen on (default: all).")
@click.option("--user", help="Whose service it is (default: yours; for root, one of its own).")
@click.option("--activated", is_flag=True, help="Let lanxfer.socket listen, and start on demand.")
@common
@click.pass_obj
def unit(
    choices: Choices,
    /,
    which: str,
    inbox: str | None,
    port: int,
    bind: str,
    user: str | None,
    activated: bool,
) -> int:
    """Print a unit for systemd that runs this service with as few rights as it needs."""
    if which == "socket":
        click.echo(socket_unit(port, bind), nl=False)
        return 0
    if user is None:
        user = _own_name()
    if user:
        from lanxfer.service import default_inbox
        from lanxfer.state import default_state

        inbox, state = inbox or default_inbox(), choices.state or default_state()
    else:
        inbox = inbox or "/var/lib/lanxfer/inbox"
        state = choices.state or "/var/lib/lanxfer/state"
    folders = os.path.abspath(inbox), os.path.abspath(state)
    click.echo(service_unit(user, *folders, port, bind, activated), nl=False)
    return 0


def _own_name() -> str:
    """The user who asks; "" for root, who should not be the service's user."""
    import getpass

    return "" if os.geteuid() == 0 else getpass.getuser()


COMMANDS = (unit,)
