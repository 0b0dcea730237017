"""Licences of the packages: patches and issue texts of embedded tasks quote lines of them."""

import tarfile
from collections.abc import Iterable
from pathlib import Path

from envs_data.swebench.packages import Package
from envs_data.swebench.sdists import BadSdistError, fetch_sdist

_HEAD = """Embedded SWE tasks quote lines of the packages below: patches change them, issue texts show parts of tests.
Every package is used under its own licence, which follows as it is in its source archive on PyPI.
"""
_MOST = 100_000


def notices_text(packages: Iterable[Package], cache: Path) -> str:
    """One text with every package's name, version, SPDX identifier and licence files.

    Raises:
        MissingSdistError, BadSdistError: an archive is not to be had, or holds no licence.
    """
    parts = [_HEAD]
    for package in packages:
        title = f"{package.name} {package.version} ({package.licence})"
        parts.append(f"{'=' * len(title)}\n{title}\n{'=' * len(title)}\n")
        parts += [_file(package, fetch_sdist(package, cache), name) for name in package.licence_files]
    return "\n".join(parts)


def _file(package: Package, archive: Path, name: str) -> str:
    with tarfile.open(archive, "r:gz") as tar:
        try:
            file = tar.extractfile(f"{package.name}-{package.version}/{name}")
        except KeyError:
            file = None
        if file is None:
            raise BadSdistError(f"{archive.name} has no {name}: remove it and run again")
        lines = file.read(_MOST).decode("utf-8").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip() + "\n"
