"""What one micro-batch adds to the quantity that an optimiser step minimises: policy, KL, entropy bonus, critic.

Everything is Σ_k w_k·(…) with weights made over the whole batch, so that micro-batches, and processes, simply add up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.batch import Part
from trainer.config import AlgorithmConfig
from trainer.kl import kl_estimate
from trainer.losses import entropy_bonus, kl_loss, largest_ratio, losses, value_loss
from trainer.policy import Said

if TYPE_CHECKING:
    from trainer.scoring import Scores
    from trainer.update import Plan


@dataclass(frozen=True)
class Objective:
    """A share of the loss, and of its metrics: both are sums over the micro-batches of an optimiser step."""

    value: Tensor
    """Scalar to minimise."""
    metrics: dict[str, Tensor]
    """Detached scalars."""


def objective(
    said: Said,
    part: Part,
    scores: "Scores",
    plan: "Plan",
    config: AlgorithmConfig,
    *,
    scale: Tensor | float,
    values_in_step: int,
    critic: Callable[[Tensor], Tensor] | None = None,
) -> Objective:
    """The objective of `part`, of which the model has `said` this.

    scale: factor on the plan's weights that makes them the optimiser step's. values_in_step: how many values of the
    critic the whole optimiser step has; each weighs the same.
    """
    rows = part.targets
    weights = plan.weights[rows] * scale
    advantages = plan.advantages[rows]
    if scores.importance is not None:  # the clipped objective is linear in w ≥ 0, so w·A weighs the token by w
        advantages = advantages * scores.importance[rows]
    loss = losses.get(config.loss)(
        said.logprobs,
        scores.logprobs[rows],
        advantages,
        weights,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        dual_clip=config.dual_clip,
        ratio=config.ratio,
        span_index=part.batch.span_index,
        n_responses=part.batch.n_responses,
    )
    value = loss.value
    if config.entropy_bonus:
        value = value + config.entropy_bonus * entropy_bonus(said.entropies, weights)
    metrics = loss.metrics | {"ratio_max": largest_ratio(said.logprobs, scores.logprobs[rows], weights)}
    if config.kl_coefficient and scores.reference is not None:
        kl = kl_loss(kl_estimate(said.logprobs, scores.reference[rows], config.kl_estimator), weights)
        value = value + config.kl_coefficient * kl
        metrics["kl_loss"] = kl.detach()
    metrics["loss"] = value.detach()
    if critic is not None and plan.targets is not None and scores.values is not None:
        mine = part.responses if config.gae_level == "turn" else part.targets
        error = value_loss(
            critic(said.states),
            scores.values[mine],
            plan.targets[mine],
            torch.full_like(plan.targets[mine], 1 / values_in_step),
            clip=config.value_clip,
        )
        value = value + error.value
        metrics |= {"value_loss": error.value.detach()}
        metrics |= {name: error.metrics[name] for name in ("value_error", "value_mean")}
    return Objective(value, metrics)
