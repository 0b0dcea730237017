"""The engine's sentences: how things are named and listed, and the two dialects' wordings."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envs_data.alfworld.problem import Dialect

NOTHING_HAPPENS = "Nothing happens."
BANNER = "-= Welcome to TextWorld, ALFRED! =-"
EMPTY_HANDED = "You are not carrying anything."

HELP = """Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""

CLEAN, HOT, COOL, SLICED, TOGGLED, ON = 1, 2, 4, 8, 16, 32
"""Bits of an object's changeable properties."""


@dataclass(frozen=True)
class Wording:
    """What differs between the dialects."""

    put: str
    """First word of the command that puts the held object down."""
    into: str
    """The words between object and receptacle in that command, spaces included."""
    put_feedback: str
    """Template over object and receptacle."""
    arrives_at_location: bool
    """Arriving names the location ("loc 3") instead of the receptacle."""
    has_help: bool


WORDINGS: dict[Dialect, Wording] = {
    "old": Wording("put", " in/on ", "You put the {} in/on the {}.", arrives_at_location=True, has_help=False),
    "current": Wording("move", " to ", "You move the {} to the {}.", arrives_at_location=False, has_help=True),
}

# First match wins: the order, and "cold" for the unsliced only, are the real grammar's.
_LOOKS: tuple[tuple[int, str], ...] = (
    (CLEAN | HOT | SLICED, "This is a hot and clean sliced {}."),
    (CLEAN | COOL | SLICED, "This is a cool and clean sliced {}."),
    (CLEAN | SLICED, "This is a clean sliced {}."),
    (HOT | SLICED, "This is a hot sliced {}."),
    (COOL | SLICED, "This is a cool sliced {}."),
    (CLEAN | HOT, "This is a hot and clean {}."),
    (CLEAN | COOL, "This is a cool and clean {}."),
    (HOT, "This is a hot {}."),
    (CLEAN, "This is a clean {}."),
    (COOL, "This is a cold {}."),
)

_MARKS = (("_bar_", "|"), ("_minus_", "-"), ("_plus_", "+"), ("_dot_", "."), ("_comma_", ","))


def listing(names: Sequence[str]) -> str:
    """`[]` → nothing; a; a, and b; a, b, and c. Each name gets the article "a"."""
    if not names:
        return "nothing"
    if len(names) == 1:
        return f"a {names[0]}"
    return f"a {', a '.join(names[:-1])}, and a {names[-1]}"


def describe_object(name: str, flags: int, *, toggleable: bool, sliceable: bool) -> str:
    """What examining a held object says; `flags` are the bits above."""
    for wanted, sentence in _LOOKS:
        if flags & wanted == wanted:
            return sentence.format(name)
    if toggleable and flags & TOGGLED:
        return f"This {name} is on."
    if sliceable and flags & SLICED:
        return f"This is a sliced {name}."
    return f"There's nothing special about {name}."


def display_names(identifiers: Iterable[str]) -> dict[str, str]:
    """`apple_bar__plus_00_dot_10…` → "apple 2", numbered downwards in the order of the (lower-case) identifiers.

    An identifier without `_bar_` keeps its whole text and a trailing space, as in alfworld.
    """
    ordered = sorted(identifiers)
    kinds = {}
    for identifier in ordered:
        kind, bar, _ = identifier.partition("_bar_")
        if bar:
            kinds[identifier] = kind + "basin" if "basin" in identifier else kind
    left = Counter(kinds.values())
    names = {}
    for identifier in ordered:
        kind = kinds.get(identifier, "")
        if kind:
            names[identifier] = f"{kind} {left[kind]}"
            left[kind] -= 1
        else:
            names[identifier] = f"{_unmark(identifier)} "
    return names


def _unmark(identifier: str) -> str:
    for mark, sign in _MARKS:
        identifier = identifier.replace(mark, sign)
    return identifier
