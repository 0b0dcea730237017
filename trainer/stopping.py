"""Ctrl-C: the first one lets a run finish the step in hand and save, the second stops it at once.

A plain flag, read between two steps: a signal may come anywhere, and half a step cannot be saved.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

SAID = b"\ninterrupted: finishing the step in hand, then saving; Ctrl-C again stops at once\n"


class StoppedRun(KeyboardInterrupt):  # as KeyboardInterrupt itself: no failure, and nobody's to handle
    """A run ended early because it was asked to, and has saved what it did."""


class Stop:
    """Whether a run was asked to end, and what it says and does then."""

    def __init__(self) -> None:
        self.asked = False
        self.on_asked: Callable[[], None] = lambda: None
        """Called once, within a signal handler: it must not wait."""

    @contextmanager
    def on_ctrl_c(self, *, say: bool = True) -> Iterator[None]:
        """While the block runs, the first SIGINT sets `asked`, and later ones raise `KeyboardInterrupt`.

        say: also what is done now, unless another process says it.
        Only the main thread can receive signals; elsewhere this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(number: int, frame: Any) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            self.on_asked()
            if say:
                with suppress(OSError):  # not by print: what it interrupts may be in the middle of one
                    os.write(2, SAID)

        previous = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
