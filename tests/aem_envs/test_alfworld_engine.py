"""The native engine by itself: names, texts, commands, snapshots, goals, refusals. (Equality with the real engine:
`test_alfworld_engine_real.py`.)"""

import json
import sys
from dataclasses import replace
from typing import Any

import pytest
from alfworld_walks import GARBAGE, Walk
from games_special import FOOD, KITCHEN, ODD_GOALS, SCRIPTS, build, odd_goal, shared, slicing, some, special_problems

from aem_envs.alfworld.engine import Game
from aem_envs.alfworld.text import CLEAN, COOL, HOT, SLICED, TOGGLED, describe_object, display_names, listing
from aem_envs.alfworld.world import World
from aem_envs.core import BadStateError
from envs_data.alfworld.generator import generate
from envs_data.alfworld.problem import TASK_TYPES, Formula, Problem
from envs_data.errors import GameFileError

PROBLEMS = [*special_problems("current"), *special_problems("old")[:4], *(generate("train", i) for i in range(6))]
NOTHING = "Nothing happens."


def test_names_are_numbered_downwards_and_listed_as_in_the_real_engine() -> None:
    names = display_names(
        ["apple_bar_b", "apple_bar_a", "sink_bar_x_bar_sinkbasin", "sink_bar_x", "curtains", "a_minus_b"]
    )
    assert names == {
        "apple_bar_a": "apple 2",
        "apple_bar_b": "apple 1",
        "sink_bar_x": "sink 1",
        "sink_bar_x_bar_sinkbasin": "sinkbasin 1",
        "curtains": "curtains ",
        "a_minus_b": "a-b ",
    }

    wanted = ["nothing", "a x", "a x, and a y", "a x, a y, and a z"]
    assert [listing(["x", "y", "z"][:count]) for count in range(4)] == wanted


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (0, "There's nothing special about egg 1."),
        (COOL, "This is a cold egg 1."),
        (COOL | CLEAN, "This is a cool and clean egg 1."),
        (HOT | SLICED, "This is a hot sliced egg 1."),
        (HOT | CLEAN | SLICED | TOGGLED, "This is a hot and clean sliced egg 1."),
        (TOGGLED | SLICED, "This egg 1 is on."),
        (SLICED, "This is a sliced egg 1."),
    ],
)
def test_objects_are_described_by_their_properties(flags: int, sentence: str) -> None:
    assert describe_object("egg 1", flags, toggleable=True, sliceable=True) == sentence


def test_a_whole_episode_reads_right() -> None:
    game = Game(World.compile(slicing("current")))
    assert game.reset() == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see a "
        "cabinet 1, a fridge 1, a microwave 1, a sink 1, a sinkbasin 1, and a table 1."
        "\n\nYour task is to: do as this game wants."
    )
    dialogue = [
        ("look", "You are in the middle of a room. Looking quickly around you, you see nothing."),
        ("go to sink 1", "You arrive at sink 1. On the sink 1, you see nothing."),
        ("go to sinkbasin 1", NOTHING),  # the same location
        ("look", "You are facing the sink 1, and sinkbasin 1. Next to it, you see nothing."),
        ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."),
        ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see a apple 1."),
        ("take apple 1 from fridge 1", "You pick up the apple 1 from the fridge 1."),
        ("cool apple 1 with fridge 1", "You cool the apple 1 using the fridge 1."),
        ("examine apple 1", "This is a cold apple 1."),
        ("inventory", "You are carrying: a apple 1."),
        ("put apple 1 in/on fridge 1", NOTHING),  # the other dialect's
        ("move apple 1 to fridge 1", "You move the apple 1 to the fridge 1."),
        ("examine apple 1", NOTHING),  # only what is held
        ("close fridge 1", "You close the fridge 1."),
    ]
    assert [(command, game.step(command)) for command, _ in dialogue] == dialogue
    assert not game.won and game.score == 0
    old = Game(World.compile(slicing("old")))
    assert (
        old.step("help") == NOTHING
        and old.step("  go to sink 1\n") == "You arrive at loc 4. On the sink 1, you see nothing."
    )


def test_what_is_moved_between_neighbours_is_seen_next_to_them() -> None:
    game = Game(World.compile(shared("current")))
    facing = "You are facing the drawer 1, microwave 1, table 2, and table 1. Next to it, you see "
    assert game.step("look") == facing + "nothing."
    for command in ("open drawer 1", "take mug 2 from table 2", "move mug 2 to drawer 1"):
        game.step(command)
    assert game.step("look") == facing + "a mug 2."
    for command in ("take mug 1 from table 2", "move mug 1 to microwave 1", "take mug 1 from table 1"):
        game.step(command)
    assert game.step("look") == facing + "a mug 2."  # mug 1 is held, though still in the microwave
    game.step("move mug 1 to drawer 1")
    assert game.step("look") == facing + "a mug 2, a mug 1, and a mug 1."  # once for each receptacle it was taken from
    game.step("take mug 2 from drawer 1")
    game.step("move mug 2 to table 2")
    assert "a mug 2, a mug 1, and a mug 1" in game.step("look")  # now it was taken from the drawer


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: f"{problem.name}-{problem.dialect}")
def test_admissible_is_exactly_what_is_accepted(problem: Problem) -> None:
    walk = Walk(World.compile(problem), 1)
    walk.wander(80)
    everything = {command for record in walk.records for command in record.admissible}
    assert all(record.admissible == sorted(set(record.admissible)) for record in walk.records)
    game = walk.game
    before = game.state()
    for command in sorted(everything | set(GARBAGE)):
        admissible = game.admissible()
        accepted = game.step(command) != NOTHING
        assert accepted == (command in admissible), command
        if not accepted:
            assert game.state() == before, command
        game.load_state(before)


@pytest.mark.parametrize("problem", PROBLEMS[:6], ids=lambda problem: f"{problem.name}-{problem.dialect}")
def test_snapshots_restore_every_moment(problem: Problem) -> None:
    world = World.compile(problem)
    walk = Walk(world, 2)
    states, anchors = [walk.game.state()], [walk.game.anchor()]
    for _ in range(40):
        walk.wander(1)
        states.append(walk.game.state())
        anchors.append(walk.game.anchor())
    fresh = Game(world)
    for number, state in enumerate(states):
        fresh.load_state(json.loads(json.dumps(state)))
        assert (fresh.state(), fresh.anchor()) == (state, anchors[number])
        record = walk.records[number]
        assert (fresh.admissible(), fresh.won) == (record.admissible, record.won)
        if number + 1 < len(states):
            following = walk.records[number + 1]
            assert fresh.step(str(following.command)) == following.text
            assert fresh.state() == states[number + 1]


@pytest.mark.parametrize(
    "change",
    [
        {"location": 99}, {"location": -1}, {"location": True}, {"location": "1"}, {"held": 99}, {"held": -2},
        {"held": None}, {"contents": [[0, [5, 1]]]}, {"contents": [[0, [1, 1]]]}, {"contents": [[99, []]]},
        {"contents": [[0]]}, {"contents": 3}, {"contents": [[1, []], [0, []]]}, {"doors": [3]},
        {"doors": [0, 0]}, {"doors": {}}, {"flags": [[0, 64]]},
        {"flags": [[0, -1]]}, {"flags": [["x", 1]]}, {"places": [[0, [99]]]}, {"parted": [[0]]}, {"parted": [[0, 99]]},
        {"checked": ["elsewhere"]}, {"checked": [7]}, {"checked": "agent1"}, {"version": 2}, {"game": "other"},
        {"more": 1},
    ],
)  # fmt: skip
def test_forged_snapshots_are_refused_and_change_nothing(change: dict[str, Any]) -> None:
    game = Game(World.compile(slicing("current")))
    game.step("go to fridge 1")
    good = game.state()
    with pytest.raises(BadStateError):
        game.load_state(good | change)
    assert game.state() == good
    junk: object
    for junk in (None, [], "x", 3, {}, {"version": 1}):
        with pytest.raises(BadStateError):
            game.load_state(junk)


def test_episodes_share_the_world_but_not_their_state() -> None:
    world = World.compile(generate("train", 3, size="official"))
    one, two = Walk(world, 1), Game(world)
    start = two.state()
    one.wander(60)
    assert two.state() == start != one.game.state()
    own = [one.game.contents, one.game.closed, one.game.flags, one.game.places, one.game.parted, one.game.checked]
    assert sum(map(sys.getsizeof, [one.game, *own])) + 80 * len(one.game.contents) < 20_000
    one.game.reset()
    assert one.game.state() == start


def test_the_anchor_is_what_the_agent_can_know() -> None:
    game = Game(World.compile(slicing("current")))
    seen = [game.anchor()]
    for command in ("go to fridge 1", "open fridge 1", "take apple 1 from fridge 1", "cool apple 1 with fridge 1"):
        game.step(command)
        seen.append(game.anchor())
    assert len(set(seen)) == 5
    for command in ("look", "inventory", "examine fridge 1", "nonsense"):
        game.step(command)
        assert game.anchor() == seen[-1]
    elsewhere = Game(game.world)
    elsewhere.closed[elsewhere.world.receptacle_numbers["cabinet 1"]] = 0  # cannot be seen from the start
    assert elsewhere.anchor() == seen[0] == "4f11445b5c19139d"  # in every process


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_the_task_is_read_from_the_goal(task_type: str) -> None:
    task = World.compile(generate("train", 0, task_type=task_type)).task
    assert task.task_type == task_type and task.object_type
    assert task.count == (2 if task_type == "pick_two_obj_and_place" else 1)
    assert (task.lamp_type is not None) == (task.receptacle_type is None) == (task_type == "look_at_obj_in_light")
    needs = {"pick_clean_then_place_in_recep": "clean", "pick_heat_then_place_in_recep": "hot"}
    assert task.need == needs.get(task_type, "cool" if "cool" in task_type else None)


@pytest.mark.parametrize("which", sorted(set(SCRIPTS) & set(ODD_GOALS)))
def test_odd_goals_are_won_and_lost(which: str) -> None:
    walk = Walk(World.compile(odd_goal("current", which)), 0)
    walk.follow(SCRIPTS[which])
    assert walk.game.world.task.task_type == "other"
    assert {record.won for record in walk.records} == {True, False}


def test_the_whole_state_is_readable() -> None:
    game = Game(World.compile(shared("current")))
    by_name = {receptacle.name: receptacle for receptacle in game.receptacles()}
    assert by_name["drawer 1"].openable and not by_name["drawer 1"].open and by_name["shelf 1"].location is None
    assert by_name["table 2"].location == by_name["microwave 1"].location == game.location
    number = game.world.object_numbers["mug 1"]
    mug = game.objects()[number]
    assert (mug.type, mug.where, mug.held) == ("mug", ("microwave 1", "table 2", "table 1"), False)
    for command in ("take mug 1 from microwave 1", "heat mug 1 with microwave 1"):
        game.step(command)
    mug = game.objects()[number]
    assert mug.held and mug.hot and mug.where == ("table 2", "table 1")
    for command in ("go to fridge 1", "cool mug 1 with fridge 1"):
        game.step(command)
    assert game.objects()[number].cool and not game.objects()[number].hot


def kitchen(goal: Formula) -> Problem:
    return build("k", "current", KITCHEN, [("Apple_bar_1", "AppleType", ["Table_bar_1"], FOOD)], goal)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (("flying", "agent1"), "unknown predicate"),
        (("holds", "agent1"), "wrong number of arguments"),
        (("holds", "agent1", "?o"), "free variable"),
        (("holds", "agent1", "Pear_bar_9"), "undeclared"),
        (some("?x", "unicorn", ("isHot", "?x")), "unknown type"),
        (some("?x", "object", ("objectType", "?x", "PearType")), "undeclared"),
        (some("?x", "object", ("objectType", "?x", "?y"), ("isHot", "?x")), "free variable"),
        (("exists", tuple((f"?x{i}", "object") for i in range(9)), ("isHot", "?x0")), "expands to more than"),
    ],
)
def test_impossible_goals_are_refused(goal: Formula, said: str) -> None:
    with pytest.raises(GameFileError, match=said):
        World.compile(kitchen(goal))


def test_constant_goals_need_no_state() -> None:
    assert Game(World.compile(kitchen(("and",)))).won
    assert not Game(World.compile(kitchen(("or",)))).won
    inner = some("?o", "object", ("receptacleType", "?r", "FridgeType"), ("inReceptacle", "?o", "?r"))
    assert not Game(World.compile(kitchen(some("?r", "receptacle", inner)))).won  # the apple is on the table
    assert Game(World.compile(kitchen(("not", ("inReceptacle", "Table_bar_1", "Apple_bar_1"))))).won  # wrong way round


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (("receptacleAtLocation", "Table_bar_1", "loc_bar_1"), "two locations"),
        (("atLocation", "agent1", "loc_bar_1"), "starts at 2"),
        (("holdsAny", "agent1"), "contradictory"),
        (("holds", "agent1", "Apple_bar_1"), "contradictory"),
        (("inReceptacle", "Apple_bar_1", "agent1"), "not a declared receptacle"),
        (("inReceptacle", "Apple_bar_1"), "wrong number"),
        (("levitates", "agent1"), "unknown predicate"),
    ],
)
def test_worlds_outside_the_rules_are_refused(fact: tuple[str, ...], said: str) -> None:
    problem = kitchen(("and",))
    with pytest.raises(GameFileError, match=said):
        World.compile(replace(problem, facts=(*problem.facts, fact)))


def test_things_of_one_name_are_refused() -> None:
    things = [(name, "AppleType", ["Table_bar_1"], FOOD) for name in ("a_minus_b", "a-b")]
    with pytest.raises(GameFileError, match="same name"):
        World.compile(build("k", "current", KITCHEN, things, ("and",)))


def test_huge_and_strange_commands_do_nothing() -> None:
    game = Game(World.compile(slicing("current")))
    before = game.state()
    for command in (
        "x" * 10_000_000,
        "take " * 1000,
        "\x00",
        "\ud800",
        "go to \u202efridge 1",
        "look\nlook",
        "LOOK",
        " ",
    ):
        assert game.step(command) == NOTHING
    assert game.state() == before
