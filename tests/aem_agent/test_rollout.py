"""The rollout manager: same episodes at any concurrency, nobody waits for others, failures are typed and apart."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest

import aem_envs  # noqa: F401  # registers the environments
from aem_agent.policies import ExpertPolicy, RandomPolicy, ScriptedPolicy
from aem_agent.rollout import RolloutManager
from aem_agent.types import (
    Decision,
    EngineError,
    Episode,
    Response,
    RolloutInterruptedError,
    TaskRef,
    TrainingNeedsTokensError,
)
from aem_envs.core import BadOptionError, Capabilities, InfrastructureError, TextEnv
from envs_data.errors import GameFileError

TOY = "aem/Toy-v0"
ALFWORLD = "aem/ALFWorld-v0"


def toy() -> gym.Env[str, str]:
    return gym.make(TOY)


def toy_tasks(n: int) -> list[TaskRef]:
    env = toy().unwrapped
    assert isinstance(env, TextEnv)
    return [TaskRef(TOY, task_id, "train") for task_id in env.task_ids("train", n)]


class Chain(TextEnv):
    """Ends after as many steps as the task id says; `faults` are raised, or returned, at the steps they name, once
    each.
    """

    made = 0

    def __init__(self, faults: dict[int, Any] | None = None, reason: str | None = None) -> None:
        super().__init__(split="test", max_steps=1000, render_mode=None)
        Chain.made += 1
        self.faults = {} if faults is None else faults
        self.reason = reason
        self.closed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        assert options is not None
        self.length = int(options["task_id"])
        self.steps = 0
        return "start", {}

    def step(self, action: str) -> Any:
        self.steps += 1
        fault = self.faults.pop(self.steps, None)
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            return fault, 0.0, False, False, {}
        done = self.steps == self.length
        info = {"won": done, "truncation_reason": self.reason if done else None}
        return f"step {self.steps}", float(done), done and self.reason is None, done and self.reason is not None, info

    def close(self) -> None:
        self.closed = True


def chain(*lengths: int) -> list[TaskRef]:
    return [TaskRef("test/Chain-v0", str(n), "test") for n in lengths]


def play(manager: RolloutManager, tasks: list[TaskRef], repeats: int = 1, **options: Any) -> Any:
    return asyncio.run(manager.run(tasks, repeats, **options))


@pytest.mark.parametrize("make_policy", [RandomPolicy, ExpertPolicy, lambda: ExpertPolicy(noise=0.3)])
def test_same_episodes_at_any_concurrency(make_policy: Callable[[], Any]) -> None:
    tasks = toy_tasks(12)
    runs = {}
    for concurrency in (1, 2, 8, 64):
        groups = play(RolloutManager(toy, make_policy(), concurrency=concurrency, seed=3), tasks, 3)
        runs[concurrency] = [episode.identity() for group in groups for episode in group.episodes]
    assert len(runs[1]) == 36
    assert [e.repeat for e in runs[1][:3]] == [0, 1, 2] and runs[1][3].task_id == tasks[1].task_id
    assert all(run == runs[1] for run in runs.values())
    other = play(RolloutManager(toy, make_policy(), seed=4), tasks, 3)
    assert [g.episodes[0].seed for g in other] != [e.seed for e in runs[1][::3]]


@pytest.mark.parametrize("name", ["random", "expert", "expert-search"])
def test_same_alfworld_episodes_at_any_concurrency(name: str) -> None:
    env = gym.make(ALFWORLD).unwrapped
    assert isinstance(env, TextEnv)
    tasks = [TaskRef(ALFWORLD, task_id, "train") for task_id in env.task_ids("train", 6)]
    runs = []
    for concurrency in (1, 8, 64):
        policy = RandomPolicy() if name == "random" else ExpertPolicy(name)
        groups = play(RolloutManager(lambda: gym.make(ALFWORLD), policy, concurrency=concurrency), tasks, 2)
        runs.append([episode.identity() for group in groups for episode in group.episodes])
    assert len(runs[0]) == 12 and runs[0] == runs[1] == runs[2]


def test_expert_wins_and_script_is_followed() -> None:
    (group,) = play(RolloutManager(toy, ExpertPolicy()), toy_tasks(1))
    (episode,) = group.episodes
    assert episode.won and episode.terminated and episode.return_ == 1.0 and episode.turns[-1].info["won"]
    actions = [turn.action for turn in episode.turns]
    (again,) = play(RolloutManager(toy, ScriptedPolicy(actions)), toy_tasks(1))[0].episodes
    assert again.turns == episode.turns and again.final_observation == episode.final_observation


def test_invalid_actions_are_recorded_and_limit_truncates() -> None:
    (episode,) = play(RolloutManager(toy, ScriptedPolicy(["fly"]), max_turns=3), toy_tasks(1))[0].episodes
    assert [turn.action for turn in episode.turns] == ["fly", "", ""]
    assert not any(turn.action_valid for turn in episode.turns)
    assert {turn.info["anchor"] for turn in episode.turns} == {episode.start_anchor} != {""}, "nothing has changed"
    assert (episode.terminated, episode.truncated, episode.truncation_reason) == (False, True, "max_steps")
    assert episode.error is None


def test_environments_are_reused() -> None:
    Chain.made = 0
    play(RolloutManager(Chain, Waiting(0), concurrency=4), chain(*range(1, 41)))
    assert Chain.made == 4


def test_transient_failure_is_retried_with_the_same_seed() -> None:
    env = Chain({2: InfrastructureError("container died")})
    (clean,) = play(RolloutManager(Chain, RandomPolicy()), chain(3))[0].episodes
    spare = [env, Chain(env.faults)]
    (episode,) = play(RolloutManager(lambda: spare.pop(0), RandomPolicy()), chain(3))[0].episodes
    assert episode.retries == 1 and episode.identity() == clean.identity()
    assert env.closed, "a broken environment is closed, not reused"


@pytest.mark.parametrize(
    ("fault", "error", "tries"),
    [
        (InfrastructureError("x"), "InfrastructureError: x", 3),
        (ZeroDivisionError("bug"), "ZeroDivisionError: bug", 3),
        (EngineError("down"), "EngineError: down", 3),
        (BadOptionError("no such task"), "BadOptionError: no such task", 1),
        (7, "InfrastructureError: the environment returned int and dict", 3),
    ],
)
def test_lasting_failure_is_a_typed_error_kept_apart(fault: Any, error: str, tries: int) -> None:
    Chain.made = 0
    groups = play(RolloutManager(lambda: Chain({2: fault}), RandomPolicy(), concurrency=1), chain(5, 1))
    assert groups[0].episodes == () and len(groups[1].episodes) == 1
    (failed,) = groups[0].errored
    assert failed.error is not None and failed.error.startswith(error)
    assert not failed.completed and not failed.terminated and failed.truncated and len(failed.turns) == 1
    assert failed.truncation_reason == f"infra:{error.split(':')[0]}"
    assert Chain.made == tries + 1, "one per try, and one for the other task"


def test_wrong_use_ends_the_run_before_its_first_turn_and_no_later() -> None:
    class Choosy(RandomPolicy):
        def start(self, env: Any, task: TaskRef, seed: int) -> Any:
            if task.task_id == "5":
                raise BadOptionError("not this one")
            return super().start(env, task, seed)

    with pytest.raises(BadOptionError, match="not this one"):
        play(RolloutManager(Chain, Choosy(), concurrency=1), chain(5, 1))
    groups = play(RolloutManager(Chain, Choosy(), concurrency=1), chain(1, 5))
    assert len(groups[0].episodes) == 1 and groups[1].errored[0].error == "BadOptionError: not this one"


def test_infra_truncation_is_an_error_and_a_limit_is_not() -> None:
    (group,) = play(RolloutManager(lambda: Chain(reason="infra:page"), RandomPolicy()), chain(2))
    assert group.errored[0].error == "InfrastructureError: infra:page"
    assert group.errored[0].truncation_reason == "infra:page" and group.errored[0].retries == 2
    (group,) = play(RolloutManager(lambda: Chain({1: GameFileError("cut off")}), RandomPolicy()), chain(2))
    assert group.errored[0].retries == 0, "a damaged file stays damaged"
    (group,) = play(RolloutManager(lambda: Chain(reason="time_limit"), RandomPolicy()), chain(2))
    assert group.episodes[0].truncation_reason == "time_limit"


class Waiting:
    """Suspends on every turn, for long in the task "1"."""

    name, trainable = "waiting", False

    def __init__(self, slow: float = 0.2) -> None:
        self.slow = slow
        self.active = self.most = 0

    def start(self, env: Any, task: TaskRef, seed: int) -> "WaitingEpisode":
        return WaitingEpisode(self, self.slow if task.task_id == "1" else 0.0)

    async def aclose(self) -> None: ...


class WaitingEpisode:
    def __init__(self, owner: Waiting, seconds: float) -> None:
        self.owner = owner
        self.seconds = seconds

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        owner = self.owner
        owner.active += 1
        owner.most = max(owner.most, owner.active)
        await asyncio.sleep(self.seconds)
        owner.active -= 1
        return Decision(Response("go"), "go")


def test_a_slow_episode_delays_no_other() -> None:
    ended: list[str] = []
    policy = Waiting()
    manager = RolloutManager(Chain, policy, concurrency=2, on_episode=lambda e: ended.append(e.task_id))
    groups = play(manager, chain(1, *range(2, 30)))
    assert ended == [*map(str, range(2, 30)), "1"]
    assert [g.task.task_id for g in groups] == [*map(str, range(1, 30))], "results keep the order of the tasks"
    policy = Waiting(0)
    play(RolloutManager(Chain, policy, concurrency=16), chain(*[5] * 32))
    assert policy.most == 16, "all active episodes wait for the engine together"


def test_duplicate_zero_and_skipped_tasks() -> None:
    groups = play(RolloutManager(Chain, RandomPolicy()), chain(2, 2), 2)
    assert [e.repeat for g in groups for e in g.episodes] == [0, 1, 2, 3]
    assert len({e.seed for g in groups for e in g.episodes}) == 4
    assert play(RolloutManager(Chain, RandomPolicy()), []) == []
    groups = play(RolloutManager(Chain, RandomPolicy()), chain(2, 3), 2, skip={("2", 0), ("3", 1)})
    assert [(e.task_id, e.repeat) for g in groups for e in g.episodes] == [("2", 1), ("3", 0)]


def test_failing_callback_stops_the_run_and_leaves_no_task() -> None:
    def full(episode: Episode) -> None:
        raise OSError("disk full")

    async def main() -> None:
        with pytest.raises(OSError, match="disk full"):
            await RolloutManager(Chain, Waiting(0.0), on_episode=full).run(chain(*range(2, 20)))
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_stop_finishes_what_is_in_flight() -> None:
    ended: list[Episode] = []

    def on_episode(episode: Episode) -> None:
        ended.append(episode)
        manager.stop()

    manager = RolloutManager(Chain, Waiting(0.0), concurrency=3, on_episode=on_episode)
    with pytest.raises(RolloutInterruptedError) as stopped:
        play(manager, chain(*range(2, 40)))
    assert [e.task_id for e in ended] == ["2", "3", "4"]
    assert [e for g in stopped.value.groups for e in g.episodes] == ended


@pytest.mark.parametrize(("signals", "kept"), [(1, {"1", "2"}), (2, {"2"})])
def test_ctrl_c_drains_and_a_second_one_drops(signals: int, kept: set[str]) -> None:
    ended: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for n in range(signals):
            loop.call_later(0.05 + 0.03 * n, os.kill, os.getpid(), signal.SIGINT)
        manager = RolloutManager(Chain, Waiting(0.3), concurrency=2, on_episode=lambda e: ended.append(e.task_id))
        started = time.perf_counter()
        with pytest.raises(RolloutInterruptedError):
            await manager.run(chain(1, 2, *[1] * 30), handle_signals=True)
        assert (time.perf_counter() - started < 0.25) == (signals == 2)
        assert len(asyncio.all_tasks()) == 1

    before = signal.getsignal(signal.SIGINT)
    asyncio.run(main())
    assert signal.getsignal(signal.SIGINT) is before
    assert set(ended) == kept


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_ends_episodes_that_never_wait_too(signals: int) -> None:
    """At once: not when all slots have played one more, or the rest of theirs."""
    steps: list[int] = []

    class Busy(Chain):
        def step(self, action: str) -> Any:
            steps.append(1)
            if len(steps) in (30, 33)[:signals]:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(action)

    manager = RolloutManager(Busy, ScriptedPolicy([]), concurrency=16)
    with pytest.raises(RolloutInterruptedError) as stopped:
        play(manager, chain(*[20] * 40), handle_signals=True)
    assert len(stopped.value.groups[0].episodes) == 1
    assert len(steps) == (40 if signals == 1 else 33)


def test_stopping_two_runs_starts_nothing_more() -> None:
    started: list[str] = []

    class Noting(Waiting):
        def start(self, env: Any, task: TaskRef, seed: int) -> WaitingEpisode:
            started.append(task.task_id)
            return super().start(env, task, seed)

    async def main() -> None:
        manager = RolloutManager(Chain, Noting(0.05), concurrency=4)
        runs = [asyncio.ensure_future(manager.run(chain(*[1] * 12))) for _ in range(2)]
        await asyncio.sleep(0.02)
        count = len(started)
        manager.stop()
        for run in runs:
            with pytest.raises(RolloutInterruptedError):
                await run
        assert len(started) == count == 4

    asyncio.run(main())


def test_cancelling_the_caller_cancels_everything() -> None:
    async def main() -> None:
        run = asyncio.ensure_future(RolloutManager(Chain, Waiting(9), concurrency=2).run(chain(1, 1)))
        await asyncio.sleep(0.02)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_collecting_for_training_needs_tokens() -> None:
    with pytest.raises(TrainingNeedsTokensError, match="random"):
        asyncio.run(RolloutManager(Chain, RandomPolicy()).collect(chain(1), 2, seed=0))


class Blocking(Chain):
    """One step, which waits until all its fellows wait too: played in one thread, none would ever end."""

    capabilities = Capabilities(blocking=True)
    barrier = threading.Barrier(8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return "start", {"seconds": {"start": 0.25, "waiting": 1.0}}

    def step(self, action: str) -> Any:
        self.barrier.wait(timeout=30)
        return "done", 1.0, True, False, {"won": True, "details": {"n": 2}, "seconds": {"waiting": 0.5}}


def test_environments_that_wait_are_played_in_threads() -> None:
    manager = RolloutManager(Blocking, ScriptedPolicy([]), concurrency=8)
    (group,) = play(manager, chain(1), 8)
    assert [e.won for e in group.episodes] == [True] * 8
    turn = group.episodes[0].turns[0]
    assert turn.info["details"] == {"n": 2} and turn.info["seconds"] == {"start": 0.25, "waiting": 1.5}
    assert "seconds" not in group.episodes[0].identity().turns[0].info
    asyncio.run(manager.aclose())


class Stuck(Chain):
    """Its step ends when the environment is closed, and not before."""

    capabilities = Capabilities(blocking=True)

    def __init__(self) -> None:
        super().__init__()
        self.stepping, self.ended = threading.Event(), threading.Event()

    def step(self, action: str) -> Any:
        self.stepping.set()
        assert self.ended.wait(timeout=60)
        raise InfrastructureError("closed meanwhile")

    def close(self) -> None:
        self.ended.set()


def test_an_episode_that_waits_is_dropped_by_closing_its_environment() -> None:
    env = Stuck()
    manager = RolloutManager(lambda: env, ScriptedPolicy([]))

    async def dropped() -> None:
        run = asyncio.ensure_future(manager.run(chain(1)))
        assert await asyncio.to_thread(env.stepping.wait, 60)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert env.ended.is_set()
        await manager.aclose()

    asyncio.run(dropped())
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("env")]:
        thread.join(timeout=60)
        assert not thread.is_alive(), "left behind"
