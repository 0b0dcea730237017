"""Source archives: fetched once by pip, checked by hash, unpacked."""

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from envs_data.errors import DataError
from envs_data.swebench.packages import Package
from envs_data.swebench.pip import PipError, run_pip

_MAX_FILES = 2000
_MAX_BYTES = 64_000_000

Say = Callable[[str], None]
"""Told in a few words what is being done."""


class MissingSdistError(DataError):
    """A source archive is not in the cache and cannot be fetched; the message says how to bring it by hand."""


class BadSdistError(DataError):
    """A source archive is damaged, or is another than the pinned one."""


def fetch_sdist(package: Package, cache: Path, progress: Say | None = None) -> Path:
    """The package's source archive in `cache`, downloaded by pip if it is not there. Several processes may call.

    Raises:
        MissingSdistError: not there, and not to be had.
        BadSdistError: what lies in the cache under its name is another file.
    """
    folder = cache / "sdists"
    target = folder / package.archive
    if target.is_file():
        return _checked(package, target)
    if progress:
        progress(f"fetching {package.archive}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as work:
        wanted = Path(work) / "requirements.txt"
        wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
        options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(wanted), "-d", work]
        try:
            run_pip(["download", *options])
            found = _checked(package, Path(work) / package.archive)
        except (PipError, FileNotFoundError) as error:
            raise MissingSdistError(
                f"{package.name}=={package.version} is needed and could not be downloaded ({error}); where the network "
                f"allows, run `pip download --no-deps --no-binary :all: {package.name}=={package.version}` and put "
                f"{package.archive} (SHA-256 {package.sha256}) into {folder}"
            ) from error
        found.replace(target)
    return target


def _checked(package: Package, path: Path) -> Path:
    """The path, if it is the pinned file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise BadSdistError(
            f"{path.name} has SHA-256 {digest}, pinned is {package.sha256}: remove {path} and run again"
        )
    return path


def unpack(package: Package, archive: Path, to: Path) -> None:
    """Unpack into the new folder `to`, without the top folder, the package's edits made; raises `BadSdistError`."""
    to.mkdir(parents=True)
    top = f"{package.name}-{package.version}"
    try:
        with tarfile.open(archive, "r:gz") as tar:
            size, count = 0, 0
            for member in tar:
                size, count = size + member.size, count + 1
                if size > _MAX_BYTES or count > _MAX_FILES:
                    raise BadSdistError(f"{archive.name} is larger than any archive in use: remove it and run again")
                first, _, inner = member.name.partition("/")
                if first != top or not inner or not (member.isreg() or member.isdir()):
                    continue  # a link would be a second name of a file, and no package here needs one
                tar.extract(member.replace(name=inner), to, set_attrs=False, filter="data")
                if member.isreg():
                    (to / inner).chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadSdistError(f"{archive.name} cannot be unpacked ({error}): remove it and run again") from error
    for litter in ("build", "dist", ".pytest_cache"):
        shutil.rmtree(to / litter, ignore_errors=True)
    for name, text, new in package.edits:
        path = to / name
        whole = path.read_text("utf-8")
        if whole.count(text) != 1:
            raise BadSdistError(f"{archive.name}: {name} is not as expected; remove the archive and run again")
        path.write_text(whole.replace(text, new), "utf-8", newline="")
