"""Microseconds per step and reset through `gym.make`, the whole `info` included.

    python bench/env_step.py [--episodes 200] [--data FOLDER] [--out FILE]

Walks: `random` takes admissible actions of a new task each episode; `revisit` goes back and forth in one task between
the same few places. Official games are added where they are found (`--data`, else `$ALFWORLD_DATA`, else the archive
under `$AEM_TEST_DATA`). Medians of single calls, so that neighbours on the machine disturb little. Each walk is asked
to take at most 20 µs per step.
"""

import argparse
import json
import random
import statistics
import time
import tracemalloc
from pathlib import Path
from typing import Any

from official_games import official_games

STEP_LIMIT_US = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--data", type=Path, help="folder of official games")
    parser.add_argument("--out", type=Path, default=Path("bench/results/env_step.json"))
    options = parser.parse_args()
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("aem/Toy-v0", "Toy", {}),
        ("aem/ALFWorld-v0", "ALFWorld small", {"size": "small"}),
        ("aem/ALFWorld-v0", "ALFWorld official-like", {"size": "official"}),
        ("aem/ALFWorld-v0", "ALFWorld official-like, old", {"size": "official", "dialect": "old"}),
    ]
    with official_games(options.data) as data:
        if data:
            cases.append(("aem/ALFWorld-v0", "ALFWorld official games", {"source": "official", "data": str(data)}))
        rows = [row for env_id, name, settings in cases for row in measure(env_id, name, settings, options.episodes)]
    print(f"{'environment':30} {'what':18} {'median µs':>10} {'95 % µs':>9}")
    for row in rows:
        mark = (
            "" if row["what"] not in ("random step", "revisit step") else "ok" if row["ok"] else f"> {STEP_LIMIT_US:g}"
        )
        print(f"{row['environment']:30} {row['what']:18} {row['median_us']:10.2f} {row['p95_us']:9.2f} {mark}")
    print(f"bytes per further environment in a loaded official-like game: {bytes_per_episode():.0f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


def measure(env_id: str, name: str, settings: dict[str, Any], episodes: int) -> list[dict[str, Any]]:
    """Rows of one environment."""
    import gymnasium as gym

    import aem_envs  # noqa: F401  # registers

    env: gym.Env[str, str] = gym.make(env_id, **settings)
    rng = random.Random(0)
    new, steps, again, back = [], [], [], []
    for episode in range(episodes):
        seconds, (_, info) = timed(lambda: env.reset(seed=episode))  # noqa: B023
        new.append(seconds)
        done = False
        while not done:
            action = rng.choice(info["admissible_actions"])
            seconds, (_, _, terminated, truncated, info) = timed(lambda: env.step(action))  # noqa: B023
            steps.append(seconds)
            done = terminated or truncated
        task = {"task_id": info["task_id"]}
        seconds, (_, info) = timed(lambda: env.reset(options=task))  # noqa: B023
        again.append(seconds)
        places = [action for action in info["admissible_actions"] if action.startswith("go ")][:3]
        for turn in range(30):
            action = places[turn % len(places)] if places else "look"
            seconds, (_, _, terminated, truncated, _) = timed(lambda: env.step(action))  # noqa: B023
            back.append(seconds)
            if terminated or truncated:
                break
    env.close()
    series = {"random step": steps, "revisit step": back, "reset, new task": new, "reset, same task": again}
    return [row(name, what, seconds) for what, seconds in series.items()]


def timed(call: Any) -> tuple[float, Any]:
    """Seconds a call took, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def row(name: str, what: str, seconds: list[float]) -> dict[str, Any]:
    """One line of the table."""
    median = 1e6 * statistics.median(seconds)
    high = 1e6 * statistics.quantiles(seconds, n=20)[-1]
    figures = {"environment": name, "what": what, "median_us": round(median, 2), "p95_us": round(high, 2)}
    return {**figures, "calls": len(seconds), "ok": "step" not in what or median <= STEP_LIMIT_US}


def bytes_per_episode(environments: int = 50) -> float:
    """Memory of an environment whose game another one has loaded."""
    import aem_envs

    task = {"task_id": "official/train/000003"}
    aem_envs.make_env("aem/ALFWorld-v0", size="official").reset(seed=0, options=task)
    tracemalloc.start()
    made = [aem_envs.make_env("aem/ALFWorld-v0", size="official") for _ in range(environments)]
    for env in made:
        env.reset(seed=0, options=task)
    total = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return total / len(made)


if __name__ == "__main__":
    main()
