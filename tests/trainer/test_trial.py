"""Estimators and losses that cannot work are found before a run begins, and all that can pass."""

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, zeros

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet

from trainer.advantages import Advantages, Signals, needs_critic
from trainer.algorithms import ALGORITHMS, use
from trainer.config import ConfigError
from trainer.dry_run import dry_run
from trainer.errors import RecipeError
from trainer.losses import Loss, policy_loss
from trainer.runs import new_run
from trainer.trial import try_algorithm


def plain(signals: Signals, *, scale: float = 1.0) -> Advantages:
    return Advantages(scale * signals.returns[signals.episode_index], "response")


def of_the_reference(signals: Signals) -> Advantages:
    if signals.reference_kl is None:
        raise ValueError("no reference")
    return Advantages(-signals.reference_kl, "token")


@needs_critic
def of_the_critic(signals: Signals) -> Advantages:
    assert signals.values is not None and signals.final_values is not None
    return Advantages(-signals.values, "response", signals.values)


def too_few(signals: Signals) -> Advantages:
    return Advantages(signals.returns, "response")


def bare(signals: Signals) -> Any:
    return signals.rewards


def loss_of_a_tensor(logprobs: Tensor, *_: Any, **__: Any) -> Any:
    return -logprobs.sum()


def loss_per_token(logprobs: Tensor, *_: Any, **__: Any) -> Loss:
    return Loss(-logprobs, {})


def detached_loss(*_: Any, **__: Any) -> Loss:
    return Loss(zeros(()), {})


def unclipped(logprobs: Tensor, old: Tensor, advantages: Tensor, weights: Tensor) -> Loss:
    return policy_loss(logprobs, old, advantages, weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("algorithm.estimator=empg", "algorithm.options.strength=high"), r"options\.strength='high' is not a number"),
        (("algorithm.estimator=gigpo", "algorithm.options.step_weight=x"), r"options\.step_weight='x' is not a number"),
        (
            ("algorithm.estimator=gigpo", "algorithm.options.gamma=7"),
            r"options\.gamma has a setting .*algorithm\.gamma",
        ),
        (("algorithm.estimator=ppo", "algorithm.options.lam=1"), r"options\.lam has .*algorithm\.gae_lambda"),
        (("algorithm.estimator=ppo", "algorithm.options.level=token"), r"options\.level has .*algorithm\.gae_level"),
        (("algorithm.estimator=ppo", "algorithm.options.whitened=false"), r"whitened has .*algorithm\.whiten"),
        (
            ("algorithm.estimator=reinforce_pp", "algorithm.options.kl_coefficient=0.01"),
            r"options\.kl_coefficient has a setting of its own: algorithm\.kl_reward",
        ),
        (("algorithm.options.std_floor=1",), r"options\.std_floor has .*algorithm\.std_floor"),
        (("algorithm.estimator=json:dumps",), r"estimator 'json:dumps' does not work: TypeError"),
        (("algorithm.estimator=test_trial:plain", "algorithm.options.scale=x"), r"options\.scale='x' is not a number"),
        (("algorithm.estimator=test_trial:of_the_reference",), r"does not work: ValueError: no reference"),
        (("algorithm.estimator=test_trial:too_few",), r"one entry per response would be 8, and it returns \[4\]"),
        (("algorithm.estimator=test_trial:bare",), r"returns no trainer\.advantages\.Advantages, but a Tensor"),
        (("algorithm.loss=nothing",), r"unknown losses 'nothing'"),
        (("algorithm.loss=json:dumps",), r"algorithm\.loss=json:dumps does not work: TypeError: dumps\(\) takes 1"),
        (("algorithm.loss=test_trial:loss_of_a_tensor",), r"does not work: AttributeError: 'Tensor' .* 'value'"),
        (("algorithm.loss=test_trial:loss_per_token",), r"does not work: RuntimeError: .*scalar"),
        (("algorithm.loss=test_trial:detached_loss",), r"does not work: RuntimeError: .*grad"),
        (("algorithm.loss=test_trial:unclipped",), r"does not work: TypeError: .*'clip_low'"),
    ],
)
def test_what_cannot_work_is_found_before_anything_is_written(
    settings: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    from aem_envs.plugins import UnknownPluginError

    config = quick(*settings)
    errors = (ConfigError, RecipeError, UnknownPluginError)
    with pytest.raises(errors, match=words):
        dry_run(config)
    with pytest.raises(errors, match=words), new_run(config, tmp_path / "run", quiet()):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("algorithm.kl_coefficient=0.01", "algorithm.entropy_bonus=0.01", "algorithm.mismatch=mask"),
        ("algorithm.aggregate=constant", "algorithm.compact_filter=true", "algorithm.ratio=sequence"),
        ("rollout.tasks=1",),
    ],
)
def test_every_algorithm_passes(name: str, settings: tuple[str, ...]) -> None:
    try_algorithm(use(quick(), name, settings))


@pytest.mark.parametrize(
    "settings",
    [
        ("estimator=test_trial:plain", "options.scale=2"),
        ("estimator=test_trial:of_the_reference", "kl_reward=0.1"),
        ("estimator=test_trial:of_the_critic",),
        ("estimator=empg", "options.strength=2", "options.bonus=0.1"),
    ],
)
def test_those_from_outside_get_what_the_settings_ask_for(settings: tuple[str, ...]) -> None:
    try_algorithm(quick(*(f"algorithm.{setting}" for setting in settings)))


def test_a_critic_may_be_of_a_single_episode() -> None:
    try_algorithm(use(quick("rollout.tasks=1", "algorithm.estimator=ppo", "rollout.group_size=1"), "ppo-token"))
