"""CPU time of a GRPO step, ours against TRL's GRPOTrainer: generate, score old log-probs, update.

    python bench/grpo_step.py [--rounds 7] [--updates 2] [--out bench/results/grpo_step.json]

Wanted: every row of ours ≤ 0.5 × TRL (stretch: 0.4 ×); missed, the status is 1. Needs TRL (the extra `trl`).

The same for all: the model (Qwen3 of 2 layers, width 128, 2,048 words, tied head, float32: 656,128 parameters), 16
groups of 8 completions, prompts of 256 tokens of the same distribution, exactly 16 new tokens at temperature 1 (nobody
has an end token), the reward, clip 0.2, no KL, mean over tokens, AdamW in its fused form, gradients clipped to 1, and
`--updates` optimiser steps of as many completions each, in one pass forward and backward each. TRL generates once per
step and, as its batch serves more than one update, scores old log-probs in passes of an update's size; so do we. No
logging, no checkpoints, no gradient checkpointing. What counts is the CPU time of the process (all its threads) per
step; contenders are processes of their own that take turns, and the first rounds warm up.

The rows of ours:
- *scoring forward*: old log-probs and entropies are computed after sampling, as with engines that record neither;
- *recorded*: the sampler keeps both as it draws, so there is no such pass: what a run does;
- *distinct prompts*: no two of the 128 prompts are alike, so nothing is computed once for a group. TRL's time does not
  depend on that; ours does, as equal beginnings are computed once, for a group's prompt and for an agent's history.

Ours includes AEM, the handing over of weights to the engine with its check, and all metrics of a step but the entropy
drift's (`metrics.drift_responses`), which TRL has nothing like. *TRL with AEM* is `trainer.adapters.trl`.
"""

import argparse
import statistics
from contextlib import ExitStack
from typing import Any

from _results import add_out, save
from _rounds import Contender, ContenderFailed

WANTED, STRETCH = 0.5, 0.4
NAMES = {
    "trl": "TRL's GRPOTrainer",
    "trl-aem": "TRL with AEM, our adapter",
    "ours-scoring": "ours, scoring forward",
    "ours": "ours, recorded",
    "ours-distinct-scoring": "ours, distinct prompts, scoring forward",
    "ours-distinct": "ours, distinct prompts, recorded",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=2, help="rounds before those that count")
    parser.add_argument(
        "--updates", type=int, default=2, help="optimiser steps per GRPO step, a divisor of 128, above 1"
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    add_out(parser, "grpo_step")
    return parser.parse_args()


def measured(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """CPU seconds of all rounds of each contender."""
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as opened:
        contenders = {}
        for name in args.only:
            contenders[name] = Contender("_grpo_contender.py", (name, args.updates))
            opened.callback(contenders[name].end)
            found[name] = {"about": contenders[name].about, "seconds": []}
        for number in range(args.warm_up + args.rounds):
            for name, contender in contenders.items():
                seconds = contender.round()
                if number >= args.warm_up:
                    found[name]["seconds"].append(round(seconds, 4))
    return found


def report(found: dict[str, dict[str, Any]]) -> bool:
    """Medians and ratios, added to what was found and printed; whether what was wanted holds."""
    peer = statistics.median(found["trl"]["seconds"]) if "trl" in found else None
    print(f"{'CPU seconds per GRPO step':42} {'median':>7} {'best':>7} {'× TRL':>7}")
    for name, row in found.items():
        row["median"], row["best"] = statistics.median(row["seconds"]), min(row["seconds"])
        row["ratio"] = round(row["median"] / peer, 3) if peer else None
        ratio = f"{row['ratio']:7.3f}" if peer else ""
        print(f"{NAMES[name]:42} {row['median']:7.3f} {row['best']:7.3f} {ratio}  {row['about']}")
    ours = [row["ratio"] for name, row in found.items() if name.startswith("ours")]
    if peer is None or not ours:
        return True
    met = max(ours) <= WANTED
    stretch = "met" if max(ours) <= STRETCH else "missed"
    print(f"the slowest of ours, wanted ≤ {WANTED} × TRL: {'ok' if met else 'MISSED'}; ≤ {STRETCH}: {stretch}")
    return met


def main() -> int:
    """Print the table; exit status 1 where ours is not as fast as wanted."""
    args = arguments()
    if args.updates < 2 or 128 % args.updates:
        raise SystemExit("--updates must be a divisor of 128, above 1: with a single one TRL scores no old log-probs")
    try:
        found = measured(args)
    except ContenderFailed as error:
        print(f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()), sep="\n")
        return 1
    met = report(found)
    wanted = {"ratio": WANTED, "stretch": STRETCH, "met": met}
    save(args.out, {"rounds": args.rounds, "updates": args.updates, "wanted": wanted, "contenders": found})
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
