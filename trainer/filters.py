"""Compact filtering (DeepSWE's GRPO++): episodes that a limit cut off are masked out of the loss.

Cut off means truncated, for whatever reason: the step limit, a token or time limit, a sandbox that gave up. All their
responses get no gradient. They stay in the group's baseline and in AEM's min, max and mean, which are over all
responses of completed episodes. (Infrastructure errors, `infra:…`, are no completed episodes and are in neither.)

Where an environment grades what is there at the step limit, as SWE-bench does, a truncated episode may have earned the
reward. It is masked all the same: that is DeepSWE's rule, which teaches to finish rather than to run on. Made for
SWE-bench; on ALFWorld, where failures *are* truncations, it would mask nearly every failure.
"""

from torch import Tensor


def cut_off(terminated: Tensor, episode_index: Tensor) -> Tensor:
    """terminated bool [episodes], episode_index [responses] → bool [responses], those of truncated episodes."""
    return ~terminated[episode_index]
