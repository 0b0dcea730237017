"""Runs a worker and leaves nothing of it behind. To be run as a script, free of imports from this project:
`worker_guard.py OWNER WORDS CONNECTION COMMAND …`, the first three being numbers: a pid and two file descriptors.

It starts COMMAND, puts its pid and later its status into the shared words, and waits. When the worker has ended, or
standard input does, or process OWNER is gone (however it went), it ends all that was started from here.

Those in sessions of their own may be guards themselves, as those of browsers and sandboxes: they see that the worker is
gone, and get a little time to clean up after it.
"""

import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress

PID, STATUS, COUNT = 3, 4, 5
"""Places in the shared words, and how many there are. The status is the one of wait(2), plus 1; 0: it has not ended."""
PATIENCE, GRACE = 2.0, 5.0
"""Seconds after which sessions that go on without the worker are told to end, and are killed."""
LONGEST = 15.0
"""Seconds for killed processes to be gone."""
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36
"""Of prctl(2)."""


def main() -> None:
    """Guard until the worker ends, or the owner goes or lets go."""
    owner, words, connection = map(int, sys.argv[1:4])
    woken, wake = os.pipe()
    for descriptor in (woken, wake):
        os.set_blocking(descriptor, False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wake)
    prctl = _prctl()
    prctl(_SET_SUBREAPER, 1)  # processes whose parent dies become children of this one: none is lost from sight
    prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
    with mmap.mmap(words, 8 * COUNT) as shared:
        worker = _start(sys.argv[4:], (words, connection), prctl)
        struct.pack_into("q", shared, 8 * PID, worker)
        os.close(connection)  # its end is to be seen when the worker ends
        while os.getppid() == owner and not _reaped(worker, shared):
            ready = select.select([0, woken], [], [], 1.0)[0]
            if 0 in ready or (woken in ready and set(os.read(woken, 64)) != {signal.SIGCHLD}):
                break  # nobody writes to standard input: this is its end
        if not _reaped(worker, shared):
            os.kill(worker, signal.SIGKILL)
        _end_all(worker, shared)


def _start(command: list[str], passed: tuple[int, ...], prctl: Callable[[int, int], None]) -> int:
    guard = os.getpid()
    worker = os.fork()
    if worker:
        return worker
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)  # also if this guard is killed
        if os.getppid() == guard:
            os.execv(command[0], command)
    finally:
        os._exit(127)


def _reaped(worker: int, shared: mmap.mmap) -> bool:
    """Take notice of processes that have ended; whether the worker has."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == worker:
                struct.pack_into("q", shared, 8 * STATUS, ended[1] + 1)
    return bool(struct.unpack_from("q", shared, 8 * STATUS)[0])


def _end_all(worker: int, shared: mmap.mmap) -> None:
    """End what the worker has left."""
    begun, told = time.monotonic(), set[int]()
    while (spent := time.monotonic() - begun) < LONGEST:
        _reaped(worker, shared)
        alive = _offspring(os.getpid())
        if not alive:
            with suppress(ProcessLookupError, PermissionError):  # where none can be seen
                os.killpg(worker, signal.SIGKILL)
            return
        for pid, (parent, session) in alive.items():
            number = 0
            if session == worker or spent > GRACE:
                number = signal.SIGKILL
            elif spent > PATIENCE and parent == os.getpid() and pid not in told:
                told.add(pid)
                number = signal.SIGTERM
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        time.sleep(0.01 if spent < 1 else 0.1)


def _offspring(root: int) -> dict[int, tuple[int, int]]:
    """Parent and session of all processes below `root`."""
    every: dict[int, tuple[int, int]] = {}
    with suppress(OSError):
        for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208  # pathlib would double this script's start
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                    fields = stat.read().rpartition(b")")[2].split()
                every[int(name)] = int(fields[1]), int(fields[3])
    found = {root}
    while more := {pid for pid, (parent, _) in every.items() if parent in found} - found:
        found |= more
    return {pid: every[pid] for pid in found - {root}}


def _prctl() -> Callable[[int, int], None]:
    """Linux only; elsewhere the pipe alone guards."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        system = ctypes.CDLL(None).prctl
        return lambda option, value: system(option, value, 0, 0, 0) and None
    return lambda option, value: None


if __name__ == "__main__":
    main()
