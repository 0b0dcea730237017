"""A room's walls by bubblewrap."""

import os
import shutil

from aem_envs.swebench.sandbox.api import SandboxMissingError
from aem_envs.swebench.sandbox.inside.system import CAPABILITIES
from aem_envs.swebench.sandbox.layout import Layout

_SPACES = "--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try --hostname sandbox --as-pid-1"

_AT_FIRST = ("SYS_ADMIN", "SETPCAP")
"""What the runner gives up once the room is furnished."""


def command(layout: Layout) -> tuple[list[str], list[int]]:
    """The command that goes before the runner's, and file descriptors that must be passed on to it and then closed.

    Without --die-with-parent: that would end the room with the thread that started it. The channel's end ends it.

    Raises:
        SandboxMissingError: bubblewrap is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxMissingError("bubblewrap is not installed (Debian: apt-get install bubblewrap)")
    call = [program, *_SPACES.split()]
    if layout.user:
        call += ["--unshare-user", "--disable-userns"]
    else:
        kept = [*CAPABILITIES, *_AT_FIRST]
        call += ["--cap-drop", "ALL", *(part for name in kept for part in ("--cap-add", f"CAP_{name}"))]
    for folder in layout.parents():
        call += ["--dir", folder]  # those bubblewrap makes itself are closed to other users
    for source, target in layout.binds:
        call += ["--ro-bind", source, target]
    for target, source in layout.links.items():
        call += ["--symlink", source, target]
    call += ["--proc", "/proc", "--dev", "/dev"]
    for target, megabytes, mode in layout.tmpfs:
        call += ["--size", str(megabytes << 20), "--perms", mode, "--tmpfs", target]
    fds = []
    for target, text in layout.files.items():
        fd = os.memfd_create(os.path.basename(target))  # noqa: PTH119
        os.write(fd, text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        fds.append(fd)
        call += ["--perms", "0644", "--ro-bind-data", str(fd), target]
    return [*call, "--remount-ro", "/dev", "--remount-ro", "/", "--"], fds
