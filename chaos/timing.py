"""Whether the time a wrong proof takes tells how much of it is right.

Proofs that share no, half, and all but the last of their characters with the
right one are checked in turn, a million times; Welch's t between the times says
whether they differ (security catalogue F21, A10).  The slowest tenth of each kind
is left out: that is the machine, not the comparison.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Sequence

import click

from chaos.figures import Figures

BOUND = 4.5
_BATCH = 10_000


@click.command()
@click.option("--samples", type=click.IntRange(min=30_000), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def command(samples: int, seed: int) -> None:
    """Compare how long wrong proofs take to be refused."""
    from lanxfer.pake import PROOF_LENGTH, Proofs

    figures, dice = Figures(seed), random.Random(seed)
    right = "".join(dice.choices("0123456789abcdef", k=PROOF_LENGTH))
    proofs = Proofs("", right)
    shares = (0, PROOF_LENGTH // 2, PROOF_LENGTH - 1)
    took: dict[int, list[int]] = {share: [] for share in shares}
    clock, check = time.perf_counter_ns, proofs.check
    gc.disable()
    for done in range(0, samples, _BATCH):
        # New strings every time: where one lies in memory shows in the time, too.
        batch = [(share, _wrong(right, share, dice)) for share in shares * (_BATCH // 3)]
        dice.shuffle(batch)
        for share, said in batch:
            since = clock()
            check(said)
            # Nothing but the check is between the two: a look-up takes longer for some keys.
            spent = clock() - since
            took[share].append(spent)
        figures.tell(done, samples, "samples")
    gc.enable()
    none, *others = (sorted(each)[: len(each) * 9 // 10] for each in took.values())
    for share, each in zip(list(took)[1:], others, strict=True):
        t = _welch(none, each)
        figures.add(f"t, {share} characters right against none", t, least=-BOUND, most=BOUND)
    figures.add("one check", sum(none) / len(none), "ns")
    figures.finish()


def _wrong(right: str, share: int, dice: random.Random) -> str:
    """A proof that begins like the right one, differs at ``share``, and then is anything."""
    other = format(int(right[share], 16) ^ dice.randrange(1, 16), "x")
    return right[:share] + other + dice.randbytes(len(right)).hex()[: len(right) - share - 1]


def _welch(a: Sequence[int], b: Sequence[int]) -> float:
    """Welch's t statistic of two samples."""
    means = [sum(each) / len(each) for each in (a, b)]
    spread = sum(
        sum((value - mean) ** 2 for value in each) / (len(each) - 1) / len(each)
        for each, mean in zip((a, b), means, strict=True)
    )
    return (means[0] - means[1]) / math.sqrt(spread) if spread else 0.0
