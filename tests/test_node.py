"""What the service's own node decides by itself: tickets."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from lanxfer.errors import BadName, Expired, Forbidden
from lanxfer.node import ServiceNode, Slot
from lanxfer.testing import MemoryDisk, memory_node


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def node(clock: Clock) -> Iterator[ServiceNode]:
    made = memory_node("nas", clock, MemoryDisk())
    yield made
    made.journal.close()


def refused(node: ServiceNode, session: str, file: str, size: int) -> str:
    with pytest.raises(Forbidden) as caught:
        node.redeem(session, file, size)
    return str(caught.value)


class TicketTests:
    def test_once(self, node: ServiceNode, clock: Clock) -> None:
        """A ticket opens the slot it was made for, once, and leaves no timer behind."""
        # covers: J19, A05
        slot = node.offer_slot("a/b.txt", 5, 60)
        assert node.redeem(slot.session, slot.file, 5) is slot
        assert (node.slots, clock.getDelayedCalls()) == ({}, [])
        refused(node, slot.session, slot.file, 5)
        clock.advance(100)
        assert not slot.done.called  # its end is that of the upload

    def test_wrong(self, node: ServiceNode) -> None:
        """Another session, file or size is refused in one sentence, and uses nothing up."""
        # covers: A09, J19
        one, other = (node.offer_slot(name, 5, 60) for name in ("a", "b"))
        said = {
            refused(node, str(uuid.uuid4()), one.file, 5),
            refused(node, one.session, str(uuid.uuid4()), 5),
            refused(node, one.session, other.file, 5),
            refused(node, other.session, one.file, 5),
            refused(node, one.file, one.session, 5),
            *(refused(node, one.session, one.file, size) for size in (0, 4, 6, 2**63 - 1)),
            refused(node, one.session.upper(), one.file, 5),
            refused(node, one.session, one.file[:-1], 5),
            refused(node, one.session, one.file + "0", 5),
            refused(node, "", "", 5),
        }
        assert len(said) == 1
        assert node.redeem(one.session, one.file, 5).path == "a"
        assert node.redeem(other.session, other.file, 5).path == "b"

    def test_expires(self, node: ServiceNode, clock: Clock) -> None:
        """A ticket is good until its time, and then refused like one that never was."""
        # covers: A09
        slots = [node.offer_slot("x", 5, seconds) for seconds in (10, 10, 20)]
        failed: list[Failure] = []
        for slot in slots:
            slot.done.addErrback(failed.append)
        never = refused(node, str(uuid.uuid4()), str(uuid.uuid4()), 5)
        clock.advance(9.9)
        node.redeem(slots[0].session, slots[0].file, 5)
        clock.advance(0.1)
        assert [each.type for each in failed] == [Expired]
        assert refused(node, slots[1].session, slots[1].file, 5) == never
        clock.advance(9)
        node.redeem(slots[2].session, slots[2].file, 5)
        assert (node.slots, clock.getDelayedCalls()) == ({}, [])

    def test_any_size(self, node: ServiceNode) -> None:
        """Whoever made the ticket may leave the size open."""
        slot = node.offer_slot("x", None, 60)
        assert node.redeem(slot.session, slot.file, 2**40) is slot

    def test_bad_name(self, node: ServiceNode, clock: Clock) -> None:
        """A path that no file can have makes no ticket."""
        # covers: P01
        for path in ("../x", "", "/etc/x", ".lanxfer-staging/x", "a\x00"):
            with pytest.raises(BadName):
                node.offer_slot(path, 5, 60)
        assert (node.slots, clock.getDelayedCalls()) == ({}, [])

    def test_unguessable(self, node: ServiceNode) -> None:
        """Both ids are random, of 122 bits, and new each time."""
        # covers: J19
        slots: list[Slot] = [node.offer_slot("x", 5, 60) for _ in range(100)]
        ids = {each for slot in slots for each in (slot.session, slot.file)}
        assert len(ids) == 200
        assert {uuid.UUID(each).version for each in ids} == {4}
