"""What is to be played and what came of it. A slot of the rollout manager takes a job from a board and puts the episode
back; the board says when there is nothing left to begin, or nothing left to wait for. Made inside the event loop.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from aem_agent.collection import Collected, Wanted
from aem_agent.episode_recorder import Job
from aem_agent.types import Episode, RolloutGroup, TaskRef


class ListBoard:
    """Every task of a list, `repeats` times each, but for the (task id, repeat) pairs in `skip`.

    A task listed twice gets further repeats, never the same episode twice.
    """

    def __init__(self, tasks: Sequence[TaskRef], repeats: int, skip: Collection[tuple[str, int]] = ()) -> None:
        self.tasks = tasks
        self._jobs = list(_jobs(tasks, repeats, skip))
        self._queue = iter(self._jobs)
        self._episodes: dict[Job, Episode] = {}
        self.settled = asyncio.Event()
        """What is in flight is not needed: never here."""
        self.stopped = False
        """No further job is given; may be set from a signal's handler."""

    def __len__(self) -> int:
        """Episodes to play in all."""
        return len(self._jobs)

    async def take(self) -> Job | None:
        """The next job; None when all are begun."""
        return None if self.stopped else next(self._queue, None)

    def stop(self) -> None:
        """Give no further job."""
        self.stopped = True

    def put(self, job: Job, episode: Episode) -> None:
        """Note what came of a job."""
        self._episodes[job] = episode

    @property
    def complete(self) -> bool:
        """All was played."""
        return len(self._episodes) == len(self._jobs)

    def groups(self) -> list[RolloutGroup]:
        """One per entry of the tasks, in their order, of what was played."""
        played: list[list[Episode]] = [[] for _ in self.tasks]
        for job in self._jobs:
            if (episode := self._episodes.get(job)) is not None:
                played[job.group].append(episode)
        return [group_of(task, group) for task, group in zip(self.tasks, played)]


class WantedBoard:
    """Groups of an open-ended list of tasks until enough are complete and kept; see `collection.Wanted`."""

    def __init__(self, tasks: Iterable[TaskRef], repeats: int, wanted: Wanted) -> None:
        self.wanted = wanted
        self._repeats = repeats
        self._tasks = iter(tasks)
        self._listed: Counter[TaskRef] = Counter()
        self._queue: list[Job] = []
        """Jobs of begun groups that nobody has taken, the next last."""
        self._groups: list[RolloutGroup | None] = []
        """By place in the list of tasks; None: not complete."""
        self._episodes: list[list[tuple[int, Episode]]] = []
        self._kept: list[int] = []
        """Places of complete groups that count, in the order in which they were completed."""
        self._rejected: list[int] = []
        self._taken = 0
        self._ended = False
        """No further group can be begun."""
        self.stopped = False
        self._changed = asyncio.Event()
        self.settled = asyncio.Event()
        """Which groups are taken can no longer change: what is in flight is not needed."""

    async def take(self) -> Job | None:
        """The next job. Waits while enough groups are under way; None when no further one will be needed."""
        while not (self.stopped or self.settled.is_set()):
            if self._queue or self._open():
                self._taken += 1
                return self._queue.pop()
            if self._ended and not self._under_way:
                break
            self._changed.clear()
            await self._changed.wait()
        return None

    def stop(self) -> None:
        """Give no further job."""
        self._ended = True
        self._queue.clear()
        self.stopped = True
        self._changed.set()

    def put(self, job: Job, episode: Episode) -> None:
        """Note what came of a job, and judge its group once it is complete."""
        episodes = self._episodes[job.group]
        episodes.append((job.repeat, episode))
        if len(episodes) < self._repeats:
            return
        task = job.task
        group = group_of(task, [episode for _, episode in sorted(episodes, key=lambda pair: pair[0])])
        self._groups[job.group] = group
        keep = self.wanted.keep
        (self._kept if keep is None or keep(group) else self._rejected).append(job.group)
        self._changed.set()
        if len(self._chosen()) == self.wanted.groups:
            self.settled.set()

    @property
    def complete(self) -> bool:
        """Enough was found, or all there is was played."""
        return self.settled.is_set() or not (self.stopped or self._queue or self._under_way)

    def collected(self) -> Collected:
        """What the step gets, in the order of tasks."""
        chosen = sorted(self._chosen())
        last = len(self._groups) if self.wanted.early or len(chosen) < self.wanted.groups else chosen[-1] + 1
        rejected = sorted(place for place in self._rejected if place < last)
        used = len(chosen) + len(rejected)
        return Collected(
            tuple(group for place in chosen if (group := self._groups[place]) is not None),
            tuple(group for place in rejected if (group := self._groups[place]) is not None),
            self._taken - used * self._repeats,
            last,
        )

    @property
    def _under_way(self) -> int:
        """Begun groups that are not complete."""
        return len(self._groups) - len(self._kept) - len(self._rejected)

    def _chosen(self) -> list[int]:
        """Places of the groups that are taken as things stand: by completion, or by place as far as all is known."""
        if self.wanted.early:
            return self._kept[: self.wanted.groups]
        kept = sorted(self._kept)[: self.wanted.groups]
        known = next((place for place, group in enumerate(self._groups) if group is None), len(self._groups))
        return [place for place in kept if place < known]

    def _open(self) -> bool:
        """Begin another group, if one more may be needed and there is a task."""
        if self._ended or len(self._kept) + self._under_way >= self.wanted.groups + self.wanted.spare:
            return False
        task = next(self._tasks, None)
        if task is None:
            self._ended = True
            return False
        first, place = self._listed[task] * self._repeats, len(self._groups)
        self._listed[task] += 1
        self._groups.append(None)
        self._episodes.append([])
        self._queue = [Job(place, task, first + n) for n in reversed(range(self._repeats))]
        return True


Board = ListBoard | WantedBoard


def group_of(task: TaskRef, episodes: Iterable[Episode]) -> RolloutGroup:
    """Episodes of one task, errored ones apart."""
    played = list(episodes)
    return RolloutGroup(task, tuple(e for e in played if e.completed), tuple(e for e in played if not e.completed))


def _jobs(tasks: Sequence[TaskRef], repeats: int, skip: Collection[tuple[str, int]]) -> Iterator[Job]:
    listed: Counter[TaskRef] = Counter()
    for group, task in enumerate(tasks):
        first = listed[task] * repeats
        listed[task] += 1
        for repeat in range(first, first + repeats):
            if (task.task_id, repeat) not in skip:
                yield Job(group, task, repeat)
