"""Contenders of a benchmark, each in a process of its own that plays one round when asked to.

A contender's script calls `serve`; the benchmark starts it as a `Contender` and asks round after round, so that the
rounds of all alternate and a busy machine slows all alike. While others play, a contender only waits. The protocol is
lines of JSON on stdin and stdout; a contender ends when its stdin does, also after the benchmark was killed. Standard
library only: peers' environments hold nothing of ours.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


class ContenderFailed(Exception):
    """A contender broke. The message is its last word; what else it said is in a note."""


class ContenderRefused(ContenderFailed):
    """A contender cannot play here: what it stands on is not installed. The message says what."""


def serve(
    run: Callable[[], None],
    about: str = "",
    close: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Play a round per line of stdin, and answer with its seconds by `clock` (the wall's); what a contender prints goes
    to stderr."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    out.write(json.dumps({"about": about}) + "\n")
    try:
        for _ in sys.stdin:
            started = clock()
            run()
            out.write(json.dumps({"seconds": clock() - started}) + "\n")
    finally:
        if close is not None:
            close()


def refuse(reason: str) -> None:
    """Say why this contender cannot play."""
    print(json.dumps({"error": reason}), flush=True)


class Contender:
    """One that plays rounds in a process of its own.

    Raises:
        ContenderRefused: it says that it cannot play here.
        ContenderFailed: it ended without an answer.
    """

    def __init__(self, script: str, arguments: Sequence[object], python: str = sys.executable) -> None:
        command = [python, str(FOLDER / script), *map(str, arguments)]
        paths = [str(FOLDER), str(FOLDER.parent)] if python == sys.executable else [str(FOLDER)]
        settings = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe would block a talkative contender
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=settings
        )
        try:
            self.about = str(self._answer()["about"])
        except BaseException:
            self.end()
            raise

    def round(self) -> float:
        """Play one round; its seconds."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure() from error
        return float(self._answer()["seconds"])

    def close(self) -> None:
        """End its process, and raise `ContenderFailed` if it did not end well: what it checks at its end failed."""
        if self._errors.closed:
            return
        self._stop()
        try:
            if self._process.returncode:
                raise self._failure()
        finally:
            self._errors.close()

    def end(self) -> None:
        """End its process, gently first, whatever it says; a second call does nothing."""
        if not self._errors.closed:
            self._stop()
            self._errors.close()

    def _stop(self) -> None:
        process = self._process
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _failure(self) -> ContenderFailed:
        """What it ended of, from what it said on stderr."""
        self._stop()
        self._errors.seek(0)
        said = self._errors.read().strip()
        error = ContenderFailed(said.splitlines()[-1] if said else f"it ended with status {self._process.returncode}")
        error.add_note(f"status {self._process.returncode}; on stderr:\n{said[-4000:]}")
        return error

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderRefused(answer["error"])
        return answer
