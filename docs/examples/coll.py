"""A command that answers with a stream: so many numbers, eight bytes each."""

from lanxfer.commands.declared import Writer, command
from lanxfer.links import Link


class Coll:
    @command("app.coll")
    async def coll(self, count: int, out: Writer) -> None:
        for number in range(count):
            await out.write(number.to_bytes(8, "big"))


async def collect(link: Link, count: int) -> list[int]:
    stream = link.stream("app.coll", {"count": count}, reads=True)
    return [int.from_bytes(block, "big") async for block in stream.blocks(8)]
