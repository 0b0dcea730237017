"""The whole state in readable form, for experts that may know it. Never shown to an agent."""

from typing import TYPE_CHECKING, NamedTuple

from aem_envs.alfworld.task import plain_type
from aem_envs.alfworld.text import CLEAN, COOL, HOT, SLICED, TOGGLED
from aem_envs.alfworld.world import CLEANABLE, COOLABLE, HEATABLE, PICKUPABLE, SLICEABLE, TOGGLEABLE

if TYPE_CHECKING:
    from aem_envs.alfworld.state import State


class ReceptacleState(NamedTuple):
    """A receptacle as it is now."""

    name: str
    """As in commands: "cabinet 1"."""
    type: str
    """As in `Task.receptacle_type`: "cabinet"."""
    location: int | None
    """Receptacles of equal location are reached together; None: nowhere."""
    openable: bool
    open: bool
    """True also for what has no door."""
    contents: tuple[str, ...]
    """Names of the objects inside."""


class ObjectState(NamedTuple):
    """An object as it is now."""

    name: str
    """As in commands: "apple 2"."""
    type: str
    """As in `Task.object_type`: "apple"."""
    where: tuple[str, ...]
    """Names of the receptacles it is in: usually one; none while held or when it lies in no receptacle."""
    held: bool
    pickupable: bool
    cleanable: bool
    heatable: bool
    coolable: bool
    sliceable: bool
    toggleable: bool
    clean: bool
    hot: bool
    cool: bool
    sliced: bool
    toggled: bool


def receptacle_states(game: "State") -> list[ReceptacleState]:
    """All receptacles, in the engine's order."""
    names = game.world.object_names
    return [
        ReceptacleState(*static, not closed, tuple([names[item] for item in contents]))
        for static, closed, contents in zip(game.world.receptacles, game.closed, game.contents, strict=True)
    ]


def object_states(game: "State") -> list[ObjectState]:
    """All objects, in the engine's order."""
    world = game.world
    where: dict[int, list[str]] = {}
    for name, contents in zip(world.receptacle_names, game.contents, strict=True):
        for item in contents:
            where.setdefault(item, []).append(name)
    return [
        ObjectState(
            name,
            plain_type(kinds[0]) if kinds else name.partition(" ")[0],
            tuple(where.get(item, ())),
            item == game.held,
            *(bool(use & bit) for bit in (PICKUPABLE, CLEANABLE, HEATABLE, COOLABLE, SLICEABLE, TOGGLEABLE)),
            *(bool(flags & bit) for bit in (CLEAN, HOT, COOL, SLICED, TOGGLED)),
        )
        for item, (name, kinds, use, flags) in enumerate(
            zip(world.object_names, world.object_types, world.uses, game.flags, strict=True)
        )
    ]
