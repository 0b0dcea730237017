"""Environments in this process: cheap ones are stepped inline, those that wait for others in threads."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import gymnasium as gym

from aem_agent.pools.base import (
    EnvSession,
    EnvTimeoutError,
    MakeEnv,
    PoolError,
    PoolLimits,
    Step,
    check_text,
    checked_step,
    is_blocking,
)
from aem_agent.pools.threads import CallThread, in_background
from aem_agent.pools.wire import deliverable
from aem_agent.types import EpisodePolicy, Policy, TaskRef

CLOSING = 5.0
"""Seconds that an episode's end waits for its broken environment to close; it goes on closing after that."""
CLOSING_ALL = 60.0
"""Seconds that the end of a pool waits for environments to close, as containers have to be removed."""

T = TypeVar("T")


class InProcessPool:
    """Environments of this process, made on demand and reused: as many as ever were lent at once.

    Steps never suspend, except those of environments that are `blocking`: each of these is stepped in a thread, so that
    one that waits delays no other. For them limits of a step and an episode hold: the call is given up, the environment
    closed in the background and its thread left to end by itself.
    """

    def __init__(self, make_env: MakeEnv, *, workers: int | None = None, limits: PoolLimits | None = None) -> None:
        self._make_env = make_env
        self._limits = limits or PoolLimits()
        self._blocking = False
        """The environments are known to be."""
        self._idle: list[_LocalSession] = []
        self._closing: set[asyncio.Future[Any]] = set()

    async def acquire(self, task: TaskRef, *, alone: bool = False) -> "_LocalSession":
        """Raises what making the environment raises, and `PoolError` for limits that cannot be kept here."""
        if self._idle:
            return self._idle.pop()
        return await self._made() if self._blocking else self._session(self._make_env(), CallThread())

    async def release(self, session: EnvSession, *, broken: bool) -> None:
        assert isinstance(session, _LocalSession)
        if not broken:
            self._idle.append(session)
        elif isinstance(session, _BlockingSession):
            closed = self._close_in_background(session)
            if not session.late:
                await asyncio.wait([closed], timeout=CLOSING)
        else:
            session.close()

    async def aclose(self) -> None:
        """Close all environments; those in threads at once."""
        sessions, self._idle = self._idle, []
        for session in sessions:
            if isinstance(session, _BlockingSession):
                self._close_in_background(session)
            else:
                session.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSING_ALL
        while closing := [closed for closed in self._closing if closed.get_loop() is loop]:
            if not (await asyncio.wait(closing, timeout=deadline - loop.time()))[0]:
                break
        self._closing.clear()

    async def _made(self) -> "_LocalSession":
        """One more that is made in its thread: what waits for others when it is stepped may do so when it is made."""
        thread = CallThread()
        made = _called(thread.submit, self._make_env)
        try:
            return self._session(await asyncio.shield(made), thread)
        except BaseException:
            if not made.done():  # nobody wants it any more
                made.add_done_callback(lambda late: self._forget(late, thread))
                self._closing.add(made)
            else:
                thread.end()
            raise

    def _forget(self, made: "asyncio.Future[gym.Env[str, str]]", thread: CallThread) -> None:
        self._closing.discard(made)
        thread.end()
        if not made.cancelled() and made.exception() is None:
            self._close_in_background(_BlockingSession(made.result(), self._limits, thread))

    def _session(self, env: gym.Env[str, str], thread: CallThread) -> "_LocalSession":
        limits, blocking = self._limits, is_blocking(env)
        self._blocking = self._blocking or blocking
        inline = not blocking and (limits.step is not None or limits.episode is not None)
        if inline or limits.memory is not None:
            with suppress(Exception):
                env.close()
            raise PoolError(
                "limits of memory cannot be kept inside this process, nor those of a step or an episode for "
                'environments that are not blocking: use the pool "processes", or set none'
            )
        return _BlockingSession(env, limits, thread) if blocking else _LocalSession(env)

    def _close_in_background(self, session: "_BlockingSession") -> "asyncio.Future[None]":
        """Its own thread may be stuck in a call that ends only when the environment is closed."""
        session.thread.end()
        closed = _called(lambda call: in_background(call), session.close)
        self._closing.add(closed)
        closed.add_done_callback(self._closing.discard)
        return closed


class _LocalSession:
    __slots__ = ("_outer", "_step", "env")

    def __init__(self, env: gym.Env[str, str]) -> None:
        self._outer = env
        self._step = env.step
        self.env = env.unwrapped

    async def reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]:
        return self._checked_reset(task, seed)

    async def step(self, action: str) -> Step:
        return checked_step(*self._step(action))

    def start(self, policy: Policy, task: TaskRef, seed: int) -> EpisodePolicy:
        return policy.start(self.env, task, seed)

    def _checked_reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]:
        options = {"task_id": task.task_id, "split": task.split}
        observation, info = self._outer.reset(seed=seed, options=options)
        check_text(observation, info)
        return observation, info

    def close(self) -> None:
        """A broken environment may fail to close: that must not end the run."""
        with suppress(Exception):
            self._outer.close()


class _BlockingSession(_LocalSession):
    """Calls in a thread. A call that is given up goes on until the environment is closed, which ends what it waits
    for."""

    __slots__ = ("_began", "_limits", "late", "thread")

    def __init__(self, env: gym.Env[str, str], limits: PoolLimits, thread: CallThread) -> None:
        super().__init__(env)
        self._limits = limits
        self._began = 0.0
        self.thread = thread
        self.late = False
        """A call was given up since it took too long."""

    async def reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]:
        self._began = time.monotonic()
        return await self._in_thread(lambda: self._checked_reset(task, seed))

    async def step(self, action: str) -> Step:
        return await self._in_thread(lambda: checked_step(*self._step(action)))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """`call()` in this session's thread; raises `EnvTimeoutError` when it exceeds a limit."""
        limits = self._limits
        allowed, what = limits.step, f"the environment took more than {limits.step} s for one call"
        if limits.episode is not None:
            left = max(0.0, limits.episode - (time.monotonic() - self._began))
            if allowed is None or left < allowed:
                allowed, what = left, f"the episode took more than {limits.episode} s"
        result = _called(self.thread.submit, call)
        try:
            await asyncio.wait((result,), timeout=allowed)
            if result.done():  # also where this comes in the same turn of the event loop as the limit
                return result.result()
        finally:
            result.cancel()  # no effect if it is done
        self.late = True
        raise EnvTimeoutError(what)


def _called(submit: Callable[[Callable[[], None]], object], call: Callable[[], T]) -> "asyncio.Future[T]":
    """What `call` returns or raises where `submit` makes it, in another thread."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():  # given up
            return
        if error is None:
            result.set_result(value)  # type: ignore[arg-type]
        else:
            result.set_exception(deliverable(error))

    def make() -> None:
        value, failure = None, None
        try:
            value = call()
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, value, failure)

    submit(make)
    return result
