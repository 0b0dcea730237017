"""Raw results: equal bytes in whatever order runs end, one row for each run, nothing lost when several end at once."""

import itertools
import multiprocessing
from pathlib import Path

import tables


def rows(arm: str, seed: int, success: float = 0.5) -> dict[str, list[dict[str, object]]]:
    same = {"arm": arm, "seed": seed}
    steps = [{**same, "step": step, "success": success * step, "alpha": None} for step in (1, 2, 10)]
    return {"runs": [{**same, "success": success}], "steps": list(reversed(steps))}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*/*.csv")}


def test_equal_bytes_in_any_order(tmp_path: Path) -> None:
    runs = [("b", 2), ("a", 10), ("b", 1), ("a", 2)]
    found = []
    for number, order in enumerate(itertools.permutations(runs)):
        for arm, seed in order:
            tables.add("s", rows(arm, seed), tmp_path / str(number))
        found.append(contents(tmp_path / str(number)))
    assert all(one == found[0] for one in found)
    assert [(r["arm"], r["seed"]) for r in tables.read("s", "runs", tmp_path / "0")] == [
        ("a", "2"),
        ("a", "10"),
        ("b", "1"),
        ("b", "2"),
    ]
    assert [r["step"] for r in tables.read("s", "steps", tmp_path / "0")] == ["1", "2", "10"] * 4


def test_a_run_replaces_its_own_rows_only(tmp_path: Path) -> None:
    tables.add("s", rows("a", 1), tmp_path)
    tables.add("s", rows("a", 2), tmp_path)
    tables.add("s", rows("a", 1, success=1 / 3), tmp_path)
    assert [r["success"] for r in tables.read("s", "runs", tmp_path)] == ["0.333333", "0.5"]
    steps = tables.read("s", "steps", tmp_path)
    assert [r["success"] for r in steps] == ["0.333333", "0.666667", "3.33333", "0.5", "1", "5"]
    assert {r["alpha"] for r in steps} == {""}
    assert tables.read("s", "other", tmp_path) == []


def test_a_column_more_leaves_older_rows_empty(tmp_path: Path) -> None:
    tables.add("s", {"runs": [{"arm": "a", "seed": 1, "x": 0.5}]}, tmp_path)
    tables.add("s", {"runs": [{"arm": "b", "seed": 1, "x": 0.5, "y": 2}]}, tmp_path)
    assert [r["y"] for r in tables.read("s", "runs", tmp_path)] == ["", "2"]


def add_some(folder: Path, arm: str) -> None:
    for seed in range(10):
        tables.add("s", rows(arm, seed), folder)


def test_several_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = [multiprocessing.get_context("fork").Process(target=add_some, args=(tmp_path, arm)) for arm in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(tables.read("s", "runs", tmp_path)) == 30
    assert len(tables.read("s", "steps", tmp_path)) == 90
    assert not [path for path in (tmp_path / "s").iterdir() if path.name not in ("runs.csv", "steps.csv", ".lock")]
