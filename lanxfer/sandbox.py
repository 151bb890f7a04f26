"""Giving up what a service does not need: writing elsewhere, and being root.

A second layer below the one door to the disk (security design, section 6):
where the kernel has Landlock, the service may from its start on create, change
and remove things below its inbox and its state folder, and nowhere else, and
may run no program.  Reading is left as it is, since the owner may ask the
service to send any file of theirs.  Nothing that is given up comes back before
the process ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence

from attrs import frozen

from lanxfer.errors import AsRoot, BadConfig

ALLOW_ROOT = "LANXFER_ALLOW_ROOT"

OLDEST = 2
"""Landlock's first version cannot let a file move from one folder to another, which storing is."""


@frozen
class Writable:
    """What stays open to change: everything below ``folders``, removing in ``removals``.

    ``files`` may be written to and not replaced.
    """

    folders: frozenset[str]
    removals: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()


_kept: Writable | None = None


def writable(folders: Sequence[str], removals: Sequence[str] = ()) -> Writable:
    """The form ``confine`` takes; the null device is open to everybody."""
    return Writable(
        frozenset(os.path.realpath(each) for each in folders),
        frozenset(os.path.realpath(each) for each in removals),
        frozenset({os.devnull}),
    )


def confine(what: Writable) -> str:
    """Give up, for this process and for good, to change anything but ``what``.

    Gives "" when that holds, else the sentence that says why it does not.  To be
    called before any other thread runs, since the kernel confines threads.
    Raises BadConfig where the process is confined to something else already.
    """
    global _kept
    if _kept == what:
        return ""
    if _kept is not None:
        raise BadConfig("Another inbox or state folder needs a new start of the whole process.")
    why = _enforce(what)
    if not why:
        _kept = what
    return why


def may_write(folder: str) -> bool:
    """Whether this process may still change what is in a folder, as far as it gave that up."""
    if _kept is None:
        return True
    real = os.path.realpath(folder)
    return any(_holds(each, real) for each in _kept.folders)


def _enforce(what: Writable) -> str:
    try:
        from landlockpy import (
            AccessFS,
            AccessNet,
            LandlockError,
            RestrictFlag,
            Ruleset,
            abi_version,
        )
    except ImportError:
        return "the package landlockpy is not installed"
    try:
        version = abi_version()
    except LandlockError:
        return "this kernel has no Landlock"
    if version < OLDEST:
        return "the Landlock of this kernel is too old"
    # From the eighth version on the kernel takes the other threads along.
    if threading.active_count() > 1 and version < 8:
        return "other threads ran before the service was started"
    new = AccessFS.MAKE_DIR | AccessFS.MAKE_REG | AccessFS.MAKE_SOCK | AccessFS.MAKE_SYM
    remove = AccessFS.REMOVE_FILE | AccessFS.REMOVE_DIR
    write = AccessFS.WRITE_FILE | AccessFS.TRUNCATE
    device = AccessFS.MAKE_CHAR | AccessFS.MAKE_BLOCK | AccessFS.MAKE_FIFO
    everything = new | remove | write | device | AccessFS.REFER | AccessFS.EXECUTE
    try:
        with Ruleset(handled_fs=everything, handled_net=AccessNet.NONE) as rules:
            for folder in what.folders:
                rules.allow_path(folder, new | remove | write | AccessFS.REFER)
            for folder in what.removals:
                rules.allow_path(folder, AccessFS.REMOVE_FILE)
            for file in what.files:
                rules.allow_path(file, write)
            rules.restrict(RestrictFlag.TSYNC)
    except OSError as error:
        return f"the kernel refused it ({error.strerror or error})"
    return ""


def for_daemon(run: str, log: str, pid: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Folders that the files of a daemon in ``run`` need: to write in, to remove in, or why not.

    A log is turned over and a pid file removed, for which Landlock opens whole
    folders.  A log in the home folder would open all of that, so there is to be
    no sandbox then; a pid file there is left behind.
    """
    home = os.path.realpath(os.path.expanduser("~"))
    logs, removals = _folders(run, log), _folders(run, pid)
    if any(_holds(each, home) for each in logs):
        why = "twistd writes its log into your home folder; name another place with --logfile"
        return (), (), why
    return logs, tuple(each for each in removals if not _holds(each, home)), ""


def _folders(run: str, file: str) -> tuple[str, ...]:
    return (os.path.realpath(os.path.dirname(os.path.join(run, file))),) if file else ()


def _holds(folder: str, path: str) -> bool:
    return os.path.commonpath([folder, path]) == folder


def refuse_root(told: bool, environment: Mapping[str, str] = os.environ) -> None:
    """Raise AsRoot for a service of root's, unless it was told twice that this is meant.

    ``told`` is the option ``--allow-root``; the other time is LANXFER_ALLOW_ROOT=1
    in the environment.
    """
    geteuid = getattr(os, "geteuid", None)
    if geteuid is None or geteuid() != 0:
        return
    if not (told and environment.get(ALLOW_ROOT) == "1"):
        raise AsRoot(
            "A service should not be root's: run it as another user. If it has to be root, say"
            f" --allow-root and set {ALLOW_ROOT}=1 as well."
        )
