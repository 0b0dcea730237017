"""Episodes of very different lengths under a policy of fixed latency: how near the wall time is to the least possible.

    python bench/schedule.py [--episodes 256] [--latency 0.02] [--capacity 32] [--rounds 3]
        [--out bench/results/schedule.json]

Embedded ALFWorld games, 50 steps at most. The player of each wanders for a number of turns that depends on its task (0
to 45 admissible actions at random), then follows the expert: lengths spread from a few turns to 50. A policy "thinks"
for `--latency` seconds per turn, on an engine that thinks about `--capacity` turns at once, first come, first served.
The engine is simulated as one in another process: a place is free again the moment that its turn is due, whether or not
this process has noticed. All episodes are started at once, and recorded as ever.

    total work = sum over all turns of their latency + time of all resets, steps and choices, measured alone
    bound      = max(longest episode, total work ÷ capacity)

Wanted: wall time ≤ 1.1 × bound; missed, the status is 1. The longest episode is its own latencies and steps, measured
alone.

Lockstep, in the same run, with the same players, environments and engine: all turns of a round are handed to the engine
together, and when the last has come back all environments step, until the last episode ends.

    lockstep, all          finished episodes are thought about too, as in trainers whose batch is fixed
    lockstep, unfinished   only unfinished ones are: the kindest form

The second table draws each turn's latency from 0.25 to 1.75 × `--latency`, by its episode and number, as generations
differ in length.
"""

import argparse
import asyncio
import heapq
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym
from _results import add_out, save

import aem_envs  # noqa: F401  # registers
from aem_agent.policies import ExpertPolicy
from aem_agent.records import EpisodeWriter
from aem_agent.rollout import RolloutManager
from aem_agent.seeds import episode_seed
from aem_agent.types import Decision, Episode, EpisodePolicy, Response, TaskRef

ENV_ID, MOST_WANDERING = "aem/ALFWorld-v0", 45
LIMIT = 1.1
Latency = Callable[[str, int], float]
"""(task id, turn) → seconds"""


def make_env() -> gym.Env[str, str]:
    """An environment of the bench."""
    return gym.make(ENV_ID)


def latencies(mean: float, spread: bool) -> Latency:
    """Seconds of a turn: always `mean`, or spread around it."""
    if not spread:
        return lambda task_id, turn: mean
    return lambda task_id, turn: mean * Random(f"{task_id} {turn}").uniform(0.25, 1.75)


class Wanderer:
    """One episode's player: wanders, then follows the expert. Its turns take no time."""

    def __init__(self, env: Any, task: TaskRef, seed: int) -> None:
        self._rng = Random(f"wander {task.task_id}")
        self._left = self._rng.randint(0, MOST_WANDERING)
        self._start: Callable[[], EpisodePolicy] = lambda: ExpertPolicy().start(env, task, seed)
        self._expert: EpisodePolicy | None = None

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        """The next action."""
        if self._left > 0:
            self._left -= 1
            action = self._rng.choice(info["admissible_actions"])
            return Decision(Response(action), action)
        self._expert = self._expert or self._start()
        return await self._expert.act(observation, info)


class Engine:
    """Thinks about so many turns at once, in the order in which they came."""

    def __init__(self, capacity: int) -> None:
        self._free = [0.0] * capacity
        """When each place is free, a heap."""

    async def think(self, seconds: float) -> None:
        """Return when a turn that takes so long is due."""
        now = asyncio.get_running_loop().time()
        due = max(now, self._free[0]) + seconds
        heapq.heapreplace(self._free, due)
        await asyncio.sleep(due - now)


class Thinking:
    """A policy whose turns take their latency on an engine."""

    name, trainable, needs_env = "thinking", False, True

    def __init__(self, engine: Engine, latency: Latency) -> None:
        self.engine = engine
        self.latency = latency

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        return _ThinkingEpisode(self, task, Wanderer(env, task, seed))

    async def aclose(self) -> None:
        """Nothing to close."""


class _ThinkingEpisode:
    def __init__(self, policy: Thinking, task: TaskRef, player: Wanderer) -> None:
        self._policy, self._task, self._player, self._turn = policy, task, player, 0

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        await self._policy.engine.think(self._policy.latency(self._task.task_id, self._turn))
        self._turn += 1
        return await self._player.act(observation, info)


async def alone(tasks: Sequence[TaskRef]) -> list[tuple[int, float]]:
    """(turns, seconds of environment and player) of each episode without any latency, one after the other."""
    env = make_env()
    found = []
    for task in tasks:
        seed = episode_seed(0, task.task_id, 0)
        started = time.perf_counter()
        observation, info = env.reset(seed=seed, options={"task_id": task.task_id, "split": task.split})
        player, turns, done = Wanderer(env.unwrapped, task, seed), 0, False
        while not done:
            said = await player.act(observation, info)
            observation, _, terminated, truncated, info = env.step(said.action)
            turns, done = turns + 1, terminated or truncated
        found.append((turns, time.perf_counter() - started))
    return found


async def managed(tasks: Sequence[TaskRef], latency: Latency, capacity: int, folder: Path) -> tuple[float, list[int]]:
    """Wall seconds of the rollout manager, and the episodes' lengths."""
    played: list[Episode] = []
    path = folder / "episodes.jsonl"
    started = time.perf_counter()
    with EpisodeWriter(path) as writer:

        def ended(episode: Episode) -> None:
            writer.write(episode)
            played.append(episode)

        policy = Thinking(Engine(capacity), latency)
        manager = RolloutManager(make_env, policy, concurrency=len(tasks), on_episode=ended)
        groups = await manager.run(tasks)
        await manager.aclose()
    seconds = time.perf_counter() - started
    path.unlink()
    assert all(len(group.episodes) == 1 for group in groups), "an episode was lost"
    return seconds, [len(group.episodes[0].turns) for group in groups]


async def lockstep(tasks: Sequence[TaskRef], latency: Latency, capacity: int, everyone: bool) -> float:
    """Wall seconds of a loop that steps all environments together. `everyone`: finished ones are thought about too."""
    started = time.perf_counter()
    envs = [make_env() for _ in tasks]
    states: list[Any] = []
    for env, task in zip(envs, tasks):
        seed = episode_seed(0, task.task_id, 0)
        observation, info = env.reset(seed=seed, options={"task_id": task.task_id, "split": task.split})
        states.append((observation, info, Wanderer(env.unwrapped, task, seed)))
    active, turn, engine = set(range(len(tasks))), 0, Engine(capacity)
    while active:
        thought = range(len(tasks)) if everyone else sorted(active)
        await asyncio.gather(*(engine.think(latency(tasks[n].task_id, turn)) for n in thought))
        for n in sorted(active):
            observation, info, player = states[n]
            said = await player.act(observation, info)
            observation, _, terminated, truncated, info = envs[n].step(said.action)
            states[n] = observation, info, player
            if terminated or truncated:
                active.discard(n)
        turn += 1
    return time.perf_counter() - started


def measure(tasks: Sequence[TaskRef], latency: Latency, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one kind of latency."""
    lengths = asyncio.run(alone(tasks))  # the first warms up what is made once per process
    lengths = asyncio.run(alone(tasks))
    own = [sum(latency(task.task_id, t) for t in range(n)) + s for task, (n, s) in zip(tasks, lengths)]
    longest, work = max(own), sum(own)
    wall: dict[str, list[float]] = {"manager": [], "lockstep, unfinished": [], "lockstep, all": []}
    with tempfile.TemporaryDirectory(prefix="aem-bench-") as folder:
        for _ in range(args.rounds):
            seconds, turns = asyncio.run(managed(tasks, latency, args.capacity, Path(folder)))
            assert turns == [n for n, _ in lengths], "the manager played other episodes"
            wall["manager"].append(seconds)
            for name, everyone in (("lockstep, unfinished", False), ("lockstep, all", True)):
                wall[name].append(asyncio.run(lockstep(tasks, latency, args.capacity, everyone)))
    bound = max(longest, work / args.capacity)
    counts = sorted(n for n, _ in lengths)
    return {
        "turns": sum(counts),
        "lengths": [counts[0], statistics.median(counts), counts[-1]],
        "environment_s": round(sum(s for _, s in lengths), 4),
        "longest_s": round(longest, 4),
        "work_s": round(work, 4),
        "bound_s": round(bound, 4),
        "seconds": {name: round(statistics.median(times), 4) for name, times in wall.items()},
        "best_seconds": {name: round(min(times), 4) for name, times in wall.items()},
        "times_bound": {name: round(statistics.median(times) / bound, 3) for name, times in wall.items()},
    }


def report(kind: str, row: dict[str, Any], capacity: int) -> None:
    """One table."""
    low, middle, high = row["lengths"]
    print(f"{kind}: {row['turns']} turns, {low} to {high} per episode (median {middle:g})")
    print(
        f"  total work {row['work_s']:.2f} s (environment and player {row['environment_s']:.2f}), ÷ {capacity} = "
        f"{row['work_s'] / capacity:.3f}; longest episode {row['longest_s']:.3f}; bound {row['bound_s']:.3f} s"
    )
    print(f"  {'':24}{'median s':>10}{'best s':>10}{'÷ bound':>10}{'÷ manager':>11}")
    for name, seconds in row["seconds"].items():
        ratios = f"{row['times_bound'][name]:10.3f}{seconds / row['seconds']['manager']:11.2f}"
        verdict = "" if name != "manager" else "  ok" if row["times_bound"][name] <= LIMIT else f"  MISSED ({LIMIT})"
        print(f"  {name:24}{seconds:10.3f}{row['best_seconds'][name]:10.3f}{ratios}{verdict}")


def main() -> int:
    """Print the tables; exit status 1 where the manager took longer than wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds of a turn")
    parser.add_argument("--capacity", type=int, default=32, help="turns thought about at once")
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser, "schedule")
    args = parser.parse_args()
    env = make_env()
    ids = env.unwrapped.task_ids("train", args.episodes)  # type: ignore[attr-defined]
    tasks = [TaskRef(ENV_ID, task_id, "train") for task_id in ids]
    rows = {}
    print(f"{args.episodes} episodes, {1000 * args.latency:g} ms a turn, {args.capacity} at once, {args.rounds} rounds")
    for kind, spread in (("fixed latency", False), ("spread latency", True)):
        rows[kind] = measure(tasks, latencies(args.latency, spread), args)
        report(kind, rows[kind], args.capacity)
    sizes = {"episodes": args.episodes, "latency_s": args.latency, "capacity": args.capacity, "limit": LIMIT}
    save(args.out, {**sizes, "rows": rows})
    return 0 if all(row["times_bound"]["manager"] <= LIMIT for row in rows.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
