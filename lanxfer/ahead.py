"""Entries read before they are sent: a batch at a time, those that go together in one.

A thread reads while what was read before is on its way (``lanxfer.trees``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from json.encoder import encode_basestring_ascii as _as_json

from lanxfer.errors import BadName, LanxferError, SourceChanged, TooLarge
from lanxfer.offering import Loaded, at_once, load_units
from lanxfer.showing import quoted
from lanxfer.transfers import Entry
from lanxfer.wire import limits
from lanxfer.wire.native import is_whole

ENOUGH = limits.MIB
"""Bytes of small files that go together, however slow it goes."""

PLENTY = 4 * ENOUGH
"""The same where more may: most folders are smaller, and one that comes with all of its files is
less work for its receiver."""

EACH = 4 * limits.KIB
"""Bytes that take as long as a file does besides its own: a batch has less of them where its files
are small, for while it is on its way the next one is read.  As many files as there are of these
in ``PLENTY`` are no more than one request may have (``limits.PACK_FILES``)."""

FIRST = ENOUGH // 8
"""Bytes of the first batch where its receiver is soon to have something to do."""

_FULL = 0.6
"""How full a batch is that the next folder is not to begin in."""

LARGE_AT_ONCE = 2
"""Files that go by themselves, in parts; so many of them are in one batch, ..."""
LARGE_AMONG = 8
"""... or so many where there are small ones as well."""

TRIES = 2
"""So often a file goes with others, before it goes by itself."""

IN_VAIN = 3
"""Larger files that were there already after which the next ones ask before they travel."""

LINE = 120
"""Bytes that a line of a manifest takes, at most, besides the path."""


class Ahead:
    """Entries as they are sent: by the batch, files of at most ``most`` bytes with those.

    What has them in a batch goes together.  It is no more than ``most``, and of small files no
    more than is ``enough``, of which each file takes ``EACH`` besides.  Of larger ones there are
    few in a batch, so that it soon tells when there may be more, and more of them where small
    ones are between.  Where they ``ask`` first they do not go together.

    ``take`` gives memory for the larger ones.  The ``first`` batch may have less, and each next
    one then twice as much as that before it, until it is enough.
    """

    def __init__(
        self,
        entries: Iterator[Entry],
        take: Callable[[], bytearray],
        most: int = ENOUGH,
        ask: bool = False,
        first: int = PLENTY,
        enough: int = PLENTY,
    ) -> None:
        self.entries = entries
        self.take = take
        self.most = most
        self.ask = self._always = ask
        self._enough = enough
        self._growing = first
        self._in_vain = 0
        self._over: list[Loaded] = []
        self._again: deque[Entry] = deque()
        self._tries: dict[str, int] = {}
        self._unsure: set[str] = set()

    def came(self, arrived: Iterable[tuple[Entry, bool]]) -> None:
        """Note what arrived together, and whether it was there: where larger ones were, the next
        ones ask first, or no longer."""
        larger = [already for entry, already in arrived if entry.size > limits.INLINE_MAX]
        if not larger:
            return
        found = self._in_vain + 2 * sum(larger) - len(larger)
        self._in_vain = max(0, min(found, IN_VAIN))
        if self._in_vain in (0, IN_VAIN):
            self.ask = self._always or self._in_vain == IN_VAIN

    def measured(self, size: int, seconds: float) -> None:
        """So much arrived in that time, which tells how much may go at once.

        More than ``ENOUGH`` only where it went fast.  Where it is slower than before it may be
        that a disk was busy for once.
        """
        if size >= limits.INLINE_MAX:
            self.most = max(at_once(size / max(seconds, 0.001)), self.most // 2, ENOUGH)

    def again(self, loaded: Loaded, alone: bool = False) -> None:
        """Have it read once more: all that it was sent with was refused, or is lost.

        Where it was refused ``alone``, and the second time, it goes by itself.  One that is
        ``unsure`` stays so.
        """
        entry = loaded.entry
        self._tries[entry.path] = TRIES if alone else self._tries.get(entry.path, 0) + 1
        if loaded.unsure:
            self._unsure.add(entry.path)
        self._again.append(entry)

    def left(self) -> Iterator[Entry]:
        """What was not in a batch yet, for whoever goes on in another way."""
        again, over = [*self._again], [each.entry for each in self._over]
        return chain(over, again, self.entries)

    def more(self) -> bool:
        """Whether there is something to be read once more."""
        return bool(self._again)

    def read(self) -> list[Loaded]:
        """The next batch, empty at the end; blocks.

        A file that would make it more than one pack begins the next one: by itself it would
        cost as much as ten of them.
        """
        batch, self._over = self._over, []
        lines, large, most = sum(map(_line, batch)), 0, self.most
        size = lines + sum(each.size for each in batch)
        weight, heaviest = size + EACH * len(batch), self._enough
        enough = min(most, heaviest, self._growing)
        self._growing = min(2 * self._growing, heaviest)
        while (
            size < enough and weight < heaviest and large < (LARGE_AMONG if size else LARGE_AT_ONCE)
        ):
            entry = self._again.popleft() if self._again else next(self.entries, None)
            if entry is None:
                break
            loaded = self._load(entry)
            if self._unsure:
                loaded.unsure = entry.path in self._unsure
            line, length = _line(loaded), loaded.size
            lines += line
            size += line + length
            weight += line + length + EACH
            if length > limits.INLINE_MAX:
                full = size > most
            elif loaded.folder:
                full = size > enough * _FULL or weight > heaviest * _FULL
            else:
                full = size > enough or weight > heaviest
            if batch and (full or lines > limits.MANIFEST_MAX):
                self._over.append(loaded)
                break
            batch.append(loaded)
            large += entry.size > limits.INLINE_MAX and not loaded.whole
        return batch

    def together(self, batch: Sequence[Loaded], folders: bool = False) -> list[Loaded]:
        """The files of a batch that fit into one request, and where it may have ``folders`` those.

        For a small one alone there is another request; and packs go to the inbox only.
        """
        pack = [
            each
            for each in batch
            if (each.whole or (folders and each.folder)) and not each.entry.shared
        ]
        if self._tries:
            pack = [each for each in pack if self._tries.get(each.entry.path, 0) < TRIES]
        alone = len(pack) == 1 and pack[0].size <= limits.INLINE_MAX
        return [] if alone else pack

    def _goes_alone(self, entry: Entry) -> bool:
        return self.ask or entry.shared or self._tries.get(entry.path, 0) >= TRIES

    def _load(self, entry: Entry) -> Loaded:
        most = limits.INLINE_MAX
        if entry.size > most and not self._goes_alone(entry):
            most = max(self.most - LINE - len(_as_json(entry.path)), most)
        try:
            if entry.error is None and not is_whole(entry.path):
                raise BadName(f"The name {quoted(entry.path)} is not UTF-8; rename it first.")
            return load_units(entry, most, self.take)
        except LanxferError as error:
            large = entry.size > limits.INLINE_MAX and isinstance(error, SourceChanged)
            if large or isinstance(error, TooLarge):  # it has grown
                return Loaded(entry)  # as it is when it goes, and that is tried more than once
            return Loaded(Entry(entry.kind, entry.path, entry.local, 0, None, error=error))


def _line(loaded: Loaded) -> int:
    """Bytes of its line in the manifest, at most."""
    in_line = loaded.whole or loaded.folder
    return len(_as_json(loaded.entry.path)) + LINE if in_line else 0
