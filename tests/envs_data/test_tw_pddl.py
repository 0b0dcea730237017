"""Reading and writing game files: round trips, and files that are broken in every way."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_data.alfworld import tw_pddl
from envs_data.alfworld.generator import generate
from envs_data.alfworld.problem import Problem
from envs_data.alfworld.tw_pddl import (
    KNOWN_DIALECTS,
    UnknownDialectError,
    domain_hash,
    grammar_hash,
    parse_game,
    parse_problem,
    render_game,
    render_problem,
)
from envs_data.errors import GameFileError

DOMAIN = "(define (domain alfred))"
GRAMMAR = 'grammar :: """{"task": [{"rhs": "Your task is to: UNKNOWN GOAL."}]}""";'
PROBLEM = """(define (problem p) (:domain alfred)
(:objects agent1 - agent  l1 L2 - location  ; a comment (with parentheses)
 Apple_bar_1 - object Fridge_bar_1 - receptacle FridgeType - rtype AppleType - otype)
(:init (atLocation agent1 l1) (= (distance l1 L2) 5) (= (total-cost) 0)
 (inReceptacle Apple_bar_1 Fridge_bar_1) (OPENABLE fridge_bar_1))
(:goal (and (exists (?o - object ?r ?s - receptacle) (imply (not (= ?r ?s)) (inReceptacle ?o ?r))) ()))
(:metric minimize (total-cost)))"""


@pytest.fixture(autouse=True)
def _toy_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KNOWN_DIALECTS, (domain_hash(DOMAIN), grammar_hash(GRAMMAR)), "current")


def game(**changes: Any) -> str:
    fields = {"pddl_domain": DOMAIN, "grammar": GRAMMAR, "pddl_problem": PROBLEM, "solvable": True} | changes
    return json.dumps({key: value for key, value in fields.items() if value is not None})


def parse(text: str) -> Problem:
    return parse_problem(text, task="t.", dialect="current", name="f")


def test_a_game_is_read() -> None:
    problem = parse_game(game(), name="f")
    assert problem.name == "p" and problem.task == "UNKNOWN GOAL." and problem.dialect == "current"
    assert problem.objects[1:3] == (("l1", "location"), ("L2", "location"))
    assert problem.facts == (
        ("atLocation", "agent1", "l1"),
        ("inReceptacle", "Apple_bar_1", "Fridge_bar_1"),
        ("OPENABLE", "fridge_bar_1"),
    )
    variables = (("?o", "object"), ("?r", "receptacle"), ("?s", "receptacle"))
    body = ("imply", ("not", ("=", "?r", "?s")), ("inReceptacle", "?o", "?r"))
    assert problem.goal == ("and", ("exists", variables, body), ("and",))
    assert parse_game(game().encode(), name="f") == problem


def test_hashes_ignore_the_task_sentence_and_line_ends_only() -> None:
    other = GRAMMAR.replace("UNKNOWN GOAL.", "put a clean plate in fridge.")
    assert grammar_hash(GRAMMAR) == grammar_hash(other) == grammar_hash(GRAMMAR.replace("\n", "\r\n"))
    assert grammar_hash(GRAMMAR + " ") != grammar_hash(GRAMMAR)
    assert domain_hash("a\r\nb") == domain_hash("a\nb") != domain_hash("ab")


@pytest.mark.parametrize("size", ["small", "official"])
def test_embedded_games_survive_the_round_trip(size: str) -> None:
    for index in range(12):
        problem = generate("train", index, size=size)
        again = parse_problem(render_problem(problem), task=problem.task, dialect=problem.dialect, name="f")
        assert again == problem
        text = render_game(problem, domain=DOMAIN, grammar=GRAMMAR, walkthrough=["look"])
        assert parse_game(text, name="f") == problem
        assert json.loads(text)["walkthrough"] == ["look"]


def test_official_games_survive_the_round_trip(official_alfworld: Path) -> None:
    count = 0
    for path in sorted(official_alfworld.rglob("game.tw-pddl")):
        data = path.read_bytes()
        if not json.loads(data)["solvable"]:
            with pytest.raises(GameFileError, match="not marked solvable"):
                parse_game(data, name=str(path))
            continue
        problem = parse_game(data, name=str(path))
        assert problem.dialect == "old" and problem.task.endswith(".")
        assert parse_problem(render_problem(problem), task=problem.task, dialect="old", name="f") == problem
        count += 1
    assert count == 36


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "not a JSON file"),
        (game()[:-40], "not a JSON file"),
        (b"\xff\xfe\x00", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[1, 2]", "holds a list"),
        (game(grammar=None), "'grammar' is missing"),
        (game(pddl_problem=7), "'pddl_problem' is not text"),
        (game(solvable=False), "not marked solvable"),
        (game(solvable=None), "not marked solvable"),
        (game(solvable="yes"), "not marked solvable"),
        (game(grammar="no task"), "no task sentence"),
        (game(grammar='"Your task is to: {__import__(1)}"'), "characters no task has"),
        (game(pddl_problem=PROBLEM[:300]), "cut off"),
        (game(pddl_problem=PROBLEM[:-3]), "missing or left over"),
        (game(pddl_problem=PROBLEM + " x"), "missing or left over"),
        (b" " * (tw_pddl.MAX_BYTES + 1), "more than a game may have"),
    ],
)
def test_broken_files_are_named_and_explained(data: str | bytes, said: str) -> None:
    with pytest.raises(GameFileError, match=said) as caught:
        parse_game(data, name="some/file")
    assert str(caught.value).startswith("some/file: ")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("(atLocation agent1 l1)", "(atLocation agent1 l9)", "not a declared location"),
        ("(atLocation agent1 l1)", "(atLocation agent1)", "wrong number"),
        ("(atLocation agent1 l1)", "(teleported agent1 l1)", "unknown predicate"),
        ("(atLocation agent1 l1)", "(atLocation (agent1) l1)", "malformed fact"),
        ("(atLocation agent1 l1)", "()", "malformed fact"),
        ("(atLocation agent1 l1)", "hello", "stray text"),
        ("Apple_bar_1", "Apple\x1b[31m", "characters no PDDL name has"),
        ("Apple_bar_1", "Äpfel_bar_1", "characters no PDDL name has"),
        ("(problem p)", f"(problem {'p' * 201})", "not an alfred problem"),
        ("agent1 - agent ", "agent1 a2 - agent ", "2 agents"),
        ("agent1 - agent ", "agent1 - agent AGENT1 - location", "declared twice"),
        ("FridgeType - rtype", "FridgeType - spaceship", "unknown type"),
        ("AppleType - otype", "AppleType", "without a type"),
        ("(not (= ?r ?s))", "(not)", "has 0 parts"),
        ("(not (= ?r ?s))", "(not (=", "a formula where a name is wanted|cut off"),
        ("(exists (", "(exists ", "lacks its list"),
        ("(inReceptacle ?o ?r)))", "(and " * 100, "nested deeper"),
        ("(inReceptacle ?o ?r)))", "(and " + "(a) " * 20_000, "tokens"),
    ],
)
def test_broken_problems_are_explained(old: str, new: str, said: str) -> None:
    assert old in PROBLEM
    with pytest.raises(GameFileError, match=said):
        parse(PROBLEM.replace(old, new))


def test_unknown_rules_point_to_the_real_engine() -> None:
    for changed in (game(pddl_domain=DOMAIN + " "), game(grammar=GRAMMAR + "action x {}")):
        with pytest.raises(UnknownDialectError, match='engine="textworld"'):
            parse_game(changed, name="f")


def test_what_cannot_be_written_is_refused() -> None:
    problem = parse(PROBLEM)
    for bad in ("a b", "a)", "x;y", "é", "", "x" * 101):
        broken = Problem("p", (*problem.objects, (bad, "object")), problem.facts, problem.goal, "t.", "current")
        with pytest.raises(GameFileError, match="PDDL name"):
            render_problem(broken)
    quoting = Problem("p", problem.objects, problem.facts, problem.goal, 'say "hi"', "current")
    with pytest.raises(GameFileError, match="task sentence"):
        render_game(quoting, domain=DOMAIN, grammar=GRAMMAR)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(PROBLEM)), st.integers(0, 40), st.text("()?-;= aA1_\n\x00é", max_size=12))
def test_damaged_text_never_crashes(start: int, length: int, put: str) -> None:
    try:
        parse(PROBLEM[:start] + put + PROBLEM[start + length :])
    except GameFileError as error:
        assert str(error).startswith("f: ")
