"""Compact filtering (DeepSWE's GRPO++): episodes that a limit cut off are masked out of the loss.

Cut off means truncated, for whatever reason: the step limit, a token or time limit, a sandbox that gave up. All their
responses get no gradient. They stay in the group's baseline and in AEM's min, max and mean, which are over all
responses of completed episodes. (Infrastructure errors, `infra:…`, are no completed episodes and are in neither.)

A truncated episode that earned something is masked all the same: the rule teaches to finish rather than to run on.
SWE-bench's environment ends an episode that is resolved at the step limit as terminated, which is kept; with
`at_limit="fail"`, as in the recipe after DeepSWE, every episode that ran into the limit is truncated, and masked. Made
for SWE-bench; on ALFWorld, where failures *are* truncations, it would mask nearly every failure.
"""

from torch import Tensor


def cut_off(terminated: Tensor, episode_index: Tensor) -> Tensor:
    """terminated bool [episodes], episode_index [responses] → bool [responses], those of truncated episodes."""
    return ~terminated[episode_index]
