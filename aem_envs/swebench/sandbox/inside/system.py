"""System calls that Python has no function for: prctl, capabilities, namespaces, mounts."""

import ctypes
import os
import struct
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 4, 24, 36, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITIES = {"CHOWN": 0, "DAC_READ_SEARCH": 2, "KILL": 5, "SETGID": 6, "SETUID": 7, "SYS_PTRACE": 19}
"""What a runner that is root keeps: to copy the repository and give it away, to change to the room's user, to kill and
to measure. Commands have none."""
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x4000000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
FILES_PER_MB = 256
"""Files and folders that a tmpfs may hold for each megabyte."""
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def prctl(option: int, *values: int) -> int:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    result: int = _libc.prctl(ctypes.c_int(option), *padded)
    return result


def shut(subreaper: bool = False) -> None:
    """Nobody may look into this process, nor gain rights by exec; with `subreaper`, orphans become its children."""
    _check(prctl(_PR_SET_DUMPABLE, 0), "prctl dumpable")
    _check(prctl(_PR_SET_NO_NEW_PRIVS, 1), "prctl no_new_privs")
    if subreaper:
        _check(prctl(_PR_SET_CHILD_SUBREAPER, 1), "prctl subreaper")


def limit_files(tmpfs: dict[str, int]) -> None:
    """Bound the number of files in each tmpfs (path to megabytes): empty ones take memory, too, and bubblewrap has no
    option for it. Only where the runner may still mount."""
    for path, megabytes in tmpfs.items():
        with suppress(OSError):
            options = f"size={megabytes}m,nr_inodes={megabytes * FILES_PER_MB}"
            mount("none", path, None, MS_REMOUNT | MS_NOSUID | MS_NODEV, options)


def loopback() -> None:
    """Bring up the network interface that reaches only this namespace: programs talk to themselves over it."""
    import fcntl
    import socket  # only where bubblewrap has not done it: it loads slowly

    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def set_host_name(name: str) -> None:
    """In an own namespace."""
    _check(_libc.sethostname(name.encode(), ctypes.c_size_t(len(name))), "sethostname")


def keep_capabilities(names: tuple[str, ...]) -> None:
    """Give up every capability but these, where they are held, and all of the bounding set."""
    for number in range(64):
        prctl(_PR_CAPBSET_DROP, number)  # fails without CAP_SETPCAP: no_new_privs does the same
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data), "capget")
    low, _, _, high, _, _ = struct.unpack("6I", data.raw[:24])
    held = (high << 32 | low) & sum(1 << CAPABILITIES[name] for name in names)
    low, high = held & 0xFFFFFFFF, held >> 32
    _check(_libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0)), "capset")


def unshare(flags: int) -> None:
    """Raises OSError, as all below."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    given = (source.encode(), target.encode(), kind.encode() if kind else None)
    _check(_libc.mount(*given, ctypes.c_ulong(flags), options.encode() or None), f"mount on {target}")


def unmount(target: str) -> None:
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root is unknown on {os.uname().machine}")
    _check(_libc.syscall(ctypes.c_long(number), new.encode(), old.encode()), "pivot_root")
