"""A folder one is in: only on this side, and never above the top."""

from __future__ import annotations

from pathlib import Path

import pytest
from devices import Devices, in_reactor
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.errors import NotFound
from lanxfer.within import joined

steps = st.lists(st.sampled_from(["..", ".", "", "a", "b c", "...", "x.y"])).map("/".join)


class JoinedTests:
    @pytest.mark.parametrize(
        ("here", "path", "there"),
        [
            ("", "", ""),
            ("a", "b", "a/b"),
            ("a/b", "..", "a"),
            ("a/b", "../c/./d/", "a/c/d"),
            ("a", "../../..", ""),
            ("a", "/x/y", "x/y"),
            ("a", "...", "a/..."),
        ],
    )
    def test_joined(self, here: str, path: str, there: str) -> None:
        """Up is up, a slash at the start is the top."""
        # covers: S2-35
        assert joined(here, path) == there

    @given(steps, steps)
    def test_never_above(self, here: str, path: str) -> None:
        """Whatever is asked, nothing that leads out is said on the wire."""
        # covers: S2-35 S2-36
        found = joined(joined("", here), path)
        assert not {"..", ".", ""} & set(found.split("/")) or found == ""
        assert joined(found, "") == found


class WithinTests:
    @in_reactor
    async def test_two_do_not_disturb(self, devices: Devices, tmp_path: Path) -> None:
        """Two that are in different folders of one connection go their own ways."""
        # covers: S2-35
        (tmp_path / "docs").mkdir()
        service = await devices.start("nas", shares=(f"docs={tmp_path}/docs:rw",))
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        one, other = client.at("docs").at("one"), client.at("docs/other")
        for here, word in ((one, b"one"), (other, b"other")):
            await here.mkdir("")
            await here.put(devices.source("f", word), "f.txt")
            assert await here.up().exists("one/f.txt")
        for here, word in ((one, b"one"), (other, b"other")):
            assert [each.path async for each in here.list()] == [f"{here.path}/f.txt"]
            async with await here.open_read("f.txt") as file:
                assert await file.read() == word
        await other.move("f.txt", "../one/g.txt")
        assert [each.name async for each in one.walk()] == ["f.txt", "g.txt"]
        async with await one.open_write("h.txt") as made:
            await made.write(b"h")
        assert await one.append(devices.source("t", b"!"), "h.txt") == 2
        await one.get("h.txt", tmp_path / "h")
        assert (tmp_path / "h").read_bytes() == b"h!"
        assert (await one.get_tree("", tmp_path / "tree")).files == 3
        assert (await other.put_tree(tmp_path / "tree", "tree")).files == 3
        await other.remove("tree", recursive=True)
        with pytest.raises(NotFound):
            await other.stat("f.txt")
        assert (one.path, other.path, other.up().up().up().path) == ("docs/one", "docs/other", "")
