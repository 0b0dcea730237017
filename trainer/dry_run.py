"""Check a recipe without training: everything that can be wrong in it shows within a second or two."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from aem_agent.agent_config import AgentConfig
from aem_agent.model.devices import torch_device
from aem_agent.model.interface import load_tokenizer, read_config
from aem_agent.model.presets import PresetConfig, preset
from aem_agent.registry import prompt_specs
from aem_envs.core import BadOptionError
from aem_envs.plugins import experts, make_expert
from trainer import rollouts
from trainer.advantages import estimators
from trainer.config import AlgorithmConfig, ConfigError, ModelConfig, TrainConfig
from trainer.errors import RecipeError
from trainer.losses import losses
from trainer.overrides import check_options, check_types, config_hash, to_json


def check_recipe(config: TrainConfig) -> None:
    """Look at everything a run will need before it loads, writes or trains anything.

    Raises:
        ConfigError, TrainerError, AgentError, AemEnvError: whatever the run would stumble over.
    """
    torch_device(config.device)
    for variant in range(max(1, len(config.env.variants))):
        rollouts.make_env(config, training=True, variant=variant).close()
    rollouts.make_env(config, training=False).close()
    _check_algorithm(config.algorithm)
    check_options("model.prompt_options", prompt_specs.get(config.model.prompt), config.model.prompt_options)
    AgentConfig(config.model.prompt, dict(config.model.prompt_options), config.model.parser).build()
    warmstart = config.warmstart
    if (warmstart.steps and warmstart.data is None) or warmstart.explore_steps or config.model.path is None:
        _check_expert(config)
    if config.warmstart.data is not None and not Path(config.warmstart.data).is_file():
        raise RecipeError(f"there is no file {config.warmstart.data!r} (warmstart.data)")
    positions = _check_preset(config.model) if config.model.path is None else _check_folder(config.model.path)
    if positions is not None and positions <= config.model.max_new_tokens:
        raise ConfigError(
            f"model.max_new_tokens={config.model.max_new_tokens} leaves no room for a prompt: "
            f"the model takes {positions} tokens"
        )
    if split := config.evaluation.interim_split:
        rollouts.held_out(config, split, config.evaluation.interim_tasks)


def _check_expert(config: TrainConfig) -> None:
    env_id, name = rollouts.plain_id(config), config.warmstart.expert
    try:
        make_expert(env_id, name, **config.warmstart.expert_options)
    except BadOptionError:
        factory = experts.get(name if ":" in name else f"{env_id}/{name}")
        check_options("warmstart.expert_options", factory, config.warmstart.expert_options)
        raise


def _check_folder(path: str) -> int | None:
    """The longest sequence that the model takes, where its folder says so."""
    if not (Path(path) / "config.json").is_file():
        raise RecipeError(
            f"{path!r} (model.path) is not a model folder, it has no config.json: name one by --set model.path=DIR"
        )
    load_tokenizer(Path(path))
    positions = read_config(path).get("max_position_embeddings")
    return positions if isinstance(positions, int) else None


def _check_preset(config: ModelConfig) -> int:
    """The longest sequence that the preset takes."""
    check_options("model.preset_options", PresetConfig, config.preset_options)
    made = preset(config.preset, **config.preset_options)
    check_types(made, "model.preset_options.")
    for name, value in asdict(made).items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
            raise RecipeError(f"model.preset_options.{name} must be positive, got {value}")
    if made.heads % made.kv_heads:
        raise RecipeError(f"model.preset_options.kv_heads={made.kv_heads} must divide heads={made.heads}")
    if made.head_dim % 2:
        raise RecipeError(f"model.preset_options.head_dim must be even, got {made.head_dim}")
    return made.max_positions


def _check_algorithm(config: AlgorithmConfig) -> None:
    losses.get(config.loss)
    estimator = estimators.get(config.estimator)
    check_options("algorithm.options", partial(estimator, None), config.options)  # type: ignore[arg-type]
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
        f"{sum(map(len, pools))} training tasks, {len(held_out)} of {config.evaluation.split} to evaluate on",
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
