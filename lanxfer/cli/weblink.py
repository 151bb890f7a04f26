"""What ``lanxfer web`` does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from io import StringIO
from typing import TYPE_CHECKING, Any

from lanxfer.cli.output import Output, count
from lanxfer.errors import BadConfig, Exit, UnknownCommand

if TYPE_CHECKING:
    from lanxfer.cli.brief import Brief


def _ask(here: Brief, name: str, args: dict[str, Any]) -> Mapping[str, Any]:
    with here.service() as service:
        try:
            found: Mapping[str, Any] = service.ask(name, args).args
        except UnknownCommand:
            raise BadConfig("That service has no page; start it with --web.") from None
    return found


def link(here: Brief, guest: bool, name: str | None) -> int:
    """Print a new link."""
    args: dict[str, Any] = {"guest": guest}
    if name is not None:
        args["label"] = name
    show_link(here.out, _ask(here, "web.link", args))
    return int(Exit.OK)


def say(here: Brief, text: str, to: str | None) -> int:
    """Show a text on open pages."""
    args = {"text": text} if to is None else {"text": text, "label": to}
    found = _ask(here, "web.say", args)
    here.out.row(dict(found))
    here.out.done(f"Shown on {count(found['pages'], 'page')}")
    return int(Exit.OK)


def end(here: Brief) -> int:
    """Sign everybody out."""
    found = _ask(here, "web.end", {})
    here.out.row(dict(found))
    here.out.done(f"Signed out {count(found['ended'], 'browser')}")
    return int(Exit.OK)


def show_link(out: Output, found: Mapping[str, Any]) -> None:
    """A link, its QR code where a terminal looks, and how the page is known to be the right one."""
    out.row({"web": dict(found)})
    whom = f"for a guest, {found['label']}" if found["guest"] else "for you"
    out.done(f"The page, {whom}; this link works once, within ten minutes:\n")
    for each in found["links"]:
        out.line(f"    {each}")
    if sys.stdout is not None and sys.stdout.isatty() and not out.json:
        out.line("\n" + _code(found["links"][0]))
    print_of = found["fingerprint"]
    out.done(
        "\nThe browser warns once, since nobody vouches for this device's certificate. It is the"
        f" right one\nif its SHA-256 fingerprint is\n    {print_of[:47]}\n    {print_of[48:]}"
    )


def _code(link: str) -> str:
    import segno

    drawn = StringIO()
    segno.make(link, error="l", micro=False).terminal(drawn, border=2, compact=True)
    return drawn.getvalue()
