"""Rooms for embedded games: what furniture a room of each size has, and where its things usually lie.

A layout is a fixed set of receptacles with their places, drawn once from its own seed and shared by all games in it.
Priors are plain judgements ("bread lies on counters"), written by hand as `object frequency: receptacle weight …`.
Draws use `Random.random` alone, the one method whose sequence Python promises to keep between versions.
"""

import random
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from envs_data.alfworld.problem import Fact
from envs_data.alfworld.vocabulary import CAN_CONTAIN, OPENABLE, receptacle_id, type_of

Room = Literal["kitchen", "bedroom", "livingroom", "bathroom"]
Size = Literal["small", "medium", "official"]
ROOMS: tuple[Room, ...] = get_args(Room)
SIZES: tuple[Size, ...] = get_args(Size)

TRAIN_LAYOUTS: dict[Size, int] = {"small": 24, "medium": 96, "official": 240}
"""Layouts per kind of room that train and valid_seen share: many in large rooms, so that they are read, not learnt by
heart."""
UNSEEN_LAYOUTS: dict[Size, int] = {"small": 8, "medium": 24, "official": 24}
"""Further layouts, only for valid_unseen."""


def layout_numbers(size: Size, *, unseen: bool) -> range:
    """The layouts of either side."""
    start = TRAIN_LAYOUTS[size]
    return range(start, start + UNSEEN_LAYOUTS[size]) if unseen else range(start)


_FURNITURE: dict[tuple[Size, Room], str] = {
    ("small", "kitchen"): (
        "Cabinet 1-3 CoffeeMachine 0-1 CounterTop 1-2 DiningTable 0-1 Drawer 1-2 Fridge 1 GarbageCan 1 Microwave 1 "
        "Shelf 0-1 SinkBasin 1 StoveBurner 0-2"
    ),
    ("small", "bedroom"): (
        "ArmChair 0-1 Bed 1 Desk 0-1 Drawer 2-4 Dresser 0-1 GarbageCan 1 LaundryHamper 0-1 Safe 0-1 Shelf 0-2 "
        "SideTable 1-2"
    ),
    ("small", "livingroom"): (
        "ArmChair 1-2 Cabinet 0-1 CoffeeTable 1 DiningTable 0-1 Drawer 0-2 Dresser 0-1 GarbageCan 1 Ottoman 0-1 "
        "Safe 0-1 Shelf 0-2 SideTable 1-2 Sofa 1 TVStand 0-1"
    ),
    ("small", "bathroom"): (
        "BathtubBasin 0-1 Cabinet 1-3 Cart 0-1 CounterTop 1 Drawer 0-2 GarbageCan 1 HandTowelHolder 0-1 Shelf 0-1 "
        "SinkBasin 1 Toilet 1 ToiletPaperHanger 1 TowelHolder 1"
    ),
    ("medium", "kitchen"): (
        "Cabinet 3-7 CoffeeMachine 1 CounterTop 1-3 DiningTable 0-1 Drawer 2-5 Fridge 1 GarbageCan 1 Microwave 1 "
        "Shelf 0-2 SinkBasin 1 StoveBurner 2-4 Toaster 1"
    ),
    ("medium", "bedroom"): (
        "ArmChair 0-1 Bed 1-2 Desk 1 Drawer 2-6 Dresser 0-1 GarbageCan 1 LaundryHamper 0-1 Safe 0-1 Shelf 1-6 "
        "SideTable 1-2"
    ),
    ("medium", "livingroom"): (
        "ArmChair 1-3 Cabinet 0-4 CoffeeTable 1-2 DiningTable 0-1 Drawer 1-5 Dresser 0-1 GarbageCan 1 Ottoman 0-1 "
        "Safe 0-1 Shelf 1-5 SideTable 1-2 Sofa 1 TVStand 1"
    ),
    ("medium", "bathroom"): (
        "BathtubBasin 0-1 Cabinet 2-5 Cart 0-1 CounterTop 1-2 Drawer 0-4 GarbageCan 1 HandTowelHolder 1-3 Shelf 0-2 "
        "SideTable 0-1 SinkBasin 1-2 Toilet 1 ToiletPaperHanger 1 TowelHolder 1-2"
    ),
    ("official", "kitchen"): (
        "Cabinet 7-24 CoffeeMachine 1 CounterTop 1-4 DiningTable 0-2 Drawer 1-11 Fridge 1 GarbageCan 1 Microwave 1 "
        "Safe 0-1 Shelf 0-3 SinkBasin 1 StoveBurner 4 Toaster 1"
    ),
    ("official", "bedroom"): (
        "ArmChair 0-1 Bed 1-2 Desk 1-2 DiningTable 0-1 Drawer 4-12 Dresser 0-2 GarbageCan 1 LaundryHamper 0-1 "
        "Safe 0-1 Shelf 5-13 SideTable 1-2"
    ),
    ("official", "livingroom"): (
        "ArmChair 1-3 Cabinet 2-8 Cart 0-1 CoffeeTable 1-2 Desk 0-1 DiningTable 0-1 Drawer 4-12 Dresser 0-1 "
        "GarbageCan 1 Ottoman 0-1 Safe 0-1 Shelf 4-13 SideTable 1-3 Sofa 1-2 TVStand 1"
    ),
    ("official", "bathroom"): (
        "BathtubBasin 1 Cabinet 4-8 Cart 0-1 CounterTop 1-2 Drawer 4-8 GarbageCan 1 HandTowelHolder 1-3 "
        "PaintingHanger 0-1 Shelf 1-3 SideTable 0-1 SinkBasin 2 Toilet 1 ToiletPaperHanger 1 TowelHolder 1-2"
    ),
}

_PRIORS: dict[Room, str] = {
    "kitchen": """
        Apple 6: CounterTop 4 DiningTable 3 Fridge 5 GarbageCan 1 Microwave 1 SinkBasin 3
        Book 1: CounterTop 2 DiningTable 3 Shelf 1
        Bowl 6: Cabinet 5 CounterTop 3 DiningTable 2 Fridge 3 Microwave 1 Shelf 1 SinkBasin 1
        Bread 5: CounterTop 6 DiningTable 3 Fridge 1
        ButterKnife 4: CounterTop 5 DiningTable 3 Drawer 2 SinkBasin 1
        CellPhone 1: CounterTop 2 DiningTable 1 Drawer 1
        CreditCard 1: CounterTop 2 Drawer 2 Shelf 1
        Cup 5: Cabinet 4 CounterTop 4 DiningTable 3 Fridge 1 Microwave 2 Shelf 1 SinkBasin 2
        DishSponge 4: Cabinet 2 CounterTop 4 DiningTable 2 Drawer 1 GarbageCan 1 SinkBasin 3
        Egg 6: CounterTop 4 DiningTable 2 Fridge 5 GarbageCan 1 Microwave 1 SinkBasin 1
        Fork 4: CounterTop 5 DiningTable 4 Drawer 3 SinkBasin 1
        Glassbottle 2: Cabinet 2 CounterTop 4 Fridge 1 Shelf 1
        HousePlant 2: CounterTop 3 DiningTable 1 Shelf 1
        Kettle 2: Cabinet 1 CounterTop 2 DiningTable 1 StoveBurner 5
        Knife 4: CounterTop 6 DiningTable 2 Drawer 3
        Ladle 2: Cabinet 2 CounterTop 4 DiningTable 1 Drawer 2
        Lettuce 5: CounterTop 4 DiningTable 3 Fridge 3 GarbageCan 1 SinkBasin 1
        Mug 6: Cabinet 4 CoffeeMachine 3 CounterTop 4 DiningTable 1 Fridge 1 Microwave 2 Shelf 1 SinkBasin 1
        Pan 4: Cabinet 1 CounterTop 3 DiningTable 1 Fridge 1 StoveBurner 6
        PaperTowelRoll 1: CounterTop 3 DiningTable 2 GarbageCan 1
        Pen 1: CounterTop 2 Drawer 2
        PepperShaker 4: Cabinet 3 CounterTop 4 DiningTable 1 Drawer 3 Shelf 2
        Plate 5: Cabinet 5 CounterTop 3 DiningTable 2 Fridge 1 Shelf 1 SinkBasin 1
        Pot 4: Cabinet 1 CounterTop 2 DiningTable 1 Fridge 1 Shelf 1 SinkBasin 1 StoveBurner 6
        Potato 5: CounterTop 4 DiningTable 2 Fridge 3 GarbageCan 1 Microwave 1 SinkBasin 2
        SaltShaker 4: Cabinet 4 CounterTop 4 DiningTable 2 Drawer 2 Shelf 1
        SoapBottle 3: Cabinet 3 CounterTop 4 DiningTable 1 Drawer 1 GarbageCan 2
        Spatula 4: CounterTop 5 DiningTable 2 Drawer 3 SinkBasin 1
        Spoon 4: CounterTop 4 DiningTable 2 Drawer 4 SinkBasin 2
        SprayBottle 1: Cabinet 2 CounterTop 2 GarbageCan 1
        Statue 1: CounterTop 2 DiningTable 1 Shelf 2
        Tomato 6: CounterTop 5 DiningTable 2 Fridge 4 GarbageCan 1 Microwave 1 SinkBasin 1
        Vase 2: Cabinet 1 CounterTop 2 DiningTable 1 Shelf 4
        WineBottle 2: Cabinet 1 CounterTop 3 DiningTable 1 Fridge 1 GarbageCan 1 Shelf 1""",
    "bedroom": """
        AlarmClock 5: Desk 5 DiningTable 1 Dresser 4 Shelf 2 SideTable 4
        BaseballBat 1: Bed 4
        BasketBall 1: Bed 1 Desk 2 Dresser 1
        Book 5: Bed 6 Desk 3 DiningTable 1 Drawer 1 Dresser 1 Shelf 1 SideTable 1
        Bowl 2: Desk 4 DiningTable 1 Dresser 1 Shelf 2 SideTable 1
        Box 1: Desk 2 Dresser 1 Shelf 1 SideTable 1
        CD 5: Desk 4 DiningTable 1 Drawer 2 Dresser 1 GarbageCan 1 Safe 1 Shelf 3 SideTable 2
        CellPhone 5: Bed 3 Desk 4 Drawer 3 Dresser 1 Shelf 1 SideTable 2
        Cloth 2: Desk 1 Drawer 2 Dresser 2 LaundryHamper 2 Shelf 1 SideTable 1
        CreditCard 5: Desk 3 DiningTable 1 Drawer 4 Dresser 2 Shelf 2 SideTable 2
        HousePlant 1: Desk 1 Dresser 1 Shelf 1 SideTable 1
        KeyChain 5: ArmChair 1 Desk 3 DiningTable 1 Drawer 2 Dresser 2 Safe 2 Shelf 3 SideTable 3
        Laptop 4: ArmChair 1 Bed 6 Desk 4 DiningTable 1 Dresser 1
        Mug 4: Desk 4 DiningTable 2 Dresser 1 Shelf 3 SideTable 1
        Pen 5: Desk 5 DiningTable 1 Drawer 2 Dresser 1 GarbageCan 1 Shelf 2 SideTable 3
        Pencil 5: Desk 5 DiningTable 1 Drawer 2 Dresser 1 GarbageCan 1 Shelf 2 SideTable 3
        Pillow 4: ArmChair 1 Bed 8
        Statue 1: Dresser 1 Safe 1 Shelf 3
        TeddyBear 1: Bed 4
        TennisRacket 1: Bed 1 Desk 1 Dresser 1
        TissueBox 2: Desk 2 Drawer 1 Dresser 1 Shelf 1 SideTable 2
        Vase 2: Desk 1 Dresser 2 Safe 1 Shelf 2 SideTable 1
        Watch 1: Desk 1 Dresser 2 Drawer 1 Safe 1 Shelf 1 SideTable 1""",
    "livingroom": """
        Book 2: CoffeeTable 3 DiningTable 1 Drawer 1 Shelf 2 SideTable 2 Sofa 1
        Box 3: ArmChair 1 CoffeeTable 2 DiningTable 2 Dresser 1 Ottoman 1 SideTable 1 Sofa 2
        Candle 1: CoffeeTable 1 DiningTable 1 Drawer 1 Shelf 2
        CellPhone 2: ArmChair 1 CoffeeTable 2 Desk 1 Drawer 1 SideTable 1 Sofa 1
        CreditCard 4: ArmChair 2 CoffeeTable 2 Desk 1 DiningTable 2 Drawer 1 Dresser 1 Safe 1 SideTable 2 Sofa 2
        HousePlant 2: CoffeeTable 1 Desk 1 DiningTable 1 Dresser 1 SideTable 1
        KeyChain 4: ArmChair 1 CoffeeTable 3 DiningTable 2 Drawer 1 Dresser 1 Safe 1 SideTable 2 Sofa 1
        Laptop 4: ArmChair 1 CoffeeTable 3 Desk 2 DiningTable 2 Ottoman 1 Sofa 3
        Newspaper 3: ArmChair 1 CoffeeTable 3 DiningTable 1 Drawer 1 GarbageCan 1 Ottoman 1 Sofa 2
        Pen 1: CoffeeTable 1 Desk 1 Drawer 1 SideTable 1
        Pencil 1: CoffeeTable 1 Desk 1 Drawer 1 SideTable 1
        Pillow 4: ArmChair 2 Ottoman 1 Sofa 5
        Plate 2: CoffeeTable 1 DiningTable 2 Shelf 2 SideTable 1
        RemoteControl 5: ArmChair 1 CoffeeTable 3 Drawer 1 Dresser 1 Ottoman 1 SideTable 1 Sofa 3 TVStand 2
        Statue 4: Cart 1 CoffeeTable 1 DiningTable 2 Dresser 1 Safe 1 Shelf 4 SideTable 1 TVStand 1
        Television 1: TVStand 1
        TissueBox 3: Cabinet 1 CoffeeTable 2 Dresser 1 DiningTable 1 Shelf 1 SideTable 2 TVStand 1
        Vase 4: CoffeeTable 1 DiningTable 1 Dresser 1 Safe 1 Shelf 4 SideTable 1 TVStand 2
        Watch 3: CoffeeTable 2 DiningTable 1 Drawer 1 Dresser 1 Safe 1 Shelf 2 SideTable 2
        WateringCan 2: Cabinet 1 CoffeeTable 1 DiningTable 1 Shelf 1 SideTable 2""",
    "bathroom": """
        Candle 3: Cabinet 1 Cart 1 CounterTop 4 Drawer 2 Shelf 1 Toilet 3
        Cloth 4: BathtubBasin 3 Cabinet 3 Cart 1 CounterTop 2 Drawer 2 LaundryHamper 1 Shelf 1
        DishSponge 2: BathtubBasin 2 Cabinet 1 CounterTop 1 Shelf 1 SinkBasin 1 Toilet 1
        HandTowel 4: CounterTop 1 HandTowelHolder 6
        Mirror 1: CounterTop 1
        PaperTowelRoll 1: Cabinet 1 Toilet 2
        Plunger 2: Cabinet 2 Cart 1
        ScrubBrush 1: Cabinet 1 Cart 1
        SoapBar 5: BathtubBasin 2 Cabinet 2 Cart 1 CounterTop 3 Drawer 2 SinkBasin 3 Toilet 2
        SoapBottle 5: Cabinet 2 Cart 1 CounterTop 5 Drawer 1 Shelf 1 SideTable 1 Toilet 3
        SprayBottle 4: Cabinet 2 Cart 1 CounterTop 3 Drawer 1 GarbageCan 1 Shelf 1 SideTable 1 Toilet 4
        TissueBox 1: Cart 1 CounterTop 2 Shelf 1 SideTable 2 Toilet 1
        ToiletPaper 5: Cabinet 2 Cart 1 CounterTop 2 Drawer 2 GarbageCan 2 Shelf 1 Toilet 4 ToiletPaperHanger 3
        Towel 3: TowelHolder 5""",
}
LAMP_PLACES = ("Desk", "Dresser", "SideTable", "Shelf")
"""Receptacle types a desk lamp stands on."""


def _pairs(words: str) -> dict[str, int]:
    parts = words.split()
    return {kind: int(weight) for kind, weight in zip(parts[::2], parts[1::2])}


PRIORS: dict[Room, dict[str, dict[str, int]]] = {
    room: {line.split()[0]: _pairs(line.split(":")[1]) for line in table.strip().splitlines()}
    for room, table in _PRIORS.items()
}
"""Room → object type → receptacle type → weight of finding it there."""
FREQUENCY: dict[Room, dict[str, int]] = {
    room: _pairs(" ".join(line.split(":")[0] for line in table.strip().splitlines())) for room, table in _PRIORS.items()
}
"""Room → object type → how common it is."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The furniture of one room."""

    name: str
    """For example "small-kitchen-07"."""
    room: Room
    receptacles: tuple[str, ...]
    """Identifiers, sorted as the engine lists them."""
    by_type: dict[str, tuple[str, ...]]
    """Receptacle type → identifiers."""
    location: dict[str, str]
    """Receptacle → location. In official-like rooms a pair of stove burners shares one."""
    declarations: tuple[tuple[str, str], ...]
    """Receptacles and locations as PDDL objects."""
    facts: tuple[Fact, ...]
    """Everything true whatever lies around, the agent's place included."""


def _counts(size: Size, room: Room, rng: random.Random) -> dict[str, int]:
    words = _FURNITURE[size, room].split()
    counts = {}
    for kind, span in zip(words[::2], words[1::2]):
        low, _, high = span.partition("-")
        counts[kind] = int(low) + int(rng.random() * (int(high or low) - int(low) + 1))
    return counts


@cache
def _signatures(size: Size, room: Room) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Distinct furniture sets of all layouts of this size and room, so that an unseen layout is nowhere in training."""
    rng = random.Random(zlib.crc32(f"layouts {size} {room}".encode()))
    found: dict[tuple[tuple[str, int], ...], None] = {}
    while len(found) < TRAIN_LAYOUTS[size] + UNSEEN_LAYOUTS[size]:
        counts = _counts(size, room, rng)
        if size != "official" or sum(counts.values()) >= 20:
            found[tuple((kind, n) for kind, n in counts.items() if n)] = None
    return tuple(found)


@cache
def layout(size: Size, room: Room, number: int) -> Layout:
    """The `number`-th layout (from 0; those from `TRAIN_LAYOUTS` on are unseen)."""
    signature = _signatures(size, room)[number]
    names = (receptacle_id(kind, k) for kind, n in signature for k in range(1, n + 1))
    receptacles = tuple(sorted(names, key=str.lower))
    rng = random.Random(zlib.crc32(f"places {size} {room} {number}".encode()))
    sites = [f"loc_bar_{k:02d}" for k in range(1, len(receptacles) + 2)]
    sites.sort(key=lambda _: rng.random())
    start = sites.pop()
    location = dict(zip(receptacles, sites))
    burners = [r for r in receptacles if type_of(r) == "StoveBurner"]
    if size == "official":
        for first, second in zip(burners[::2], burners[1::2]):
            location[second] = location[first]
    kinds = sorted(kind for kind, _ in signature)
    here = {f"{kind}Type": sorted(CAN_CONTAIN[kind].intersection(PRIORS[room])) for kind in kinds}
    facts: list[Fact] = [("receptacleType", r, f"{type_of(r)}Type") for r in receptacles]
    facts += [("canContain", kind, f"{thing}Type") for kind, things in here.items() for thing in things]
    facts += [("openable", r) for r in receptacles if type_of(r) in OPENABLE]
    facts.append(("atLocation", "agent1", start))
    facts += [("receptacleAtLocation", r, site) for r, site in location.items()]
    places = sorted({start, *location.values()})
    return Layout(
        name=f"{size}-{room}-{number:02d}",
        room=room,
        receptacles=receptacles,
        by_type={kind: tuple(r for r in receptacles if type_of(r) == kind) for kind in kinds},
        location=location,
        declarations=tuple((r, "receptacle") for r in receptacles) + tuple((site, "location") for site in places),
        facts=tuple(facts),
    )
