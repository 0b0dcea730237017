"""Runs a server and leaves nothing of it behind. To be run as a script: `server_guard.py PID`.

It makes a fresh folder, prints its path, and reads one line of JSON: the command and its environment, which may hold
keys and therefore come this way. It starts the command in the folder, with its output in `server.log` there, and waits.
When its standard input ends, or process PID is gone (however it went), it ends all that was started from here, and
removes the folder. A server that ends by itself is told in a line on standard output; its folder stays until then.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "aem-server-"
LOG = "server.log"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 5.0
"""Seconds for a server to end when told to."""
_PATIENCE = 10.0
"""Seconds for killed processes to be gone."""
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36
"""Of prctl(2)."""


def main(owner: int) -> None:
    """Guard until the owner goes or lets go."""
    for number in _SIGNALS:
        signal.signal(number, lambda *_: sys.exit(1))
    _prctl(_SET_SUBREAPER, 1)  # processes whose parent dies become children of this one: none is lost from sight
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    process = None
    try:
        print(folder, flush=True)
        if line := sys.stdin.buffer.readline():
            asked = json.loads(line)
            process = _start(asked["command"], asked["environment"], folder)
            _wait(owner, process)
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(command: list[str], environment: dict[str, str], folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL),  # no threads here
        )


def _wait(owner: int, process: "subprocess.Popen[bytes]") -> None:
    told = False
    while os.getppid() == owner:
        if select.select([0], [], [], 0.25)[0] and not os.read(0, 1 << 12):
            return
        if not told and process.poll() is not None:
            told = True
            print(f"ended {process.returncode}", flush=True)


def _end(process: "subprocess.Popen[bytes] | None") -> None:
    """Ask the server to end, then kill it and all offspring."""
    if process is not None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    started = time.monotonic()
    while (alive := _offspring(os.getpid())) and time.monotonic() < started + _PATIENCE:
        # Python's own trackers remove what killed processes leave in shared memory, and then end
        spared = _trackers(alive) if time.monotonic() < started + _PATIENCE / 2 else set()
        for pid in {*alive} - spared:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def _trackers(pids: list[int]) -> set[int]:
    found = set()
    for pid in pids:
        with suppress(OSError):
            if b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def _offspring(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parents[int(path.parent.name)] = int(path.read_bytes().rpartition(b")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {root})


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the pipe alone guards."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
