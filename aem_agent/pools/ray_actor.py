"""What Ray runs for `RayPool`: an actor that relays calls to a worker process beside it.

No environment runs in the actor itself: it always answers, and limits, hangs and deaths are dealt with where they
happen, by the same code as on one machine.
"""

import asyncio
import pickle
import sys
import time
from collections.abc import Sequence

from aem_agent.pools import wire
from aem_agent.pools.base import PoolLimits
from aem_agent.pools.processes import ProcessPool
from aem_agent.pools.remote import RemoteSession
from aem_agent.types import TaskRef

NOWHERE = TaskRef("", "", "")
"""Environments are lent for any task."""

Answer = tuple[int, int, bytes]
"""Number, kind and payload, as in `wire`."""


class EnvActor:
    """Environments by number, in one worker process, which is replaced when it is lost.

    Args:
        make_env: pickled.
        path: `sys.path` of the pool's process: what of it is not known here is added.
    """

    def __init__(self, make_env: bytes, limits: PoolLimits, path: Sequence[str]) -> None:
        sys.path.extend(folder for folder in path if folder not in sys.path)
        self._pool = ProcessPool(make_env, workers=1, limits=limits)
        self._sessions: dict[int, RemoteSession] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._answers: list[Answer] = []
        self._answered = asyncio.Event()

    async def begin(self) -> None:
        """Start the worker; the first answer, to number 0, tells how that went."""
        try:
            session = await self._pool.acquire(NOWHERE)
            await self._pool.release(session, broken=False)
        except Exception as error:
            self._answer(0, wire.ERROR, wire.packed_error(error))
        else:
            self._answer(0, wire.READY, b"")

    async def submit(self, requests: Sequence[tuple[int, bytes]]) -> None:
        """Take requests; `collect` has the answers."""
        for number, payload in requests:
            if pickle.loads(payload)[0] == wire.CLOSE:
                await self._close(number)
            else:
                self._tasks[number] = asyncio.ensure_future(self._serve(number, payload))

    async def collect(self) -> list[Answer]:
        """The answers that have come since the last call; waits for the first."""
        await self._answered.wait()
        self._answered.clear()
        answers, self._answers = self._answers, []
        return answers

    async def close(self) -> None:
        """Close all environments and end the worker."""
        await self._pool.aclose()

    async def _serve(self, number: int, payload: bytes) -> None:
        try:
            answer = await self._call(number, payload)
        except Exception as error:
            self._answer(number, wire.ERROR, wire.packed_error(error))
        else:
            self._answer(number, wire.RESULT, answer)
        finally:
            self._tasks.pop(number, None)

    async def _call(self, number: int, payload: bytes) -> bytes:
        session = self._sessions.get(number)
        if pickle.loads(payload)[0] == wire.RESET:
            if session is not None and session.link.lost:
                await self._pool.release(session, broken=True)
                session = None
            if session is None:
                session = self._sessions[number] = await self._pool.acquire(NOWHERE)
            session.began = time.monotonic()
        assert session is not None
        return await session.call(payload)

    async def _close(self, number: int) -> None:
        """Its call is given up, if it has one."""
        if task := self._tasks.pop(number, None):
            task.cancel()
        if session := self._sessions.pop(number, None):
            await self._pool.release(session, broken=True)

    def _answer(self, number: int, kind: int, payload: bytes) -> None:
        self._answers.append((number, kind, payload))
        self._answered.set()
