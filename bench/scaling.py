"""Seconds of a whole RL step against the number of its episodes, and of their turns: wanted is a straight line.

    OMP_NUM_THREADS=1 python bench/scaling.py [--rounds 2] [--most 1024] [--out bench/results/scaling.json]
        [--plot bench/results/scaling.svg]

The trainer's own loop on embedded ALFWorld games with the quickstart's model (random weights, prompts that only grow,
whole episodes as sequences, 96 in flight): collect, score, credit, modulate, update, push. Episodes: 16 to 1,024, in
groups of 8, of 8 turns each; turns: 4 to 32 in 64 episodes. Weights do not move (a learning rate of 1e-30), so that
steps are alike, and random answers end no game early. Each point is a run of its own; its first step warms up, and the
quickest of the others counts, in CPU seconds of the process; those of phases are wall time.

A fit of log seconds against log size gives the exponent: 1 is linear. With episodes, what a step costs whatever it
holds is shared by more of them, so it starts below 1. With turns, a turn's attention goes over all those before it, so
it ends above. Wanted: at most 1.1 for episodes, from the largest two sizes too, and at most 1.3 for turns. Missed, the
status is 1.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import FOLDER, add_out, save

EPISODES = (16, 32, 64, 128, 256, 512, 1024)
TURNS = (4, 8, 16, 32)
EPISODES_OF_TURNS, TURNS_OF_EPISODES = 64, 8
WANTED = {"episodes": 1.1, "turns": 1.3}
"""Largest exponents."""


def measure(episodes: int, turns: int, rounds: int) -> dict[str, Any]:
    """The quickest of so many RL steps, after one that warms up."""
    import torch
    from rich.console import Console

    from trainer.config import EnvConfig, ModelConfig, OptimiserConfig, RolloutConfig, TrainConfig
    from trainer.loop import rl_step
    from trainer.progress import Reporter
    from trainer.runs import new_run
    from trainer.session import RL

    config = TrainConfig(
        env=EnvConfig("aem/ALFWorld-v0", kwargs={"size": "small"}),
        model=ModelConfig(
            preset="tiny",
            preset_options={"max_positions": 4096},
            prompt="plain-full",
            max_new_tokens=8,
            corpus_games=50,
        ),
        rollout=RolloutConfig(tasks=episodes // 8, group_size=8, max_steps=turns, whole_episodes=True),
        optimiser=OptimiserConfig(lr=1e-30, micro_tokens=16_384),
        steps=1000,
    )
    torch.manual_seed(0)
    taken: list[tuple[float, dict[str, float], float]] = []
    with (
        tempfile.TemporaryDirectory(prefix="aem-bench-") as folder,
        new_run(config, Path(folder) / "run", Reporter(Console(quiet=True))) as session,
    ):
        session.begin_stage(RL)
        session.push_weights()
        for step in range(rounds + 1):
            session.clock.take()
            start = time.process_time()
            metrics = rl_step(session, step)
            taken.append((time.process_time() - start, session.clock.take(), float(metrics["turns_mean"])))
    seconds, phases, played = min(taken[1:], key=lambda found: found[0])
    return {
        "episodes": episodes,
        "turns": turns,
        "turns_played": round(played, 2),
        "seconds": round(seconds, 3),
        "us_per_turn": round(seconds / episodes / played * 1e6, 1),
        "phases": {name.removeprefix("seconds_"): round(value, 4) for name, value in phases.items()},
    }


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the least-squares line of log y against log x."""
    a, b = [math.log(v) for v in x], [math.log(v) for v in y]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return sum((i - mean_a) * (j - mean_b) for i, j in zip(a, b)) / sum((i - mean_a) ** 2 for i in a)


def report(rows: dict[str, list[dict[str, Any]]]) -> tuple[dict[str, Any], bool]:
    """Exponents of both series, printed, and whether they are as wanted."""
    fits: dict[str, Any] = {}
    for kind, found in rows.items():
        x, y = [row[kind] for row in found], [row["seconds"] for row in found]
        whole, last = exponent(x, y), exponent(x[-2:], y[-2:])
        met = whole <= WANTED[kind] and (kind != "episodes" or last <= WANTED[kind])
        fits[kind] = {"exponent": round(whole, 3), "last_two": round(last, 3), "wanted": WANTED[kind], "met": met}
        print(
            f"{kind}: seconds ~ {kind}^{whole:.2f} (last two: {last:.2f}), wanted ≤ {WANTED[kind]:g}: "
            f"{'ok' if met else 'MISSED'}"
        )
    return fits, all(fit["met"] for fit in fits.values())


def plot(rows: dict[str, list[dict[str, Any]]], fits: dict[str, Any], path: Path) -> None:
    """Seconds against the turns that a step plays, beside the line from nothing to the largest step."""
    from aem_agent.report.charts import Series, line_chart
    from trainer.analysis.results import write_svg

    series = []
    for kind, found in rows.items():
        x = [row["episodes"] * row["turns_played"] for row in found]
        name = f"more {kind} (exponent {fits[kind]['exponent']:.2f})"
        series.append(Series(name, x, [row["seconds"] for row in found]))
    end = max(((x, y) for s in series for x, y in zip(s.x, s.y)), default=(1.0, 1.0))
    series.append(Series("a straight line", [0.0, end[0]], [0.0, end[1]], dashed=True))
    caption = "CPU seconds of an RL step against the turns it plays"
    write_svg(path, line_chart(series, caption=caption, x_label="turns of a step: episodes × turns of each"))


def main() -> int:
    """Print the table; exit status 1 where a step's time grows faster than wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--most", type=int, default=EPISODES[-1], help="leave out what has more episodes")
    parser.add_argument("--plot", type=Path, default=FOLDER / "scaling.svg", metavar="FILE", help="the plot goes here")
    add_out(parser, "scaling")
    args = parser.parse_args()
    sizes = {
        "episodes": [(n, TURNS_OF_EPISODES) for n in EPISODES if n <= args.most],
        "turns": [(min(EPISODES_OF_TURNS, args.most), n) for n in TURNS],
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    print(f"{'':10}{'episodes':>9}{'turns':>7}{'seconds':>9}{'µs/turn':>9}   rollout, score, update")
    for kind, points in sizes.items():
        rows[kind] = []
        for episodes, turns in points:
            row = measure(episodes, turns, args.rounds)
            rows[kind].append(row)
            parts = ", ".join(f"{row['phases'].get(name, 0):.2f}" for name in ("rollout", "score", "update"))
            figures = f"{row['seconds']:9.2f}{row['us_per_turn']:9.0f}"
            print(f"{kind:10}{episodes:9}{row['turns_played']:7.2f}{figures}   {parts}", flush=True)
    fits, well = report(rows)
    save(args.out, {"rounds": args.rounds, "rows": rows, "fits": fits})
    plot(rows, fits, args.plot)
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
