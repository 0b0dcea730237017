"""Where `aem/ALFWorld-v0` takes its tasks from: which there are, and what each one is to the engine that plays it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from aem_envs.alfworld.world import World
from aem_envs.core import BadOptionError, one_of
from envs_data.alfworld.export import Rules, installed_rules
from envs_data.alfworld.generator import problem_for
from envs_data.alfworld.manifest import problem_hash
from envs_data.alfworld.official import OfficialData, find_folder
from envs_data.alfworld.problem import TASK_TYPES, Dialect
from envs_data.alfworld.rooms import SIZES
from envs_data.alfworld.splits import SPLITS, VALID_GAMES, parse_task_id, scheduled_type
from envs_data.alfworld.tw_pddl import UnknownDialectError, parse_game, render_game
from envs_data.errors import GameFileError

EngineName = Literal["native", "textworld", "auto"]

WORLDS = 512
"""Compiled games kept per process and shared by all its environments (50 to 300 kB each)."""
_TRAIN_RANGE = 1_000_000_000
"""Training games are drawn from this many; the split itself has no end."""


@dataclass(frozen=True)
class Loaded:
    """A task, ready to be played."""

    task_type: str
    data_hash: str
    """Of the game's content, or of its file."""
    dialect: str
    """"old", "current" or "unknown"."""
    world: World | None
    """For the native engine; None: the real one plays it."""
    file: Path | str | None = None
    """Game file, or its text, for the real engine."""

    @property
    def engine(self) -> str:
        """Engine and dialect, as `info` says them."""
        return f"{'native' if self.world else real_engine()}/{self.dialect}"


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
        """The split of a task; raises `UnknownTaskError`, `UnknownSplitError`."""
        ...

    def load(self, task_id: str) -> Loaded:
        """The task of a known id; raises `DataError`."""
        ...


def check_types(task_types: Sequence[str] | str | None) -> tuple[str, ...]:
    """The filter `task_types` (one name, several, or None for no filter) as a tuple.

    Raises:
        BadOptionError: not task types, or none at all.
    """
    if isinstance(task_types, str):
        task_types = [part.strip() for part in task_types.split(",")]
    if task_types is None:
        return ()
    if not isinstance(task_types, Iterable):
        raise BadOptionError(f"task_types must be names of task types, not {task_types!r}")
    wanted = tuple(task_types)
    if not wanted:
        raise BadOptionError("task_types names no task type: leave it out to have all")
    for task_type in wanted:
        one_of("task type", task_type, TASK_TYPES)
    return tuple(dict.fromkeys(wanted))


class EmbeddedSource:
    """Generated games; `train` has no end."""

    splits: tuple[str, ...] = SPLITS

    def __init__(self, size: str, dialect: Dialect, task_types: tuple[str, ...], engine: EngineName) -> None:
        one_of("size", size, SIZES)
        self.size, self.dialect, self.task_types = size, dialect, task_types
        self.rules: Rules | None = None
        if engine == "textworld":
            self.rules = installed_rules()
            if self.rules.dialect != dialect:
                raise BadOptionError(
                    f"the installed alfworld speaks the dialect {self.rules.dialect!r}, not {dialect!r}: "
                    'name that dialect, or leave engine="native"'
                )

    def __reduce__(self) -> tuple[Any, ...]:
        return EmbeddedSource, (self.size, self.dialect, self.task_types, "textworld" if self.rules else "native")

    def ids(self, split: str, limit: int | None) -> Sequence[str]:
        if split == "train" and limit is None:
            raise BadOptionError("split 'train' has no end: give task_ids a limit")
        numbers = range(VALID_GAMES if split != "train" else _TRAIN_RANGE)
        return list(islice((self._id(split, number) for number in numbers if self._fits(split, number)), limit))

    def draw(self, split: str, rng: np.random.Generator) -> str:
        bound = _TRAIN_RANGE if split == "train" else VALID_GAMES
        while True:  # every block of six has each type once: at worst one draw in six fits
            number = int(rng.integers(bound))
            if self._fits(split, number):
                return self._id(split, number)

    def split_of(self, task_id: str) -> str:
        return _embedded_split(task_id)

    def load(self, task_id: str) -> Loaded:
        world, data_hash = _embedded(task_id, self.dialect)
        if self.rules is None:
            return Loaded(world.task.task_type, data_hash, self.dialect, world)
        problem = problem_for(task_id, self.dialect)
        file = render_game(problem, domain=self.rules.domain, grammar=self.rules.grammar)
        return Loaded(world.task.task_type, data_hash, self.dialect, None, file)

    def _id(self, split: str, number: int) -> str:
        return f"{self.size}/{split}/{number:06d}"

    def _fits(self, split: str, number: int) -> bool:
        return not self.task_types or scheduled_type(split, number) in self.task_types  # type: ignore[arg-type]


class OfficialSource:
    """The user's ALFWorld data: the splits that are there, filtered and named as alfworld does."""

    def __init__(self, data: str | None, task_types: tuple[str, ...], engine: EngineName) -> None:
        self.data = official_data(find_folder(data))
        self.splits = self.data.splits
        self.task_types, self.engine = task_types, engine
        self._ids: dict[str, list[str]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return OfficialSource, (str(self.data.folder), self.task_types, self.engine)  # the listing is shared

    def ids(self, split: str, limit: int | None) -> Sequence[str]:
        if split not in self._ids:
            self._ids[split] = [game.task_id for game in self.data.games(split, self.task_types)]
        return self._ids[split][:limit]

    def draw(self, split: str, rng: np.random.Generator) -> str:
        ids = self.ids(split, None)
        if not ids:
            raise BadOptionError(f"split {split!r} has no task of the types {', '.join(self.task_types)}")
        return ids[int(rng.integers(len(ids)))]

    def split_of(self, task_id: str) -> str:
        return self.data.game(task_id).split

    def load(self, task_id: str) -> Loaded:
        game = self.data.game(task_id)
        changed = game.path.stat().st_mtime_ns if game.path.is_file() else 0  # an absent one: reading it says so
        world, data_hash, dialect = _official(self.data, task_id, self.engine, changed)
        return Loaded(game.task_type, data_hash, dialect, world, game.path)


@lru_cache(maxsize=8)
def official_data(folder: Path) -> OfficialData:
    """The listing of a data folder, shared by all environments on it."""
    return OfficialData(folder)


@lru_cache(maxsize=4 * WORLDS)
def _embedded_split(task_id: str) -> str:
    return parse_task_id(task_id).split


@lru_cache(maxsize=WORLDS)
def _embedded(task_id: str, dialect: Dialect) -> tuple[World, str]:
    """An embedded game, compiled, and its content's hash."""
    problem = problem_for(task_id, dialect)
    return World.compile(problem), problem_hash(problem)


@lru_cache(maxsize=WORLDS)
def _official(data: OfficialData, task_id: str, engine: EngineName, changed: int) -> tuple[World | None, str, str]:
    """An official game (compiled if the native engine is to play it), its file's hash and its dialect."""
    content = data.read(task_id)
    data_hash = sha256(content).hexdigest()[:16]
    try:
        problem = parse_game(content, name=str(data.game(task_id).path))
    except UnknownDialectError:
        if engine == "native":
            raise
        return None, data_hash, "unknown"
    if engine == "textworld":
        return None, data_hash, problem.dialect
    try:
        return World.compile(problem), data_hash, problem.dialect
    except GameFileError:
        if engine == "native":
            raise
        return None, data_hash, problem.dialect


@lru_cache(maxsize=1)
def real_engine() -> str:
    """Name and version of the real engine."""
    try:
        return f"textworld-{version('textworld')}"
    except PackageNotFoundError:
        return "textworld"
