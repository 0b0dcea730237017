"""Worker processes: what is sent and what cannot be, a thousand episodes at once, and how workers end."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from pool_envs import MIB, TASK, Odd
from pool_tools import alive, begun, closed, gone

from aem_agent.pools import Step
from aem_agent.pools.base import PoolError, WorkerLostError
from aem_agent.pools.processes import ProcessPool
from aem_envs.core import InfrastructureError


def test_floods_and_giants() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        session, other = await begun(pool), await begun(pool)
        assert (await session.step("print 100"))[0] == "1 print 100"
        assert len(pool.links[0]._output) <= 4096  # type: ignore[attr-defined]
        giant = session.step("huge 100")
        failed, fine = await asyncio.gather(giant, other.step("on"), return_exceptions=True)
        assert isinstance(failed, InfrastructureError) and "100 MiB, more than the 64 MiB" in str(failed)
        assert isinstance(fine, tuple) and fine[0] == "1 on"
        assert len((await session.step("huge 30"))[0]) == 30 * MIB
        with pytest.raises(InfrastructureError, match="the action has 64 MiB"):
            await session.step("x" * (64 * MIB))
        assert (await session.step("on " + "x" * (20 * MIB)))[0].endswith("x")
        await pool.release(session, broken=False)
        await pool.release(other, broken=False)
        await closed(pool)

    asyncio.run(main())


def test_what_cannot_be_sent_is_told_by_its_text() -> None:
    expected = {
        "function": "answer cannot be sent .*lambda",
        "unreadable": "answer cannot be read here .*ValueError",
        "raise named": "^NamedError: one two$",
        "raise local": "^Local: from inside$",
        "raise mute": "^Mute: it has no text",
        "raise system": "^SystemExit: 3$",
        "raise stop": "^StopIteration: halt$",
        "raise cancelled": "^CancelledError: gone$",
        "raise large": "^ValueError: xxx",
    }

    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        session, other = await begun(pool), await begun(pool)
        for action, text in expected.items():
            with pytest.raises(InfrastructureError, match=text):
                await session.step(action)
        assert (await other.step("on"))[0] == "1 on"
        await closed(pool)

    asyncio.run(main())


def test_what_cannot_be_pickled_says_how_to_write_it() -> None:
    with pytest.raises(PoolError, match=r"make_env cannot be sent .* functools.partial"):
        ProcessPool(lambda: Odd())
    with pytest.raises(PoolError, match="at least 1 worker"):
        ProcessPool(Odd, workers=0)


def test_a_dropped_call_in_a_busy_worker_answers_nobody() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        session = await begun(pool)
        call = asyncio.ensure_future(session.step("sleep 0.3"))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        await pool.release(session, broken=False)  # though it was told so: a call is still being made
        other = await begun(pool, seed=9)
        assert other is not session and (await other.step("on"))[0] == "1 on"
        await closed(pool)

    asyncio.run(main())


def test_neighbours_of_a_slow_one_get_their_answers() -> None:
    """Those served before it, within the same message; those after it have to wait."""

    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        sessions = [await begun(pool) for _ in range(20)]
        before = [asyncio.ensure_future(session.step("on")) for session in sessions[:-1]]
        slow = asyncio.ensure_future(sessions[-1].step("sleep 2"))
        await asyncio.wait([*before, slow], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.5)
        assert all(call.done() for call in before) and not slow.done()
        await slow
        await closed(pool)

    asyncio.run(main())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_thousand_episodes_at_once_on_two_workers() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=2)
        before = descriptors()
        sessions = await asyncio.gather(*(pool.acquire(TASK) for _ in range(1000)))
        assert sorted(link.lent for link in pool.links) == [500, 500]
        seen = await asyncio.gather(*(session.reset(TASK, seed) for seed, session in enumerate(sessions)))
        assert [text for text, _ in seen] == [f"task 0 seed {seed}" for seed in range(1000)]
        for n in (1, 2, 3):
            steps: list[Step] = await asyncio.gather(*(s.step(str(i)) for i, s in enumerate(sessions)))
            assert [step[0] for step in steps] == [f"{n} {i}" for i in range(1000)]
        assert len({step[4]["pid"] for step in steps}) == 2
        assert descriptors() <= before + 8
        for session in sessions:
            await pool.release(session, broken=False)
        await closed(pool)

    before = descriptors()
    asyncio.run(main())
    assert descriptors() <= before + 1


def test_replaced_workers_leave_no_file_handles() -> None:
    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        counts = []
        for _ in range(4):
            session = await begun(pool)
            counts.append(descriptors())
            with pytest.raises(WorkerLostError):
                await session.step("exit 1")
            await pool.release(session, broken=True)
        assert counts[0] == counts[-1]
        await closed(pool)

    asyncio.run(main())


def test_one_event_loop_at_a_time() -> None:
    async def inner(pool: ProcessPool) -> None:
        with pytest.raises(PoolError, match="another event loop"):
            await pool.acquire(TASK)

    async def main() -> None:
        pool = ProcessPool(Odd, workers=1)
        await pool.release(await begun(pool), broken=False)
        await asyncio.to_thread(lambda: asyncio.run(inner(pool)))
        await closed(pool)

    asyncio.run(main())


PARENT = """
import asyncio, sys
from pool_envs import TASK, Odd
from aem_agent.pools.processes import ProcessPool

async def main():
    pool = ProcessPool(Odd, workers=2)
    first, second = await pool.acquire(TASK), await pool.acquire(TASK)
    await asyncio.gather(first.reset(TASK, 1), second.reset(TASK, 1))
    print(*(link.pid for link in pool.links), flush=True)
    await asyncio.gather(first.step("hold 3600"), second.step("on"))
    await asyncio.sleep(3600)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_workers_end_with_a_parent_that_is_killed() -> None:
    """Also one that is stuck in a call that holds the interpreter."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        try:
            assert len(pids) == 2 and all(map(alive, pids))
            parent.kill()
            parent.wait()
            assert gone(pids)
        finally:
            for pid in pids:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


OWN = """
import asyncio
from aem_agent.pools.processes import ProcessPool
from aem_agent.rollout import RolloutManager
from pool_envs import TASK, Hosted, Odd

class Mine(Odd):
    pass

class Policy(Hosted):
    pass

{guard}
    pool = ProcessPool(Mine, workers=1)
    async def main():
        session = await pool.acquire(TASK)
        seen = await session.reset(TASK, 1)
        print((await session.start(Policy(), TASK, 1).act(*seen)).response.text)
        await pool.aclose()
    asyncio.run(main())
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_environments_of_the_main_module(guarded: bool, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(OWN.format(guard='if __name__ == "__main__":' if guarded else "if True:"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, env=environment, timeout=120)
    if guarded:
        assert done.stdout == "task 0 seed 1\n", done.stderr
    else:
        assert done.returncode and 'under if __name__ == "__main__"' in done.stderr.replace("'", '"')
