"""Runs a browser's driver and leaves nothing of it behind. To be run as a script: `guard.py PID DRIVER`.

It starts DRIVER in a fresh folder that holds all that driver and browser write, prints the folder and the driver's
port, and waits. When its standard input ends, or process PID is gone (however it went), or the driver ends, it kills
everything that was started from here and removes the folder.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

PREFIX = "aem-browser-"
_PATIENCE = 10.0
"""Seconds for killed processes to be gone."""


def main(owner: int, driver: str) -> None:
    """Guard until the owner goes or lets go."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    _adopt_orphans()
    folder = tempfile.mkdtemp(prefix=PREFIX)
    try:
        print(folder, flush=True)
        _run(owner, driver, folder)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        clear(folder, os.getpid())


def clear(folder: str, root: int = 0) -> None:
    """Kill every process whose command line names `folder`, with all offspring, and that of `root`; remove it."""
    _kill_all(folder, root)
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):  # noqa: PTH110
            return
        time.sleep(0.1)


def _run(owner: int, driver: str, folder: str) -> None:
    temporary = os.path.join(folder, "tmp")  # noqa: PTH118  # pathlib would double this script's start
    os.mkdir(temporary)  # noqa: PTH102
    at_home = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), folder)
    display = {"XAUTHORITY": os.path.expanduser("~/.Xauthority"), **os.environ}  # noqa: PTH111
    process = subprocess.Popen(
        [driver, "--port=0", f"--log-path={folder}/driver.log"],  # so that its command line names the folder, too
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**display, **at_home, "TMPDIR": temporary},
    )
    assert process.stdout is not None
    output, heard, told = process.stdout.fileno(), b"", False
    while os.getppid() == owner:
        ready = select.select([0, output], [], [], 0.5)[0]
        if 0 in ready and not os.read(0, 1 << 12):
            return
        if output in ready:
            chunk = os.read(output, 1 << 16)
            if not chunk:
                return
            if not told:
                heard += chunk
                if found := re.search(rb"started successfully on port (\d+)", heard):
                    print(found[1].decode(), flush=True)
                    told = True


def _adopt_orphans() -> None:
    """Have processes whose parent dies become children of this one, so that none is lost from sight (Linux)."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _kill_all(folder: str, root: int) -> None:
    if not os.path.isdir("/proc/self"):  # noqa: PTH112
        subprocess.run(["pkill", "-9", "-f", folder], check=False)
        return
    deadline = time.monotonic() + _PATIENCE
    while (alive := _offspring(folder, root)) and time.monotonic() < deadline:
        for pid in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if root:  # all of this process's children are meant
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        time.sleep(0.01)


def _offspring(folder: str, root: int) -> list[int]:
    parents: dict[int, int] = {}
    found = {root} - {0}
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                parents[int(name)] = int(stat.read().rpartition(b")")[2].split()[1])
            with open(f"/proc/{name}/cmdline", "rb") as line:  # noqa: PTH123
                if folder.encode() in line.read():
                    found.add(int(name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
