"""REINFORCE++ (arXiv 2501.03262): returns-to-go per token with a KL penalty in the reward, whitened over the batch.

    r_k = 1[k ends its turn]·r_turn − β·(log π_old − log π_ref)_k      A_k = whiten(Σ_{j ≥ k} γ^{j−k} r_j)

No group, no critic: the baseline is the mean over all tokens of the batch. γ counts tokens. The paper has one response
per episode; here the sum runs over all later response tokens of the *episode*, the environment's words being skipped,
as in token-level GAE. Defaults: γ = 1, β = 0 (the recipe's `algorithm.kl_reward`; 0.01 with `--algorithm reinforce-pp`,
our choice, the customary one).
"""

import torch

from trainer.advantages.base import Advantages, Signals
from trainer.tensors import discounted_sum, last_of_segment, whiten


def reinforce_pp(
    signals: Signals, *, gamma: float = 1.0, kl_coefficient: float = 0.0, whitened: bool = True
) -> Advantages:
    """One entry per token; `whitened` over the batch here, since AEM must come after.

    Raises ValueError if `kl_coefficient` (β) is not 0 and there is no reference (`signals.reference_kl`).
    """
    span = signals.span_index
    rewards = torch.where(last_of_segment(span), signals.rewards[span], 0)
    if kl_coefficient:
        if signals.reference_kl is None:
            raise ValueError("a KL penalty in the reward needs a reference: signals.reference_kl is missing")
        rewards = rewards - kl_coefficient * signals.reference_kl
    returns = discounted_sum(rewards, signals.episode_index[span], gamma)
    # Measured from the least, so that equal returns are exactly 0 and no rounding is blown up.
    return Advantages(whiten(returns - returns.min()) if whitened else returns, "token")
