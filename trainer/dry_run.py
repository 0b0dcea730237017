"""Check a recipe without training: everything that can be wrong in it shows within a second or two."""

from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

from aem_agent.agent_config import AgentConfig
from aem_agent.model.devices import torch_device
from aem_agent.model.interface import load_tokenizer
from aem_agent.model.presets import preset
from aem_envs.plugins import make_expert
from trainer import rollouts
from trainer.advantages import estimators
from trainer.config import AlgorithmConfig, TrainConfig
from trainer.errors import RecipeError
from trainer.losses import losses
from trainer.overrides import config_hash, to_json


def check_recipe(config: TrainConfig) -> None:
    """Look at everything a run will need before it loads, writes or trains anything.

    Raises:
        TrainerError, AgentError, AemEnvError: whatever the run would stumble over.
    """
    torch_device(config.device)
    _check_algorithm(config.algorithm)
    AgentConfig(config.model.prompt, dict(config.model.prompt_options), config.model.parser).build()
    if config.warmstart.steps and config.warmstart.data is None:
        make_expert(rollouts.plain_id(config), config.warmstart.expert, **config.warmstart.expert_options)
    if config.warmstart.data is not None and not Path(config.warmstart.data).is_file():
        raise RecipeError(f"there is no file {config.warmstart.data!r} (warmstart.data)")
    if config.model.path is not None and not (Path(config.model.path) / "config.json").is_file():
        raise RecipeError(f"{config.model.path!r} (model.path) is not a model folder: it has no config.json")
    if config.model.path is not None:
        load_tokenizer(Path(config.model.path))
    if config.model.path is None:
        try:
            preset(config.model.preset, **config.model.preset_options)
        except TypeError as error:
            raise RecipeError(f"preset {config.model.preset!r} does not take model.preset_options: {error}") from error
    if split := config.evaluation.interim_split:
        rollouts.held_out(config, split, config.evaluation.interim_tasks)


def _check_algorithm(config: AlgorithmConfig) -> None:
    if config.dual_clip is not None and not config.dual_clip > 1:
        raise RecipeError(f"algorithm.dual_clip must be above 1, or none, got {config.dual_clip}")
    losses.get(config.loss)
    estimator = estimators.get(config.estimator)
    try:
        signature(estimator).bind(None, **config.estimator_options)
    except TypeError as error:
        raise RecipeError(f"estimator {config.estimator!r} does not take algorithm.options: {error}") from error


def dry_run(config: TrainConfig) -> list[str]:
    """Lines that describe the run: all settings, tasks, hash. Raises what `check_recipe` does."""
    check_recipe(config)
    pools = rollouts.task_pools(config)
    held_out = rollouts.held_out(config, config.evaluation.split, config.evaluation.tasks)
    batch = config.rollout.tasks * config.rollout.group_size
    return [
        *(f"{key} = {value}" for key, value in _flat(to_json(config))),
        "",
        f"{sum(map(len, pools))} training tasks, {len(held_out)} held-out tasks",
        f"warm start {config.warmstart.steps} + {config.warmstart.explore_steps} steps, "
        f"RL {config.steps} steps of {config.rollout.tasks} × {config.rollout.group_size} = {batch} episodes",
        f"configuration {config_hash(config)}: nothing was trained (dry run)",
    ]


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
