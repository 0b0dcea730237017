"""A temporary folder of an engine's own, so that nothing of vLLM's stays behind; and a place for what should stay."""

import fcntl
import getpass
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "aem-vllm-"
_LOCK = "owner.lock"
_YOUNG = 60.0
"""Seconds in which a folder that nobody holds may be one that is being made."""


class Room:
    """A folder for sockets and files of vLLM's processes. `close` removes it; one whose owner was killed is removed
    when the next is made."""

    def __init__(self) -> None:
        """Raises OSError where there is no room for temporary files."""
        clear_abandoned()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._held = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        keep_compiled(self.folder)

    def close(self) -> None:
        """Remove it; harmless when repeated."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def clear_abandoned() -> None:
    """Remove folders of owners that have ended: their locks are free. Those of other users stay."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG:
                continue
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def keep_compiled(room: Path) -> None:
    """Let torch keep what it compiles where it always does, not in a folder that goes with the engine: it is a quarter
    of a minute's work at the first request. Only in a folder that nobody else can write to."""
    with suppress(OSError, KeyError):
        kept = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}"
        kept.mkdir(mode=0o700, exist_ok=True)
        found = kept.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            (room / kept.name).symlink_to(kept)
