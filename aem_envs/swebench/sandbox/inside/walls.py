"""Walls of our own, where there is no bubblewrap: namespaces, and a root folder that holds only what is listed.

Runs before anything hostile, in a process that is thrown away with the room.
"""

# Every start of a room waits for these imports, and pathlib is dear.
# ruff: noqa: PTH102, PTH103, PTH106, PTH112, PTH120, PTH123, PTH211

import os
import re
from contextlib import suppress
from typing import Any

from aem_envs.swebench.sandbox.inside import system
from aem_envs.swebench.sandbox.inside.system import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
)

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_OLD = "/.old"
_OCTAL = re.compile(r"\\(\d{3})")
"""How mountinfo writes blanks in paths."""
_KEPT = {os.ST_NODEV: MS_NODEV, os.ST_NOEXEC: MS_NOEXEC, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""`statvfs` flags of a mount that a remount must repeat, noatime, nodiratime and relatime among them."""


def build(walls: dict[str, Any]) -> None:
    """Go into new namespaces and become their first process; the process that was there before waits for its end.

    `walls` is `Layout.plain()`: `binds`, `links`, `files`, `tmpfs`, and `user`: whether to make a user namespace.

    Raises:
        OSError: the kernel, or who set up this machine, does not allow it.
    """
    _unshare(walls["user"])
    pid = os.fork()
    if pid:
        os.closerange(0, 64)  # the room's end of the channel is the child's alone
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
    system.loopback()
    system.set_host_name("sandbox")
    system.mount("none", "/", None, MS_REC | system.MS_PRIVATE)
    system.mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    os.mkdir(f"/tmp{_OLD}")
    system.pivot_root("/tmp", f"/tmp{_OLD}")
    os.chdir("/")
    _furnish(walls)
    system.unmount(_OLD)
    os.rmdir(_OLD)
    system.mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _unshare(user: bool) -> None:
    uid, gid = os.getuid(), os.getgid()
    flags = system.CLONE_NEWNS | system.CLONE_NEWPID | system.CLONE_NEWNET | system.CLONE_NEWIPC | system.CLONE_NEWUTS
    system.unshare(flags | (system.CLONE_NEWUSER if user else 0))
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def _furnish(walls: dict[str, Any]) -> None:
    for target, text in walls["files"].items():
        _parents(target)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
    for source, target in walls["binds"]:
        _show(f"{_OLD}{source}", target)
    for target, source in walls["links"].items():
        _parents(target)
        os.symlink(source, target)
    os.mkdir("/proc")
    system.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _devices()
    for target, megabytes, mode in walls["tmpfs"]:
        os.makedirs(target, exist_ok=True)
        options = f"mode={mode},size={megabytes}m,nr_inodes={megabytes * system.FILES_PER_MB}"
        system.mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options)
    system.mount("none", "/dev", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)


def _devices() -> None:
    os.mkdir("/dev")
    system.mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=0755,size=1m")
    for name in _DEVICES:
        with open(f"/dev/{name}", "wb"):
            pass
        system.mount(f"{_OLD}/dev/{name}", f"/dev/{name}", None, MS_BIND)
    for name, target in {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        os.symlink(target, f"/dev/{name}")
    os.mkdir("/dev/shm")
    os.mkdir("/dev/pts")
    with suppress(OSError):  # a machine without: no terminals
        system.mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
        os.symlink("pts/ptmx", "/dev/ptmx")


def _show(source: str, target: str) -> None:
    """A file or folder, with what is mounted in it, read only."""
    _parents(target)
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        with open(target, "wb"):
            pass
    system.mount(source, target, None, MS_BIND | MS_REC)
    with open(f"{_OLD}/proc/self/mountinfo", encoding="utf-8") as file:
        points = [_OCTAL.sub(lambda found: chr(int(found[1], 8)), line.split()[4]) for line in file]
    for point in points:
        if point == target or point.startswith(f"{target}/"):
            kept = os.statvfs(point).f_flag
            flags = sum(flag for bit, flag in _KEPT.items() if kept & bit)
            system.mount("none", point, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | flags)


def _parents(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
