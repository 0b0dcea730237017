"""Environments on other machines: the interface of `ProcessPool`, with a Ray actor for each worker."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aem_agent.pools import wire
from aem_agent.pools.base import MakeEnv, PoolError, PoolLimits
from aem_agent.pools.processes import GRACE_BLOCKING, available_workers
from aem_agent.pools.remote import NOBODY, Link
from aem_agent.pools.remote_pool import RemotePool
from aem_envs.sanitize import plain

LONGEST_FOLDER = 30
"""Characters of a temp folder's path that leave room for the names of Ray's sockets."""
MAX_REASON = 1000
"""Characters of Ray's own messages that are passed on."""

_users = 0
"""Pools that use a Ray which this module has connected to; the last one disconnects."""
_guard: "subprocess.Popen[bytes] | None" = None
"""Cleans up after a Ray that this process has started."""


class RayPool(RemotePool):
    """Lends environments of workers that Ray places on its machines, one processor each on a cluster.

    Needs `aem-suite[ray]`, on all machines. Each worker is an actor with a process of its own for the environments (see
    `ray_actor`), so that limits, errors and replacement are those of `ProcessPool`.

    Args:
        make_env: must be picklable, from a module that all machines have.
        workers: None: as many as this process may use processors, at most 8.
        ray_address: of a running Ray; None: `$RAY_ADDRESS`, else a Ray of this machine with `workers` processors, which
            ends with the pool. A Ray that this process is connected to already is used as it is.

    Raises `PoolError` if Ray is not installed or `make_env` cannot be pickled.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        *,
        workers: int | None = None,
        limits: PoolLimits | None = None,
        ray_address: str | None = None,
    ) -> None:
        if find_spec("ray") is None:
            raise PoolError('Ray is not installed: pip install "aem-suite[ray]", or use the pool "processes"')
        super().__init__(make_env, available_workers() if workers is None else workers, limits or PoolLimits())
        if b"__main__" in self.make_env:
            raise PoolError("make_env is of the program's main module, which other machines lack: put it in a module")
        self.ray_address = ray_address or os.environ.get("RAY_ADDRESS")
        self._connected = False
        self._ending: list[tuple[ActorLink, Any]] = []
        """Actors that close their environments, and what tells when they have."""

    def new_link(self) -> Link:
        self._connect()
        # a Ray of our own has no other users, and another pool of this process may hold its few processors
        return ActorLink(self.make_env, self.limits, processors=1 if self.ray_address else 0)

    def extra_link(self) -> Link:
        """One that needs no processor of its own in Ray's count: where the others have all of them, it would wait."""
        self._connect()
        return ActorLink(self.make_env, self.limits, processors=0)

    def dismiss(self, link: Link) -> None:
        assert isinstance(link, ActorLink)
        self.links.remove(link)
        if link.lost:
            link.end()
            return
        self._ending = [(other, closed) for other, closed in self._ending if not closed.done()]
        self._ending.append((link, link.quit()))
        link.lose("was ended: the pool was closed", NOBODY)
        self._ending[-1][1].add_done_callback(lambda closed: link.end_soon())
        link.loop.call_later(GRACE_BLOCKING + 2, link.end)

    async def aclose(self) -> None:
        """End all actors, and the Ray that this pool has started."""
        self._bind(asyncio.get_running_loop())
        for link in list(self.links):
            self.dismiss(link)
        ending, self._ending = self._ending, []
        if ending:
            await asyncio.wait([asyncio.wrap_future(closed) for _, closed in ending], timeout=GRACE_BLOCKING + 2)
        for last, _ in ending:
            last.end()
        self._disconnect()

    def _connect(self) -> None:
        """Raises `PoolError` if there is no Ray at the address."""
        global _users
        ray = import_module("ray")
        if self._connected or (ray.is_initialized() and not _users):
            return
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            where = {"address": self.ray_address} if self.ray_address else _local(self.workers)
            try:
                ray.init(**where, log_to_driver=False, configure_logging=False)
            except Exception as error:
                raise PoolError(
                    f"cannot connect to Ray at {self.ray_address or 'this machine'} "
                    f"({plain(str(error))[:MAX_REASON]}): check the address, or leave it out"
                ) from error
        _users += 1
        self._connected = True

    def _disconnect(self) -> None:
        global _users, _guard
        if not self._connected:
            return
        self._connected = False
        _users -= 1
        if not _users:
            import_module("ray").shutdown()
            if _guard is not None:
                _guard.communicate(timeout=30)
                _guard = None


class ActorLink(Link):
    """An actor with its environments. One call of its `collect` is under way at any time."""

    def __init__(self, make_env: bytes, limits: PoolLimits, processors: int = 1) -> None:
        super().__init__(limits)
        self.answers_all = False  # the actor looks after calls that hang
        ray = import_module("ray")
        actor = ray.remote(num_cpus=processors, max_restarts=0, max_task_retries=0)(_actor_class())
        self.actor = actor.remote(make_env, limits, list(sys.path))
        self._kill: Callable[[Any], None] = ray.kill
        self._outgoing: list[tuple[int, bytes]] = []
        self.actor.begin.remote()
        self._collect()
        self.attach()

    def attach(self) -> None:
        if self._outgoing:
            self.loop.call_soon(self._flush)
        if self._collected.done():
            self.loop.call_soon(self._take, self._collected)
        if not self.ready.done() and self.limits.start is not None:
            self.loop.call_later(self.limits.start, self._late)

    def post(self, number: int, payload: bytes) -> None:
        if not self._outgoing:
            self.loop.call_soon(self._flush)
        self._outgoing.append((number, payload))

    def quit(self) -> Any:
        """Ask the actor to close its environments; a `concurrent.futures.Future`."""
        return self.actor.close.remote().future()

    def end(self) -> None:
        """Kill the actor; its worker process ends with it."""
        with suppress(Exception):
            self._kill(self.actor)

    def end_soon(self) -> None:
        """The same, from a thread of Ray's, which must not wait for Ray itself."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.end)

    def _flush(self) -> None:
        requests, self._outgoing = self._outgoing, []
        if requests and not self.lost:
            self.actor.submit.remote(requests)

    def _collect(self) -> None:
        self._collected = self.actor.collect.remote().future()
        self._collected.add_done_callback(self._wake)

    def _wake(self, collected: Any) -> None:
        """Called in a thread of Ray's; where the event loop has ended, `attach` takes the answers in the next."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._take, collected)

    def _take(self, collected: Any) -> None:
        if self.lost or collected is not self._collected:
            return
        try:
            answers = collected.result()
        except Exception as error:
            self.lose(f"was lost by Ray ({type(error).__name__}: {plain(str(error))[:MAX_REASON]})")
            return
        for number, kind, payload in answers:
            if number:
                self.deliver(number, kind, payload)
            elif kind == wire.READY and not self.ready.done():
                self.ready.set_result(None)
            elif kind == wire.ERROR and not self.ready.done():
                self.ready.set_exception(wire.unpacked_error(payload))
                self.end()
                self.lose("could not make an environment")
                return
        self._collect()

    def _late(self) -> None:
        if not self.ready.done() and not self.lost:
            self.end()
            self.lose(f"was not ready within {self.limits.start:g} s: is a processor free in Ray?", timeout=True)


def _local(workers: int) -> dict[str, Any]:
    """Arguments of a Ray of this machine, for this process alone, that leaves nothing behind."""
    global _guard
    folder = tempfile.mkdtemp(prefix="aem-ray-")
    program = [sys.executable, "-S", str(Path(__file__).with_name("ray_guard.py")), folder, str(os.getpid())]
    quiet = subprocess.DEVNULL
    _guard = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)
    where: dict[str, Any] = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    if len(folder) <= LONGEST_FOLDER:
        where["_temp_dir"] = folder
    return where


def _actor_class() -> type:
    from aem_agent.pools.ray_actor import EnvActor

    return EnvActor
