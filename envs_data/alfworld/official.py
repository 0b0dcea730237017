"""The official ALFWorld games on the user's disk: which there are, under which names, and their text.

The same games are kept as by alfworld itself: a `traj_data.json` beside a `game.tw-pddl` marked solvable, one of
the asked-for task types, nothing with movable receptacles or sliced objects. They are sorted by path (alfworld takes
the order of the file system). Listing opens no game: it reads names and the last bytes of files.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from envs_data.alfworld.problem import TASK_TYPES, Problem
from envs_data.alfworld.splits import check_task_type
from envs_data.alfworld.tw_pddl import MAX_BYTES, parse_game
from envs_data.errors import DataUnavailableError, GameFileError, UnknownSplitError, UnknownTaskError

VARIABLE = "ALFWORLD_DATA"
SPLITS = ("train", "valid_seen", "valid_unseen")
VERSIONS = ("json_2.1.1", "json_2.1.3", "json_2.1.2")
"""Data folders, the one that alfworld's configuration names first."""
CATEGORIES = dict(zip(TASK_TYPES, ("Pick", "Look", "Clean", "Heat", "Cool", "Pick2")))
"""Task type → the name tables of results use."""
GAME, TRAJECTORY = "game.tw-pddl", "traj_data.json"
_TAIL = 96


@dataclass(frozen=True)
class OfficialGame:
    """One game that passed the filters."""

    task_id: str
    """Path of its folder below the data folder, with slashes: "valid_seen/pick_…-227/trial_T2019…"."""
    split: str
    task_type: str
    path: Path
    """Its `game.tw-pddl`."""

    @property
    def category(self) -> str:
        """Pick, Look, Clean, Heat, Cool or Pick2."""
        return CATEGORIES[self.task_type]


def find_folder(data: str | Path | None = None) -> Path:
    """The folder that holds the splits, from a path or `$ALFWORLD_DATA` (either may name it or its parent).

    Raises:
        DataUnavailableError: there is none; says what to do.
    """
    named = data or os.environ.get(VARIABLE)
    how = f"run `aem-data alfworld download`, then set {VARIABLE} to the folder that holds {VERSIONS[0]}"
    if not named:
        raise DataUnavailableError(f"no official ALFWorld data: neither a path nor {VARIABLE} is given; {how}")
    root = Path(named).expanduser()
    if not root.is_dir():
        raise DataUnavailableError(f"no official ALFWorld data: {root} is not a folder; {how}")
    folders = [
        folder
        for folder in (root, *(root / version for version in VERSIONS))
        if any((folder / split).is_dir() for split in SPLITS)
    ]
    if folders:  # one that holds only trajectories gives way to one with games
        return next((f for f in folders if next(f.glob(f"*/*/*/{GAME}"), None)), folders[0])
    raise DataUnavailableError(f"no official ALFWorld data in {root}: no {VERSIONS[0]}/{{{','.join(SPLITS)}}}; {how}")


class OfficialData:
    """The games below one data folder. Every split is listed once, when first asked for."""

    def __init__(self, data: str | Path | None = None) -> None:
        """Find the folder; raises `DataUnavailableError`."""
        self.folder = find_folder(data)
        self._splits: dict[str, dict[str, OfficialGame]] = {}
        self._dropped: dict[str, Counter[str]] = {}

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits that are present."""
        return tuple(split for split in SPLITS if (self.folder / split).is_dir())

    def games(self, split: str, task_types: Sequence[str] = ()) -> list[OfficialGame]:
        """The games of a split in path order, of all six types or of those named.

        Raises:
            UnknownSplitError, UnknownTaskError: no such split or type.
            DataUnavailableError: the split is absent or holds no game that passes the filters.
        """
        wanted = {check_task_type(kind) for kind in task_types} or set(TASK_TYPES)
        return [game for game in self._split(split).values() if game.task_type in wanted]

    def dropped(self, split: str) -> dict[str, int]:
        """How many trajectories of a split the filters left out, by reason."""
        self._split(split)
        return dict(self._dropped[split])

    def game(self, task_id: str) -> OfficialGame:
        """The game with this task id; raises `UnknownTaskError`, or what `games` raises."""
        split = task_id.partition("/")[0]
        found = self._split(split).get(task_id) if split in SPLITS else None
        if found is None:
            raise UnknownTaskError(
                f"no official game {task_id[:120]!r} in {self.folder}; see `aem-data alfworld ls --source official`"
            )
        return found

    def read(self, task_id: str) -> bytes:
        """The game file of a task; raises `GameFileError` where it is unreadable or too large to be a game."""
        path = self.game(task_id).path
        try:
            if path.stat().st_size > MAX_BYTES:
                raise GameFileError(f"{path}: too large for a game; fetch it again")
            return path.read_bytes()
        except OSError as error:
            raise GameFileError(f"{path}: {error.strerror}; fetch the data again") from error

    def load(self, task_id: str) -> Problem:
        """The parsed game of a task; raises `GameFileError`."""
        return parse_game(self.read(task_id), name=str(self.game(task_id).path))

    def data_hash(self, split: str) -> str:
        """SHA-256 (16 hex digits) over the names and sizes of a split's kept game files."""
        listed = "".join(f"{game.task_id} {game.path.stat().st_size}\n" for game in self._split(split).values())
        return hashlib.sha256(listed.encode()).hexdigest()[:16]

    def _split(self, split: str) -> dict[str, OfficialGame]:
        if split not in SPLITS:
            raise UnknownSplitError(f"unknown split {split!r} of the official games; known: {', '.join(SPLITS)}")
        if split not in self._splits:
            dropped: Counter[str] = Counter()
            found = self._list(split, dropped)
            if not found:
                reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "nothing there"
                raise DataUnavailableError(
                    f"no playable game in {self.folder / split} ({reasons}); run `aem-data alfworld download`"
                )
            self._splits[split], self._dropped[split] = found, dropped
        return self._splits[split]

    def _list(self, split: str, dropped: Counter[str]) -> dict[str, OfficialGame]:
        folders = []
        for folder, _, files in os.walk(self.folder / split):
            if TRAJECTORY in files:
                folders.append((Path(folder).relative_to(self.folder).as_posix(), GAME in files))
        found = {}
        for task_id, has_game in sorted(folders):
            path = self.folder / task_id / GAME
            if "movable" in task_id or "Sliced" in task_id:
                dropped["with movable receptacles or slices"] += 1
            elif (task_type := _task_type(path.parent)) not in TASK_TYPES:
                dropped["of other task types"] += 1
            elif not has_game:
                dropped[f"without {GAME}"] += 1
            elif not _solvable(path):
                dropped["not marked solvable"] += 1
            else:
                found[task_id] = OfficialGame(task_id, split, task_type, path)
        return found


def _task_type(folder: Path) -> str:
    """From the name of the trajectory's folder; from its `traj_data.json` where somebody renamed it."""
    named = folder.parent.name.partition("-")[0]
    if named in TASK_TYPES:
        return named
    try:
        return str(json.loads((folder / TRAJECTORY).read_bytes())["task_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable"


def _solvable(path: Path) -> bool:
    """Whether a game says it can be solved. What is damaged counts as a game: loading it tells what is wrong."""
    with path.open("rb") as file:
        file.seek(-min(_TAIL, path.stat().st_size), os.SEEK_END)
        tail = file.read().rsplit(b'"solvable":', 1)
    if len(tail) == 2 and tail[1].strip().rstrip(b"}").strip() in (b"true", b"false"):
        return tail[1].strip().startswith(b"true")
    try:
        game = json.loads(path.read_bytes())
    except ValueError:
        return True
    return isinstance(game, dict) and bool(game.get("solvable"))
