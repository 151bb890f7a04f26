"""Proving a short secret to each other without giving it away (docs/protocol.rst, "Pairing").

SPAKE2 is the business of the package ``spake2``, and only this module knows it.
That package takes more than it should (longer messages, other spellings of an
element), so what the other side sent is looked at here first.  What comes out
is bound to both keys and to this very TLS connection (catalogue A03, A05).
"""

from __future__ import annotations

import hmac
import re
from enum import Enum

from attrs import field, frozen
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lanxfer.codes import Secret
from lanxfer.errors import BadHeader

SHARE_LENGTH = 66
PROOF_LENGTH = 64

_SALT = b"lanxfer/1 pairing"
_PRIME = 2**255 - 19
_HEX = re.compile(r"[0-9a-f]*")


@frozen
class Channel:
    """What TLS proved of a connection: the key on the other side, and what only its ends share."""

    peer: str
    binding: bytes = field(repr=False)


class Side(Enum):
    """Who opened the connection, and who accepted it."""

    ASKING = "A"
    ANSWERING = "B"


@frozen
class Proofs:
    """What this side says, and what it has to hear."""

    ours: str = field(repr=False)
    _theirs: str = field(repr=False)

    def check(self, said: str) -> bool:
        """Whether the other side knows the secret; in constant time, for any text."""
        return hmac.compare_digest(said.encode("utf-8", "surrogatepass"), self._theirs.encode())


class Agreement:
    """One side of one exchange; good for one ``finish``.

    Takes some milliseconds to make and to finish, so it belongs in a thread.
    """

    def __init__(self, side: Side, secret: Secret, own_key: str, channel: Channel) -> None:
        # It makes tables when it is imported, which nobody waits for who does not pair.
        import spake2  # type: ignore[import-untyped]

        asks = side is Side.ASKING
        self._side = side
        self._kind = secret.kind
        self._channel = channel
        self._keys = (own_key, channel.peer) if asks else (channel.peer, own_key)
        make = spake2.SPAKE2_A if asks else spake2.SPAKE2_B
        asking, answering = (key.encode("ascii") for key in self._keys)
        password = secret.kind.encode("ascii") + b":" + secret.value
        self._spake = make(password, idA=asking, idB=answering)
        self.share: str = self._spake.start().hex()

    def finish(self, share: str, once: bool) -> Proofs:
        """With what the other side sent; BadHeader where that is nothing it could have sent."""
        message = _checked(share, self._side)
        try:
            key: bytes = self._spake.finish(message)
        except Exception as error:
            # The package has no one family of errors, and asserts in places.
            raise BadHeader(_NO_SHARE) from error
        about = (*self._keys, self._kind, "once" if once else "keep")
        info = b"\0".join(each.encode("ascii") for each in about)
        derive = HKDF(SHA256(), length=64, salt=_SALT, info=info)
        both = derive.derive(key + self._channel.binding)
        asking = hmac.digest(both[:32], b"asking", "sha256").hex()
        answering = hmac.digest(both[32:], b"answering", "sha256").hex()
        if self._side is Side.ASKING:
            return Proofs(asking, answering)
        return Proofs(answering, asking)


_NO_SHARE = "The other side's half of the exchange is not what SPAKE2 sends."


def _checked(share: str, ours: Side) -> bytes:
    """The message of the other side; BadHeader unless there is one spelling of it, this one."""
    if len(share) != SHARE_LENGTH or not _HEX.fullmatch(share):
        raise BadHeader(_NO_SHARE)
    message = bytes.fromhex(share)
    theirs = Side.ANSWERING if ours is Side.ASKING else Side.ASKING
    y = int.from_bytes(message[1:], "little") & (2**255 - 1)
    # 1 and -1 are the neutral element and the one of order 2, also with a sign they do not have.
    if message[:1] != theirs.value.encode("ascii") or not 1 < y < _PRIME - 1:
        raise BadHeader(_NO_SHARE)
    return message
