"""Files in folders that may be anybody's: only regular ones are read, and no link is written through.

A pipe or a device would never end, and a link leads to whatever its maker chose.
"""

import os
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EFBIG, EINVAL, ELOOP
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

MAX_CONFIG = 1 << 26
"""Bytes of a `config.json`: many times the largest, that of a run whose settings list every task."""

LINK = "it is a link, which could lead anywhere: put the thing itself here"

_AT_ONCE = getattr(os, "O_NONBLOCK", 0)
"""A pipe is opened, and refused, without waiting for whoever would write to it."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def quoted(path: Path) -> str:
    """A path as it can be pasted into a command line."""
    return shlex.quote(str(path))


def open_to_read(path: Path) -> BufferedReader:
    """Open a regular file, through links; raises `OSError`, also where something else has its name."""
    return os.fdopen(_regular(path, os.O_RDONLY), "rb")


def open_to_append(path: Path) -> int:
    """A descriptor to read and to append to a regular file, which is made if there is none; no link is followed.

    Raises:
        OSError: the folder refuses; something else, or a link, has its name.
    """
    try:
        return _regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK)
    except OSError as error:
        if error.errno == ELOOP:
            raise OSError(ELOOP, LINK, str(path)) from error
        raise


def own_folder(root: Path, *parts: str) -> Path:
    """The folder `root/part/…`, made where there is none, whose parts are no links; `root` itself may be one.

    Raises:
        OSError: one of them is a link, or no folder; it cannot be made.
    """
    folder = root
    for part in parts:
        folder = folder / part
        with suppress(FileExistsError):
            folder.mkdir()
        kind = folder.lstat().st_mode
        if not stat.S_ISDIR(kind):
            raise OSError(ELOOP, LINK if stat.S_ISLNK(kind) else "it is no folder", str(folder))
    return folder


def read_config(path: Path) -> bytes:
    """All of a `config.json`; raises `OSError`, also where it is larger than any is."""
    with open_to_read(path) as file:
        content = file.read(MAX_CONFIG + 1)
    if len(content) > MAX_CONFIG:
        raise OSError(EFBIG, f"it is larger than {MAX_CONFIG:,} bytes", str(path))
    return content


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end: whole, or after an error not at all.

    What has the name is replaced and not followed; nobody can know the name it is written under. Raises `OSError`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with temporary.open("xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _regular(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | _AT_ONCE, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(EINVAL, "it is no regular file", str(path))
    return descriptor
