"""A filter of system calls for all in the room: no new namespaces and mounts, whose memory nobody would count."""

import ctypes
import errno
import os
import struct
from contextlib import suppress

from aem_envs.swebench.sandbox.inside.system import CLONE_NEWUSER, prctl

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
"""On x86_64, calls from here on are the same ones by other numbers."""
_CLONE = {"x86_64": 56, "aarch64": 220}
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
"""For other processes it is refused: without root, the runner is of the room's own user."""
_SOCKET = {"x86_64": 41, "aarch64": 198}
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
"""Those that network namespaces part; a virtual machine's AF_VSOCK, for one, reaches its host from all of them."""
_DENIED = {
    "x86_64": {
        "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
        "shmget": 29, "msgget": 68, "add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298,
        "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51,
        "shmget": 194, "msgget": 186, "add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241,
        "bpf": 280, "userfaultfd": 282,
    },
}  # fmt: skip
"""System V memory and queues outlive their processes' accounts; keys and the rest are ways into the kernel."""
_UNKNOWN = {
    "x86_64": {"memfd_create": 319, "memfd_secret": 447},
    "aarch64": {"memfd_create": 279, "memfd_secret": 447},
}
_UNKNOWN_EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "clone3": 435, "mount_setattr": 442,
}  # fmt: skip
"""As on an older kernel, so that programs take another way: clone3 hides its flags from a filter."""


def install() -> None:
    """For this process and all its children; needs no_new_privs. Nothing where the machine is unknown or has none."""
    machine = os.uname().machine
    if machine not in _MACHINES:
        return
    code = program(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
    with suppress(OSError):
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(header))


def program(machine: str) -> bytes:
    """The filter in BPF: each test that hits returns at once, the end allows."""
    lines = [_line(_LOAD, _ARCH), _line(_EQUAL, _MACHINES[machine], 1, 0), _line(_RETURN, _KILL), _line(_LOAD, _NR)]
    if machine == "x86_64":
        lines += [_line(_AT_LEAST, _X32, 0, 1), _line(_RETURN, _ERRNO | errno.ENOSYS)]
    for numbers, error in (
        (_DENIED[machine], errno.EPERM),
        (_UNKNOWN[machine] | _UNKNOWN_EVERYWHERE, errno.ENOSYS),
    ):
        for number in numbers.values():
            lines += [_line(_EQUAL, number, 0, 1), _line(_RETURN, _ERRNO | error)]
    lines += [_line(_EQUAL, _SOCKET[machine], 0, len(_FAMILIES) + 2), _line(_LOAD, _FIRST_ARGUMENT)]
    lines += [_line(_EQUAL, family, len(_FAMILIES) - place, 0) for place, family in enumerate(_FAMILIES.values())]
    lines += [_line(_RETURN, _ERRNO | errno.EAFNOSUPPORT)]
    lines += [_line(_EQUAL, _PRLIMIT[machine], 0, 3), _line(_LOAD, _FIRST_ARGUMENT)]
    lines += [_line(_EQUAL, 0, 1, 0), _line(_RETURN, _ERRNO | errno.EPERM)]
    lines += [_line(_EQUAL, _CLONE[machine], 0, 3), _line(_LOAD, _FIRST_ARGUMENT)]
    lines += [_line(_ANY_BIT, CLONE_NEWUSER, 0, 1), _line(_RETURN, _ERRNO | errno.EPERM)]
    return b"".join([*lines, _line(_RETURN, _ALLOW)])


def _line(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)
