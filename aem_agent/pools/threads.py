"""Threads for calls that wait for others. They are daemons: one that is stuck for ever is left behind, and keeps no
process from ending."""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class CallThread:
    """Makes one environment's calls, one after another. The thread starts with the first of them."""

    __slots__ = ("_calls", "_thread")

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], None]) -> None:
        """Make `call`, which must not raise, after those before it."""
        self._calls.put(call)
        if self._thread is None:
            self._thread = in_background(self._work)

    def end(self) -> None:
        """Let the thread end after the call it is busy with."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # what it holds may be large, and the next call may be long in coming


def in_background(call: Callable[[], None]) -> threading.Thread:
    """`call()` in a thread of its own."""
    thread = threading.Thread(target=call, name="env", daemon=True)
    thread.start()
    return thread
