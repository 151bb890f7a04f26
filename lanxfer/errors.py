"""The one family of errors, and the one table of their codes.

Every class knows its wire code, the exit code of a command that ends with it,
whether trying again can help, and whether the connection it was said on can
go on.  A class docstring's first line is the sentence a person reads when
nobody had anything more exact to say.

The wire codes are those of docs/protocol.rst, "Errors".
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import ClassVar, TypeVar


class Exit(IntEnum):
    """Exit codes of every lanxfer command (README.rst, "Exit codes")."""

    OK = 0
    PARTIAL = 1  # done, but not for all of it
    FAILED = 2
    CONFIG = 3  # settings, state folder, identity
    USAGE = 4
    CANCELLED = 5
    UNREACHABLE = 6
    REFUSED = 7  # the other side said no


class LanxferError(Exception):
    """Something went wrong that has no better name; this is a bug."""

    code: ClassVar[str] = "internal"
    exit: ClassVar[Exit] = Exit.FAILED
    retry: bool = False
    """The same may be otherwise later; of one error it may be said though its kind does not."""
    closes: ClassVar[bool] = False
    """The connection this is said on ends after it."""

    def __init__(self, reason: str = "", /, **details: int | str) -> None:
        self.reason = reason or (type(self).__doc__ or "").partition("\n")[0]
        self.details = details
        super().__init__(self.reason)

    def __str__(self) -> str:
        return self.reason


E = TypeVar("E", bound=LanxferError)


def for_now(error: E) -> E:
    """That error, of which somebody waiting should know that it passes."""
    error.retry = True
    return error


# What is wrong with what was said on the wire.


class BadHeader(LanxferError):
    """The other side said something that is not in the protocol."""

    code = "bad-header"
    closes = True


class HeaderTooLong(LanxferError):
    """The other side sent a header line without end."""

    code = "header-too-long"
    closes = True


class UnknownCommand(LanxferError):
    """There is no such command here."""

    code = "unknown-command"
    exit = Exit.REFUSED


class BadRequest(LanxferError):
    """The arguments do not fit the command."""

    code = "bad-request"


class UnsupportedVersion(LanxferError):
    """The two sides have no version of the protocol in common."""

    code = "unsupported-version"
    exit = Exit.REFUSED
    closes = True


class BadOffset(LanxferError):
    """The bytes do not belong where they were announced."""

    code = "bad-offset"


class ShortBody(LanxferError):
    """Fewer bytes came than were announced; what came is kept for a resume."""

    code = "short-body"
    retry = True


class DigestMismatch(LanxferError):
    """The bytes that arrived are not those that were announced; nothing was stored."""

    code = "digest-mismatch"
    retry = True


# Who may.


class TlsRequired(LanxferError):
    """This service speaks TLS only; see --legacy and --plain-from."""

    code = "tls-required"
    exit = Exit.REFUSED
    closes = True


class NotPaired(LanxferError):
    """The two devices do not know each other's key yet; see "lanxfer pair"."""

    code = "not-paired"
    exit = Exit.REFUSED
    closes = True


class AuthFailed(LanxferError):
    """The other side could not prove who it is."""

    code = "auth-failed"
    exit = Exit.REFUSED
    closes = True


class Forbidden(LanxferError):
    """The other side does not allow that."""

    code = "forbidden"
    exit = Exit.REFUSED


class NotFound(LanxferError):
    """There is no such thing."""

    code = "not-found"


class Expired(LanxferError):
    """Too late: that was only good for a while."""

    code = "expired"
    exit = Exit.REFUSED


class RateLimited(LanxferError):
    """Too many requests in too short a time."""

    code = "rate-limited"
    retry = True


class Overloaded(LanxferError):
    """The other side has as much to do as it can."""

    code = "overloaded"
    retry = True


# Names, space and disks.


class BadName(LanxferError):
    """That name cannot be used on the receiving side."""

    code = "bad-name"


class TooLarge(LanxferError):
    """Larger than the receiving side takes."""

    code = "too-large"


class DiskFull(LanxferError):
    """There is not enough free space on the receiving side."""

    code = "disk-full"
    retry = True


class QuotaExceeded(LanxferError):
    """The quota on the receiving side is used up."""

    code = "quota"


class Exists(LanxferError):
    """There is something of that name already, and it was not to be replaced."""

    code = "exists"


class Busy(LanxferError):
    """The same transfer is already under way."""

    code = "busy"
    retry = True


class SourceChanged(LanxferError):
    """The file changed while it was being sent; nothing was stored of it."""

    code = "source-changed"
    retry = True


class SourceUnreadable(LanxferError):
    """The file to be sent cannot be read."""

    code = "source-unreadable"


class DiskFailed(LanxferError):
    """The disk did not do what it was asked to."""

    code = "io-error"


# Time and ends.


class TimedOut(LanxferError):
    """Nothing was heard from the other side for too long."""

    code = "timeout"
    exit = Exit.UNREACHABLE
    retry = True
    closes = True


class StoreStalled(LanxferError):
    """The store behind that share does not answer; what was asked may still be done there."""

    code = "store-stalled"
    retry = True


class TooSlow(LanxferError):
    """The bytes came too slowly to be waited for; what came is kept for a resume."""

    code = "too-slow"
    retry = True
    closes = True


class Cancelled(LanxferError):
    """Cancelled."""

    code = "cancelled"
    exit = Exit.CANCELLED


class Stopping(LanxferError):
    """The service is being stopped; what came is kept for a resume."""

    code = "stopping"
    retry = True


class Internal(LanxferError):
    """Something went wrong that should not have; the log of that device says what."""

    code = "internal"


# Never on the wire: what only this side can know.


class Unreachable(LanxferError):
    """The other device did not answer; is lanxfer running there?"""

    code = "unreachable"
    exit = Exit.UNREACHABLE
    retry = True


class Lost(LanxferError):
    """The connection broke."""

    code = "connection-lost"
    exit = Exit.UNREACHABLE
    retry = True


class ClearBroken(LanxferError):
    """The connection that carried the file in clear broke; what came is kept."""

    code = "clear-broken"
    retry = True


class Unconfirmed(LanxferError):
    """All was sent, but the other side never confirmed it; look there before sending it again."""

    code = "unconfirmed"


class KeyChanged(LanxferError):
    """The other device has another key than the one known for it."""

    code = "key-changed"
    exit = Exit.REFUSED


class BadState(LanxferError):
    """The state folder cannot be used."""

    code = "bad-state"
    exit = Exit.CONFIG


class BadConfig(LanxferError):
    """The settings make no sense."""

    code = "bad-config"
    exit = Exit.CONFIG


class AsRoot(LanxferError):
    """A service should not be root's: run it as another user, or see --allow-root.

    Told twice (``--allow-root`` and LANXFER_ALLOW_ROOT=1 in the environment) it runs all the same.
    """

    code = "as-root"
    exit = Exit.CONFIG


class WeakStorage(LanxferError):
    """That folder's file system cannot keep lanxfer's promises; see --weak-storage."""

    code = "weak-storage"
    exit = Exit.CONFIG


class Unfinished(LanxferError):
    """Some of it arrived, some did not."""

    code = "partial"
    exit = Exit.PARTIAL


class Foreign(LanxferError):
    """The other side gave a reason this version does not know."""

    code = "unknown-reason"


_LOCAL_ONLY = {Foreign, Unfinished}

BY_CODE: dict[str, type[LanxferError]] = {
    each.code: each
    for each in list(globals().values())
    if isinstance(each, type)
    and issubclass(each, LanxferError)
    and each not in _LOCAL_ONLY
    and each is not LanxferError
}
"""Wire code to class; the way back is the class's ``code``."""

_BY_ERRNO: dict[int, type[LanxferError]] = {
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: QuotaExceeded,
    errno.EFBIG: TooLarge,
    errno.EEXIST: Exists,
    errno.ENOENT: NotFound,
    errno.ENAMETOOLONG: BadName,
    errno.ELOOP: BadName,
    errno.ENOTDIR: BadName,
    errno.EMFILE: Overloaded,
    errno.ENFILE: Overloaded,
    errno.ENOMEM: Overloaded,
}

_REASONS = {
    errno.EROFS: "The file system there is read-only.",
    errno.EACCES: "The service may not write there.",
    errno.EPERM: "The service may not write there.",
    errno.EMFILE: "Too many files are open there just now.",
    errno.ENFILE: "Too many files are open there just now.",
}


def from_wire(code: str, reason: str = "", **details: int | str) -> LanxferError:
    """The error the other side named; an unknown code keeps its text as ``Foreign``."""
    found = BY_CODE.get(code)
    if found is None:
        return Foreign(f"{reason or Foreign.__doc__} [{code}]", **details)
    return found(reason, **details)


def from_os(error: OSError) -> LanxferError:
    """The typed form of what the operating system said, without any path."""
    number = error.errno or 0
    found = _BY_ERRNO.get(number, DiskFailed)
    reason = _REASONS.get(number, "")
    if found is DiskFailed and not reason:
        why = error.strerror or "no reason given"
        reason = f"The disk did not do what it was asked to ({why})."
    return found(reason)
