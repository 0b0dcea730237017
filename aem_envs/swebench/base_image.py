"""The image that embedded tasks stand on: a small Debian with Python and git, made without any registry if need be."""

import hashlib
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO

from aem_envs.cache import shared_folder
from aem_envs.swebench.images import Progress, image_id, pull, quiet
from aem_envs.swebench.sandbox.api import SandboxError, SandboxMissingError
from aem_envs.swebench.sandbox.docker_exec import Container, client, daemon_errors, daemon_host
from aem_envs.swebench.sandbox.docker_reap import LABEL

VARIABLE = "AEM_SWE_BASE"
"""Environment variable with an image to use instead."""
NAME = "aem-swe-base"
ARCHIVE = "root.tar.gz"
SUITE = "bookworm"
PACKAGES = ("python3", "git", "ca-certificates", "patch")
_PULLED = "python:3.11-bookworm"
_SECONDS = 1800.0
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
_RECIPE = hashlib.sha256(repr((1, SUITE, PACKAGES, _UNUSED)).encode()).hexdigest()[:16]
_NEEDS = (
    "an image like Debian with bash, git, GNU find, tar and coreutils, and python3 of version 3.11 or later "
    f"(set {VARIABLE} to its name)"
)
_CHECK = """
for tool in git find tar head realpath timeout; do
  command -v $tool >/dev/null || { echo "it has no $tool"; exit 1; }
done
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "it has no python3 >= 3.11"; exit 1; }
"""
_checked: set[str] = set()


def base_image(cache: Path, progress: Progress = quiet) -> str:
    """Name of the image for embedded tasks, made or pulled at the first call on a docker host.

    In this order: what $AEM_SWE_BASE names; the image made earlier; one made by debootstrap, as root, with an archive
    kept in `cache`; `python:3.11-bookworm`, pulled.

    Raises:
        SandboxMissingError: no daemon, or none of these is to be had; the message says how to get on.
        SandboxError: the daemon failed.
    """
    if named := os.environ.get(VARIABLE):
        if image_id(named) is None:
            pull(named, progress)
        _check(named)
        return named
    name = f"{NAME}:{_RECIPE}"
    if image_id(name) is not None:
        return name
    place = cache / f"base-{SUITE}-{_RECIPE}"
    try:
        folder = shared_folder(place, lambda at: (at / ARCHIVE).exists(), lambda at: _debootstrap(at, progress))
    except _CannotMakeError as error:
        return _from_registry(str(error), progress)
    archive = folder / ARCHIVE
    progress(f"importing {archive}")
    with daemon_errors(f"{archive} cannot be imported"):
        answer = client().import_image_from_file(
            str(archive), repository=NAME, tag=_RECIPE, changes=[f"LABEL {LABEL}=image", 'CMD ["/bin/bash"]']
        )
    if image_id(name) is None:
        archive.unlink(missing_ok=True)
        raise SandboxError(
            f"the docker daemon did not take {archive} ({answer.strip()[:300]}): it was removed, try again"
        )
    return name


def _from_registry(why: str, progress: Progress) -> str:
    if image_id(_PULLED) is None:
        try:
            pull(_PULLED, progress)
        except SandboxMissingError as error:
            raise SandboxMissingError(
                f"there is no base image for embedded tasks: debootstrap cannot make it ({why}), and {_PULLED} cannot "
                f"be pulled. Run once as root with debootstrap installed and a Debian mirror in reach, or name {_NEEDS}"
            ) from error
    return _PULLED


class _CannotMakeError(SandboxMissingError):
    """There is no debootstrap here, or it failed; why."""


def _debootstrap(place: Path, progress: Progress) -> None:
    """Make the archive of a root file system in the folder `place`. Raises `_CannotMakeError`."""
    program = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise _CannotMakeError("it is not installed: apt-get install debootstrap")
    if os.geteuid() != 0:
        raise _CannotMakeError("it has to run as root")
    progress("making the base image by debootstrap: two to three minutes, once per machine")
    root = place / "root"
    try:
        with (place / "log").open("w+b") as log:
            _run([program, "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)], log)
            for unused in _UNUSED:
                shutil.rmtree(root / unused, ignore_errors=True)
            with suppress(FileExistsError):
                (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            progress("packing it")
            pack = [
                "tar",
                "-C",
                str(root),
                "--numeric-owner",
                "--exclude=./dev/*",
                "--exclude=./proc/*",
            ]  # its own here
            _run([*pack, "-I", "gzip -1", "-cf", str(place / "part"), "."], log)
    finally:
        for mounted in ("proc", "sys", "dev"):  # by debootstrap, and left if it was killed
            subprocess.run(["umount", "-l", str(root / mounted)], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(root, ignore_errors=True)
    (place / "part").rename(place / ARCHIVE)


def _run(command: list[str], log: IO[bytes]) -> None:
    """Raises `_CannotMakeError` with the end of what the command said."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _CannotMakeError(f"it did not run: {error}") from error
    if done.returncode:
        log.seek(0)
        raise _CannotMakeError(f"it failed: {log.read()[-500:].decode('utf-8', 'replace').strip()}")


def _check(image: str) -> None:
    """Raise `SandboxMissingError` unless an image that the user named has what is needed; once per process."""
    if image in _checked:
        return
    box = Container(image, daemon_host())
    try:
        found = box.exec(["bash", "-c", _CHECK], user="0:0", seconds=60.0, limit=10_000)
    finally:
        box.close()
    if found.exit_code:
        said = (found.output + found.errors).decode("utf-8", "replace").strip()[:300]
        raise SandboxMissingError(f"{image} will not do as base image: {said}. It takes {_NEEDS}")
    _checked.add(image)
