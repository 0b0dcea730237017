"""A user of its own for each live sandbox of a process that is root, so that they share neither rights nor counts."""

import os
import threading

_FIRST, _EACH = 1_000_000_000, 256
_PIDS = 1 << 22
"""Process ids end here on Linux; the highest user is then below 2^31, which every program can hold."""
_lock = threading.Lock()
_taken: set[int] = set()


def take() -> int:
    """A user id that no other live sandbox of this machine has, as long as this process has at most 256 of them."""
    with _lock:
        number = next((free for free in range(_EACH) if free not in _taken), 0)
        _taken.add(number)
    return _FIRST + os.getpid() % _PIDS * _EACH + number


def give_back(uid: int) -> None:
    """Let another sandbox have it."""
    with _lock:
        _taken.discard((uid - _FIRST) % _EACH)
