"""Worker processes that die, hang, leak or do not start: typed errors for those concerned, and nobody else."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pool_envs import MIB, TASK, Dying, Hanging, Hosted, Odd, Waiting
from pool_tools import alive, begun, closed

from aem_agent.policies import ScriptedPolicy
from aem_agent.pools import PoolLimits
from aem_agent.pools.base import EnvTimeoutError, WorkerLostError
from aem_agent.pools.processes import ProcessPool
from aem_agent.pools.watch import Watch
from aem_agent.rollout import RolloutManager
from aem_agent.types import TaskRef
from aem_envs.core import InfrastructureError


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("signal SIGKILL", "killed by SIGKILL"),
        ("exit_by 40", "killed by signal 40"),
        ("exit 3", "exit status 3; its last output:\nlast words ␛"),
        ("segfault", "killed by SIGSEGV; its last output:\nFatal Python error"),
    ],
)
def test_a_worker_that_dies(action: str, text: str) -> None:
    """The one that was being called is at fault; its neighbours, called or not, only lose their worker."""

    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        bad, waiting, thinking = [await begun(pool) for _ in range(3)]
        pid = (await thinking.step("on"))[4]["pid"]
        calls = asyncio.gather(bad.step(action), waiting.step("on"), return_exceptions=True)
        first, second = await calls
        assert isinstance(first, WorkerLostError) and first.culprit and text in str(first)
        assert isinstance(second, WorkerLostError) and not second.culprit and "shared with others" in str(second)
        with pytest.raises(WorkerLostError) as caught:
            await thinking.step("on")
        assert not caught.value.culprit and not alive(pid)
        for session in (bad, waiting, thinking):
            await pool.release(session, broken=True)
        again = await begun(pool)
        assert (await again.step("on"))[4]["pid"] != pid
        await pool.release(again, broken=False)
        await closed(pool)

    asyncio.run(main())


@pytest.mark.parametrize("action", ["sleep 3600", "spin", "hold 3600"])
def test_a_worker_that_hangs(action: str) -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1, limits=PoolLimits(step=0.5))
        bad, other = await begun(pool), await begun(pool)
        first, second = await asyncio.gather(bad.step(action), other.step("on"), return_exceptions=True)
        assert isinstance(first, EnvTimeoutError) and "more than 0.5 s for one call" in str(first)
        assert isinstance(second, WorkerLostError) and not second.culprit
        await pool.release(bad, broken=True)
        await pool.release(other, broken=True)
        await pool.release(await begun(pool), broken=False)
        await closed(pool)

    asyncio.run(main())


def test_threads_that_hold_the_interpreter_cost_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aem_agent.pools.process.SILENT", 1.0)

    async def main() -> None:
        pool = ProcessPool(Waiting, workers=1, limits=PoolLimits(step=0.5))
        bad, other = await begun(pool), await begun(pool)
        with pytest.raises(EnvTimeoutError):
            await bad.step("hold 3600")
        await pool.release(bad, broken=True)
        with pytest.raises(InfrastructureError):
            await other.step("on")
        await pool.release(other, broken=True)
        while pool.links:
            await asyncio.sleep(0.05)
        await pool.release(await begun(pool), broken=False)
        await closed(pool)

    asyncio.run(main())


def test_an_episode_has_its_time() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1, limits=PoolLimits(episode=1.0))
        slow, other = await begun(pool), await begun(pool)
        await asyncio.sleep(0.5)
        with pytest.raises(EnvTimeoutError, match="episode took more than 1 s"):
            await slow.step("sleep 3600")
        with pytest.raises(WorkerLostError):
            await other.step("on")
        thinking = await begun(pool)
        await asyncio.sleep(1.1)
        with pytest.raises(EnvTimeoutError, match="episode took more than 1 s"):
            await thinking.step("on")
        for session in (slow, other, thinking):
            await pool.release(session, broken=True)
        await closed(pool)

    asyncio.run(main())


def test_a_worker_that_does_not_start(tmp_path: Path) -> None:
    async def main() -> None:
        pool = ProcessPool(Hanging, workers=1, limits=PoolLimits(start=0.5))
        with pytest.raises(EnvTimeoutError, match=r"not ready within 0\.5 s"):
            await pool.acquire(TASK)
        await closed(pool)
        flag = tmp_path / "flag"
        flag.touch()
        pool = ProcessPool(partial(Dying, str(flag)), workers=1)
        both = await asyncio.gather(pool.acquire(TASK), pool.acquire(TASK), return_exceptions=True)
        for error in both:
            assert isinstance(error, WorkerLostError) and not error.culprit
            assert "exit status 7; its last output:\nno licence found" in str(error)
        flag.unlink()
        await pool.release(await begun(pool), broken=False)
        await closed(pool)

    asyncio.run(main())


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aem_agent.pools.processes.MEMORY_EVERY", 0.1)

    async def main() -> None:
        pool = ProcessPool(Odd, workers=1, limits=PoolLimits(memory=400 * MIB))
        leaking = await begun(pool)
        with pytest.raises(WorkerLostError, match="MiB, more than 400 MiB") as caught:
            for _ in range(100):
                await leaking.step("leak 30")
                await asyncio.sleep(0.02)
        assert caught.value.culprit, "nobody else lived there"
        await pool.release(leaking, broken=True)
        await pool.release(await begun(pool), broken=False)
        await closed(pool)

    asyncio.run(main())


@pytest.mark.parametrize("make_env", [Odd, Waiting])
def test_closing_never_hangs(make_env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aem_agent.pools.processes.GRACE_BLOCKING", 1.0)

    async def main() -> None:
        pool = ProcessPool(make_env, workers=2)
        sessions = [await begun(pool) for _ in range(4)]
        await sessions[0].step("stick")
        await sessions[2].step("break_close")
        hanging = asyncio.ensure_future(sessions[1].step("spin" if make_env is Odd else "sleep 3600"))
        await asyncio.sleep(0.1)
        await closed(pool)
        with pytest.raises(WorkerLostError, match="the pool was closed"):
            await hanging
        for session in sessions:
            await pool.release(session, broken=True)
        await closed(pool)

    asyncio.run(main())


def test_lost_workers_are_retried_by_the_manager() -> None:
    def choose(observation: str, info: dict[str, Any]) -> str:
        return "exit 1" if observation.startswith("task bad") else "on" if len(observation) < 15 else "end"

    async def main() -> None:
        pool = ProcessPool(Odd, workers=2)
        manager = RolloutManager(pool, ScriptedPolicy(choose), concurrency=8, retries=1)
        groups = await manager.run([TaskRef("test/Odd-v0", name, "test") for name in ("bad", *"abcdefgh")])
        assert groups[0].errored[0].error.startswith("WorkerLostError: the environment's worker ended")  # type: ignore[union-attr]
        assert all(group.episodes and group.episodes[0].won for group in groups[1:])
        await closed(pool)

    asyncio.run(main())


def test_a_hosted_policy_that_dies() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        session = await pool.acquire(TASK)
        seen = await session.reset(TASK, 1)
        with pytest.raises(WorkerLostError) as caught:
            await session.start(Hosted("signal"), TASK, 1).act(*seen)
        assert caught.value.culprit
        await closed(pool)

    asyncio.run(main())


def test_workers_take_no_notice_of_ctrl_c() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        session = await begun(pool)
        os.kill(pool.links[0].pid, signal.SIGINT)  # type: ignore[attr-defined]
        assert (await session.step("signal SIGINT"))[0] == "1 signal SIGINT"
        await closed(pool)

    asyncio.run(main())


def test_standing_still_here_is_nobodys_fault_there() -> None:
    watch = Watch(0.0, 0.1)
    watch.look(0.1, 5, 1, 1, 1)
    watch.look(0.2, 5, 1, 1, 1)
    assert watch.busy(0.2) == pytest.approx(0.1) and watch.stood == 0
    watch.look(60.2, 5, 1, 1, 1)
    assert watch.busy(60.2) == pytest.approx(0.2) and watch.stood == pytest.approx(59.9)
    watch.look(60.3, 5, 1, 1, 2)
    watch.look(60.4, 5, 1, 1, 2)
    assert watch.busy(60.4) == pytest.approx(0.4) and watch.behind(60.4) == pytest.approx(0.2)
    watch.look(61.0, 5, 1, 1, 2)
    assert watch.busy(61.0) == pytest.approx(0.5) and watch.stood == pytest.approx(60.4)
    watch.look(61.1, 6, 2, 2, 2)
    assert watch.busy(61.1) == 0 and watch.behind(61.1) == 0


@pytest.mark.parametrize("make_env", [Odd, Waiting])
def test_a_hosted_policy_that_waits_too_long(make_env: Any) -> None:
    async def main() -> None:
        pool = ProcessPool(make_env, workers=1, limits=PoolLimits(step=0.5))
        session, other = await pool.acquire(TASK), await begun(pool)
        seen = await session.reset(TASK, 1)
        with pytest.raises(EnvTimeoutError, match=r"more than 0\.5 s for one"):
            await session.start(Hosted("forever"), TASK, 1).act(*seen)
        assert (await other.step("on"))[0] == "1 on", "the worker goes on"
        await closed(pool)

    asyncio.run(main())
