"""The one plain-data description of an ALFRED text game, shared by generators, file readers and engines."""

from dataclasses import dataclass
from typing import Any, Literal

Dialect = Literal["old", "current"]
"""`old`: json_2.1.1 ("put X in/on Y", "loc N"); `current`: json_2.1.3 and alfworld 0.4 ("move X to Y", `help`)."""

Fact = tuple[str, ...]
"""A ground atom, predicate first: `("inReceptacle", "Apple_bar_1", "Fridge_bar_1")`. Names are case-preserving."""

Formula = tuple[
    Any, ...
]  # nested: ("and", *formulas) | ("or", …) | ("not", f) | ("forall"|"exists", ((var, type), …), f) | Fact with ?vars

TASK_TYPES: tuple[str, ...] = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)

SIGNATURES: dict[str, tuple[str, ...]] = {
    "atlocation": ("agent", "location"),
    "receptacleatlocation": ("receptacle", "location"),
    "objectatlocation": ("object", "location"),
    "openable": ("receptacle",),
    "opened": ("receptacle",),
    "inreceptacle": ("object", "receptacle"),
    "isreceptacleobject": ("object",),
    "inreceptacleobject": ("object", "object"),
    "isreceptacleobjectfull": ("object",),
    "wasinreceptacle": ("object", "receptacle"),
    "checked": ("receptacle",),
    "examined": ("location",),
    "receptacletype": ("receptacle", "rtype"),
    "cancontain": ("rtype", "otype"),
    "objecttype": ("object", "otype"),
    "holds": ("agent", "object"),
    "holdsany": ("agent",),
    "holdsanyreceptacleobject": ("agent",),
    "full": ("receptacle",),
    "isclean": ("object",),
    "cleanable": ("object",),
    "ishot": ("object",),
    "heatable": ("object",),
    "iscool": ("object",),
    "coolable": ("object",),
    "pickupable": ("object",),
    "moveable": ("object",),
    "toggleable": ("object",),
    "ison": ("object",),
    "istoggled": ("object",),
    "sliceable": ("object",),
    "issliced": ("object",),
}
"""The domain's predicates (PDDL is case-blind: lower case here) and the types of their arguments."""


@dataclass(frozen=True)
class Problem:
    """A game before any engine has touched it.

    The order of `objects` and `facts` is that of the file (or of the generator): the real engine's texts depend on it.
    """

    name: str
    """PDDL problem name."""
    objects: tuple[tuple[str, str], ...]
    """(identifier, PDDL type), type one of agent, location, receptacle, object, otype, rtype."""
    facts: tuple[Fact, ...]
    """Initial state."""
    goal: Formula
    """Goal formula as nested tuples."""
    task: str
    """The task sentence without its prefix, e.g. "put a clean apple in fridge."."""
    dialect: Dialect
    """Which wording of commands and feedback the game speaks."""
