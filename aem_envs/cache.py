"""A folder made once and shared by all processes of a machine: built beside its place, then renamed into it."""

import atexit
import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aem_envs.core import AemEnvError


class CacheError(AemEnvError, OSError):
    """The cache folder cannot be used; the message says why, and what to do."""


class CacheWarning(UserWarning):
    """The cache folder cannot be written, so that what is built lasts as long as the process only."""


def cache_root(given: str | os.PathLike[str] | None = None) -> Path:
    """Where stores lie: `given`, else `$AEM_CACHE`, else `aem-suite` in the user's cache folder.

    Raises:
        CacheError: it is in the home folder of a user who has none.
    """
    named = given or os.environ.get("AEM_CACHE")
    try:
        if named:
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "aem-suite"
    except RuntimeError as error:
        raise CacheError(f"no cache folder: {error}; set AEM_CACHE to a folder that can be written") from error


def shared_folder(place: Path, sound: Callable[[Path], bool], build: Callable[[Path], None]) -> Path:
    """`place`, made by `build` (which is given an empty folder) unless it is there and `sound`.

    Processes that need the same folder wait for the one that builds it. What an interrupted build left is removed. In
    a cache that cannot be written the folder is made in the system's temporary folder, for this process alone, with a
    `CacheWarning`.

    Raises:
        CacheError: no space is left, or the place is no folder.
        What `build` raises; `place` is as it was then.
    """
    if sound(place):
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            if not sound(place):
                _remove_leftovers(place)
                _build_at(place, build)
            return place
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise CacheError(
                f"the cache folder {place.parent} cannot be used ({error.strerror or error}): make room there, or set "
                "AEM_CACHE to another folder"
            ) from error
        problem = error
    warnings.warn(
        f"the cache folder {place.parent} cannot be written ({problem.strerror}): built for this process alone, "
        "which takes time and memory in each; set AEM_CACHE to a folder that can",
        CacheWarning,
        stacklevel=2,
    )
    folder = Path(tempfile.mkdtemp(prefix="aem-suite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    build(folder)
    return folder


_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def _build_at(place: Path, build: Callable[[Path], None]) -> None:
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}.building-", dir=place.parent))
    try:
        build(work)
        work.chmod(0o755)
        if place.exists():  # of another version, or damaged: those who have it open keep what they mapped
            old = Path(tempfile.mkdtemp(prefix=f".{place.name}.old-", dir=place.parent))
            place.rename(old / "store")
            work.rename(place)
            shutil.rmtree(old, ignore_errors=True)
        else:
            work.rename(place)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _remove_leftovers(place: Path) -> None:
    """Only under the lock: nobody else is building then."""
    for kind in ("building", "old"):
        for left in place.parent.glob(f".{place.name}.{kind}-*"):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait until no other process builds `place`."""
    try:
        import fcntl
    except ImportError:  # not on this system: two processes may build the same, the second replaces the first's
        yield
        return
    with (place.parent / f".{place.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system however this process ends
        yield
