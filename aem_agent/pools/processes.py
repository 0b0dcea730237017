"""Environments in worker processes of this machine: few processes, many environments in each."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from aem_agent.pools import worker, worker_guard
from aem_agent.pools.base import MakeEnv, PoolError, PoolLimits
from aem_agent.pools.process import WorkerProcess
from aem_agent.pools.remote import NOBODY, Link
from aem_agent.pools.remote_pool import RemotePool
from aem_agent.pools.watch import memory_of

MOST_WORKERS = 8
"""Workers at most if their number is left open."""
GRACE = 1.0
"""Seconds that workers have to close their environments at the end."""
GRACE_BLOCKING = 10.0
"""The same for environments that wait for others, as containers have to be removed."""
MEMORY_EVERY = 1.0
"""Seconds between two looks at the workers' memory."""


class ProcessPool(RemotePool):
    """Lends environments of spawned worker processes; see `PoolLimits` for what ends one.

    Workers are started as they are needed. One that dies, hangs or exceeds a limit is killed with all that was started
    from it (see `worker_guard`), and another is started when needed next. One in which several calls hang in threads
    gets no new episodes, and ends with its last. They end with this process, however it ends. What environments print
    is dropped but for the last 4 kB, which go into the error of a worker that died.

    Args:
        make_env: must be picklable, `PoolError` if it is not; or pickled already.
        workers: None: as many as this process may use processors, at most 8.
    """

    def __init__(
        self, make_env: MakeEnv | bytes, *, workers: int | None = None, limits: PoolLimits | None = None
    ) -> None:
        if worker.PREPARING:
            raise PoolError(
                "a pool of processes was started while a worker imported the program's main module: put what starts it "
                "under if __name__ == '__main__':"
            )
        limits = limits or PoolLimits()
        super().__init__(make_env, available_workers() if workers is None else workers, limits)
        self._spawner: ThreadPoolExecutor | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._ticking_in: asyncio.AbstractEventLoop | None = None
        self._memory_seen = 0.0
        self._ending: list[tuple[WorkerProcess, float]] = []
        """Workers that end, and when they are killed."""
        bounds = [limit for limit in (limits.step, limits.episode, limits.start) if limit is not None]
        self._tick_seconds = max(0.02, min([0.25, *(bound / 5 for bound in bounds)]))

    def new_link(self) -> Link:
        if self._spawner is None:
            # its thread lives until this process ends; without aclose, it ends with this process
            self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="env-spawner")
        return WorkerProcess(self.make_env, self.limits, self._spawner, self._tick_seconds)

    def dismiss(self, link: Link) -> None:
        """It has a second (ten for `blocking` environments) to end, or is killed."""
        assert isinstance(link, WorkerProcess)
        self.links.remove(link)
        grace = GRACE_BLOCKING if link.blocking else GRACE
        if not link.lost:
            link.quit()
            link.lose("was ended: the pool was closed", NOBODY)
        self._ending.append((link, time.monotonic() + grace))

    async def aclose(self) -> None:
        """End all workers, in the same way."""
        self._bind(asyncio.get_running_loop())
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        for link in list(self.links):
            self.dismiss(link)
        patience = time.monotonic() + GRACE_BLOCKING + worker_guard.LONGEST
        while self._end_late() and time.monotonic() < patience:
            await asyncio.sleep(0.005)
        if self._spawner is not None:
            self._spawner.shutdown(wait=False)
            self._spawner = None

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        super()._bind(loop)
        if self._ticking is None or self._ticking_in is not loop:
            self._ticking_in = loop
            self._ticking = loop.call_later(self._tick_seconds, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        look = self.limits.memory is not None and now - self._memory_seen >= MEMORY_EVERY
        if look:
            self._memory_seen = now
        for link in cast("list[WorkerProcess]", list(self.links)):
            link.check(now, memory_of if look else None)
        self._forget_lost()
        self._end_late()
        self._ticking = asyncio.get_running_loop().call_later(self._tick_seconds, self._tick)

    def _end_late(self) -> bool:
        """Kill workers that should have ended; whether some have not ended yet."""
        now = time.monotonic()
        for link, deadline in self._ending:
            if now >= deadline or link.exited():
                link.end()
        self._ending = [(link, deadline) for link, deadline in self._ending if not link.exited()]
        return bool(self._ending)


def available_workers() -> int:
    """As many as this process may use processors, at most 8."""
    return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
