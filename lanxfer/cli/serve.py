"""``lanxfer serve``: the options of ``twistd lanxfer``, for the foreground."""

from __future__ import annotations

from typing import Any

import click

from lanxfer.cli.options import Choices, Speed, common

PORT = 36969
BUF_LEN = 262144
WEB_PORT = 36970


class _Port(click.ParamType):  # type: ignore[type-arg]  # generic in newer ones only
    name = "port"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        if value == "none":
            return None
        return int(click.INT.convert(value, param, ctx))


_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("-p", "--port"),
        {"type": _Port(), "default": PORT, "help": "TCP port; 0 takes a free one, none none."},
    ),
    (("-b", "--bind"), {"default": "", "help": "Address to listen on (default: all)."}),
    (
        ("-l", "--buf-len"),
        {"type": int, "default": BUF_LEN, "help": "Bytes taken from a socket at a time."},
    ),
    (("-i", "--inbox"), {"help": "Folder for what arrives (default: lanxfer in downloads)."}),
    (("-d", "--device"), {"help": "The name this device shows (default: the host name)."}),
    (
        ("--legacy",),
        {
            "type": click.Choice(["off", "receive", "full"]),
            "default": "off",
            "help": "Let ae devices in; they prove nothing.",
        },
    ),
    (
        ("--conflict",),
        {
            "type": click.Choice(["rename", "skip", "overwrite", "refuse", "series"]),
            "help": "What to do when a name is taken.",
        },
    ),
    (
        ("--tickets",),
        {
            "type": click.Choice(["tls", "plain"]),
            "default": "tls",
            "help": "Where tickets are taken: in TLS only, or in plain text, too.",
        },
    ),
    (
        ("--jobs",),
        {"metavar": "FILE", "help": "Run the jobs of this file at their times (docs/jobs.rst)."},
    ),
    (
        ("--token-file",),
        {"metavar": "FILE", "help": "A secret; devices that hold the same pair by it."},
    ),
    (
        ("--rate-in",),
        {"type": Speed(), "help": "Bytes a second received, of all together, such as 5M."},
    ),
    (("--rate-out",), {"type": Speed(), "help": "Bytes a second sent, of all together."}),
    (("--rate-in-each",), {"type": Speed(), "help": "The same of each connection."}),
    (("--rate-out-each",), {"type": Speed(), "help": "The same of each connection."}),
    (("--listen",), {"multiple": True, "metavar": "ENDPOINT", "help": "Another endpoint."}),
    (
        ("--legacy-from",),
        {"multiple": True, "metavar": "NETWORK", "help": "Where ae devices are let in from."},
    ),
    (
        ("--plain-from",),
        {"multiple": True, "metavar": "NETWORK", "help": "Where plain text is let in from."},
    ),
    (
        ("--share",),
        {
            "multiple": True,
            "metavar": "NAME=DIR[:ro|rw]",
            "help": "Folder or URL for known devices.",
        },
    ),
    (
        ("--limit",),
        {"multiple": True, "metavar": "NAME=N", "help": "A limit, such as strangers-max=64."},
    ),
    (
        ("--hook",),
        {"multiple": True, "metavar": "WHEN=WHAT", "help": "See docs/hooks.rst."},
    ),
    (
        ("--auth",),
        {"multiple": True, "metavar": "METHOD", "help": "Who may log in: file:PATH, unix ..."},
    ),
    (("--web",), {"is_flag": True, "help": "Have a page for browsers."}),
    (
        ("--web-port",),
        {"type": click.IntRange(0, 65535), "default": WEB_PORT, "help": "TCP port of the page."},
    ),
    (
        ("--web-bind",),
        {"default": "127.0.0.1", "help": "Address of the page; 0.0.0.0 for all."},
    ),
    (
        ("--web-name",),
        {"multiple": True, "metavar": "NAME", "help": "A name by which browsers know this device."},
    ),
    (
        ("--log-format",),
        {
            "type": click.Choice(["text", "json"]),
            "default": "text",
            "help": "Log to standard error as a JSON object a line.",
        },
    ),
    (
        ("--metrics-port",),
        {"type": click.IntRange(0, 65535), "help": "TCP port of the figures, for scrapers."},
    ),
    (("--metrics-bind",), {"default": "127.0.0.1", "help": "Address of the figures."}),
    (
        ("--stdio",),
        {"is_flag": True, "help": "Answer on standard input and output instead, to their owner."},
    ),
    (
        ("--accept-clear-body",),
        {"is_flag": True, "help": "Let known devices send files in clear that ask for it."},
    ),
    (("--open",), {"is_flag": True, "help": "Let devices that are not known offer things."}),
    (("--links",), {"is_flag": True, "help": "Take symbolic links that stay inside."}),
    (("--dotfiles",), {"is_flag": True, "help": "Take files whose names begin with a dot."}),
    (("--weak-storage",), {"is_flag": True, "help": "Serve a folder that is not quite safe."}),
    (
        ("--no-sandbox",),
        {"is_flag": True, "help": "Do not give up writing outside of inbox and state."},
    ),
    (
        ("--allow-root",),
        {"is_flag": True, "help": "Run as root, if LANXFER_ALLOW_ROOT=1 says so, too."},
    ),
)


def _options(command: Any) -> Any:
    for names, attributes in reversed(_OPTIONS):
        command = click.option(*names, **attributes)(command)
    return command


@click.command()
@_options
@common
@click.pass_obj
def serve(choices: Choices, /, **options: Any) -> int:
    """Receive files and messages, in the foreground, until Ctrl-C.

    The options are those of "twistd lanxfer".
    """
    from lanxfer.cli import serving
    from lanxfer.cli.running import run

    named = {name.replace("_", "-"): value for name, value in options.items()}
    named["state"] = choices.state
    work = serving.speak if named.pop("stdio") else serving.serve
    as_json = named["log-format"] == "json"
    return run(
        lambda here: work(here, named), choices, ending="Stopping", logs=True, as_json=as_json
    )


COMMANDS = (serve,)
