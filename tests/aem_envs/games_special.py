"""Small ALFRED games, each made to reach corners of the rules that ordinary games hardly touch."""

from collections.abc import Iterable

from envs_data.alfworld.problem import Dialect, Fact, Formula, Problem

TYPES = ("KnifeType", "ButterKnifeType", "SinkType", "SinkBasinType", "MicrowaveType", "FridgeType")
"""The domain's constants: every problem must declare them."""
FOOD = ("pickupable", "cleanable", "heatable", "coolable", "sliceable")


def build(
    name: str,
    dialect: Dialect,
    receptacles: Iterable[tuple[str, str, str | None, str]],
    objects: Iterable[tuple[str, str, Iterable[str], Iterable[str]]],
    goal: Formula,
    *,
    extra: Iterable[Fact] = (),
    start: str = "loc_bar_start",
) -> Problem:
    """A game from (id, type, location or None, "" | "closed" | "open") receptacles and (id, type, containers,
    properties) objects. Every receptacle accepts every object type but `LampType`, which only tables do."""
    receptacles, objects, extra = list(receptacles), list(objects), list(extra)
    facts: list[Fact] = [("atLocation", "agent1", start)]
    spots: dict[str, str | None] = {}
    for thing, kind, spot, door in receptacles:
        spots[thing] = spot
        facts.append(("receptacleType", thing, kind))
        facts += [("receptacleAtLocation", thing, spot)] if spot else []
        facts += [("openable", thing)] if door else []
        facts += [("opened", thing)] if door == "open" else []
    for thing, kind, containers, properties in objects:
        facts.append(("objectType", thing, kind))
        facts += [(each, thing) for each in properties]
        for container in containers:
            facts.append(("inReceptacle", thing, container))
        lies = sorted({spot for container in containers if (spot := spots[container])})
        facts += [("objectAtLocation", thing, spot) for spot in lies[:1]]
    rtypes = sorted({kind for _, kind, _, _ in receptacles} | {t for t in TYPES if "Knife" not in t})
    otypes = sorted({kind for _, kind, _, _ in objects} | {t for t in TYPES if "Knife" in t})
    facts += [("canContain", r, o) for r in rtypes for o in otypes if o != "LampType" or r == "TableType"]
    facts += extra
    locations = {start} | {spot for spot in spots.values() if spot}
    locations |= {fact[2] for fact in extra if fact[0] in ("objectAtLocation", "receptacleAtLocation")}
    declared = [("agent1", "agent"), *((loc, "location") for loc in sorted(locations))]
    declared += [(thing, "receptacle") for thing, *_ in receptacles] + [(thing, "object") for thing, *_ in objects]
    declared += [(kind, "rtype") for kind in rtypes] + [(kind, "otype") for kind in otypes]
    return Problem(name, tuple(declared), tuple(facts), goal, "do as this game wants.", dialect)


def some(variable: str, kind: str, *parts: Formula) -> Formula:
    """exists variable - kind: all parts."""
    return ("exists", ((variable, kind),), ("and", *parts))


KITCHEN = (
    ("Fridge_bar_1", "FridgeType", "loc_bar_1", "closed"),
    ("Microwave_bar_1", "MicrowaveType", "loc_bar_2", "closed"),
    ("Sink_bar_1", "SinkType", "loc_bar_3", ""),
    ("Sink_bar_1_bar_SinkBasin", "SinkBasinType", "loc_bar_3", ""),
    ("Table_bar_1", "TableType", "loc_bar_4", ""),
    ("Cabinet_bar_1", "CabinetType", "loc_bar_5", "closed"),
)


def slicing(dialect: Dialect) -> Problem:
    """Knives, food in an open place and behind a door, a sliceable knife; wanted: a cold slice in the fridge."""
    objects = [
        ("Knife_bar_1", "KnifeType", ["Table_bar_1"], ("pickupable", "cleanable")),
        ("ButterKnife_bar_1", "ButterKnifeType", ["Table_bar_1"], ("pickupable", "cleanable", "sliceable", "heatable")),
        ("Apple_bar_1", "AppleType", ["Table_bar_1"], FOOD),
        ("Apple_bar_2", "AppleType", ["Fridge_bar_1"], FOOD),
        ("Bread_bar_1", "BreadType", ["Table_bar_1"], FOOD),
        ("Tomato_bar_1", "TomatoType", [], FOOD),
        ("Statue", "StatueType", ["Table_bar_1"], ("pickupable",)),  # no _bar_: its name ends in a blank
    ]
    wanted = (("objectType", "?o", "AppleType"), ("isSliced", "?o"), ("isCool", "?o"), ("inReceptacle", "?o", "?r"))
    goal = some("?r", "receptacle", ("receptacleType", "?r", "FridgeType"), some("?o", "object", *wanted))
    return build("slicing", dialect, KITCHEN, objects, goal, extra=[("objectAtLocation", "Tomato_bar_1", "loc_bar_4")])


def containers(dialect: Dialect) -> Problem:
    """Receptacle objects, empty, filled and nested, which can be carried and examined."""
    objects = [
        ("Bowl_bar_1", "BowlType", ["Table_bar_1"], ("pickupable", "isReceptacleObject", "heatable", "cleanable")),
        ("Pot_bar_1", "PotType", ["Cabinet_bar_1"], ("pickupable", "isReceptacleObject", "cleanable")),
        ("Plate_bar_1", "PlateType", ["Table_bar_1"], ("pickupable", "isReceptacleObject", "coolable")),
        ("Egg_bar_1", "EggType", ["Table_bar_1"], FOOD),
        ("Egg_bar_2", "EggType", ["Table_bar_1", "Cabinet_bar_1"], FOOD),
        ("Spoon_bar_1", "SpoonType", ["Table_bar_1"], ("pickupable", "cleanable")),
    ]
    inside = [("Egg_bar_1", "Bowl_bar_1"), ("Egg_bar_2", "Bowl_bar_1"), ("Spoon_bar_1", "Bowl_bar_1")]
    extra: list[Fact] = [("inReceptacleObject", a, b) for a, b in [*inside, ("Bowl_bar_1", "Plate_bar_1")]]
    goal = some("?o", "object", ("objectType", "?o", "BowlType"), ("isHot", "?o"), ("isReceptacleObject", "?o"))
    return build("containers", dialect, KITCHEN, objects, goal, extra=extra)


def shared(dialect: Dialect) -> Problem:
    """Four receptacles at one location, among them two appliances; objects in two receptacles at once; the agent starts
    there. Things moved between neighbours are then seen "next to" them."""
    receptacles = [
        ("Table_bar_1", "TableType", "loc_bar_1", ""),
        ("Table_bar_2", "TableType", "loc_bar_1", ""),
        ("Drawer_bar_1", "DrawerType", "loc_bar_1", "closed"),
        ("Microwave_bar_1", "MicrowaveType", "loc_bar_1", "open"),
        ("Fridge_bar_1", "FridgeType", "loc_bar_2", "closed"),
        ("Fridge_bar_2", "FridgeType", "loc_bar_2", ""),
        ("Shelf_bar_1", "ShelfType", None, ""),  # stands nowhere: cannot be reached
    ]
    objects = [
        ("Mug_bar_1", "MugType", ["Table_bar_1", "Drawer_bar_1"], FOOD),
        ("Mug_bar_2", "MugType", ["Table_bar_1", "Fridge_bar_1"], FOOD),
        ("Mug_bar_3", "MugType", ["Table_bar_1", "Table_bar_2", "Microwave_bar_1"], FOOD),
        ("Lamp_bar_1", "LampType", ["Table_bar_2"], ("toggleable",)),
        ("Lamp_bar_2", "LampType", ["Drawer_bar_1", "Table_bar_1"], ("toggleable", "pickupable")),
        ("Book_bar_1", "BookType", ["Shelf_bar_1"], ("pickupable",)),
    ]
    two = some(
        "?b", "object", ("not", ("=", "?a", "?b")), ("objectType", "?b", "MugType"), ("inReceptacle", "?b", "?r")
    )
    one = some("?a", "object", ("objectType", "?a", "MugType"), ("isHot", "?a"), ("inReceptacle", "?a", "?r"), two)
    goal = some("?r", "receptacle", ("receptacleType", "?r", "FridgeType"), one)
    return build("shared", dialect, receptacles, objects, goal, start="loc_bar_1")


def odd_start(dialect: Dialect) -> Problem:
    """Hands full, doors open, things already hot, clean, sliced or on at the start; won until a door is closed."""
    objects = [
        ("Apple_bar_1", "AppleType", [], (*FOOD, "isHot", "isClean", "isSliced")),
        ("Bread_bar_1", "BreadType", ["Table_bar_1"], (*FOOD, "isCool", "isClean", "isSliced")),
        ("Potato_bar_1", "PotatoType", ["Table_bar_1"], (*FOOD, "isHot", "isSliced")),
        ("Lettuce_bar_1", "LettuceType", ["Table_bar_1"], (*FOOD, "isCool")),
        ("Candle_bar_1", "CandleType", ["Table_bar_1"], ("pickupable", "toggleable", "isToggled", "isOn", "cleanable")),
        ("Torch_bar_1", "TorchType", ["Table_bar_1", "Cabinet_bar_1"], ("pickupable", "toggleable", "heatable")),
    ]
    kitchen = [(r, kind, spot, "open" if door else "") for r, kind, spot, door in KITCHEN]
    extra: list[Fact] = [("holds", "agent1", "Apple_bar_1"), ("holdsAny", "agent1"), ("opened", "Table_bar_1")]
    goal = ("forall", (("?r", "receptacle"),), ("imply", ("openable", "?r"), ("opened", "?r")))
    return build("odd_start", dialect, kitchen, objects, goal, extra=extra, start="loc_bar_4")


def _odd_goals() -> dict[str, Formula]:
    apple, table = ("objectType", "?o", "AppleType"), ("receptacleType", "?r", "TableType")
    return {
        "none_left": (
            "not",
            some("?o", "object", apple, some("?r", "receptacle", table, ("inReceptacle", "?o", "?r"))),
        ),
        "either": (
            "or",
            ("opened", "Fridge_bar_1"),
            some("?o", "object", ("holds", "agent1", "?o"), ("isClean", "?o")),
        ),
        "everything": (
            "forall",
            (("?x", "object"),),  # PDDL's `object` is also the receptacles' and locations' supertype
            ("imply", ("objectType", "?x", "AppleType"), ("or", ("isHot", "?x"), ("isCool", "?x"))),
        ),
        "emptied": ("forall", (("?x", "object"),), ("not", ("inReceptacle", "?x", "Cabinet_bar_1"))),
        "looked": ("and", ("checked", "Cabinet_bar_1"), ("checked", "agent1"), ("not", ("opened", "Cabinet_bar_1"))),
        "placed": (
            "and",
            ("not", ("holdsAny", "agent1")),
            ("not", ("objectAtLocation", "Apple_bar_1", "loc_bar_4")),
            some("?l", "location", ("atLocation", "agent1", "?l"), ("objectAtLocation", "Apple_bar_1", "?l")),
        ),
        "switched_off": some("?o", "object", ("isToggled", "?o"), ("not", ("isOn", "?o"))),
        "nested": (
            "forall",
            (("?r", "receptacle"),),
            (
                "or",
                ("not", table),
                some("?o", "object", ("inReceptacle", "?o", "?r"), ("not", apple), ("pickupable", "?o")),
            ),
        ),
    }


ODD_GOALS = _odd_goals()

_SHOW = ("take {0}", "examine {0}", "inventory", "look", "(put|move) {0} .*table")
SCRIPTS: dict[str, tuple[str, ...]] = {
    "slicing": (
        *("go to table", "examine table", "take butterknife", "examine butterknife", "slice apple", "slice bread"),
        *("slice tomato", "(put|move) butterknife .*table", "take bread", "examine bread", "(put|move) bread .*table"),
        *(
            "take apple",
            "examine apple",
            "go to fridge",
            "cool apple",
            "examine apple",
            "open fridge",
            "(put|move) apple",
        ),
        *(
            "examine fridge",
            "go to table",
            "take knife",
            "go to fridge",
            "slice apple 1",
            "close fridge",
            "slice apple 2",
        ),
    ),
    "containers": (
        *("go to table", "take bowl", "examine bowl", "go to microwave", "heat bowl", "examine bowl", "go to table"),
        *("(put|move) bowl", "take plate", "examine plate", "(put|move) plate", "take egg 1", "go to cabinet"),
        *("open cabinet", "(put|move) egg 1", "examine cabinet", "take pot", "examine pot", "look", "inventory"),
    ),
    "shared": (
        *("open drawer", "take mug 1 from table 1", "(put|move) mug 1 .*microwave", "take mug 1 from table 2"),
        *("(put|move) mug 1 .*drawer", "look", "take mug 1 from drawer", "(put|move) mug 1 .*table 1", "look"),
        *("take mug 3 from table", "(put|move) mug 3 .*table 1", "look", "take mug 1", "heat mug 1"),
        *("(put|move) mug 1 .*drawer", "look", "take mug 2", "(put|move) mug 2 .*microwave", "look", "close microwave"),
        *("look", "close drawer", "use lamp", "take mug 1", "heat mug 1", "go to fridge 1", "open fridge", "cool mug"),
        *("go to table", "heat mug 1", "go to fridge", "(put|move) mug 1 .*fridge 2", "go to drawer", "look"),
    ),
    "odd_start": (
        *(
            "examine apple",
            "(put|move) apple",
            *(step.format(thing) for thing in ("bread", "potato") for step in _SHOW),
        ),
        *(step.format(thing) for thing in ("lettuce", "candle", "torch") for step in _SHOW),
        *(
            "use candle",
            "use torch",
            *(step.format("torch") for step in _SHOW),
            "go to fridge",
            "close fridge",
            "open fridge",
        ),
    ),
    "none_left": ("go to table", "take apple", "(put|move) apple"),
    "switched_off": ("go to table", "use lamp", "use lamp", "use lamp"),
    "either": ("go to fridge", "open fridge", "close fridge"),
    "everything": (
        *(
            "go to table",
            "take apple",
            "go to fridge",
            "cool apple",
            "go to table",
            "(put|move) apple",
            "go to cabinet",
        ),
        *("open cabinet", "take apple", "go to microwave", "heat apple", "go to fridge", "cool apple"),
    ),
    "emptied": ("go to cabinet", "open cabinet", "take apple", "(put|move) apple"),
    "placed": ("go to table", "take apple", "go to sink", "(put|move) apple", "go to table"),
}
"""Patterns of commands that lead each game through its corners, and to a win: the first admissible match is meant."""


def odd_goal(dialect: Dialect, which: str) -> Problem:
    """One kitchen under a goal no official game has."""
    objects = [
        ("Apple_bar_1", "AppleType", ["Table_bar_1"], FOOD),
        ("Apple_bar_2", "AppleType", ["Cabinet_bar_1"], FOOD),
        ("Spoon_bar_1", "SpoonType", ["Table_bar_1"], ("pickupable", "cleanable")),
        ("Lamp_bar_1", "LampType", ["Table_bar_1"], ("toggleable",)),
    ]
    return build(which, dialect, KITCHEN, objects, ODD_GOALS[which])


def special_problems(dialect: Dialect) -> list[Problem]:
    """All of them."""
    rooms = [slicing(dialect), containers(dialect), shared(dialect), odd_start(dialect)]
    return rooms + [odd_goal(dialect, which) for which in ODD_GOALS]
