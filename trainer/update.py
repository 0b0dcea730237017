"""One policy update: minibatches of the batch through the loss into the optimiser."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aem_agent.model.interface import LanguageModel
from trainer.batch import Batch, Part
from trainer.config import AlgorithmConfig, OptimiserConfig, TrainConfig
from trainer.errors import ParityError
from trainer.filters import cut_off
from trainer.losses import Loss, aggregation_weights, entropy_bonus, losses, value_loss
from trainer.metrics import mean_metrics, require_finite
from trainer.minibatches import minibatches
from trainer.scoring import Critic, Scores, response_scores, states

PARITY = 1e-3
"""Largest difference, nats, between a log-prob at sampling and the first forward pass of the update, in float32."""

PARITY_HALF = 0.5
"""The same in half precision, where batching alone moves log-probs."""

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
class Learner:
    """What is trained."""

    model: LanguageModel
    optimiser: torch.optim.Optimizer
    critic: Critic | None = None
    critic_optimiser: torch.optim.Optimizer | None = None


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

    terminated: bool [E]. A skipped response has advantage 0 on all its tokens. With a critic none is skipped: its
    values are to be learnt. Those that the compact filter masks are left out of every loss, the critic's too: as it
    masks whole episodes, their sequences are not even computed.
    """
    per_token = (
        advantages if len(advantages) == len(batch.targets) != batch.n_responses else advantages[batch.span_index]
    )
    nonzero = torch.bincount(batch.span_index[per_token != 0], minlength=batch.n_responses) > 0
    wanted = nonzero if config.skip_zero and targets is None else torch.ones_like(nonzero)
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
    return mean_metrics(records)


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
    """Gradients of all micro-batches of one step added up, then one move of the optimiser."""
    parts = [batch.select(sequences.to(batch.tokens.device)) for sequences in step]
    total = torch.stack([plan.weights[part.targets].sum() for part in parts]).sum()
    # Weights over all responses, or by a constant, mean what they say: a step has its share. Others sum to 1 per step.
    as_is = config.algorithm.normaliser == "all" or config.algorithm.aggregate == "constant"
    scale = n_steps if as_is else 1 / total.clamp_min(torch.finfo(total.dtype).tiny)
    metrics: dict[str, Tensor] = {}
    for part in parts:
        rows = part.targets
        hidden, valued = states(learner.model, part.batch, config.algorithm.gae_level if learner.critic else None)
        logprobs, entropies = response_scores(learner.model, part.batch, hidden, config.rollout.temperature)
        if first and part is parts[0]:
            metrics["parity_error"] = _parity(learner.model, logprobs, scores.logprobs[rows])
        weights = plan.weights[rows] * scale
        loss = losses.get(config.algorithm.loss)(
            logprobs,
            scores.logprobs[rows],
            plan.advantages[rows],
            weights,
            clip_low=config.algorithm.clip_low,
            clip_high=config.algorithm.clip_high,
            dual_clip=config.algorithm.dual_clip,
            ratio=config.algorithm.ratio,
            span_index=part.batch.span_index,
            n_responses=part.batch.n_responses,
        )
        value = loss.value
        if config.algorithm.entropy_bonus:
            value = value + config.algorithm.entropy_bonus * entropy_bonus(entropies, weights)
        _add(metrics, loss.metrics | {"loss": value.detach()})
        if learner.critic is not None and plan.targets is not None and scores.values is not None:
            error = _critic_loss(learner.critic, valued, part, parts, scores.values, plan.targets, config.algorithm)
            value = value + error.value
            _add(metrics, {"value_loss": error.value.detach(), "value_error": error.metrics["value_error"]})
        value.backward()  # type: ignore[no-untyped-call]
    return _per_weight(metrics) | _move(learner, metrics, config.optimiser)


def _critic_loss(
    critic: Critic, valued: Tensor, part: Part, parts: list[Part], old: Tensor, targets: Tensor, config: AlgorithmConfig
) -> Loss:
    """The critic's share of one micro-batch; every value of the optimiser step weighs the same."""

    def places(p: Part) -> Tensor:
        return p.responses if config.gae_level == "turn" else p.targets

    mine = places(part)
    return value_loss(
        critic(valued),
        old[mine],
        targets[mine],
        torch.full_like(targets[mine], 1 / sum(len(places(p)) for p in parts)),
        clip=config.value_clip,
    )


def _parity(model: LanguageModel, logprobs: Tensor, recorded: Tensor) -> Tensor:
    """Largest |log π now − log π at sampling|, before the first move: it must be rounding only."""
    worst = (logprobs.detach() - recorded).abs().max()
    limit = PARITY if next(model.parameters()).dtype == torch.float32 else PARITY_HALF
    if not float(worst) <= limit:
        raise ParityError(
            f"log-probs at sampling and in training differ by {float(worst):.3g} nats (allowed {limit:g}): the engine "
            "holds other weights, or samples with top-p, top-k or another temperature than it is trained at"
        )
    return worst


def _per_weight(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fractions and means of the policy loss (Σ w·…) made such again where the step's weights do not sum to 1."""
    if "weight" not in metrics:
        return metrics
    weight = metrics["weight"].clamp_min(torch.finfo(metrics["weight"].dtype).tiny)
    return {n: v / weight if n in WEIGHTED_MEANS else v for n, v in metrics.items()}


def _add(metrics: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    for name, value in more.items():
        metrics[name] = metrics[name] + value if name in metrics else value


def _move(learner: Learner, metrics: dict[str, Tensor], config: OptimiserConfig) -> dict[str, Tensor]:
    """Clip the gradients, check losses and gradients of policy and critic, then step both: all of it, or nothing.

    Returns the norm of the policy's gradients before clipping.
    """

    def clipped(module: LanguageModel | Critic) -> Tensor:
        return nn.utils.clip_grad_norm_(list(module.parameters()), config.grad_clip)

    norm = clipped(learner.model)
    checked = {"loss": metrics["loss"], "gradient norm": norm}
    if learner.critic is not None and "value_loss" in metrics:
        checked["value loss"] = metrics["value_loss"]
        checked["critic's gradient norm"] = clipped(learner.critic)
    require_finite(checked, "an optimiser step")
    for optimiser in (learner.optimiser, learner.critic_optimiser):
        if optimiser is not None:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return {"grad_norm": norm}


def make_optimiser(parameters: Iterable[nn.Parameter], lr: float, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW in its fused form: one pass over the parameters, on CPU and CUDA alike."""
    return torch.optim.AdamW(list(parameters), lr=lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)
