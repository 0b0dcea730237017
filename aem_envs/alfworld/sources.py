"""Where `aem/ALFWorld-v0` takes its tasks from: which there are, and what each one is."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np

from aem_envs.alfworld.world import World
from aem_envs.core import BadOptionError
from envs_data.alfworld.generator import problem_for
from envs_data.alfworld.problem import Dialect, Problem
from envs_data.alfworld.splits import SPLITS, VALID_GAMES, check_size, check_task_type, parse_task_id, scheduled_type

WORLDS = 512
"""Compiled games kept per process and shared by all environments (50 to 300 kB each)."""
_TRAIN_RANGE = 1_000_000_000
"""Training games are drawn from this many; the split itself has no end."""


@dataclass(frozen=True)
class Loaded:
    """A task, ready to be played."""

    data_hash: str
    task_type: str
    dialect: str
    engine: str
    """Engine and dialect, as `info` says them."""
    world: World | None
    """For the native engine."""
    file: Path | None
    """For the real engine."""


class Source(Protocol):
    """Tasks by split."""

    splits: tuple[str, ...]

    def ids(self, split: str, limit: int | None) -> Sequence[str]:
        """The first `limit` task ids of a known split, in their fixed order; raises `BadOptionError`."""
        ...

    def draw(self, split: str, rng: np.random.Generator) -> str:
        """A task of a known split."""
        ...

    def split_of(self, task_id: str) -> str:
        """The split of a task; raises `BadOptionError` for an unknown one."""
        ...

    def load(self, task_id: str) -> Loaded:
        """The task of a known id; raises `DataError`."""
        ...


def check_types(task_types: Sequence[str] | str | None) -> tuple[str, ...]:
    """The filter `task_types` (one name, several, or None for no filter) as a tuple; raises `UnknownTaskError`."""
    if isinstance(task_types, str):
        task_types = [part.strip() for part in task_types.split(",")]
    return tuple(dict.fromkeys(map(check_task_type, task_types or ())))


def problem_hash(problem: Problem) -> str:
    """Hash of a game's content: objects, facts, goal and task sentence."""
    content = repr((problem.objects, problem.facts, problem.goal, problem.task))
    return blake2b(content.encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=WORLDS)
def embedded_world(task_id: str, dialect: Dialect) -> tuple[World, str]:
    """An embedded game, compiled, and its content's hash."""
    problem = problem_for(task_id, dialect)
    return World.compile(problem), problem_hash(problem)


class EmbeddedSource:
    """Generated games; `train` has no end."""

    splits: tuple[str, ...] = SPLITS

    def __init__(self, size: str, dialect: Dialect, task_types: tuple[str, ...]) -> None:
        self.size, self.dialect, self.task_types = check_size(size), dialect, task_types

    def ids(self, split: str, limit: int | None) -> Sequence[str]:
        if split == "train" and limit is None:
            raise BadOptionError("split 'train' has no end: give task_ids a limit")
        wanted = VALID_GAMES if limit is None else limit
        numbers = iter(range(VALID_GAMES if split != "train" else _TRAIN_RANGE))
        fitting = (number for number in numbers if self._fits(split, number))
        return [self._id(split, number) for number, _ in zip(fitting, range(wanted))]

    def draw(self, split: str, rng: np.random.Generator) -> str:
        bound = _TRAIN_RANGE if split == "train" else VALID_GAMES
        while True:  # every block of six has each type once: at worst one draw in six fits
            number = int(rng.integers(bound))
            if self._fits(split, number):
                return self._id(split, number)

    def split_of(self, task_id: str) -> str:
        return parse_task_id(task_id).split

    def load(self, task_id: str) -> Loaded:
        world, data_hash = embedded_world(task_id, self.dialect)
        return Loaded(data_hash, world.task.task_type, world.dialect, f"native/{world.dialect}", world, None)

    def _id(self, split: str, number: int) -> str:
        return f"{self.size}/{split}/{number:06d}"

    def _fits(self, split: str, number: int) -> bool:
        return not self.task_types or scheduled_type(split, number) in self.task_types  # type: ignore[arg-type]
