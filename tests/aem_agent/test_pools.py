"""Every pool: the same episodes, the same errors, broken environments replaced, nothing handed to the wrong episode."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from pool_envs import TASK, Choosy, Hosted, Odd, Threaded, Waiting

import aem_envs  # noqa: F401  # registers the environments
from aem_agent.policies import ExpertPolicy, RandomPolicy, ScriptedPolicy
from aem_agent.pools import EnvPool, PoolLimits, make_pool
from aem_agent.pools.base import EnvTimeoutError, PoolError
from aem_agent.rollout import RolloutManager
from aem_agent.types import Episode, Policy, TaskRef
from aem_envs.core import BadOptionError, InfrastructureError, TextEnv
from aem_envs.plugins import UnknownPluginError
from envs_data.errors import GameFileError

POOLS = ("inline", "processes")


@asynccontextmanager
async def opened(name: str, make_env: Any, **options: Any) -> AsyncIterator[EnvPool]:
    pool = make_pool(name, make_env, **{"workers": 2, **options})
    try:
        yield pool
    finally:
        await pool.aclose()


async def episodes(
    pool: EnvPool, policy: Policy, tasks: list[TaskRef], concurrency: int, repeats: int
) -> list[Episode]:
    groups = await RolloutManager(pool, policy, concurrency=concurrency, seed=3).run(tasks, repeats)
    assert not any(group.errored for group in groups)
    return [episode.identity() for group in groups for episode in group.episodes]


def tasks_of(env_id: str, n: int) -> list[TaskRef]:
    env = gym.make(env_id).unwrapped
    assert isinstance(env, TextEnv)
    return [TaskRef(env_id, task_id, "train") for task_id in env.task_ids("train", n)]


def same_everywhere(env_id: str, policies: list[Callable[[], Policy]], n: int, concurrencies: tuple[int, ...]) -> None:
    tasks, make_env = tasks_of(env_id, n), partial(gym.make, env_id)
    pools = {name: make_pool(name, make_env, workers=2) for name in POOLS}
    for make_policy in policies:
        runs = {}
        for name, pool in pools.items():
            for concurrency in concurrencies:  # each in an event loop of its own, as a trainer's steps are
                runs[name, concurrency] = asyncio.run(episodes(pool, make_policy(), tasks, concurrency, 2))
        first = runs["inline", 1]
        assert len(first) == 2 * n and any(len(episode.turns) > 1 for episode in first)
        different = [run for run, played in runs.items() if played != first]
        assert not different
    for pool in pools.values():
        asyncio.run(pool.aclose())


def test_same_episodes_of_the_toy() -> None:
    scripted = partial(ScriptedPolicy, ["go east", "take key", "go east", "open red chest", "fly"])
    policies: list[Callable[[], Policy]] = [RandomPolicy, ExpertPolicy, partial(ExpertPolicy, noise=0.3), scripted]
    same_everywhere("aem/Toy-v0", policies, 12, (1, 2, 8, 64))


@pytest.mark.slow
def test_same_episodes_of_alfworld() -> None:
    policies: list[Callable[[], Policy]] = [RandomPolicy, ExpertPolicy, partial(ExpertPolicy, "expert-search")]
    same_everywhere("aem/ALFWorld-v0", policies, 4, (1, 2, 8, 64))


@pytest.mark.slow
def test_same_episodes_of_webshop() -> None:
    same_everywhere("aem/WebShop-v0", [RandomPolicy, ExpertPolicy], 3, (1, 8))


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("make_env", [Odd, Waiting])
def test_errors_keep_their_types(name: str, make_env: Any) -> None:
    expected: dict[str, tuple[type[Exception], str]] = {
        "raise option": (BadOptionError, "of its options"),
        "raise plugin": (UnknownPluginError, "of its plugins"),
        "raise data": (GameFileError, "of its data"),
        "raise infra": (InfrastructureError, "of its page"),
        "types": (InfrastructureError, "returned int and dict"),
        "reward": (InfrastructureError, "not a number"),
        "short": (TypeError, "checked_step"),
    }

    async def main() -> None:
        async with opened(name, make_env) as pool:
            session = await pool.acquire(TASK)
            with pytest.raises(BadOptionError, match="no such task"):
                await session.reset(TaskRef("test/Odd-v0", "refused", "test"), 1)
            for action, (kind, text) in expected.items():
                await session.reset(TASK, 1)
                with pytest.raises(kind, match=text) as caught:
                    await session.step(action)
                assert type(caught.value) is kind
            assert (await session.step("on"))[0].endswith("on"), "the environment itself goes on"
            await pool.release(session, broken=False)

    asyncio.run(main())


@pytest.mark.parametrize("name", POOLS)
def test_what_cannot_be_made_says_so(name: str) -> None:
    async def main() -> None:
        async with opened(name, Choosy) as pool:
            with pytest.raises(BadOptionError, match="not with these options"):
                await pool.acquire(TASK)

    asyncio.run(main())


@pytest.mark.parametrize("name", POOLS)
def test_broken_environments_are_closed_and_replaced_and_others_reused(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def main() -> None:
        async with opened(name, partial(Odd, str(log)), workers=1) as pool:
            session = await pool.acquire(TASK)
            await session.reset(TASK, 1)
            await session.step("break_close")
            await pool.release(session, broken=True)
            session = await pool.acquire(TASK)
            assert (await session.reset(TASK, 7))[0] == "task 0 seed 7"
            await pool.release(session, broken=False)
            again = await pool.acquire(TASK)
            assert again is session
            await again.reset(TASK, 1)
            assert log.read_text().split() == ["made", "closed", "made"]
            await pool.release(again, broken=False)
        assert log.read_text().split() == ["made", "closed", "made", "closed"]

    asyncio.run(main())


@pytest.mark.parametrize("name", POOLS)
def test_a_call_that_was_given_up_answers_nobody(name: str) -> None:
    async def main() -> None:
        async with opened(name, Waiting, workers=1) as pool:
            session = await pool.acquire(TASK)
            await session.reset(TASK, 1)
            call = asyncio.ensure_future(session.step("sleep 0.3"))
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await pool.release(session, broken=True)
            other = await pool.acquire(TASK)
            assert other is not session
            assert (await other.reset(TASK, 2))[0] == "task 0 seed 2"
            for n in range(1, 9):
                assert (await other.step("on"))[0] == f"{n} on"
                await asyncio.sleep(0.05)
            await pool.release(other, broken=False)
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("name", POOLS)
def test_waiting_environments_are_given_up_alone(name: str) -> None:
    """A limit ends the call at once, and nobody else's."""

    async def main() -> None:
        async with opened(name, Waiting, workers=1, limits=PoolLimits(step=1.0, episode=3.0)) as pool:
            slow, other = [await pool.acquire(TASK) for _ in range(2)]
            await asyncio.gather(slow.reset(TASK, 1), other.reset(TASK, 2))
            pid = (await other.step("on"))[4]["pid"]
            with pytest.raises(EnvTimeoutError, match=r"more than 1.* s for one call"):
                await slow.step("sleep 3")
            await pool.release(slow, broken=True)
            assert (await other.step("on"))[4]["pid"] == pid
            with pytest.raises(EnvTimeoutError, match="episode took more than 3"):
                while True:
                    await other.step("sleep 0.2")
            await pool.release(other, broken=True)

    asyncio.run(main())


def test_limits_that_cannot_be_kept_are_refused() -> None:
    async def refused(make_env: Any, **limits: Any) -> None:
        pool = make_pool("inline", make_env, limits=PoolLimits(**limits))
        with pytest.raises(PoolError, match='pool "processes"'):
            await pool.acquire(TASK)

    for make_env, limits in ((Odd, {"step": 1}), (Odd, {"episode": 1}), (Odd, {"memory": 1}), (Waiting, {"memory": 1})):
        asyncio.run(refused(make_env, **limits))


def test_a_thread_that_is_stuck_keeps_no_process_from_ending() -> None:
    program = (
        "import asyncio; from pool_envs import TASK, Waiting; from aem_agent.pools import *\n"
        "async def main():\n"
        "    pool = make_pool('inline', Waiting, limits=PoolLimits(step=0.1))\n"
        "    session = await pool.acquire(TASK)\n"
        "    await session.reset(TASK, 1)\n"
        "    try: await session.step('sleep 3600')\n"
        "    except Exception as error: print(type(error).__name__)\n"
        "    await pool.release(session, broken=True)\n"
        "    await pool.aclose()\n"
        "asyncio.run(main())\n"
    )
    assert run_program(program) == "EnvTimeoutError\n"


def run_program(program: str) -> str:
    import subprocess
    import sys

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120, check=True
    )
    return done.stdout


@pytest.mark.parametrize("make_env", [Odd, Waiting])
def test_policies_live_with_their_environments(make_env: Any) -> None:
    async def main() -> None:
        async with opened("processes", make_env, workers=1) as pool:
            session = await pool.acquire(TASK)
            seen = await session.reset(TASK, 5)
            agent = session.start(Hosted(), TASK, 5)
            decision = await agent.act(*seen)
            inside, told = decision.action.split("|")
            assert inside == told == str(seen[1]["pid"]) != str(os.getpid())
            assert decision.response.text == "task 0 seed 5"
            assert (await agent.act("other text", {"pid": 7})).action == f"{inside}|7", "it sees what it is given"
            local = session.start(ScriptedPolicy(["a"]), TASK, 5)
            assert (await local.act(*seen)).action == "a"
            with pytest.raises(BadOptionError, match="not this one"):
                await session.start(Hosted("refuse"), TASK, 5).act(*seen)
            assert (await session.start(Hosted("limited"), TASK, 5).act(*seen)).response.text == "task 0 seed 5"
            with pytest.raises(GameFileError, match="of the policy"):
                await session.start(Hosted("fail"), TASK, 5).act(*seen)
            with pytest.raises(PoolError, match="policy 'where' cannot be sent"):
                session.start(unsendable(), TASK, 5)
            await pool.release(session, broken=False)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["limited", "fail"])
def test_the_first_act_of_all_is_a_task(name: str) -> None:
    """So that it can have limits, and groups of tasks."""

    async def main() -> None:
        async with opened("processes", Odd, workers=1) as pool:
            session = await pool.acquire(TASK)
            seen = await session.reset(TASK, 5)
            acted = session.start(Hosted(name), TASK, 5).act(*seen)
            if name == "fail":
                with pytest.raises(GameFileError, match="of the policy"):
                    await acted
            else:
                assert (await acted).response.text == "task 0 seed 5"

    asyncio.run(main())


def test_policies_that_say_that_they_never_wait() -> None:
    async def main() -> None:
        async with opened("processes", Odd, workers=1) as pool:
            session = await pool.acquire(TASK)
            seen = await session.reset(TASK, 5)
            with pytest.raises(InfrastructureError, match="though it says `waits = False`"):
                await session.start(Hosted("lie"), TASK, 5).act(*seen)
            assert (await session.step("on"))[0] == "1 on"

    asyncio.run(main())


@pytest.mark.parametrize("make_env", [Odd, Waiting])
def test_decisions_that_change_are_sent_anew(make_env: Any) -> None:
    async def main() -> None:
        async with opened("processes", make_env, workers=1) as pool:
            session = await pool.acquire(TASK)
            seen = await session.reset(TASK, 5)
            agent = session.start(Hosted("reuse"), TASK, 5)
            assert [(await agent.act(*seen)).action for _ in range(3)] == ["a", "aa", "aaa"]

    asyncio.run(main())


@pytest.mark.parametrize("name", POOLS)
def test_when_this_process_stands_still_no_call_is_late(name: str) -> None:
    """It settles in the same turn of the event loop in which its limit is seen to be over."""

    async def main() -> None:
        async with opened(name, Waiting, workers=1, limits=PoolLimits(step=0.5)) as pool:
            session = await pool.acquire(TASK)
            await session.reset(TASK, 1)
            calls = ["sleep 0.3", "raise infra"] if name == "inline" else ["sleep 0.3", "sleep 0.3"]
            for action in calls:
                call = asyncio.ensure_future(session.step(action))
                await asyncio.sleep(0)  # it is made, though for a worker only to be sent
                time.sleep(0.8)
                if action == "raise infra":
                    with pytest.raises(InfrastructureError, match="of its page"):
                        await call
                else:
                    assert (await call)[0].endswith("sleep 0.3")
            await pool.release(session, broken=False)

    asyncio.run(main())


def test_blocking_environments_are_made_in_threads() -> None:
    Threaded.made.clear()

    async def main() -> None:
        async with opened("inline", partial(Threaded, 0.3)) as pool:
            first, second = await pool.acquire(TASK), await pool.acquire(TASK)
            assert Threaded.made[0] is threading.main_thread() is not Threaded.made[1]
            assert (await second.reset(TASK, 2))[0] == "task 0 seed 2"
            given_up = asyncio.ensure_future(pool.acquire(TASK))
            await asyncio.sleep(0.1)
            given_up.cancel()
            for session in (first, second):
                await pool.release(session, broken=False)
        assert len(Threaded.made) == 3

    asyncio.run(main())
    assert not [thread for thread in Threaded.made[1:] if thread.join(10) or thread.is_alive()]


def unsendable() -> Policy:
    policy = Hosted()
    policy.lock = threading.Lock()  # type: ignore[attr-defined]
    return policy


@pytest.mark.parametrize("make_env", [Odd, Waiting])
def test_policies_that_wait_delay_no_other(make_env: Any) -> None:
    async def main() -> None:
        async with opened("processes", make_env, workers=1) as pool:
            sessions = [await pool.acquire(TASK) for _ in range(20)]
            seen = await asyncio.gather(*(session.reset(TASK, 1) for session in sessions))
            agents = [session.start(Hosted("together 20"), TASK, 1) for session in sessions]
            for _ in range(2):  # each ends when all 20 have begun
                await asyncio.gather(*(agent.act(*first) for agent, first in zip(agents, seen)))
            for session in sessions:
                await pool.release(session, broken=False)

    asyncio.run(main())
