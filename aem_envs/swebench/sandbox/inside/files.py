"""Files of the room: the copy at the start, put and get, snapshots. Everything but the copy runs as the room's user."""

# Every start of a room waits for these imports, and pathlib is dear.
# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH108, PTH112, PTH115, PTH118, PTH120, PTH123, PTH208, PTH211

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

TOOLS = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nonexistent"}
"""Environment of the runner's own tools (git, tar, rm): nothing that a command could have put there."""


def copy_tree(source: str, target: str, uid: int | None) -> None:
    """Copy a folder's regular files, links and folders into an existing folder, and give them to the user."""
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                os.mkdir(path)
                copy_tree(entry.path, path, uid)
            elif entry.is_symlink():
                os.symlink(os.readlink(entry.path), path)
            elif entry.is_file(follow_symlinks=False):
                _copy_file(entry.path, path)
            else:
                continue
            if uid is not None:
                os.chown(path, uid, uid, follow_symlinks=False)


def _copy_file(source: str, target: str) -> None:
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    found = os.fstat(read)
    mode = 0o755 if found.st_mode & 0o111 else 0o644
    write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(write, mode)
        while part := os.read(read, 1 << 20):
            while part:
                part = part[os.write(write, part) :]
        os.utime(write, ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        os.close(read)
        os.close(write)


def put(repository: str, path: str, data: bytes) -> Callable[[], None]:
    """Write a file: a new one takes the place of a file or link that is there."""

    def run() -> None:
        target = os.path.join(repository, path)
        folder = os.path.dirname(target)
        os.makedirs(folder, exist_ok=True)
        mode = 0o644
        with suppress(FileNotFoundError):
            found = os.lstat(target)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(f"{path} is a folder")
            if stat.S_ISREG(found.st_mode):
                mode = stat.S_IMODE(found.st_mode) | 0o600
        new = f"{folder}/.{os.urandom(8).hex()}"
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode & 0o777)
            with open(fd, "wb") as file:
                os.fchmod(fd, mode & 0o777)
                file.write(data)
            os.rename(new, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise

    return run


def get(repository: str, path: str, limit: int) -> Callable[[], None]:
    """Print a regular file of at most `limit` bytes; opening it waits for nobody and follows no link at its end."""

    def run() -> None:
        fd = os.open(os.path.join(repository, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no regular file")
        if found.st_size > limit:
            raise OSError(f"{path} has {found.st_size} bytes, more than {limit}")
        left = limit
        while left and (part := os.read(fd, min(left, 1 << 20))):
            left -= len(part)
            while part:
                part = part[os.write(1, part) :]

    return run


def walk(top: str, skip: Callable[[os.DirEntry[str]], bool] = lambda _: False) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder, folders before what they hold, links not followed; what its owner may not read is
    made readable. Folders too deep for a path are left out."""
    todo = [top]
    while todo:
        folder = todo.pop()
        try:
            if folder != top or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(folder, os.lstat(folder).st_mode & 0o777 | 0o700)
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if skip(entry):
                continue
            if entry.is_file(follow_symlinks=False) and not entry.stat(follow_symlinks=False).st_mode & 0o400:
                os.chmod(entry.path, 0o600)
            yield entry
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)


def snapshot(repository: str) -> Callable[[], int]:
    """Print the folder as a tar archive, holes in files left out."""

    def run() -> int:
        for _ in walk(repository):
            pass  # makes everything readable
        return tool("tar", "-C", repository, "--sparse", "-cf", "-", ".")

    return run


def restore(repository: str, archive: bytes) -> Callable[[], int]:
    """Replace what the folder holds."""

    def run() -> int:
        clear(repository)
        return tool("tar", "-C", repository, "--no-same-owner", "-xpf", "-", data=archive)

    return run


def clear(*folders: str) -> None:
    """Remove everything in folders, however deep, whatever its rights."""
    for folder in folders:
        if not os.path.isdir(folder):  # no folder any more where there is no mount: make it again
            with suppress(FileNotFoundError):
                os.unlink(folder)
            os.makedirs(folder)
        for _ in walk(folder):
            pass  # folders get their rights back
        names = os.listdir(folder)
        for start in range(0, len(names), 1000):
            part = [f"{folder}/{name}" for name in names[start : start + 1000]]
            if tool("rm", "-rf", "--", *part):
                raise OSError(f"cannot empty {folder}")


def tool(name: str, *options: str, data: bytes | None = None, env: dict[str, str] | None = None) -> int:
    """Run a tool; its exit code. What it prints is the result, what it complains of is not."""
    import subprocess  # only children that need it pay for it

    quiet = subprocess.DEVNULL
    return subprocess.run([name, *options], env=env or TOOLS, input=data, stderr=quiet, check=False).returncode
