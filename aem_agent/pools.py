"""Where environments live. The rollout manager talks to a pool; this one keeps environments in the same process.

A pool of worker processes or of remote machines implements the same two protocols.
"""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import gymnasium as gym

from aem_agent.types import TaskRef
from aem_envs.core import InfrastructureError

Step = tuple[str, float, bool, bool, dict[str, Any]]
"""observation, native reward, terminated, truncated, info"""


class EnvSession(Protocol):
    """One environment, lent to one episode at a time."""

    env: Any
    """The unwrapped environment for policies that may read it; None where it lives elsewhere."""

    async def reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]: ...

    async def step(self, action: str) -> Step:
        """Raises whatever the environment raises, and `InfrastructureError` if it answers with wrong types."""
        ...


class EnvPool(Protocol):
    """Lends environments."""

    async def acquire(self, task: TaskRef) -> EnvSession:
        """An environment that can play `task`; waits where the pool is exhausted."""
        ...

    async def release(self, session: EnvSession, *, broken: bool) -> None:
        """Take an environment back; a broken one is closed and replaced when next needed."""
        ...

    async def aclose(self) -> None:
        """Close all environments that are not lent."""
        ...


class InProcessPool:
    """Environments of this process, made on demand and reused: as many as ever were lent at once.

    Steps never suspend, except those of environments that are `blocking`: each of these is stepped in a thread, so that
    one that waits delays no other.
    """

    def __init__(self, make_env: Callable[[], gym.Env[str, str]]) -> None:
        self._make_env = make_env
        self._idle: list[_LocalSession] = []
        self._threads: ThreadPoolExecutor | None = None

    async def acquire(self, task: TaskRef) -> "_LocalSession":
        return self._idle.pop() if self._idle else self._session(self._make_env())

    async def release(self, session: EnvSession, *, broken: bool) -> None:
        assert isinstance(session, _LocalSession)
        if broken:
            await session.in_thread(session.close)
        else:
            self._idle.append(session)

    async def aclose(self) -> None:
        sessions, self._idle = self._idle, []
        if self._threads is not None:
            await asyncio.gather(*(session.in_thread(session.close) for session in sessions))
            self._threads.shutdown(wait=False)
            self._threads = None
        else:
            for session in sessions:
                session.close()

    def _session(self, env: gym.Env[str, str]) -> "_LocalSession":
        capabilities = getattr(env.unwrapped, "capabilities", None)
        if not getattr(capabilities, "blocking", False):
            return _LocalSession(env)
        # as many threads as environments: with fewer, one would wait for another; they start as they are needed
        self._threads = self._threads or ThreadPoolExecutor(max_workers=4096, thread_name_prefix="env")
        return _BlockingSession(env, self._threads)


T = TypeVar("T")


class _LocalSession:
    __slots__ = ("_outer", "_step", "env")

    def __init__(self, env: gym.Env[str, str]) -> None:
        self._outer = env
        self._step = env.step
        self.env = env.unwrapped

    async def reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]:
        return self._checked_reset(task, seed)

    async def step(self, action: str) -> Step:
        return _checked_step(*self._step(action))

    async def in_thread(self, call: Callable[[], T]) -> T:
        """`call()`, where this session's calls are made."""
        return call()

    def _checked_reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]:
        options = {"task_id": task.task_id, "split": task.split}
        observation, info = self._outer.reset(seed=seed, options=options)
        _check_text(observation, info)
        return observation, info

    def close(self) -> None:
        """A broken environment may fail to close: that must not end the run."""
        with suppress(Exception):
            self._outer.close()


class _BlockingSession(_LocalSession):
    """Calls in a thread. A cancelled one goes on until the environment is closed, which ends what it waits for."""

    __slots__ = ("_threads",)

    def __init__(self, env: gym.Env[str, str], threads: ThreadPoolExecutor) -> None:
        super().__init__(env)
        self._threads = threads

    async def reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]:
        return await self.in_thread(lambda: self._checked_reset(task, seed))

    async def step(self, action: str) -> Step:
        return _checked_step(*await self.in_thread(lambda: self._step(action)))

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _checked_step(observation: str, reward: Any, terminated: bool, truncated: bool, info: dict[str, Any]) -> Step:
    _check_text(observation, info)
    try:
        reward = float(reward)
    except (TypeError, ValueError):
        reward = math.nan
    if reward != reward:
        raise InfrastructureError("the environment returned a reward that is not a number")
    return observation, reward, bool(terminated), bool(truncated), info


def _check_text(observation: Any, info: Any) -> None:
    if not isinstance(observation, str) or not isinstance(info, dict):
        kinds = f"{type(observation).__name__} and {type(info).__name__}"
        raise InfrastructureError(
            f"the environment returned {kinds} as observation and info; they must be str and dict"
        )
