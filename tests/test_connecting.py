"""What is said where no connection comes about."""

from __future__ import annotations

from typing import Any

import pytest
from devices import Devices
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock

from lanxfer.connecting import Dialer, Target, connect_over
from lanxfer.errors import LanxferError, NotFound, Unreachable
from lanxfer.identity import load_identity
from lanxfer.peers import Peers


class Nowhere:
    """An endpoint of a host whose name nobody knows."""

    def connect(self, factory: Any) -> Deferred[Any]:
        return fail(DNSLookupError())


def reason(work: Any, kind: type[LanxferError]) -> str:
    found: list[Any] = []
    Deferred.fromCoroutine(work).addErrback(found.append)
    (failure,) = found
    failure.trap(kind)
    return str(failure.value)


def test_no_such_name() -> None:
    """A name that is neither a device's nor a host's comes with what to try."""
    place: Any = Nowhere()
    said = reason(connect_over(place, None, "nosuch"), Unreachable)
    assert said.startswith("nosuch does not answer (no such name)")
    assert all(f'"lanxfer {each}"' in said for each in ("peers", "pair", "doctor"))


@pytest.mark.parametrize("dial", [Dialer.dial, Dialer.dial_legacy])
def test_no_address(devices: Devices, dial: Any) -> None:
    """A device whose address is not known is one that an address can be given for."""
    state = devices.state("laptop")
    disk: Any = None
    dialer = Dialer(Clock(), disk, Peers(state), load_identity(state), "laptop")
    said = reason(dial(dialer, Target("vm", (), key="A" * 51 + "Q")), NotFound)
    assert said == "No address is known for vm; say HOST, or add one to the peer."
