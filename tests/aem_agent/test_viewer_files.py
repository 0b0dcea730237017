"""What the viewer reads and writes: odd records and configurations, one episode at a time, nothing replaced."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eval_runs import aem_eval
from viewer_runs import contents_of, episode, evaluation, head_of

from aem_agent.records import RecordError, dump_line, episode_at
from aem_agent.run_folder import RunFolder
from aem_agent.types import Response, Turn
from aem_agent.viewer import ViewerError, records_in_order, write_comparison, write_view
from aem_agent.viewer.turns import number, turn_data


def training(path: Path, config: Any) -> RunFolder:
    """A training run with one recorded episode."""
    folder = RunFolder.create(path, {"kind": "aem-train", "config": config})
    (path / "samples-after.jsonl").write_bytes(dump_line(episode("x")))
    return folder


def test_a_page_takes_the_place_of_nothing_but_a_page(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", [episode("a")])
    other = evaluation(tmp_path / "other", [episode("a")])
    (tmp_path / "mine.html").write_text("<!doctype html><title>mine</title>")
    (folder.path / "report.html").write_text("<!doctype html><title>report</title>")
    (tmp_path / "link.html").symlink_to(folder.episodes_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    there = [folder.episodes_path, folder.path / "config.json", folder.path / "report.html", folder.path]
    for out in (*there, tmp_path / "mine.html", tmp_path / "link.html"):
        with pytest.raises(ViewerError, match="name another file with --out"):
            write_view(other, out)
        with pytest.raises(ViewerError, match="no page of the viewer"):
            write_comparison(folder, other, out)
    among = [folder.path / "predictions.jsonl", folder.path / "episodes" / "step-000001.jsonl"]
    for out in (*among, other.path / "report.html", other.path / "page"):
        with pytest.raises(ViewerError, match=r"name a new \.html file"):
            write_view(other, out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for out in (None, other.path / "compare.html", other.path / "new.html", tmp_path / "elsewhere"):
        page = write_view(other, out)
        assert write_view(other, out) == page, "a page of ours is written anew"
    (folder.path / "view.html").write_text("<!doctype html><p>notes")
    with pytest.raises(ViewerError, match="is there"):
        write_view(folder)


def test_an_episode_is_found_by_its_place_in_the_file(tmp_path: Path) -> None:
    broken = episode("b", error="EngineError: down", terminated=False)
    folder = evaluation(tmp_path / "run", [episode("c"), broken, episode("a"), episode("b", won=True, turns=3)])
    with folder.episodes_path.open("ab") as file:
        file.write(b'{"torn')
    records = records_in_order(folder)
    assert [episode_at(*record).task_id for record in records] == ["a", "b", "c"]
    assert episode_at(*records[1]) == episode("b", won=True, turns=3), "the newest record"
    assert records[2] == (folder.episodes_path, 0)
    for path, start in ((folder.episodes_path, 5), (folder.path / "absent", 0)):
        with pytest.raises(RecordError, match=f"at byte {start} of "):
            episode_at(path, start)
    with folder.episodes_path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(RecordError, match="line 5"):
        records_in_order(folder)


def test_places_of_episodes_are_kept_and_not_the_episodes(tmp_path: Path) -> None:
    long = (Turn("seen " * 20_000, Response("said"), "act"),)
    folder = evaluation(tmp_path / "run", [replace(episode(f"t{i:02}"), turns=long) for i in range(60)])
    tracemalloc.start()
    try:
        records = records_in_order(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(records) == 60 and peak < folder.episodes_path.stat().st_size / 4


@pytest.mark.usefixtures("workplace")
def test_view_only_reads(capsys: pytest.CaptureFixture[str]) -> None:
    folder = evaluation(Path("run"), [episode("a"), episode("b", won=True)], tasks=5)
    assert aem_eval("view", "run", "--no-browser") == 0
    assert aem_eval("view", "run", "--episode", "2") == 0 and "episode 2 of 2  b" in capsys.readouterr().out
    assert {p.name for p in folder.path.iterdir()} == {"config.json", "episodes.jsonl", "view.html"}
    assert head_of(folder.path / "view.html")["runs"][0]["report"] is None
    assert aem_eval("view", "run", "--no-browser", "--out", "run/episodes.jsonl") == 2
    assert "name another file with --out" in capsys.readouterr().err
    assert len(records_in_order(folder)) == 2


def test_numbers_without_bound(tmp_path: Path) -> None:
    assert number(10**400) is None and number(-(10**400)) is None and number(10**300) == 1e300
    turn = Turn("", Response(""), "", info={"training": {"alpha": 10**400, "entropy": 1}})
    assert turn_data(turn)["entropy"] == 1 and "alpha" not in turn_data(turn)


@pytest.mark.parametrize("config", [[1], {"env": "x"}, {"model": [1]}, "x", None, {"env": {"id": 5}, "model": {}}])
def test_odd_configurations_of_a_training(tmp_path: Path, config: Any) -> None:
    folder = training(tmp_path / "run", config)
    run = head_of(write_view(folder))["runs"][0]
    assert run["training"] and run["details"].startswith("training · ")
    page = write_comparison(folder, training(tmp_path / "b", {"steps": 1}))
    assert "steps: null → 1" in head_of(page)["comparison"]["different"]


def test_an_odd_configuration_of_an_evaluation(tmp_path: Path) -> None:
    folders = [evaluation(tmp_path / name, [episode("a")], env=env) for name, env in (("a", "x"), ("b", [1]))]
    assert head_of(write_comparison(*folders))["comparison"]["different"] == []


def test_settings_in_which_two_trainings_differ_are_named(tmp_path: Path) -> None:
    config = {"description": "one", "env": {"id": "aem/Toy-v0"}, "aem": {"lam": 1.0, "enabled": True}, "seed": 0}
    other = {"description": "two", "env": {"id": "aem/ALFWorld-v0"}, "aem": {"lam": -1.0, "enabled": True}, "seed": 0}
    page = write_comparison(training(tmp_path / "a", config), training(tmp_path / "b", other))
    assert head_of(page)["comparison"]["different"] == [
        "aem.lam: 1.0 → -1.0",
        'env.id: "aem/Toy-v0" → "aem/ALFWorld-v0"',
    ]


def test_tasks_that_look_alike_stay_apart(tmp_path: Path) -> None:
    long = "x" * 600
    page = write_view(evaluation(tmp_path / "run", [episode(t) for t in ("a\x1b", "a␛", long + "1", long + "2")]))
    run = head_of(page)["runs"][0]
    assert run["columns"]["task"] == [0, 1, 2, 3]
    assert run["names"]["task"][:2] == ["a␛", "a␛"] and len(run["names"]["task"]) == 4


def test_pairs_are_shown_where_every_common_task_errored(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", [episode("t0"), episode("t1", won=True)])
    b = evaluation(tmp_path / "b", [episode("t0", error="E: x", terminated=False)])
    page = write_comparison(a, b)
    found = head_of(page)["comparison"]
    assert found["pairs"] == [[0, 0]] and found["summary"] is None
    assert contents_of(page, 1)[0][0]["error"] == "E: x"
