"""Milliseconds of processor time per embedded ALFWorld game; `python bench/alfworld_generator.py [GAMES]`.

Layouts and their tables are made once per process (about 0.1 s for each size) and not counted.
"""

import statistics
import sys
import time

from envs_data.alfworld.generator import generate
from envs_data.alfworld.rooms import SIZES
from envs_data.alfworld.splits import SPLITS, VALID_GAMES


def main(games: int) -> None:
    print(f"{'size':10} {'split':14} {'mean ms':>8} {'median ms':>10} {'facts':>6}")
    for size in SIZES:
        for split in SPLITS:
            numbers = range(games if split == "train" else min(games, VALID_GAMES))
            for number in numbers:
                generate(split, number, size=size)
            spent, facts = [], 0
            for number in numbers:
                start = time.process_time()
                problem = generate(split, number, size=size)
                spent.append(1e3 * (time.process_time() - start))
                facts += len(problem.facts)
            mean, median = statistics.mean(spent), statistics.median(spent)
            print(f"{size:10} {split:14} {mean:8.3f} {median:10.3f} {facts // len(numbers):6}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
