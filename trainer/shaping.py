"""DAPO's overlong shaping (arXiv 2503.14476): an episode of nearly as many response tokens as allowed earns less.

With the limit L, the buffer C and |y| response tokens of an episode, in units of the recipe's `reward_scale`:

    penalty = 0 for |y| ≤ L − C,   (|y| − (L − C))/C up to L,   1 beyond

It is taken from the episode's return and from its last turn's reward. DAPO has one response per episode; here the sum
over an episode's responses counts. Advantages alone see it: metrics and dynamic sampling go by the returns themselves.
"""

from dataclasses import replace

import torch
from torch import Tensor

from trainer.advantages.base import Signals
from trainer.tensors import last_of_segment, segment_count


def overlong_penalty(lengths: Tensor, limit: int, buffer: int) -> Tensor:
    """lengths int64 [episodes] → float32 [episodes] between 0 and 1."""
    return ((lengths - (limit - buffer)).to(torch.float32) / buffer).clamp(0, 1)


def shape(
    signals: Signals, *, limit: int | None, buffer: int = 1024, scale: float = 1.0
) -> tuple[Signals, dict[str, Tensor]]:
    """The signals with overlong episodes' returns and rewards lowered by at most `scale`, and what that came to:
    `overlong_share`, episodes with a penalty, and `overlong_penalty`, its mean. limit None: neither."""
    if limit is None:
        return signals, {}
    lengths = segment_count(signals.episode_index[signals.span_index], len(signals.returns))
    penalty = overlong_penalty(lengths, limit, buffer)
    lost = scale * penalty
    last = last_of_segment(signals.episode_index)
    shaped = replace(
        signals,
        returns=signals.returns - lost,
        rewards=signals.rewards - torch.where(last, lost[signals.episode_index], 0),
    )
    return shaped, {"overlong_share": (penalty > 0).float().mean(), "overlong_penalty": lost.mean()}
