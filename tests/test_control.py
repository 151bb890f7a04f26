"""The control commands, asked by a peer over the real protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lanxfer.commands.control import PAGE
from lanxfer.errors import BadHeader
from lanxfer.testing import Pair
from lanxfer.transfers import Direction, Kind
from lanxfer.wire.native import parse_rows
from lanxfer.wire.packets import Args


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def rows(pair: Pair, name: str, args: Args) -> tuple[Args, list[str]]:
    """What is answered beside the rows, and the paths in them."""
    answer = pair.result(pair.client.ask(name, args).answered())
    return answer.args, [str(each["path"]) for each in parse_rows(answer.body)]


class ListTests:
    def test_pending_is_a_page(self, pair: Pair) -> None:
        """Of very many transfers the oldest hundred are shown, with how many there are."""
        # covers: L09
        for number in range(3 * PAGE):
            pair.there.registry.open(Direction.IN, Kind.FILE, "peer:here", f"{number:03}", 1)
            pair.there.registry.open(Direction.IN, Kind.FILE, "peer:other", "secret", 1)
        args, paths = rows(pair, "pending_requests", {})
        assert args["total"] == 3 * PAGE
        assert paths == [f"{number:03}" for number in range(PAGE)]

    def test_history_is_a_page(self, pair: Pair) -> None:
        """A page of history has at most a hundred entries, and more is not to be had."""
        # covers: L09
        with pytest.raises(BadHeader):
            rows(pair, "history", {"limit": PAGE + 1})
        pair.connect()
        assert rows(pair, "history", {"limit": PAGE})[1] == []
