"""Which values of a configuration can work."""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from aem_envs.cli_common import CliError

if TYPE_CHECKING:
    from trainer.config import AlgorithmConfig, RolloutConfig, TrainConfig


class ConfigError(CliError):
    """A recipe or an override that cannot be right; the message names the key and what it may be."""


_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "must be positive",
        lambda value: value > 0,
        "env.train_tasks model.corpus_games model.max_new_tokens warmstart.games warmstart.explore_games "
        "warmstart.max_steps warmstart.concurrency warmstart.tokens_per_step warmstart.lr warmstart.save_every "
        "rollout.tasks rollout.group_size rollout.temperature rollout.concurrency rollout.max_steps "
        "rollout.reward_scale rollout.workers rollout.step_limit rollout.episode_limit rollout.answer_limit "
        "rollout.memory_limit algorithm.aggregate_length algorithm.clip_high algorithm.epochs algorithm.critic_lr "
        "algorithm.value_clip "
        "optimiser.lr optimiser.grad_clip optimiser.minibatch_responses optimiser.micro_tokens "
        "algorithm.overlong_limit algorithm.overlong_buffer scale.processes scale.lora_alpha metrics.patience "
        "metrics.episodes_groups "
        "evaluation.tasks evaluation.interim_tasks evaluation.max_steps checkpoint.every checkpoint.keep threads",
    ),
    (
        "must not be negative",
        lambda value: value >= 0,
        "steps warmstart.steps warmstart.explore_steps warmstart.context_weight warmstart.least_return "
        "warmstart.weight_decay rollout.retries rollout.staleness algorithm.std_floor algorithm.invalid_penalty "
        "algorithm.kl_coefficient algorithm.kl_reward scale.lora_rank metrics.drift_responses metrics.entropy_floor "
        "metrics.episodes_every "
        "aem.lam aem.range_guard optimiser.warmup_steps optimiser.weight_decay evaluation.every "
        "evaluation.temperature evaluation.sample_episodes",
    ),
    ("must be at least 1", lambda value: value >= 1, "rollout.oversample rollout.dynamic_limit"),
    ("must lie in [0, 1]", lambda value: 0 <= value <= 1, "warmstart.warmup algorithm.gamma algorithm.gae_lambda"),
    ("must lie in [0, 1)", lambda value: 0 <= value < 1, "warmstart.noise warmstart.explore_noise optimiser.betas"),
    ("must lie in (0, 1)", lambda value: 0 < value < 1, "algorithm.clip_low"),
    ("must lie in (0, 1]", lambda value: 0 < value <= 1, "optimiser.final_lr"),
    (
        "must be above 1, or none",
        lambda value: value > 1,
        "algorithm.dual_clip algorithm.mismatch_cap metrics.ratio_limit",
    ),
)
"""What numbers may be: in words, as a test that NaN fails, and the keys it holds for (each part of a tuple)."""


_COMPARING = ("dr_grpo", "empg", "gigpo", "grpo", "rloo")
"""Estimators that learn from the differences within a group."""
_OWN = (*_COMPARING, "ppo", "reinforce_pp")
"""All of the project's."""


def check(config: "TrainConfig") -> None:
    """Raise `ConfigError` for values that cannot work, naming the key."""
    for words, holds, keys in _RULES:
        for key in keys.split():
            value = attrgetter(key)(config)
            parts = value if isinstance(value, tuple) else (value,)
            if not all(part is None or holds(part) for part in parts):
                raise ConfigError(f"{key} {words}, got {value}")
    if config.aem.shuffle and config.aem.shuffle_by_sign:
        raise ConfigError("aem.shuffle and aem.shuffle_by_sign are two controls: set one of them to false")
    if config.aem.enabled and config.aem.lam == 0 and config.aem.sign_mask != "none":
        raise ConfigError(
            f"aem.sign_mask={config.aem.sign_mask} with aem.lam=0 trains nothing, "
            "as α = 1 belongs to neither side: write aem.sign_mask=none"
        )
    _check_rollout(config.rollout)
    _check_scale(config)
    if config.algorithm.estimator in _COMPARING and config.rollout.group_size < 2:
        raise ConfigError(
            f"rollout.group_size must be at least 2 for {config.algorithm.estimator}: a group of one has no baseline"
        )
    _check_algorithm(config.algorithm)


def _check_algorithm(config: "AlgorithmConfig") -> None:
    """Settings that say nothing without another one."""
    if config.kl_reward and ":" not in config.estimator and config.estimator != "reinforce_pp":
        raise ConfigError(
            f"algorithm.kl_reward={config.kl_reward} is a reward per token, which {config.estimator} has no place for: "
            "set algorithm.kl_coefficient, for the loss, or algorithm.estimator=reinforce_pp"
        )
    if config.kl_coefficient and config.kl_estimator == "k1":
        raise ConfigError(
            "algorithm.kl_estimator=k1 has an expected gradient of zero in the loss: set k2 or k3, or "
            "algorithm.kl_reward instead of kl_coefficient"
        )
    if config.mismatch_cap is not None and config.mismatch == "none":
        raise ConfigError(
            f"algorithm.mismatch_cap={config.mismatch_cap} bounds nothing with algorithm.mismatch=none: set truncate "
            "or mask"
        )
    if config.overlong_limit is not None and config.overlong_buffer > config.overlong_limit:
        raise ConfigError(
            f"algorithm.overlong_buffer={config.overlong_buffer} must not be above "
            f"algorithm.overlong_limit={config.overlong_limit}: it is its last part"
        )


_TAKEN_AS = {
    "baseline": "baseline",
    "normalise": "normalise",
    "gamma": "gamma",
    "gae_lambda": "lam",
    "gae_level": "level",
    "truncation_ends": "truncation_ends",
    "whiten": "whitened",
}
"""Settings that only some estimators read, and the keyword that they get them by."""
_OF_CRITIC = ("critic_lr", "value_clip")


def check_used(config: "TrainConfig", keys: Iterable[str]) -> None:
    """Raise `ConfigError` for one of the settings `keys`, just made, that is not at its default and that nothing reads;
    for `algorithm.baseline` also where the recipe has set it.

    No part of `check`: recipes and earlier runs that hold such values are still read. `std_floor` may be anything, as
    the tiny recipes set it for whatever estimator is chosen.
    """
    algorithm, default = config.algorithm, type(config.algorithm)()
    made = {key.removeprefix("algorithm.") for key in keys if key.startswith("algorithm.")}
    for name in sorted(made | {"baseline"} if made else made):
        why = _unread(name, algorithm) if hasattr(default, name) else None
        if why is not None and getattr(algorithm, name) != getattr(default, name):
            raise ConfigError(f"algorithm.{name}={getattr(algorithm, name)} changes nothing {why}")


def _unread(name: str, config: "AlgorithmConfig") -> str | None:
    """Why nothing reads a setting, and what to do about it; None where something does."""
    if name == "kl_estimator" and not config.kl_coefficient:
        return "without algorithm.kl_coefficient: set that too, such as 0.01"
    if name == "overlong_buffer" and config.overlong_limit is None:
        return "without algorithm.overlong_limit: set that too"
    estimator = f"with algorithm.estimator={config.estimator}"
    if config.estimator not in _OWN:  # one from outside, perhaps with a critic
        options = f"{estimator}: what that takes is given as algorithm.options.NAME"
        return options if name in _TAKEN_AS and name != "gae_level" else None
    if name in _OF_CRITIC and config.estimator != "ppo":
        return f"{estimator}, which has no critic"
    taken = config.estimator_options.keys() - config.options.keys()
    if name in _TAKEN_AS and _TAKEN_AS[name] not in taken:
        read = [other for other, keyword in _TAKEN_AS.items() if keyword in taken]
        return f"{estimator}, which reads {', '.join(read) or 'none of these settings'}"
    return None


def _check_rollout(config: "RolloutConfig") -> None:
    """Settings that say nothing without another one."""
    if config.workers is not None and config.pool == "inline":
        raise ConfigError(
            f"rollout.workers={config.workers}, but rollout.pool=inline has none: set rollout.pool=processes, or leave "
            "workers out"
        )
    if config.dynamic and config.group_size < 2:
        raise ConfigError("rollout.dynamic needs rollout.group_size of at least 2: a group of one is always uniform")
    if config.dynamic and config.dynamic_limit < config.oversample:
        raise ConfigError(
            f"rollout.dynamic_limit={config.dynamic_limit} must not be below rollout.oversample={config.oversample}"
        )
    if config.oversample > 1 and not (config.early_stop or config.dynamic):
        raise ConfigError(
            "rollout.oversample begins spare groups, and none of them would be taken: "
            "set rollout.early_stop=true or rollout.dynamic=true too"
        )
    if config.early_stop and config.oversample == 1:
        raise ConfigError("rollout.early_stop needs spare groups to take instead: set rollout.oversample, such as 1.5")
    if config.partial and not config.staleness:
        raise ConfigError(
            "rollout.partial carries episodes over an update, but with rollout.staleness=0 none is in flight then: "
            "set rollout.staleness=1"
        )


def _check_scale(config: "TrainConfig") -> None:
    """What does not go together with sharding and several processes."""
    scale, rollout = config.scale, config.rollout
    if scale.precision != "float32" and not scale.shard:
        raise ConfigError(
            f"scale.precision={scale.precision} keeps float32 weights in shards: set scale.shard=true too (one process "
            "will do)"
        )
    if scale.processes == 1 or scale.rollouts == "first":
        return
    for name in ("dynamic", "early_stop"):
        if getattr(rollout, name):
            raise ConfigError(
                f"rollout.{name} decides by all groups of a step, but with scale.processes={scale.processes} each "
                "process plays a share: set scale.rollouts=first"
            )
