"""Check a recipe without training: everything that can be wrong in it shows within a second or two."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from aem_agent.agent_config import AgentConfig
from aem_agent.model.presets import PresetConfig, preset
from aem_agent.pools import pools
from aem_agent.registry import prompt_specs
from aem_envs.core import BadOptionError, TextEnv
from aem_envs.plugins import experts, make_expert
from envs_data.errors import DataUnavailableError
from trainer import rollouts
from trainer.config import ConfigError, ModelConfig, RolloutConfig, TrainConfig
from trainer.engines import engine_class
from trainer.errors import RecipeError
from trainer.lora import LoraError, matching, require_peft
from trainer.memory import Shape, engine_cache, sequence_limit, tensor_parallel
from trainer.memory_text import model_lines
from trainer.missing import Gaps, note_device, note_devices, note_model, note_sandbox
from trainer.overrides import check_options, check_types, config_hash, to_json
from trainer.shapes import shape_of
from trainer.trial import try_algorithm
from trainer.writers import WriterError, check_writers


def check_recipe(config: TrainConfig, *, launching: bool = False) -> None:
    """Look at everything a run will need before it loads, writes or trains anything.

    launching: this process will start others, and there must be a GPU for each; those that are started see one.

    Raises:
        ConfigError, TrainerError, AgentError, AemEnvError: whatever the run would stumble over.
        NotHereError: this machine lacks several things; all of them are named.
    """
    gaps = look(config).gaps
    if launching:
        note_devices(config, gaps)
    gaps.refuse()


@dataclass(frozen=True)
class Look:
    """What is found of a recipe that is right."""

    gaps: Gaps
    """What this machine lacks."""
    training: int | None
    """Tasks to train on; None: their data is not here."""
    held_out: int | None
    """Tasks to evaluate on."""


def look(config: TrainConfig) -> Look:
    """Look at everything a run will need; raises, as `check_recipe` does, for what is wrong on any machine."""
    gaps = Gaps()
    note_device(config, gaps)
    training, held_out = _check_environments(config, gaps)
    try_algorithm(config)
    _check_model(config, gaps)
    if config.scale.lora_rank:
        with gaps.noted(LoraError):
            require_peft()
    with gaps.noted(WriterError):
        check_writers(config.metrics)
    check_options("model.prompt_options", prompt_specs.get(config.model.prompt), config.model.prompt_options)
    AgentConfig(config.model.prompt, dict(config.model.prompt_options), config.model.parser).build()
    warmstart = config.warmstart
    if (warmstart.steps and warmstart.data is None) or warmstart.explore_steps or config.model.path is None:
        _check_expert(config)
    if config.warmstart.data is not None and not Path(config.warmstart.data).is_file():
        gaps.add(f"there is no file {config.warmstart.data!r} (warmstart.data)")
    return Look(gaps, training, held_out)


def _check_environments(config: TrainConfig, gaps: Gaps) -> tuple[int | None, int | None]:
    """Those of training and evaluation, the pool they live in, and what their episodes need; counts tasks of both."""
    training = held_out = None
    _check_pool_class(config.rollout.pool)
    if config.rollout.pool == "ray" and find_spec("ray") is None:
        gaps.add('Ray is not installed (rollout.pool=ray): pip install "aem-suite[ray]", or set rollout.pool=processes')
    with gaps.noted(advice=_file_advice(config.env.kwargs, "env.kwargs")):
        for variant in range(max(1, len(config.env.variants))):
            env = rollouts.make_env(config, training=True, variant=variant)
            env.close()
            _check_limits(config.rollout, env)
            _note_splits(config, env, {config.env.train_split})
        training = sum(map(len, rollouts.task_pools(config)))
    evaluation = config.evaluation
    with gaps.noted(advice=_file_advice(config.env.eval_kwargs, "env.eval_kwargs")):
        env = rollouts.make_env(config, training=False)
        env.close()
        _note_splits(config, env, {evaluation.split, evaluation.interim_split or evaluation.split})
        held_out = len(rollouts.held_out(config, evaluation.split, evaluation.tasks))
        if evaluation.interim_split:
            rollouts.held_out(config, evaluation.interim_split, evaluation.interim_tasks)
    _check_splits(config, (training, held_out))
    if rollouts.plain_id(config) == "aem/SWEBench-v0":
        note_sandbox(config.env.kwargs, gaps)
        note_sandbox({**config.env.kwargs, **config.env.eval_kwargs}, gaps)
    return training, held_out


def _note_splits(config: TrainConfig, env: TextEnv, wanted: set[str]) -> None:
    """Raise what is missing if the data that is here lacks a split that the environment may have."""
    lacking = sorted((wanted & set(rollouts.splits_of(config))) - set(env.splits))
    if lacking:
        raise DataUnavailableError(
            f"the data of {rollouts.plain_id(config)} here has no split {', '.join(lacking)}, only "
            f"{', '.join(env.splits)}: get the rest of it (`aem-data --help`)"
        )


def _check_splits(config: TrainConfig, counts: tuple[int | None, int | None]) -> None:
    """The names of splits, where the data that has them is not here, and no tasks were counted."""
    splits = rollouts.splits_of(config) if None in counts else ()
    named = {
        "env.train_split": config.env.train_split,
        "evaluation.split": config.evaluation.split,
        "evaluation.interim_split": config.evaluation.interim_split or config.evaluation.split,
    }
    for key, split in named.items():
        if splits and split not in splits:
            raise ConfigError(f"{key}={split}: {rollouts.plain_id(config)} has the splits {', '.join(splits)}")


def _file_advice(kwargs: Mapping[str, Any], key: str) -> str:
    """How to name the data file where the recipe names one."""
    data = kwargs.get("data")
    return "" if data is None or Path(str(data)).exists() else f": name it by --set {key}.data=FILE"


def _check_model(config: TrainConfig, gaps: Gaps) -> None:
    """The model, and the engine that samples from it."""
    there = note_model(config.model, gaps)
    with gaps.noted():
        # where the folder is missing, the engine's options are looked at without it
        engine_class(config if there else replace(config, model=replace(config.model, path=None)))
    if config.model.path is None:
        _check_preset(config.model)
    if config.model.path is not None and not there and (Path(config.model.path) / "config.json").is_file():
        return  # a folder that is not whole
    found = shape_of(config.model)
    if found is not None and (limit := sequence_limit(found.shape, config)) <= config.model.max_new_tokens:
        raise ConfigError(
            f"model.max_new_tokens={config.model.max_new_tokens} leaves no room for a prompt: "
            f"model and engine take {limit} tokens"
        )
    if found is not None:
        _check_fit(found.shape, config)
    if found is not None and config.scale.lora_rank:
        matching(found.shape.linear, config.scale.lora_targets)


def _check_fit(shape: Shape, config: TrainConfig) -> None:
    """Whether the model can be what the engine's options say: spread, of that length, with that cache."""
    options, key, parallel = config.rollout.engine_options, "rollout.engine_options", tensor_parallel(config)
    if (asked := sequence_limit(shape, config)) > shape.max_positions:
        raise ConfigError(f"{key}.max_model_len={asked}, and the model takes {shape.max_positions} tokens")
    fewer, more = sorted((parallel, shape.kv_heads))
    if shape.heads % parallel or more % fewer:
        raise ConfigError(
            f"{key}.tensor_parallel={parallel} must divide the {shape.heads} heads of the model, and divide its "
            f"{shape.kv_heads} key heads or be a multiple of them"
        )
    room, least = options.get("kv_cache_gib"), engine_cache(shape, config, 1) / 2**30
    if isinstance(room, int | float) and room < least:
        raise ConfigError(
            f"{key}.kv_cache_gib={room} holds no sequence of {asked} tokens, which takes {least:.3g}: raise it, or "
            f"lower {key}.max_model_len"
        )


def _check_limits(config: RolloutConfig, env: TextEnv) -> None:
    limits = {"memory_limit": config.memory_limit}
    if not env.capabilities.blocking:
        limits |= {"step_limit": config.step_limit, "episode_limit": config.episode_limit}
    for name, limit in limits.items():
        if config.pool == "inline" and limit is not None:
            raise ConfigError(f"rollout.{name} cannot be kept in this process: set rollout.pool=processes too")


def _check_pool_class(name: str) -> None:
    found = pools.get(name)
    try:
        signature(found).bind(None, workers=None, limits=None)
        fits = hasattr(found, "aclose") or not isinstance(found, type)  # a function may make one
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise RecipeError(
            f"rollout.pool={name} is no pool (aem_agent.pools.EnvPool), called with (make_env, workers=…, limits=…): "
            f"name one of {', '.join(pools.names())}, or your own module:Class"
        )


def _check_expert(config: TrainConfig) -> None:
    env_id, name = rollouts.plain_id(config), config.warmstart.expert
    try:
        make_expert(env_id, name, **config.warmstart.expert_options)
    except BadOptionError:
        factory = experts.get(name if ":" in name else f"{env_id}/{name}")
        check_options("warmstart.expert_options", factory, config.warmstart.expert_options)
        raise


def _check_preset(config: ModelConfig) -> None:
    """Whether a preset can be made of these options."""
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


def dry_run(config: TrainConfig) -> list[str]:
    """Lines that describe the run: all settings, the model, memory, tasks, what this machine lacks, hash.

    Raises what `check_recipe` does, but for what is merely missing here: that is told.
    """
    found = look(config)
    note_devices(config, found.gaps)
    rollout, warmstart, missing = config.rollout, config.warmstart, found.gaps.lines
    return [
        *(f"{key} = {value}" for key, value in _flat(to_json(config))),
        "",
        *model_lines(config),
        "",
        _tasks(found, config),
        f"warm start {warmstart.steps} + {warmstart.explore_steps} steps, RL {config.steps} steps of "
        f"{rollout.tasks} × {rollout.group_size} = {rollout.tasks * rollout.group_size} episodes",
        "would not run here, for want of:" if missing else "nothing is missing on this machine",
        *(f"  {number}. {line}" for number, line in enumerate(missing, 1)),
        f"configuration {config_hash(config)}: nothing was trained (dry run)",
    ]


def _tasks(found: Look, config: TrainConfig) -> str:
    training, held_out = (
        "tasks whose data is not here" if count is None else f"{count} tasks"
        for count in (found.training, found.held_out)
    )
    return f"{config.env.train_split}: {training}, to train on; {config.evaluation.split}: {held_out}, to evaluate on"


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
