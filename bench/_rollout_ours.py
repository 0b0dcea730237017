"""One contender of `bench/rollout.py` that needs this project's environment only: the manager, and Gymnasium.

python bench/_rollout_ours.py NAME EPISODES STEPS
"""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from _players import TrivialEnv
from _rounds import refuse, serve
from _trivial import ACTION, Trivial

from aem_agent.policies import ScriptedPolicy
from aem_agent.pools import make_pool
from aem_agent.records import EpisodeWriter, read_episodes
from aem_agent.rollout import RolloutManager
from aem_agent.types import AgentError, Decision, EpisodePolicy, RolloutGroup, TaskRef
from aem_envs.plugins import UnknownPluginError

WORKERS = 2
Run = Callable[[], None]


def bare(episodes: int, steps: int) -> Run:
    """The environments alone."""
    envs = [Trivial(steps) for _ in range(episodes)]

    def run() -> None:
        for env in envs:
            env.reset()
        for _ in range(steps):
            for env in envs:
                done = env.step(ACTION)[2]
        assert done

    return run


def vector(kind: str, episodes: int, steps: int) -> tuple[Run, Run]:
    """Gymnasium's vector environments, in step with one another."""
    makers = [partial(TrivialEnv, steps)] * episodes
    # without autoreset: Gymnasium's worker processes would take the first step after `reset` for another reset
    mode = gym.vector.AutoresetMode.DISABLED
    envs: Any = (
        gym.vector.SyncVectorEnv(makers, autoreset_mode=mode)
        if kind == "gym-sync"
        else gym.vector.AsyncVectorEnv(makers, shared_memory=False, autoreset_mode=mode)
    )
    actions = np.array([ACTION] * episodes, dtype=object)

    def run() -> None:
        envs.reset(seed=0)
        for _ in range(steps):
            terminated = envs.step(actions)[2]
        assert all(terminated)

    return run, envs.close


class Suspending(ScriptedPolicy):
    """Gives way to all other episodes at each turn, as an engine does."""

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        return _Turns(super().start(env, task, seed))


class _Turns:
    def __init__(self, episode: EpisodePolicy) -> None:
        self._episode = episode

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        await asyncio.sleep(0)
        return await self._episode.act(observation, info)


def always(observation: str, info: dict[str, Any]) -> str:
    """The one action."""
    return ACTION


def check(groups: Sequence[RolloutGroup], steps: int) -> None:
    """Every episode was played, once, to its end; raises `RuntimeError`. Microseconds for a whole round."""
    for group in groups:
        played = [len(episode.turns) for episode in group.episodes]
        if group.errored or played != [steps]:
            why = f": {group.errored[0].error}" if group.errored else ""
            raise RuntimeError(f"{group.task.task_id}: episodes of {played} turns, not one of {steps}{why}")


def managed(pool_name: str, policy: ScriptedPolicy, episodes: int, steps: int) -> tuple[Run, Run]:
    """The rollout manager over a pool, every episode written to `episodes.jsonl`. Pools live over all rounds. An
    episode that errs breaks the round; one that the last round's records lack breaks `close`."""
    pool = make_pool(pool_name, partial(TrivialEnv, steps), workers=WORKERS)
    tasks = [TaskRef("bench/Trivial-v0", str(n), "test") for n in range(episodes)]
    folder = tempfile.TemporaryDirectory(prefix="aem-bench-")
    path = Path(folder.name) / "episodes.jsonl"
    runner = asyncio.Runner()

    def run() -> None:
        with EpisodeWriter(path) as writer:
            manager = RolloutManager(pool, policy, concurrency=episodes, on_episode=writer.write)
            groups = runner.run(manager.run(tasks))
        check(groups, steps)
        path.rename(path.with_suffix(".last"))

    def close() -> None:
        runner.run(pool.aclose())
        runner.close()
        last = path.with_suffix(".last")
        played = [len(e.turns) for e in read_episodes(last)] if last.exists() else None
        folder.cleanup()
        if played not in (None, [steps] * episodes):
            raise RuntimeError(f"recorded {played}")

    return run, close


def main(name: str, episodes: int, steps: int) -> None:
    """Serve the contender of that name."""
    about, close = f"gymnasium {version('gymnasium')}", None
    if name == "bare":
        run, about = bare(episodes, steps), ""
    elif name.startswith("gym-"):
        run, close = vector(name, episodes, steps)
    else:
        about = "" if name.startswith("inline") else f"{WORKERS} workers"
        pool, _, suspends = name.partition("+")
        policy = Suspending(always) if suspends else ScriptedPolicy(always)
        try:
            run, close = managed(pool, policy, episodes, steps)
            run()  # workers start here, and a missing package shows
        except (AgentError, UnknownPluginError, ImportError) as error:
            if pool != "ray":  # nothing else needs more than this project's environment
                raise
            refuse(str(error))
            return
    serve(run, about, close)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
