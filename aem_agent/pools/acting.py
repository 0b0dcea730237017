"""Policies that live with their environments, in a process whose main thread has no event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aem_agent.pools.base import EnvTimeoutError
from aem_agent.pools.threads import in_background
from aem_envs.core import InfrastructureError

Turn = Coroutine[Any, Any, Any]
Done = Callable[[Any, BaseException | None], None]
"""Gets what a turn returned, or what it raised."""


class Acting:
    """Runs the turns of one policy's episodes.

    Those of policies that say that they never wait, as experts', are run on the spot, without an event loop's cost. Any
    other is a task from its start, in an event loop that has one go at it here. Once one has to wait longer, it and all
    later ones are run by that loop in a thread of its own, so that nobody else waits for them. There, a turn may take
    `limit` seconds; None: as long as it likes.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits = False

    def run(self, turn: Turn, done: Done, *, waits: bool) -> None:
        """Begin a turn; `done` is called here or in the loop's thread. Not for two threads at once.

        Args:
            waits: False: it never does.
        """
        if not waits:
            done(*_outcome(turn))
            return
        loop = self._loop = self._loop or asyncio.new_event_loop()
        if self._waits:
            asyncio.run_coroutine_threadsafe(_finish(turn, done, self._limit), loop)
            return
        task = loop.create_task(_finish(turn, done, self._limit))
        loop.call_soon(loop.stop)
        loop.run_forever()
        if not task.done():
            self._waits = True
            self._task = task  # a loop does not keep its tasks
            in_background(loop.run_forever)


def _outcome(turn: Turn) -> tuple[Any, BaseException | None]:
    try:
        turn.send(None)
    except StopIteration as end:
        return end.value, None
    except BaseException as error:
        return None, error
    turn.close()
    return None, InfrastructureError("the policy waited in `act`, though it says `waits = False`: leave that out")


async def _finish(turn: Turn, done: Done, limit: float | None) -> None:
    deadline = asyncio.timeout(limit)
    try:
        async with deadline:
            result = await turn
    except BaseException as error:
        late = EnvTimeoutError(f"the policy took more than {limit} s for one act") if deadline.expired() else error
        done(None, late)
    else:
        done(result, None)
