"""Overhead of the rollout manager per environment step, recording included, against Gymnasium's vector environments.

    python bench/rollout.py [--episodes 64] [--steps 50] [--rounds 9] [--json FILE]

A trivial environment answers with 1 kB texts; 64 episodes run at once; every episode is written to `episodes.jsonl`.
Gymnasium's `SyncVectorEnv` steps the same environments in the same process and records nothing. The environment's own
time is measured alone and taken off the manager's, and off Gymnasium's. Rounds interleave the three, so that a busy
machine slows all alike; the median and the best round are reported.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from aem_agent.policies import ScriptedPolicy
from aem_agent.records import EpisodeWriter
from aem_agent.rollout import RolloutManager
from aem_agent.types import TaskRef
from aem_envs.core import FreeText

TEXT = ("You arrive at shelf 3. On the shelf 3, you see a candle 1, and a soap bottle 2. " * 13)[:1000]


class Trivial(gym.Env[str, str]):
    """Ends after `steps` steps and says 1 kB each time."""

    observation_space = FreeText()
    action_space = FreeText()

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.texts = [f"{TEXT}{n}" for n in range(steps + 1)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.n = 0
        return self.texts[0], {"won": False, "score": 0.0}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.n += 1
        done = self.n == self.steps
        info = {"won": done, "score": float(done), "anchor": "0123456789abcdef", "action_error": None}
        return self.texts[self.n], float(done), done, False, info


def bare(envs: list[Trivial], steps: int) -> None:
    """The environments alone."""
    for env in envs:
        env.reset()
    for _ in range(steps):
        for env in envs:
            env.step("look")


def _same(env: Trivial) -> Trivial:
    return env


def gym_sync(envs: list[Trivial], steps: int) -> Callable[[], None]:
    vector = gym.vector.SyncVectorEnv([partial(_same, env) for env in envs])
    actions = np.array(["look"] * len(envs), dtype=object)

    def run() -> None:
        vector.reset(seed=0)
        for _ in range(steps):
            vector.step(actions)

    return run


def managed(envs: list[Trivial], steps: int, path: Path, yielding: bool) -> Callable[[], None]:
    """The manager over the same environments; `yielding`: every turn gives way to all other episodes, as an engine
    does.
    """
    policy = ScriptedPolicy(lambda observation, info: "look")
    tasks = [TaskRef("bench/Trivial-v0", str(n), "test") for n in range(len(envs))]

    class Yielding(ScriptedPolicy):
        def start(self, env: Any, task: TaskRef, seed: int) -> Any:
            episode = super().start(env, task, seed)

            class Turn:
                async def act(self, observation: str, info: dict[str, Any]) -> Any:
                    await asyncio.sleep(0)
                    return await episode.act(observation, info)

            return Turn()

    if yielding:
        policy = Yielding(lambda observation, info: "look")

    def run() -> None:
        spare = iter(envs)
        with EpisodeWriter(path) as writer:
            manager = RolloutManager(lambda: next(spare), policy, concurrency=len(envs), on_episode=writer.write)
            asyncio.run(manager.run(tasks))
        path.unlink()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    envs = [Trivial(args.steps) for _ in range(args.episodes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episodes.jsonl"
        contenders: dict[str, Callable[[], None]] = {
            "environments alone": lambda: bare(envs, args.steps),
            "gymnasium SyncVectorEnv (records nothing)": gym_sync(envs, args.steps),
            "rollout manager, recording": managed(envs, args.steps, path, yielding=False),
            "rollout manager, recording, policy suspends": managed(envs, args.steps, path, yielding=True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(args.rounds):
            for name, run in contenders.items():
                started = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - started)
    per_step = {n: [s / args.episodes / args.steps * 1e6 for s in times] for n, times in seconds.items()}
    alone = statistics.median(per_step["environments alone"])
    rows = {
        name: {
            "median_us": statistics.median(times),
            "best_us": min(times),
            "overhead_us": statistics.median(times) - alone,
        }
        for name, times in per_step.items()
    }
    print(f"{args.episodes} episodes at once, {args.steps} steps, 1 kB observations; µs per environment step")
    print(f"{'':45s}{'median':>8s}{'best':>8s}{'overhead':>10s}")
    for name, row in rows.items():
        print(f"{name:45s}{row['median_us']:8.2f}{row['best_us']:8.2f}{row['overhead_us']:10.2f}")
    sync, ours = (rows[name]["best_us"] for name in list(rows)[1:3])
    print(f"best against best: {ours / sync:.1f} times Gymnasium's")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
