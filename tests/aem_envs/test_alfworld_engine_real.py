"""The native engine against the installed textworld and alfworld: equal at every step of every walk.

Real engines run in two worker processes; walks are made with the native engine and replayed in the real one.
"""

import importlib.util
import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest
from alfworld_walks import Walk
from games_special import SCRIPTS, special_problems

from aem_envs.alfworld.real import RealGame, RealWorker
from aem_envs.alfworld.world import World
from envs_data.alfworld.export import installed_rules
from envs_data.alfworld.generator import generate
from envs_data.alfworld.problem import TASK_TYPES, Problem
from envs_data.alfworld.tw_pddl import parse_game, render_game

pytestmark = [
    pytest.mark.slow,
    pytest.mark.realengine,
    pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="textworld is not installed"),
]

ALL_VERBS = {"clean", "close", "cool", "examine", "go", "heat", "inventory", "look", "open", "slice", "take", "use"}
STEPS = {"official, old": 1456, "embedded, current": 1177, "special, current": 693, "special, old": 356}
"""Steps that each test walks at least."""


@dataclass(frozen=True)
class Job:
    """A walk to be replayed."""

    name: str
    data: str
    walk: Walk


def replay(jobs: Iterable[Job]) -> tuple[int, Counter[str], list[str]]:
    """Steps compared, accepted verbs, and differences: at most one per job."""
    workers: SimpleQueue[RealWorker] = SimpleQueue()
    started = [RealWorker(), RealWorker()]
    for worker in started:
        workers.put(worker)

    def compare(job: Job) -> tuple[int, Counter[str], str | None]:
        worker = workers.get()
        try:
            return _compare(job, worker)
        finally:
            workers.put(worker)

    try:
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(compare, jobs))
    finally:
        for worker in started:
            worker.close()
    return (
        sum(steps for steps, _, _ in results),
        sum((verbs for _, verbs, _ in results), Counter()),
        [difference for _, _, difference in results if difference],
    )


def _compare(job: Job, worker: RealWorker) -> tuple[int, Counter[str], str | None]:
    verbs: Counter[str] = Counter()
    with RealGame(job.data, name=job.name, worker=worker) as real:
        for number, record in enumerate(job.walk.records):
            text = real.reset() if record.command is None else real.step(record.command)
            ours = (record.text, record.admissible, record.won, record.score)
            theirs = (text, real.admissible(), real.won, real.score)
            if ours != theirs:
                return number, verbs, f"{job.name}, step {number} {record.command!r}:\n  {ours}\n  {theirs}"
            if record.command and text != "Nothing happens.":
                verbs[record.command.split(" ")[0]] += 1
    return len(job.walk.records) - 1, verbs, None


def planned(world: World, seed: int, before: int, after: int) -> Walk:
    """Wander, win, wander on: guided, mixed or both by the lengths."""
    walk = Walk(world, seed)
    walk.wander(before)
    while walk.stuck:  # a lost game: wander again from the start
        seed += 1000
        walk = Walk(world, seed)
        walk.wander(before)
    assert walk.win(), f"{world.name}: the guide did not win"
    walk.wander(after)
    return walk


def official_files(folder: Path) -> list[tuple[str, str]]:
    """(path, text) of the games that alfworld plays."""
    found = []
    for path in sorted(folder.rglob("game.tw-pddl")):
        text = path.read_text()
        if "movable" not in str(path) and "Sliced" not in str(path) and json.loads(text)["solvable"]:
            found.append((str(path.relative_to(folder)), text))
    return found


def test_official_games_in_the_old_dialect(official_alfworld: Path) -> None:
    jobs = []
    for number, (name, text) in enumerate(official_files(official_alfworld)):
        walk = planned(World.compile(parse_game(text, name=name)), number, before=(0, 12, 25)[number % 3], after=20)
        jobs.append(Job(name, text, walk))
    assert len(jobs) == 36
    steps, verbs, differences = replay(jobs)
    assert not differences, "\n".join(differences)
    assert steps >= STEPS["official, old"]
    assert ALL_VERBS - {"slice"} | {"put"} <= set(verbs), verbs


def test_embedded_games_in_the_current_dialect() -> None:
    rules = installed_rules()
    jobs = []
    kinds: Counter[str] = Counter()
    for number in range(36):
        size = ("small", "medium", "official")[(number // 6) % 3]
        problem = generate("train", 1000 + number, size=size, dialect="current")
        world = World.compile(problem)
        kinds[world.task.task_type] += 1
        walk = planned(world, number, before=(0, 12, 20)[number % 3], after=15)
        jobs.append(Job(problem.name, render_game(problem, domain=rules.domain, grammar=rules.grammar), walk))
    assert set(kinds) == set(TASK_TYPES), kinds
    steps, verbs, differences = replay(jobs)
    assert not differences, "\n".join(differences)
    assert steps >= STEPS["embedded, current"]
    assert ALL_VERBS - {"slice"} | {"move", "help"} <= set(verbs), verbs


def test_three_thousand_steps_are_walked_in_all() -> None:
    assert sum(STEPS.values()) >= 3000


def special_jobs(problems: list[Problem], domain: str, grammar: str) -> list[Job]:
    jobs = []
    for number, problem in enumerate(problems):
        walk = Walk(World.compile(problem), 100 + number)
        walk.follow(SCRIPTS.get(problem.name, ()))
        walk.wander(60 if len(walk.records) > 10 else 35)
        jobs.append(Job(problem.name, render_game(problem, domain=domain, grammar=grammar), walk))
    return jobs


def test_special_games_in_the_current_dialect() -> None:
    rules = installed_rules()
    jobs = special_jobs(special_problems("current"), rules.domain, rules.grammar)
    texts = "\n".join(record.text for job in jobs for record in job.walk.records)
    for phrase in ("Next to it, you see a ", "You sliced the ", "This is a normal ", "is on.", "sliced "):
        assert phrase in texts, f"no walk of the special games shows {phrase!r}"
    for job in jobs:
        outcomes = {record.won for record in job.walk.records}
        assert outcomes == {True, False}, f"{job.name} was only ever {outcomes}"
    steps, verbs, differences = replay(jobs)
    assert not differences, "\n".join(differences)
    assert steps >= STEPS["special, current"]
    assert ALL_VERBS | {"move", "help"} <= set(verbs), verbs


def test_special_games_in_the_old_dialect(official_alfworld: Path) -> None:
    rules = json.loads(official_files(official_alfworld)[0][1])
    jobs = special_jobs(special_problems("old")[:4], rules["pddl_domain"], rules["grammar"])
    steps, verbs, differences = replay(jobs)
    assert not differences, "\n".join(differences)
    assert steps >= STEPS["special, old"]
    assert ALL_VERBS | {"put"} <= set(verbs), verbs
