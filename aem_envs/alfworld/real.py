"""The real engine (`textworld` + `alfworld`) behind the native one's interface, in worker processes.

It is not thread-safe, overwrites `sys.argv`, swaps `sys.stdout` and evaluates code from the game file: so it never runs
in this process, and a file should be given to it only if it is trusted or its rules are known ones.
"""

import importlib.util
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aem_envs.core import InfrastructureError
from envs_data.errors import GameFileError

MAX_BYTES = 16_000_000
"""A larger game file or reply is refused."""


class RealEngineError(InfrastructureError):
    """The worker process broke, was too slow or was asked something out of order; a new game gets a new worker."""


class RealEngineMissingError(RealEngineError):
    """textworld or alfworld is not installed; the message says how to install them."""


class RealWorker:
    """A process that can hold many games (about 100 MB, and 1 s to start).

    Requests are answered one at a time; calls from several threads wait for each other. The process ends with this one,
    however this one ends.
    """

    def __init__(self) -> None:
        """Raises RealEngineMissingError where the packages are absent."""
        if missing := [name for name in ("textworld", "alfworld") if importlib.util.find_spec(name) is None]:
            raise RealEngineMissingError(
                f'{" and ".join(missing)} not installed: pip install "aem-suite[alfworld]" (with g++, make and cmake), '
                'or leave engine="native"'
            )
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._unread = b""
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("real_worker.py")), str(self._owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # a Ctrl-C in the terminal is this process's to handle
        )
        self._finalizer = weakref.finalize(self, _end, self._process, self._owner)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """The worker can be asked."""
        return self._finalizer.alive and self._owner == os.getpid() and self._process.poll() is None

    def number(self) -> int:
        """A fresh number for a game in this worker."""
        return next(self._numbers)

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send a request and wait up to `timeout` seconds for the reply.

        Raises RealEngineError; after a timeout or a crash the worker and all its games are gone.
        """
        if self._owner != os.getpid():
            raise RealEngineError("this worker belongs to the process that was forked from: make a new one here")
        with self._lock:
            if not self.alive:
                raise RealEngineError("the real engine's worker has ended; reset the environment to get a new one")
            try:
                return self._exchange(json.dumps(request).encode() + b"\n", time.monotonic() + timeout)
            except TimeoutError as error:
                self.close()
                raise RealEngineError(
                    f"the real engine took more than {timeout:g} s to {request['do']}; its worker was ended"
                ) from error
            except (OSError, EOFError, ValueError) as error:
                self.close()
                raise RealEngineError(f"the real engine's worker broke during {request['do']!r} ({error})") from error
            except BaseException:  # interrupted between request and reply: the next reply would be the wrong one
                self.close()
                raise

    def _exchange(self, line: bytes, deadline: float) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        source = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([source], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            chunk = os.read(source, 1 << 16)
            if not chunk:
                raise EOFError(f"exit status {self._process.wait()}")
            self._unread += chunk
            if len(self._unread) > MAX_BYTES:
                raise ValueError("its reply is too long")
        reply, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(reply)
        return answer

    def close(self) -> None:
        """End the process with all its games; harmless when repeated."""
        self._finalizer()


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """Kill the worker's whole process group and close the pipes; a forked child of the owner only drops its copies."""
    if os.getpid() == owner and process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


class RealGame:
    """One game in the real engine, with the methods of `engine.Game`: `reset`, `step`, `admissible`, `won`, `score`."""

    def __init__(
        self,
        source: str | bytes | Path,
        *,
        name: str | None = None,
        worker: RealWorker | None = None,
        load_timeout: float = 120.0,
        step_timeout: float = 60.0,
    ) -> None:
        """Load a game file (a Path) or its JSON text.

        `worker`: share this process; without one the game starts, owns and ends its own. Timeouts are in seconds.
        Raises GameFileError for a missing or refused file, RealEngineError where the worker breaks.
        """
        self.name = name or (str(source) if isinstance(source, Path) else "game")
        data = _read(source, self.name)
        self.won, self.score = False, 0
        self._admissible: list[str] = []
        self._timeout = step_timeout
        self._owned = worker is None
        self._worker = worker or RealWorker()
        self._number = self._worker.number()
        reply = self._worker.ask({"do": "load", "game": self._number, "data": data}, load_timeout)
        if "error" in reply:
            self.close()
            if reply["error"] in ("ImportError", "ModuleNotFoundError"):
                raise RealEngineMissingError(f"the real engine cannot be imported: {reply['message']}")
            raise GameFileError(f"{self.name}: the real engine refuses it ({reply['error']}: {reply['message']})")

    def reset(self) -> str:
        """Start over; returns banner, room and task."""
        return self._play({"do": "reset", "game": self._number})

    def step(self, command: str) -> str:
        """Act; returns the feedback."""
        return self._play({"do": "step", "game": self._number, "command": command})

    def admissible(self) -> list[str]:
        """Every command that would be accepted now, sorted. A fresh list."""
        return list(self._admissible)

    def _play(self, request: dict[str, Any]) -> str:
        reply = self._worker.ask(request, self._timeout)
        if "error" in reply:
            raise RealEngineError(
                f"{self.name}: the real engine failed to {request['do']} ({reply['error']}: {reply['message']})"
            )
        state = reply["ok"]
        self._admissible, self.won, self.score = state["admissible"], state["won"], state["score"]
        return str(state["feedback"])

    def close(self) -> None:
        """Free the game, and its worker where it owns one; harmless when repeated."""
        if self._owned:
            self._worker.close()
        elif self._worker.alive:
            with suppress(RealEngineError):
                self._worker.ask({"do": "close", "game": self._number}, self._timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(source: str | bytes | Path, name: str) -> str:
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise GameFileError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    if len(data) > MAX_BYTES:
        raise GameFileError(f"{name}: {len(data)} bytes is more than a game may have ({MAX_BYTES})")
    try:
        return data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError as error:
        raise GameFileError(f"{name}: not UTF-8 text; fetch it again") from error
