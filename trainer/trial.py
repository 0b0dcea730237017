"""Estimator and loss on a few made-up episodes: what of them cannot work shows before a run begins."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import TypeVar, cast

import torch

from trainer.advantages import Advantages, Estimator, Signals, estimators, uses_critic
from trainer.batch import Batch, Outcomes, Packer, Part
from trainer.config import AlgorithmConfig, ConfigError, TrainConfig
from trainer.errors import RecipeError
from trainer.losses import losses
from trainer.objective import objective
from trainer.overrides import check_option_types, check_options
from trainer.policy import Said
from trainer.scoring import Scores, signals
from trainer.update import make_plan

T = TypeVar("T")

TURNS, TOKENS = 2, 2
"""Of each made-up episode, and of each of its responses."""

SETTINGS = {"kl_coefficient": "kl_reward", "lam": "gae_lambda", "level": "gae_level", "whitened": "whiten"}
"""Options of estimators to the settings of `algorithm` that fill them, where these have other names."""


def try_algorithm(config: TrainConfig) -> None:
    """One small batch through estimator and loss, as a step would take it.

    Raises:
        UnknownPluginError: no such estimator or loss.
        ConfigError: an option that the estimator does not take, of another type, or that a setting of its own fills.
        RecipeError: estimator or loss fails, or returns something else; the message has its error.
    """
    algorithm = config.algorithm
    estimator = estimators.get(algorithm.estimator)
    losses.get(algorithm.loss)
    _check_options(algorithm, estimator)
    batch, outcomes = _played(config)
    scores = _scores(batch, outcomes, algorithm, critic=uses_critic(estimator))
    options = f" with algorithm.options={dict(algorithm.options)}" if algorithm.options else ""
    credit = _tried(
        f"estimator {algorithm.estimator!r} does not work{options}",
        lambda: _credit(estimator, signals(batch, outcomes, scores), algorithm),
    )
    _tried(f"algorithm.loss={algorithm.loss} does not work", lambda: _learn(batch, outcomes, scores, credit, algorithm))


def _check_options(config: AlgorithmConfig, estimator: Estimator) -> None:
    key, options = "algorithm.options", config.options
    check_options(key, partial(estimator, cast(Signals, None)), options)
    for name in replace(config, options={}).estimator_options.keys() & options.keys():
        raise ConfigError(f"{key}.{name} has a setting of its own: algorithm.{SETTINGS.get(name, name)}")
    check_option_types(key, estimator, options)
    try:
        signature(estimator).bind(None, **config.estimator_options)
    except TypeError as error:
        raise RecipeError(f"estimator {config.estimator!r} does not take {key}: {error}") from error


def _tried(words: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except Exception as error:  # someone else's code may raise whatever it likes
        raise RecipeError(f"{words}: {type(error).__name__}: {error}") from error


def _played(config: TrainConfig) -> tuple[Batch, Outcomes]:
    """One or two groups of the run's size, in which every other episode won."""
    size, groups = config.rollout.group_size, min(2, config.rollout.tasks)
    packer = Packer()
    for episode in range(groups * size):
        for _ in range(TURNS):
            packer.prompt([0], episode, join=False)
            packer.response([0] * TOKENS, episode, episode // size)
    numbers = torch.arange(groups * size)
    won = numbers % 2 == 1
    returns = won * config.rollout.reward_scale
    rewards = torch.zeros(groups * size, TURNS)
    rewards[:, -1] = returns
    outcomes = Outcomes(
        returns=returns,
        group_of_episode=numbers // size,
        won=won,
        scores=won.float(),
        terminated=won,
        rewards=rewards.flatten(),
        invalid=torch.zeros(groups * size * TURNS, dtype=torch.bool),
        anchors=("start", "then") * (groups * size),
    )
    return packer.batch(), outcomes


def _scores(batch: Batch, outcomes: Outcomes, config: AlgorithmConfig, *, critic: bool) -> Scores:
    """What a step would know of them: nothing that the settings do not ask for."""
    n_tokens = len(batch.targets)
    logprobs = -1 - torch.arange(n_tokens) / n_tokens
    valued = batch.n_responses if config.gae_level == "turn" else n_tokens
    return Scores(
        logprobs=logprobs,
        entropies=-logprobs,
        values=torch.zeros(valued) if critic else None,
        final_values=torch.zeros(len(outcomes.returns)) if critic else None,
        reference=logprobs - 0.1 if config.kl_coefficient or config.kl_reward else None,
        importance=None if config.mismatch == "none" else torch.ones(n_tokens),
    )


def _credit(estimator: Estimator, seen: Signals, config: AlgorithmConfig) -> Advantages:
    found = estimator(seen, **config.estimator_options)
    if not isinstance(found, Advantages):
        raise TypeError(f"it returns no trainer.advantages.Advantages, but a {type(found).__name__}")
    length = len(seen.span_index if found.per == "token" else seen.episode_index)
    for values in (found.values, found.targets if uses_critic(estimator) else None):
        if values is not None and values.shape != (length,):
            raise ValueError(f"one entry per {found.per} would be {length}, and it returns {list(values.shape)}")
    return found


def _learn(batch: Batch, outcomes: Outcomes, scores: Scores, credit: Advantages, config: AlgorithmConfig) -> None:
    """Forward and backward through the loss."""
    plan = make_plan(batch, credit.values, credit.targets, outcomes.terminated, config)
    said = Said(scores.logprobs.clone().requires_grad_(), scores.entropies, torch.zeros(len(batch.targets), 1))
    part = Part(batch, torch.arange(batch.n_responses), torch.arange(len(batch.targets)))
    share = objective(said, part, scores, plan, config, scale=1.0, values_in_step=1)
    torch.autograd.backward(share.value)
