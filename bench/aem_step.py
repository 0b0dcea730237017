"""What AEM costs: a training step with it, full-vocabulary entropies included, against one without.

    python bench/aem_step.py [--rounds 30] [--most 240] [--out bench/results/aem_step.json]

Wanted: a step with AEM ≤ 1.1 % slower (the paper's figure), and `modulate` ≤ 0.1 % of it; missed, the status is 1, and
if the steps do not decide it, 2.

Steps are those of `grpo_step.py`, on one CPU thread: 128 responses of 16 tokens to prompts of 256, two updates. *With*:
the sampler records each token's entropy as it draws, `modulate` scales the advantages. *Without*: a trainer that needs
no entropies: the sampler computes none, nothing is modulated. Both are steps of the same model in this process, in the
order with, without, without, with; a round's ratio is that of its CPU times, so that what slows the machine slows both,
and nothing but AEM differs. The median of the rounds' ratios is given with an interval by the ranks of the ratios. It
decides: *ok* if all of it is within what is wanted, *missed* if none is; else there are as many rounds again, until
`--most`. All intervals of a run together hold the true median with a probability of 95 %: they share the 5 %.

`modulate` is timed apart, on the step's own 128 responses in 16 groups, and in the sizes of `bench/modulate.py` against
a step that is longer in proportion to its responses.
"""

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from _results import add_out, save

MOST, MODULATE = 1.011, 0.001
"""Wanted: a step with AEM against one without, and `modulate` against a step."""
DOUBT = 0.05
"""How probable it may be that any interval does not hold the median."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=30, help="before the first verdict; then doubled until it is clear"
    )
    parser.add_argument("--most", type=int, default=240, metavar="ROUNDS", help="after which nothing is decided")
    parser.add_argument("--distinct", action="store_true", help="no two prompts alike: longer steps")
    add_out(parser, "aem_step")
    return parser.parse_args()


Pair = tuple[float, float]


def rounds(distinct: bool, folder: Path) -> Iterator[Pair]:
    """CPU seconds of a step with and of one without AEM, round after round without an end; the first one warms up."""
    from _grpo_ours import OurStep

    step = OurStep(folder, distinct=distinct)
    for number in itertools.count():
        seconds = {True: 0.0, False: 0.0}
        for step.aem in (True, False, False, True):
            started = time.process_time()
            step()
            seconds[step.aem] += (time.process_time() - started) / 2
            assert not step.aem or step.metrics["guarded_share"] < 1, "α was 1 everywhere"
        if number:
            yield seconds[True], seconds[False]


def looks(first: int, most: int) -> list[int]:
    """After how many rounds the verdict is asked: twice as many each time, never more than `most`."""
    found = [first]
    while 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found


def decide(pairs: Iterator[Pair], at: list[int]) -> tuple[list[Pair], Pair, bool | None]:
    """Take rounds until the median of their ratios is decided: rounds, interval, verdict (None: open)."""
    taken: list[Pair] = []
    low, high, met = -math.inf, math.inf, None
    for number in at:
        taken += itertools.islice(pairs, number - len(taken))
        low, high = interval([a / b for a, b in taken], DOUBT / len(at))
        met = True if high <= MOST else False if low > MOST else None
        if met is not None:
            break
    return taken, (low, high), met


def interval(values: list[float], doubt: float = DOUBT) -> Pair:
    """Between which values the median lies but for a probability of `doubt`, by ranks: binomial, n trials of ½.

    Infinite where there are too few values.
    """
    n, tail, rank = len(values), 0.0, 0
    while tail + math.comb(n, rank) / 2**n <= doubt / 2:
        tail += math.comb(n, rank) / 2**n
        rank += 1
    ordered = sorted(values)
    return (ordered[rank - 1], ordered[n - rank]) if rank else (-math.inf, math.inf)


def modulate_rows(step: float) -> list[dict[str, Any]]:
    """Time of `modulate` for as many responses as the step has, and for more, as shares of a step in proportion."""
    import torch
    from modulate import microseconds

    from trainer.aem import modulate

    rows = []
    for responses, groups in ((128, 16), (2000, 16), (10_000, 16)):
        generator = torch.Generator().manual_seed(0)
        advantages, entropy = (torch.randn(responses, generator=generator) for _ in range(2))
        group = torch.arange(responses) * groups // responses
        median, tail = microseconds(partial(modulate, advantages, entropy.abs(), group), 300)
        share = median / 1e6 / (step * responses / 128)
        rows.append({"responses": responses, "groups": groups, "median_us": median, "p95_us": tail, "share": share})
    return rows


def main() -> int:
    """Print the table; exit status 1 where AEM costs more than wanted, 2 where that is not decided."""
    args = arguments()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="aem-bench-") as folder:
        from _grpo_ours import model_folder

        pairs, (low, high), decided = decide(
            rounds(args.distinct, model_folder(Path(folder))), looks(args.rounds, args.most)
        )
    a, b = [with_it for with_it, _ in pairs], [without for _, without in pairs]
    ratio, step = statistics.median(x / y for x, y in pairs), statistics.median(a)
    rows = modulate_rows(step)
    medians = f"with AEM {step:.4f}, without {statistics.median(b):.4f}"
    print(f"CPU seconds per step, medians of {len(pairs)} rounds: {medians}")
    met = {"step": decided, "modulate": rows[0]["share"] <= MODULATE}
    verdict = {name: {True: "ok", False: "MISSED", None: "NOT DECIDED"}[good] for name, good in met.items()}
    print(f"with against without: {ratio:.4f} ({low:.4f} to {high:.4f}), wanted ≤ {MOST}: {verdict['step']}")
    for row in rows:
        print("modulate, {responses:6} responses: {median_us:6.0f} µs, {share:.4%} of a step".format(**row))
    print(f"`modulate` on the step's own responses, wanted ≤ {MODULATE:.1%} of it: {verdict['modulate']}")
    found = {"with": a, "without": b, "ratio": ratio, "modulate": rows, "met": met}
    found["interval"] = [end if math.isfinite(end) else None for end in (low, high)]
    save(args.out, {"rounds": len(pairs), "distinct": args.distinct, "wanted": [MOST, MODULATE], **found})
    return 1 if False in met.values() else 2 if None in met.values() else 0


if __name__ == "__main__":
    raise SystemExit(main())
