"""Who is blamed for what, who is left alone, and what is gone with a worker."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pool_envs import MIB, TASK, Dying, Hanging, Odd, Once, Waiting
from pool_tools import alive, begun, closed, gone

from aem_agent.pools import PoolLimits
from aem_agent.pools.base import EnvTimeoutError, PoolError, WorkerLostError
from aem_agent.pools.process import WorkerProcess
from aem_agent.pools.processes import ProcessPool


@pytest.mark.parametrize("make_env", [Odd, Waiting])
def test_alone(make_env: Any) -> None:
    async def main() -> None:
        pool = ProcessPool(make_env, workers=1)
        others = [await begun(pool), await begun(pool)]
        alone = await pool.acquire(TASK, alone=True)
        pid = (await alone.reset(TASK, 7))[1]["pid"]
        later = asyncio.ensure_future(pool.acquire(TASK, alone=True))
        given_up = asyncio.ensure_future(pool.acquire(TASK, alone=True))
        await asyncio.sleep(0.1)
        assert not later.done() and len(pool.links) == 2, "as many of these as of the others"
        given_up.cancel()
        another = await begun(pool)
        places = [(await session.step("on"))[4]["pid"] for session in (*others, another)]
        assert len({*places}) == 1 and places[0] != pid
        with pytest.raises(WorkerLostError) as caught:
            await alone.step("signal SIGKILL")
        assert caught.value.culprit
        await pool.release(alone, broken=True)
        last = await later
        fresh = (await last.reset(TASK, 8))[1]["pid"]
        assert fresh not in (pid, places[0])
        assert [(await session.step("on"))[0] for session in others] == ["2 on", "2 on"]
        await pool.release(last, broken=False)
        assert await asyncio.to_thread(gone, [fresh])
        again = await pool.acquire(TASK, alone=True)
        assert len(pool.links) == 2
        await pool.release(again, broken=False)
        await closed(pool)

    asyncio.run(main())


def test_nobody_is_blamed_for_the_memory_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aem_agent.pools.processes.MEMORY_EVERY", 0.1)

    async def main() -> None:
        pool = ProcessPool(Odd, workers=1, limits=PoolLimits(memory=400 * MIB))
        leaking, other = await begun(pool), await begun(pool)
        done = await asyncio.gather(leaking.step("leak 500"), other.step("sleep 3600"), return_exceptions=True)
        for error in (*done, *await asyncio.gather(leaking.step("on"), return_exceptions=True)):
            if isinstance(error, BaseException):
                assert isinstance(error, WorkerLostError) and not error.culprit and "400 MiB" in str(error)
        assert isinstance(done[1], WorkerLostError)
        await closed(pool)

    asyncio.run(main())


def test_nobody_is_blamed_while_calls_that_were_given_up_go_on() -> None:
    async def main() -> None:
        pool = ProcessPool(Waiting, workers=1, limits=PoolLimits(step=1.0))
        bad, other = await begun(pool), await begun(pool)
        with pytest.raises(EnvTimeoutError):
            await bad.step("sleep 3600")
        await begun(pool)
        os.kill(pool.links[0].pid, signal.SIGKILL)  # type: ignore[attr-defined]
        with pytest.raises(WorkerLostError) as caught:
            await other.step("sleep 0.5")
        assert not caught.value.culprit
        await closed(pool)

    asyncio.run(main())


def test_nobody_is_blamed_for_what_another_does_when_it_is_closed() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1, limits=PoolLimits(step=0.5))
        stuck, other = await begun(pool), await begun(pool)
        await stuck.step("stick")
        await pool.release(stuck, broken=True)
        with pytest.raises(WorkerLostError, match="closing another environment") as caught:
            await other.step("on")
            await other.step("on")
        assert not caught.value.culprit
        await closed(pool)

    asyncio.run(main())


def test_a_worker_in_which_calls_hang_gets_no_new_episodes() -> None:
    async def main() -> None:
        pool = ProcessPool(Waiting, workers=1, limits=PoolLimits(step=0.5))
        other = await begun(pool)
        pid = (await other.step("on"))[4]["pid"]
        for n in range(4):
            hanging = await begun(pool)
            assert len(pool.links) == 1, n
            with pytest.raises(EnvTimeoutError):
                await hanging.step("sleep 3600")
            await pool.release(hanging, broken=True)
        fresh = await begun(pool)
        assert (await fresh.step("on"))[4]["pid"] != pid
        assert (await other.step("on"))[4]["pid"] == pid, "it ends with its last"
        await pool.release(other, broken=False)
        assert [link.pid for link in pool.links] == [(await fresh.step("on"))[4]["pid"]]  # type: ignore[attr-defined]
        await closed(pool)
        assert not alive(pid)

    asyncio.run(main())


def test_calls_that_are_given_up_but_end_are_forgotten() -> None:
    async def main() -> None:
        pool = ProcessPool(Waiting, workers=1, limits=PoolLimits(step=0.5))
        async with asyncio.timeout(60):
            for _ in range(5):
                slow = await begun(pool)
                assert len(pool.links) == 1
                with pytest.raises(EnvTimeoutError):
                    await slow.step("sleep 0.8")
                await pool.release(slow, broken=True)
                while pool.links[0].owing():
                    await asyncio.sleep(0.02)
        await closed(pool)

    asyncio.run(main())


@pytest.mark.parametrize("limits", [{}, {"start": 0.5}])
def test_where_no_worker_starts_there_are_few_attempts(limits: dict[str, float], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    make_env: Callable[[], Any] = Hanging if limits else partial(Dying, str(flag))
    text = r"none ever has.*WorkerLostError.*exit status 7.*\nno licence found"
    if limits:
        text = r"none ever has.*EnvTimeoutError.*not ready within 0\.5 s"

    async def main() -> None:
        pool = ProcessPool(make_env, workers=2, limits=PoolLimits(**limits))
        for _ in range(2):
            with pytest.raises((WorkerLostError, EnvTimeoutError)):
                await pool.acquire(TASK)
        with pytest.raises(PoolError, match="(?s)" + text):
            await pool.acquire(TASK)
        await closed(pool)

    asyncio.run(main())


def test_one_worker_that_cannot_make_an_environment(tmp_path: Path) -> None:
    async def main() -> None:
        pool = ProcessPool(partial(Once, str(tmp_path / "log")), workers=2)
        first = await begun(pool)
        with pytest.raises(OSError, match="port in use"):
            await pool.acquire(TASK)
        again = await begun(pool)
        assert len({(await session.step("on"))[4]["pid"] for session in (first, again)}) == 2
        await closed(pool)

    asyncio.run(main())


@pytest.mark.parametrize("end", ["signal SIGKILL", "spin", "close", "release"])
def test_children_in_sessions_of_their_own_end_with_the_worker(end: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def main() -> None:
        pool = ProcessPool(Odd, workers=1, limits=PoolLimits(step=2.0))
        session = await pool.acquire(TASK, alone=True)
        await session.reset(TASK, 1)
        await session.step(f"child {log}")
        if end == "release":
            await pool.release(session, broken=False)
        elif end != "close":
            with pytest.raises((WorkerLostError, EnvTimeoutError)):
                await session.step(end)
            await pool.release(session, broken=True)
        await closed(pool)

    asyncio.run(main())
    pid, *rest = log.read_text().split()
    assert gone([int(pid)])
    assert rest == ["clean"], "it had a little time"


KILLED = """
import asyncio, sys
from pool_envs import TASK, Odd
from aem_agent.pools.processes import ProcessPool

async def main():
    pool = ProcessPool(Odd, workers=1)
    session = await pool.acquire(TASK)
    await session.reset(TASK, 1)
    await session.step("child " + sys.argv[1])
    print("ready", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    log = tmp_path / "log"
    call = [sys.executable, "-c", KILLED, str(log)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
    assert gone([int(log.read_text().split()[0])])


def test_a_guard_that_is_killed_takes_the_worker_along() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        session = await begun(pool)
        link = pool.links[0]
        assert isinstance(link, WorkerProcess)
        link.guard.kill()
        with pytest.raises(WorkerLostError):
            await session.step("sleep 3600")
        assert await asyncio.to_thread(gone, [link.pid])
        await pool.release(session, broken=True)
        await pool.release(await begun(pool), broken=False)
        await closed(pool)

    asyncio.run(main())
