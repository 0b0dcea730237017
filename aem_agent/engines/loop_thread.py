"""An event loop in a thread of its own, for a library that wants one loop for life while its users come and go."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from multiprocessing import resource_tracker
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines of any caller in one event loop.

    Processes started from it inherit a blocked SIGINT: Ctrl-C is for the program, which drains and then ends them.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()  # started later, with the first process, it would unblock the signal
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await it from another loop; a cancelled wait cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def wait(self, coroutine: Coroutine[Any, Any, T], abandoned: Callable[[T], None] | None = None) -> T:
        """Wait for it without a loop; not in this thread. If the wait is interrupted, its result goes to `abandoned`
        in the loop."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            if abandoned is not None and not future.done():
                future.add_done_callback(lambda f: f.exception() is None and abandoned(f.result()))
            raise

    def stop(self) -> None:
        """End the loop after what is running in it; from any thread but its own."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)
