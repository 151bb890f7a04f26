"""What a peer wrote becoming a name that the disk may see, and names made from it.

A ``SafePath`` checks itself, so there is no way round the rules: whatever
holds one may use its components with a folder descriptor and nothing else.
Names are refused, never repaired, because a repaired name is one the sender
did not offer and the user did not see.  The one exception is the ae dialect,
whose peers send paths of their own disk (``from_ae``).

The rules are the same on every system, because files travel on: what Linux
keeps under ``aux.txt`` or ``a:b`` is lost on the next Windows device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _as_json
from unicodedata import is_normalized, normalize

from attrs import Attribute, field, frozen
from blake3 import blake3

from lanxfer.errors import BadName
from lanxfer.showing import INVISIBLE
from lanxfer.showing import quoted as quoted
from lanxfer.showing import shown as shown
from lanxfer.wire import limits

RESERVED = ".lanxfer"
"""How names of our own in a receiving folder begin; no peer gets at them in any setting."""

_SEPARATOR = re.compile(r"[/\\:]")

_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|\Z)",
    re.IGNORECASE,
)

# Files that a desktop obeys when it merely looks into a folder.
_OBEYED = {"autorun.inf", "desktop.ini"}

# What the folders of ae peers are called here; all others fall away.
_AE_FOLDERS = {
    "doc": "Documents",
    "documents": "Documents",
    "music": "Music",
    "pictures": "Pictures",
    "videos": "Videos",
    "downloads": "",
    "cwd": "",
}
_AE_START = re.compile(r"\{([a-z_]+)\}(?=/|\Z)")

# An extension longer than this is part of the name; nothing is gained by keeping it whole.
_EXTENSION_MAX = 100


_ORDINARY = re.compile(
    r"(?!(?i:con|prn|aux|nul|clock|com|lpt|autorun|desktop))"
    r"[0-9A-Za-z_](?:[0-9A-Za-z_. -]{0,100}[0-9A-Za-z_-])?"
)
"""What most names look like: no rule below is against one of these, and none is hidden."""


@lru_cache(1024)
def _refuse_component(part: str) -> None:
    """Raise BadName unless this may be one component of a path, dot files included."""
    if not part:
        raise BadName("The path has an empty component (a slash too many, or no name).")
    if part in {".", ".."}:
        raise BadName(f'A path may not contain "{part}".')
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        raise BadName(f"The name {quoted(part)} is no text (a lone surrogate).") from None
    if size > limits.COMPONENT_MAX:
        raise BadName(
            f"The name {quoted(part)} has {size} bytes; {limits.COMPONENT_MAX} are allowed."
        )
    if INVISIBLE.search(part):
        raise BadName(f"The name {quoted(part)} contains a control or invisible character.")
    if found := _SEPARATOR.search(part):
        raise BadName(f'The name {quoted(part)} contains "{found[0]}".')
    if part[-1] in " .":
        raise BadName(f"The name {quoted(part)} ends in a dot or a blank.")
    if _DEVICE.match(part):
        raise BadName(f"The name {quoted(part)} belongs to a device on Windows.")
    if part.casefold().startswith(RESERVED):
        raise BadName(f"The name {quoted(part)} is reserved for lanxfer itself.")
    if not is_normalized("NFC", part):
        raise BadName(f"The name {quoted(part)} is not in normal form NFC.")


_new, _assign = object.__new__, object.__setattr__


def _refuse_parts(_: object, __: Attribute[tuple[str, ...]], parts: tuple[str, ...]) -> None:
    if not parts:
        raise BadName("The path is empty.")
    if len(parts) > limits.DEPTH_MAX:
        raise BadName(f"The path is {len(parts)} levels deep; {limits.DEPTH_MAX} are allowed.")
    for part in parts:
        _refuse_component(part)


@frozen
class SafePath:
    """A relative path of which every component may be used below the receiving folder.

    Made by ``safe_path`` and ``from_ae``; a bad component raises BadName here.
    """

    parts: tuple[str, ...] = field(validator=_refuse_parts)
    hidden: bool = field(init=False, repr=False, eq=False)
    """Whether a component is a dot file or one that desktops obey."""
    text: str = field(init=False, repr=False, eq=False)
    """All of it, as ``str`` gives it too."""

    @hidden.default
    def _is_hidden(self) -> bool:
        return any(map(is_hidden, self.parts))

    @text.default
    def _as_text(self) -> str:
        return "/".join(self.parts)

    def _with(self, name: str, text: str) -> SafePath:
        """What is called so below it, without another look: for names that are ordinary.

        There are folders with thousands of them.  ``text`` is all of it.
        """
        path = _new(SafePath)
        _assign(path, "parts", (*self.parts, name))
        _assign(path, "hidden", self.hidden)
        _assign(path, "text", text)
        return path

    @property
    def name(self) -> str:
        """The last component."""
        return self.parts[-1]

    @property
    def parent(self) -> tuple[str, ...]:
        """The components before the last."""
        return self.parts[:-1]

    def __str__(self) -> str:
        return self.text


def is_hidden(name: str) -> bool:
    """Whether it is the name of a dot file, or one that desktops obey."""
    return name[:1] == "." or name.casefold() in _OBEYED


def safe_path(text: str, *, dotfiles: bool = False) -> SafePath:
    """The path a peer wrote, with ``/`` between components; BadName says what is wrong with it.

    ``dotfiles`` admits names that begin with a dot, and the few others that
    are not only read but obeyed.  Normal form is NFC, made once and first;
    NFKC never, since it makes slashes and dots out of harmless characters.
    """
    folder, _, name = text.rpartition("/")
    if folder and _ORDINARY.fullmatch(name) and folder.isascii() and len(text) <= limits.PATH_MAX:
        above = _folder(folder)
        path = above._with(name, text) if len(above.parts) < limits.DEPTH_MAX else _looked_at(text)
    else:
        path = _looked_at(text)
    return _visible(path, text, dotfiles)


def safe_paths(texts: Iterable[str], *, dotfiles: bool = False) -> list[SafePath | BadName]:
    """``safe_path`` of each, or why it is none: for many, one folder after the other."""
    found: list[SafePath | BadName] = []
    ordinary, last, above = _ORDINARY.fullmatch, "", None
    for text in texts:
        folder, _, name = text.rpartition("/")
        if folder != last:
            last, above = folder, _for_many(folder, dotfiles)
        if above is not None and ordinary(name) and len(text) <= limits.PATH_MAX:
            found.append(above._with(name, text))
            continue
        try:
            found.append(safe_path(text, dotfiles=dotfiles))
        except BadName as error:
            found.append(error)
    return found


def _for_many(folder: str, dotfiles: bool) -> SafePath | None:
    """That folder, if anything with an ordinary name may be in it."""
    if not (folder and folder.isascii()):
        return None
    try:
        above = _folder(folder)
    except BadName:
        return None
    right = len(above.parts) < limits.DEPTH_MAX and (dotfiles or not above.hidden)
    return above if right else None


def _visible(path: SafePath, text: str, dotfiles: bool) -> SafePath:
    if path.hidden and not dotfiles:
        raise BadName(f"Hidden files such as {quoted(text)} are not taken here.")
    return path


def _looked_at(text: str) -> SafePath:
    # Normal form takes time and space in proportion; no valid path is this long in any form.
    if len(text) > 4 * limits.PATH_MAX:
        raise BadName(f"The path is too long; {limits.PATH_MAX} bytes are allowed.")
    if not text.isascii():
        text = normalize("NFC", text)
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > limits.PATH_MAX:
        raise BadName(f"The path has {size} bytes; {limits.PATH_MAX} are allowed.")
    if not text:
        raise BadName("The path is empty.")
    if text[0] == "/":
        raise BadName(f"The path {quoted(text)} is absolute.")
    return SafePath(tuple(text.split("/")))


_folder = lru_cache(256)(_looked_at)


def from_ae(file_path: str, *, dotfiles: bool = False) -> SafePath:
    """What the ``file_path`` of an ae peer becomes here.

    Such a peer names a file on its own disk, so only the last component
    counts, below a folder of ours if the path begins with a placeholder for
    one.  A backslash is a slash, as for those peers; ``..`` anywhere is BadName.
    No format machinery sees the text: doubled braces become single ones.
    """
    if len(file_path) > 4 * limits.PATH_MAX:
        raise BadName(f"The path is too long; {limits.PATH_MAX} bytes are allowed.")
    plain = file_path.replace("\\", "/").rstrip("/")
    folders, _, name = plain.rpartition("/")
    if ".." in plain.split("/"):
        raise BadName('A path may not contain "..".')
    start = _AE_START.match(plain)
    known = _AE_FOLDERS.get(start[1]) if start else None
    if not name or name == "~" or (known is not None and not folders):
        raise BadName("The path names a folder, not a file.")
    name = name.replace("{{", "{").replace("}}", "}")
    return safe_path(f"{known}/{name}" if known else name, dotfiles=dotfiles)


def link_target(path: SafePath, target: str, *, dotfiles: bool = False) -> str:
    """What the link ``path`` may say so that it stays below the folder; BadName if it would not.

    ``..`` only at the beginning: behind a name, which may be a link itself, it
    does not lead back to where it seems to.  What is at the target, or will
    be, does not matter.
    """
    if len(target) > 4 * limits.PATH_MAX:
        raise BadName("The target of the link is too long.")
    if not target or target[0] == "/":
        raise BadName("The target of a link has to be a relative path.")
    steps = [step for step in target.split("/") if step not in {"", "."}]
    up = next((at for at, step in enumerate(steps) if step != ".."), len(steps))
    if up > len(path.parent):
        raise BadName(f"The target {quoted(target)} of the link leaves the folder.")
    down = safe_path("/".join(steps[up:]), dotfiles=dotfiles).parts if steps[up:] else ()
    return "/".join((*steps[:up], *down)) or "."


def part_key(principal: str, path: str, size: int, mtime_ns: int | None) -> str:
    """The name of a transfer's part file: 8 hex digits for whose it is, 24 for which.

    Equal keys are not equal contents; whoever resumes has to prove those.
    """
    # JSON in ASCII is unambiguous and takes any string, lone surrogates included.
    known, rest = _owner(principal)
    time = "null" if mtime_ns is None else mtime_ns
    identity = f"{rest}, {_as_json(path)}, {size}, {time}]"
    return known + blake3(identity.encode("ascii")).hexdigest(length=12)


@lru_cache
def _owner(principal: str) -> tuple[str, str]:
    """How all its keys begin, and how what they are made of does."""
    owner = blake3(principal.encode("utf-8", "surrogatepass")).hexdigest(length=4)
    return owner, f"[{_as_json(principal)}"


def whose(key: str) -> str:
    """What all keys of one principal begin with."""
    return key[:8]


def renamed(name: str, number: int) -> str:
    """``name (2).ext``: what a file is called when its name is taken."""
    return _with_suffix(name, f" ({number})")


def series_name(name: str, number: int) -> str:
    """``name 01.ext``: the numbered names of ae peers, two digits at least."""
    return _with_suffix(name, f" {number:02d}")


def _with_suffix(name: str, suffix: str) -> str:
    """Put ``suffix`` before the extension, shortening the stem to stay a valid component."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > _EXTENSION_MAX:
        stem, tail = name, ""
    else:
        tail = dot + extension
    room = limits.COMPONENT_MAX - len((suffix + tail).encode())
    # A cut inside a character drops it whole.
    return stem.encode()[:room].decode(errors="ignore") + suffix + tail
