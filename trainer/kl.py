"""Per-token estimators of KL(π ‖ π_ref) from the log-probs of sampled tokens.

With Δ = log π_ref − log π:   k1 = −Δ      k2 = Δ²/2      k3 = exp(Δ) − Δ − 1

k1 is unbiased but of either sign; k2 is biased with low variance; k3 is unbiased and never negative (GRPO's choice).
As a *loss*, differentiated through log π, k1's expected gradient is zero (use it in rewards), k2's is
that of KL(π ‖ π_ref), and k3's that of KL(π_ref ‖ π).
Source: J. Schulman, Approximating KL divergence (2020); k3 in GRPO, arXiv 2402.03300.
"""

from typing import Literal

from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3"]

MAX_LOG_RATIO = 20.0
"""|Δ| is cut here before it is exponentiated, so that one stray token cannot overflow a step."""


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: KLEstimator = "k3") -> Tensor:
    """Estimate per token, nats: log-probs [tokens] under π and π_ref → [tokens]. Raises ValueError for another name."""
    delta = ref_logprobs - logprobs
    if estimator == "k1":
        return -delta
    if estimator == "k2":
        return delta.square() / 2
    if estimator == "k3":
        delta = delta.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        return delta.expm1() - delta
    raise ValueError(f"KL estimator {estimator!r}: choose k1, k2 or k3")
