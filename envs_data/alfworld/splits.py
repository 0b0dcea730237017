"""Fixed splits of the embedded games, and the names of tasks.

- `train`: unlimited; train layouts and train pairs.
- `valid_seen`: the same layouts and pairs, other games: a game belongs to it, and never to train, if the checksum of
  its content falls into one residue class.
- `valid_unseen`: layouts and (object type, receptacle type) goals that neither of the others has.

A task id is `<size>/<split>/<number>`, with `/<task type>` appended where a type other than the schedule's was asked
for: "small/train/000123". Every game has exactly one.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args, overload

from envs_data.alfworld.problem import TASK_TYPES
from envs_data.alfworld.rooms import SIZES, Size
from envs_data.errors import UnknownSplitError, UnknownTaskError

Split = Literal["train", "valid_seen", "valid_unseen"]
SPLITS: tuple[Split, ...] = get_args(Split)
VALID_GAMES = 504
"""Games of each valid split: a multiple of six, so that the task types are equally many."""

_HELD_OUT = 5
"""One pair in this many is held out for valid_unseen."""
_SEEN_CLASSES = 4
"""One game in this many belongs to valid_seen."""


@dataclass(frozen=True)
class TaskId:
    """One embedded game, whatever dialect it is told in."""

    size: Size
    split: Split
    index: int
    """From 0; any number in train, below `VALID_GAMES` in the others."""
    task_type: str | None = None
    """The type asked for; None takes the schedule's."""

    def __str__(self) -> str:
        tail = f"/{self.task_type}" if self.task_type else ""
        return f"{self.size}/{self.split}/{self.index:06d}{tail}"


def check_size(size: str) -> Size:
    """The size, or `UnknownTaskError`."""
    if size not in SIZES:
        raise UnknownTaskError(f"unknown room size {size!r}; known: {', '.join(SIZES)}")
    return size


def check_split(split: str) -> Split:
    """The split, or `UnknownSplitError`."""
    if split not in SPLITS:
        raise UnknownSplitError(f"unknown split {split!r} of the embedded games; known: {', '.join(SPLITS)}")
    return split


def check_task_type(task_type: str) -> str:
    """The task type, or `UnknownTaskError`."""
    if task_type not in TASK_TYPES:
        raise UnknownTaskError(f"unknown task type {task_type!r}; known: {', '.join(TASK_TYPES)}")
    return task_type


def check_index(split: Split, index: int) -> int:
    """The index, or `UnknownTaskError` where the split has no such game."""
    if index < 0 or (split != "train" and index >= VALID_GAMES):
        last = "any number from 0" if split == "train" else f"0 to {VALID_GAMES - 1}"
        raise UnknownTaskError(f"no embedded game {index} in {split}; it has {last}")
    return index


def parse_task_id(task_id: str) -> TaskId:
    """Read a task id; raises `UnknownTaskError` or `UnknownSplitError` on anything but a valid one.

    Other spellings of a valid one ("small/train/1", or the schedule's own type at the end) are refused too: statistics,
    seeds and records take two ids for two tasks.
    """
    parts = task_id.split("/")
    if len(parts) not in (3, 4) or not (parts[2].isascii() and parts[2].isdigit() and len(parts[2]) <= 12):
        raise UnknownTaskError(f"not an embedded task id: {task_id[:80]!r}; expected for example small/train/000123")
    size, split = check_size(parts[0]), check_split(parts[1])
    kind = check_task_type(parts[3]) if len(parts) == 4 else None
    task = TaskId(size, split, check_index(split, int(parts[2])), kind)
    own = replace(task, task_type=None if kind == scheduled_type(split, task.index) else kind)
    if str(own) != task_id:
        raise UnknownTaskError(f"not how {str(own)!r} is written: {task_id[:80]!r}; use that id")
    return own


@cache
def held_out(kind: str, receptacle: str) -> bool:
    """Whether "bring this object type to this receptacle type" (or under this lamp) is kept for valid_unseen."""
    return zlib.crc32(f"pair {kind} {receptacle}".encode()) % _HELD_OUT == 0


def belongs_to_seen(content: str) -> bool:
    """Whether a game on train layouts and pairs belongs to valid_seen (else to train), from all that makes it up."""
    return zlib.crc32(content.encode()) % _SEEN_CLASSES == 0


def scheduled_type(split: Split, index: int) -> str:
    """Task type of a game: every block of six consecutive games has each type once, in an order of its own."""
    block, place = divmod(index, len(TASK_TYPES))
    order = list(TASK_TYPES)
    code = zlib.crc32(f"block {split} {block}".encode())
    for left in range(len(order), len(order) - place, -1):
        code, pick = divmod(code, left)
        order.pop(pick)
    return order[code % len(order)]


def task_ids(split: str, limit: int | None = None, *, size: str = "small") -> Sequence[str]:
    """The first `limit` task ids of a split (all of a valid split if None), made when asked for.

    Raises:
        UnknownSplitError, UnknownTaskError: no such split or size; no limit for the unlimited train split, or one that
            is not a number from 0.
    """
    side, scale = check_split(split), check_size(size)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise UnknownTaskError(f"a number of task ids is an integer from 0, not {limit!r}")
    if side == "train":
        if limit is None:
            raise UnknownTaskError("embedded train games are unlimited; say how many task ids you want")
        return _TaskIds(scale, side, range(limit))
    return _TaskIds(scale, side, range(VALID_GAMES if limit is None else min(limit, VALID_GAMES)))


class _TaskIds(Sequence[str]):
    """Task ids of consecutive numbers, none of them stored."""

    def __init__(self, size: Size, split: Split, numbers: range) -> None:
        self._size, self._split, self._numbers = size, split, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return _TaskIds(self._size, self._split, self._numbers[place])
        return str(TaskId(self._size, self._split, self._numbers[place]))
