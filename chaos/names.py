"""``python -m chaos names``: names meant to harm; what is made is what was shown (F17, P01-P07).

Each name goes the way of a file that a peer sends: it is refused with a
sentence and a code, or a file of exactly that name is on the disk afterwards,
below the inbox, and what people are shown leads back to it, letter by letter.
The disk is listed after each batch, so a file that nobody was told of shows.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import click
from blake3 import blake3

from chaos.figures import Figures
from lanxfer.errors import BadName, LanxferError
from lanxfer.storage import Small
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import SafePath, from_ae, safe_path, shown
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits

STAGING = ".lanxfer-staging"
MEMORY = "/dev/shm"
"""Where a file costs least; which file system it is does not matter to a name."""

PIECES = (
    *("a", "b", "x.txt", "Camera", "caf\u00e9", "cafe\u0301", "\u65e5\u672c", "\U0001f600\ufe0f"),
    *("..", ".", "...", "~", "-rf", "$(id)", "`id`", "a;b", "%s{}", "{0.__class__}", "*", "?"),
    *("/", "//", "\\", ":", "C:", "\\\\srv\\share", "x:stream", "\u2215", "\u2044", "\uff0f"),
    *("\x00", "\n", "\r\n", "\t", "\x1b[2J", "\x9b31m", "\x7f", "\x85", "\u2028", "\u2029"),
    *("\u202e", "\u2066", "\u2069", "\u200e", "\u061c", "\u200b", "\u2060", "\ufeff", "\u00ad"),
    *("\u3164", "\u115f", "\U000e0041", "\ufe0f", "\u0301", "\u0338", "\ue000", "\U0010ffff"),
    *("\ud800", "\udfff", "\udc80", "\uff0e\uff0e", "\u2024\u2024", "\u212a", "\u017f", "\u0130"),
    *("con", "NUL", "aux ", "COM1", "com\u00b9", "LPT9", "conin$", ".bashrc", "desktop.ini"),
    *(STAGING, ".LANXFER", "AutoRun.inf", " ", ".", "a ", " a", "name (2)", "<img src=x>", '"'),
    *("{doc}", "{documents}/", "{home}", "{{", "}}", "&", "'", "|", "\ufb01", "\u0149"),
)
"""What hostile names are put together from."""

GOOD = 8
"""So many of them, the first, are harmless; among these the others have their chance."""

EDGES = (1, 84, 85, 127, 128, 254, 255, 256)

_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(\\))")


def unshown(text: str) -> str:
    """The name that ``shown`` showed."""

    def character(found: re.Match[str]) -> str:
        digits = found[1] or found[2] or found[3]
        return chr(int(digits, 16)) if digits else "\\"

    return _ESCAPED.sub(character, text)


def hostile(random: random.Random) -> str:
    """One path as nobody means it well."""
    turn = random.random()
    if turn < 0.1:  # lengths around the limits, in bytes of one to four
        letter = random.choice(("a", "\u00e9", "\u20ac", "\U0001f600"))
        return "/".join(letter * random.choice(EDGES) for _ in range(random.choice((1, 2, 9, 33))))
    if turn < 0.2:  # any characters at all
        return "".join(chr(random.randrange(0x110000)) for _ in range(random.randint(0, 6)))
    kinds = [random.choice((PIECES, PIECES[:GOOD])) for _ in range(random.randint(1, 4))]
    pieces = [random.choice(kind) for kind in kinds]
    text = random.choice(("", "", "/", "a")).join(pieces)
    if turn < 0.25:
        text = normalize(random.choice(("NFD", "NFKC", "NFC")), text)
    return text.upper() if turn > 0.95 else text


def wanted(text: str, ae: bool, dotfiles: bool) -> SafePath | LanxferError:
    """What the receiver makes of a name."""
    try:
        return (from_ae if ae else safe_path)(text, dotfiles=dotfiles)
    except LanxferError as error:
        return error


class Trial:
    """Stores batches of names in one folder, and knows what is wrong with what it finds."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.inbox = top / "inbox"
        self.store = LocalStore(str(self.inbox), reserve_bytes=0, reserve_share=0.0, dotfiles=True)
        self.count: Counter[str] = Counter()
        self.wrong: list[str] = []

    def batch(self, texts: list[tuple[str, bool, bool]]) -> None:
        """Offer these names, and compare the disk with what was said about them."""
        paths: list[SafePath] = []
        for text, ae, dotfiles in texts:
            path = wanted(text, ae, dotfiles)
            if isinstance(path, SafePath):
                self._compare(text, ae, path)
                paths.append(path)
            else:
                self._refused(text, path)
        answers = self.store.put_many([_small(path) for path in paths])
        said = set()
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, Stored):
                self.count["stored"] += 1
                said.add(unshown(shown(answer.path, 8 * limits.PATH_MAX)))
                self._check(answer.path == str(path), f"{path!r} was stored as {answer.path!r}")
            else:
                self._refused(str(path), answer)
        self._look(said)

    def _compare(self, text: str, ae: bool, path: SafePath) -> None:
        line = shown(str(path), 8 * limits.PATH_MAX)
        self._check(
            line.isprintable() and unshown(line) == str(path), f"{path!r} shows as {line!r}"
        )
        # A name is refused, never repaired; normal form is all that may change it.
        self._check(ae or str(path) == normalize("NFC", text), f"{text!r} became {path!r}")

    def _refused(self, text: str, error: LanxferError) -> None:
        self.count[error.code] += 1
        self._check(type(error) is not LanxferError, f"{text!r}: {error!r} has no type")
        plain = error.reason.isprintable() and len(error.reason.encode()) <= 512
        self._check(plain, f"{text!r} is refused with {error.reason!r}")

    def _look(self, said: set[str]) -> None:
        found = set()
        for folder, folders, files in os.walk(self.inbox):
            inside = os.path.relpath(folder, self.inbox)
            if inside == ".":
                folders.remove(STAGING)
            found |= {os.path.normpath(os.path.join(inside, name)) for name in files}
        self._check(found == said, f"there is {found ^ said}")
        self._check(os.listdir(self.top) == ["inbox"], "something is beside the inbox")
        staged = [each for each in os.listdir(self.inbox / STAGING) if each != "lock"]
        self._check(staged == [], f"{staged} is left in the staging folder")
        for each in os.scandir(self.inbox):
            if each.name != STAGING:
                shutil.rmtree(each.path) if each.is_dir() else os.unlink(each.path)

    def _check(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(what)


def _small(path: SafePath) -> Small:
    data = str(path).encode()[:40]
    offer = Offer(str(path), len(data), digest=blake3(data).hexdigest())
    return Small("peer", offer, path, Conflict.REFUSE, [data])


def run(
    count: int, seed: int, folder: Path, tell: Callable[[int], object] = lambda done: None
) -> Trial:
    """Try so many names below a folder that is empty."""
    chosen, trial = random.Random(seed), Trial(folder)
    try:
        done = 0
        while done < count and len(trial.wrong) < 20:
            size = min(limits.BATCH_FILES, count - done)
            # The ae dialect keeps the last component of a path of the peer's own.
            trial.batch(
                [
                    (hostile(chosen), chosen.random() < 0.2, chosen.random() < 0.5)
                    for _ in range(size)
                ]
            )
            done += size
            tell(done)
    finally:
        trial.store.close()
    return trial


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=lambda: random.SystemRandom().randrange(2**32))
def command(count: int, seed: int) -> None:
    """Send files under hostile names and compare what is made with what is shown."""
    figures = Figures(seed=seed)
    place = MEMORY if os.path.isdir(MEMORY) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        trial = run(count, seed, Path(folder), lambda done: figures.tell(done, count, "names"))
    for each in trial.wrong:
        print(each.encode("ascii", "backslashreplace").decode())
    figures.add("names", sum(trial.count.values()), least=count)
    figures.add("stored", trial.count["stored"], least=count // 20)
    figures.add("refused", trial.count[BadName.code], least=count // 20)
    figures.add("wrong", len(trial.wrong), most=0)
    figures.finish()
