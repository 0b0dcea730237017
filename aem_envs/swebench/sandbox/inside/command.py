"""Running one thing in the room, as the room's user, under limits; and the end of everything it leaves running."""

# Every start of a room waits for these imports, and pathlib is dear.
# ruff: noqa: PTH208

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import F_GETPIPE_SZ, fcntl
from typing import Any, NoReturn

from aem_envs.swebench.sandbox.inside.wire import ChannelError

_PIECE = 1 << 16
_WATCH = 0.1
"""Seconds between two looks at the memory of a command."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SOCKET = 1 << 19
"""Bytes that the kernel may hold for one socket, and counts for nobody."""
_ENDING = 10.0
"""Seconds in which everything must be gone after it was killed; a room that holds longer is broken."""


class House:
    """What the runner knows of its room; from the first frame of the channel. Plain: dataclasses load slowly."""

    uid: int | None
    """User that everything in the room runs as; None: the runner's own, it is not root."""
    repository: str
    pristine: str
    """The repository as it was at the start."""
    work: str
    """Folder for the runner's own files; never on a command's time."""
    env: dict[str, str]
    memory_mb: int
    pids: int
    disk_mb: int
    output_bytes: int
    own_pids: bool
    """The runner is the first process of its own pid namespace."""
    control: int
    wakeup: int = -1

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)


class Outcome:
    """What came of one thing that ran."""

    def __init__(self, output: bytes, status: int | None, stopped: str | None, seconds: float) -> None:
        """`status` is as `os.waitstatus_to_exitcode` gives it; None if it was stopped."""
        self.output, self.status, self.stopped, self.seconds = output, status, stopped, seconds


def watch_children(house: House) -> None:
    """Make `house.wakeup` readable whenever a child ends."""
    house.wakeup, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)


def supervise(house: House, child: Callable[[], Any], timeout: float, limit: int) -> Outcome:
    """Run `child` in a process of its own as the room's user; what it prints is read. Then nothing of it runs any more.

    Raises:
        ChannelError: the sandbox is gone: nothing is left to do but to end.
    """
    start = time.monotonic()
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(house, write, child)
    os.close(write)
    os.set_blocking(read, False)
    parts: list[bytes] = []
    try:
        status, stopped = _follow(house, pid, read, parts, start + timeout, limit)
    finally:
        end_all(house, pid)
        os.close(read)
    output = b"".join(parts)[: limit + 1]
    return Outcome(output, None if stopped else status, stopped, time.monotonic() - start)


def _follow(
    house: House, pid: int, read: int, parts: list[bytes], end: float, limit: int
) -> tuple[int | None, str | None]:
    """Exit status, or why it must be stopped. Ends with the process, not with its pipe: others may hold that."""
    poll = select.poll()
    for fd in (read, house.control, house.wakeup):
        poll.register(fd, select.POLLIN)
    size, look = 0, time.monotonic() + _WATCH
    while True:
        now = time.monotonic()
        if now >= end:
            return None, "timeout"
        if now >= look:
            if memory_used(house) > house.memory_mb << 20:
                return None, "memory"
            look = now + _WATCH
        for fd, _ in poll.poll(max(0.0, min(end, look) - now) * 1000 + 1):
            if fd == house.control:
                raise ChannelError("the sandbox is gone")  # it waits for an answer and sends nothing meanwhile
            if fd == read:
                part = _read_some(read)
                if not part:
                    poll.unregister(read)
                parts.append(part)
                size += len(part)
            else:
                _read_some(house.wakeup)
                status = reap(pid)
                left = fcntl(read, F_GETPIPE_SZ)  # no more than it held: others may go on writing
                while status is not None and left > 0 and size <= limit and (part := _read_some(read)):
                    parts.append(part)
                    size += len(part)
                    left -= len(part)
                if status is not None and size <= limit:
                    return status, None
        if size > limit:
            return None, "output"


def _read_some(fd: int) -> bytes:
    try:
        return os.read(fd, _PIECE)
    except BlockingIOError:
        return b""


def reap(wanted: int = 0) -> int | None:
    """Take in all children that ended; the exit code of the one `wanted`."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == wanted:
                found = os.waitstatus_to_exitcode(status)
    return found


def end_all(house: House, pid: int = 0) -> None:
    """Kill all in the room but the runner, again and again until none is left: forks race with kills.

    Raises:
        ChannelError: they would not go.
    """
    end, pause = time.monotonic() + _ENDING, 0.0002
    while True:
        if house.own_pids:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        elif house.uid is not None:
            _kill_user(house.uid)
        else:
            for other in descendants():
                with suppress(OSError):
                    os.kill(other, signal.SIGKILL)
        reap()
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return  # orphans become the runner's children: without one, there is nobody
        if time.monotonic() > end:
            raise ChannelError("processes in the room cannot be killed")
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _kill_user(uid: int) -> None:
    """All processes of a user at once, by one that is of this user."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _become(house: House, write: int, child: Callable[[], Any]) -> NoReturn:
    """In the forked process: leave the runner's rights and files behind, then do `child`."""
    code = 126
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((null, 0), (write, 1), (write, 2)):
            os.dup2(fd, target)
        _limit(house)
        if house.uid is not None:
            os.setgroups([])
            os.setresgid(house.uid, house.uid, house.uid)
            os.setresuid(house.uid, house.uid, house.uid)
        os.umask(0o022)
        result = child()
        code = result if isinstance(result, int) else 0
    except BaseException as error:  # the copy of the runner ends here, whatever comes
        with suppress(BaseException):
            os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    os._exit(code)


def _limit(house: House) -> None:
    """Bounds per process; memory and processes together are watched and counted elsewhere."""
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_FSIZE: house.disk_mb << 20,
        resource.RLIMIT_DATA: house.memory_mb << 20,
        resource.RLIMIT_NPROC: house.pids,
        resource.RLIMIT_MEMLOCK: 1 << 16,
        resource.RLIMIT_MSGQUEUE: 1 << 16,
    }
    for name, bound in bounds.items():
        hard = resource.getrlimit(name)[1]
        value = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(name, (value, value))


def shell(house: House, command: str) -> Callable[[], NoReturn]:
    """`bash -c command` in the repository, for `supervise`."""

    def run() -> NoReturn:
        os.chdir(house.repository)
        os.execve("/bin/bash", ["bash", "-c", command], house.env)

    return run


def memory_used(house: House) -> int:
    """Bytes of memory that processes in the room, and the kernel for them, hold. What forks share counts once, where a
    first sum is too high."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()] if house.own_pids else list(descendants())
    own = os.getpid()
    sockets = open_sockets() * _SOCKET if house.own_pids else 0  # else they are the whole machine's
    rough = sockets
    for pid in pids:
        if pid != own:
            with suppress(OSError, ValueError, IndexError):
                fields = _read_file(f"/proc/{pid}/statm").split()
                rough += (int(fields[1]) - int(fields[2])) * _PAGE
    if rough <= house.memory_mb << 20:
        return rough
    return min(rough, sockets + sum(_proportional(pid) for pid in pids if pid != own))


def open_sockets() -> int:
    """Sockets of all kinds in this network namespace."""
    with suppress(OSError, ValueError, IndexError):
        return int(_read_file("/proc/net/sockstat").split(b"\n", 1)[0].split()[2])  # sockets: used N
    return 0


def _proportional(pid: int) -> int:
    """The process's share of the memory it holds, in bytes."""
    try:
        for line in _read_file(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        return sys.maxsize  # it cannot be told: the first sum stands
    return 0


def _read_file(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def descendants() -> Iterator[int]:
    """Processes below this one, wherever they moved; orphans stay below a subreaper."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                parent = int(_read_file(f"/proc/{name}/stat").rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    todo = list(children.get(os.getpid(), []))
    while todo:
        pid = todo.pop()
        yield pid
        todo += children.get(pid, [])
