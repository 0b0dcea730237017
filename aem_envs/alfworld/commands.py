"""The admissible commands of a state, built in sorted order: verb by verb, and sorted within each verb."""

from typing import TYPE_CHECKING

from aem_envs.alfworld.world import (
    CLEANABLE,
    COOLABLE,
    FRIDGE,
    HEATABLE,
    KNIFE,
    MICROWAVE,
    OPENABLE,
    PICKUPABLE,
    SINK,
)

if TYPE_CHECKING:
    from aem_envs.alfworld.state import State


def admissible_commands(game: "State") -> list[str]:
    """Every command that would be accepted now, sorted. A fresh list."""
    world, held, closed = game.world, game.held, game.closed
    names, here, powers = world.receptacle_names, world.named_at[game.location], world.powers
    around = world.powers_at[game.location]
    closes = [f"close {names[r]}" for r in here if powers[r] & OPENABLE and not closed[r]] if around & OPENABLE else []
    opens = [f"open {names[r]}" for r in here if closed[r]] if around & OPENABLE else []
    usual = ["help", "inventory", "look"] if world.wording.has_help else ["inventory", "look"]
    goto = world.goto_commands(game.location)
    examine = [f"examine {names[r]}" for r in here]
    if held < 0:
        return closes + examine + goto + usual + opens + _takes(game, here) + _uses(game, here)
    name, use = world.object_names[held], world.uses[held]
    examine.append(f"examine {name}")
    examine.sort()
    clean: list[str] = []
    cool: list[str] = []
    heat: list[str] = []
    slices: list[str] = []
    if around & SINK and use & CLEANABLE:
        clean = [f"clean {name} with {names[r]}" for r in here if powers[r] & SINK]
    if around & FRIDGE and use & COOLABLE:
        cool = [f"cool {name} with {names[r]}" for r in here if powers[r] & FRIDGE]
    if around & MICROWAVE and use & HEATABLE:
        heat = [f"heat {name} with {names[r]}" for r in here if powers[r] & MICROWAVE]
    if use & KNIFE:
        slices = _slices(game, name)
    put, into = world.wording.put, world.wording.into
    puts = [f"{put} {name}{into}{names[r]}" for r in here if not closed[r] and game.fits(held, r)]
    doors_and_puts = puts + opens if put < "open" else opens + puts
    return clean + closes + cool + examine + goto + heat + usual + doors_and_puts + slices + _uses(game, here)


def _takes(game: "State", here: tuple[int, ...]) -> list[str]:
    world, closed, contents = game.world, game.closed, game.contents
    names, things, uses = world.receptacle_names, world.object_names, world.uses
    commands = []
    for r in here:
        if contents[r] and not closed[r]:
            source = names[r]
            commands += [f"take {things[o]} from {source}" for o in contents[r] if uses[o] & PICKUPABLE]
    commands.sort()
    return commands


def _slices(game: "State", knife: str) -> list[str]:
    world, location = game.world, game.location
    targets = [world.object_names[o] for o in world.sliceables if location in game.places_of(o)]
    return sorted(f"slice {target} with {knife}" for target in targets)


def _uses(game: "State", here: tuple[int, ...]) -> list[str]:
    lamps = game.world.toggleables
    if not lamps:
        return []
    return sorted(f"use {game.world.object_names[o]}" for o in lamps if game.within(o, here))
