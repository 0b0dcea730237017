"""What a user writes, with types: an environment of their own, one of ours, rollouts, a policy, an estimator, a recipe.

`tests/test_typing.py` has mypy --strict read this against the installed packages, and runs it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym

import aem_envs
from aem_agent.policies import make_policy
from aem_agent.records import read_episodes
from aem_agent.rollout import RolloutManager
from aem_agent.types import Episode, Policy, RolloutGroup, TaskRef
from aem_envs import Capabilities, Expert, Info, Seconds, TextEnv
from trainer.advantages import Advantages, Estimator, Signals, estimators
from trainer.config import TrainConfig
from trainer.tensors import segment_sum


class CoinEnv(TextEnv):
    """Say heads."""

    capabilities = Capabilities(admissible_actions=True)

    def task_ids(self, split: str, limit: int | None = None) -> Sequence[str]:
        return ["only"][: self._known_limit(limit)] if self._known_split(split) else []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.begin(seed)
        self.home, self.task = self.choose_task(options)
        return "heads or tails?", dict(self._info(won=False, steps=0))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        won = action == "heads"
        return "done", float(won), True, False, dict(self._info(won=won, steps=1))

    def close(self) -> None: ...

    def _info(self, *, won: bool, steps: int) -> Info:
        assert self._seed is not None  # since `begin`
        return Info(
            task_id=self.task, split=self.home, task_type="coin", seed=self._seed, won=won, score=float(won),
            admissible_actions=["heads", "tails"], action_valid=None, action_error=None, parsed_action=None,
            raw_obs="", anchor="", data_hash="v0", engine="coin", steps=steps, truncation_reason=None, details={},
            seconds=Seconds(),
        )  # fmt: skip


def centred(signals: Signals, *, scale: float = 1.0) -> Advantages:
    """An advantage estimator: returns less their group's mean."""
    group, n = signals.group_of_episode, signals.n_groups
    sizes = segment_sum(signals.returns.new_ones(signals.returns.shape), group, n)
    mean = segment_sum(signals.returns, group, n) / sizes
    return Advantages(scale * (signals.returns - mean[group])[signals.episode_index], "response")


def successes(episodes: Sequence[Episode]) -> int:
    return sum(episode.won for episode in episodes if episode.completed)


def recorded(folder: Path) -> float:
    """The mean return of a run folder's episodes."""
    returns = [episode.return_ for episode in read_episodes(folder / "episodes.jsonl")]
    return sum(returns) / len(returns)


def longer(recipe: TrainConfig) -> TrainConfig:
    return replace(recipe, steps=2 * recipe.steps, aem=replace(recipe.aem, lam=0.5))


def load(folder: Path) -> Policy:
    """A policy from a model folder, as training leaves it in `best`."""
    return make_policy(str(folder), env_id="aem/Toy-v0", temperature=0.0, device="cpu")


async def rollouts(policy: Policy) -> list[RolloutGroup]:
    manager = RolloutManager(lambda: aem_envs.make_env("aem/Toy-v0"), policy, concurrency=4)
    ids: Sequence[str] = aem_envs.make_env("aem/Toy-v0").task_ids("test", 3)
    try:
        return await manager.run([TaskRef("aem/Toy-v0", task_id, "test") for task_id in ids], repeats=2)
    finally:
        await manager.aclose()


def main() -> None:
    env: gym.Env[str, str] = gym.make("aem_envs:aem/Toy-v0", split="test")
    observation, info = env.reset(seed=0)
    actions: list[str] = info["admissible_actions"]
    observation, reward, terminated, truncated, info = env.step(actions[0])
    print(observation.upper(), float(reward) + 1.0, terminated or truncated)
    inner = env.unwrapped
    assert isinstance(inner, TextEnv)
    print(inner.capabilities.snapshot, inner.splits)

    expert: Expert = aem_envs.make_expert("aem/Toy-v0", "expert")
    expert.reset(inner, *inner.reset(seed=1))
    aem_envs.register("me/Coin-v0", f"{__name__}:CoinEnv")
    print(aem_envs.make_env("me/Coin-v0").reset(seed=0)[0])

    groups = asyncio.run(rollouts(make_policy("expert", env_id="aem/Toy-v0")))
    print("won", sum(successes(group.episodes) for group in groups))
    estimator: Estimator = centred
    estimators.add("centred", estimator)


if __name__ == "__main__":
    main()
