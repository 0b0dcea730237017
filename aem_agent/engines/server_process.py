"""A server as a child process that is gone when this process is, however that ends."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aem_agent.engines import server_guard
from aem_agent.types import EngineError

_START = 20.0
"""Seconds for the guard to answer."""
_END = 30.0
"""Seconds for the guard to clear up."""
_READ = 1 << 19
"""Bytes of a log's end in which causes are looked for."""
_CAUSE = re.compile(r"\b\w+(Error|Exception): ")
_CAUSES = 4
"""Lines of them that are shown."""
_NOISE = re.compile(r"nanobind|^(\(.*\) )?\s*- (leaked|\.\.\. skipped)")
"""What native modules print at any end."""


class ServerProcess:
    """Runs a command under `server_guard.py`, in a folder of its own that goes with it.

    Processes that the command starts are ended with it, and after a kill -9 of this process. After one of the guard the
    command ends; what it has started must see to that itself, as vLLM's processes do (`vllm_watch.py`).
    """

    def __init__(self) -> None:
        """Start the guard, which makes the folder. Raises `EngineError`."""
        self._owner = os.getpid()
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(server_guard.__file__)), str(self._owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is this process's to handle
        )
        rooms: list[Path] = []
        self._finalizer = weakref.finalize(self, _let_go, self._guard, self._owner, rooms)
        try:
            self.folder = Path(self._line(_START).rstrip("\n"))
            rooms.append(self.folder)
        except BaseException:
            self.close()
            raise

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the command, once. The environment may hold keys: no command line shows it."""
        assert self._guard.stdin is not None
        asked = {"command": list(command), "environment": dict(environment)}
        self._guard.stdin.write(json.dumps(asked).encode() + b"\n")
        self._guard.stdin.flush()

    @property
    def pid(self) -> int:
        """Of the guard: what runs below it is ours."""
        return self._guard.pid

    def ended(self) -> bool:
        """Whether the command has ended by itself, or the guard has."""
        assert self._guard.stdout is not None
        return _readable(self._guard.stdout.fileno(), 0)

    def log(self, lines: int = 25) -> str:
        """The end of what the command has printed; before it, the first errors that are named further up: of several
        processes the one that failed is rarely the last to speak."""
        with suppress(OSError), (self.folder / server_guard.LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _READ))
            said = [line for line in file.read().decode("utf-8", "replace").splitlines() if not _NOISE.search(line)]
            causes = [line for line in said[:-lines] if _CAUSE.search(line)][:_CAUSES]
            return "\n".join([*causes, *(["…"] * bool(causes)), *said[-lines:]])
        return ""

    def close(self) -> None:
        """End the command and all it started, and remove the folder; waits for it; harmless when repeated."""
        self._finalizer()

    def _line(self, seconds: float) -> str:
        assert self._guard.stdout is not None
        if not _readable(self._guard.stdout.fileno(), seconds):
            raise EngineError(f"the guard of a server did not start within {seconds:g} s")
        line = self._guard.stdout.readline().decode()
        if not line:
            raise EngineError("the guard of a server ended as it started: is there room for temporary files?")
        return line


def _readable(handle: int, seconds: float) -> bool:
    """Whether something can be read, or the other end is closed. (`select` cannot watch handles over 1,023.)"""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


def _let_go(guard: "subprocess.Popen[bytes]", owner: int, rooms: Sequence[Path]) -> None:
    """Let the guard clear up, and wait for it; a forked child of the owner only drops its copy of the pipes."""
    with suppress(OSError):
        if guard.stdin is not None:
            guard.stdin.close()
    if os.getpid() == owner:
        with suppress(subprocess.TimeoutExpired):
            guard.wait(_END)
        if guard.poll() is None:
            guard.kill()
            guard.wait()
        for room in rooms:  # of a guard that was killed
            shutil.rmtree(room, ignore_errors=True)
    if guard.stdout is not None:
        guard.stdout.close()
