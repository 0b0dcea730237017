"""States to draw from: whole rollout groups are played, a snapshot is taken before every turn, and one turn of each
episode is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import gymnasium as gym
import torch

from aem_agent.collection import Collected
from aem_agent.model_policies import ModelPolicy
from aem_agent.pools import InProcessPool
from aem_agent.rollout import RolloutManager
from aem_agent.seeds import episode_seed
from aem_agent.types import Episode, RolloutGroup, TaskRef, Turn
from aem_envs.core import TextEnv
from trainer import rollouts
from trainer.analysis.results import AnalysisError
from trainer.batch import completed
from trainer.config import TrainConfig

Snapshots = dict[tuple[str, int], list[bytes]]
"""By task and seed of an episode: its environment's state before each turn."""


class _Keeping(gym.Wrapper[str, str, str, str]):
    """An environment whose states are kept in `kept`."""

    def __init__(self, env: TextEnv, kept: Snapshots) -> None:
        super().__init__(env)
        self._kept = kept
        self._states: list[bytes] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        env = cast(TextEnv, self.env)
        self._states = self._kept[(options or {})["task_id"], cast(int, seed)] = [env.get_state()]
        return observation, info

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        found = self.env.step(action)
        if not (found[2] or found[3]):
            self._states.append(cast(TextEnv, self.env).get_state())
        return found


@dataclass(frozen=True)
class State:
    """A turn of an episode: a state, and the response that was taken in it."""

    group: int
    """Number of the episode's group among those played."""
    variant: int
    """Number of the environment's variant."""
    episode: Episode
    turn: int
    response: int
    """Number of the response in the batch of all groups."""
    snapshot: bytes
    """Of the environment, before the response."""

    @property
    def taken(self) -> Turn:
        """What was seen, said and done in it."""
        return self.episode.turns[self.turn]


def require_snapshots(config: TrainConfig) -> None:
    """Raise `AnalysisError` where the run's environment cannot return to a state."""
    env = rollouts.make_env(config, training=True)
    env.close()
    if not env.capabilities.snapshot:
        raise AnalysisError(
            f"{config.env.id} has no snapshots (get_state, set_state), and states are returned to here: implement them "
            "and declare the capability `snapshot`"
        )


async def play_groups(
    config: TrainConfig, policy: ModelPolicy, tasks: Sequence[TaskRef], variant: int, seed: int, kept: Snapshots
) -> list[RolloutGroup]:
    """The groups of `tasks`, sampled as in training, in this process; the states go into `kept`."""
    pool = InProcessPool(lambda: _Keeping(rollouts.make_env(config, training=True, variant=variant), kept))
    manager = RolloutManager(pool, policy, concurrency=config.rollout.concurrency, retries=config.rollout.retries)
    try:
        collected: Collected = await manager.collect(tasks, config.rollout.group_size, seed=seed)
    finally:
        await manager.aclose()
    return list(collected.groups)


def tasks_by_variant(config: TrainConfig, groups: int, seed: int) -> list[list[TaskRef]]:
    """Training tasks for so many groups, variants taking turns."""
    pools = rollouts.task_pools(config)
    shares = [len(range(variant, groups, len(pools))) for variant in range(len(pools))]
    draw = partial(rollouts.tasks_of_step, step=0, seed=seed, purpose="surprisal")
    return [draw(pool, count=share) if share else [] for pool, share in zip(pools, shares)]


def choose_states(
    groups: Sequence[RolloutGroup],
    variants: Sequence[int],
    kept: Mapping[tuple[str, int], list[bytes]],
    n: int,
    seed: int,
) -> list[State]:
    """A turn of each completed episode, uniformly drawn; of more than `n` such states some at random, in order.

    variants[g] is the variant that group g was played in. Nothing of it depends on timing.
    """
    generator = torch.Generator().manual_seed(episode_seed(seed, "surprisal: states", 0))
    found: list[State] = []
    first = 0
    for number, group in enumerate(groups):
        for episode in completed(group):
            turns = len(episode.turns)
            turn = int(torch.randint(turns, (1,), generator=generator))
            snapshot = kept[episode.task_id, episode.seed][turn]
            found.append(State(number, variants[number], episode, turn, first + turn, snapshot))
            first += turns
    order = torch.randperm(len(found), generator=generator)[:n].sort().values
    return [found[place] for place in order.tolist()]


def check_environment(config: TrainConfig, states: Sequence[State]) -> None:
    """Return to every state and take its response's action again: observation, reward and end must be the episode's.

    Raises:
        AnalysisError: the first state where they are not.
    """
    envs: dict[int, TextEnv] = {}
    try:
        for state in states:
            if state.variant not in envs:
                envs[state.variant] = rollouts.make_env(config, training=True, variant=state.variant)
            _check(envs[state.variant], state)
    finally:
        for env in envs.values():
            env.close()


def _check(env: TextEnv, state: State) -> None:
    episode, turn = state.episode, state.turn
    env.set_state(state.snapshot)
    observation, reward, terminated, truncated, _ = env.step(state.taken.action)
    last = turn + 1 == len(episode.turns)
    then = episode.final_observation if last else episode.turns[turn + 1].observation
    if (observation, float(reward), terminated or truncated) != (then, state.taken.reward, last):
        raise AnalysisError(
            f"{episode.env_id}, task {episode.task_id}, turn {turn + 1}: a restored state and the same action give "
            f"{observation[:80]!r}, reward {float(reward):g}, where the episode had {then[:80]!r}, reward "
            f"{state.taken.reward:g}: its get_state and set_state do not hold all of its state"
        )
