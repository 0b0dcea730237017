"""The native ALFWorld engine: one `Game` is one episode, interpreting the ALFRED domain directly.

Equal to `textworld` + `alfworld` step by step in feedback, admissible commands, `won` and score (the differential test
holds it to that). It reproduces their quirks: only a held object can be examined; `look` at the start lists nothing;
appliances work behind closed doors; `use` always turns on; an object the files put into two receptacles leaves only the
one it is taken from; what was taken from one receptacle and put into another at the same place is seen "next to it".
"""

from typing import Any

from aem_envs.alfworld.commands import admissible_commands
from aem_envs.alfworld.goal import AT, FLAGS, HELD, IN, OPENED, PLACE
from aem_envs.alfworld.snapshot import anchor, restore, snapshot
from aem_envs.alfworld.state import State
from aem_envs.alfworld.text import (
    CLEAN,
    COOL,
    EMPTY_HANDED,
    HELP,
    HOT,
    NOTHING_HAPPENS,
    ON,
    SLICED,
    TOGGLED,
    describe_object,
    listing,
)
from aem_envs.alfworld.views import ObjectState, ReceptacleState, object_states, receptacle_states
from aem_envs.alfworld.world import (
    CLEANABLE,
    CONTAINER,
    COOLABLE,
    FRIDGE,
    HEATABLE,
    KNIFE,
    MICROWAVE,
    OPENABLE,
    PICKUPABLE,
    SINK,
    SLICEABLE,
    TOGGLEABLE,
)

_APPLIANCE_USE = {
    "clean": (CLEANABLE, SINK, CLEAN, 0),
    "cool": (COOLABLE, FRIDGE, COOL, HOT),
    "heat": (HEATABLE, MICROWAVE, HOT, COOL),
}
"""Verb → what the held object must allow, what the receptacle must be, property gained, property lost."""


class Game(State):
    """One episode."""

    __slots__ = ()

    @property
    def score(self) -> int:
        """1 where the goal holds, else 0."""
        return int(self.won)

    def reset(self) -> str:
        """Start over; returns banner, room and task exactly as the real engine prints them."""
        self.restart()
        return self.world.intro

    def step(self, command: str) -> str:
        """Act; returns the feedback. Any text is accepted: what is not admissible now makes nothing happen."""
        verb, space, rest = command.strip().partition(" ")
        if not space:
            return self._bare(verb)
        act = _ACTIONS.get(verb)
        if act:
            return act(self, rest)
        if verb == self.world.wording.put:
            return self._put(rest)
        return self._use_appliance(verb, rest) if verb in _APPLIANCE_USE else NOTHING_HAPPENS

    def admissible(self) -> list[str]:
        """Every command that would be accepted now, sorted. A fresh list."""
        return admissible_commands(self)

    # What each command does. All check their own preconditions; an unknown name finds nothing.

    def _bare(self, command: str) -> str:
        if command == "look":
            self.note(self.world.location_ids[self.location])
            return self._look()
        if command == "inventory":
            self.note(self.world.agent_id)
            return EMPTY_HANDED if self.held < 0 else f"You are carrying: a {self.world.object_names[self.held]}."
        if command == "help" and self.world.wording.has_help:
            self.note(self.world.agent_id)
            return HELP
        return NOTHING_HAPPENS

    def _look(self) -> str:
        world, here = self.world, self.world.receptacles_at[self.location]
        if not here:
            return "You are in the middle of a room. Looking quickly around you, you see nothing."
        beside = [
            world.object_names[item]
            for item, receptacle in sorted(self.parted)
            if receptacle in here and self.location in self.places_of(item)
        ]
        return world.facing(self.location, beside)

    def _go(self, rest: str) -> str:
        world = self.world
        receptacle = world.receptacle_numbers.get(rest[3:], -1)
        location = world.receptacle_locations[receptacle] if receptacle >= 0 else -1
        if rest[:3] != "to " or location < 0 or location == self.location:
            return NOTHING_HAPPENS
        self.location = location
        self.changed(AT)
        arrival = (
            world.location_names[location] if world.wording.arrives_at_location else world.receptacle_names[receptacle]
        )
        return f"You arrive at {arrival}. {self.inside(receptacle)}"

    def _open(self, rest: str) -> str:
        receptacle = self.here(rest)
        if receptacle < 0 or not self.closed[receptacle]:
            return NOTHING_HAPPENS
        self.closed[receptacle] = 0
        self.note(self.world.receptacle_ids[receptacle])
        self.changed(OPENED)
        return f"You open the {rest}. {self.inside(receptacle)}"

    def _close(self, rest: str) -> str:
        receptacle = self.here(rest)
        if receptacle < 0 or self.closed[receptacle] or not self.world.powers[receptacle] & OPENABLE:
            return NOTHING_HAPPENS
        self.closed[receptacle] = 1
        self.changed(OPENED)
        return f"You close the {rest}."

    def _take(self, rest: str) -> str:
        name, _, source = rest.partition(" from ")
        item, receptacle = self.world.object_numbers.get(name, -1), self.here(source)
        if item < 0 or receptacle < 0 or self.held >= 0 or self.closed[receptacle]:
            return NOTHING_HAPPENS
        inside = self.contents[receptacle]
        if item not in inside or not self.world.uses[item] & PICKUPABLE:
            return NOTHING_HAPPENS
        self.contents[receptacle] = tuple([other for other in inside if other != item])
        self.parted.add((item, receptacle))
        self.held = item
        self.places[item] = tuple([place for place in self.places_of(item) if place != self.location])
        self.changed(IN | HELD | PLACE)
        return f"You pick up the {name} from the {source}."

    def _put(self, rest: str) -> str:
        world = self.world
        name, _, target = rest.partition(world.wording.into)
        item, receptacle = world.object_numbers.get(name, -1), self.here(target)
        if item < 0 or item != self.held or receptacle < 0 or self.closed[receptacle]:
            return NOTHING_HAPPENS
        if not self.fits(item, receptacle):
            return NOTHING_HAPPENS
        self.contents[receptacle] = tuple(sorted({*self.contents[receptacle], item}))
        self.parted.discard((item, receptacle))
        self.held = -1
        self.places[item] = tuple(sorted({*self.places_of(item), self.location}))
        self.changed(IN | HELD | PLACE)
        return world.wording.put_feedback.format(name, target)

    def _use_appliance(self, verb: str, rest: str) -> str:
        allows, power, gained, lost = _APPLIANCE_USE[verb]
        world = self.world
        name, _, appliance = rest.partition(" with ")
        item, receptacle = world.object_numbers.get(name, -1), self.here(appliance)
        if item < 0 or item != self.held or receptacle < 0:
            return NOTHING_HAPPENS
        if not (world.uses[item] & allows and world.powers[receptacle] & power):
            return NOTHING_HAPPENS
        self.flags[item] = self.flags[item] & ~lost | gained
        self.changed(FLAGS)
        return f"You {verb} the {name} using the {appliance}."

    def _slice(self, rest: str) -> str:
        world = self.world
        name, _, knife_name = rest.partition(" with ")
        item, knife = world.object_numbers.get(name, -1), world.object_numbers.get(knife_name, -1)
        if item < 0 or knife < 0 or knife != self.held or not world.uses[knife] & KNIFE:
            return NOTHING_HAPPENS
        if not world.uses[item] & SLICEABLE or self.location not in self.places_of(item):
            return NOTHING_HAPPENS
        self.flags[item] |= SLICED
        self.changed(FLAGS)
        return f"You sliced the {name} with the {knife_name}."

    def _use(self, rest: str) -> str:
        world = self.world
        item = world.object_numbers.get(rest, -1)
        if item < 0 or not world.uses[item] & TOGGLEABLE or not self.within(item, world.receptacles_at[self.location]):
            return NOTHING_HAPPENS
        self.flags[item] = (self.flags[item] ^ ON) | TOGGLED
        self.changed(FLAGS)
        return f"You turn on the {rest}."

    def _examine(self, rest: str) -> str:
        world = self.world
        receptacle = self.here(rest)
        if receptacle >= 0:
            self.note(world.receptacle_ids[receptacle])
            return self.inside(receptacle)
        item = world.object_numbers.get(rest, -1)
        if item < 0 or item != self.held:
            return NOTHING_HAPPENS
        self.note(world.object_ids[item])
        use = world.uses[item]
        if use & CONTAINER:
            inner = listing([world.object_names[other] for other in world.inner.get(item, ())])
            return f"This is a normal {rest}. In it, you see {inner}."
        return describe_object(
            rest, self.flags[item], toggleable=bool(use & TOGGLEABLE), sliceable=bool(use & SLICEABLE)
        )

    # For experts, environments and snapshots. Nothing here may reach an agent's prompt except the anchor's equality.

    def receptacles(self) -> list[ReceptacleState]:
        """All receptacles with their present state, in the engine's order."""
        return receptacle_states(self)

    def objects(self) -> list[ObjectState]:
        """All objects with their present state, in the engine's order."""
        return object_states(self)

    def anchor(self) -> str:
        """Hash (16 hex digits) of what an agent can know here and now: its place, the doors and visible contents there,
        and the held object with its properties. The same in every process."""
        return anchor(self)

    def state(self) -> dict[str, Any]:
        """A small JSON-able snapshot: what differs from the start."""
        return snapshot(self)

    def load_state(self, plain: object) -> None:
        """Return to a snapshot of the same game. Raises BadStateError, leaving this episode as it was."""
        restore(self, plain)


_ACTIONS = {
    "go": Game._go,
    "open": Game._open,
    "close": Game._close,
    "take": Game._take,
    "slice": Game._slice,
    "use": Game._use,
    "examine": Game._examine,
}
