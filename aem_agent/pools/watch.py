"""What tells whether a worker process hangs or uses too much."""

import os
from contextlib import suppress
from pathlib import Path


class Watch:
    """Since when a worker is busy with the same call, and since when it has left requests untaken.

    It is looked at every `tick` seconds. Time beyond that is one in which this process itself stood still: it is nobody
    else's fault, and does not count.
    """

    def __init__(self, now: float, tick: float) -> None:
        self.begun = now
        self._looked = now
        self._call = (0, 0)
        self._taken = 0
        self._busy = self._behind = now
        self._tick = tick
        self.stood = 0.0
        """Seconds that this process stood still so far."""

    def look(self, now: float, number: int, calls: int, taken: int, posted: int) -> None:
        """Note what the worker announces now."""
        still = now - self._looked - self._tick
        self._looked = now
        if still > self._tick / 2:
            self.stood += still
            self._busy += still
            self._behind += still
            self.begun += still
        if (number, calls) != self._call or not number:
            self._call, self._busy = (number, calls), now
        if taken != self._taken or taken == posted:
            self._taken, self._behind = taken, now

    def busy(self, now: float) -> float:
        """Seconds with the present call, as far as it was seen."""
        return now - self._busy

    def behind(self, now: float) -> float:
        """Seconds without taking a request that lies there."""
        return now - self._behind


def memory_of(pid: int) -> int:
    """Bytes of resident memory of all descendants of a process; 0 if it is gone."""
    total, waiting = 0, [pid]
    page = os.sysconf("SC_PAGE_SIZE")
    while waiting:
        one = waiting.pop()
        folder = Path(f"/proc/{one}")
        with suppress(OSError, IndexError):
            if one != pid:
                total += int((folder / "statm").read_bytes().split()[1]) * page
            for task in (folder / "task").iterdir():
                with suppress(OSError):
                    waiting += map(int, (task / "children").read_bytes().split())
    return total
