"""What the tests of pools share."""

import time
from pathlib import Path

from pool_envs import TASK

from aem_agent.pools.processes import ProcessPool
from aem_agent.pools.remote import RemoteSession
from aem_agent.pools.remote_pool import RemotePool


async def begun(pool: RemotePool, seed: int = 1) -> RemoteSession:
    session = await pool.acquire(TASK)
    await session.reset(TASK, seed)
    return session


async def closed(pool: ProcessPool) -> None:
    pids = [link.pid for link in pool.links]  # type: ignore[attr-defined]
    await pool.aclose()
    assert not [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))
