"""What a game asks for: as a formula, as a sentence, and back from the sentence.

The sentence patterns are those of official games, so that one reader serves both.
"""

import re
from dataclasses import dataclass
from functools import cache

from envs_data.alfworld.problem import TASK_TYPES, Formula
from envs_data.alfworld.vocabulary import spoken
from envs_data.errors import UnknownTaskError

_PLACE, _LOOK, _CLEAN, _HEAT, _COOL, _TWO = TASK_TYPES

SENTENCES: dict[str, tuple[str, str]] = {
    _PLACE: ("put a {obj} in {to}", "put some {obj} on {to}"),
    _LOOK: ("look at {obj} under the {to}", "examine the {obj} with the {to}"),
    _CLEAN: ("put a clean {obj} in {to}", "clean some {obj} and put it in {to}"),
    _HEAT: ("put a hot {obj} in {to}", "heat some {obj} and put it in {to}"),
    _COOL: ("put a cool {obj} in {to}", "cool some {obj} and put it in {to}"),
    _TWO: ("put two {obj} in {to}", "find two {obj} and put them in {to}"),
}
"""Task type → the two ways of asking."""

_STATES: dict[str, tuple[str, str]] = {
    _CLEAN: ("cleanable", "isClean"),
    _HEAT: ("heatable", "isHot"),
    _COOL: ("coolable", "isCool"),
}
_READERS = [  # the more specific first: "put a clean X" before "put a X"
    (kind, re.compile(re.escape(text).replace(r"\{obj\}", r"(\w+)").replace(r"\{to\}", r"(\w+)") + r"\W*\Z"))
    for kind in (_LOOK, _CLEAN, _HEAT, _COOL, _TWO, _PLACE)
    for text in SENTENCES[kind]
]


@dataclass(frozen=True)
class Goal:
    """An object type and where it must get to."""

    task_type: str
    """One of `problem.TASK_TYPES`."""
    kind: str
    """Object type."""
    to: str
    """Receptacle type, or the lamp's type for a look task."""


@cache
def formula(goal: Goal) -> Formula:
    """The PDDL goal, as official games state it."""
    kind = ("objectType", "?o", f"{goal.kind}Type")
    there = ("receptacleType", "?r", f"{goal.to}Type")
    if goal.task_type == _LOOK:
        variables = (("?ot", "object"), ("?r", "receptacle"), ("?a", "agent"), ("?l", "location"))
        lit: Formula = ("and", ("objectType", "?ot", f"{goal.to}Type"), ("toggleable", "?ot"), ("isToggled", "?ot"))
        lit += (("receptacleAtLocation", "?r", "?l"), ("atLocation", "?a", "?l"), ("inReceptacle", "?ot", "?r"))
        held = ("exists", (("?o", "object"), ("?a", "agent")), ("and", kind, ("holds", "?a", "?o")))
        return ("and", ("exists", variables, lit), held)
    if goal.task_type == _TWO:
        first, second = (("objectType", v, f"{goal.kind}Type") for v in ("?o1", "?o2"))
        other = ("and", ("not", ("=", "?o1", "?o2")), second, there, ("inReceptacle", "?o2", "?r"))
        both = ("and", first, there, ("inReceptacle", "?o1", "?r"), ("exists", (("?o2", "object"),), other))
        return ("and", ("exists", (("?r", "receptacle"),), ("exists", (("?o1", "object"),), both)))
    inside = ("inReceptacle", "?o", "?r")
    if goal.task_type in _STATES:
        able, state = _STATES[goal.task_type]
        body: Formula = ("and", (able, "?o"), kind, there, (state, "?o"), inside)
    else:
        body = ("and", inside, kind, there)
    return ("and", ("exists", (("?r", "receptacle"),), ("exists", (("?o", "object"),), body)))


@cache
def sentence(goal: Goal, way: int) -> str:
    """The task sentence in one of its two ways (0 or 1)."""
    return SENTENCES[goal.task_type][way].format(obj=spoken(goal.kind), to=spoken(goal.to)) + "."


def read_sentence(text: str) -> Goal:
    """The `Goal` of a task sentence, with types as the text spells them ("countertop").

    Raises:
        UnknownTaskError: it is not one of the official patterns.
    """
    for task_type, pattern in _READERS:
        if match := pattern.match(text.strip()):
            return Goal(task_type, match[1], match[2])
    raise UnknownTaskError(f"cannot read the task {text[:80]!r}; it is none of the official patterns")
