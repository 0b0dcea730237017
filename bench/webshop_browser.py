"""Milliseconds per action of `aem/WebShopBrowser-v0`, beside the text environment on the same actions.

    python bench/webshop_browser.py [--episodes 10] [--out FILE]

Needs selenium, Chromium and chromedriver. Plays test goals with the expert, every fourth action or so at random.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("bench/results/webshop_browser.json"))
    options = parser.parse_args()
    rows = [
        {
            "environment": env_id,
            "what": what,
            "median_ms": round(1e3 * statistics.median(seconds), 3),
            "n": len(seconds),
        }
        for env_id in ("aem/WebShop-v0", "aem/WebShopBrowser-v0")
        for what, seconds in measure(env_id, options.episodes).items()
    ]
    print(f"{'environment':24} {'what':14} {'median ms':>10} {'n':>5}")
    for row in rows:
        print(f"{row['environment']:24} {row['what']:14} {row['median_ms']:10.3f} {row['n']:5}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


def measure(env_id: str, episodes: int) -> dict[str, list[float]]:
    """Seconds of each call, by kind of action."""
    import aem_envs

    env = aem_envs.make_env(env_id, split="test")
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(what: str, call: Any) -> Any:
        start = time.perf_counter()
        result = call()
        seconds[what].append(time.perf_counter() - start)
        return result

    try:
        for number, task_id in enumerate(env.task_ids("test", episodes)):
            task = {"task_id": task_id}
            what = "first reset" if number == 0 else "reset"
            observation, info = timed(what, lambda: env.reset(seed=0, options=task))  # noqa: B023
            expert = aem_envs.make_expert(env_id, "expert", noise=0.25, seed=1)
            expert.reset(env, observation, info)
            over = False
            while not over:
                action = expert.act(observation, info)
                kind = "search" if action.startswith("search") else "click"
                observation, _, terminated, truncated, info = timed(kind, lambda: env.step(action))  # noqa: B023
                over = terminated or truncated
        timed("close", env.close)
    finally:
        env.close()
    return seconds


if __name__ == "__main__":
    main()
