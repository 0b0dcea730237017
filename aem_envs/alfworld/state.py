"""The changing part of a game: what one episode holds, and the small questions asked of it."""

from aem_envs.alfworld.goal import CHECKED
from aem_envs.alfworld.text import listing
from aem_envs.alfworld.world import OPENABLE, World


class State:
    """An episode's state. A few hundred bytes; all that does not change is in the shared `World`."""

    __slots__ = ("checked", "closed", "contents", "flags", "held", "location", "parted", "places", "won", "world")

    world: World
    location: int
    """Number of the agent's location."""
    held: int
    """Number of the held object, or -1."""
    contents: list[tuple[int, ...]]
    """Per receptacle, the sorted numbers of the objects in it."""
    closed: bytearray
    """Per receptacle, 1 where a door hides the contents."""
    flags: bytearray
    """Per object, the property bits of `text`."""
    places: dict[int, tuple[int, ...]]
    """Where an object lies, for those objects whose locations are no longer those of the start."""
    parted: set[tuple[int, int]]
    """(object, receptacle) pairs that the object was taken from and not put back into."""
    checked: set[str]
    """Identifiers of things looked at; kept only where the goal asks for it."""
    won: bool
    """The goal holds now. As in the real engine, play can go on, and a won game can be un-won."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.restart()

    def restart(self) -> None:
        """Back to the start of the game."""
        world = self.world
        self.location, self.held = world.start, world.start_held
        self.contents = list(world.start_contents)
        self.closed = bytearray(world.start_closed)
        self.flags = bytearray(world.start_flags)
        self.places = {}
        self.parted = set()
        self.checked = set(world.start_checked)
        self.won = world.goal.test(self)

    def here(self, name: str) -> int:
        """The number of the receptacle of that name if the agent stands before it, else -1."""
        number = self.world.receptacle_numbers.get(name, -1)
        return number if number >= 0 and self.world.receptacle_locations[number] == self.location else -1

    def inside(self, receptacle: int) -> str:
        """The sentence about a receptacle's door and contents."""
        world, name = self.world, self.world.receptacle_names[receptacle]
        if self.closed[receptacle]:
            return f"The {name} is closed."
        things = listing([world.object_names[item] for item in self.contents[receptacle]])
        if world.powers[receptacle] & OPENABLE:
            return f"The {name} is open. In it, you see {things}."
        return f"On the {name}, you see {things}."

    def changed(self, parts: int) -> None:
        """Test the goal again if it reads any of these parts (bits of `goal`)."""
        goal = self.world.goal
        if goal.reads & parts:
            self.won = goal.test(self)

    def note(self, thing: str) -> None:
        """Remember that the thing of this identifier was looked at, where the goal cares."""
        if self.world.goal.reads & CHECKED:
            self.checked.add(thing)
            self.won = self.world.goal.test(self)

    def fits(self, item: int, receptacle: int) -> bool:
        """Objects of this type belong in receptacles of that type."""
        return not self.world.accepts[receptacle].isdisjoint(self.world.object_types[item])

    def within(self, item: int, receptacles: tuple[int, ...]) -> bool:
        """The object is in one of these, open or closed."""
        return any(item in self.contents[receptacle] for receptacle in receptacles)

    def places_of(self, item: int) -> tuple[int, ...]:
        """Numbers of the locations at which the object counts as lying."""
        return self.places.get(item, self.world.start_places[item])

    def is_opened(self, receptacle: int) -> bool:
        """The domain's `opened`, which also a receptacle without a door may have been given by its file."""
        if self.world.powers[receptacle] & OPENABLE:
            return not self.closed[receptacle]
        return receptacle in self.world.always_opened
