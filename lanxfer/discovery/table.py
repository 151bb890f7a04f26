"""The devices that are seen just now: where they say that they are, and who of ours that would be.

All of it is hearsay.  It changes nothing that is stored, and nobody is
connected to because of it: whoever looks for a device gets addresses to try, and
the key that is shown there decides (security design, section 9).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from attrs import frozen

from lanxfer.discovery.tags import match_tag
from lanxfer.errors import BadState
from lanxfer.peers import format_address

SEEN_MAX = 256
ADDRESSES_MAX = 8


@frozen
class Seen:
    """A device that announces itself.

    ``key`` is that of the known device whose tag this is, or None.  With
    ``pairing`` it says that it shows words just now.
    """

    tag: str
    addresses: tuple[str, ...]
    key: str | None = None
    pairing: bool = False


class Table:
    """At most ``SEEN_MAX`` of them; known devices stay, of others the oldest goes.

    For any thread.
    """

    def __init__(self, keys: Callable[[], Iterable[str]]) -> None:
        self._keys = keys
        self._seen: dict[str, Seen] = {}
        self._guard = threading.Lock()

    def put(self, tag: str, hosts: Iterable[str], port: int, pairing: bool) -> Seen | None:
        """Somebody is there; None where there is no more room."""
        addresses = tuple(format_address(host, port) for host in hosts)[:ADDRESSES_MAX]
        try:
            key = match_tag(tag, self._keys())
        except BadState:
            key = None  # nobody is known while the file is damaged
        seen = Seen(tag, addresses, key, pairing)
        with self._guard:
            if tag not in self._seen and len(self._seen) >= SEEN_MAX:
                oldest = next((each for each in self._seen.values() if each.key is None), None)
                if oldest is None:
                    return None
                del self._seen[oldest.tag]
            self._seen[tag] = seen
        return seen

    def drop(self, tag: str) -> None:
        """It is gone."""
        with self._guard:
            self._seen.pop(tag, None)

    def all(self) -> list[Seen]:
        """Those that are there, in the order in which they came."""
        with self._guard:
            return list(self._seen.values())

    def addresses(self, key: str) -> list[str]:
        """Where the device with this key may be, the newest word first."""
        # It may have become known after it was seen.
        found = [each for each in reversed(self.all()) if match_tag(each.tag, [key])]
        return list(dict.fromkeys(address for each in found for address in each.addresses))
