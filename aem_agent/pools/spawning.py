"""How worker processes begin and end."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from aem_agent.pools import worker_guard
from aem_agent.pools.worker import START


def spawn(settings: str, connection: int, words: int, output: int) -> "subprocess.Popen[bytes]":
    """Start a worker by way of its guard, which is returned and whose standard input keeps both alive.

    The two file descriptors are passed on, and all that is printed goes to `output`.
    """
    guard = [sys.executable, "-I", "-S", str(Path(worker_guard.__file__)), str(os.getpid()), str(words)]
    worker = [sys.executable, "-u", "-X", "faulthandler", "-c", START, settings]
    return subprocess.Popen(
        [*guard, str(connection), *worker],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        pass_fds=(connection, words),
        env={"OMP_NUM_THREADS": "1", **os.environ},
        start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
    )


def ending(status: int) -> str:
    """How a process with this status of wait(2) has ended."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit status {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"was killed by {known.get(-code, f'signal {-code}')}"


def let_go(guard: "subprocess.Popen[bytes]") -> None:
    """Have a guard kill its worker and all that was started from there; it ends when they are gone."""
    assert guard.stdin is not None
    with suppress(OSError):
        guard.stdin.close()


def kill(guard: "subprocess.Popen[bytes]") -> None:
    """The same, and wait for it."""
    let_go(guard)
    with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel is left to the system
        guard.wait(timeout=worker_guard.LONGEST)


def shared_file() -> "tempfile._TemporaryFileWrapper[bytes]":
    """A nameless file, in memory where that can be had."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("aem-worker"), "r+b")  # type: ignore[return-value]
    return tempfile.TemporaryFile()  # type: ignore[return-value]  # pragma: no cover
