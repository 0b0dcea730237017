"""Adaptive Entropy Modulation: scale every response's advantage by how certain the policy was, relative to its group.

For each response with mean token entropy H̄ (nats, old policy, full vocabulary, sampling temperature), within its scope:

    H̃ = (H̄ − min H̄) / (max H̄ − min H̄)        α = exp(−λ·H̃) / mean[exp(−λ·H̃)]        A' = α·A

α = 1 for a whole scope whose range max − min is below `range_guard`. α > 0 and mean(α) = 1 over responses, so signs
stay and the average step keeps its size. Low entropy gives α > 1. Modulation is the last word on advantages: whitening
afterwards would flip signs, and a critic's targets come from the unmodulated ones.

Source: Zhao et al., Adaptive Entropy Modulation, arXiv 2605.00425. Needs torch and `trainer.tensors` only.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainer.tensors import count_segments, segment_max, segment_mean, segment_min, segment_sum

Scope = Literal["group", "trajectory", "batch"]
Direction = Literal["normal", "reversed"]
SignMask = Literal["fall", "rise"]
Proxy = Literal["mean_token_entropy", "mean_token_surprisal", "relative_surprisal"]


@dataclass(frozen=True, slots=True)
class Modulation:
    """What `modulate` returns."""

    advantages: Tensor
    """A' = α·A, shaped as the advantages that came in."""
    alpha: Tensor
    """[n responses], detached; exactly 1 where guarded, uncounted, or λ = 0."""
    stats: dict[str, Tensor]
    """Scalars, detached, left on the device: see `docs/algorithms.md` for each name."""


def mean_token_entropy(token_entropies: Tensor, span_index: Tensor, n_responses: int) -> Tensor:
    """H̄ = (1/L) Σ_k H(π(·|s, a_<k)): token entropies [tokens] in nats → [n_responses]; no tokens give 0."""
    return segment_mean(token_entropies, span_index, n_responses)


def mean_token_surprisal(token_logprobs: Tensor, span_index: Tensor, n_responses: int) -> Tensor:
    """(1/L) Σ_k −log π(a_k|s, a_<k): log-probs of the sampled tokens [tokens] → [n_responses], nats."""
    return -segment_mean(token_logprobs, span_index, n_responses)


def relative_surprisal(token_logprobs: Tensor, token_entropies: Tensor, span_index: Tensor, n_responses: int) -> Tensor:
    """(1/L) Σ_k (−log π(a_k|s, a_<k) − H_k), nats: [tokens] twice → [n_responses].

    What dH = A·(S − H) turns on, per token: the sum over tokens has expectation 0 in every state, its mean per token
    where responses are equally long. So it tells rare responses from common ones rather than one state from another.
    """
    return -segment_mean(token_logprobs + token_entropies, span_index, n_responses)


def uncertainty_of(
    proxy: Proxy, token_logprobs: Tensor, token_entropies: Tensor, span_index: Tensor, n_responses: int
) -> Tensor:
    """The proxy of that name: [tokens] twice → [n_responses], nats."""
    if proxy == "mean_token_entropy":
        return mean_token_entropy(token_entropies, span_index, n_responses)
    if proxy == "mean_token_surprisal":
        return mean_token_surprisal(token_logprobs, span_index, n_responses)
    return relative_surprisal(token_logprobs, token_entropies, span_index, n_responses)


def modulate(
    advantages: Tensor,
    uncertainty: Tensor,
    response_group: Tensor,
    *,
    lam: float = 1.0,
    scope: Scope = "group",
    direction: Direction = "normal",
    range_guard: float = 0.1,
    shuffle: bool = False,
    shuffle_by_sign: bool = False,
    generator: torch.Generator | None = None,
    sign_mask: SignMask | None = None,
    trajectory: Tensor | None = None,
    counted: Tensor | None = None,
    span_index: Tensor | None = None,
    n_segments: int | None = None,
) -> Modulation:
    """Modulate `advantages` by α, as in the module's docstring.

    - advantages: [n] one per response, or [tokens] one per token with `span_index` [tokens] (token → response).
    - uncertainty: [n] H̄ (or another proxy) in nats. response_group: [n] int64, response → rollout group.
    - lam: λ ≥ 0; 0 gives α = 1 and the advantages bit for bit.
    - scope: over what min, max and mean run; "trajectory" needs `trajectory` [n] int64, response → episode.
    - direction: "reversed" uses exp(+λH̃) (ablation).
    - range_guard: nats. A range that is not finite is guarded too.
    - shuffle: permute α among the counted responses of each scope (control); needs `generator`, on the same device.
    - shuffle_by_sign: the same among those whose advantages have one sign (of their sum, with one per token): how much
      rewards weigh against punishments stays about as α has it, which response has the weight is chance (control).
    - sign_mask: keep only entries with A·(α−1) > 0 ("fall": entropy should fall) or < 0 ("rise"); the others' advantage
      becomes 0, and so does every entry with α = 1.
    - counted: bool [n], the responses that count for min, max and mean: those of all completed episodes, whether or not
      the loss uses them. The others get α = 1. Default: all.
    - n_segments: number of groups (or trajectories), if known; otherwise found out, which waits for the device once.

    α is a constant for autograd. Raises ValueError on arguments that do not fit together.
    """
    _check_options(lam, scope, direction, sign_mask)
    _check_shapes(advantages, uncertainty, response_group, span_index)
    segment, n = _segments(scope, response_group, trajectory, n_segments)
    entropy = uncertainty.detach().to(torch.promote_types(uncertainty.dtype, torch.float32))
    counted = torch.ones_like(entropy, dtype=torch.bool) if counted is None else counted
    alpha, stats = _alpha(entropy, segment, n, counted, -lam if direction == "normal" else lam, range_guard)
    if shuffle and shuffle_by_sign:
        raise ValueError("shuffle and shuffle_by_sign are two controls: choose one")
    if shuffle or shuffle_by_sign:
        if generator is None:
            raise ValueError("shuffling needs a torch.Generator: pass generator=")
        sign = _of_response(advantages.detach(), span_index, len(entropy)).sign().long() + 1
        kind = torch.where(counted, sign if shuffle_by_sign else 0, 3)
        alpha = _shuffled(alpha, segment + n * kind, generator)

    factor = (alpha if span_index is None else alpha[span_index]).to(advantages.dtype)
    modulated = factor * advantages
    if sign_mask is not None:
        towards = advantages.detach() * (factor - 1)
        modulated = torch.where(towards > 0 if sign_mask == "fall" else towards < 0, modulated, 0)
    stats |= _alpha_quantiles(alpha, counted) | _advantage_stats(
        advantages.detach(), modulated.detach(), span_index, len(entropy)
    )
    return Modulation(modulated, alpha, stats)


def _segments(
    scope: str, response_group: Tensor, trajectory: Tensor | None, n_segments: int | None
) -> tuple[Tensor, int]:
    """Which segment of its scope each response lies in [n], and how many there are."""
    if scope == "batch":
        return torch.zeros_like(response_group), 1
    segment = response_group if scope == "group" else trajectory
    if segment is None:
        raise ValueError("scope='trajectory' needs trajectory=, the episode of each response")
    return segment, max(1, count_segments(segment) if n_segments is None else n_segments)


def _alpha(
    entropy: Tensor, segment: Tensor, n: int, counted: Tensor, signed_lam: float, range_guard: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """α [responses], and the statistics of the scopes: the share that was guarded, and min, max and mean of H̄."""
    low = segment_min(torch.where(counted, entropy, torch.inf), segment, n)
    high = segment_max(torch.where(counted, entropy, -torch.inf), segment, n)
    spread = high - low
    active = (spread >= range_guard) & (spread > 0) & spread.isfinite()
    size = segment_sum(counted.to(entropy.dtype), segment, n)
    use = active[segment] & counted
    relative = (entropy - low[segment]) / spread[segment]
    # exp(±λH̃) up to a factor that the mean takes out again, kept ≤ 1 so that no λ overflows
    weight = torch.where(use, (signed_lam * relative - max(signed_lam, 0.0)).exp(), 0)
    mean = segment_sum(weight, segment, n) / size
    occupied = size > 0
    return torch.where(use, weight / mean[segment], 1), {
        "guarded_share": (occupied & ~active).sum() / occupied.sum(),
        "uncertainty_min": low.amin(),
        "uncertainty_max": high.amax(),
        "uncertainty_mean": torch.where(counted, entropy, 0).sum() / size.sum(),
    }


def _shuffled(alpha: Tensor, segment: Tensor, generator: torch.Generator) -> Tensor:
    """α with its entries permuted uniformly within each segment."""
    order = torch.randperm(alpha.shape[0], generator=generator, device=alpha.device)
    source = order[segment[order].argsort(stable=True)]
    return torch.empty_like(alpha).scatter(0, segment.argsort(stable=True), alpha[source])


def _alpha_quantiles(alpha: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """Quantiles of α over the counted responses (linear between neighbours); NaN if there are none."""
    count = counted.sum()
    ordered = torch.where(counted, alpha, torch.inf).sort().values
    ordered = torch.nn.functional.pad(ordered, (0, 2), value=torch.inf)  # so that the reads below never run out
    place = (count - 1).clamp_min(0) * torch.tensor([0.05, 0.5, 0.95], device=alpha.device)
    below = place.long()
    low, high = ordered[below], ordered[below + 1]
    quantiles = torch.where(place > below, low + (high - low) * (place - below), low)
    return dict(zip(("alpha_q05", "alpha_q50", "alpha_q95"), torch.where(count > 0, quantiles, torch.nan).unbind()))


def _of_response(advantages: Tensor, span_index: Tensor | None, n: int) -> Tensor:
    """One advantage for each response [n]: with one per token, their sum."""
    return advantages if span_index is None else segment_sum(advantages, span_index, n)


def _advantage_stats(before: Tensor, after: Tensor, span_index: Tensor | None, n: int) -> dict[str, Tensor]:
    """Sums of the positive and of the negative entries before and after, Σ αA; and the shares of responses of either
    sign, which with an advantage per token is that of their sum over the response."""
    of_response = _of_response(before, span_index, n)
    return {
        "advantage_sum": after.sum(),
        "positive_sum_before": before.clamp_min(0).sum(),
        "negative_sum_before": before.clamp_max(0).sum(),
        "positive_sum": after.clamp_min(0).sum(),
        "negative_sum": after.clamp_max(0).sum(),
        "positive_share": (of_response > 0).to(torch.float32).mean(),
        "negative_share": (of_response < 0).to(torch.float32).mean(),
    }


def _check_options(lam: float, scope: str, direction: str, sign_mask: str | None) -> None:
    if scope not in ("group", "trajectory", "batch"):
        raise ValueError(f"scope {scope!r}: choose group, trajectory or batch")
    if direction not in ("normal", "reversed"):
        raise ValueError(f"direction {direction!r}: choose normal or reversed")
    if sign_mask not in (None, "fall", "rise"):
        raise ValueError(f"sign_mask {sign_mask!r}: choose None, fall or rise")
    if lam < 0:
        raise ValueError(f"lam must be ≥ 0, got {lam}: use direction='reversed' instead of a negative λ")


def _check_shapes(advantages: Tensor, uncertainty: Tensor, response_group: Tensor, span_index: Tensor | None) -> None:
    if uncertainty.shape != response_group.shape:
        raise ValueError(f"uncertainty {tuple(uncertainty.shape)} ≠ response_group {tuple(response_group.shape)}")
    expected = (uncertainty if span_index is None else span_index).shape
    if advantages.shape != expected:
        raise ValueError(
            f"advantages {tuple(advantages.shape)} ≠ {tuple(expected)}: one per response, or per token with span_index="
        )
