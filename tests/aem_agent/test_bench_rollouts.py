"""The benchmarks of rollouts run, at tiny sizes, and say what they left out. How fast anything is, is not tested."""

import asyncio
import json
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aem_agent.engines.fake import ByteTokenizer, FakeTokenEngine
from aem_agent.policies import ExpertPolicy
from aem_agent.types import EngineError, Episode

BENCH = Path(__file__).resolve().parents[2] / "bench"


def bench(script: str, *arguments: object, python: str = sys.executable) -> str:
    """What a benchmark printed; it must succeed, or have been too slow on a busy machine."""
    command = [python, str(BENCH / script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(BENCH.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == ("MISSED" in done.stdout), done.stderr
    return done.stdout


@pytest.fixture
def bench_modules(monkeypatch):
    """The folder of the benchmarks can be imported from."""
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.slow
def test_rollout_table(tmp_path):
    """Every contender of ours plays in its own process; peers that were not asked for are named."""
    sizes = ("--episodes", 3, "--steps", 4, "--rounds", 2, "--out", tmp_path / "rows.json")
    said = bench("rollout.py", *sizes, "--only", "inline", "processes", "gym-async", "verifiers")
    found: dict[str, Any] = json.loads((tmp_path / "rows.json").read_text())
    assert not found["broken"]
    for label in (
        "environments alone",
        "manager, in-process",
        "manager, 2 worker processes",
        "Gymnasium SyncVectorEnv",
    ):
        assert found["rows"][label]["median_us"] > 0
        assert label in said
    assert found["left_out"]["verifiers MultiTurnEnv"] == "not asked for: give --peers"
    assert found["rows"].keys().isdisjoint(found["left_out"])


def test_schedule_table(tmp_path):
    """The manager plays the same episodes as the loop that measures them alone (asserted inside)."""
    said = bench(
        "schedule.py",
        "--episodes",
        6,
        "--latency",
        0.001,
        "--capacity",
        2,
        "--rounds",
        1,
        "--out",
        tmp_path / "s.json",
    )
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert rows.keys() == {"fixed latency", "spread latency"}
    fixed = rows["fixed latency"]
    assert fixed["turns"] == rows["spread latency"]["turns"] >= 6 * 3
    assert fixed["work_s"] == pytest.approx(fixed["turns"] * 0.001 + fixed["environment_s"], abs=1e-3)
    assert fixed["bound_s"] >= fixed["work_s"] / 2 - 1e-3
    assert all(seconds >= fixed["turns"] * 0.001 / 2 for seconds in fixed["seconds"].values())
    assert "lockstep, all" in said


def test_engine_of_the_schedule_thinks_about_so_many_at_once(bench_modules):
    from schedule import Engine

    async def thought() -> tuple[float, list[int]]:
        engine, order, clock = Engine(2), [], asyncio.get_running_loop().time

        async def turn(number: int) -> None:
            await engine.think(0.02)
            order.append(number)

        started = clock()
        await asyncio.gather(*map(turn, range(5)))
        return clock() - started, order

    seconds, order = asyncio.run(thought())
    assert seconds >= 3 * 0.02  # ⌈5 ÷ 2⌉ one after another; no upper limit: the machine may be busy
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_thousand_table(tmp_path):
    """Nothing is lost and both pools play the same episodes."""
    said = bench("thousand.py", "--episodes", 8, "--latency", 0.001, "--out", tmp_path / "t.json")
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert len(rows) == 4
    assert "nothing lost" in said
    for name, row in rows.items():
        assert row["lost"] == 0 and row["steps"] >= 8
        assert row["own"]["rss_mb"] > 0 and row["own"]["files"] > 0
        assert bool(row["workers"]) == name.endswith("processes")


class Failing:
    """A policy that breaks in the episodes of one task."""

    name, trainable, needs_env = "failing", False, True

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id

    def start(self, env, task, seed):
        if task.task_id == self.task_id:
            raise ValueError("this one breaks")
        return ExpertPolicy().start(env, task, seed)

    async def aclose(self) -> None: ...


def test_thousand_counts_what_is_lost(bench_modules, monkeypatch, capsys):
    import thousand

    env = thousand.make_alfworld()
    second = env.unwrapped.task_ids("train", 2)[1]
    monkeypatch.setattr(thousand, "player_policy", lambda player, latency: Failing(second))
    row = thousand.play("expert", "inline", 2, 0.0)
    assert (row["lost"], row["errors"]) == (1, ["ValueError: this one breaks"])
    assert not thousand.verdict({"expert, inline": row, "fake engine, inline": row | {"lost": 0}})
    assert "expert, inline: 1 episodes LOST ValueError: this one breaks" in capsys.readouterr().out


def test_thousand_compares_with_the_records(bench_modules):
    from thousand import lost, verdict

    played = [Episode("e", task_id, "", "train", 0, 0, turns=(), terminated=True) for task_id in "abc"]
    assert lost("abc", played, played) == []
    assert lost("abc", played, played[:2]) == ["c"]
    assert lost("abc", [*played, played[0]], [*played, played[0]]) == ["a"]
    assert lost("abc", played, [played[0], replace(played[1], score=0.5), played[2]]) == ["b"]
    assert lost("abcd", played, played) == ["d"]
    row = {"lost": 0, "errors": [], "digest": "1"}
    assert verdict({"expert, inline": row, "expert, processes": row, "fake engine, inline": row})
    assert not verdict({"expert, inline": row, "expert, processes": row | {"digest": "2"}, "fake engine, inline": row})


def test_vllm_is_left_out_with_a_word_where_it_is_not_installed():
    pytest.importorskip("torch")
    from importlib.util import find_spec

    if find_spec("vllm") is not None:
        pytest.skip("vLLM is installed here")
    assert "left out, vLLM is not installed" in bench("vllm_manager.py")


def test_vllm_ways_ask_the_same(bench_modules, tmp_path):
    """What goes to vLLM directly is what the manager asked, episode by episode."""
    from vllm_manager import SAMPLING, managed

    class Counting(FakeTokenEngine):
        def __init__(self) -> None:
            super().__init__(ByteTokenizer())
            self.seen: list[tuple[int, ...]] = []

        async def generate(self, request):
            self.seen.append(request.prompt_token_ids)
            return await super().generate(request)

    engine = Counting()
    args = Namespace(episodes=3, turns=4, concurrency=2)
    tokens, prompts = asyncio.run(managed(engine, args, tmp_path))
    assert [len(episode) for episode in prompts] == [4, 4, 4]
    assert sorted(r.prompt_token_ids for episode in prompts for r in episode) == sorted(engine.seen)
    assert all(r.sampling.max_new_tokens == SAMPLING.max_new_tokens for episode in prompts for r in episode)
    assert tokens > 0
    assert not list(tmp_path.iterdir())


def test_vllm_manager_retries_nothing(bench_modules, tmp_path):
    """A prompt asked twice would be sent directly twice, and its tokens counted once."""
    from vllm_manager import managed

    class FailingOnce(FakeTokenEngine):
        failed = False

        async def generate(self, request):
            if not self.failed:
                self.failed = True
                raise EngineError("hiccup")
            return await super().generate(request)

    with pytest.raises(RuntimeError, match="hiccup"):
        asyncio.run(managed(FailingOnce(ByteTokenizer()), Namespace(episodes=3, turns=2, concurrency=2), tmp_path))


def test_vllm_ratio_is_of_rounds(bench_modules, capsys):
    """Medians of each way would be compared across rounds, some of which were slow for all."""
    from vllm_manager import Taken, figures, report

    def taken(*seconds: float) -> list[Taken]:
        return [Taken(s, 0.1, 100, 10) for s in seconds]

    manager, sent = taken(1.0, 4.0, 10.0), taken(0.96, 3.0, 20.0)
    rows = figures({"manager": manager, "direct": sent, "all at once": sent})
    assert rows["manager"]["of_direct"] == pytest.approx(0.96)
    assert rows["manager"]["best_of_direct"] == pytest.approx(0.96)
    assert rows["direct"]["tokens_per_s"] == pytest.approx(100 / 3, abs=0.05)
    assert report(rows) and "0.960, wanted ≥ 0.95: ok" in capsys.readouterr().out
    slower = figures({"manager": manager, "direct": taken(0.9, 3.0, 20.0), "all at once": sent})
    assert not report(slower) and "MISSED" in capsys.readouterr().out
