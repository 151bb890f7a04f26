"""What is under way, and a say in it: the control commands, and hello and ping."""

from __future__ import annotations

from lanxfer.commands.table import Call, Node, Reply, command
from lanxfer.errors import NotFound, UnsupportedVersion
from lanxfer.policy import UNKNOWN, Principal, Standing, mine
from lanxfer.transfers import Snapshot, State, as_row
from lanxfer.wire import limits
from lanxfer.wire.native import VERSION, Fields
from lanxfer.wire.packets import Args

PAGE = 100
"""Rows of one list answer at most (catalogue L09)."""


@command("hello")
async def hello(call: Call, node: Node) -> Reply:
    """Agree on a version; what the other side calls itself proves nothing."""
    fields = Fields(call.args)
    spoken = fields.take_list("speaks", most=16)
    fields.maybe_text("device", most=256)
    if VERSION not in spoken:
        raise UnsupportedVersion(f"This device speaks {VERSION}.")
    return Reply(
        {
            "speaks": VERSION,
            # Nothing about this device before the other one has proved something.
            "device": "" if call.principal.standing in UNKNOWN else node.device,
            "limits": _limits(node, call.principal),
            "features": ["streams", "folders", *(["clear"] if call.takes_clear else [])],
        }
    )


def _limits(node: Node, principal: Principal) -> dict[str, int]:
    pack = node.pack(principal)
    return {
        "inline": node.inline(principal),
        "part": limits.PART_MAX,
        "open": limits.OPEN_EXCHANGES,
        "pack": pack,
        "pack_file": pack,
    }


@command("ping")
async def ping(call: Call, node: Node) -> Reply:
    """Answer."""
    return Reply()


@command("pending_requests")
async def pending_requests(call: Call, node: Node) -> Reply:
    """What is under way and the caller's to see, oldest first, at most a page of it."""
    if not call.proves:
        own = None
        if call.principal.standing is not Standing.LEGACY_LOCAL:
            caller = call.principal.name

            def own(entry: Args) -> bool:
                return entry.get("peer") == caller

        return Reply(rows=node.polled.poll(own))
    found = node.registry.pending(mine(call.principal))
    return Reply({"total": len(found)}, rows=[as_row(each) for each in found[:PAGE]])


@command("history")
async def history(call: Call, node: Node) -> Reply:
    """What is finished, newest first; ``before`` is the id the page before ended with."""
    fields = Fields(call.args)
    limit = fields.maybe_number("limit", most=PAGE) or PAGE
    before = fields.maybe_text("before", most=64) or ""
    peer = None if call.principal.standing is Standing.LOCAL else call.principal.name
    found = await node.history(limit, before, peer)
    return Reply(rows=[as_row(each) for each in found])


def _id(call: Call) -> str:
    return Fields(call.args).take_text("id", most=64)


@command("cancel_request")
async def cancel_request(call: Call, node: Node) -> Reply:
    """Cancel a transfer of the caller's by id, or by the request id an ae peer gave it.

    For the owner also all of a send that waits for its device.
    """
    request = call.args.get("rt_id")
    id = request if isinstance(request, str) else _id(call)
    try:
        found = node.registry.cancel(id, mine(call.principal), "Cancelled on request.")
    except NotFound:
        if call.principal.standing is not Standing.LOCAL or not await node.unqueue(id):
            raise
        return Reply({"state": State.CANCELLED.value})
    return Reply({"state": found.state.value})


@command("pause")
async def pause(call: Call, node: Node) -> Reply:
    """Hold a transfer back; it keeps its place and its bytes."""
    transfer = node.registry.find(_id(call), mine(call.principal))
    transfer.pause(True)
    return Reply({"state": transfer.state.value})


@command("resume")
async def resume(call: Call, node: Node) -> Reply:
    """Let a paused transfer go on."""
    transfer = node.registry.find(_id(call), mine(call.principal))
    transfer.pause(False)
    return Reply({"state": transfer.state.value})


@command("watch")
async def watch(call: Call, node: Node) -> Reply:
    """Tell of every change of the caller's transfers until it cancels; first, what is under way."""
    visible = mine(call.principal)

    def tell(snapshot: Snapshot) -> None:
        if visible(snapshot):
            call.tell({"transfer": as_row(snapshot)})

    for each in node.registry.pending():
        tell(each)
    unsubscribe = node.registry.subscribe(tell)
    try:
        await call.stopped()
    finally:
        unsubscribe()
    return Reply()


@command("status")
async def status(call: Call, node: Node) -> Reply:
    """About this service, for its owner."""
    return Reply(node.status())


@command("reload")
async def reload(call: Call, node: Node) -> Reply:
    """Read the configuration file again, for the owner (protocol, "Control")."""
    return Reply(dict(await call.shield(node.reload())))


@command("login")
async def login(call: Call, node: Node) -> Reply:
    """Be a named user from here on (protocol, "Logging in")."""
    fields = Fields(call.args)
    user, password = fields.take_text("user", most=256), fields.take_text("password", most=4096)
    found = await call.shield(node.login(call.principal, user, password))
    call.become(found)
    return Reply({"user": found.label, "limits": _limits(node, found)})


@command("accept")
async def accept(call: Call, node: Node) -> Reply:
    """Take what is offered and waits for a yes; a folder with all that is in it."""
    return Reply({"decided": list(node.answer(_id(call), True))[:PAGE]})


@command("reject")
async def reject(call: Call, node: Node) -> Reply:
    """Do not take what is offered; its sender hears the reason."""
    reason = Fields(call.args).maybe_text("reason", most=256) or ""
    return Reply({"decided": list(node.answer(_id(call), False, reason))[:PAGE]})


@command("usage")
async def usage(call: Call, node: Node) -> Reply:
    """What was received from whom; ``forget`` names a principal to be counted anew."""
    forget = Fields(call.args).maybe_text("forget", most=256)
    rows = await node.usage(forget)
    return Reply({"total": len(rows)}, rows=list(rows)[:PAGE])


@command("send_file")
async def send_file(call: Call, node: Node) -> Reply:
    """Send a file or folder of this device to another one, for its owner (catalogue J20)."""
    return Reply(await call.shield(node.send(call)))


@command("send_message")
async def send_message(call: Call, node: Node) -> Reply:
    """Send a text to another device, for the owner of this one."""
    return Reply(await call.shield(node.send(call)))
