"""Whose a process, folder or container is, and the removal of those whose owner is gone (killed, crashed).

An owner is a process, told by pid, start time, pid namespace and boot, so that a pid that is used again is no owner.
Whatever a sandbox leaves on the machine carries its owner's mark: in the environment (`AEM_SANDBOX`), a folder's name,
a container's label.
"""

import os
import shutil
import signal
import tempfile
import threading
from functools import cache
from pathlib import Path

MARKER = "AEM_SANDBOX"
"""Environment variable of processes in a sandbox without a pid namespace: `<owner mark>:<id>`."""
FOLDER = "aem-swe-"
"""Temp folders of sandboxes start so, then `<owner mark>.`."""
_once = threading.Lock()
_reaped_by = 0


@cache
def _place() -> str:
    """This boot of this machine and this pid namespace: where a pid means something."""
    namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116  # a Path would follow the same magic link
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    return f"{namespace}-{boot[:8]}"


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def owner_mark() -> str:
    """The mark of this process: letters, digits and dashes, fit for a folder's name and a container's label."""
    return f"{os.getpid()}-{_started(os.getpid())}-{_place()}"


def owner_alive(mark: str) -> bool:
    """Whether the process that made `mark` still runs.

    True also for marks that nothing can be said of here: of another boot or machine, of another pid namespace. False
    for text that is no mark.
    """
    pid, _, rest = mark.partition("-")
    started, _, place = rest.partition("-")
    if not (pid.isdecimal() and started.isdecimal() and place):
        return False
    return place != _place() or _started(int(pid)) == started


def reap() -> list[str]:
    """Kill processes and remove temp folders of sandboxes whose owner is gone; says what was removed.

    Only what this user may touch; never raises for what it may not.
    """
    gone = []
    for pid, mark in marked_processes():
        if not owner_alive(mark.partition(":")[0]) and _kill(pid):
            gone.append(f"process {pid}")
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        if not owner_alive(folder.name.removeprefix(FOLDER).partition(".")[0]) and _ours(folder):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                gone.append(f"folder {folder}")
    return gone


def reap_once() -> None:
    """`reap`, at the first call in this process only."""
    global _reaped_by
    with _once:
        if _reaped_by != os.getpid():
            _reaped_by = os.getpid()
            reap()


def kill_marked(mark: str) -> None:
    """Kill every process that carries exactly this marker, until none is left (a second look finds late forks)."""
    for _ in range(100):
        killed = [_kill(pid) for pid, found in marked_processes() if found == mark]
        if not any(killed):
            return


def marked_processes() -> list[tuple[int, str]]:
    """Living processes with a marker in their environment, as far as this user may see it."""
    found = []
    start = f"{MARKER}=".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208  # thousands of names: no Path for each
        if entry.isdecimal() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:  # noqa: PTH123
                    environment = file.read()
            except OSError:
                continue
            if start in environment:
                marks = [line for line in environment.split(b"\0") if line.startswith(start)]
                if marks:
                    found.append((int(entry), marks[0].removeprefix(start).decode("ascii", "replace")))
    return found


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _ours(folder: Path) -> bool:
    """A real folder of this user: names in a shared temp folder are anyone's to make."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return not folder.is_symlink() and found.st_uid == os.geteuid()
