"""What a room with its own file system shows: an allow-list of the machine's folders, and memory for all the rest."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aem_envs.swebench.sandbox.api import REPOSITORY, Limits, Room, SandboxError

CODE = "/run/aem/code"
"""The runner's own code, inside."""
PRISTINE = "/run/aem/repository"
WORK = "/run/aem/work"
TOOLS = "/opt/aem"
"""A room that shows this has its programs in the `bin` folder of it."""
_SHARED_MB = 64
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "mime.types")
_SEARCH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Layout:
    """A root folder, in the order in which it is made."""

    files: dict[str, str]
    """Path → text, read only."""
    binds: list[tuple[str, str]]
    """Path here, path inside: shown read only."""
    links: dict[str, str]
    tmpfs: list[tuple[str, int, str]]
    """Path, megabytes, mode in octal digits."""
    user: bool
    """A user namespace is needed: we are not root."""

    def plain(self) -> dict[str, Any]:
        """For the channel."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def parents(self) -> list[str]:
        """Folders that must be there before anything is shown in them, outermost first."""
        paths = [*self.files, *(target for _, target in self.binds), *(path for path, _, _ in self.tmpfs)]
        shown = [target for _, target in self.binds]
        found = {str(parent) for path in paths for parent in Path(path).parents if str(parent) != "/"}
        return sorted(path for path in found if not any(path == top or path.startswith(f"{top}/") for top in shown))


@dataclass(frozen=True)
class Python:
    """The interpreter that runs this process, without the virtual environment around it."""

    executable: str = field(default_factory=lambda: os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    prefix: str = field(default_factory=lambda: os.path.realpath(sys.base_prefix))

    @property
    def folder(self) -> str:
        """Where `python3` lies."""
        return f"{self.prefix}/bin"


def layout(room: Room, limits: Limits, uid: int) -> Layout:
    """The root folder of a room whose commands run as `uid`.

    Raises:
        SandboxError: a folder of the room is not there.
    """
    repository = check(room)
    python = Python()
    binds = [("/usr", "/usr")]
    links = {}
    for name in _SYSTEM:
        if os.path.islink(f"/{name}"):  # noqa: PTH114
            links[f"/{name}"] = os.readlink(f"/{name}")  # noqa: PTH115
        elif os.path.isdir(f"/{name}"):  # noqa: PTH112
            binds.append((f"/{name}", f"/{name}"))
    binds += [(f"/etc/{name}", f"/etc/{name}") for name in _ETC if os.path.exists(f"/etc/{name}")]  # noqa: PTH110
    if not _below(python.prefix, [target for _, target in binds]):
        binds.append((python.prefix, python.prefix))
    for inside, folder in room.read_only.items():
        if uid != os.getuid() and folder.stat().st_mode & 0o005 != 0o005:
            raise SandboxError(f"the room's user may not read {folder}, to be shown as {inside}: chmod -R a+rX it")
        binds.append((str(folder.resolve()), inside))
    binds.append((str(Path(__file__).resolve().parent / "inside"), CODE))
    binds.append((str(repository.resolve()), PRISTINE))
    scratch = max(limits.disk_mb // 4, 1)
    tmpfs = [
        (REPOSITORY, max(limits.disk_mb - scratch, 1), "0755"),
        ("/tmp", scratch, "1777"),
        (WORK, limits.disk_mb, "0755"),
        ("/dev/shm", _SHARED_MB, "1777"),
    ]
    return Layout(_etc(uid), binds, links, tmpfs, user=os.geteuid() != 0)


def check(room: Room) -> Path:
    """The repository; raises SandboxError if a folder of the room is not there."""
    if room.repository is None or not room.repository.is_dir():
        raise SandboxError(f"no folder with a prepared repository: {room.repository}")
    for inside, folder in room.read_only.items():
        if not folder.exists():
            raise SandboxError(f"the folder to show as {inside} is not there: {folder}")
    return room.repository


def _etc(uid: int) -> dict[str, str]:
    """Just enough for programs that ask who they are; nothing of the machine's own users."""
    return {
        "/etc/passwd": f"root:x:0:0:root:/:/bin/sh\nagent:x:{uid}:{uid}:agent:/tmp/home:/bin/bash\n",
        "/etc/group": f"root:x:0:\nagent:x:{uid}:\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    }


def environment(room: Room, home: str, scratch: str, python: str | None) -> dict[str, str]:
    """Variables of every command; those of the room have the last word."""
    first = [f"{TOOLS}/bin"] if any(_below(f"{TOOLS}/bin", [path]) for path in room.read_only) else []
    own = [python] if python and python not in _SEARCH.split(":") else []
    path = ":".join([*first, *own, _SEARCH])
    return {"PATH": path, "HOME": home, "TMPDIR": scratch, "LANG": "C.UTF-8", "USER": "agent", **room.env}


def processes(limits: Limits, own_users: bool) -> int:
    """What to bound a user's processes to: where that counts all that runs as this user already, so much more."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if os.geteuid() == 0 or (own_users and release >= (5, 14)):
        return limits.pids
    return limits.pids + sum(_threads(pid) for pid in os.listdir("/proc") if pid.isdecimal())  # noqa: PTH208


def _threads(pid: str) -> int:
    try:
        if os.stat(f"/proc/{pid}").st_uid == os.geteuid():  # noqa: PTH116
            return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    except OSError:
        pass
    return 0


def _below(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)
