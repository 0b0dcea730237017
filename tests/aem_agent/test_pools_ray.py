"""The Ray pool over a local Ray of two workers: the same episodes, errors and limits as worker processes."""

import asyncio
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from pool_envs import TASK, Choosy, Hosted, Odd, Waiting
from pool_tools import begun

import aem_envs  # noqa: F401  # registers the environments
from aem_agent.policies import ExpertPolicy, RandomPolicy
from aem_agent.pools import PoolLimits, make_pool
from aem_agent.pools.base import EnvTimeoutError, PoolError, WorkerLostError
from aem_agent.pools.ray_pool import RayPool
from aem_agent.rollout import RolloutManager
from aem_agent.types import Episode, TaskRef
from aem_envs.core import BadOptionError, InfrastructureError, TextEnv
from envs_data.errors import GameFileError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """The Ray of a pool that starts one; other pools share it, and the last one ends it."""
    ray = pytest.importorskip("ray")
    keeper = RayPool(Choosy, workers=2)
    with pytest.raises(BadOptionError, match="not with these options"):
        asyncio.run(keeper.acquire(TASK))
    yield ray
    assert ray.is_initialized()
    asyncio.run(keeper.aclose())
    assert not ray.is_initialized()


@pytest.mark.parametrize("env_id", ["aem/Toy-v0", "aem/ALFWorld-v0"])
def test_same_episodes(ray: Any, env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    assert isinstance(env, TextEnv)
    tasks = [TaskRef(env_id, task_id, "train") for task_id in env.task_ids("train", 4)]
    make_env = partial(gym.make, f"aem_envs:{env_id}")

    async def play(pool: Any, policy: Any, concurrency: int) -> list[Episode]:
        groups = await RolloutManager(pool, policy, concurrency=concurrency, seed=3).run(tasks, 4)
        return [episode.identity() for group in groups for episode in group.episodes]

    pool = make_pool("ray", make_env, workers=2)
    for policy in (RandomPolicy(), ExpertPolicy()):
        expected = asyncio.run(play(make_env, policy, 8))
        assert len(expected) == 16
        for concurrency in (1, 2, 8, 64):
            assert asyncio.run(play(pool, policy, concurrency)) == expected
    asyncio.run(pool.aclose())
    assert ray.is_initialized(), "another pool uses it"


def test_pools_of_one_process_share_a_small_ray(ray: Any) -> None:
    """As those of a training and of its evaluation do: no pool waits for a processor that another holds."""

    async def main() -> None:
        pools = [RayPool(Odd, workers=2, limits=PoolLimits(start=30.0)) for _ in range(2)]
        for pool in pools:
            for _ in range(4):
                await begun(pool)
        for pool in pools:
            await pool.aclose()

    asyncio.run(main())


def test_errors_policies_and_replacement(ray: Any) -> None:
    async def main() -> None:
        pool = RayPool(Odd, workers=1, limits=PoolLimits(step=1.0))
        session, other = await begun(pool, 5), await begun(pool)
        seen = await session.reset(TASK, 5)
        decision = await session.start(Hosted(), TASK, 5).act(*seen)
        assert decision.response.text == "task 0 seed 5" and decision.action == f"{seen[1]['pid']}|{seen[1]['pid']}"
        for action, kind in (("raise option", BadOptionError), ("raise data", GameFileError)):
            with pytest.raises(kind, match="of its"):
                await session.step(action)
        with pytest.raises(InfrastructureError, match="Local: from inside"):
            await session.step("raise local")
        with pytest.raises(WorkerLostError, match="exit status 3; its last output") as caught:
            await session.step("exit 3")
        assert caught.value.culprit
        with pytest.raises(WorkerLostError) as caught:
            await other.step("on")
        assert not caught.value.culprit, "it was no call of its own that ended the worker"
        await pool.release(session, broken=True)
        assert (await other.reset(TASK, 2))[0] == "task 0 seed 2", "the actor goes on with another worker"
        with pytest.raises(EnvTimeoutError, match="more than 1 s"):
            await other.step("hold 3600")
        await pool.release(other, broken=True)
        await pool.aclose()

    asyncio.run(main())


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_an_actor_that_dies_and_calls_that_are_given_up(ray: Any) -> None:
    async def main() -> None:
        pool = RayPool(Waiting, workers=1)
        session, other = await begun(pool), await begun(pool)
        call = asyncio.ensure_future(session.step("sleep 0.3"))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait([call])
        await pool.release(session, broken=True)
        assert [(await other.step("on"))[0] for _ in range(3)] == ["1 on", "2 on", "3 on"]
        actor = (await other.step("on"))[4]["pid"]
        guard, parent = parent_of(actor), parent_of(parent_of(actor))
        assert "worker_guard" in Path(f"/proc/{guard}/cmdline").read_text()
        hanging = asyncio.ensure_future(other.step("sleep 3600"))
        await asyncio.sleep(0.2)
        os.kill(parent, signal.SIGKILL)
        with pytest.raises(WorkerLostError, match="lost by Ray"):
            await hanging
        await pool.release(other, broken=True)
        again = await begun(pool)
        shared = (await again.step("on"))[4]["pid"]
        assert shared != actor
        alone = await pool.acquire(TASK, alone=True)
        pid = (await alone.reset(TASK, 2))[1]["pid"]
        with pytest.raises(WorkerLostError) as caught:
            await alone.step("signal SIGKILL")
        assert caught.value.culprit and pid != shared and (await again.step("on"))[0] == "2 on"
        await pool.release(alone, broken=True)
        await pool.release(again, broken=False)
        await pool.aclose()

    asyncio.run(main())


def test_what_cannot_be_had(ray: Any) -> None:
    address = ray.get_runtime_context().gcs_address  # of a cluster each worker takes a processor; it has two

    async def main() -> None:
        pool = RayPool(Odd, workers=2, limits=PoolLimits(start=20.0), ray_address=address)
        sessions = [await begun(pool) for _ in range(2)]
        more = RayPool(Odd, workers=1, limits=PoolLimits(start=1.0), ray_address=address)
        with pytest.raises(EnvTimeoutError, match="is a processor free"):
            await more.acquire(TASK)
        await more.aclose()
        for session in sessions:
            await pool.release(session, broken=False)
        await pool.aclose()

    asyncio.run(main())
    with pytest.raises(PoolError, match="make_env cannot be sent"):
        RayPool(lambda: Odd())
