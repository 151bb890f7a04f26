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

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common
from lanxfer.cli.output import Output
from lanxfer.errors import BadConfig

PORT = 36969

MANAGER = "@"
"""In place of a user's name: their own systemd, not the machine's."""

OPEN_FILES = 16384
"""Ten thousand idle connections and what the service opens beside them."""

_STARTS = """\
ExecStart={command}
# It waits for the answer, so a mistake in the file shows in "systemctl reload".
ExecReload={reload}
Restart=on-failure
# Settings, state folder or inbox cannot be used: trying again does not help.
RestartPreventExitStatus=3
"""

_LEAST = """\
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
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

_SERVICE = f"""\
[Unit]
Description=lanxfer: files and messages between the devices of this network
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
{{user}}
{_STARTS}
# It writes where files arrive and where it keeps its state.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={{writable}}
PrivateTmp=yes
PrivateDevices=yes
UMask=0077

# It needs nothing of what only an administrator may do.
CapabilityBoundingSet=
AmbientCapabilities=
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible

# It is an ordinary program of an ordinary user.
{_LEAST}"""

_INSTALL = """
[Install]
WantedBy=multi-user.target
"""

_USERS = f"""\
[Unit]
Description=lanxfer: files and messages between the devices of this network

[Service]
Type=notify
{_STARTS}UMask=0077

# What a user may take away from a process without more rights than a user has.  That it writes
# to its own folders only, the service sees to by itself (Landlock).
{_LEAST}"""

_INSTALL_FOR_USER = """
[Install]
WantedBy=default.target
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
    own = "DynamicUser=yes\nStateDirectory=lanxfer\nStateDirectoryMode=0700"
    return _SERVICE.format(
        user=f"User={user}" if user else own,
        command=_command(inbox, state, port, bind, socket),
        reload=_reload(state),
        writable=" ".join(quoted(each) for each in sorted({inbox, state})),
        files=OPEN_FILES,
        install="" if socket else _INSTALL,
    )


def user_unit(inbox: str, state: str, port: int, bind: str, socket: bool) -> str:
    """The same for the systemd that each user has, ``systemctl --user``."""
    return _USERS.format(
        command=_command(inbox, state, port, bind, socket),
        reload=_reload(state),
        files=OPEN_FILES,
        install="" if socket else _INSTALL_FOR_USER,
    )


def _command(inbox: str, state: str, port: int, bind: str, socket: bool) -> str:
    listen = (
        ["--port", "none", "--listen", "systemd:domain=INET:index=0"]
        if socket
        else ["--port", str(port), *(["--bind", bind] if bind else [])]
    )
    twistd = os.path.join(os.path.dirname(sys.executable), "twistd")
    words = [twistd, "-n", "--pidfile=", "lanxfer", *listen, "--inbox", inbox, "--state", state]
    return _line(words)


def _reload(state: str) -> str:
    lanxfer = os.path.join(os.path.dirname(sys.executable), "lanxfer")
    return _line([lanxfer, "config", "reload", "--state", state])


def socket_unit(port: int, bind: str) -> str:
    """The text of ``lanxfer.socket``."""
    return _SOCKET.format(address=f"{bind or '0.0.0.0'}:{port}")


@click.command()
@click.argument("which", type=click.Choice(["service", "socket"]), default="service")
@click.option("-i", "--inbox", help="Folder for what arrives (default: lanxfer in downloads).")
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=PORT, help="TCP port.")
@click.option("-b", "--bind", default="", help="Address to listen on (default: all).")
@click.option(
    "--user",
    is_flag=False,
    flag_value=MANAGER,
    metavar="[NAME]",
    help="Whose service it is (default: yours; for root, one of its own); without a NAME, a unit"
    " for your own systemd, systemctl --user.",
)
@click.option("--activated", is_flag=True, help="Let lanxfer.socket listen, and start on demand.")
@click.option("--install", is_flag=True, help="With --user alone: write it where it belongs.")
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
    install: bool,
) -> int:
    """Print a unit for systemd that runs this service with as few rights as it needs."""
    if user in ("service", "socket"):  # "--user socket": it was meant for the other argument
        which, user = user, MANAGER
    if install and user != MANAGER:
        raise click.UsageError("--install goes with --user; for the system's, use sudo tee.")
    if user is None:
        user = _own_name()
    if which == "socket":
        text = socket_unit(port, bind)
    else:
        folders = _folders(user, inbox, choices.state)
        if user == MANAGER:
            text = user_unit(*folders, port, bind, activated)
        else:
            text = service_unit(user, *folders, port, bind, activated)
    if user == MANAGER:
        return _for_manager(choices, f"lanxfer.{which}", text, activated, install)
    click.echo(text, nl=False)
    return 0


def _folders(user: str, inbox: str | None, state: str | None) -> tuple[str, str]:
    """Inbox and state folder, whole."""
    if user:
        from lanxfer.service import default_inbox
        from lanxfer.state import default_state

        inbox, state = inbox or default_inbox(), state or default_state()
    else:
        inbox = inbox or "/var/lib/lanxfer/inbox"
        state = state or "/var/lib/lanxfer/state"
    return os.path.abspath(inbox), os.path.abspath(state)


def _for_manager(choices: Choices, name: str, text: str, activated: bool, install: bool) -> int:
    """Print a unit of the user's own, or write it; and say what comes next."""
    out = Output(choices.json, choices.quiet)
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    folder = os.path.join(home, "systemd", "user")
    path = os.path.join(folder, name)
    if install:
        try:
            os.makedirs(folder, exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise BadConfig(f"{path} cannot be written: {error.strerror}.") from None
        out.row({"installed": path})
        out.done(f"{path} is written.")
        out.say("Next:")
    else:
        click.echo(text, nl=False)
        out.say(f"This belongs into {path}; --install writes it there. Then:")
    started = "lanxfer.socket" if activated else name
    for line in (
        "systemctl --user daemon-reload",
        f"systemctl --user enable --now {started}",
        "loginctl enable-linger     (to have it run while you are not logged in)",
    ):
        out.say(f"    {line}")
    return 0


def _own_name() -> str:
    """The user who asks; "" for root, who should not be the service's user."""
    import getpass

    return "" if os.geteuid() == 0 else getpass.getuser()


COMMANDS = (unit,)
