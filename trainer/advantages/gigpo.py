"""GiGPO (arXiv 2505.10978): the episode's group-relative advantage, plus one among turns taken in the same state.

    A_t = (R − mean_G R)/F + ω·(R_t − mean_S R_t)/F'      R_t = Σ_{k ≥ t} γ^{k−t} r_k

S: all turns of the group, of whichever episode, that began in the same state: the anchor, a hash that the environment
gives of what the agent can know (equal texts such as "Nothing happens." would merge different states). A state visited
once gives no second term. F and F' are the std (ddof 1) within G and within S, or 1. Defaults: ω = 1, γ = 0.95, F the
std; the paper's other reading, F = 1, is `normalise=False`. Where the environment has no anchors, it is GRPO.
"""

from collections.abc import Sequence

from trainer.advantages.base import Advantages, Signals
from trainer.advantages.grpo import episode_advantages, group_advantages
from trainer.tensors import discounted_sum


def number_anchors(anchors: Sequence[str], groups: Sequence[int]) -> list[int]:
    """[responses]: equal numbers for equal anchors within a group, from 0; an empty anchor is like no other."""
    known: dict[tuple[int, str | int], int] = {}
    keys = ((group, anchor or place) for place, (anchor, group) in enumerate(zip(anchors, groups, strict=True)))
    return [known.setdefault(key, len(known)) for key in keys]


def gigpo(
    signals: Signals,
    *,
    gamma: float = 0.95,
    step_weight: float = 1.0,
    normalise: bool = True,
    std_floor: float = 0.0,
) -> Advantages:
    """One entry per response. step_weight: ω. std_floor: lower bound of both stds, in units of return.

    Raises ValueError without `signals.anchor_index`.
    """
    if signals.anchor_index is None:
        raise ValueError("gigpo needs to know equal states: signals.anchor_index is missing")
    per_episode = episode_advantages(signals, normalise=normalise, std_floor=std_floor)
    to_go = discounted_sum(signals.rewards, signals.episode_index, gamma)
    per_step = group_advantages(
        to_go, signals.anchor_index, normalise=normalise, std_floor=std_floor, n_groups=len(to_go)
    )
    return Advantages(per_episode + step_weight * per_step, "response")
