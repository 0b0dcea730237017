"""A game's unchanging part: compiled once from a `Problem`, shared by all its episodes."""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from aem_envs.alfworld.goal import FLAG_OF, Facts, Goal, compile_goal
from aem_envs.alfworld.task import Task, plain_type, read_task
from aem_envs.alfworld.text import BANNER, WORDINGS, display_names, listing
from envs_data.alfworld.problem import SIGNATURES, Fact, Problem
from envs_data.errors import GameFileError

PICKUPABLE, CLEANABLE, HEATABLE, COOLABLE, TOGGLEABLE, SLICEABLE, CONTAINER, KNIFE = (1 << bit for bit in range(8))
"""Bits of what an object is for."""
OPENABLE, SINK, MICROWAVE, FRIDGE = (1 << bit for bit in range(4))
"""Bits of what a receptacle is for."""

_OBJECT_BITS = {
    "pickupable": PICKUPABLE,
    "cleanable": CLEANABLE,
    "heatable": HEATABLE,
    "coolable": COOLABLE,
    "toggleable": TOGGLEABLE,
    "sliceable": SLICEABLE,
    "isreceptacleobject": CONTAINER,
}
_APPLIANCES = {"sinkbasintype": SINK, "microwavetype": MICROWAVE, "fridgetype": FRIDGE}


class Receptacle(NamedTuple):
    """What never changes about a receptacle."""

    name: str
    """As in commands: "cabinet 1"."""
    type: str
    """"cabinet"."""
    location: int | None
    """Receptacles with the same location are reached together; None: nowhere."""
    openable: bool


class World:
    """Everything static about one game. Objects, receptacles and locations are numbered in the order of their
    (lower-case) identifiers, which is the order in which the real engine lists them."""

    @classmethod
    def compile(cls, problem: Problem) -> "World":
        """Raises GameFileError for a problem the native engine cannot play; the message says what to do."""
        return cls(problem)

    def __init__(self, problem: Problem) -> None:
        self.name, self.task_sentence, self.dialect = problem.name, problem.task, problem.dialect
        self.wording = WORDINGS[problem.dialect]
        facts = _group(problem)
        kinds = facts.kinds
        names = display_names(facts.index)
        if len(set(names.values())) != len(names):
            raise self._refusal("two things would have the same name")
        self.object_ids = tuple(sorted(thing for thing in facts.index if kinds[thing] == "object"))
        self.receptacle_ids = tuple(sorted(thing for thing in facts.index if kinds[thing] == "receptacle"))
        self.location_ids = tuple(sorted(thing for thing in facts.index if kinds[thing] == "location"))
        self.agent_id = next(thing for thing, kind in kinds.items() if kind == "agent")
        for ids in (self.object_ids, self.receptacle_ids, self.location_ids):
            facts.index.update({thing: number for number, thing in enumerate(ids)})
        self.object_names = tuple(names[thing] for thing in self.object_ids)
        self.receptacle_names = tuple(names[thing] for thing in self.receptacle_ids)
        self.location_names = tuple(names[thing] for thing in self.location_ids)
        self.object_numbers = {name: number for number, name in enumerate(self.object_names)}
        self.receptacle_numbers = {name: number for number, name in enumerate(self.receptacle_names)}
        self._place_receptacles(facts)
        self._describe_things(facts)
        self._set_start(facts)
        self.goal: Goal = compile_goal(problem.goal, facts, problem.name)
        self.task: Task = read_task(problem.goal)
        self.room_text = self._room_text()
        self.task_line = f"Your task is to: {problem.task}"
        self.intro = f"{BANNER}\n\n{self.room_text}\n\n{self.task_line}"

    def _refusal(self, what: str) -> GameFileError:
        return GameFileError(f'{self.name}: {what}, which the native engine does not play; try engine="textworld"')

    def _place_receptacles(self, facts: Facts) -> None:
        index = facts.index
        spots: dict[int, int] = {}
        for receptacle, location in facts.binary.get("receptacleatlocation", ()):
            if spots.setdefault(index[receptacle], index[location]) != index[location]:
                raise self._refusal("a receptacle stands at two locations")
        self.receptacle_locations = tuple(spots.get(number, -1) for number in range(len(self.receptacle_ids)))
        here: list[list[int]] = [[] for _ in self.location_ids]
        for number, spot in sorted(spots.items()):
            here[spot].append(number)
        self.receptacles_at = tuple(map(tuple, here))
        # Commands are sorted by name, not by identifier.
        self.named_at = tuple(tuple(sorted(group, key=self.receptacle_names.__getitem__)) for group in here)
        self._goto = sorted((f"go to {self.receptacle_names[number]}", spot) for number, spot in spots.items())
        self._goto_from: dict[int, list[str]] = {}

    def _describe_things(self, facts: Facts) -> None:
        index, unary, binary = facts.index, facts.unary, facts.binary
        uses = [0] * len(self.object_ids)
        for predicate, bit in _OBJECT_BITS.items():
            for thing in unary.get(predicate, ()):
                uses[index[thing]] |= bit
        object_types: list[tuple[str, ...]] = [()] * len(self.object_ids)
        for thing, kind in sorted(binary.get("objecttype", ())):
            object_types[index[thing]] += (kind,)
            if kind in ("knifetype", "butterknifetype"):
                uses[index[thing]] |= KNIFE
        appliances = _APPLIANCES | ({"sinktype": SINK} if self.dialect == "old" else {})
        powers = [0] * len(self.receptacle_ids)
        for thing in unary.get("openable", ()):
            powers[index[thing]] |= OPENABLE
        receptacle_types: list[tuple[str, ...]] = [()] * len(self.receptacle_ids)
        for thing, kind in sorted(binary.get("receptacletype", ())):
            receptacle_types[index[thing]] += (kind,)
            powers[index[thing]] |= appliances.get(kind, 0)
        holdable: dict[str, set[str]] = {}
        for receptacle_type, object_type in binary.get("cancontain", ()):
            holdable.setdefault(receptacle_type, set()).add(object_type)
        shared = {
            kinds: frozenset().union(*(holdable.get(kind, ()) for kind in kinds)) for kinds in set(receptacle_types)
        }
        self.accepts = tuple(shared[kinds] for kinds in receptacle_types)
        self.object_types, self.receptacle_types = tuple(object_types), tuple(receptacle_types)
        self.uses, self.powers = tuple(uses), tuple(powers)
        self.powers_at = tuple(_union(self.powers[number] for number in group) for group in self.receptacles_at)
        inner: dict[int, list[int]] = {}
        for item, container in sorted(binary.get("inreceptacleobject", ())):
            if item != container:
                inner.setdefault(index[container], []).append(index[item])
        self.inner = {container: tuple(items) for container, items in inner.items()}
        self.toggleables = tuple(number for number, use in enumerate(uses) if use & TOGGLEABLE)
        self.sliceables = tuple(number for number, use in enumerate(uses) if use & SLICEABLE)

    def _set_start(self, facts: Facts) -> None:
        index, unary, binary = facts.index, facts.unary, facts.binary
        starts = [location for _, location in binary.get("atlocation", ())]
        if len(starts) != 1:
            raise self._refusal(f"the agent starts at {len(starts)} locations")
        self.start = index[starts[0]]
        held = [index[thing] for _, thing in binary.get("holds", ())]
        if len(held) > 1 or bool(held) != bool(unary.get("holdsany")):
            raise self._refusal("the agent's hands are in a contradictory state")
        self.start_held = held[0] if held else -1
        contents: list[list[int]] = [[] for _ in self.receptacle_ids]
        for thing, receptacle in binary.get("inreceptacle", ()):
            contents[index[receptacle]].append(index[thing])
        self.start_contents = tuple(tuple(sorted(things)) for things in contents)
        opened = {index[thing] for thing in unary.get("opened", ())}
        self.always_opened = frozenset(number for number in opened if not self.powers[number] & OPENABLE)
        self.start_closed = bytes(
            bool(power & OPENABLE) and number not in opened for number, power in enumerate(self.powers)
        )
        flags = bytearray(len(self.object_ids))
        for predicate, flag in FLAG_OF.items():
            for thing in unary.get(predicate, ()):
                flags[index[thing]] |= flag
        self.start_flags = bytes(flags)
        places: list[tuple[int, ...]] = [()] * len(self.object_ids)
        for thing, location in sorted(binary.get("objectatlocation", ())):
            places[index[thing]] += (index[location],)
        self.start_places = tuple(places)
        self.start_checked = frozenset(unary.get("checked", ()))

    def _room_text(self) -> str:
        if self.receptacles_at[self.start]:
            return self.facing(self.start, [])
        names = [self.receptacle_names[n] for n, spot in enumerate(self.receptacle_locations) if spot >= 0]
        return f"You are in the middle of a room. Looking quickly around you, you see {listing(names)}."

    def facing(self, location: int, beside: list[str]) -> str:
        """What `look` says at a location with receptacles; `beside` names what lies there outside of them."""
        names = [self.receptacle_names[number] for number in self.receptacles_at[location]]
        first = f"{', '.join(names[:-1])}, and {names[-1]}" if len(names) > 1 else names[0]
        return f"You are facing the {first}. Next to it, you see {listing(beside)}."

    def goto_commands(self, location: int) -> list[str]:
        """Sorted; one cannot go to where one is. Do not change the list: it is shared."""
        commands = self._goto_from.get(location)
        if commands is None:
            commands = [command for command, spot in self._goto if spot != location]
            self._goto_from[location] = commands
        return commands

    @cached_property
    def receptacles(self) -> tuple[Receptacle, ...]:
        """The unchanging part of every receptacle, by number."""
        columns = zip(self.receptacle_names, self.receptacle_types, self.receptacle_locations, self.powers, strict=True)
        return tuple(
            Receptacle(
                name,
                plain_type(kinds[0]) if kinds else name.partition(" ")[0],
                spot if spot >= 0 else None,
                bool(power & OPENABLE),
            )
            for name, kinds, spot, power in columns
        )

    @cached_property
    def digest(self) -> str:
        """Identifies the game a snapshot belongs to."""
        text = "\n".join((self.dialect, self.task_line, *self.object_ids, "", *self.receptacle_ids, *self.location_ids))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _group(problem: Problem) -> Facts:
    """Facts by predicate, lower case, with their arguments' types checked."""
    name = problem.name
    kinds = {identifier.lower(): kind for identifier, kind in problem.objects}
    members: dict[str, set[str]] = {}
    for thing, kind in kinds.items():
        members.setdefault(kind, set()).add(thing)
    if len(members.get("agent", ())) != 1 or len(kinds) != len(problem.objects):
        raise GameFileError(f"{name}: things declared twice, or not exactly one agent")
    rows: dict[str, list[Fact]] = {}
    for fact in problem.facts:
        rows.setdefault(fact[0], []).append(fact)
    unary: dict[str, set[str]] = {}
    binary: dict[str, set[tuple[str, str]]] = {}
    seen: set[str] = set()
    for predicate, facts in rows.items():
        key = predicate.lower()
        signature = SIGNATURES.get(key, ())
        if set(map(len, facts)) != {len(signature) + 1}:
            raise GameFileError(
                f"{name}: unknown predicate {predicate[:60]!r}, or one with a wrong number of arguments"
            )
        columns = [list(map(str.lower, column)) for column in list(zip(*facts))[1:]]
        for kind, column in zip(signature, columns):
            if not members.get(kind, set()).issuperset(column):
                raise GameFileError(f"{name}: a fact of {predicate!r} has an argument that is not a declared {kind}")
            seen.update(column)
        if len(columns) == 1:
            unary.setdefault(key, set()).update(columns[0])
        else:
            binary.setdefault(key, set()).update(zip(*columns))
    return Facts(kinds, unary, binary, dict.fromkeys(seen, -1))


def _union(bits: Iterable[int]) -> int:
    total = 0
    for bit in bits:
        total |= bit
    return total
