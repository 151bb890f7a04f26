"""How refusals are timed; whether that tells anything is for ``chaos timing`` to say."""

from __future__ import annotations

import hmac
import random
from typing import Any

import pytest
from click.testing import CliRunner
from twisted.internet.task import Clock

from chaos.__main__ import main
from chaos.timing import Subject, letter_by_letter, measure, subjects, welch
from lanxfer.errors import Forbidden
from lanxfer.testing import MemoryDisk, memory_node


class TicketTests:
    def test_always_compared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wrong ticket is compared in constant time, once, whatever of it is wrong."""
        # covers: A10, F21
        node = memory_node("nas", Clock(), MemoryDisk())
        slot = node.offer_slot("x", 5, 1e9)
        compared: list[tuple[Any, Any]] = []

        def compare(one: Any, other: Any) -> bool:
            compared.append((one, other))
            return digest(one, other)

        digest = hmac.compare_digest
        monkeypatch.setattr(hmac, "compare_digest", compare)
        said = set()
        for session, file, size in (
            (slot.session, slot.session, 5),
            (slot.file, slot.file, 5),
            (slot.session, slot.file, 6),
        ):
            with pytest.raises(Forbidden) as caught:
                node.redeem(session, file, size)
            said.add(str(caught.value))
        assert len(said) == 1 and len(compared) == 3
        assert all(len(one) == len(other) for one, other in compared)


class MeasureTests:
    def test_welch(self) -> None:
        """Two equal samples differ by nothing, two far apart by a lot, in the right direction."""
        one = [float(each) for each in range(100)]
        assert welch(one, one) == 0
        assert welch([each + 100 for each in one], one) > 20
        assert welch(one, [each + 100 for each in one]) < -20

    def test_guesses(self) -> None:
        """Every guess is wrong, as right as its kind says, and looked at."""
        chosen = random.Random(1)
        for subject in subjects(chosen):
            for guess in (subject.one, subject.other):
                texts = guess()
                subject.check(*texts)
                assert guess() != texts

    def test_both_kinds_are_tried(self) -> None:
        """The samples asked for are taken, of both kinds, and of slow ones fewer."""
        seen: list[str] = []

        def check(one: str, other: str) -> None:
            seen.append(one)

        subject = Subject("x", check, lambda: ("a", "1"), lambda: ("b", "2"), share=10)
        measure(subject, 20_000, random.Random(1))
        assert len(seen) == 2000
        assert 800 < seen.count("a") < 1200

    def test_letter_by_letter(self) -> None:
        """What is planted compares rightly, only not in constant time."""
        assert letter_by_letter("ab", "ab")
        assert not letter_by_letter("ab", "ac")
        assert not letter_by_letter("ab", "a")

    def test_command(self) -> None:
        """The command prints one figure for each place, with its seed."""
        done = CliRunner().invoke(main, ["timing", "--samples", "1000", "--seed", "5"])
        count = len(list(subjects(random.Random(1))))
        assert done.output.count("|t|") == count and "seed 5" in done.output
