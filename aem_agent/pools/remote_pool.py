"""How environments in other processes are lent. `processes` and `ray_pool` bring the processes."""

import asyncio
import itertools
from abc import ABC, abstractmethod

from aem_agent.pools.base import EnvSession, MakeEnv, PoolError, PoolLimits
from aem_agent.pools.remote import Link, Policies, RemoteSession, pickled
from aem_agent.types import TaskRef
from aem_envs.core import InfrastructureError

STARTS = 3
"""Workers that may fail to start, one after another, before it is said that none can be had."""


class RemotePool(ABC):
    """Lends environments of workers that are started as they are needed. See `EnvPool`.

    One event loop uses it at a time; several may, one after another.

    Raises `PoolError` if `make_env` cannot be pickled; it may be a pickle already.
    """

    def __init__(self, make_env: MakeEnv | bytes, workers: int, limits: PoolLimits) -> None:
        if workers < 1:
            raise PoolError(f"a pool needs at least 1 worker, not {workers}")
        self.workers = workers
        self.limits = limits
        self.links: list[Link] = []
        """Workers that live or start."""
        self.make_env = make_env if isinstance(make_env, bytes) else pickled(make_env, "make_env")
        self._numbers = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._policies = Policies()
        self._started = False
        """A worker has been up."""
        self._failed: set[Link] = set()
        """Those that did not start, as long as none has."""

    @abstractmethod
    def new_link(self) -> Link:
        """Start a worker; its `ready` tells when it is up."""

    def extra_link(self) -> Link:
        """Start one beyond `workers`, for one episode."""
        return self.new_link()

    @abstractmethod
    def dismiss(self, link: Link) -> None:
        """Forget a worker that is lost or holds no episode; the latter has time to close its environments, and ends."""

    async def acquire(self, task: TaskRef, *, alone: bool = False) -> RemoteSession:
        """An environment of the worker that has lent the fewest, or of an additional one: as many of those as of the
        others."""
        self._bind(asyncio.get_running_loop())
        link = await self._apart() if alone else self._choose()
        session = link.lend(next(self._numbers), self._policies)
        try:
            if not link.ready.done():
                await asyncio.shield(link.ready)
        except BaseException as error:
            self._take_back(session, broken=True)
            if isinstance(error, InfrastructureError):
                self._count_failure(link, error)
            raise
        if not self._started:
            self._started = True
            self._failed.clear()
        return session

    async def release(self, session: EnvSession, *, broken: bool) -> None:
        assert isinstance(session, RemoteSession)
        self._take_back(session, broken)

    @abstractmethod
    async def aclose(self) -> None: ...

    def _take_back(self, session: RemoteSession, broken: bool) -> None:
        link = session.link
        link.take_back(session, broken)
        if link.alone:
            self._extra.release()
        if not link.lost and not link.lent and (link.alone or link.clogged()):
            self.dismiss(link)

    def _choose(self) -> Link:
        self._forget_lost()
        links = [link for link in self.links if not link.alone and not link.clogged()]
        best = min(links, key=lambda link: (link.lent, -len(link.idle)), default=None)
        if best is None or (best.lent and len(links) < self.workers):
            best = self.new_link()
            self.links.append(best)
        return best

    def _forget_lost(self) -> None:
        """Those in which too many calls hang, as well, once they hold no episode."""
        for link in [link for link in self.links if link.lost or (link.clogged() and not link.lent)]:
            self.dismiss(link)

    async def _apart(self) -> Link:
        extra = self._extra
        await extra.acquire()
        try:
            link = self.extra_link()
        except BaseException:
            extra.release()
            raise
        link.alone = True
        self.links.append(link)
        return link

    def _count_failure(self, link: Link, error: InfrastructureError) -> None:
        """Raises `PoolError` if no worker at all can be started."""
        if self._started:
            return
        self._failed.add(link)
        if len(self._failed) >= STARTS:
            raise PoolError(
                f"{len(self._failed)} workers in a row failed to start, and none ever has, so there is no environment "
                f"to play in; mend what the last one failed of ({type(error).__name__}): {error}"
            ) from error

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is self._loop:
            return
        if self._loop is not None and self._loop.is_running():
            raise PoolError("this pool is in use in another event loop: make one for each")
        self._loop = loop
        self._extra = asyncio.Semaphore(self.workers)
        for link in self.links:
            link.rebind(loop)
