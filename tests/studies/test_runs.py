"""Jobs of a study: which are missing, and a tiny study for real, whole and interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import designs
import pytest
import run
import tables
from borrowing import borrow
from job import START
from settings import fingerprint, start_fingerprint
from synthetic import write_results
from thoughts import ThoughtfulSpec, ThoughtParser

from aem_agent.env_texts import AlfworldText

REPOSITORY = Path(__file__).resolve().parents[2]
TOY_START = """
from trainer.recipes.toy import recipe as _toy

STARTS = {"toy": replace(_toy, warmstart=replace(_toy.warmstart, steps=10, games=20), steps=24)}
"""
TOY_STUDY = """
STUDIES = {"toy": Study("toy", "?", "toy", {"off": Arm((OFF,)), "aem": Arm()}, (("aem", "off"),), (0, 1), "test", 6)}
STUDIES["dapo"] = Study("dapo", "?", "toy", {"dapo": Arm((), "dapo"), "aem": Arm()}, (), (0,), "test", 6)
"""


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[tables.Row]:
    """Rows of runs that are taken to be there."""
    rows: list[tables.Row] = []
    monkeypatch.setattr(tables, "read", lambda study, table: rows)
    return rows


def row(study: designs.Study, arm: str, seed: int) -> tables.Row:
    return {"arm": arm, "seed": str(seed), "settings": fingerprint(study, arm, seed)}


def test_missing_goes_seed_by_seed_from_each_warm_start(results: list[tables.Row], tmp_path: Path) -> None:
    study = designs.PRIMARY
    results += [row(study, arm, 0) for arm in study.arms if arm != "aem"]
    results += [row(study, arm, 1) for arm in study.arms]
    jobs = run.missing(study, range(3), (1, 1), tmp_path)
    assert [(job.arm, job.seed) for job in jobs[:2]] == [(START, 0), ("aem", 0)]  # nothing of seed 1
    assert [(job.arm, job.seed) for job in jobs[2:]] == [(START, 2), *((arm, 2) for arm in study.arms)]
    assert jobs[0].ready(tmp_path) and not jobs[1].ready(tmp_path)
    started = run.start_folder(study, 0, tmp_path)
    started.mkdir(parents=True)
    (started / "done").touch()
    assert run.missing(study, [0], (1, 1), tmp_path) == jobs[1:2] and jobs[1].ready(tmp_path)


def test_shards_share_out_the_seeds(results: list[tables.Row], tmp_path: Path) -> None:
    study = designs.PRIMARY
    whole = run.missing(study, None, (1, 1), tmp_path)
    shards = [run.missing(study, None, (part, 3), tmp_path) for part in (1, 2, 3)]
    assert sorted(map(str, whole)) == sorted(str(job) for shard in shards for job in shard)
    assert [{job.seed % 3 for job in shard} for shard in shards] == [{0}, {1}, {2}]
    # what is done elsewhere moves no seed to another machine
    results += [row(study, arm, 0) for arm in study.arms]
    assert run.missing(study, None, (2, 3), tmp_path) == shards[1]


def test_results_of_other_settings_are_refused(results: list[tables.Row], tmp_path: Path) -> None:
    results.append({**row(designs.PRIMARY, "aem", 3), "settings": "others"})
    with pytest.raises(SystemExit, match="primary aem 3: results of other settings"):
        run.missing(designs.PRIMARY, None, (1, 1), tmp_path)
    assert run.missing(designs.PRIMARY, [4], (1, 1), tmp_path)


def test_fingerprints_tell_settings_apart_and_not_seeds() -> None:
    study = designs.PRIMARY
    prints = {arm: fingerprint(study, arm, 0) for arm in study.arms}
    assert len(set(prints.values())) == len(study.arms)
    assert {arm: fingerprint(study, arm, 5) for arm in study.arms} == prints
    for other in ({"split": "valid_seen"}, {"tasks": 499}, {"temperatures": (1.0,)}):
        assert fingerprint(replace(study, **other), "aem", 0) != prints["aem"]  # type: ignore[arg-type]
    assert start_fingerprint(study, 0) == start_fingerprint(designs.ABLATIONS, 7)


def test_defaults_that_change_are_noticed_and_words_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    study, whole = designs.PRIMARY, designs.STARTS
    before = fingerprint(study, "aem", 0)
    weak = whole["weak"]
    quiet = replace(weak, description="other words", metrics=replace(weak.metrics, drift_responses=3))
    monkeypatch.setattr(designs, "STARTS", {**whole, "weak": quiet})
    assert fingerprint(study, "aem", 0) == before
    monkeypatch.setattr(designs, "STARTS", {**whole, "weak": replace(weak, aem=replace(weak.aem, range_guard=0.2))})
    assert fingerprint(study, "aem", 0) != before


def test_shared_runs_are_borrowed(tmp_path: Path) -> None:
    """`off` and `aem` of three studies are the same runs, by whatever name; other tasks make other runs."""
    write_results(replace(designs.PRIMARY, arms={"aem": designs.PRIMARY.arms["aem"]}), tmp_path, (0, 1, 12))
    others = designs.STUDIES.values()
    assert borrow(designs.ABLATIONS, others, tmp_path) == 2  # 12 is none of its seeds
    assert borrow(designs.ABLATIONS, others, tmp_path) == 0
    for table, count in (("runs", 2), ("steps", 24)):
        rows = tables.read("ablations", table, tmp_path)
        assert len(rows) == count and {(r["arm"], r["seed"]) for r in rows} == {("aem", "0"), ("aem", "1")}
    renamed = replace(designs.ABLATIONS, name="renamed", arms={"mine": designs.ABLATIONS.arms["aem"]})
    assert borrow(renamed, others, tmp_path) == 2
    assert {r["arm"] for r in tables.read("renamed", "steps", tmp_path)} == {"mine"}
    assert borrow(replace(designs.ABLATIONS, name="short", tasks=40), others, tmp_path) == 0


def test_thoughts_are_varied_and_the_same_again() -> None:
    spec, texts = ThoughtfulSpec(), AlfworldText()
    said = [spec.say(texts, "go to desk 1", f"You see a pen {i}.") for i in range(50)]
    assert said == [ThoughtfulSpec().say(texts, "go to desk 1", f"You see a pen {i}.") for i in range(50)]
    assert len(set(said)) > 30 and all(text.endswith(" : go to desk 1") for text in said)
    assert {spec.mean(texts, text, "") for text in said} == {"go to desk 1"}
    parsed = [ThoughtParser()(spec.answer(text)) for text in said]
    assert {(p.action, p.reason) for p in parsed} == {("go to desk 1", None)}
    assert ThoughtParser()("look").reason == "missing_think" and ThoughtParser()("look").action == "look"


def test_every_registered_run_has_a_valid_recipe() -> None:
    for study in designs.STUDIES.values():
        for arm, base in study.contrasts:
            assert arm in study.arms and base in study.arms
        assert all(study.config(arm, seed).seed == seed for arm in study.arms for seed in study.seeds[:1])


def test_arguments_of_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._numbers("0-3") == (0, 1, 2, 3) and run._numbers("5") == (5,) and run._shard("2/4") == (2, 4)
    for wrong in ("--shard=5/4", "--shard=0/4", "--seeds=x", "nothing"):
        monkeypatch.setattr(sys, "argv", ["run.py", wrong])
        with pytest.raises(SystemExit) as failed:
            run.main()
        assert failed.value.code == 2


class Room:
    """A copy of the scripts with a study of seconds in place of the real ones."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder / "studies", folder / "work"
        self.folder.mkdir(parents=True)
        for script in (REPOSITORY / "studies").glob("*.py"):
            shutil.copy(script, self.folder)
        for name, text in (("starts.py", TOY_START), ("designs.py", TOY_STUDY)):
            with (self.folder / name).open("a") as file:
                file.write(text)

    def start(self, study: str = "toy", *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(self.folder / "run.py"), study, "--work", str(self.work), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=self.folder)

    def run(self, *arguments: str) -> int:
        return self.start("toy", *arguments).wait(600)

    def rows(self, table: str, seed: int) -> list[tables.Row]:
        found = tables.read("toy", table, self.folder / "results")
        return [r for r in found if r["seed"] == str(seed)]

    def steps_done(self, arm: str) -> int:
        logs = list((self.work / "toy").glob(f"{arm}-*-0/metrics.jsonl"))
        return sum(path.read_text().count('"kind": "rl"') + path.read_text().count('"kind":"rl"') for path in logs)

    def jobs(self) -> list[int]:
        """Processes that work here."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.folder / "job.py").encode() in words:
                found.append(int(path.name))
        return found


def wait_for(what: Callable[[], bool], seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A study of two arms and two seeds that ran at once."""
    room = Room(tmp_path_factory.mktemp("whole"))
    assert room.run("--jobs", "2") == 0
    return room


@pytest.mark.slow
@pytest.mark.e2e
def test_a_tiny_study_from_end_to_end(whole: Room) -> None:
    runs = tables.read("toy", "runs", whole.folder / "results")
    assert [(r["arm"], r["seed"], r["steps"]) for r in runs] == [(a, s, "24") for a in ("aem", "off") for s in "01"]
    assert all(len(r[f"won_{t}"]) == 6 and set(r[f"won_{t}"]) <= {"0", "1"} for r in runs for t in ("1", "0.4"))
    for r in runs:
        success = [float(s["success"]) for s in whole.rows("steps", int(r["seed"])) if s["arm"] == r["arm"]]
        assert len(success) == 24 and float(r["success"]) == pytest.approx(sum(success) / 24, rel=1e-4)
        assert float(r["success_last_quarter"]) == pytest.approx(sum(success[-6:]) / 6, rel=1e-4)
        assert float(r["heldout_1"]) == pytest.approx(r["won_1"].count("1") / 6, rel=1e-4)
    # arms begin alike: same weights, same tasks, same draws
    first = {
        (s["arm"], s["seed"]): s["token_entropy"]
        for s in whole.rows("steps", 0) + whole.rows("steps", 1)
        if s["step"] == "1"
    }
    assert first["aem", "0"] == first["off", "0"] != first["aem", "1"] == first["off", "1"]
    assert not list((whole.work / "toy").iterdir())  # run folders go once their rows are there
    assert {r["start"] for r in runs if r["seed"] == "0"}.isdisjoint(r["start"] for r in runs if r["seed"] == "1")
    assert len({r["start"] for r in runs}) == 2 and {r["device"] for r in runs} == {"cpu"}
    assert whole.run() == 0  # nothing is left to do


@pytest.mark.slow
@pytest.mark.e2e
def test_dynamic_sampling_plays_no_more_than_others(whole: Room) -> None:
    """Its steps play more, so there are fewer; all that was played counts. The other arm is the other study's run."""
    results = whole.folder / "results"
    assert whole.start("dapo").wait(600) == 0
    runs = {r["arm"]: r for r in tables.read("dapo", "runs", results)}
    budget = int(runs["aem"]["episodes_played"])
    assert runs["aem"] == next(r for r in tables.read("toy", "runs", results) if r["arm"] == "aem" and r["seed"] == "0")
    steps = [r for r in tables.read("dapo", "steps", results) if r["arm"] == "dapo"]
    played = [float(r["episodes_played"]) for r in steps]
    assert int(runs["dapo"]["episodes_played"]) == sum(played) and sum(played[:-1]) < budget <= sum(played)
    assert len(steps) == int(runs["dapo"]["steps"]) < 24
    won = sum(float(r["success"]) * n for r, n in zip(steps, played))
    assert float(runs["dapo"]["success"]) == pytest.approx(won / sum(played), rel=1e-4)


@pytest.mark.slow
@pytest.mark.e2e
def test_an_interrupted_study_goes_on_to_the_same_rows(whole: Room, tmp_path: Path) -> None:
    """Ctrl-C saves; `kill -9` leaves no job behind; in the end it is as if nothing had been."""
    room = Room(tmp_path)
    shutil.copytree(whole.work / "starts", room.work / "starts")
    try:
        begun = room.start("toy", "--seeds", "0", "--jobs", "1")
        wait_for(lambda: room.steps_done("off") >= 3)
        begun.send_signal(signal.SIGINT)
        assert begun.wait(300) == 3 and not room.jobs()
        done = room.steps_done("off")
        assert 3 <= done < 24 and not room.rows("runs", 0)
        begun = room.start("toy", "--seeds", "0", "--jobs", "1")
        wait_for(lambda: room.steps_done("off") >= done + 3)
        begun.kill()
        begun.wait()
        wait_for(lambda: not room.jobs())
        assert room.steps_done("off") < 24 and not room.rows("runs", 0)
        assert room.run("--seeds", "0", "--jobs", "1") == 0
    finally:
        for job in room.jobs():
            os.kill(job, signal.SIGKILL)
    for table in ("runs", "steps"):
        assert room.rows(table, 0) == whole.rows(table, 0)


def test_ppo_is_compared_with_itself_as_it_was() -> None:
    """What was registered keeps its critic's value after the last step; the arms that came later do without."""
    ends = {
        (study.name, arm): study.config(arm, 0).algorithm.truncation_ends
        for study in (designs.SECONDARY, designs.CRITIC)
        for arm in study.arms
        if arm.startswith("ppo")
    }
    assert {key for key, ended in ends.items() if ended} == {("critic", "ppo-ends-off"), ("critic", "ppo-ends-aem")}
    assert len(ends) == 6
