"""The folders of this device that others may reach, and who may do what in them.

Nothing is shared that was not named with ``--share``, and then for reading
unless that said more.  What the file of rights says of ``/NAME/...`` is about the
share of that name (docs/permissions.rst, "Shared folders").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from attrs import define, field

from lanxfer.commands.table import Call
from lanxfer.deciding import Deciding
from lanxfer.errors import BadConfig, BadName, Forbidden, LanxferError, NotFound
from lanxfer.policy import Principal
from lanxfer.registry import Transfer
from lanxfer.rights import Right
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import SafePath, quoted, safe_path
from lanxfer.storage.shares import Share, ShareSpec, lies_in, parse_share
from lanxfer.storage.spooled import open_remote
from lanxfer.storage.volumes import SharedFolder
from lanxfer.transfers import Conflict, Kind, Offer

Shared: TypeAlias = SharedFolder | Callable[[Principal], SharedFolder]
"""A shared folder, or what gives each principal the one that is theirs."""

_CHANGES = frozenset({Right.WRITE, Right.DELETE})


def open_shares(
    texts: Sequence[str],
    inbox: str,
    state: str,
    store: LocalStore,
    reserve: Mapping[str, float | None],
    dotfiles: bool = False,
) -> dict[str, SharedFolder]:
    """The named shares among ``--share`` options; ``close_shares`` closes them.

    One whose folder is the inbox has the inbox's store.  Raises BadConfig or BadState, also
    where a folder without a name is none.
    """
    found: dict[str, SharedFolder] = {}
    try:
        for text in texts:
            spec = parse_share(text)
            if spec is None:
                Share(text, text, None).close()  # it limits ae peers, and is to be there for that
                continue
            if spec.name.casefold() in {name.casefold() for name in found}:
                raise BadConfig(f"There are two shares of the name {spec.name!r}.")
            if spec.remote:
                found[spec.name] = open_remote(spec, state, reserve, dotfiles)
                continue
            if lies_in(state, spec.folder):
                raise BadConfig(
                    f"The shared folder {quoted(spec.folder)} contains the state folder, in which"
                    " the key of this device is; share a folder below it."
                )
            found[spec.name] = _open(spec, inbox, store, reserve, dotfiles)
    except BaseException:
        close_shares(found, store)
        raise
    return found


def _open(
    spec: ShareSpec,
    inbox: str,
    store: LocalStore,
    reserve: Mapping[str, float | None],
    dotfiles: bool,
) -> Share:
    if not spec.writable:
        return Share(spec.name, spec.folder, None, dotfiles)
    if os.path.realpath(spec.folder) == os.path.realpath(inbox):
        return Share(spec.name, spec.folder, store, dotfiles)
    own = LocalStore(spec.folder, dotfiles=True, **reserve)  # type: ignore[arg-type]
    try:
        return Share(spec.name, spec.folder, own, dotfiles)
    except BaseException:
        own.close()
        raise


def close_shares(shares: Mapping[str, SharedFolder], inbox: LocalStore) -> None:
    """Close them all, but for the inbox's own store."""
    for share in shares.values():
        share.close()
        if share.store is not None and share.store is not inbox:
            share.store.close()


@define(eq=False)
class Sharing:
    """See ``lanxfer.commands.table.Sharing``."""

    deciding: Deciding
    shares: Mapping[str, Shared] = field(factory=dict)

    def visible(self, principal: Principal) -> list[SharedFolder]:
        terms = self.deciding.terms(principal)
        names = [name for name in self.shares if terms.may(Right.LIST, SafePath((name,)))]
        found = []
        for name in names:
            with suppress(LanxferError):  # whom it gives none does not see it
                found.append(self._share(name, principal))
        return found

    def _share(self, name: str, principal: Principal) -> SharedFolder:
        share = self.shares.get(name)
        if share is None:
            if not name:
                raise NotFound('A shared folder has to be named; "lanxfer ls PEER:" shows them.')
            raise NotFound(f"No folder {quoted(name)} is shared there.")
        return share(principal) if callable(share) else share

    def find(
        self, principal: Principal, path: str, *rights: Right, below: bool = False
    ) -> tuple[SharedFolder, SafePath | None]:
        name, _, rest = path.strip("/").partition("/")
        share = self._share(name, principal)
        inside = safe_path(rest, dotfiles=share.dotfiles) if rest else None
        self._check(principal, share, inside, rights, below)
        return share, inside

    def take(self, call: Call, offer: Offer, transfer: Transfer) -> tuple[SharedFolder, SafePath]:
        rights = [Right.WRITE]
        if offer.conflict is Conflict.OVERWRITE:
            rights.append(Right.DELETE)
        share, path = self.find(call.principal, offer.path, *rights)
        if path is None:
            raise BadName("A file that is put into a shared folder needs a name there.")
        if offer.kind is Kind.LINK:
            raise BadName("Links cannot be put into a shared folder.")
        self.deciding.check_amount(call, offer, transfer)
        return share, path

    def _check(
        self,
        principal: Principal,
        share: SharedFolder,
        path: SafePath | None,
        rights: Sequence[Right],
        below: bool,
    ) -> None:
        terms = self.deciding.terms(principal)
        if share.store is None and _CHANGES.intersection(rights):
            raise Forbidden(f"{quoted(share.name)} is shared for reading only.")
        whole = _top(share) if path is None else SafePath((share.name, *path.parts))
        may = terms.may_all if below else terms.may
        for right in rights:
            if not may(right, whole):
                raise Forbidden(f"This device has no right to {right.value} {quoted(str(whole))}.")


def _top(share: SharedFolder) -> SafePath:
    return SafePath((share.name,))
