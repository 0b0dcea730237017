"""Time of `modulate` on one CPU thread, against the length of a training step: it may take 0.1 % of one.

python bench/modulate.py [--out bench/results/modulate.json] [--step-seconds 1.5] [--repeats 300]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def microseconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and 95 % point of one call, after warming up."""
    for _ in range(30):
        call()
    samples = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        samples.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(samples), statistics.quantiles(samples, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--step-seconds", type=float, default=1.5, help="length of a training step to compare with")
    parser.add_argument("--repeats", type=int, default=300)
    options = parser.parse_args()

    import torch

    from trainer.aem import modulate

    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for responses, groups in ((500, 12), (2000, 12), (2000, 16), (10_000, 16), (50_000, 128)):
        generator = torch.Generator().manual_seed(0)
        advantages, entropy = (torch.randn(responses, generator=generator) for _ in range(2))
        entropy, group = entropy.abs(), torch.arange(responses) * groups // responses
        counted = torch.rand(responses, generator=generator) > 0.1
        episode = torch.arange(responses) * groups * 8 // responses
        cases: dict[str, dict[str, Any]] = {
            "default": {},
            "counted": {"counted": counted},
            "trajectory": {"scope": "trajectory", "trajectory": episode},
            "shuffle": {"shuffle": True, "generator": generator},
            "sign mask": {"sign_mask": "fall"},
        }
        for case, changes in cases.items():
            call = partial(modulate, advantages, entropy, group, **changes)
            median, tail = microseconds(call, options.repeats)
            sizes = {"responses": responses, "groups": groups, "case": case}
            rows.append(sizes | {"median_us": median, "p95_us": tail, "share": median / options.step_seconds / 1e6})
    print(f"{'responses':>9} {'groups':>6} {'case':<11} {'median µs':>9} {'95 % µs':>9} {'of a step':>9}")
    for row in rows:
        print("{responses:>9} {groups:>6} {case:<11} {median_us:>9.0f} {p95_us:>9.0f} {share:>9.4%}".format(**row))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        figures = {"torch": torch.__version__, "threads": 1, "step_seconds": options.step_seconds, "rows": rows}
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
