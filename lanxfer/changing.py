"""What a service can change while it runs, and how it does.

All that can go wrong is done first; what is then left cannot fail, so a change that
makes no sense changes nothing.  Connections keep what they were let in with, and
transfers what they were begun with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, evolve

from lanxfer.admission import Admission, Legacy
from lanxfer.config.table import TABLE
from lanxfer.deciding import Taking
from lanxfer.errors import BadConfig
from lanxfer.hooks.events import Hook, parse_hooks
from lanxfer.sandbox import may_write
from lanxfer.settings import Settings
from lanxfer.sharing import open_shares
from lanxfer.storage.local import LocalStore
from lanxfer.storage.shares import ShareSpec, folders_of, is_reached, parse_share
from lanxfer.storage.volumes import SharedFolder
from lanxfer.wire import limits

if TYPE_CHECKING:
    from lanxfer.running import Running

LIVE = frozenset(each.name for each in TABLE if each.live)
"""The fields of ``Settings`` that can change."""

_RATES = ("rate_in", "rate_out", "rate_in_each", "rate_out_each")


def keep_apart(settings: Settings) -> None:
    """Raise BadConfig where what arrives could land among key, rights and settings."""
    if is_reached(settings.state, settings.inbox, settings.dotfiles):
        raise BadConfig(
            "The inbox contains the state folder, in which this device's key and its settings"
            " are; name another with --inbox, or with --state."
        )


def taking_of(settings: Settings) -> Taking:
    """What a device takes, as far as its owner says so in settings."""
    return Taking(
        links=settings.links,
        dotfiles=settings.dotfiles,
        conflict=settings.conflict,
        legacy_folder=settings.legacy_folder,
        shares=tuple(folders_of(settings.shares)),
    )


def reserve_of(settings: Settings) -> dict[str, float | None]:
    """What is left free on the disk of each share."""
    return {"reserve_bytes": settings.reserve_bytes, "reserve_share": settings.reserve_share}


def opened_by(texts: Iterable[str], shares: Mapping[str, SharedFolder]) -> dict[str, SharedFolder]:
    """The shares by the ``--share`` options they were opened for."""
    named = [(text, parse_share(text)) for text in texts]
    return {text: shares[spec.name] for text, spec in named if spec is not None}


def follow_all(running: Running, settings: Settings) -> None:
    """Show an ae controller on this machine all transfers, where one is let in."""
    polled, registry = running.node.polled, running.registry
    if settings.legacy is not Legacy.FULL:
        while running.following:
            running.following.pop()()
    elif not running.following:
        running.following.append(registry.subscribe(partial(polled.follow, registry)))


@define(eq=False)
class Changing:
    """The changes of one running service.

    ``admission`` makes who is let in of settings.  ``hear`` is called when there are other
    hooks, ``tidied`` when there are other shares.
    """

    running: Running
    admission: Callable[[Settings], Admission]
    hear: Callable[[], None]
    tidied: Callable[[], None]

    async def change(
        self, before: Settings, changes: Mapping[str, Any], taken: Iterable[str]
    ) -> tuple[Settings, tuple[str, ...]]:
        """The settings that hold from now on, and the names of the fields that have to wait.

        ``taken`` are the names of shares that an application added.
        Raises BadConfig or BadState, and then nothing was changed.
        """
        evolve(before, **changes)  # what makes no sense is said, even where it has to wait
        hooks = parse_hooks(changes.get("hook", ()))
        # Folders are looked at, and one that hangs should keep nobody waiting.
        after, left = await self.running.reading.run(self._possible, before, changes, hooks)
        doing = changes.keys() - left
        admission = self.admission(after)
        new_limits = limits.parse(after.limits)
        shares = None
        if "shares" in doing:
            shares = await self.running.reading.run(self._open, after, frozenset(taken))
        # From here on nothing fails, once a process for the hooks could be made.
        if "hook" in doing:
            self.running.hooks.replace(hooks)
            self.hear()
        if shares is not None:
            self._share(after, shares)
        if "limits" in doing:
            self._limit(new_limits)
        self._take(before, after, admission)
        return after, tuple(left)

    def _possible(
        self, before: Settings, changes: Mapping[str, Any], hooks: Iterable[Hook]
    ) -> tuple[Settings, set[str]]:
        """What can be had, and what has to wait."""
        left = {name for name in changes if name not in LIVE}
        if "hook" in changes and not self._can_run(hooks):
            left.add("hook")
        if any(map(self._out_of_reach, changes.get("shares", ()))):
            left.add("shares")
        after = evolve(before, **{key: changes[key] for key in changes.keys() - left})
        keep_apart(after)
        return after, left

    def _take(self, before: Settings, after: Settings, admission: Admission) -> None:
        running, node = self.running, self.running.node
        node.taking = node.deciding.taking = taking_of(after)
        for each in running.opened.values():
            each.dotfiles = after.dotfiles
        running.factory.admit(admission)
        follow_all(running, after)
        running.factory.read_size = after.buf_len
        # Only what is another one now: "lanxfer limit" may have changed the rest.
        rates = {name: getattr(after, name) for name in _RATES}
        node.rates.change(**{k: v for k, v in rates.items() if v != getattr(before, k)})

    def _limit(self, values: Mapping[str, float]) -> None:
        usual = self.running.limits_before
        limits.change(usual)
        usual.clear()
        usual.update(limits.change(values))
        self.running.node.places(limits.RECEIVES_MAX, limits.RECEIVES_PER_PEER)

    def _can_run(self, hooks: Iterable[Hook]) -> bool:
        """Not where programs are needed and the process has given up to run any."""
        return self.running.hooks.can_run(hooks, confined=not self.running.unconfined)

    # Shares.

    def _out_of_reach(self, text: str) -> bool:
        """Whether a share would be written to where this process cannot any more."""
        spec = parse_share(text)
        if spec is None or spec.remote or not spec.writable:
            return False
        return not may_write(spec.folder)

    def _open(self, settings: Settings, taken: frozenset[str]) -> dict[str, SharedFolder]:
        """The named shares of these settings by option; those there were stay the same ones."""
        opened = self.running.opened
        specs = {text: spec for text in settings.shares if (spec := parse_share(text)) is not None}
        names = [each.casefold() for each in (*(spec.name for spec in specs.values()), *taken)]
        if len(set(names)) < len(names):
            raise BadConfig("There are two shares of one name.")
        made: dict[str, SharedFolder] = {}
        try:
            for text, spec in specs.items():
                if text not in opened:
                    made[text] = self._opened(settings, text, spec, {**opened, **made})
        except BaseException:
            known = {each.store for each in opened.values()}
            for each in made.values():
                each.close()
                if each.store is not None and each.store not in known:
                    each.store.close()
            raise
        return {text: made.get(text) or opened[text] for text in specs}

    def _opened(
        self, settings: Settings, text: str, spec: ShareSpec, known: Mapping[str, SharedFolder]
    ) -> SharedFolder:
        # A folder has one store in a process, whatever names it is shared by.
        folder, store = settings.inbox, self.running.store
        for other, share in known.items():
            there = parse_share(other)
            if there is None or there.remote or not isinstance(share.store, LocalStore):
                continue
            if os.path.realpath(there.folder) == os.path.realpath(spec.folder):
                folder, store = there.folder, share.store
        reserve = reserve_of(settings)
        (found,) = open_shares(
            [text], folder, settings.state, store, reserve, settings.dotfiles
        ).values()
        return found

    def _share(self, settings: Settings, shares: Mapping[str, SharedFolder]) -> None:
        # What is not shared any more stays open: somebody may be in the middle of it.
        running = self.running
        running.opened.update(shares)
        running.shares.clear()
        running.shares.update({each.name: each for each in shares.values()})
        self.tidied()
