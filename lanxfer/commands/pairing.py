"""How two devices come to know each other's key (docs/protocol.rst, "Pairing").

``pair``, ``pair_prove`` and ``pair_keep`` are the three steps of the device that
comes, in that order and on one connection; ``pair_open`` is for the owner.
"""

from __future__ import annotations

from lanxfer.commands.table import Call, Node, Reply, command
from lanxfer.errors import Forbidden
from lanxfer.pake import PROOF_LENGTH, SHARE_LENGTH, Channel
from lanxfer.peers import NAME_MAX
from lanxfer.wire.native import Fields


def _channel(call: Call) -> Channel:
    found = call.channel()
    if found is None:
        raise Forbidden("Pairing needs TLS, where both sides show their key.")
    return found


@command("pair")
async def pair(call: Call, node: Node) -> Reply:
    """Exchange the two halves; nothing that could be compared is given away yet."""
    fields = Fields(call.args)
    kind = fields.take_text("with", most=16)
    share = fields.take_text("share", most=SHARE_LENGTH)
    device = fields.maybe_text("device", most=256) or ""
    ours, once = await node.pairing.begin(_channel(call), kind, share, device)
    return Reply({"share": ours, "once": once})


@command("pair_prove")
async def pair_prove(call: Call, node: Node) -> Reply:
    """Check that the other side knows the secret, then prove that this one does."""
    proof = Fields(call.args).take_text("proof", most=PROOF_LENGTH)
    ours = await node.pairing.prove(_channel(call), proof)
    return Reply({"proof": ours, "device": node.device})


@command("pair_keep")
async def pair_keep(call: Call, node: Node) -> Reply:
    """Keep the other side's key; answered when it is on the disk."""
    await node.pairing.keep(_channel(call))
    return Reply()


@command("pair_open")
async def pair_open(call: Call, node: Node) -> Reply:
    """Open a window, tell its words, and wait for whoever comes; for the owner."""
    fields = Fields(call.args)
    once, name = fields.take_flag("once"), fields.maybe_text("label", most=NAME_MAX)
    return Reply(await call.shield(node.open_pairing(once, name, call.tell)))
