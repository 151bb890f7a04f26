"""Names meant to harm: the short form of ``chaos names``, and that it finds what it looks for."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unicodedata import normalize

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import chaos.names
from chaos.__main__ import main
from chaos.figures import BREACH
from chaos.names import MEMORY, PIECES, hostile, run, unshown
from lanxfer.storage.names import SafePath, shown

COUNT = 3000


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder where a file costs little."""
    with TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as folder:
        yield Path(folder)


def lenient(change: Any) -> Any:
    """A rule for names that repairs them, as no receiver should."""

    def safe_path(text: str, *, dotfiles: bool = False) -> SafePath:
        return SafePath(tuple(change(text).split("/")))

    return safe_path


class NamesTests:
    def test_kept(self, place: Path) -> None:
        """What is made is what was shown, and everything else is refused with a code."""
        # covers: F17, P01, P02, P03, P04, P05, P06, P07, P09
        trial = run(COUNT, 1, place)
        assert trial.wrong == []
        assert sum(trial.count.values()) == COUNT
        assert trial.count["stored"] > COUNT // 10 and trial.count["bad-name"] > COUNT // 10

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: normalize("NFKC", text),
            lambda text: text.strip(" ."),
            lambda text: text.replace("\\", "/"),
            lambda text: text.replace("../", ""),
            lambda text: text.rpartition("/")[2],
        ],
        ids=["NFKC", "strip", "backslash", "climbing", "basename"],
    )
    def test_repairs_are_found(
        self, change: Any, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A receiver that makes another name of a bad one does not get through."""
        monkeypatch.setattr(chaos.names, "safe_path", lenient(change))
        assert run(COUNT, 1, place).wrong

    def test_untyped_is_found(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name that makes something break is no refusal."""

        def breaks(text: str, *, dotfiles: bool = False) -> SafePath:
            text.encode()
            return SafePath((text,))

        monkeypatch.setattr(chaos.names, "safe_path", breaks)
        with pytest.raises(UnicodeEncodeError):
            run(COUNT, 1, place)

    def test_stray_file_is_found(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that nobody was told of is seen, in the inbox and beside it."""
        put_many = chaos.names.LocalStore.put_many

        def careless(store: Any, files: Any) -> Any:
            (place / "inbox" / "stray").touch()
            (place / "beside").touch()
            return put_many(store, files)

        monkeypatch.setattr(chaos.names.LocalStore, "put_many", careless)
        wrong = run(64, 1, place).wrong
        assert any("stray" in each for each in wrong) and any("beside" in each for each in wrong)

    def test_all_kinds_come(self) -> None:
        """Every hostile piece is in some name, and a seed gives the same names again."""
        names = [hostile(random.Random(seed)) for seed in range(20_000)]
        text = "\n".join(names)
        assert [each for each in PIECES if each not in text and each.upper() not in text] == []
        assert hostile(random.Random(7)) == names[7]

    def test_command(self) -> None:
        """The command prints its figures and its seed, and ends well."""
        done = CliRunner().invoke(main, ["names", "--count", "200", "--seed", "3"])
        assert done.exit_code == 0, done.output
        assert "wrong: 0 (<= 0): kept" in done.output and "seed 3" in done.output

    def test_command_breach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is wrong is printed, in ASCII, and ends with the code for it."""
        monkeypatch.setattr(chaos.names, "safe_path", lenient(lambda text: text.rstrip(". ")))
        done = CliRunner().invoke(main, ["names", "--count", "2000", "--seed", "3"])
        assert done.exit_code == BREACH
        assert " became SafePath" in done.output


class UnshownTests:
    @given(st.text(st.characters(exclude_categories=()), max_size=50))
    def test_way_back(self, text: str) -> None:
        """What was shown leads back to the name, whatever is in it."""
        # covers: R07
        assert unshown(shown(text, 10_000)) == text
