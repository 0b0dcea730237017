"""Object and receptacle types of ALFRED rooms, what each affords, and how instances are named.

The words and affordances are those of the ALFRED benchmark (Shridhar et al., 2020), so that an agent that reads
embedded games also reads official ones. The tables are written as groups: a receptacle holds the union of its groups.
"""

from envs_data.alfworld.problem import Fact

_FOOD = "Apple Bread Egg Lettuce Potato Tomato"
_CUTLERY = "ButterKnife Fork Knife Ladle Spatula Spoon"
_CROCKERY = "Bowl Cup Mug Plate"
_COOKWARE = "Kettle Pan Pot"
_SHAKERS = "PepperShaker SaltShaker"
_BOTTLES = "Glassbottle WineBottle"
_POCKET = "CellPhone CreditCard KeyChain"
_WRITING = "Pen Pencil"
_MEDIA = "Book CD"
_SPORT = "BaseballBat BasketBall TennisRacket"
_SOAP = "SoapBar SoapBottle"
_PAPER = "ToiletPaper TissueBox"
_DECOR = "Candle Statue Vase"
_SURFACE = (
    f"{_FOOD} {_CUTLERY} {_CROCKERY} {_COOKWARE} {_SHAKERS} {_BOTTLES} {_POCKET} {_WRITING} {_MEDIA} {_SPORT} {_SOAP} "
    f"{_PAPER} {_DECOR} AlarmClock Box Cloth DishSponge HandTowel Laptop Newspaper RemoteControl SprayBottle Watch "
    "WateringCan"
)
_DESKTOP = (
    f"{_POCKET} {_WRITING} {_MEDIA} {_DECOR} {_PAPER} {_BOTTLES} {_CROCKERY} AlarmClock BasketBall Box Cloth Laptop "
    "Newspaper RemoteControl SprayBottle TennisRacket Watch WateringCan"
)
_SEAT = f"{_POCKET} BasketBall Book Box Cloth Laptop Newspaper Pillow RemoteControl"

CAN_CONTAIN: dict[str, frozenset[str]] = {
    receptacle: frozenset(groups.split())
    for receptacle, groups in {
        "ArmChair": _SEAT,
        "BathtubBasin": "Cloth DishSponge HandTowel SoapBar",
        "Bed": f"{_SPORT} Book CellPhone Laptop Newspaper Pillow TeddyBear",
        "Cabinet": f"{_CROCKERY} {_COOKWARE} {_SHAKERS} {_BOTTLES} {_SOAP} {_MEDIA} {_PAPER} Box Candle Cloth "
        "DishSponge HandTowel Ladle Newspaper Plunger SprayBottle Vase WateringCan",
        "Cart": f"{_SOAP} {_PAPER} {_DECOR} Cloth DishSponge HandTowel Mug Plunger SprayBottle",
        "CoffeeMachine": "Mug",
        "CoffeeTable": _SURFACE,
        "CounterTop": _SURFACE,
        "Desk": f"{_DESKTOP} SoapBottle",
        "DiningTable": _SURFACE,
        "Drawer": f"{_CUTLERY} {_SHAKERS} {_SOAP} {_PAPER} {_POCKET} {_WRITING} {_MEDIA} Candle Cloth "
        "DishSponge HandTowel Newspaper RemoteControl SprayBottle Watch WateringCan",
        "Dresser": _DESKTOP,
        "Fridge": f"{_FOOD} {_CROCKERY} {_BOTTLES} Pan Pot",
        "GarbageCan": f"{_FOOD} {_SOAP} {_PAPER} {_WRITING} CD Cloth DishSponge HandTowel Newspaper SprayBottle "
        "WineBottle",
        "HandTowelHolder": "HandTowel",
        "LaundryHamper": "Cloth",
        "Microwave": f"{_CROCKERY} Apple Bread Egg Glassbottle Potato Tomato",
        "Ottoman": _SEAT,
        "PaintingHanger": "",
        "Safe": f"{_POCKET} CD Statue Vase Watch",
        "Shelf": f"{_CROCKERY} {_SHAKERS} {_BOTTLES} {_SOAP} {_PAPER} {_POCKET} {_WRITING} {_MEDIA} {_DECOR} "
        "AlarmClock Box Cloth DishSponge HandTowel Kettle Newspaper Pot RemoteControl SprayBottle Watch WateringCan",
        "SideTable": _SURFACE,
        "SinkBasin": f"{_CUTLERY} {_CROCKERY} {_COOKWARE} Apple Cloth DishSponge Egg Glassbottle HandTowel "
        "Lettuce Potato SoapBar Tomato",
        "Sofa": _SEAT,
        "StoveBurner": _COOKWARE,
        "TVStand": "RemoteControl Statue TissueBox Vase",
        "Toaster": "",
        "Toilet": f"{_SOAP} {_PAPER} Candle Cloth DishSponge HandTowel Newspaper SprayBottle",
        "ToiletPaperHanger": "ToiletPaper",
        "TowelHolder": "Towel",
    }.items()
}
"""Receptacle type → object types that may be put in or on it."""

RECEPTACLES: tuple[str, ...] = tuple(CAN_CONTAIN)
OPENABLE = frozenset(["Cabinet", "Drawer", "Fridge", "Microwave", "Safe"])
PICKUPABLE = frozenset(f"{_SURFACE} Pillow Plunger TeddyBear Towel".split())
CLEANABLE = frozenset(
    f"{_CUTLERY} {_CROCKERY} {_COOKWARE} Apple Cloth DishSponge Egg Lettuce Potato SoapBar Tomato".split()
)
HEATABLE = frozenset(["Apple", "Bread", "Cup", "Egg", "Mug", "Plate", "Potato", "Tomato"])
COOLABLE = frozenset(f"{_FOOD} {_CROCKERY} Pan Pot WineBottle".split())
SLICEABLE = frozenset(_FOOD.split())
TOGGLEABLE = frozenset({"DeskLamp", "FloorLamp"})
RECEPTACLE_OBJECTS = frozenset(f"{_CROCKERY} Box Pan Pot".split())
_UNMOVED = (
    "Bathtub Blinds Boots Chair Curtains DeskLamp FloorLamp Footstool HousePlant LaundryHamperLid LightSwitch Mirror "
    "Painting PaperTowel PaperTowelRoll Poster ScrubBrush ShowerDoor ShowerGlass Sink StoveKnob Television "
    "ToiletPaperRoll Window"
)
FIXTURES = frozenset(_UNMOVED.split())
"""Things one sees but never carries. Official rooms let one pick up paper towel rolls and scrub brushes, which then fit
nowhere; here they stay where they are, so that no game has a dead end."""
OBJECTS: tuple[str, ...] = tuple(sorted(PICKUPABLE | FIXTURES))

_BASINS = {"SinkBasin": "Sink", "BathtubBasin": "Bathtub"}
_AFFORDANCES: tuple[tuple[str, frozenset[str]], ...] = (
    ("pickupable", PICKUPABLE),
    ("isReceptacleObject", RECEPTACLE_OBJECTS),
    ("cleanable", CLEANABLE),
    ("heatable", HEATABLE),
    ("coolable", COOLABLE),
    ("sliceable", SLICEABLE),
    ("toggleable", TOGGLEABLE),
)

TYPE_DECLARATIONS: tuple[tuple[str, str], ...] = tuple((f"{name}Type", "otype") for name in OBJECTS) + tuple(
    (f"{name}Type", "rtype") for name in RECEPTACLES
)
"""Every type as a PDDL object. The domain file needs some of them (KnifeType, SinkBasinType, …) even where absent."""


def object_id(kind: str, number: int) -> str:
    """Identifier of a type's `number`-th object, from 1: the engine numbers names by descending identifier."""
    return f"{kind}_bar__plus_00_dot_{100 - number:02d}"


def receptacle_id(kind: str, number: int) -> str:
    """Identifier of a receptacle; basins carry their name at the end, as the engine's naming rule expects."""
    if kind in _BASINS:
        return f"{object_id(_BASINS[kind], number)}_bar_{kind}"
    return object_id(kind, number)


def type_of(identifier: str) -> str:
    """Type of an object or receptacle: "Apple_bar_…" → "Apple", "Sink_bar_…_bar_SinkBasin" → "SinkBasin"."""
    parts = identifier.split("_bar_")
    return parts[-1] if parts[-1] in _BASINS else parts[0]


def spoken(kind: str) -> str:
    """The word a text uses for a type: "CounterTop" → "countertop"."""
    return kind.lower()


BY_WORD: dict[str, str] = {spoken(kind): kind for kind in (*OBJECTS, *RECEPTACLES)}
"""The type that a text's word means."""


def object_facts(kind: str, identifier: str) -> tuple[Fact, ...]:
    """The facts that hold for an object of this type wherever it lies."""
    affordances = ((predicate, identifier) for predicate, members in _AFFORDANCES if kind in members)
    return (("objectType", identifier, f"{kind}Type"), *affordances)
