"""Published algorithms by name: the settings that make each of them, over any recipe.

An entry holds what the publication fixes: how advantages are estimated, which ratio is clipped how, how tokens share
the loss, which groups and episodes take part; and one thing of ours, that PPO counts nothing after a truncated episode.
All else (tasks, lengths, learning rates, the penalty for invalid actions, AEM) stays the recipe's. What another entry
sets goes back to its default, so that nothing of a recipe's own algorithm, or of one chosen before, is left behind.
Formulas and sources are in `docs/algorithms.md`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from trainer.config import ConfigError, TrainConfig
from trainer.overrides import override

PLAIN: tuple[str, ...] = (
    "algorithm.estimator=grpo",
    "algorithm.baseline=mean",
    "algorithm.normalise=true",
    "algorithm.gamma=1.0",
    "algorithm.gae_level=turn",
    "algorithm.whiten=true",
    "algorithm.truncation_ends=false",
    "algorithm.loss=clip",
    "algorithm.ratio=token",
    "algorithm.clip_low=0.2",
    "algorithm.clip_high=0.2",
    "algorithm.dual_clip=none",
    "algorithm.aggregate=token_mean",
    "algorithm.kl_coefficient=0.0",
    "algorithm.kl_reward=0.0",
    "algorithm.entropy_bonus=0.0",
    "algorithm.compact_filter=false",
    "rollout.dynamic=false",
    "rollout.dynamic_limit=3.0",
    "rollout.oversample=1.0",
)
"""What an entry does not change: everything that any entry sets, at its default."""

ALGORITHMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "grpo": (),
        "dr-grpo": ("algorithm.estimator=dr_grpo", "algorithm.aggregate=constant"),
        "rloo": ("algorithm.estimator=rloo",),
        "reinforce-pp": ("algorithm.estimator=reinforce_pp", "algorithm.kl_reward=0.01"),
        "ppo": ("algorithm.estimator=ppo", "algorithm.truncation_ends=true", "algorithm.dual_clip=3.0"),
        "ppo-token": (
            "algorithm.estimator=ppo",
            "algorithm.gae_level=token",
            "algorithm.truncation_ends=true",
            "algorithm.dual_clip=3.0",
        ),
        "dapo": ("algorithm.clip_high=0.28", "rollout.dynamic=true"),
        "gspo": (
            "algorithm.ratio=sequence",
            "algorithm.clip_low=3e-4",
            "algorithm.clip_high=4e-4",
            "algorithm.aggregate=response_mean",
        ),
        "gigpo": ("algorithm.estimator=gigpo", "algorithm.gamma=0.95"),
        "grpo-pp": (
            "algorithm.estimator=rloo",
            "algorithm.clip_high=0.28",
            "algorithm.aggregate=constant",
            "algorithm.compact_filter=true",
            "rollout.dynamic=true",
            "rollout.dynamic_limit=2.0",
            "rollout.oversample=2.0",
        ),
        "empg": ("algorithm.estimator=empg",),
    }
)
"""Name to the overrides that go over `PLAIN`."""

DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "grpo": "group-relative advantages over their std, PPO's clip (2402.03300)",
        "dr-grpo": "GRPO without std, sum over tokens divided by a constant (2503.20783)",
        "rloo": "leave-one-out baseline, no std (2402.14740)",
        "reinforce-pp": "token returns-to-go with a KL penalty in the reward, whitened over the batch (2501.03262)",
        "ppo": "a critic and GAE over turns (1707.06347)",
        "ppo-token": "a critic and GAE over tokens",
        "dapo": "GRPO with clip-higher and dynamic sampling (2503.14476)",
        "gspo": "GRPO with one ratio per response, clipped closely (2507.18071)",
        "gigpo": "GRPO plus advantages among turns of one anchor state (2505.10978)",
        "grpo-pp": "DeepSWE's GRPO++: leave-one-out, clip-higher, compact filter, rejection sampling",
        "empg": "GRPO reweighted by step entropy (2509.09265), AEM's rival",
    }
)
"""One line for each, for `aem-train list`."""


def use(config: TrainConfig, name: str, settings: Sequence[str] = ()) -> TrainConfig:
    """`config` with the algorithm `name`, nothing of another one, and `settings` over it, all checked as one; its
    estimator gets no `algorithm.options` but those of `settings`.

    Dynamic sampling chooses among all groups of a step: of several processes the first then plays them all.

    Raises:
        ConfigError: there is no such algorithm (the message names those there are), or the rest of the recipe does not
            go with it.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {name!r}; known: {', '.join(ALGORITHMS)}")
    entry = dict(setting.split("=") for setting in (*PLAIN, *ALGORITHMS[name]))
    if config.rollout.early_stop:  # it lives on the recipe's spare groups
        del entry["rollout.oversample"]
        limit = max(float(entry["rollout.dynamic_limit"]), config.rollout.oversample)
        entry["rollout.dynamic_limit"] = str(limit)
    if entry["rollout.dynamic"] == "true" and config.scale.processes > 1:
        entry["scale.rollouts"] = "first"
    bare = replace(config, algorithm=replace(config.algorithm, options={}))
    return override(bare, [*(f"{key}={value}" for key, value in entry.items()), *settings])
