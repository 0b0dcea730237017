"""Episodes as plain data, and the hash of what an agent can know of one."""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from aem_envs.alfworld.world import OPENABLE
from aem_envs.core import BadStateError

if TYPE_CHECKING:
    from aem_envs.alfworld.state import State

VERSION = 1
_KEYS = frozenset(("version", "game", "location", "held", "contents", "doors", "flags", "places", "parted", "checked"))


def anchor(game: "State") -> str:
    """See `engine.Game.anchor`."""
    closed, contents, held = game.closed, game.contents, game.held
    seen = [None if closed[r] else contents[r] for r in game.world.receptacles_at[game.location]]
    known = (game.location, held, game.flags[held] if held >= 0 else 0, seen)
    return blake2b(repr(known).encode(), digest_size=8).hexdigest()


def snapshot(game: "State") -> dict[str, Any]:
    """Lists, ints and strings only; lists of pairs name what differs from the start, in ascending order."""
    world = game.world
    return {
        "version": VERSION,
        "game": world.digest,
        "location": game.location,
        "held": game.held,
        "contents": [[r, list(c)] for r, c in enumerate(game.contents) if c != world.start_contents[r]],
        "doors": [r for r, closed in enumerate(game.closed) if closed != world.start_closed[r]],
        "flags": [[o, flags] for o, flags in enumerate(game.flags) if flags != world.start_flags[o]],
        "places": [[o, list(places)] for o, places in sorted(game.places.items())],
        "parted": [list(pair) for pair in sorted(game.parted)],
        "checked": sorted(game.checked),
    }


def restore(game: "State", plain: object) -> None:
    """Check everything, then change the episode. Raises BadStateError."""
    world = game.world
    if not isinstance(plain, dict) or plain.keys() != _KEYS or plain["version"] != VERSION:
        raise BadStateError(f"not a snapshot of an ALFWorld game of version {VERSION}: take one with get_state()")
    if plain["game"] != world.digest:
        raise BadStateError("the snapshot is of another game: reset to its task first")
    n_objects, n_receptacles, n_locations = map(len, (world.object_ids, world.receptacle_ids, world.location_ids))
    location = _number(plain["location"], n_locations, "location")
    held = _number(plain["held"] + 1 if type(plain["held"]) is int else None, n_objects + 1, "held") - 1
    contents, closed, flags = list(world.start_contents), bytearray(world.start_closed), bytearray(world.start_flags)
    for receptacle, items in _pairs(plain["contents"], n_receptacles, "contents"):
        contents[receptacle] = _ascending(items, n_objects, "contents")
    for door in _ascending(plain["doors"], n_receptacles, "doors"):
        if not world.powers[door] & OPENABLE:
            raise BadStateError(f"the snapshot's 'doors' names receptacle {door}, which has none")
        closed[door] ^= 1
    for item, value in _pairs(plain["flags"], n_objects, "flags"):
        flags[item] = _number(value, 64, "flags")
    places = {
        item: _ascending(where, n_locations, "places") for item, where in _pairs(plain["places"], n_objects, "places")
    }
    pairs = plain["parted"]
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise BadStateError("the snapshot's 'parted' is not a list of pairs")
    parted = {(_number(o, n_objects, "parted"), _number(r, n_receptacles, "parted")) for o, r in pairs}
    things = {world.agent_id, *world.location_ids, *world.receptacle_ids, *world.object_ids}
    checked = plain["checked"]
    if not isinstance(checked, list) or not all(isinstance(thing, str) and thing in things for thing in checked):
        raise BadStateError("the snapshot's 'checked' is not a list of this game's identifiers")
    game.location, game.held, game.contents, game.closed, game.flags = location, held, contents, closed, flags
    game.places, game.parted, game.checked = places, parted, set(checked)
    game.won = world.goal.test(game)


def _number(value: object, limit: int, field: str) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise BadStateError(f"the snapshot's {field!r} holds {str(value)[:40]!r}, not a number within the game")
    return value


def _ascending(values: object, limit: int, field: str) -> tuple[int, ...]:
    if not isinstance(values, list) or len(values) > limit:
        raise BadStateError(f"the snapshot's {field!r} is not a list of numbers within the game")
    numbers = tuple([_number(value, limit, field) for value in values])
    if any(a >= b for a, b in pairwise(numbers)):
        raise BadStateError(f"the snapshot's {field!r} is not in ascending order")
    return numbers


def _pairs(values: object, limit: int, field: str) -> Iterator[tuple[int, object]]:
    if not isinstance(values, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in values):
        raise BadStateError(f"the snapshot's {field!r} is not a list of pairs")
    _ascending([pair[0] for pair in values], limit, field)
    yield from values
