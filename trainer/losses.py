"""Losses of the policy and of the critic, and the log-probs and entropies they need.

Every loss is Σ_k w_k·ℓ_k over tokens with weights from `aggregation_weights`. The weights are made once, over the whole
batch or minibatch, so that micro-batches simply add up: accumulated gradients equal those of one large pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from aem_envs.plugins import Registry
from trainer.kl import MAX_LOG_RATIO
from trainer.tensors import segment_mean, segment_sum

Aggregate = Literal["token_mean", "response_mean", "episode_mean", "constant"]
Ratio = Literal["token", "sequence"]


@dataclass(frozen=True, slots=True)
class Loss:
    """What a loss returns."""

    value: Tensor
    """Scalar to minimise."""
    metrics: dict[str, Tensor]
    """Detached scalars, each Σ_k w_k·(…): add them over the micro-batches that share one set of weights."""


losses: Registry[Callable[..., Loss]] = Registry("losses")
"""`name` to a function with `policy_loss`'s positional arguments; its own options are keywords."""


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}: greedy policies have no log-probs, score at 1")
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, dim=-1)


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """log π(target): logits [tokens, vocabulary], targets int64 [tokens] → [tokens], nats, at least fp32."""
    return _log_softmax(logits, temperature).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def token_logprobs_and_entropy(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """log π(target) and the full-vocabulary entropy −Σ π log π, both of softmax(logits / temperature).

    logits [tokens, vocabulary] (−inf bars a token), targets int64 [tokens] → two [tokens], nats, at least fp32,
    differentiable.
    """
    log_p = _log_softmax(logits, temperature)
    # 0·log 0 = 0: a barred token's −inf is made finite before it meets its probability of zero
    entropy = -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(-1)
    return log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropy


def chunked_logprobs_and_entropy(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, temperature: float = 1.0, *, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """`token_logprobs_and_entropy` of head(hidden), never holding more than `chunk` rows of logits.

    hidden [tokens, width] at the response positions; head: [k, width] → [k, vocabulary]. Where gradients are on, each
    chunk's logits are computed again in the backward pass instead of being kept.
    """

    def score(rows: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        return token_logprobs_and_entropy(head(rows), wanted, temperature)

    pairs: list[tuple[Tensor, Tensor]] = []
    for rows, wanted in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True):
        pairs.append(
            checkpoint(score, rows, wanted, use_reentrant=False) if torch.is_grad_enabled() else score(rows, wanted)
        )
    return torch.cat([logprobs for logprobs, _ in pairs]), torch.cat([entropy for _, entropy in pairs])


def aggregation_weights(
    aggregate: Aggregate,
    span_index: Tensor,
    episode_index: Tensor,
    n_episodes: int,
    *,
    mask: Tensor | None = None,
    constant: float | None = None,
) -> Tensor:
    """Weight of every token in the loss: [tokens], Σ = 1 except for "constant".

    - token_mean (default of the recipes): every token the same.
    - response_mean: every response the same, its tokens sharing (GSPO's sequence mean; the sequence is one turn).
    - episode_mean: every episode the same, its tokens sharing (GRPO's per-sequence mean; the sequence is the episode).
    - constant: 1/constant per token (Dr. GRPO), e.g. constant = episodes × longest allowed length.

    span_index [tokens] token → response, episode_index [responses] response → episode. mask: bool [tokens], which
    tokens take part (default all); responses and episodes without any are left out of the means. Nothing left: zeros.
    Raises ValueError on an unknown name, or "constant" without a positive constant.
    """
    mask = torch.ones_like(span_index, dtype=torch.bool) if mask is None else mask
    weights = mask.to(torch.float32)
    if aggregate == "constant":
        if constant is None or constant <= 0:
            raise ValueError("aggregate='constant' needs constant= > 0, the number to divide the sum over tokens by")
        return weights / constant
    if aggregate == "response_mean":
        weights = weights / segment_sum(weights, span_index, episode_index.shape[0]).clamp_min(1)[span_index]
    elif aggregate == "episode_mean":
        episode = episode_index[span_index]
        weights = weights / segment_sum(weights, episode, n_episodes).clamp_min(1)[episode]
    elif aggregate != "token_mean":
        raise ValueError(f"aggregate {aggregate!r}: choose token_mean, response_mean, episode_mean or constant")
    return normalise_weights(weights)


def normalise_weights(weights: Tensor) -> Tensor:
    """Weights scaled to sum to 1; all zeros stay. For a minibatch's share of weights made over the whole batch.

    Cutting the batch's weights keeps "every episode the same" true although a minibatch holds only parts of episodes.
    """
    total = weights.sum()
    return weights / torch.where(total > 0, total, 1)


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    ratio: Ratio = "token",
    span_index: Tensor | None = None,
    n_responses: int | None = None,
) -> Loss:
    """−Σ_k w_k · min(r_k·A_k, clip(r_k, 1 − clip_low, 1 + clip_high)·A_k), with r = π/π_old; positive A raises π.

    All tensors [tokens]; only `logprobs` carries gradients.
    - dual_clip: c > 1 bounds the objective of negative advantages from below by c·A (PPO dual clip; usual value 3).
    - ratio: "token"; or "sequence", s = exp(mean_k log r_k) of each response (GSPO; in step-wise training the sequence
      is one turn), which needs `span_index` [tokens] and `n_responses`, and whole responses in one call.

    Metrics, weighted: clip_fraction (tokens whose gradient the clip took), clip_low_fraction, clip_high_fraction,
    dual_clip_fraction, approx_kl (r − 1 − log r, an estimate of KL(π_old ‖ π)), ratio_mean, positive_mass and
    negative_mass (Σ w·A over A > 0 and A < 0), weight (Σ w). Raises ValueError on options that do not fit.
    Sources: PPO arXiv 1707.06347; separate bounds DAPO 2503.14476; dual clip 1912.09729; GSPO 2507.18071.
    """
    log_ratio = logprobs - old_logprobs
    if ratio == "sequence":
        if span_index is None or n_responses is None:
            raise ValueError("ratio='sequence' needs span_index= and n_responses=")
        log_ratio = segment_mean(log_ratio, span_index, n_responses)[span_index]
    elif ratio != "token":
        raise ValueError(f"ratio {ratio!r}: choose token or sequence")
    if dual_clip is not None and dual_clip <= 1:
        raise ValueError(f"dual_clip must be > 1 or None, got {dual_clip}")
    log_ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    r = log_ratio.exp()
    free = r * advantages
    clipped = r.clamp(1 - clip_low, 1 + clip_high) * advantages
    objective = torch.minimum(free, clipped)
    floored = torch.zeros_like(advantages, dtype=torch.bool)
    if dual_clip is not None:
        floor = dual_clip * advantages
        floored = (advantages < 0) & (objective < floor)
        objective = torch.where(floored, floor, objective)

    with torch.no_grad():
        too_high, too_low = (advantages > 0) & (r > 1 + clip_high), (advantages < 0) & (r < 1 - clip_low)
        parts = {
            "clip_fraction": too_high | too_low,
            "clip_low_fraction": too_low,
            "clip_high_fraction": too_high,
            "dual_clip_fraction": floored,
            "approx_kl": r - 1 - log_ratio,
            "ratio_mean": r,
            "positive_mass": advantages.clamp_min(0),
            "negative_mass": advantages.clamp_max(0),
            "weight": torch.ones_like(weights),
        }
        metrics = {name: (weights * part).sum() for name, part in parts.items()}
    return Loss(-(weights * objective).sum(), metrics)


losses.add("clip", policy_loss)


@torch.no_grad()
def largest_ratio(logprobs: Tensor, old_logprobs: Tensor, weights: Tensor) -> Tensor:
    """max_k π/π_old over the tokens of weight above 0, all [tokens]; 0 if there is none. To be logged only."""
    log_ratio = torch.where(weights > 0, logprobs - old_logprobs, -torch.inf)
    return log_ratio.amax().clamp_max(MAX_LOG_RATIO).exp()


def kl_loss(per_token_kl: Tensor, weights: Tensor) -> Tensor:
    """Σ_k w_k·KL_k, to be multiplied by its coefficient and added to the loss; `trainer.kl` has the estimators."""
    return (weights * per_token_kl).sum()


def entropy_bonus(entropies: Tensor, weights: Tensor) -> Tensor:
    """−Σ_k w_k·H_k, to be multiplied by its coefficient and added: minimising it raises entropy. [tokens], nats."""
    return -(weights * entropies).sum()


def value_loss(
    values: Tensor, old_values: Tensor, targets: Tensor, weights: Tensor, *, clip: float | None = 0.5
) -> Loss:
    """Critic: Σ_k w_k · ½·max((v − R)², (v_old + clamp(v − v_old, ±clip) − R)²). All [k], per response or per token.

    clip None turns the value clip off. Metrics: value_clip_fraction, value_error (Σ w·(v − R)²), value_mean (Σ w·v),
    weight (Σ w).
    Source: PPO2's value clipping; clip 0.5 as in the agent recipes.
    """
    square = (values - targets).square()
    worst = square
    if clip is not None:
        worst = torch.maximum(square, (old_values + (values - old_values).clamp(-clip, clip) - targets).square())
    with torch.no_grad():
        metrics = {
            "value_clip_fraction": (weights * (worst > square)).sum(),
            "value_error": (weights * square).sum(),
            "value_mean": (weights * values).sum(),
            "weight": weights.sum(),
        }
    return Loss((weights * worst).sum() / 2, metrics)
