"""Cleans up after a Ray of this machine whose process is gone, even killed. Started by file path, and free of imports
from this project.

Ray's main processes end with the one that started them; its agents take another minute, and its folder stays.
"""

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path


def main() -> None:
    """Wait until the parent closes the pipe; then end what still has files open in the folder, and remove it."""
    folder, parent = Path(sys.argv[1]).resolve(), sys.argv[2]
    sys.stdin.buffer.read()
    for _ in range(20 if Path("/proc").is_dir() else 0):  # those that start others meanwhile are found the next time
        found = [int(place.name) for place in Path("/proc").iterdir() if of_ray(place, folder, parent)]
        if not found:
            break
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def of_ray(place: Path, folder: Path, parent: str) -> bool:
    """Whether `/proc/<pid>` is a process of Ray, other than the parent, that has a file open in `folder`: its logs."""
    if not place.name.isdecimal() or place.name == parent:
        return False
    with suppress(OSError):
        if b"ray" not in (place / "cmdline").read_bytes():
            return False
        for descriptor in (place / "fd").iterdir():
            with suppress(OSError):
                if folder in descriptor.readlink().parents:
                    return True
    return False


if __name__ == "__main__":
    main()
