"""What to do next in an ALFWorld room, given what one believes about it.

Both experts decide here: one believes what the engine says, the other only what it has read. Every decision is made
afresh from the present belief, so an expert carries on from wherever noise has taken it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, get_args

from envs_data.alfworld.goals import Goal
from envs_data.alfworld.rooms import PRIORS
from envs_data.alfworld.vocabulary import CAN_CONTAIN, OPENABLE, spoken

Order = Literal["room", "prior"]
ORDERS: tuple[Order, ...] = get_args(Order)

TREATMENTS = {
    "pick_clean_then_place_in_recep": ("clean", "sinkbasin"),
    "pick_heat_then_place_in_recep": ("heat", "microwave"),
    "pick_cool_then_place_in_recep": ("cool", "fridge"),
}
"""Task type → what to do to the object, and with which receptacle type."""
LOOK = "look_at_obj_in_light"
TWO = "pick_two_obj_and_place"

_FITS = {spoken(where): frozenset(map(spoken, kinds)) for where, kinds in CAN_CONTAIN.items()}
_DOORS = frozenset(map(spoken, OPENABLE))


def kind_of(name: str) -> str:
    """ "apple 2" → "apple"."""
    return name.rpartition(" ")[0]


def _number(name: str) -> int:
    return int(name.rpartition(" ")[2])


@cache
def _prior(kind: str, where: str) -> float:
    """How likely an object type lies in a receptacle type, over all rooms that know it; small where never heard of."""
    total, here = 0, 0
    for room in PRIORS.values():
        for thing, weights in room.items():
            if spoken(thing) == kind:
                total += sum(weights.values())
                here += sum(weight for place, weight in weights.items() if spoken(place) == where)
    fallback = 0.02 if kind in _FITS.get(where, frozenset()) else 0.001
    return here / total if here else fallback


@dataclass
class Belief:
    """The room as its player believes it to be. Names are those of the texts."""

    goal: Goal
    """Types as the texts spell them."""
    receptacles: list[str]
    """In the order in which the room lists them."""
    near: frozenset[str] = frozenset()
    """Receptacles within reach."""
    last: str | None = None
    """The receptacle gone to last."""
    holding: str | None = None
    contents: dict[str, list[str]] = field(default_factory=dict)
    """Receptacle → objects in it, for those looked into."""
    closed: set[str] = field(default_factory=set)
    """Receptacles known to be closed."""
    treated: set[str] = field(default_factory=set)
    """Objects that have been cleaned, heated or cooled as the task asks."""
    refused: set[str] = field(default_factory=set)
    """Commands that made nothing happen although they should have."""
    put: str = "move {} to {}"
    """How this dialect puts things down."""
    order: Order = "room"
    """Searching: in the room's order after the place gone to last, or likeliest place per step first."""

    def cost(self, receptacle: str) -> int:
        """Steps until one can reach into it."""
        return (receptacle not in self.near) + (receptacle in self.closed)


def next_action(belief: Belief) -> str:
    """The first sensible command that has not been refused."""
    for action in _wishes(belief):
        if action not in belief.refused:
            return action
    return "look"


def _wishes(b: Belief) -> Iterator[str]:
    if b.holding is None:
        yield from _fetch(b)
    elif kind_of(b.holding) != b.goal.kind:
        kind = kind_of(b.holding)
        likely = [r for r in b.receptacles if kind in _FITS.get(kind_of(r), ())]
        yield from _put_into(b, b.holding, sorted(likely, key=b.cost))
        yield from _put_into(b, b.holding, b.receptacles)
    elif b.goal.task_type == LOOK:
        yield from _light(b)
    elif b.goal.task_type in TREATMENTS and b.holding not in b.treated:
        yield from _treat(b, b.holding)
    else:
        yield from _put_into(b, b.holding, _ends(b))
    yield from _search(b)


def _ends(b: Belief) -> list[str]:
    """Receptacles that would fulfil the goal. Of two objects the second must join the first."""
    ends = [r for r in b.receptacles if kind_of(r) == b.goal.to]
    started = _alike if b.goal.task_type == TWO else lambda b, r: 0
    return sorted(ends, key=lambda r: (-started(b, r), b.cost(r), _number(r)))


def _alike(b: Belief, receptacle: str) -> int:
    """How many objects of the wanted type are known to be in a receptacle."""
    return sum(kind_of(thing) == b.goal.kind for thing in b.contents.get(receptacle, ()))


def _put_into(b: Belief, thing: str, ends: list[str]) -> Iterator[str]:
    for end in ends:
        put = b.put.format(thing, end)
        if put not in b.refused:
            yield from _reach(b, end)
            yield put


def _reach(b: Belief, receptacle: str) -> Iterator[str]:
    """Stand before it with its door open."""
    if receptacle not in b.near:
        yield f"go to {receptacle}"
    elif receptacle in b.closed:
        yield f"open {receptacle}"


def _treat(b: Belief, thing: str) -> Iterator[str]:
    verb, appliance = TREATMENTS[b.goal.task_type]
    places = [r for r in b.receptacles if kind_of(r) == appliance]
    for place in sorted(places, key=lambda r: (r not in b.near, _number(r))):
        use = f"{verb} {thing} with {place}"
        if use not in b.refused:
            if place not in b.near:
                yield f"go to {place}"  # no need to open it: the engine works through closed doors
            yield use


def _light(b: Belief) -> Iterator[str]:
    lamps = [(r, thing) for r in b.receptacles for thing in b.contents.get(r, ()) if kind_of(thing) == b.goal.to]
    for place, lamp in sorted(lamps, key=lambda pair: pair[0] not in b.near):
        if place not in b.near:
            yield f"go to {place}"
        yield f"use {lamp}"


def _fetch(b: Belief) -> Iterator[str]:
    settled = _ends(b)[:1] if b.goal.task_type == TWO else []  # what lies there is where it should be
    found = [
        (b.cost(r) - 2 * (thing in b.treated), r, thing)
        for r in b.receptacles
        if r not in settled
        for thing in b.contents.get(r, ())
        if kind_of(thing) == b.goal.kind and f"take {thing} from {r}" not in b.refused
    ]
    for _, place, thing in sorted(found, key=lambda option: option[0]):
        yield from _reach(b, place)
        yield f"take {thing} from {place}"


def _search(b: Belief) -> Iterator[str]:
    """Look where one has not looked yet; once all is known in vain, look at everything again."""
    for place in b.receptacles:
        if place in b.near and place not in b.contents:
            yield f"open {place}" if place in b.closed else f"examine {place}"
    unknown = [r for r in b.receptacles if r not in b.contents and r not in b.near]
    if not unknown:
        unknown = [r for r in b.receptacles if r not in b.near]
    if b.order == "prior":
        wanted = b.goal.to if b.holding and b.goal.task_type == LOOK else b.goal.kind
        unknown.sort(key=lambda r: -_promise(b, wanted, r))
    elif b.last in b.receptacles:
        start = b.receptacles.index(b.last)
        unknown.sort(key=lambda r: (b.receptacles.index(r) - start) % len(b.receptacles))
    for place in unknown:
        yield f"go to {place}"


def _promise(b: Belief, kind: str, receptacle: str) -> float:
    """Chance of finding an object of this type there, per step it takes to look."""
    where = kind_of(receptacle)
    alike = sum(kind_of(r) == where for r in b.receptacles)
    return _prior(kind, where) / alike / (2 if where in _DOORS else 1)
