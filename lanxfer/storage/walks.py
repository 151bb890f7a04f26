"""What there is to send below the files and folders that were named.

Everything comes out, also what cannot be sent, with the reason: a sender that
leaves something out has to say so.  Links are never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from operator import attrgetter
from unicodedata import normalize

from lanxfer.errors import BadName
from lanxfer.showing import quoted, shown
from lanxfer.storage.system import FOLDER_FLAGS, unreadable
from lanxfer.transfers import Entry, Kind

_PATH = attrgetter("path")

_OTHERS = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def walk(paths: Sequence[str], *, links: bool = False) -> Iterator[Entry]:
    """Every file, folder and link below ``paths``, lazily; a folder before what is in it, sorted.

    Wire paths begin with the base name of what was named.  ``links`` gives
    symbolic links as such, else they are skipped, or are an error where one
    was named itself.  How many there may be is for the receiver to say.
    """
    taken: set[str] = set()
    for argument in paths:
        # A stack of our own: how deep folders go is not for the interpreter to limit.
        pending = [_named(argument, links, taken)]
        while pending:
            entry = pending.pop()
            below: list[Entry] = []
            if entry.kind is Kind.FOLDER and entry.error is None:
                try:
                    below = _below(entry, links)
                except (OSError, ValueError) as error:
                    entry = entry._replace(error=unreadable(entry.local, error))
            yield entry
            pending += reversed(below)


def _named(argument: str, links: bool, taken: set[str]) -> Entry:
    """The entry of something that was named; ``taken`` are the names there are at that level."""
    local = argument
    if argument and os.path.basename(argument) in {"", os.curdir, os.pardir}:
        # A folder that was named by where it lies; a slash at the end follows a link.
        local = os.path.realpath(argument)
    name = os.path.basename(local)
    try:
        entry = _entry("", name, local, os.lstat(local), links)
    except (OSError, ValueError) as error:
        return Entry(Kind.FILE, shown(name), local, error=unreadable(argument, error))
    if not name:
        return entry._replace(error=BadName(f"{quoted(local)} has no name; name what is in it."))
    if entry.skipped:
        # What is passed by in a folder was asked for here.
        number = errno.ELOOP if entry.kind is Kind.LINK else errno.ENXIO
        return entry._replace(skipped="", error=unreadable(argument, OSError(number, "")))
    return _first(entry, name, taken)


def _first(entry: Entry, name: str, taken: set[str]) -> Entry:
    """The entry, with an error where something of that name was ``taken`` before it.

    Receivers make names NFC: what differs in its Unicode form alone is one name there.
    """
    known = normalize("NFC", name)
    if known in taken:
        error = BadName(f"Two things would be named {quoted(name)} there; rename one of them.")
        return entry._replace(error=error)
    taken.add(known)
    return entry


def _below(folder: Entry, links: bool) -> list[Entry]:
    """What is in a folder, sorted by name."""
    fd: int | None = None
    if os.scandir in os.supports_fd:
        # The open folder, not its path: a link may have taken its place by now.
        fd = os.open(folder.local, FOLDER_FLAGS)
    odd = False
    try:
        found: list[Entry] = []
        above, here = f"{folder.path}/", os.path.join(folder.local, "")
        with os.scandir(folder.local if fd is None else fd) as children:
            for child in children:
                name = child.name
                odd = odd or not name.isascii()
                local = here + name
                try:
                    facts = child.stat(follow_symlinks=False)
                    entry = _entry(above, name, local, facts, links, fd)
                except OSError as error:
                    why = unreadable(local, error)
                    entry = Entry(Kind.FILE, above + shown(name), local, error=why)
                found.append(entry)
    finally:
        if fd is not None:
            os.close(fd)
    found.sort(key=_PATH)
    if not odd:
        return found
    taken: set[str] = set()
    return [
        each
        if each.skipped or each.error is not None
        else _first(each, each.path[len(above) :], taken)
        for each in found
    ]


def _entry(
    above: str,
    name: str,
    local: str,
    facts: os.stat_result,
    links: bool,
    fd: int | None = None,
) -> Entry:
    """What lies at a name; ``above`` is the wire path before it, ``fd`` the open folder."""
    path = above + name
    mode = facts.st_mode
    kind = stat.S_IFMT(mode)
    if not (name.isascii() or _is_text(name)):
        error = BadName(f"The name {quoted(name)} is not UTF-8; rename it first.")
        return Entry(Kind.FILE, above + shown(name), local, error=error)
    if kind == stat.S_IFDIR:
        return Entry(Kind.FOLDER, path, local, mtime_ns=facts.st_mtime_ns)
    if kind == stat.S_IFREG:
        executable = bool(mode & stat.S_IXUSR)
        return Entry(Kind.FILE, path, local, facts.st_size, facts.st_mtime_ns, None, executable)
    if kind != stat.S_IFLNK:
        return Entry(Kind.FILE, path, local, skipped=_OTHERS.get(kind, "not a file"))
    if not links:
        return Entry(Kind.LINK, path, local, skipped="symbolic link")
    target = os.readlink(local) if fd is None else os.readlink(name, dir_fd=fd)
    if not _is_text(target):
        error = BadName(f"The link {quoted(name)} points to a name that is not UTF-8.")
        return Entry(Kind.LINK, path, local, error=error)
    return Entry(Kind.LINK, path, local, mtime_ns=facts.st_mtime_ns, target=target)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
