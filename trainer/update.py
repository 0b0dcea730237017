"""One policy update: minibatches of the batch through the loss into the optimiser."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.batch import Batch
from trainer.config import AlgorithmConfig, OptimiserConfig, TrainConfig
from trainer.filters import cut_off
from trainer.gradients import add_up, backward, clip
from trainer.learner import Learner
from trainer.losses import aggregation_weights
from trainer.metrics import add_metrics, mean_metrics, metrics_of_all, require_finite
from trainer.minibatches import divided, minibatches
from trainer.objective import objective
from trainer.parity import parity
from trainer.resources import counted_flops
from trainer.scoring import Scores

WEIGHTED_MEANS = (
    "clip_fraction",
    "clip_low_fraction",
    "clip_high_fraction",
    "dual_clip_fraction",
    "approx_kl",
    "ratio_mean",
)
"""Metrics of the policy loss that are means over tokens, by the loss's weights."""


@dataclass(frozen=True)
class Plan:
    """What the update does with each token: constants for autograd."""

    advantages: Tensor
    """float32 [N], after everything, AEM included."""
    weights: Tensor
    """float32 [N], share of each token in the loss over the whole batch."""
    keep: Tensor
    """bool [R], responses that take part."""
    filtered: Tensor
    """bool [R], responses masked by the compact filter, none where it is off; never kept."""
    targets: Tensor | None = None
    """float32 [R] or [N] as GAE's level says, what the critic should learn."""


def make_plan(
    batch: Batch, advantages: Tensor, targets: Tensor | None, terminated: Tensor, config: AlgorithmConfig
) -> Plan:
    """Spread advantages ([R] or [N]) over tokens, decide which responses take part, and weigh the tokens.

    terminated: bool [E]. A skipped response has advantage 0 on all its tokens. None is skipped with a critic, as its
    values are to be learnt, nor with a KL loss or an entropy bonus. Those that the compact filter masks are left out of
    every loss, the critic's too: as it masks whole episodes, their sequences are not even computed.
    """
    per_token = (
        advantages if len(advantages) == len(batch.targets) != batch.n_responses else advantages[batch.span_index]
    )
    nonzero = torch.bincount(batch.span_index[per_token != 0], minlength=batch.n_responses) > 0
    skipping = config.skip_zero and targets is None and not (config.kl_coefficient or config.entropy_bonus)
    wanted = nonzero if skipping else torch.ones_like(nonzero)
    filtered = cut_off(terminated, batch.episode_index) if config.compact_filter else torch.zeros_like(nonzero)
    keep = wanted & ~filtered
    n_episodes = len(terminated)
    weights = aggregation_weights(
        config.aggregate,
        batch.span_index,
        batch.episode_index,
        n_episodes,
        mask=keep[batch.span_index] if config.normaliser == "kept" else None,
        constant=n_episodes * config.aggregate_length,
    )
    return Plan(per_token, torch.where(filtered[batch.span_index], 0, weights), keep, filtered, targets)


def update(
    learner: Learner, batch: Batch, scores: Scores, plan: Plan, config: TrainConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """`epochs` passes of optimiser steps; returns means of their metrics. Nothing to learn from: no step, no metrics.

    Raises:
        ParityError: the first forward pass disagrees with the sampler, so the ratios would be meaningless.
        NonFiniteError: a loss or a gradient is NaN or infinite; the weights are then still those before that step.
    """
    records: list[dict[str, Tensor]] = []
    for _ in range(config.algorithm.epochs):
        steps = minibatches(
            batch,
            plan.keep,
            responses=config.optimiser.minibatch_responses,
            generator=generator,
            max_tokens=config.optimiser.micro_tokens,
        )
        for step in steps:
            records.append(_optimiser_step(learner, batch, scores, plan, config, step, len(steps), first=not records))
    return mean_metrics(records) | ({"updates": torch.tensor(float(len(records)))} if records else {})


def _optimiser_step(
    learner: Learner,
    batch: Batch,
    scores: Scores,
    plan: Plan,
    config: TrainConfig,
    step: list[Tensor],
    n_steps: int,
    *,
    first: bool,
) -> dict[str, Tensor]:
    """Gradients of all micro-batches of one step, over all processes, added up; then one move of the optimiser."""
    world = learner.world
    mine = divided(batch, step, config.optimiser.micro_tokens, world)
    parts = [(batch.select(sequences.to(batch.tokens.device)), counts) for sequences, counts in mine]
    total = world.sum(torch.stack([plan.weights[part.targets].sum() * counts for part, counts in parts]).sum())
    # Weights over all responses, or by a constant, mean what they say: a step has its share. Others sum to 1 per step.
    as_is = config.algorithm.normaliser == "all" or config.algorithm.aggregate == "constant"
    scale = n_steps if as_is else 1 / total.clamp_min(torch.finfo(total.dtype).tiny)
    metrics: dict[str, Tensor] = {}
    valued = [len(p.responses if config.algorithm.gae_level == "turn" else p.targets) * counts for p, counts in parts]
    values_in_step = sum(world.gather(sum(valued)))
    level = config.algorithm.gae_level if learner.critic is not None else None
    for number, (part, counts) in enumerate(parts):
        with counted_flops(learner.model, part.batch, "flops_update", metrics, backward=True):
            said = learner.policy(part.batch, config.rollout.temperature, level)
        if first and not number:
            fresh = None if scores.fresh is None else scores.fresh[part.targets]
            metrics |= parity(said.logprobs, scores.logprobs[part.targets], fresh, scores.parity_limit, world)
        share = objective(
            said,
            part,
            scores,
            plan,
            config.algorithm,
            scale=scale,
            values_in_step=values_in_step,
            critic=learner.critic,
        )
        add_metrics(metrics, {name: value if counts else 0 * value for name, value in share.metrics.items()})
        backward(share.value if counts else 0 * share.value, learner.policy.parameters(), world)
    metrics = metrics_of_all(metrics, world)
    return _per_weight(metrics) | _move(learner, metrics, config.optimiser)


def _per_weight(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fractions and means of the policy loss (Σ w·…) made such again where the step's weights do not sum to 1."""
    if "weight" not in metrics:
        return metrics
    weight = metrics["weight"].clamp_min(torch.finfo(metrics["weight"].dtype).tiny)
    return {n: v / weight if n in WEIGHTED_MEANS else v for n, v in metrics.items()}


def _move(learner: Learner, metrics: dict[str, Tensor], config: OptimiserConfig) -> dict[str, Tensor]:
    """Clip the gradients, check losses and gradients of policy and critic, then step both: all of it, or nothing.

    Returns the norm of the policy's gradients before clipping.
    """

    critic = [] if learner.critic is None else list(learner.critic.parameters())
    add_up(learner.policy.parameters(), critic, learner.world)
    norm = clip(learner.policy.parameters(), config.grad_clip)
    checked = {"loss": metrics["loss"], "gradient norm": norm}
    if learner.critic is not None and "value_loss" in metrics:
        checked["value loss"] = metrics["value_loss"]
        checked["critic's gradient norm"] = clip(critic, config.grad_clip)
    require_finite(checked, "an optimiser step")
    for optimiser in (learner.optimiser, learner.critic_optimiser):
        if optimiser is not None:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return {"grad_norm": norm}
