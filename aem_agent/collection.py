"""Which rollout groups a training step takes of those that could be played."""

from collections.abc import Callable
from dataclasses import dataclass

from aem_agent.types import RolloutGroup


def not_uniform(group: RolloutGroup) -> bool:
    """Its completed episodes differ in return: a group-relative advantage is not zero everywhere (DAPO's dynamic
    sampling)."""
    return len({episode.return_ for episode in group.episodes}) > 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """When enough has been played."""

    groups: int
    """Groups to return."""
    keep: Callable[[RolloutGroup], bool] | None = None
    """Which complete groups count; None: all. `not_uniform` is dynamic sampling. Bound the list of tasks, such as with
    `itertools.islice`: where no group ever counts, an endless one is played for ever."""
    early: bool = False
    """True: the groups that are complete first are taken, and episodes still in flight are dropped: nobody waits for
    the slowest, but what is taken depends on timing and favours short episodes. False: the first in the order of tasks,
    whatever the timing."""
    spare: int = 0
    """Groups that are begun beyond those still wanted: over-sampling, so that some are ready when others turn out
    uniform, or late."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What was played for a step."""

    groups: tuple[RolloutGroup, ...]
    rejected: tuple[RolloutGroup, ...] = ()
    """Complete, but not kept."""
    abandoned: int = 0
    """Episodes begun that were not taken: dropped in flight, or complete in groups beyond those wanted."""
    tasks: int = 0
    """By so many the list of tasks has advanced: the next step begins behind them. An iterator was read further by what
    was begun and not needed."""
