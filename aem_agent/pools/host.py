"""What runs in a worker: many environments, and the policies that live with them. It knows no transport."""

import asyncio
import gc
import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import gymnasium as gym

from aem_agent.pools.acting import Acting
from aem_agent.pools.base import MakeEnv, check_text, checked_step, is_blocking
from aem_agent.pools.threads import CallThread, in_background
from aem_agent.pools.wire import ACT, CLOSE, ERROR, RESET, RESULT, SMALL, STEP, packed, packed_error
from aem_agent.types import Decision, EpisodePolicy, Policy, Response, TaskRef
from aem_envs.core import InfrastructureError

Reply = Callable[[int, int, bytes], None]
"""Takes number, kind and payload; may be called from any thread."""


class Host:
    """Environments by number, each made at its first request.

    Those that are not `blocking` are called one after another, here; each of the others in a thread of its own.

    Args:
        words: two integers that others may read while a call keeps this process busy: the number of the environment
            that is being called (negative while it is closed, 0: none), and a count of calls. Calls in threads are not
            announced.
        load: reads pickled policies.
        step: seconds that a policy that waits for others may take for one act; whoever called the host looks after all
            other limits.

    Raises what making the first environment raises.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        reply: Reply,
        words: Any,
        load: Callable[[bytes], Any] = pickle.loads,
        step: float | None = None,
    ) -> None:
        self._make_env = make_env
        self._reply = reply
        self._words = words
        self._stage = Stage(load, step)
        self._places: dict[int, _Place] = {}
        self._spare: gym.Env[str, str] | None = make_env()
        self.blocking = is_blocking(self._spare)
        gc.collect()
        gc.freeze()  # modules and first environment stay: no collection needs to look at them again

    def handle(self, number: int, payload: bytes) -> None:
        """Do what a request asks for; the answer is replied when there is one."""
        request = pickle.loads(payload)
        operation = request[0]
        if operation == CLOSE:
            self._close(number)
            return
        place = self._places.get(number)
        if place is None:
            place = self._places[number] = _Place(self._make, self._stage)
            place.thread = CallThread() if self.blocking else None
        if place.thread is not None:
            place.thread.submit(lambda: place.serve(request, number, self._reply))
            return
        words = self._words
        words[0] = number
        words[1] += 1
        place.serve(request, number, self._reply)
        words[0] = 0

    def close_all(self) -> None:
        """Close all environments; those in threads at once, and as long as it takes."""
        if self._spare is not None:
            _close_quietly(self._spare)
        closing = [self._close(number) for number in list(self._places)]
        for thread in closing:
            if thread is not None:
                thread.join()

    def _make(self) -> gym.Env[str, str]:
        env, self._spare = self._spare, None
        return self._make_env() if env is None else env

    def _close(self, number: int) -> threading.Thread | None:
        place = self._places.pop(number, None)
        if place is None:
            return None
        if place.thread is not None:
            place.thread.submit(place.forget_loop)
            place.thread.end()
            return in_background(place.close)  # its own thread may be stuck until it is closed
        self._words[0] = -number
        self._words[1] += 1
        place.close()
        self._words[0] = 0
        return None


class _Place:
    """One environment with the policy's episode that plays it."""

    __slots__ = ("_agent", "_closed", "_env", "_lock", "_loop", "_make", "_seen", "_stage", "_step", "_waits", "thread")

    def __init__(self, make: MakeEnv, stage: "Stage") -> None:
        self._make = make
        self._stage = stage
        self._env: gym.Env[str, str] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.thread: CallThread | None = None

    def serve(self, request: tuple[Any, ...], number: int, reply: Reply) -> None:
        """Answer one request; never raises."""
        try:
            operation = request[0]
            if operation == STEP:
                answer = checked_step(*self._step(request[1]))
                self._seen = answer[0], answer[4]
                reply(number, RESULT, packed(answer, "the environment's answer"))
            elif operation == RESET:
                self._seen = self._reset(*request[1:])
                reply(number, RESULT, packed(self._seen, "the environment's answer"))
            elif operation == ACT:
                self._act(request[1], request[2], number, reply)
        except BaseException as error:  # SystemExit too: an environment must not end its neighbours
            reply(number, ERROR, packed_error(error))

    def _reset(self, task_id: str, split: str, seed: int) -> tuple[str, dict[str, Any]]:
        env = self._env or self._made()
        observation, info = env.reset(seed=seed, options={"task_id": task_id, "split": split})
        check_text(observation, info)
        return observation, info

    def _made(self) -> gym.Env[str, str]:
        env = self._make()
        with self._lock:
            self._env, self._step, closed = env, env.step, self._closed
        if closed:
            _close_quietly(env)
            raise InfrastructureError("the environment was closed while it was made")
        return env

    def _act(self, start: tuple[Any, ...] | None, seen: Any, number: int, reply: Reply) -> None:
        stage = self._stage
        if start is not None:
            assert self._env is not None
            pickled, env_id, task_id, split, seed = start
            policy = stage.policy(pickled)
            self._agent: EpisodePolicy = policy.start(self._env.unwrapped, TaskRef(env_id, task_id, split), seed)
            self._waits = bool(getattr(self._agent, "waits", True))

        def done(decision: Any, error: BaseException | None) -> None:
            try:
                if error is None:
                    reply(number, RESULT, stage.packed(decision))
                    return
            except BaseException as unsendable:
                error = unsendable
            reply(number, ERROR, packed_error(error))

        turn = self._agent.act(*(seen or self._seen))
        if self.thread is None:
            stage.acting.run(turn, done, waits=self._waits)
        else:
            self._loop = self._loop or asyncio.new_event_loop()
            done(self._loop.run_until_complete(turn), None)

    def forget_loop(self) -> None:
        """To be called in this environment's thread."""
        if self._loop is not None:
            self._loop.close()

    def close(self) -> None:
        """Close the environment, from any thread."""
        with self._lock:
            env, self._closed = self._env, True
        if env is not None:
            _close_quietly(env)


class Stage:
    """The policies of a host."""

    def __init__(self, load: Callable[[bytes], Any], step: float | None) -> None:
        self.policy: Callable[[bytes], Policy] = lru_cache(maxsize=8)(load)
        """By its pickle, which is read once."""
        self.acting = Acting(step)
        self._sent: dict[int, tuple[Decision, bytes]] = {}

    def packed(self, decision: Any) -> bytes:
        """A decision as it is sent: those that say the same are often one object, and pickled once, if it is immutable
        and so says the same for ever."""
        known = self._sent.get(id(decision))
        if known is not None:
            return known[1]
        data = packed(decision, "the policy's decision")
        if len(data) <= SMALL and type(decision) is Decision and type(decision.response) is Response:
            if len(self._sent) >= 4096:
                self._sent.clear()
            self._sent[id(decision)] = decision, data  # the decision is kept, so that no other object gets its id
        return data


def _close_quietly(env: gym.Env[str, str]) -> None:
    """A broken environment may fail to close: that must not end its neighbours."""
    with suppress(BaseException):
        env.close()
