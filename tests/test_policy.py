"""Who may call what, and who sees what."""

from __future__ import annotations

import pytest

from lanxfer.commands.dispatch import builtin
from lanxfer.errors import Forbidden, NotPaired, UnknownCommand
from lanxfer.policy import LOCAL, REACH, UNKNOWN, Principal, Standing, mine, refusal
from lanxfer.transfers import Direction, Kind, Snapshot, State

OFFER = {"hello", "ping", "recv_file", "recv_files", "recv_message"}
OWN = {"pending_requests", "cancel_request", "pause", "resume", "watch", "history"}
OWNER = {
    *("send_file", "send_message", "send_paths", "status"),
    *("accept", "reject", "usage", "limit", "reload"),
}
PAIR = {"pair", "pair_prove", "pair_keep"}
FILES = {
    *("list_files", "stat_file", "read_file", "prove_file"),
    *("make_folder", "move_file", "remove_file", "append_file"),
}
AE = {"recv_file", "recv_message", "pending_requests", "cancel_request"}
APPLICATION = "myapp.thumbnail"

MAY: dict[Standing, set[str]] = {
    Standing.LOCAL: OFFER | OWN | OWNER | {APPLICATION, "pair_open"},
    Standing.PEER: OFFER | OWN | PAIR | FILES | {APPLICATION, "login", "checkup"},
    Standing.GUEST: OFFER | OWN | PAIR | {"login"},
    Standing.INVITED: OFFER | OWN | PAIR,
    Standing.USER: OFFER | OWN | {APPLICATION},
    Standing.VISITOR: PAIR | {"hello", "login"},
    Standing.LEGACY: AE,
    Standing.LEGACY_LOCAL: AE | {"send_file", "send_message"},
    Standing.TICKET: {"recv_slot"},
    Standing.BROWSER: OWN
    | {"recv_slot", "recv_message", "accept", "reject", "list_files", "stat_file", "read_file"},
    Standing.BROWSER_GUEST: OWN | {"recv_slot", "recv_message"},
    Standing.NEWCOMER: {"hello"} | PAIR,
    Standing.STRANGER: set(),
}
"""Written down once more, so that a slip of a hand in the other table shows."""

COMMANDS = sorted({*builtin(), APPLICATION})
NO_COMMANDS = [
    "delete",
    "hello2",
    "__init__",
    "Recv_File",
    "",
    "myapp.",
    "*",
    "status\n",
    "other.thing",
]


def who(standing: Standing, name: str = "peer:a") -> Principal:
    return Principal(standing, name, "a device")


def seen(peer: str) -> Snapshot:
    return Snapshot("1", Direction.IN, Kind.FILE, peer, "a.txt", 1, State.MOVING)


class ReachTests:
    @pytest.mark.parametrize("standing", Standing)
    @pytest.mark.parametrize("command", COMMANDS)
    def test_walk(self, standing: Standing, command: str) -> None:
        """Every command is reached by those it is for, and by nobody else."""
        # covers: A01, A14, J20, J21, L04
        found = refusal(who(standing), command, known=True)
        if command in MAY[standing]:
            assert found is None
        elif standing in UNKNOWN:
            assert isinstance(found, NotPaired)
        else:
            assert isinstance(found, Forbidden)

    @pytest.mark.parametrize("standing", Standing)
    @pytest.mark.parametrize("command", NO_COMMANDS)
    def test_unknown(self, standing: Standing, command: str) -> None:
        """What there is not is unknown to all, and a stranger does not even learn that."""
        # covers: A01, H07, J23
        found = refusal(who(standing), command, known=False)
        unknown = standing in UNKNOWN
        assert isinstance(found, NotPaired if unknown else UnknownCommand)

    def test_all_are_written_down(self) -> None:
        """The table above names every command there is, and every kind of principal."""
        written = {name for names in MAY.values() for name in names}
        assert written == {*builtin(), APPLICATION}
        assert set(MAY) == set(Standing)

    @pytest.mark.parametrize("standing", Standing)
    def test_reach(self, standing: Standing) -> None:
        """What an avatar says it reaches is what it is let through to."""
        may = {name for name in builtin() if refusal(who(standing), name, known=True) is None}
        assert who(standing).reach == may == MAY[standing] - {APPLICATION}

    def test_every_command_is_for_somebody(self) -> None:
        """There is no command that nobody reaches, and none in the table that is not there."""
        assert {name for names in REACH.values() for name in names} == set(builtin())
        assert set(REACH) == set(Standing)

    def test_stranger_learns_nothing(self) -> None:
        """A stranger's refusal is the same whatever was asked."""
        # covers: A01
        stranger = who(Standing.STRANGER)
        found = [refusal(stranger, name, known) for name in COMMANDS for known in (True, False)]
        assert len({(type(each), str(each)) for each in found}) == 1


class MineTests:
    @pytest.mark.parametrize("standing", Standing)
    def test_own(self, standing: Standing) -> None:
        """Everybody sees their own transfers; the device's own user, in a browser too, sees all."""
        # covers: L01, L02, J21
        visible = mine(who(standing, "peer:a"))
        assert visible(seen("peer:a"))
        everything = standing in (Standing.LOCAL, Standing.LEGACY_LOCAL, Standing.BROWSER)
        for other in ("peer:b", "peer:", "peer:a2", "guest:a", "PEER:A", ""):
            assert visible(seen(other)) is everything

    def test_label_is_no_name(self) -> None:
        """What a device calls itself makes nothing its own."""
        # covers: A13, J18
        visible = mine(Principal(Standing.PEER, "peer:b", "peer:a"))
        assert not visible(seen("peer:a"))

    def test_local(self) -> None:
        """The user of this device is one principal, and secure."""
        assert (LOCAL.standing, LOCAL.name, LOCAL.secure) == (Standing.LOCAL, "local", True)
