"""Typed requests: the same classes at both ends."""

from attrs import frozen

from lanxfer.commands.declared import command


@frozen
class Add:
    n: int
    data: bytes = b""


@frozen
class Sum:
    total: int


class Sums:
    @command("sums.add")
    def add(self, request: Add) -> Sum:
        return Sum(request.n + len(request.data))
