"""What processes hold, read from `/proc`: resident memory, open files, threads. Empty where there is no `/proc`."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Held(NamedTuple):
    """Of one process, or the largest value of each over time."""

    rss_mb: float
    files: int
    threads: int


def held(pid: int) -> Held:
    """What a process holds now; zeros for one that has ended."""
    try:
        status = (PROC / str(pid) / "status").read_text()
        files = len(os.listdir(PROC / str(pid) / "fd"))  # noqa: PTH208  # names only, many times
    except OSError:
        return Held(0.0, 0, 0)
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return Held(int(fields.get("VmRSS", "0 kB").split()[0]) / 1024, files, int(fields.get("Threads", "0")))


def children(parent: int) -> Iterator[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        parents.setdefault(above, []).append(int(folder.name))
    below = list(parents.get(parent, ()))
    while below:
        pid = below.pop()
        below += parents.get(pid, ())
        yield pid


class Watch(threading.Thread):
    """Looks at this process and those below it, until it is told to stop; keeps the largest of each figure."""

    def __init__(self, every: float = 0.1) -> None:
        super().__init__(daemon=True)
        self.every = every
        self.own = Held(0.0, 0, 0)
        self.workers: dict[int, Held] = {}
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Look, again and again."""
        while not self._stop_asked.is_set():
            self.own = _most(self.own, held(os.getpid()))
            for pid in children(os.getpid()):
                self.workers[pid] = _most(self.workers.get(pid, Held(0.0, 0, 0)), held(pid))
            time.sleep(self.every)

    def stop(self) -> None:
        """End the thread."""
        self._stop_asked.set()
        self.join()


def _most(first: Held, second: Held) -> Held:
    return Held(max(first.rss_mb, second.rss_mb), max(first.files, second.files), max(first.threads, second.threads))
