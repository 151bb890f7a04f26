"""The command that compares the ids with their tests, and the page about them."""

from __future__ import annotations

import re

import pytest

from tests.coverage_of_ids import (
    IDS,
    PAGE,
    ROOT,
    all_ids,
    claims,
    covered,
    main,
    not_needed,
    report,
    rows,
)

WORDS = all_ids(IDS.read_text())


class ListTests:
    def test_ids(self) -> None:
        """There is a list, in order, with words for each."""
        assert len(WORDS) > 150 and list(WORDS) == sorted(WORDS)
        assert [id for id, words in WORDS.items() if len(words) < 5] == []

    def test_page(self) -> None:
        """The page says of every id, once, what became of it, and of no other."""
        told = [id for ids, said in rows(PAGE.read_text()) for id in ids if said]
        assert sorted(told) == sorted(WORDS)

    def test_nobody_claims_more(self) -> None:
        """No test says that it covers what is not in the list."""
        assert set(covered()) - set(WORDS) == set()

    def test_few_are_spared(self) -> None:
        """What needs no counterpart is little, and has a reason."""
        assert {id: len(why) > 15 for id, why in not_needed(PAGE.read_text()).items()} == {
            "S2-59": True
        }


class CommandTests:
    def test_claims(self) -> None:
        """Ids are read where they are claimed, and nowhere else."""
        mark = "covers" + ":"
        assert claims(f"# {mark} S1-01, H02 S3-35\n# S2-01\n{mark} S1-02") == {"S1-01", "S3-35"}
        assert claims(f"# {mark} S1-011 XS1-01") == set()

    def test_rows(self) -> None:
        """A row may be about several ids, and several lines long."""
        text = (
            "S1-03, S1-05  one\nS1-06         two\n\nS2-01 to 03  three\nS2-04  not needed: why\n"
        )
        assert list(rows(text)) == [
            ({"S1-03", "S1-05"}, "one"),
            ({"S1-06"}, "two"),
            ({"S2-01", "S2-02", "S2-03"}, "three"),
            ({"S2-04"}, "not needed: why"),
        ]
        assert not_needed(text) == {"S2-04": "why"}

    def test_report(self) -> None:
        """What is covered, spared and missing is counted for each seed."""
        ids = {"S1-01": "a line", "S1-02": "bytes", "S2-01": "a method"}
        lines, missing = report(ids, {"S1-01": ["test_x"]}, {"S2-01": "no need"})
        assert missing == 1
        assert lines == [
            "S1: 1 covered, 0 not needed, 1 missing, of 2",
            "  S1-02 missing: bytes",
            "S2: 0 covered, 1 not needed, 0 missing, of 1",
            "  S2-01 not needed: no need",
        ]

    def test_seed_1(self, capsys: pytest.CaptureFixture[str]) -> None:
        """All that uploads by ticket were for is there."""
        assert main(["--seed", "S1"]) == 0
        assert capsys.readouterr().out == "S1: 20 covered, 0 not needed, 0 missing, of 20\n"

    def test_runs(self) -> None:
        """The page names the command as it is."""
        assert "python -m tests.coverage_of_ids" in PAGE.read_text()
        assert re.search(r"S1-01", (ROOT / "tests" / "ids.txt").read_text())
