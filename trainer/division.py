"""Which of several processes plays which tasks (`scale.rollouts`), and the groups in the order of tasks again."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from aem_agent.types import TaskRef
from trainer.world import ALONE, World

T = TypeVar("T")


class Division:
    """`each`: every process plays its share, with an engine of its own; `first`: the first one plays all.

    What is played does not depend on it: an episode's seed depends on the run's, its task and its repeat.
    """

    def __init__(self, world: World = ALONE, mode: Literal["each", "first"] = "each") -> None:
        self.world = world
        self.players = world.size if mode == "each" else 1

    @property
    def plays(self) -> bool:
        """Whether this process plays, and so needs an engine."""
        return self.world.rank < self.players

    def places(self, tasks: Sequence[TaskRef], player: int | None = None) -> list[int]:
        """Where in `tasks` those of a player (this process) stand: the distinct tasks in turn, so that one that is
        listed twice, which gets further repeats, stays with one player."""
        owner: dict[str, int] = {}
        for task in tasks:
            owner.setdefault(task.task_id, len(owner) % self.players)
        mine = self.world.rank if player is None else player
        return [place for place, task in enumerate(tasks) if owner[task.task_id] == mine]

    def share(self, tasks: Sequence[TaskRef]) -> list[TaskRef]:
        """This process's tasks."""
        return [tasks[place] for place in self.places(tasks)]

    def play(self, play: Callable[[], T]) -> list[T]:
        """What each player's `play()` returns, on all processes; where one fails all raise (see `World.each`)."""
        return self.world.each(play) if self.players == self.world.size else [self.world.only_first(play)]

    def in_order(self, tasks: Sequence[TaskRef], parts: Sequence[Sequence[T]]) -> list[T]:
        """What the players made of their shares, one thing per task, in the order of `tasks`."""
        placed: dict[int, T] = {}
        for player, things in enumerate(parts):
            placed |= dict(zip(self.places(tasks, player), things, strict=True))
        return [placed[place] for place in sorted(placed)]
