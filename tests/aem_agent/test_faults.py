"""Whatever breaks: no run hangs, each fault ends with a clear message, and what was completed is kept."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from faulty_env import SECONDS, FaultyEnv, faulty

from aem_agent.engines.fake import ByteTokenizer, FakeTokenEngine
from aem_agent.engines.openai_engine import OpenAIEngine
from aem_agent.model_policies import ChatPolicy, ModelPolicy
from aem_agent.parsers import LineParser
from aem_agent.player import BYSTANDER_RETRIES
from aem_agent.policies import ScriptedPolicy
from aem_agent.pools import InProcessPool, PoolLimits, make_pool
from aem_agent.pools.base import PoolError, WorkerLostError
from aem_agent.prompts import PlainSpec
from aem_agent.records import EpisodeWriter, read_episodes
from aem_agent.rollout import RolloutManager
from aem_agent.types import Episode, Policy, Response, Sampling, TaskRef

POLICY = ScriptedPolicy(["go"] * 9)


def play(
    tasks: list[TaskRef],
    policy: Policy = POLICY,
    *,
    pool: str = "processes",
    limits: PoolLimits | None = None,
    once: Path | None = None,
    writer: EpisodeWriter | None = None,
    **options: Any,
) -> list[Episode]:
    """The episodes in the order of tasks, errored ones too; every run has a minute."""

    async def main() -> list[Episode]:
        make = partial(FaultyEnv, None if once is None else str(once))
        manager = RolloutManager(
            make_pool(pool, make, workers=2, limits=limits),
            policy,
            on_episode=None if writer is None else writer.write,
            **({"concurrency": 8, "retries": 1} | options),
        )
        try:
            groups = await asyncio.wait_for(manager.run(tasks), 60)
        finally:
            await manager.aclose()
        return [episode for group in groups for episode in (*group.episodes, *group.errored)]

    return asyncio.run(main())


def model(engine: Any) -> ModelPolicy:
    return ModelPolicy(PlainSpec(), engine, ByteTokenizer(), LineParser(), Sampling(max_new_tokens=8), 400)


# -- environments -----------------------------------------------------------------------------------------------------

FAULTS = {
    "raise": "ZeroDivisionError: a bug of the environment",
    "infra": "InfrastructureError: the page went away",
    "quit": "InfrastructureError: SystemExit: tired of it",
    "clock": "InfrastructureError: info['seconds'] is not seconds by phase",
    "words": "InfrastructureError: info['seconds'] is not seconds by phase",
    "loop": "",
    "cancel": "InfrastructureError: ",
    "types": "InfrastructureError: the environment returned bytes and list",
    "nan": "InfrastructureError: the environment returned a reward that is not a number between ±1e+100",
}


@pytest.mark.parametrize("pool", ["inline", "processes"])
def test_an_environment_that_raises_or_returns_nonsense_harms_no_other(pool: str, tmp_path: Path) -> None:
    names = [f"{fault}-{n}" for n in range(3) for fault in (*FAULTS, "ok")]
    with EpisodeWriter(tmp_path / "episodes.jsonl") as writer:
        played = play(faulty(*names), pool=pool, writer=writer)
    assert [e.task_id for e in played] == names
    for episode in played:
        fault = episode.task_id.partition("-")[0]
        if fault == "ok":
            assert episode.won and episode.error is None
            assert [turn.info["details"]["n"] for turn in episode.turns] == [1, 2, 3, 4], "not the last four times"
        else:
            assert episode.error and (episode.error or "").startswith(FAULTS[fault]) and episode.retries == 1
            assert len(episode.turns) == (0 if fault in SECONDS else 2), "what came before is kept"
    recorded = {e.task_id: e for e in read_episodes(tmp_path / "episodes.jsonl")}
    assert recorded == {e.task_id: e for e in played}


@pytest.mark.parametrize("pool", ["inline", "processes"])
def test_an_error_without_words_is_an_error_too(pool: str) -> None:
    (episode,) = play(faulty("mute-1"), pool=pool)
    assert "MuteError" in (episode.error or "")


@pytest.mark.parametrize("pool", ["inline", "processes"])
def test_what_breaks_once_is_played_again_with_the_same_seed(pool: str, tmp_path: Path) -> None:
    tasks = faulty("raise-1", "types-1", "ok-1", "infra-1")
    clean = [e.identity() for e in play(tasks, pool="inline", once=_marks(tmp_path / "a", tasks))]
    played = play(tasks, pool=pool, once=_empty(tmp_path / "b"))
    assert [e.retries for e in played] == [1, 1, 0, 1]
    assert [e.identity() for e in played] == clean


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _marks(folder: Path, tasks: list[TaskRef]) -> Path:
    """A folder in which every task broke already."""
    folder.mkdir()
    for task in tasks:
        (folder / task.task_id).touch()
    return folder


@pytest.mark.slow
def test_a_worker_that_dies_or_hangs_is_replaced_and_its_neighbours_lose_nothing(tmp_path: Path) -> None:
    names = ["exit-1", "hang-1", *(f"ok-{n}" for n in range(12))]
    played = play(faulty(*names), limits=PoolLimits(step=1.0), concurrency=14)
    dead, hung, *rest = played
    assert (dead.error or "").startswith("WorkerLostError") and "13" in (dead.error or ""), dead.error
    assert (hung.error or "").startswith("EnvTimeoutError") and "1 s" in (hung.error or ""), hung.error
    assert all(e.won and e.error is None for e in rest)
    again = play(faulty(*names), limits=PoolLimits(step=5.0), once=_empty(tmp_path / "once"), concurrency=14)
    assert all(e.won and e.error is None for e in again)
    assert [e.identity() for e in again[2:]] == [e.identity() for e in rest], "played again with the same seed"
    assert again[0].retries >= 1 and again[1].retries >= 1


@pytest.mark.parametrize(("culprit", "tries"), [(True, 3), (False, BYSTANDER_RETRIES + 3)])
def test_losses_with_a_worker_are_bounded(culprit: bool, tries: int) -> None:
    class Deadly(InProcessPool):
        acquired = 0

        async def acquire(self, task: TaskRef, *, alone: bool = False) -> Any:
            Deadly.acquired += 1
            raise WorkerLostError("the worker died", culprit=culprit)

    manager = RolloutManager(Deadly(FaultyEnv), POLICY, retries=2)
    (group,) = asyncio.run(manager.run(faulty("ok-1")))
    assert group.errored[0].error == "WorkerLostError: the worker died"
    assert group.errored[0].retries == tries - 1 and Deadly.acquired == tries


def test_an_environment_that_could_not_be_made_once_is_made_later() -> None:
    tries = iter([OSError("port in use")])

    def flaky() -> FaultyEnv:
        for error in tries:
            raise error
        return FaultyEnv()

    groups = asyncio.run(RolloutManager(flaky, POLICY, concurrency=4).run(faulty("ok-1", "ok-2", "ok-3")))
    assert [group.episodes[0].retries for group in groups] == [1, 0, 0]


def test_a_policy_that_cannot_go_to_the_workers_ends_the_run() -> None:
    class Local(ScriptedPolicy):
        needs_env = True

    with pytest.raises(PoolError, match="pickle"):
        play(faulty("ok-1", "ok-2"), Local(["go"]))


def test_no_environment_at_all_ends_the_run_at_once() -> None:
    def broken() -> Any:
        raise ImportError("its package is missing: pip install it")

    with pytest.raises(ImportError, match="pip install it"):
        asyncio.run(RolloutManager(broken, POLICY).run(faulty("ok-1", "ok-2")))


@pytest.mark.slow
def test_an_environment_that_prints_a_hundred_megabytes_blocks_nothing() -> None:
    played = play(faulty("print-1", "ok-1", "print-2"))
    assert all(e.won and e.error is None for e in played)


# -- engines ----------------------------------------------------------------------------------------------------------


def test_an_engine_that_dies_in_the_middle_ends_every_episode_with_its_message(tmp_path: Path) -> None:
    engine = FakeTokenEngine(latency=0.001, fail=lambda call: call >= 30)
    with EpisodeWriter(tmp_path / "episodes.jsonl") as writer:
        played = play(
            faulty(*(f"ok-{n}" for n in range(20))), model(engine), pool="inline", writer=writer, concurrency=4
        )
    won, failed = [e for e in played if e.won], [e for e in played if e.error]
    assert len(won) + len(failed) == 20 and won and failed
    assert all((e.error or "").startswith("EngineError: call") for e in failed)
    assert sum(e.won for e in read_episodes(tmp_path / "episodes.jsonl")) == len(won), "completed ones are kept"


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (Response("hi"), "returned no token"),
        (Response("hi", (1, 2), (-0.5,)), "1 logprobs for 2 tokens"),
        (Response("hi", (1,), (-0.5,), (0.1, 0.2)), "2 entropies for 1 tokens"),
    ],
)
def test_malformed_or_empty_output_is_an_engine_error(response: Response, said: str) -> None:
    class Malformed(FakeTokenEngine):
        async def generate(self, request: Any) -> Response:
            return response

    (episode,) = play(faulty("ok-1"), model(Malformed()), pool="inline")
    assert (episode.error or "").startswith("EngineError") and said in (episode.error or "")


def test_an_engine_that_never_answers_is_given_up() -> None:
    engine = FakeTokenEngine(latency=3600)
    (episode,) = play(faulty("ok-1"), model(engine), pool="inline", answer_limit=0.05)
    assert (episode.error or "").startswith("AnswerTimeoutError: no answer within 0.05 s") and episode.retries == 1
    assert engine.running == 0, "nothing is generated for it any more"


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """[seconds slept]: pauses of more than 0.1 s pass at once."""
    slept, sleep = [0.0], asyncio.sleep

    async def quick(seconds: float, *rest: Any) -> Any:
        slept[0] += seconds if seconds > 0.1 else 0
        return await sleep(0 if seconds > 0.1 else seconds, *rest)

    monkeypatch.setattr(asyncio, "sleep", quick)
    yield slept


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_refuses_for_a_minute_costs_a_minute_and_nothing_else(
    status: int, virtual_time: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")

    def answer(request: httpx.Request) -> httpx.Response:
        if virtual_time[0] < 60:
            return httpx.Response(status, text="overloaded")
        return httpx.Response(200, json={"choices": [{"message": {"content": "go"}, "finish_reason": "stop"}]})

    engine = OpenAIEngine("m", base_url="http://127.0.0.1:1/v1", transport=httpx.MockTransport(answer))
    policy = ChatPolicy(PlainSpec(), engine, LineParser(), Sampling())
    (episode,) = play(faulty("ok-1"), policy, pool="inline", retries=2)
    assert episode.won and episode.error is None and virtual_time[0] >= 60


# -- the machine ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = _empty(tmp_path / "small")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_keeps_what_was_recorded(small_disk: Path) -> None:
    command = [sys.executable, "-m", "aem_agent.cli"]
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    out = small_disk / "run"
    run = [*command, "run", "aem/ALFWorld-v0", "-m", "random", "-n", "50", "--out", str(out)]
    done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "free some space and resume" in done.stderr and "Traceback" not in done.stderr
    kept = list(read_episodes(out / "episodes.jsonl"))
    assert kept and all(e.completed for e in kept)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    resumed = subprocess.run(
        [*command, "run", "--resume", str(out), "--json"], env=env, capture_output=True, text=True, timeout=120
    )
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["n"] == 50
    episodes = list(read_episodes(out / "episodes.jsonl"))
    assert episodes[: len(kept)] == kept and len(episodes) == 50


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    straight = play(faulty("ok-1", "ok-2"), limits=PoolLimits(step=30.0, episode=60.0))
    jumps = iter([1e9, -1e9] * 100_000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    jumped = play(faulty("ok-1", "ok-2"), limits=PoolLimits(step=30.0, episode=60.0))
    assert [e.identity() for e in jumped] == [e.identity() for e in straight]
    assert all(0 <= e.seconds < 60 for e in jumped)


@pytest.mark.parametrize("pool", ["inline", "processes"])
def test_duplicate_tasks_are_further_attempts_and_no_tasks_are_no_episodes(pool: str) -> None:
    played = play(faulty("ok-1", "ok-1", "ok-2"), pool=pool)
    assert [(e.task_id, e.repeat) for e in played] == [("ok-1", 0), ("ok-1", 1), ("ok-2", 0)]
    assert len({e.seed for e in played}) == 3
    assert play([], pool=pool) == []
