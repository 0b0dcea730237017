"""Leave-one-out advantages (RLOO, arXiv 2402.14740): A = R − mean of the others' R = G/(G − 1)·(R − mean_G R).

G is the number of episodes *completed* in the group: one that ended in an infrastructure error is neither in the mean
nor in G. No std. One R per episode, shared by all its responses. A group of one episode, or of equal returns, gets
exactly 0. The baseline of DeepSWE's GRPO++ (see `docs/algorithms.md`). No options.
"""

from torch import Tensor

from trainer.advantages.base import Advantages, Signals
from trainer.advantages.grpo import group_advantages
from trainer.tensors import count_segments, segment_count


def leave_one_out_advantages(returns: Tensor, group_of_episode: Tensor, *, n_groups: int | None = None) -> Tensor:
    """returns, group_of_episode [episodes] → advantages [episodes].

    - n_groups: if known; otherwise found out, which waits for the device.
    """
    n = count_segments(group_of_episode) if n_groups is None else n_groups
    size = segment_count(group_of_episode, n).to(returns.dtype)
    factor = size / (size - 1).clamp_min(1)  # a group of one: its deviation is 0
    centred = group_advantages(returns, group_of_episode, normalise=False, n_groups=n)
    return factor[group_of_episode] * centred


def rloo(signals: Signals) -> Advantages:
    """`leave_one_out_advantages`, one entry per response."""
    per_episode = leave_one_out_advantages(signals.returns, signals.group_of_episode, n_groups=signals.n_groups)
    return Advantages(per_episode[signals.episode_index], "response")
