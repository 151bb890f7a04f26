"""How much one principal may have under way, how often it may ask, and how much it has sent.

Nothing here waits and nothing touches a disk: a refusal costs next to nothing
(docs/permissions.rst, "Limits"; catalogue L06, L09, S08, S11).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from attrs import Factory, define, field

from lanxfer.errors import LanxferError, Overloaded, QuotaExceeded, RateLimited, TooLarge
from lanxfer.rights import Rate, Terms
from lanxfer.transfers import Snapshot, Together, Usage, used_by

IDLE_MAX = 4096
"""Buckets and counts that are kept; those unused for longest go first."""

_TRANSFERS = frozenset({"recv_file", "recv_files", "recv_message", "recv_slot", "read_file"})
_FREE = frozenset({"hello", "login", "ping", "list_files", "stat_file", "prove_file", *_TRANSFERS})
"""What the rate is not about: files and logins have limits of their own, a pong costs no more
than a refusal, and who fetches a folder looks at each thing in it."""


@define
class Bucket:
    """A token bucket: ``rate.burst`` at once, ``rate.per_second`` on average."""

    rate: Rate
    at: float
    tokens: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = float(self.rate.burst)

    def take(self, now: float) -> bool:
        """Whether there was one left; it is gone then.  A clock that goes back gives nothing."""
        gained = max(0.0, now - self.at) * self.rate.per_second
        self.tokens = min(float(self.rate.burst), self.tokens + gained)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def give_back(self) -> None:
        """It was not to count."""
        self.tokens = min(float(self.rate.burst), self.tokens + 1)


@define
class Buckets:
    """One bucket each for everybody; bounded, since names can be had for nothing."""

    clock: Callable[[], float]
    _buckets: OrderedDict[tuple[str, str], Bucket] = Factory(OrderedDict)

    def take(self, name: str, what: str, rate: Rate | None) -> bool:
        """Whether ``name`` may do ``what`` once more; with no rate it always may."""
        if rate is None:
            return True
        return self.of(name, what, rate).take(self.clock())

    def of(self, name: str, what: str, rate: Rate) -> Bucket:
        """The bucket itself, a new one where the rate was changed."""
        found = self._buckets.pop((name, what), None)
        if found is None or found.rate != rate:
            found = Bucket(rate, self.clock())
        self._buckets[name, what] = found
        if len(self._buckets) > IDLE_MAX:
            self._buckets.popitem(last=False)
        return found


@define
class _Claim:
    """What one transfer under way will come to."""

    name: str
    size: int


@define
class Allowances:
    """See the module; ``clock`` gives seconds that never go back, ``used`` what is known already.

    Names are those of principals.
    """

    clock: Callable[[], float]
    used: dict[str, Usage] = Factory(dict)
    _buckets: Buckets = field(init=False)
    _open: dict[tuple[str, bool], int] = Factory(dict)
    _claims: dict[str, _Claim] = Factory(dict)
    _entries: OrderedDict[tuple[str, str], int] = Factory(OrderedDict)

    def __attrs_post_init__(self) -> None:
        self._buckets = Buckets(self.clock)

    # Requests.

    def enter(self, name: str, command: str, terms: Terms) -> None:
        """One more request; ``leave`` takes it back.  RateLimited or Overloaded where not."""
        transfer = command in _TRANSFERS
        most = terms.transfers if transfer else terms.requests
        now_open = self._open.get((name, transfer), 0)
        if most is not None and now_open >= most:
            what = "transfers" if transfer else "requests"
            raise Overloaded(f"That device takes {most} {what} of one sender at a time.")
        if command not in _FREE and not self._buckets.take(name, "commands", terms.commands):
            raise RateLimited()
        self._open[name, transfer] = now_open + 1

    def leave(self, name: str, command: str) -> None:
        """What ``enter`` let in is over."""
        key = (name, command in _TRANSFERS)
        left = self._open.get(key, 0) - 1
        if left > 0:
            self._open[key] = left
        else:
            self._open.pop(key, None)

    def under_way(self, name: str) -> int:
        """Requests of that name that are not over, of both kinds."""
        return sum(self._open.get((name, transfer), 0) for transfer in (True, False))

    # Offers.

    def offered(self, name: str, group: str, terms: Terms) -> None:
        """One more file or folder; RateLimited, or TooLarge for a send of too many."""
        _, refusal = self.offered_together(name, group, terms, 1)
        if refusal is not None:
            raise refusal

    def offered_together(
        self, name: str, group: str, terms: Terms, count: int
    ) -> tuple[int, LanxferError | None]:
        """How many of ``count`` more may come, and what the others are refused with."""
        refusal: LanxferError | None = None
        rate, most = terms.new_offers, terms.entries
        if rate is not None:
            bucket, now = self._buckets.of(name, "offers", rate), self.clock()
            taken = next((at for at in range(count) if not bucket.take(now)), count)
            if taken < count:
                count = taken
                refusal = RateLimited("Too many files were offered in too short a time.")
        if group and most is not None:
            before = self._entries.pop((name, group), 0)
            if count > most - before:
                count = max(0, most - before)  # fewer may come than when it began
                refusal = TooLarge(
                    f"That device takes {most} files and folders of one send; send it in parts, or"
                    ' have its owner allow more ("lanxfer peer set NAME entries=any").'
                )
            self._entries[name, group] = before + count
            if len(self._entries) > IDLE_MAX:
                self._entries.popitem(last=False)
        return count, refusal

    def claim(self, name: str, id: str, size: int, terms: Terms) -> None:
        """Count a file that is coming until ``follow`` hears its end; QuotaExceeded where too much.

        What is under way counts as if it were here, so two that fit one by one
        do not both get the same room.
        """
        if not terms.counts:
            return
        used = self.used.get(name, Usage())
        coming = [each.size for each in self._claims.values() if each.name == name]
        if terms.files is not None and used.files + len(coming) + 1 > terms.files:
            raise QuotaExceeded(f"That device takes {terms.files} files from this sender in all.")
        if terms.quota is not None and used.bytes + sum(coming) + size > terms.quota:
            raise QuotaExceeded(
                f"That device takes {terms.quota} bytes from this sender in all;"
                f" {max(0, terms.quota - used.bytes)} are left."
            )
        self._claims[id] = _Claim(name, size)

    def follow(self, snapshots: Sequence[Snapshot]) -> None:
        """For a registry's listeners: what transfers come to in the end."""
        if self._claims:
            for each in snapshots:
                if each.state.finished:
                    self._claims.pop(each.id, None)
        ended = [snapshots] if isinstance(snapshots, Together) else snapshots
        for peer, more in used_by(ended).items():
            self.used[peer] = self.used.get(peer, Usage()).plus(more)

    def forget(self, name: str) -> None:
        """Count from nothing again."""
        self.used.pop(name, None)


def usage_rows(used: Mapping[str, Usage]) -> list[dict[str, int | str]]:
    """As plain values, most first."""
    order = sorted(used.items(), key=lambda each: (-each[1].bytes, each[0]))
    return [{"peer": name, "files": use.files, "bytes": use.bytes} for name, use in order]
