"""Which groups a training step takes: all, the first of the order that differ, or those that are complete first."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import pytest

from aem_agent.collection import Collected, Wanted, not_uniform
from aem_agent.rollout import RolloutManager
from aem_agent.types import AgentError, Decision, Response, RolloutInterruptedError, TaskRef
from aem_envs.core import TextEnv

ENV = "test/Graded-v0"


class Graded(TextEnv):
    """One step. Even tasks are won by every second attempt, odd ones by all; "bad" ones break."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        assert options is not None
        self.task = int(options["task_id"])
        return "start", {}

    def step(self, action: str) -> Any:
        repeat = int(action)
        if self.task % 10 == 9:
            raise ZeroDivisionError("broken task")
        won = self.task % 2 == 1 or repeat % 2 == 0
        return "end", float(won), True, False, {"won": won}


class Numbered:
    """Says how often the task was asked before; sleeps as `delay` says of (task, attempt)."""

    name, trainable = "numbered", True

    def __init__(self, delay: Callable[[int, int], float] = lambda task, attempt: 0.0) -> None:
        self.asked: dict[str, int] = {}
        self.delay = delay
        self.cancelled = 0

    def start(self, env: Any, task: TaskRef, seed: int) -> Any:
        attempt = self.asked.get(task.task_id, 0)
        self.asked[task.task_id] = attempt + 1
        owner = self

        class Answers:
            async def act(self, observation: str, info: dict[str, Any]) -> Decision:
                try:
                    await asyncio.sleep(owner.delay(int(task.task_id), attempt))
                except asyncio.CancelledError:
                    owner.cancelled += 1
                    raise
                return Decision(Response(str(attempt), (1,)), str(attempt))

        return Answers()

    async def aclose(self) -> None: ...


def tasks() -> Iterator[TaskRef]:
    return (TaskRef(ENV, str(n), "train") for n in count())


def collect(policy: Numbered, wanted: Wanted | None, given: Any = None, **options: Any) -> Collected:
    manager = RolloutManager(Graded, policy, **({"concurrency": 8, "retries": 0} | options))
    listed = tasks() if given is None else given
    return asyncio.run(asyncio.wait_for(manager.collect(listed, 4, seed=1, wanted=wanted), 60))


def places(groups: Any) -> list[int]:
    return [int(group.task.task_id) for group in groups]


def test_without_a_number_all_tasks_are_played() -> None:
    found = collect(Numbered(), None, islice(tasks(), 5))
    assert places(found.groups) == [0, 1, 2, 3, 4] and found.tasks == 5 and found.abandoned == 0


@pytest.mark.parametrize("concurrency", [1, 3, 8, 64])
@pytest.mark.parametrize("spare", [0, 2, 5])
def test_uniform_groups_are_replaced_in_the_order_of_tasks_whatever_the_timing(concurrency: int, spare: int) -> None:
    slow = Numbered(lambda task, attempt: 0.02 if task in (0, 4) else 0.0)
    found = collect(slow, Wanted(3, not_uniform, spare=spare), concurrency=concurrency)
    assert places(found.groups) == [0, 2, 4] and places(found.rejected) == [1, 3]
    assert found.tasks == 5, "the next step goes on with task 5"
    assert all(len({e.return_ for e in group.episodes}) == 2 for group in found.groups)
    begun = sum(slow.asked.values())
    assert begun - 20 == found.abandoned and (spare or begun <= 24)


def test_enough_complete_groups_end_a_collection_early_and_nobody_waits_for_the_slowest() -> None:
    policy = Numbered(lambda task, attempt: 3600.0 if (task, attempt) == (0, 3) else 0.0)
    found = collect(policy, Wanted(3, early=True, spare=1), concurrency=16)
    assert places(found.groups) == [1, 2, 3] and policy.cancelled == 1
    assert found.abandoned == 4 and found.tasks == 4


def test_dropped_episodes_leave_their_environments_as_good_as_they_were() -> None:
    made: list[Graded] = []
    closed: list[Graded] = []

    class Counted(Graded):
        def close(self) -> None:
            closed.append(self)

    def make() -> Graded:
        made.append(Counted())
        return made[-1]

    async def main() -> None:
        policy = Numbered(lambda task, attempt: 3600.0 if task == 0 else 0.0)
        manager = RolloutManager(make, policy, concurrency=8)
        await manager.collect(tasks(), 4, seed=1, wanted=Wanted(1, early=True, spare=1))
        assert policy.cancelled == 4 and not closed, "they waited for an answer, not in a call"
        policy.delay = lambda task, attempt: 0.0
        await manager.collect(tasks(), 4, seed=2, wanted=Wanted(2))
        assert len(made) == 8
        await manager.aclose()
        assert len(closed) == 8

    asyncio.run(main())


def test_a_list_may_end_before_enough_was_found() -> None:
    found = collect(Numbered(), Wanted(5, not_uniform), islice(tasks(), 4))
    assert places(found.groups) == [0, 2] and places(found.rejected) == [1, 3] and found.tasks == 4
    found = collect(Numbered(), Wanted(5), iter(()))
    assert found.groups == ()


def test_errored_episodes_lie_apart_and_do_not_stop_a_group() -> None:
    found = collect(Numbered(), Wanted(2, not_uniform), (TaskRef(ENV, str(n), "train") for n in (9, 0, 19, 2, 4)))
    assert places(found.groups) == [0, 2] and places(found.rejected) == [9, 19]
    assert [len(group.errored) for group in found.rejected] == [4, 4]


def test_two_collections_of_one_manager_share_its_slots() -> None:
    running = most = 0

    class Counting(Numbered):
        def start(self, env: Any, task: TaskRef, seed: int) -> Any:
            answers = super().start(env, task, seed)

            class Counted:
                async def act(self, observation: str, info: dict[str, Any]) -> Decision:
                    nonlocal running, most
                    running += 1
                    most = max(most, running)
                    await asyncio.sleep(0.002)
                    running -= 1
                    return await answers.act(observation, info)  # type: ignore[no-any-return]

            return Counted()

    async def main() -> None:
        manager = RolloutManager(Graded, Counting(), concurrency=5)
        both = [
            manager.collect(islice(tasks(), 6), 4, seed=n, wanted=wanted) for n, wanted in ((1, None), (2, Wanted(6)))
        ]
        first, second = await asyncio.gather(*both)
        assert len(first.groups) == len(second.groups) == 6

    asyncio.run(main())
    assert most == 5


@pytest.mark.parametrize("early", [False, True])
def test_stopping_a_collection_never_hangs(early: bool) -> None:
    async def main() -> None:
        manager = RolloutManager(Graded, Numbered(lambda task, attempt: 0.01), concurrency=64)
        run = asyncio.ensure_future(manager.collect(tasks(), 4, seed=1, wanted=Wanted(3, not_uniform, early=early)))
        await asyncio.sleep(0.002)
        manager.stop()
        with pytest.raises(RolloutInterruptedError):
            await asyncio.wait_for(run, 30)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_nonsense_is_refused() -> None:
    for wanted in (Wanted(0), Wanted(1, spare=-1)):
        with pytest.raises(AgentError, match="at least"):
            collect(Numbered(), wanted)
