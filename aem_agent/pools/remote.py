"""Environments in other processes, as their users see them."""

import asyncio
import pickle
import time
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

from aem_agent.pools import wire
from aem_agent.pools.base import EnvTimeoutError, PoolError, PoolLimits, Step, needs_env
from aem_agent.pools.base import WorkerLostError as Lost
from aem_agent.types import Decision, EpisodePolicy, Policy, TaskRef

GIVEN_UP = 4
"""Calls that hang in threads of one worker, after which it gets no new episodes."""
GIVEN_TIME = 30.0
"""Seconds after which a call that was cancelled, not overdue, is taken to hang."""
NOBODY = -1
"""For `Link.lose`: none of the environments that are lent."""
POLICIES = 8
"""Pickled policies that are kept."""


class Link(ABC):
    """One worker with its environments."""

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.sessions: dict[int, RemoteSession] = {}
        """All environments, by number."""
        self.idle: list[RemoteSession] = []
        self.lent = 0
        self.lost = False
        self.answers_all = True
        """Also calls that were given up are answered, if they ever end."""
        self.alone = False
        """It holds one environment, and ends with it."""
        self.stood = 0.0
        """Seconds that this process stood still, in which nobody else can be blamed for an answer that did not come."""
        self._owed: dict[int, float] = {}
        """Environments that are closed but still owe an answer, and since when that counts."""
        self.loop = asyncio.get_running_loop()
        self.ready = _quiet(self.loop)

    @abstractmethod
    def post(self, number: int, payload: bytes) -> None:
        """Send a request; those of one turn of the event loop go together."""

    @abstractmethod
    def attach(self) -> None:
        """Listen to the worker in `self.loop`."""

    def lend(self, number: int, policies: "Policies") -> "RemoteSession":
        """An environment for an episode; `number` is for a new one."""
        self.lent += 1
        if self.idle:
            return self.idle.pop()
        session = self.sessions[number] = RemoteSession(self, number, policies)
        return session

    def take_back(self, session: "RemoteSession", broken: bool) -> None:
        """The end of an episode; a broken environment's number is used no more."""
        self.lent -= 1
        session.began = None
        if self.lost:
            return
        if not broken and session.sound:
            self.idle.append(session)
        else:
            if session.owes is not None and self.answers_all:
                self._owed[session.number] = session.owes
            del self.sessions[session.number]
            self.post(session.number, pickle.dumps((wire.CLOSE,)))

    def deliver(self, number: int, kind: int, payload: bytes) -> None:
        """Hand an answer to who waits for it. One for a number that is gone is nobody's."""
        session = self.sessions.get(number)
        if session is None or session.waiting is None or session.waiting.done():
            self._owed.pop(number, None)
            if session is not None:
                session.owes = None
            return
        if kind == wire.RESULT:
            session.waiting.set_result(payload)
        else:
            session.waiting.set_exception(wire.unpacked_error(payload))

    def clogged(self) -> bool:
        """So many of its calls hang that it is better replaced."""
        if len(self._owed) < GIVEN_UP:
            return False
        now = time.monotonic()
        return sum(since <= now for since in self._owed.values()) >= GIVEN_UP

    def owing(self) -> bool:
        """Calls that were given up go on in it."""
        return bool(self._owed) or any(session.owes is not None for session in self.sessions.values())

    def lose(self, reason: str, culprit: int = 0, *, timeout: bool = False, output: str = "") -> None:
        """The worker is gone: every episode in it fails, for its own fault or as a neighbour.

        Args:
            reason: completes "its worker …".
            culprit: number of the environment that was at fault; 0: not known, which is the only one that is lent, if
                there is only one.
            timeout: the culprit took too long.
        """
        if self.lost:
            return
        self.lost = True
        tail = f"; its last output:\n{output}" if output.strip() else ""
        idle = {session.number for session in self.idle}
        lent = [session for number, session in self.sessions.items() if number not in idle]
        if not culprit and len(lent) == 1:
            culprit = lent[0].number
        for session in lent:
            guilty = session.number == culprit
            if guilty and timeout:
                error: Exception = EnvTimeoutError(f"the environment's worker {reason}{tail}")
            else:
                whose = "the environment's worker" if guilty else "the worker that this environment shared with others"
                error = Lost(f"{whose} {reason}{tail}", culprit=guilty)
            session.fail(error)
        self.idle.clear()
        if not self.ready.done():
            failure = EnvTimeoutError if timeout else Lost
            self.ready.set_exception(failure(f"a worker {reason}{tail}"))

    def rebind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on in another event loop; the one before has ended."""
        self.loop = loop
        if not self.ready.done():
            self.ready = _quiet(loop)
        self.attach()


class RemoteSession:
    """One environment of a worker, lent to one episode at a time. See `EnvSession`."""

    __slots__ = (
        "_failure",
        "_info",
        "_observation",
        "_policies",
        "began",
        "link",
        "number",
        "owes",
        "since",
        "sound",
        "stood",
        "waiting",
    )

    def __init__(self, link: Link, number: int, policies: "Policies") -> None:
        self.link = link
        self.number = number
        self.sound = True
        """False once a call was given up: its late answer must not be taken for another's."""
        self.waiting: asyncio.Future[bytes] | None = None
        self.owes: float | None = None
        """A call was given up, and is taken to hang from then on."""
        self.since = self.stood = 0.0
        """When the call that is waited for was made (`time.monotonic`), and `Link.stood` then."""
        self.began: float | None = None
        """When the episode was reset."""
        self._policies = policies
        self._failure: Exception | None = None
        self._observation: Any = None
        self._info: Any = None

    async def reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]:
        self.began = time.monotonic()
        request = wire.packed((wire.RESET, task.task_id, task.split, seed), "the task")
        observation, info = wire.unpacked(await self.call(request))
        self._observation, self._info = observation, info
        return observation, info

    async def step(self, action: str) -> Step:
        step: Step = wire.unpacked(await self.call(wire.packed((wire.STEP, action), "the action")))
        self._observation, self._info = step[0], step[4]
        return step

    def start(self, policy: Policy, task: TaskRef, seed: int) -> EpisodePolicy:
        """Raises `PoolError` if a policy that must be sent to the environment cannot be pickled."""
        if not needs_env(policy):
            return policy.start(None, task, seed)
        return _Hosted(self, (self._policies.pickled(policy), task.env_id, task.task_id, task.split, seed))

    def seen(self, observation: str, info: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """None if these are what the environment gave last: its worker has them."""
        return None if observation is self._observation and info is self._info else (observation, info)

    async def call(self, request: bytes) -> bytes:
        """The worker's answer to a request."""
        if self._failure is not None:
            raise self._failure
        link = self.link
        if link.limits.episode is not None and self.overdue(time.monotonic()):
            raise self.too_long()
        future = self.waiting = link.loop.create_future()
        self.since = time.monotonic()
        self.stood = link.stood
        link.post(self.number, request)
        try:
            answer: bytes = await future
            return answer
        except asyncio.CancelledError:
            self.sound = False
            self.owes = time.monotonic() + GIVEN_TIME
            raise
        finally:
            self.waiting = None

    def waited(self, now: float) -> float:
        """Seconds that the call has lasted for which this process is not to blame."""
        return now - self.since - (self.link.stood - self.stood)

    def overdue(self, now: float) -> bool:
        """The episode has used its time."""
        limit = self.link.limits.episode
        return limit is not None and self.began is not None and now - self.began > limit

    def too_long(self) -> EnvTimeoutError:
        """The error of an episode that is overdue."""
        return EnvTimeoutError(f"the episode took more than {self.link.limits.episode:g} s")

    def fail(self, error: Exception) -> None:
        """End the call that is waited for, and all later ones, with `error`."""
        self.sound = False
        self._failure = error
        if self.waiting is not None and not self.waiting.done():
            self.owes = time.monotonic()
            self.waiting.set_exception(error)


class _Hosted:
    """An episode of a policy that lives with its environment."""

    __slots__ = ("_session", "_start")

    def __init__(self, session: RemoteSession, start: tuple[Any, ...]) -> None:
        self._session = session
        self._start: tuple[Any, ...] | None = start

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        session = self._session
        start, self._start = self._start, None
        request = wire.packed((wire.ACT, start, session.seen(observation, info)), "observation and info")
        answer = await session.call(request)
        decision: Decision = _decision(answer) if len(answer) <= wire.SMALL else wire.unpacked(answer)
        return decision


_decision = lru_cache(maxsize=4096)(wire.unpacked)
"""The same few are made over and over: these (immutable) decisions are shared."""


class Policies:
    """Policies as they are sent, each pickled once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Policy, bytes]] = {}

    def pickled(self, policy: Policy) -> bytes:
        """Raises `PoolError`."""
        known = self._known.get(id(policy))
        if known is None:
            if len(self._known) >= POLICIES:
                del self._known[next(iter(self._known))]
            # the policy is kept, so that no other object gets its id
            known = self._known[id(policy)] = policy, pickled(policy, f"policy {policy.name!r}")
        return known[1]


def pickled(value: Any, name: str) -> bytes:
    """Pickle what a worker needs; raises `PoolError`."""
    try:
        return pickle.dumps(value, 5)
    except Exception as error:
        raise PoolError(
            f"{name} cannot be sent to another process ({type(error).__name__}: {error}): use functions and classes of "
            "a module, or functools.partial of them, such as partial(gym.make, 'aem/Toy-v0')"
        ) from error


def _quiet(loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
    """A future whose error need not be seen by anyone."""
    future: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
