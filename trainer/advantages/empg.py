"""EMPG (arXiv 2509.09265), AEM's rival: group-relative advantages scaled by certainty, plus a bonus for clear futures.

    H̃_t = (H̄_t − min H̄)/(max H̄ − min H̄)      g_t = exp(−k·H̃_t)/mean[exp(−k·H̃)]
    A'_t = A·g_t + ζ·exp(−k'·H̃_{t+1})            A''_t = A'_t − mean A'

H̄: mean token entropy of a response, nats. Min, max and both means run over all responses of the *batch*. A: GRPO's.
The last turn of an episode has no next one, and no bonus. Unlike AEM it may turn signs, and gives groups of equal
returns an advantage. Defaults: k = k' = 1, ζ = 0.05. A batch of equal entropies has H̃ = 0. Source: the pseudocode
on the authors' page (https://empgseed-seed.github.io), whose ζ is 0.1: the smaller one is the project's choice.
"""

import torch
from torch import Tensor

from trainer.advantages.base import Advantages, Signals
from trainer.advantages.grpo import episode_advantages
from trainer.tensors import last_of_segment


def entropy_modulated(
    advantages: Tensor,
    uncertainty: Tensor,
    episode_index: Tensor,
    *,
    strength: float = 1.0,
    bonus_strength: float = 1.0,
    bonus: float = 0.05,
) -> Tensor:
    """A'' of advantages A, uncertainty H̄ (nats) and episode_index, all [responses], in time order → [responses]."""
    low, high = uncertainty.min(), uncertainty.max()
    spread = high - low
    relative = torch.where(spread > 0, (uncertainty - low) / spread, 0)
    scale = (-strength * relative).exp()
    clear = torch.where(last_of_segment(episode_index), 0, (-bonus_strength * relative.roll(-1)).exp())
    modulated = advantages * scale / scale.mean() + bonus * clear
    return modulated - modulated.mean()


def empg(
    signals: Signals,
    *,
    strength: float = 1.0,
    bonus_strength: float = 1.0,
    bonus: float = 0.05,
    normalise: bool = True,
    std_floor: float = 0.0,
) -> Advantages:
    """One entry per response. strength: k; bonus_strength: k'; bonus: ζ; normalise, std_floor: GRPO's.

    Raises ValueError without `signals.uncertainty`.
    """
    if signals.uncertainty is None:
        raise ValueError("empg needs entropies: signals.uncertainty is missing")
    per_episode = episode_advantages(signals, normalise=normalise, std_floor=std_floor)
    return Advantages(
        entropy_modulated(
            per_episode,
            signals.uncertainty,
            signals.episode_index,
            strength=strength,
            bonus_strength=bonus_strength,
            bonus=bonus,
        ),
        "response",
    )
