"""The event loop of a run, in a thread of its own.

Engines and worker pools belong to the loop that they are first used in, and rollouts may go on while the main thread
trains: so a run has one loop, from its start to its end, and the main thread hands it what is to be awaited.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

from trainer.errors import TrainerError

GRACE = 30.0
"""Seconds that what was cancelled has to clean up (a container to stop, a worker to end) before it is left behind."""

T = TypeVar("T")


class LoopClosedError(TrainerError):
    """The run is over: nothing more can be played."""


class BackgroundLoop:
    """Runs coroutines for other threads."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._thread = threading.Thread(target=self._serve, name="event-loop", daemon=True)
        self._thread.start()
        self._ready.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for `coroutine` and return what it returns, or raise what it raises.

        If the waiting thread is interrupted (Ctrl-C), the coroutine is cancelled, and has `GRACE` seconds to clean up
        before the interruption goes on.
        """
        ended: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(coroutine))
            tasks[0].add_done_callback(lambda task: _hand_over(task, ended))

        if not self._thread.is_alive() or self._over.is_set():
            coroutine.close()
            raise LoopClosedError("the run is closed: open its folder again with `aem-train resume`")
        try:
            self._loop.call_soon_threadsafe(begin)
            return ended.result()
        finally:
            if not ended.done():
                self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
                wait([ended], timeout=GRACE)

    def call(self, function: Callable[[], T]) -> T:
        """`function()` in the loop's thread, between two steps of what runs there."""

        async def called() -> T:
            return function()

        return self.run(called())

    def soon(self, function: Callable[[], None]) -> None:
        """`function()` in the loop's thread, without waiting for it; nothing where the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Cancel what still runs and end the thread."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it ended meanwhile
                self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(timeout=GRACE)

    def _serve(self) -> None:
        with asyncio.Runner() as runner:  # on leaving it cancels the tasks that are left
            self._loop, self._over = runner.get_loop(), asyncio.Event()
            self._ready.set()
            while not self._over.is_set():
                with suppress(KeyboardInterrupt, SystemExit):  # of a task: its waiter gets them, the others go on
                    runner.run(self._until_over())

    async def _until_over(self) -> None:
        await self._over.wait()


def _hand_over(task: "asyncio.Task[T]", ended: "Future[T]") -> None:
    if task.cancelled():
        ended.cancel()
        ended.set_running_or_notify_cancel()  # wakes those who `wait`
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())
