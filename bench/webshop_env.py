"""Steps per second of `aem/WebShop-v0` on one core, its resets and construction, and how well the players do.

    python bench/webshop_env.py [--products 1000] [--steps 5000] [--repeats 7] [--tasks 300]
                                [--original FOLDER] [--python PYTHON] [--out FILE]

The mix: episodes of ten actions: a search for six words of other tasks' instructions, drawn afresh, then clicks at
random (links, options, sub-pages, turns of the page), at last a purchase where the page lets one buy. No result of a
search is kept anywhere. Each call of `env.step` is timed with the observation, the clickables and the whole `info`,
not the choice of actions; resets apart. Medians of the repeats, by the clock and by CPU time (neighbours on the machine
slow the clock). Asked: 30,000 steps/s in mode `text` over 1,000 products, resets ≤ 50 µs, an environment after the
first ≤ 5 ms. The original is measured beside it where a copy is at hand: see `webshop_original.py`.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import webshop_original

MODES = ("text", "text_rich", "html", "url")
PLAYERS = ("expert", "expert-search", "first-hit", "random")
ASKED = {"steps_per_s": 30_000, "reset_us": 50, "next_ms": 5}
_WORDS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=5000, help="of each repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=300, help="of the test split, for each player")
    parser.add_argument("--original", type=Path, help="a checkout of the original (default $WEBSHOP_ORIGINAL)")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the original")
    parser.add_argument("--out", type=Path, default=Path("bench/results/webshop_env.json"))
    options = parser.parse_args()
    speeds = [speed(mode, options.products, options.steps, options.repeats) for mode in MODES]
    original = webshop_original.measure(options.original, options.python, options.products)
    print_speeds(speeds, original)
    costs = construction(options.products)
    print(
        f"\nenvironment: first, store to build {costs['build_ms']:.0f} ms; first, store on disk {costs['first_ms']:.0f}"
        f" ms; after the first {costs['next_ms']:.2f} ms (asked {ASKED['next_ms']}); {costs['bytes']:.0f} bytes each"
    )
    players = [play(name, options.products, options.tasks) for name in PLAYERS]
    print(f"\n{'player':14} {'mean reward':>11} {'success':>8} {'steps':>6} {'tasks':>6}")
    for row in players:
        print(f"{row['player']:14} {row['reward']:11.3f} {row['success']:8.3f} {row['steps']:6.1f} {row['tasks']:6}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = {"products": options.products, "speeds": speeds, "original": original, "costs": costs, "players": players}
    options.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def print_speeds(speeds: list[dict[str, Any]], original: dict[str, Any] | None) -> None:
    """The table of steps per second."""
    print(f"{'':28} {'steps/s':>9} {'by CPU':>9} {'clicks/s':>9} {'by CPU':>9} {'searches/s':>10} {'reset µs':>9}")
    for row in speeds:
        print(
            f"{'aem/WebShop-v0 ' + row['mode']:28} {row['steps_per_s']:9,.0f} {row['cpu_steps_per_s']:9,.0f} "
            f"{row['clicks_per_s']:9,.0f} {row['cpu_clicks_per_s']:9,.0f} {row['searches_per_s']:10,.0f} "
            f"{row['reset_us']:9.1f}"
        )
    if original is None:
        print(f"original: {webshop_original.HOW}")
        return
    print(
        f"{'original text, stubbed':28} {original['steps_per_s']:9,.0f} {original['cpu_steps_per_s']:9,.0f} "
        f"{original['clicks_per_s']:9,.0f} {'':9} {'':10} {original['reset_us']:9.0f}"
    )
    ratio = speeds[0]["cpu_steps_per_s"] / original["cpu_steps_per_s"]
    print(f"ratio by CPU time {ratio:,.0f}; in the original: {webshop_original.STUBS}, which favours it")


def speed(mode: str, products: int, steps: int, repeats: int) -> dict[str, Any]:
    """Medians over repeats of one observation mode."""
    import aem_envs

    env = aem_envs.make_env("aem/WebShop-v0", products=products, observation_mode=mode)
    words = [word for task in env.task_ids("train", 200) for word in instruction(env, task).split()]
    walk(env, words, min(steps, 1000), seed=0)  # warms up
    runs = [walk(env, words, steps, seed) for seed in range(1, repeats + 1)]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return {"mode": mode, **medians, "steps": steps, "repeats": repeats}


def instruction(env: Any, task: str) -> str:
    """What the shopper of a task is told."""
    env.reset(options={"task_id": task})
    told: str = env.goal.instruction
    return told


def walk(env: Any, words: list[str], steps: int, seed: int) -> dict[str, float]:
    """Figures of one repeat of the mix."""
    rng = random.Random(seed)
    clock, cpu = time.perf_counter, time.process_time
    own = statistics.median([-(cpu() - cpu()) for _ in range(1000)])  # what asking for the CPU time takes itself
    resets, searches, clicks = [], [], []
    env.reset(seed=seed)
    while len(searches) + len(clicks) < steps:
        start = clock()
        _, info = env.reset()
        resets.append(clock() - start)
        for turn in range(webshop_original.ACTIONS):
            things = [action[6:-1] for action in info["admissible_actions"] if action.startswith("click[")]
            if turn:
                action = f"click[{webshop_original.pick(things, turn, rng)}]"
            else:
                action = f"search[{' '.join(rng.sample(words, _WORDS))}]"
            busy, start = cpu(), clock()
            *_, info = env.step(action)
            ended = clock()
            (clicks if turn else searches).append((ended - start, cpu() - busy - own))
    wall, used = (sum(part) for part in zip(*searches, *clicks))
    click_wall, click_used = (sum(part) for part in zip(*clicks))
    return {
        "steps_per_s": (len(searches) + len(clicks)) / wall,
        "cpu_steps_per_s": (len(searches) + len(clicks)) / used,
        "clicks_per_s": len(clicks) / click_wall,
        "cpu_clicks_per_s": len(clicks) / click_used,
        "searches_per_s": len(searches) / (wall - click_wall),
        "reset_us": 1e6 * statistics.median(resets),
    }


def construction(products: int, further: int = 20) -> dict[str, float]:
    """Milliseconds to make environments, and bytes that each further one takes with an episode begun."""
    import aem_envs

    with tempfile.TemporaryDirectory() as cache:
        build, first = (_first_ms(products, cache) for _ in range(2))
    env = aem_envs.make_env("aem/WebShop-v0", products=products)
    seconds = []
    tracemalloc.start()
    made = []
    for number in range(further):
        made.append(aem_envs.make_env("aem/WebShop-v0", products=products))
        made[-1].reset(seed=number)
    size = tracemalloc.get_traced_memory()[0] / further
    tracemalloc.stop()
    for _ in range(further):
        start = time.perf_counter()
        env = aem_envs.make_env("aem/WebShop-v0", products=products)
        seconds.append(time.perf_counter() - start)
    env.close()
    return {"build_ms": build, "first_ms": first, "next_ms": 1e3 * statistics.median(seconds), "bytes": size}


def _first_ms(products: int, cache: str) -> float:
    """Milliseconds to the first environment of a fresh process, imports of the suite apart."""
    code = (
        "import time, aem_envs; from aem_envs.webshop import env; start = time.perf_counter(); "
        f"aem_envs.make_env('aem/WebShop-v0', products={products}); print(1e3 * (time.perf_counter() - start))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "AEM_CACHE": cache}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def play(name: str, products: int, tasks: int) -> dict[str, Any]:
    """How a player does on the first tasks of the test split."""
    import aem_envs

    env = aem_envs.make_env("aem/WebShop-v0", products=products, split="test")
    player = None if name == "random" else aem_envs.make_expert("aem/WebShop-v0", name)
    rewards, steps = [], 0
    for number, task in enumerate(env.task_ids("test", tasks)):
        rng = random.Random(number)
        observation, info = env.reset(seed=number, options={"task_id": task})
        if player:
            player.reset(env, observation, info)
        ended = False
        while not ended:
            action = player.act(observation, info) if player else env.random_action(info, rng)
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        rewards.append(info["score"])
        steps += info["steps"]
    won = sum(reward == 1 for reward in rewards)
    return {
        "player": name,
        "reward": statistics.mean(rewards),
        "success": won / len(rewards),
        "steps": steps / len(rewards),
        "tasks": len(rewards),
    }


if __name__ == "__main__":
    main()
