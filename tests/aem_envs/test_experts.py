"""Both experts win, in both dialects, from wherever they are put; each uses only what it may know."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aem_envs.alfworld import planner, reader
from aem_envs.alfworld.engine import Game
from aem_envs.alfworld.expert import Expert, SearchExpert, walkthrough
from aem_envs.alfworld.world import World
from aem_envs.core import BadOptionError
from envs_data.alfworld.generator import generate
from envs_data.alfworld.official import OfficialData
from envs_data.alfworld.problem import TASK_TYPES, Problem
from envs_data.alfworld.rooms import SIZES
from envs_data.alfworld.splits import SPLITS
from envs_data.errors import UnknownTaskError

Player = Expert | SearchExpert


def play(problem: Problem, expert: Player, limit: int = 50, *, before: tuple[str, ...] = ()) -> list[str]:
    """Actions until the game is won; empty if it is not. `before`: what somebody else does first, unasked."""
    game = Game(World.compile(problem))
    observation = game.reset()
    info: dict[str, Any] = {"task_id": problem.name, "seed": 0, "admissible_actions": game.admissible()}
    expert.reset(SimpleNamespace(game=game), observation, info)  # type: ignore[arg-type]
    actions: list[str] = []
    for step in range(limit):
        action = expert.act(observation, info)
        if step < len(before):
            action = before[step]
        actions.append(action)
        observation = game.step(action)
        info = {"parsed_action": action, "admissible_actions": game.admissible()}
        if game.won:
            return actions
    return []


def wins(problems: list[Problem], make: Callable[[], Player], limit: int = 50) -> float:
    return sum(bool(play(problem, make(), limit)) for problem in problems) / len(problems)


@pytest.mark.parametrize("dialect", ["old", "current"])
@pytest.mark.parametrize("size", SIZES)
def test_expert_wins_every_embedded_game(size: str, dialect: Any) -> None:
    for split in SPLITS:
        for index in range(36):
            actions = play(generate(split, index, size=size, dialect=dialect), Expert(), 25)
            assert actions, f"{size}/{split}/{index}"


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_expert_wins_a_third_of_all_valid_games(size: str) -> None:
    for split in SPLITS:
        for index in range(0, 504, 3):
            assert play(generate(split, index, size=size), Expert(), 25), f"{size}/{split}/{index}"


@pytest.mark.parametrize("order", planner.ORDERS)
def test_search_wins_default_games(order: Any) -> None:
    problems = [generate(split, index) for split in SPLITS for index in range(42)]
    assert wins(problems, lambda: SearchExpert(order=order)) >= 0.99
    assert wins(problems, lambda: SearchExpert(order=order), 20) >= 0.85


def test_search_by_prior_wins_large_rooms() -> None:
    problems = [generate(split, index, size="official") for split in SPLITS for index in range(24)]
    assert wins(problems, lambda: SearchExpert(order="prior")) >= 0.97
    assert wins(problems, SearchExpert) >= 0.6


def test_official_games(official_alfworld: Path) -> None:
    data = OfficialData(official_alfworld)
    problems = [data.load(game.task_id) for game in data.games("valid_seen")]
    assert wins(problems, Expert, 20) == 1.0
    assert wins(problems, lambda: SearchExpert(order="prior")) >= 0.97
    assert wins(problems, SearchExpert) >= 0.85


@pytest.mark.parametrize("kind", TASK_TYPES)
@pytest.mark.parametrize("make", [Expert, SearchExpert, lambda **o: SearchExpert(order="prior", **o)])
def test_noise_is_survived_and_repeats(kind: str, make: Callable[..., Player]) -> None:
    problems = [generate("train", index, task_type=kind) for index in range(15)]
    played = [play(problem, make(noise=0.25, seed=3), 120) for problem in problems]
    assert all(played), "every game is won in the end"
    assert played == [play(problem, make(noise=0.25, seed=3), 120) for problem in reversed(problems)][::-1]
    assert played != [play(problem, make(noise=0.25, seed=4), 120) for problem in problems]


def test_noise_is_as_frequent_as_asked_and_marked() -> None:
    game = Game(World.compile(generate("train", 0)))
    expert = Expert(noise=0.3)
    observation = game.reset()
    expert.reset(SimpleNamespace(game=game), observation, {})  # type: ignore[arg-type]
    random_ones = 0
    for _ in range(2000):
        action = expert.act("", {"admissible_actions": game.admissible()})
        random_ones += expert.acted_at_random
        assert expert.acted_at_random or action == planner.next_action(expert._belief())
    assert 500 < random_ones < 700


def test_noise_includes_refused_commands() -> None:
    refused = 0
    for index in range(30):
        game = Game(World.compile(generate("train", index)))
        for action in play(generate("train", index), SearchExpert(noise=0.3), 80):
            refused += game.step(action) == "Nothing happens."
    assert refused > 10


def test_plans_from_where_others_have_moved_it() -> None:
    problem = generate("train", 2, task_type="pick_clean_then_place_in_recep", dialect="old")
    world = World.compile(problem)
    wanted = world.task.object_type
    other = next(n for n in world.object_names if planner.kind_of(n) not in (wanted, "desklamp") and n.endswith(" 1"))
    places = {thing.name: thing.where for thing in Game(world).objects()}
    if not places[other]:
        pytest.skip("nothing else in this room")
    place = places[other][0]
    before = (f"go to {place}", f"open {place}", f"take {other} from {place}", "inventory")
    for expert in (Expert(), SearchExpert(), SearchExpert(order="prior")):
        actions = play(problem, expert, before=before)
        assert actions[4] == f"put {other} in/on {place}", "it knows where it stands and what it holds"


def test_search_learns_only_from_texts() -> None:
    """It wins a game that it never gets hold of, with an empty info."""
    problem = generate("train", 1)
    game, expert = Game(World.compile(problem)), SearchExpert()
    observation = game.reset()
    expert.reset(None, observation, {})  # type: ignore[arg-type]
    for _ in range(40):
        observation = game.step(expert.act(observation, {}))
        if game.won:
            break
    assert game.won


def test_room_order_goes_down_the_list() -> None:
    problem = generate("train", 0, task_type="pick_and_place_simple")
    room = reader.first_belief(World.compile(problem).intro, "room").receptacles
    visited = [a.removeprefix("go to ") for a in play(problem, SearchExpert()) if a.startswith("go to ")]
    assert visited[:-1] == room[: len(visited) - 1]


def test_two_objects_end_up_in_one_place() -> None:
    for index in range(40):
        problem = generate("train", index, size="medium", task_type="pick_two_obj_and_place")
        puts = [a for a in play(problem, SearchExpert(order="prior")) if a.startswith("move ")]
        assert len(puts) == 2 and len({put.partition(" to ")[2] for put in puts}) == 1


@pytest.mark.parametrize(
    ("text", "things"),
    [
        ("On the shelf 1, you see nothing.", []),
        ("On the shelf 1, you see a book 2.", ["book 2"]),
        ("On the shelf 1, you see a book 2, and a cd 1.", ["book 2", "cd 1"]),
        ("You arrive at shelf 1. On the shelf 1, you see a book 2, a pen 3, and a cd 1.", ["book 2", "pen 3", "cd 1"]),
        ("You open the shelf 1. The shelf 1 is open. In it, you see a cd 1.", ["cd 1"]),
    ],
)
def test_reading_contents(text: str, things: list[str]) -> None:
    opening = "Looking quickly around you, you see a shelf 1, and a desk 1.\n\nYour task is to: put a cd in desk."
    belief = reader.first_belief(opening, "room")
    reader.update(belief, "go to shelf 1", text, expected=True)
    assert belief.contents == {"shelf 1": things}


def test_cooling_undoes_heating() -> None:
    room = "Looking quickly around you, you see a fridge 1, and a microwave 1."
    belief = reader.first_belief(f"{room}\n\nYour task is to: put a hot egg in fridge.", "room")
    for verb, appliance, treated in (("heat", "microwave 1", {"egg 1"}), ("cool", "fridge 1", set())):
        reader.update(belief, "", f"You {verb} the egg 1 using the {appliance}.", expected=True)
        assert belief.treated == treated


def test_walkthrough_wins() -> None:
    problem = generate("valid_unseen", 9, size="official")
    game = Game(World.compile(problem))
    for action in walkthrough(problem):
        game.step(action)
    assert game.won


def test_clear_refusals() -> None:
    with pytest.raises(BadOptionError, match="between 0 and 1"):
        Expert(noise=1.5)
    with pytest.raises(BadOptionError, match="unknown search order"):
        SearchExpert(order="best")  # type: ignore[arg-type]
    with pytest.raises(BadOptionError, match="expert-search"):
        Expert().reset(SimpleNamespace(), "", {})  # type: ignore[arg-type]
    with pytest.raises(UnknownTaskError, match="not an ALFWorld opening"):
        SearchExpert().reset(None, "hello", {})  # type: ignore[arg-type]
