"""``python -m chaos timing``: does the time a refusal takes tell how much of a guess was right?

Two kinds of wrong guesses, in random order, and Welch's t of how long each was
looked at (F21, A10).  The slowest tenth is left out of both: that is the
machine and not the secret.  With ``--planted`` the secret is compared letter by
letter instead, which has to show.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator
from unittest import mock

import click
from attrs import frozen

from chaos.figures import Figures
from lanxfer.errors import Forbidden
from lanxfer.pake import PROOF_LENGTH, Proofs
from lanxfer.policy import Principal, Standing
from lanxfer.sessions.ticket import TicketSession
from lanxfer.testing import Dialogue, Pair

HEX = "0123456789abcdef"
T_MOST = 4.5
KEPT = 0.9
CHUNK = 5000

Check = Callable[[str, str], object]
Guess = Callable[[], tuple[str, str]]


@frozen
class Subject:
    """A place where secrets are compared, and two kinds of wrong guesses, new ones each time."""

    name: str
    check: Check
    one: Guess
    other: Guess
    share: int = 1
    """One sample of so many is taken, where a sample takes long."""


def _wrong(text: str, like: int, chosen: random.Random) -> str:
    """As long as ``text``, the same in the first ``like`` letters and wrong in the next one."""
    rest = "".join(each if each == "-" else chosen.choice(HEX) for each in text[like + 1 :])
    return text[:like] + chosen.choice(HEX.replace(text[like], "")) + rest


def subjects(chosen: random.Random) -> Iterator[Subject]:
    """Tickets, and the proof of a pairing."""
    pair = Pair(principal=Principal(Standing.TICKET, "ticket:there", "there"))
    node = pair.there
    slots = [node.offer_slot("x", 5, 1e9) for _ in range(50)]
    session, file = slots[20].session, slots[20].file

    def redeem(session: str, file: str) -> None:
        try:
            node.redeem(session, file, 5)
        except Forbidden:
            return
        raise AssertionError("the guess was right")

    def answer(session: str, file: str) -> None:
        dialogue = Dialogue(pair, TicketSession())
        dialogue.say(f"{session} {file} 5\n".encode())
        assert dialogue.raw.received.startswith(b"error forbidden ")
        pair.wires.clear()
        pair.clock.advance(60)

    def with_file(like: int) -> Guess:
        return lambda: (session, _wrong(file, like, chosen))

    def with_session(like: int) -> Guess:
        return lambda: (_wrong(session, like, chosen), file)

    yield Subject("ticket: 0 or 30 letters of the file right", redeem, with_file(0), with_file(30))
    yield Subject(
        "ticket: 0 or 30 letters of the session right", redeem, with_session(0), with_session(30)
    )
    yield Subject(
        "ticket: session or file wrong, whole answers", answer, with_session(0), with_file(0), 20
    )
    right = "".join(chosen.choices(HEX, k=PROOF_LENGTH))
    proofs = Proofs("", right)

    def with_proof(like: int) -> Guess:
        return lambda: ("", _wrong(right, like, chosen))

    yield Subject(
        "pairing: 0 or 60 letters of the proof right",
        lambda _, said: proofs.check(said),
        with_proof(0),
        with_proof(60),
    )


def welch(one: list[float], other: list[float]) -> float:
    """Welch's t of two samples."""
    means = [sum(each) / len(each) for each in (one, other)]
    spread = [
        sum((value - mean) ** 2 for value in each) / (len(each) - 1) / len(each)
        for each, mean in zip((one, other), means, strict=True)
    ]
    return (means[0] - means[1]) / math.sqrt(sum(spread) or 1e-9)


def measure(subject: Subject, samples: int, chosen: random.Random) -> float:
    """Welch's t over so many samples of the two kinds together."""
    times: tuple[list[float], list[float]] = ([], [])
    makers = (subject.one, subject.other)
    count = samples // subject.share
    for start in range(0, count, CHUNK):
        kinds = [chosen.getrandbits(1) for _ in range(min(CHUNK, count - start))]
        lines = [" ".join(makers[kind]()).encode() for kind in kinds]
        # As they come from a wire, all in the same way: where a text lies in memory shows too.
        spent = _timed(subject.check, [line.decode().split(" ") for line in lines])
        for kind, each in zip(kinds, spent, strict=True):
            times[kind].append(each)
    limit = sorted(times[0] + times[1])[int(KEPT * count)]
    return welch(*([each for each in kind if each <= limit] for kind in times))


def _timed(check: Check, guesses: list[list[str]]) -> list[float]:
    now, spent = time.perf_counter_ns, []
    gc.disable()
    try:
        for one, other in guesses:
            began = now()
            check(one, other)
            spent.append(float(now() - began))
    finally:
        gc.enable()
    return spent


def letter_by_letter(one: str | bytes, other: str | bytes) -> bool:
    """What nobody should do."""
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


@click.command()
@click.option("--samples", type=click.IntRange(min=1000), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=lambda: random.SystemRandom().randrange(2**32))
@click.option("--planted", is_flag=True, help="Compare letter by letter, which has to be found.")
def command(samples: int, seed: int, planted: bool) -> None:
    """Measure whether wrong guesses can be told apart by their time."""
    figures = Figures(seed=seed)
    chosen = random.Random(seed)
    compare = mock.patch("hmac.compare_digest", letter_by_letter)
    if planted:
        compare.start()
    try:
        for subject in subjects(chosen):
            figures.add(subject.name, abs(measure(subject, samples, chosen)), "|t|", most=T_MOST)
    finally:
        if planted:
            compare.stop()
    figures.finish()
