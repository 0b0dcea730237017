"""Embedded ALFWorld games: seeded, solvable by construction, made in a fraction of a millisecond.

A game is a pure function of (split, index, size, task type): the same everywhere and in both dialects.
"""

import random
from bisect import bisect
from functools import cache
from hashlib import blake2b
from itertools import accumulate

from envs_data.alfworld.goals import Goal, formula, sentence
from envs_data.alfworld.problem import Dialect, Fact, Problem
from envs_data.alfworld.rooms import (
    FREQUENCY,
    LAMP_PLACES,
    PRIORS,
    ROOMS,
    Layout,
    Room,
    Size,
    layout,
    layout_numbers,
)
from envs_data.alfworld.splits import (
    belongs_to_seen,
    check_index,
    check_size,
    check_split,
    check_task_type,
    held_out,
    parse_task_id,
    scheduled_type,
)
from envs_data.alfworld.vocabulary import (
    CAN_CONTAIN,
    CLEANABLE,
    COOLABLE,
    HEATABLE,
    PICKUPABLE,
    TYPE_DECLARATIONS,
    object_facts,
    object_id,
)

VERSION = 1
"""Part of every seed: a change of generator, rooms or vocabulary that changes games raises it."""

LAMP = "DeskLamp"
_MOST_ALIKE: dict[Size, int] = {"small": 2, "medium": 3, "official": 4}
"""Objects of one type in a room."""
_OTHERS: dict[tuple[Size, Room], tuple[int, int]] = {
    **{("small", room): (4, 9) for room in ROOMS},
    **{("medium", room): (10, 18) for room in ROOMS},
    ("official", "kitchen"): (30, 50),
    ("official", "bedroom"): (15, 26),
    ("official", "livingroom"): (15, 26),
    ("official", "bathroom"): (14, 22),
}
"""Fewest and most objects besides the targets and the lamp."""
_TASK_ROOMS: dict[str, tuple[Room, ...]] = {
    "pick_and_place_simple": ROOMS,
    "look_at_obj_in_light": ("bedroom", "livingroom"),
    "pick_clean_then_place_in_recep": ("kitchen", "bathroom"),
    "pick_heat_then_place_in_recep": ("kitchen",),
    "pick_cool_then_place_in_recep": ("kitchen",),
    "pick_two_obj_and_place": ROOMS,
}
_TREATMENT: dict[str, tuple[frozenset[str], str]] = {
    "pick_clean_then_place_in_recep": (CLEANABLE, "SinkBasin"),
    "pick_heat_then_place_in_recep": (HEATABLE, "Microwave"),
    "pick_cool_then_place_in_recep": (COOLABLE, "Fridge"),
}
"""Task type → objects it suits, and where it is done (never also the goal: the object is there already)."""

Targets = tuple[tuple[str, tuple[str, ...]], ...]  # (object type, receptacle types it may be asked to go to)


@cache
def _places(room: Layout, kind: str, barred: str | None) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Receptacles where objects of a type may lie, with cumulative weights; none of the type `barred`."""
    weights = PRIORS[room.room][kind] if kind != LAMP else dict.fromkeys(LAMP_PLACES, 1)
    spots = [
        (receptacle, weight / len(room.by_type[where]))
        for where, weight in weights.items()
        if where != barred
        for receptacle in room.by_type.get(where, ())
    ]
    return tuple(spot for spot, _ in spots), tuple(accumulate(weight for _, weight in spots))


@cache
def _targets(room: Layout, task_type: str, unseen: bool) -> Targets:
    """What can be asked for in a room: every pair on the split's side that is possible and not true from the start."""
    suited, done_at = _TREATMENT.get(task_type, (PICKUPABLE, None))
    look = task_type == "look_at_obj_in_light"
    if look and not _places(room, LAMP, None)[0]:
        return ()
    found = []
    for kind in sorted(suited.intersection(PRIORS[room.room])):
        ends = (LAMP,) if look else (end for end in room.by_type if kind in CAN_CONTAIN[end] and end != done_at)
        # A treated object may start where it ends; any other would have arrived before the first step.
        chosen = (e for e in ends if held_out(kind, e) == unseen and _places(room, kind, None if done_at else e)[0])
        if goals := tuple(chosen):
            found.append((kind, goals))
    return tuple(found)


@cache
def _rooms(size: Size, task_type: str, unseen: bool) -> tuple[tuple[Layout, ...], ...]:
    """For each kind of room in which the task makes sense, the split's layouts that have something to ask for."""
    numbers = layout_numbers(size, unseen=unseen)
    layouts = ([layout(size, room, number) for number in numbers] for room in _TASK_ROOMS[task_type])
    usable = (tuple(room for room in rooms if _targets(room, task_type, unseen)) for rooms in layouts)
    return tuple(rooms for rooms in usable if rooms)


@cache
def _common(room: Room) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Object types of a room with cumulative frequencies."""
    return tuple(FREQUENCY[room]), tuple(accumulate(FREQUENCY[room].values()))


@cache
def _instance(kind: str, number: int) -> tuple[str, tuple[str, str], tuple[Fact, ...]]:
    """Identifier, declaration and constant facts of an object; shared by all games."""
    name = object_id(kind, number)
    return name, (name, "object"), object_facts(kind, name)


class _Draft:
    """A game being drawn: who lies where."""

    def __init__(self, rng: random.Random, size: Size, task_type: str, unseen: bool) -> None:
        draw = rng.random
        rooms = _rooms(size, task_type, unseen)
        layouts = rooms[int(draw() * len(rooms))]
        self.room = room = layouts[int(draw() * len(layouts))]
        targets = _targets(room, task_type, unseen)
        self.kind, goals = targets[int(draw() * len(targets))]
        self.goal = goals[int(draw() * len(goals))]
        self.task_type, self.rng, self.most = task_type, rng, _MOST_ALIKE[size]
        self.counts: dict[str, int] = {}
        self.lying: list[tuple[str, int, str]] = []  # object type, its number, receptacle
        self._lay_targets()
        fewest, most = _OTHERS[size, room.room]
        self._lay_others(fewest + int(draw() * (most - fewest + 1)))

    def _lay(self, kind: str, barred: str | None = None) -> None:
        spots, cumulative = _places(self.room, kind, barred)
        if spots:
            self.counts[kind] = number = self.counts.get(kind, 0) + 1
            self.lying.append((kind, number, spots[bisect(cumulative, self.rng.random() * cumulative[-1])]))

    def _lay_targets(self) -> None:
        needed = 2 if self.task_type == "pick_two_obj_and_place" else 1
        if self.room.room in ("bedroom", "livingroom"):
            self._lay(LAMP)
        # Left in the goal's receptacle, an object would solve a plain task before the first step.
        barred = self.goal if self.task_type not in _TREATMENT else None
        extra = self.rng.random() < 0.25
        for _ in range(min(needed + extra, max(needed, self.most))):
            self._lay(self.kind, barred)

    def _lay_others(self, number: int) -> None:
        kinds, cumulative = _common(self.room.room)
        for _ in range(number):
            kind = kinds[bisect(cumulative, self.rng.random() * cumulative[-1])]
            if kind != self.kind and self.counts.get(kind, 0) < self.most:
                self._lay(kind)

    def content(self) -> str:
        """All that makes the game what it is."""
        lying = sorted(self.lying)
        return f"{self.room.name} {self.task_type} {self.kind} {self.goal} {lying}"


def generate(
    split: str, index: int, *, size: str = "small", dialect: Dialect = "current", task_type: str | None = None
) -> Problem:
    """Make one embedded game.

    Args:
        split: `train` (unlimited), `valid_seen` or `valid_unseen` (`VALID_GAMES` each).
        index: Its number in the split, from 0.
        size: `small` (about 11 receptacles), `medium` (about 17) or `official` (20 to 55).
        dialect: Only the wording differs; the game is the same.
        task_type: Instead of the one that the schedule gives this index.

    Raises:
        UnknownSplitError, UnknownTaskError: no such split, size, index or type.
    """
    side = check_split(split)
    scale = check_size(size)
    number = check_index(side, index)
    kind = check_task_type(task_type) if task_type else scheduled_type(side, number)
    seed = blake2b(f"{VERSION} {scale} {side} {number}".encode(), digest_size=8).digest()
    rng = random.Random(int.from_bytes(seed))
    while True:
        draft = _Draft(rng, scale, kind, side == "valid_unseen")
        if side == "valid_unseen" or belongs_to_seen(draft.content()) == (side == "valid_seen"):
            return _build(draft, f"{scale}_{side}_{number:06d}", dialect)


def _build(draft: _Draft, name: str, dialect: Dialect) -> Problem:
    room = draft.room
    facts = list(room.facts)
    things, inside, near = [], [], []
    for kind, number, receptacle in draft.lying:
        thing, declaration, constant = _instance(kind, number)
        things.append(declaration)
        facts += constant
        inside.append(("inReceptacle", thing, receptacle))
        near.append(("objectAtLocation", thing, room.location[receptacle]))
    goal = Goal(draft.task_type, draft.kind, draft.goal)
    return Problem(
        name=name,
        objects=(("agent1", "agent"), *TYPE_DECLARATIONS, *things, *room.declarations),
        facts=(*facts, *inside, *near),
        goal=formula(goal),
        task=sentence(goal, int(draft.rng.random() * 2)),
        dialect=dialect,
    )


def problem_for(task_id: str, dialect: Dialect = "current") -> Problem:
    """The game with this task id; raises `UnknownSplitError` or `UnknownTaskError`."""
    task = parse_task_id(task_id)
    return generate(task.split, task.index, size=task.size, dialect=dialect, task_type=task.task_type)
