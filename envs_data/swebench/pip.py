"""pip as a program: this Python's own."""

import subprocess
import sys

from envs_data.errors import DataError

_SECONDS = 600
_LAST = 400
"""Characters of pip's complaint that are shown."""


class PipError(DataError):
    """pip failed, or is not there; says why."""


def run_pip(arguments: list[str]) -> None:
    """Run `python -m pip` quietly, without questions; raises `PipError`."""
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", arguments[0], *quiet, *arguments[1:]]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PipError(f"pip did not end: {error}") from error
    if done.returncode:
        said = " ".join(line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line)
        raise PipError(f"pip said: {said[-_LAST:] or 'nothing'}")
