"""Group-relative advantages (GRPO, arXiv 2402.03300): A = (R − b_G) / (std_G R + 1e-6), std with ddof 1.

One R per *episode*, and all responses of an episode share its advantage. The baseline b is the group's mean, where long
episodes weigh no more than short ones, or the mean weighted by length (OPO, arXiv 2505.23585), with which Σ length·A is
0: a loss that averages over tokens then pushes a group's tokens up as much as down. With the plain mean it pushes down
on the whole wherever failures are longer than successes. A group of one episode, or of equal returns, gets exactly 0.
"""

from typing import Literal

from torch import Tensor

from trainer.advantages.base import Advantages, Signals
from trainer.tensors import count_segments, segment_count, segment_mean, segment_min, segment_sum


def group_advantages(
    returns: Tensor,
    group_of_episode: Tensor,
    *,
    lengths: Tensor | None = None,
    normalise: bool = True,
    std_floor: float = 0.0,
    n_groups: int | None = None,
) -> Tensor:
    """returns, group_of_episode [episodes] → advantages [episodes].

    - lengths: [episodes] weights of the returns in the baseline; None: all the same.
    - normalise: divide by the group's std; False gives R − b (with the plain mean, Dr. GRPO's advantage).
    - std_floor: lower bound of that std, in units of return; keeps tiny differences from becoming full-size advantages.
    - n_groups: if known; otherwise found out, which waits for the device.
    """
    n = count_segments(group_of_episode) if n_groups is None else n_groups
    # Measured from the group's minimum, so that equal returns are exactly 0 and no rounding is blown up by 1/1e-6.
    above = returns - segment_min(returns, group_of_episode, n)[group_of_episode]
    deviation = above - segment_mean(above, group_of_episode, n)[group_of_episode]
    centred = deviation
    if lengths is not None:
        weight = segment_sum(lengths, group_of_episode, n)
        centred = above - (segment_sum(lengths * above, group_of_episode, n) / weight)[group_of_episode]
    if not normalise:
        return centred
    degrees = (segment_count(group_of_episode, n) - 1).clamp_min(1)
    std = (segment_sum(deviation.square(), group_of_episode, n) / degrees).sqrt().clamp_min(std_floor)
    return centred / (std + 1e-6)[group_of_episode]


def episode_advantages(signals: Signals, *, normalise: bool, std_floor: float = 0.0) -> Tensor:
    """`group_advantages` of each response's episode, around the plain mean: [responses]."""
    per_episode = group_advantages(
        signals.returns, signals.group_of_episode, normalise=normalise, std_floor=std_floor, n_groups=signals.n_groups
    )
    return per_episode[signals.episode_index]


def grpo(
    signals: Signals,
    *,
    baseline: Literal["mean", "length"] = "mean",
    normalise: bool = True,
    std_floor: float = 0.0,
) -> Advantages:
    """`group_advantages`, one entry per response; an episode's length is its response tokens."""
    group, episode = signals.group_of_episode, signals.episode_index
    lengths = None
    if baseline == "length":
        lengths = segment_count(episode[signals.span_index], len(signals.returns)).to(signals.returns.dtype)
    per_episode = group_advantages(
        signals.returns, group, lengths=lengths, normalise=normalise, std_floor=std_floor, n_groups=signals.n_groups
    )
    return Advantages(per_episode[episode], "response")
