"""WebShop's benchmarks run, on a shop of a few products."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def _bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setenv("AEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WEBSHOP_ORIGINAL", raising=False)


def test_env_prints_speeds_costs_and_players(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, out = import_module("webshop_env"), tmp_path / "out" / "env.json"
    settings = ["--products", "60", "--steps", "100", "--repeats", "1", "--tasks", "5", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["webshop_env.py", *settings])
    bench.main()
    printed, found = capsys.readouterr().out, json.loads(out.read_text())
    assert [row["mode"] for row in found["speeds"]] == ["text", "text_rich", "html", "url"]
    assert all(row["steps_per_s"] > 0 and row["reset_us"] > 0 for row in found["speeds"])
    assert found["costs"]["build_ms"] > found["costs"]["next_ms"] > 0
    players = {row["player"]: row["reward"] for row in found["players"]}
    assert players["expert"] == 1 and players["random"] < players["first-hit"] < 1
    assert found["original"] is None and "original: no copy" in printed and "expert-search" in printed


def test_the_mix_is_one_search_in_ten_steps() -> None:
    import aem_envs

    bench = import_module("webshop_env")
    env = aem_envs.make_env("aem/WebShop-v0", products=60)
    taken: list[tuple[str, bool]] = []
    step = env.step

    def noted(action: str) -> tuple[str, float, bool, bool, dict]:
        found = step(action)
        taken.append((action.partition("[")[0], found[-1]["action_valid"]))
        return found

    env.step = noted
    assert bench.walk(env, ["shirt", "soft", "blue", "lamp", "wood", "small"], 200, seed=3)["steps_per_s"] > 0
    verbs = [verb for verb, _ in taken]
    assert all(valid for _, valid in taken) and 0.09 < verbs.count("search") / len(verbs) < 0.12


@pytest.mark.slow
def test_scale_compares_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("proportional memory is read from /proc/self/smaps_rollup")
    bench, out = import_module("webshop_scale"), tmp_path / "scale.json"
    monkeypatch.setattr(bench, "ASKED_AT", 60)
    monkeypatch.setattr(
        sys, "argv", ["webshop_scale.py", "--products", "30", "60", "--queries", "20", "--out", str(out)]
    )
    bench.main()
    printed, rows = capsys.readouterr().out, json.loads(out.read_text())
    assert [row["products"] for row in rows] == [30, 60] and rows[1]["store_mb"] > rows[0]["store_mb"] > 0
    assert rows[1]["index_mb"] < rows[1]["store_mb"] and rows[1]["peak_mb"] > 10
    assert " x2 " in printed and "build_s" in printed


def test_the_original_must_be_at_hand(tmp_path: Path) -> None:
    bench = import_module("webshop_original")
    assert bench.measure(None, sys.executable) is None and bench.measure(tmp_path, sys.executable) is None
    (tmp_path / "web_agent_site").mkdir()
    with pytest.raises(RuntimeError, match="does not run with"):
        bench.measure(tmp_path, sys.executable, products=5)
