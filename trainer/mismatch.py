"""Importance weights where the trainer's log-probs are not those that the tokens were sampled with.

Engines compute with other kernels, or in half precision; stale ones with older weights. With μ the policy that sampled
and π_old the trainer's own, recomputed before the update, the loss's ratio is π/π_old and its tokens are weighted by
π_old/μ, a constant (the decoupled objective):

    truncate (TIS)   w_k = min(π_old/μ of the token, cap)                         cap 2
    mask (MIS)       w = ρ·1[ρ ≤ cap],  ρ = Π_k π_old/μ over the response          cap 3

Truncation is biased by little and never far off; masking leaves out whole responses that the trainer would hardly have
said. The sequence is one response, as in GSPO's ratio. The mean that the loss is stays over all tokens, those of masked
responses included.
Sources: F. Yao et al., Your efficient RL framework secretly brings you off-policy RL training (2025), for TIS;
J. Liu et al., When speed kills stability (2025), for MIS; the decoupled objective, arXiv 2110.00641.
"""

from typing import Literal

import torch
from torch import Tensor

from trainer.kl import MAX_LOG_RATIO, kl_estimate
from trainer.tensors import segment_sum

Mismatch = Literal["none", "truncate", "mask"]
CAPS = {"truncate": 2.0, "mask": 3.0}
"""Largest weight, unless the recipe says another."""


def mismatch_weights(
    logprobs: Tensor, sampled: Tensor, span_index: Tensor, n_responses: int, *, kind: Mismatch, cap: float | None = None
) -> Tensor:
    """logprobs (of π_old), sampled (of μ), span_index [tokens] → weights [tokens], detached.

    cap None: that of `CAPS`. Raises ValueError for another kind.
    """
    log_ratio = (logprobs - sampled).detach()
    if kind == "none":
        return torch.ones_like(log_ratio)
    if kind == "truncate":
        return log_ratio.clamp_max(MAX_LOG_RATIO).exp().clamp_max(CAPS[kind] if cap is None else cap)
    if kind != "mask":
        raise ValueError(f"mismatch {kind!r}: choose none, truncate or mask")
    whole = segment_sum(log_ratio, span_index, n_responses).clamp_max(MAX_LOG_RATIO).exp()
    return torch.where(whole <= (CAPS[kind] if cap is None else cap), whole, 0)[span_index]


def mismatch_metrics(weights: Tensor, logprobs: Tensor, sampled: Tensor) -> dict[str, Tensor]:
    """Of tokens: `mismatch_weight_mean`; `mismatch_kl`, the mean of k3 of KL(μ ‖ π_old), nats; and `mismatch_masked`,
    the share with weight 0."""
    return {
        "mismatch_weight_mean": weights.mean(),
        "mismatch_kl": kl_estimate(sampled, logprobs).mean(),
        "mismatch_masked": (weights == 0).float().mean(),
    }
