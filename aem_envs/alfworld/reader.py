"""From the texts of a game to a `Belief`: what an attentive reader knows, in both dialects, and nothing else."""

import re

from aem_envs.alfworld.planner import TREATMENTS, Belief, Order
from envs_data.alfworld.goals import read_sentence
from envs_data.errors import UnknownTaskError

NOTHING_HAPPENS = "Nothing happens."

_ROOM = re.compile(r"Looking quickly around you, you see ([^.]*)\.")
_TASK = re.compile(r"Your task is to: ([^\n]*)")
_THING = re.compile(r"\ban? (\w+ \d+)")
_INSIDE = re.compile(r"(?:On the (\w+ \d+), you see|The (\w+ \d+) is open\. In it, you see) ([^.]*)\.")
_CLOSED = re.compile(r"The (\w+ \d+) is closed\.|You close the (\w+ \d+)\.")
_ARRIVED = re.compile(r"You arrive at (\w+ \d+)\.")
_TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
_PUT = re.compile(r"You (?:put|move) the (\w+ \d+) (?:in/on|to) the (\w+ \d+)\.")
_TREATED = re.compile(r"You (clean|heat|cool) the (\w+ \d+) using the \w+ \d+\.")
_CARRYING = re.compile(r"You are carrying: an? (\w+ \d+)\.")
_FACING = re.compile(r"You are facing the ([^.]*)\. Next to it")
_OPPOSITE = {"heat": "cool", "cool": "heat"}

PUT_OLD, PUT_CURRENT = "put {} in/on {}", "move {} to {}"


def first_belief(text: str, order: Order) -> Belief:
    """Read the opening text: the room's list and the task.

    Raises:
        UnknownTaskError: there is no room or no task in it.
    """
    room, task = _ROOM.search(text), _TASK.search(text)
    if not room or not task:
        raise UnknownTaskError(f"not an ALFWorld opening: {text[:80]!r}; give the expert what `reset` returned")
    return Belief(read_sentence(task[1]), _THING.findall(room[1]), order=order)


def update(belief: Belief, action: str, text: str, *, expected: bool) -> None:
    """Take in what an action led to. `expected`: it was thought to succeed, so that a refusal is news."""
    if text.startswith(NOTHING_HAPPENS):
        _refusal(belief, action, expected)
        return
    belief.refused = {command for command in belief.refused if command.startswith(("take ", "put ", "move "))}
    if match := _ARRIVED.search(text):
        _arrive(belief, action, match[1])
    for match in _CLOSED.finditer(text):
        name = match[1] or match[2]
        belief.closed.add(name)
    for match in _INSIDE.finditer(text):
        name = match[1] or match[2]
        belief.closed.discard(name)
        belief.contents[name] = _THING.findall(match[3])
    if match := _TAKEN.search(text):
        belief.holding = match[1]
        belief.contents[match[2]] = [thing for thing in belief.contents.get(match[2], []) if thing != match[1]]
    elif match := _PUT.search(text):
        belief.holding = None
        belief.contents[match[2]] = [*belief.contents.get(match[2], []), match[1]]
    elif match := _TREATED.search(text):
        _treat(belief, match[1], match[2])
    elif match := _CARRYING.search(text):
        belief.holding = match[1]
    elif match := _FACING.search(text):
        belief.near = frozenset(re.findall(r"\w+ \d+", match[1]))


def _arrive(belief: Belief, action: str, named: str) -> None:
    """The old dialect names only the location ("loc 12"): what was gone to is known from the command."""
    if named.startswith("loc "):
        belief.put = PUT_OLD
        named = action.removeprefix("go to ")
    belief.near, belief.last = frozenset({named}), named


def _treat(belief: Belief, verb: str, thing: str) -> None:
    wanted = TREATMENTS.get(belief.goal.task_type, ("", ""))[0]
    if verb == wanted:
        belief.treated.add(thing)
    elif verb == _OPPOSITE.get(wanted):
        belief.treated.discard(thing)


def _refusal(belief: Belief, action: str, expected: bool) -> None:
    """Nothing happened. One cannot go where one is: a place that cannot be gone to is within reach already."""
    target = action.removeprefix("go to ")
    if target != action and target in belief.receptacles:
        belief.near |= {target}
        belief.last = target
    elif expected:
        belief.refused.add(action)
