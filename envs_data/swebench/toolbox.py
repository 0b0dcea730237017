"""The toolbox of embedded tasks: pytest and what a few tests need, in a folder that sandboxes show as /opt/aem."""

import compileall
import hashlib
import os
import py_compile
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from envs_data.errors import DataError
from envs_data.swebench.pip import PipError, run_pip

TOOLBOX = "/opt/aem"
"""Where the toolbox lies in a sandbox."""

_WHEELS = {
    "pytest==9.2.0": "07acdcf88ec174f907dc01af70bf52d49b014bbab03faeeade31c96b18c2e588",
    "pluggy==1.7.0": "7dd7b0d8832ba3cb632c306926ded123429211b83641b35dc5c41ad2d34f9bec",
    "iniconfig==2.3.1": "9121e2c1fdb355232495be3194c8dfe87ccc2d5dee45947b78e68f499790d7a7",
    "packaging==26.3": "d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c",
    "pygments==2.21.0": "2363c69b61c4a97c838da3b130dcd6468f4848992b21a82f2a63ec34377137d9",
    # Needed by tests of itsdangerous and of marshmallow.
    "freezegun==1.5.5": "cd557f4a75cf074e84bc374249b9dd491eaeacd61376b9eb3c423282211619d2",
    "python-dateutil==4.0.0": "a5e246f79eb80475e691bf93862cead98decd8a498cf53ba0516fcdc0f50dc1c",
    "six==1.17.0": "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274",
    "simplejson==4.3.0": "48d5d79d723300b49f18bbd88d786c0410cc58b869c121024a132e2e49f9cf35",
}
"""Pure-Python wheels and their SHA-256."""

# -S: the machine's own packages stay out, so that tests run alike everywhere. -P: files of the repository do, too, but
# for what PYTHONPATH names after the toolbox.
_PYTEST = """#!/bin/sh
exec python3 -S -P -m pytest "$@"
"""


class MissingToolboxError(DataError):
    """pytest for sandboxes is not in the cache and cannot be fetched; the message says how to bring it by hand."""


def requirements() -> str:
    """The pinned wheels as a requirements file."""
    return "".join(f"{pin} --hash=sha256:{digest}\n" for pin, digest in _WHEELS.items())


def toolbox_key() -> str:
    """16 hex digits that stand for what is in the toolbox, the Python that it was compiled for included."""
    text = f"{requirements()}{_PYTEST}{sys.implementation.cache_tag}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def toolbox(cache: Path, progress: Callable[[str], None] | None = None) -> Path:
    """The toolbox's folder in `cache`, made by pip if it is not there: site/, bin/pytest. Several processes may call.

    Raises:
        MissingToolboxError: not there, and not to be had.
    """
    target = cache / f"toolbox-{toolbox_key()}"
    if target.is_dir():
        return target
    if progress:
        progress("fetching pytest for sandboxes")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".toolbox-", dir=cache) as work:
        made = Path(work) / "toolbox"
        _fill(made, Path(work), cache / "wheels")
        with suppress(OSError):  # another process was quicker
            made.rename(target)
    if not target.is_dir():
        raise MissingToolboxError(f"{target} could not be made: is its disk full, or read-only?")
    return target


def _fill(made: Path, work: Path, wheels: Path) -> None:
    site, programs = made / "site", made / "bin"
    wanted = work / "requirements.txt"
    wanted.write_text(requirements(), "utf-8")
    pinned = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "-r", str(wanted)]
    here = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
    try:
        run_pip(["install", "--target", str(site), *here, *pinned])
    except PipError as error:
        raise MissingToolboxError(
            f"pytest for sandboxes could not be downloaded ({error}); where the network allows, run `pip download "
            f"--no-deps {' '.join(_WHEELS)}` and put the wheels into {wheels}"
        ) from error
    shutil.rmtree(site / "bin", ignore_errors=True)  # launchers with this machine's paths in them
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH  # read-only folders: neither checked nor written again
    compileall.compile_dir(site, quiet=2, invalidation_mode=mode, stripdir=str(made), prependdir=TOOLBOX)
    programs.mkdir()
    launcher = programs / "pytest"
    launcher.write_text(_PYTEST, "utf-8")
    for folder, _, files in os.walk(made):
        Path(folder).chmod(0o755)
        for name in files:
            (Path(folder) / name).chmod(0o644)
    launcher.chmod(0o755)
