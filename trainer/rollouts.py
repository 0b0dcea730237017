"""Environments and tasks as a `TrainConfig` describes them.

Worker processes import this module to make environments: it loads no torch before tasks are drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

import aem_envs  # noqa: F401  # registers aem/…
from aem_agent.seeds import episode_seed
from aem_agent.types import TaskRef
from aem_envs.core import TextEnv
from trainer.config import TrainConfig
from trainer.errors import RecipeError
from trainer.overrides import check_options


def make_env(config: TrainConfig, *, training: bool, variant: int = 0) -> TextEnv:
    """The recipe's environment; `variant` numbers `env.variants` in training.

    Raises:
        ConfigError: it takes no such argument.
        RecipeError: it cannot be made of these, or is no `TextEnv`.
    """
    kwargs: dict[str, Any] = dict(config.env.kwargs)
    if training and config.env.variants:
        kwargs |= config.env.variants[variant % len(config.env.variants)]
    if not training:
        kwargs |= config.env.eval_kwargs
    limit = config.rollout.max_steps if training else config.evaluation.max_steps
    return _made(config, kwargs if limit is None else kwargs | {"max_steps": limit})


def make_demonstration_env(config: TrainConfig, variant: int = 0) -> TextEnv:
    """The training environment with the step limit of demonstrations."""
    kwargs: dict[str, Any] = dict(config.env.kwargs)
    if config.env.variants:
        kwargs |= config.env.variants[variant % len(config.env.variants)]
    return _made(config, kwargs | {"max_steps": config.warmstart.max_steps})


def _made(config: TrainConfig, kwargs: Mapping[str, Any]) -> TextEnv:
    env_id = config.env.id
    try:
        env = gym.make(env_id, **kwargs).unwrapped
    except TypeError as error:
        creator = _creator(config)
        variants = [("env.variants", options) for options in config.env.variants]
        for key, options in (("env.kwargs", config.env.kwargs), *variants, ("env.eval_kwargs", config.env.eval_kwargs)):
            check_options(key, creator, options)
        raise RecipeError(f"{env_id} does not take these arguments (env.kwargs): {error}") from error
    if not isinstance(env, TextEnv):
        raise RecipeError(f"{env_id} is a {type(env).__name__}, not an aem_envs.TextEnv: it cannot list its tasks")
    return env


def _creator(config: TrainConfig) -> Any:
    """The class, or the function, that makes the environment."""
    creator: Any = gym.spec(plain_id(config)).entry_point
    return load_env_creator(creator) if isinstance(creator, str) else creator


def splits_of(config: TrainConfig) -> tuple[str, ...]:
    """Names of all splits that the environment may have, whatever its data; empty where its class does not say."""
    splits = tuple(getattr(_creator(config), "splits", ()))
    return () if splits is TextEnv.splits else splits


def task_pools(config: TrainConfig) -> list[list[TaskRef]]:
    """For each variant of the environment, the tasks of the training split: at most `env.train_tasks`, in its order."""
    return [_pool(config, variant) for variant in range(max(1, len(config.env.variants)))]


def _pool(config: TrainConfig, variant: int) -> list[TaskRef]:
    env = make_env(config, training=True, variant=variant)
    try:
        env.require_trainable(config.env.train_split)
        ids = env.task_ids(config.env.train_split, config.env.train_tasks)
    finally:
        env.close()
    if not ids:
        raise RecipeError(f"split {config.env.train_split!r} of {config.env.id} has no task")
    return [TaskRef(plain_id(config), task_id, config.env.train_split) for task_id in ids]


def plain_id(config: TrainConfig) -> str:
    """The environment's id without the module that registers it."""
    return config.env.id.rpartition(":")[2]


def tasks_of_step(pool: Sequence[TaskRef], step: int, count: int, seed: int, purpose: str = "tasks") -> list[TaskRef]:
    """Tasks number step·count … of an endless list: the pool in random order, again and again, each pass differently.

    Depends on its arguments only: the cursor of a resumed run is its step.
    """
    chosen: list[TaskRef] = []
    passes: dict[int, list[int]] = {}
    for number in range(step * count, (step + 1) * count):
        turn, place = divmod(number, len(pool))
        if turn not in passes:
            passes[turn] = _order(len(pool), episode_seed(seed, f"trainer: {purpose}", turn))
        chosen.append(pool[passes[turn][place]])
    return chosen


def _order(count: int, seed: int) -> list[int]:
    """0 … count − 1 in random order."""
    import torch

    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def with_more(
    tasks: Sequence[TaskRef], pool: Sequence[TaskRef], step: int, seed: int, *, total: int
) -> Iterator[TaskRef]:
    """`tasks`, then further ones of `pool` in random order, `total` in all.

    Those already given come again only when the pool is through. Depends on its arguments only: how many of them
    earlier steps took makes no difference, so a resumed run asks for the same ones.
    """
    yield from tasks[:total]
    missing, turn = total - len(tasks), 0
    while missing > 0:
        order = [pool[place] for place in _order(len(pool), episode_seed(seed, f"trainer: more tasks {turn}", step))]
        given = set(tasks) if turn == 0 else set()
        chosen = [task for task in order if task not in given][:missing]
        yield from chosen
        missing, turn = missing - len(chosen), turn + 1


def held_out(config: TrainConfig, split: str, count: int) -> list[TaskRef]:
    """The first `count` tasks of a held-out split; all of them if it has fewer."""
    env = make_env(config, training=False)
    try:
        ids = list(env.task_ids(split, count))[:count]
    finally:
        env.close()
    if not ids:
        raise RecipeError(f"split {split!r} of {config.env.id} has no task")
    return [TaskRef(plain_id(config), task_id, split) for task_id in ids]
