"""The exchange by itself: who agrees with whom, and what is refused unseen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.codes import Secret, code_secret
from lanxfer.errors import BadHeader
from lanxfer.pake import PROOF_LENGTH, SHARE_LENGTH, Agreement, Channel, Proofs, Side

A, B, M = "A" * 52, "B" * 51 + "A", "M" * 51 + "Q"
BINDING = b"\1" * 32
CODE = code_secret("maple-orbit-tundra")
PRIME = 2**255 - 19


def agree(
    asking: Secret = CODE,
    answering: Secret = CODE,
    *,
    keys: tuple[str, str, str, str] = (A, B, B, A),
    bindings: tuple[bytes, bytes] = (BINDING, BINDING),
    once: tuple[bool, bool] = (False, False),
) -> tuple[Proofs, Proofs]:
    """Both sides' proofs; ``keys`` are own and other of the one, own and other of the other."""
    a = Agreement(Side.ASKING, asking, keys[0], Channel(keys[1], bindings[0]))
    b = Agreement(Side.ANSWERING, answering, keys[2], Channel(keys[3], bindings[1]))
    return a.finish(b.share, once[0]), b.finish(a.share, once[1])


def fails(found: tuple[Proofs, Proofs]) -> bool:
    """Whether neither side takes the other's proof."""
    a, b = found
    return not a.check(b.ours) and not b.check(a.ours)


class AgreementTests:
    def test_same(self) -> None:
        """The same secret, keys and channel: each takes the other's proof, and not its own."""
        a, b = agree()
        assert a.check(b.ours) and b.check(a.ours)
        assert not a.check(a.ours) and not b.check(b.ours)
        assert len(a.ours) == PROOF_LENGTH

    def test_fresh(self) -> None:
        """Nothing of one exchange is good in another."""
        # covers: A05
        first, second = agree(), agree()
        assert not second[1].check(first[0].ours) and not second[0].check(first[1].ours)

    @pytest.mark.parametrize(
        "other",
        [
            code_secret("maple-orbit-tunnel"),
            code_secret("orbit-maple-tundra"),
            Secret("token", CODE.value),
            Secret("code", b""),
        ],
    )
    def test_other_secret(self, other: Secret) -> None:
        """Another secret, or the same one as something else, proves nothing."""
        # covers: A02
        assert fails(agree(CODE, other))

    @pytest.mark.parametrize(
        "keys", [(A, M, B, A), (A, B, B, M), (A, M, B, M), (M, B, B, A), (A, B, M, A)]
    )
    def test_other_keys(self, keys: tuple[str, str, str, str]) -> None:
        """The right secret, with another key seen anywhere, proves nothing."""
        # covers: A03
        assert fails(agree(keys=keys))

    def test_other_channel(self) -> None:
        """The right secret and keys on two connections prove nothing."""
        # covers: A03, A05
        assert fails(agree(bindings=(BINDING, b"\2" * 32)))

    def test_once(self) -> None:
        """What the proofs are good for is part of them."""
        assert fails(agree(once=(True, False)))
        a, b = agree(once=(True, True))
        assert a.check(b.ours) and b.check(a.ours)

    @given(st.text(max_size=80))
    @settings(max_examples=50)
    def test_any_proof(self, said: str) -> None:
        """Any text is a wrong proof and nothing else."""
        assert not PAIR[0].check(said)

    def test_secrets_unshown(self) -> None:
        """Proofs and bindings do not show themselves."""
        # covers: A11
        a, _ = agree()
        assert a.ours not in repr(a)
        assert "01" not in repr(Channel(A, b"01"))


PAIR = agree()


def element(y: int, sign: int = 0) -> str:
    return ((y | sign << 255) & (2**256 - 1)).to_bytes(32, "little").hex()


def fresh(side: Side = Side.ASKING) -> Agreement:
    return Agreement(side, CODE, A, Channel(B, BINDING))


class ShareTests:
    def test_form(self) -> None:
        """A share is 33 bytes in hex, with the side in front."""
        for side in Side:
            share = fresh(side).share
            assert len(share) == SHARE_LENGTH
            assert bytes.fromhex(share)[:1] == side.value.encode()

    @given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{66}", fullmatch=True))
    @settings(max_examples=200)
    def test_any_text(self, share: str) -> None:
        """Any text is refused, or is a half that leads to another secret than ours."""
        agreement = fresh()
        try:
            found = agreement.finish(share, once=False)
        except BadHeader:
            return
        assert share.startswith("42") and not found.check(PAIR[1].ours)

    @pytest.mark.parametrize(
        "y", [0, 1, PRIME - 1, PRIME, PRIME + 1, PRIME + 2, PRIME + 18, 2**255 - 1]
    )
    @pytest.mark.parametrize("sign", [0, 1])
    def test_small_and_strange(self, y: int, sign: int) -> None:
        """The neutral element, those of small order, and second spellings are refused."""
        with pytest.raises(BadHeader):
            fresh().finish("42" + element(y, sign), once=False)

    def test_small_order(self) -> None:
        """The points of order 8 lie on the curve and are refused all the same."""
        for y in (
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ):
            with pytest.raises(BadHeader):
                fresh().finish("42" + y, once=False)

    def test_own_side(self) -> None:
        """Our own share, or one of our side, sent back is refused."""
        agreement = fresh()
        with pytest.raises(BadHeader):
            agreement.finish(agreement.share, once=False)
        reflecting = fresh()
        with pytest.raises(BadHeader):
            reflecting.finish("42" + reflecting.share[2:], once=False)

    @pytest.mark.parametrize(
        "change",
        [
            str.upper,
            lambda share: share + "00",
            lambda share: share[:-2],
            lambda share: " " + share[1:],
            lambda share: share[:-1] + "g",
            lambda share: "53" + share[2:],
            lambda share: share[:-1] + "\uff11",
        ],
    )
    def test_other_spellings(self, change: object) -> None:
        """A good share in any other spelling is refused."""
        share = fresh(Side.ANSWERING).share
        with pytest.raises(BadHeader):
            fresh().finish(change(share), once=False)  # type: ignore[operator]
