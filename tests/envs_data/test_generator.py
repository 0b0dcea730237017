"""Embedded games: reproducible, complete, winnable, never won at the start."""

import random
import subprocess
import sys
from collections import Counter

import pytest

from envs_data.alfworld.generator import generate, problem_for
from envs_data.alfworld.goals import SENTENCES, read_sentence
from envs_data.alfworld.problem import TASK_TYPES, Problem
from envs_data.alfworld.rooms import PRIORS, ROOMS, SIZES
from envs_data.alfworld.splits import SPLITS, scheduled_type
from envs_data.alfworld.tw_pddl import check_problem, parse_problem, render_problem
from envs_data.alfworld.vocabulary import BY_WORD, CAN_CONTAIN, OBJECTS, PICKUPABLE, RECEPTACLES, type_of
from envs_data.errors import UnknownSplitError, UnknownTaskError

GAMES = [(split, index, size) for size in SIZES for split in SPLITS for index in range(30)]


def _facts(problem: Problem, predicate: str) -> list[tuple[str, ...]]:
    return [fact[1:] for fact in problem.facts if fact[0] == predicate]


def test_same_arguments_same_game_whatever_came_before() -> None:
    first = generate("train", 7, size="medium")
    random.seed(1)
    for index in range(20):
        generate("valid_unseen", index)
    assert generate("train", 7, size="medium") == first
    code = "from envs_data.alfworld.generator import generate; print(hash(0), generate('train', 7, size='medium'))"
    for seed in ("0", "1"):  # another process, another hash seed
        run = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == f"0 {first}"


def test_dialect_changes_nothing_but_itself() -> None:
    old, current = (generate("train", 3, dialect=dialect) for dialect in ("old", "current"))
    assert (old.objects, old.facts, old.goal, old.task) == (current.objects, current.facts, current.goal, current.task)
    assert (old.dialect, current.dialect) == ("old", "current")


@pytest.mark.parametrize("split", SPLITS)
def test_task_types_are_balanced_in_every_block_of_six(split: str) -> None:
    kinds = [read_sentence(generate(split, index).task).task_type for index in range(60)]
    assert all(set(kinds[start : start + 6]) == set(TASK_TYPES) for start in range(0, 60, 6))
    assert len({tuple(kinds[start : start + 6]) for start in range(0, 60, 6)}) > 3, "the order varies"


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_type_can_be_asked_for(kind: str) -> None:
    assert {read_sentence(generate("train", n, task_type=kind).task).task_type for n in range(12)} == {kind}
    number = next(n for n in range(6) if scheduled_type("train", n) != kind)  # its own type is not named in an id
    assert read_sentence(problem_for(f"small/train/{number:06d}/{kind}").task).task_type == kind


@pytest.mark.parametrize(("split", "index", "size"), GAMES)
def test_game_is_complete_and_consistent(split: str, index: int, size: str) -> None:
    problem = generate(split, index, size=size)
    check_problem(problem, name=problem.name)
    names = [name for name, _ in problem.objects]
    assert len(names) == len(set(names)) and len(problem.facts) == len(set(problem.facts))
    assert {"KnifeType", "ButterKnifeType", "SinkBasinType", "MicrowaveType", "FridgeType"} <= set(names)
    place = dict(_facts(problem, "receptacleAtLocation"))
    inside = dict(_facts(problem, "inReceptacle"))
    assert dict(_facts(problem, "objectAtLocation")) == {thing: place[where] for thing, where in inside.items()}
    (start,) = [location for _, location in _facts(problem, "atLocation")]
    assert start not in place.values(), "the agent starts in the middle of the room"
    objects = [name for name, kind in problem.objects if kind == "object"]
    assert set(objects) == set(inside) and len(inside) == len(_facts(problem, "inReceptacle"))


@pytest.mark.parametrize(("split", "index", "size"), GAMES)
def test_goal_can_be_reached_and_is_not_reached_yet(split: str, index: int, size: str) -> None:
    problem = generate(split, index, size=size)
    goal = read_sentence(problem.task)
    kind, end = BY_WORD[goal.kind], BY_WORD[goal.to]
    inside = dict(_facts(problem, "inReceptacle"))
    targets = [thing for thing in inside if type_of(thing) == kind]
    assert len(targets) >= (2 if goal.task_type == "pick_two_obj_and_place" else 1)
    assert all((thing,) in _facts(problem, "pickupable") for thing in targets)
    here = {kind.removesuffix("Type") for _, kind in _facts(problem, "receptacleType")}
    if goal.task_type == "look_at_obj_in_light":
        lamps = [thing for thing in inside if type_of(thing) == end]
        assert lamps and all((lamp,) in _facts(problem, "toggleable") for lamp in lamps)
    else:
        assert end in here and (f"{end}Type", f"{kind}Type") in _facts(problem, "canContain")
    if goal.task_type in ("pick_and_place_simple", "pick_two_obj_and_place"):
        assert all(type_of(inside[thing]) != end for thing in targets)
    for verb, predicate, appliance in (
        ("clean", "cleanable", "SinkBasin"),
        ("heat", "heatable", "Microwave"),
        ("cool", "coolable", "Fridge"),
    ):
        if goal.task_type.startswith(f"pick_{verb}"):
            assert appliance in here and all((thing,) in _facts(problem, predicate) for thing in targets)


@pytest.mark.parametrize("size", SIZES)
def test_whatever_can_be_picked_up_can_be_put_down(size: str) -> None:
    for index in range(120):
        problem = generate("train", index, size=size)
        fits = {kind for _, kind in _facts(problem, "canContain")}
        assert {f"{type_of(thing)}Type" for (thing,) in _facts(problem, "pickupable")} <= fits


def test_sizes_are_what_they_say() -> None:
    receptacles, others = {}, {}
    for size in SIZES:
        problems = [generate("train", index, size=size) for index in range(200)]
        receptacles[size] = [len(_facts(p, "receptacleType")) for p in problems]
        others[size] = [len(_facts(p, "inReceptacle")) for p in problems]
    assert 10 <= sum(receptacles["small"]) / 200 <= 12 and max(others["small"]) <= 13
    assert max(receptacles["small"]) < 20 <= min(receptacles["official"])
    assert sum(receptacles["small"]) < sum(receptacles["medium"]) < sum(receptacles["official"])
    assert min(others["official"]) >= 13 and 40 <= max(others["official"]) <= 60


def test_official_rooms_have_shared_locations_and_closed_doors() -> None:
    problem = generate("train", 0, size="official", task_type="pick_heat_then_place_in_recep")
    places = Counter(location for _, location in _facts(problem, "receptacleAtLocation"))
    assert max(places.values()) == 2
    assert len(_facts(problem, "openable")) > 10 and not _facts(problem, "opened")


def test_real_problem_text_reads_back_unchanged() -> None:
    problem = generate("valid_unseen", 5, size="official")
    again = parse_problem(render_problem(problem), task=problem.task, dialect=problem.dialect, name="x")
    lower = [tuple(part.lower() for part in fact) for fact in problem.facts]
    assert [tuple(part.lower() for part in fact) for fact in again.facts] == lower
    assert again.task == problem.task


def test_priors_speak_of_known_things_that_fit() -> None:
    for room in ROOMS:
        for kind, places in PRIORS[room].items():
            assert kind in OBJECTS and set(places) <= set(RECEPTACLES)
            assert kind not in PICKUPABLE or all(kind in CAN_CONTAIN[place] for place in places), kind


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_both_sentence_patterns_read_back(kind: str) -> None:
    for way in SENTENCES[kind]:
        goal = read_sentence(way.format(obj="soapbar", to="handtowelholder") + ".")
        assert (goal.task_type, goal.kind, goal.to) == (kind, "soapbar", "handtowelholder")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: generate("test", 0), UnknownSplitError),
        (lambda: generate("train", -1), UnknownTaskError),
        (lambda: generate("valid_seen", 504), UnknownTaskError),
        (lambda: generate("train", 0, size="huge"), UnknownTaskError),
        (lambda: generate("train", 0, task_type="pick_and_throw"), UnknownTaskError),
        (lambda: problem_for("small/train"), UnknownTaskError),
        (lambda: problem_for("small/train/xx"), UnknownTaskError),
        (lambda: problem_for("small/train/²"), UnknownTaskError),
        (lambda: problem_for("small/train/1/pick_and_throw"), UnknownTaskError),
        (lambda: problem_for("small/test/000001"), UnknownSplitError),
        (lambda: problem_for("../../etc/passwd"), UnknownTaskError),
        (lambda: read_sentence("make coffee."), UnknownTaskError),
    ],
)
def test_unknown_things_are_named_errors(call: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"known|expected|no embedded|cannot read"):
        call()  # type: ignore[operator]
