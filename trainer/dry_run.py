"""Check a recipe without training: everything that can be wrong in it shows within a second or two."""

from collections.abc import Iterator
from dataclasses import asdict
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
from trainer.config import AlgorithmConfig, ModelConfig, TrainConfig
from trainer.errors import RecipeError
from trainer.losses import losses
from trainer.overrides import check_types, config_hash, to_json


def check_recipe(config: TrainConfig) -> None:
    """Look at everything a run will need before it loads, writes or trains anything.

    Raises:
        TrainerError, AgentError, AemEnvError: whatever the run would stumble over.
    """
    torch_device(config.device)
    _check_algorithm(config.algorithm)
    AgentConfig(config.model.prompt, dict(config.model.prompt_options), config.model.parser).build()
    warmstart = config.warmstart
    if (warmstart.steps and warmstart.data is None) or warmstart.explore_steps or config.model.path is None:
        make_expert(rollouts.plain_id(config), config.warmstart.expert, **config.warmstart.expert_options)
    if config.warmstart.data is not None and not Path(config.warmstart.data).is_file():
        raise RecipeError(f"there is no file {config.warmstart.data!r} (warmstart.data)")
    if config.model.path is not None and not (Path(config.model.path) / "config.json").is_file():
        raise RecipeError(f"{config.model.path!r} (model.path) is not a model folder: it has no config.json")
    if config.model.path is not None:
        load_tokenizer(Path(config.model.path))
    if config.model.path is None:
        _check_preset(config.model)
    if split := config.evaluation.interim_split:
        rollouts.held_out(config, split, config.evaluation.interim_tasks)


def _check_preset(config: ModelConfig) -> None:
    try:
        made = preset(config.preset, **config.preset_options)
    except TypeError as error:
        raise RecipeError(f"preset {config.preset!r} does not take model.preset_options: {error}") from error
    check_types(made, "model.preset_options.")
    for name, value in asdict(made).items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
            raise RecipeError(f"model.preset_options.{name} must be positive, got {value}")
    if made.heads % made.kv_heads:
        raise RecipeError(f"model.preset_options.kv_heads={made.kv_heads} must divide heads={made.heads}")
    if made.head_dim % 2:
        raise RecipeError(f"model.preset_options.head_dim must be even, got {made.head_dim}")


def _check_algorithm(config: AlgorithmConfig) -> None:
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
