"""Group-relative advantages (GRPO, arXiv 2402.03300): A = (R − mean_G R) / (std_G R + 1e-6), std with ddof 1.

One R per *episode*: long episodes weigh no more than short ones in mean and std, and all responses of an episode share
its advantage. A group of one episode, or of equal returns, gets exactly 0.
"""

from torch import Tensor

from trainer.advantages.base import Advantages, Signals
from trainer.tensors import count_segments, segment_count, segment_mean, segment_min, segment_sum


def group_advantages(
    returns: Tensor,
    group_of_episode: Tensor,
    *,
    normalise: bool = True,
    std_floor: float = 0.0,
    n_groups: int | None = None,
) -> Tensor:
    """returns, group_of_episode [episodes] → advantages [episodes].

    - normalise: divide by the group's std; False gives R − mean (Dr. GRPO's advantage).
    - std_floor: lower bound of that std, in units of return; keeps tiny differences from becoming full-size advantages.
    - n_groups: if known; otherwise found out, which waits for the device.
    """
    n = count_segments(group_of_episode) if n_groups is None else n_groups
    # Measured from the group's minimum, so that equal returns are exactly 0 and no rounding is blown up by 1/1e-6.
    above = returns - segment_min(returns, group_of_episode, n)[group_of_episode]
    centred = above - segment_mean(above, group_of_episode, n)[group_of_episode]
    if not normalise:
        return centred
    degrees = (segment_count(group_of_episode, n) - 1).clamp_min(1)
    std = (segment_sum(centred.square(), group_of_episode, n) / degrees).sqrt().clamp_min(std_floor)
    return centred / (std + 1e-6)[group_of_episode]


def grpo(signals: Signals, *, normalise: bool = True, std_floor: float = 0.0) -> Advantages:
    """`group_advantages`, one entry per response."""
    per_episode = group_advantages(
        signals.returns, signals.group_of_episode, normalise=normalise, std_floor=std_floor, n_groups=signals.n_groups
    )
    return Advantages(per_episode[signals.episode_index], "response")
