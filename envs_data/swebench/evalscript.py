"""Evaluation scripts in the shape of SWE-bench's own: set up, apply the test patch, run tests between two marks."""

import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from envs_data.swebench.diffs import DiffFormatError, read_diff

START = ">>>>> Start Test Output"
END = ">>>>> End Test Output"
CONDA = ("source /opt/miniconda3/bin/activate", "conda activate testbed")
"""What goes before everything else in the prebuilt images of SWE-bench, SWE-Gym and SWE-smith."""
NOT_TESTS = (".json", ".png", "csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")
"""Endings of files in a test patch that no runner is given (SWE-bench's rule)."""
_DELIMITER = "EOF_114329324912"


def eval_script(
    test_command: str,
    *,
    base_commit: str = "HEAD",
    test_patch: str = "",
    restore: Sequence[str] = (),
    before: Sequence[str] = (),
    setup: Sequence[str] = (),
) -> str:
    """The script that swebench runs in a container, or an environment in a sandbox.

    Args:
        test_command: Runs the tests, files included.
        base_commit: Where test files are taken from, before and after.
        test_patch: Applied before the tests; may be empty.
        restore: Files that are taken from `base_commit` though no test patch names them.
        before: Lines before everything, such as those that activate an environment.
        setup: Lines in the repository, before the test files are put there.

    Raises:
        DiffFormatError: the test patch cannot be read, or names files outside the repository.
    """
    present, added = _files(test_patch)
    present = list(dict.fromkeys([*restore, *present]))
    fresh = [f"rm -f {_quoted(added)}"] if added else []
    checkout = [f"git checkout {base_commit} {_quoted(present)}"] if present else []
    lines = ["#!/bin/bash", "set -uxo pipefail", *before, "cd /testbed", *setup, *fresh, *checkout]
    if test_patch:
        delimiter = _delimiter(test_patch)
        lines += [f"git apply -v - <<'{delimiter}'", test_patch, delimiter]
    lines += [f": '{START}'", test_command, f": '{END}'", *checkout, *fresh]
    return "\n".join(lines) + "\n"


def arguments_from(test_patch: str, *, as_modules: bool = False) -> str:
    """What follows the runner's name: the test files of a patch, in its order, quoted for a shell.

    Args:
        test_patch: A patch in git's form.
        as_modules: Django's runner takes dotted names below its `tests` folder.
    """
    files = [path for file in read_diff(test_patch) if (path := file.new_path) and not path.endswith(NOT_TESTS)]
    for path in files:
        check_path(path)
    if as_modules:
        files = [path.removesuffix(".py").removeprefix("tests/").replace("/", ".") for path in files]
    return _quoted(files)


def files_of(tests: Iterable[str]) -> list[str]:
    """Files of pytest's names, "tests/test_a.py::test_b", each once, sorted.

    Raises:
        DiffFormatError: a file is outside the repository.
    """
    files = sorted({test.split("::", 1)[0] for test in tests})
    for path in files:
        check_path(path)
    return files


def check_path(path: str) -> None:
    """Refuse a path that leaves the repository, touches git's own files or would be taken for an option."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith(("/", "-")) or ".." in parts or ".git" in parts or not path.isprintable():
        raise DiffFormatError(f"{path[:80]!r} is no path of a file in a repository")


def _files(test_patch: str) -> tuple[list[str], list[str]]:
    """(files that the base commit has, files that it has not)."""
    present, added = [], []
    for file in read_diff(test_patch):
        for path in (file.old_path, file.new_path):
            if path is not None:
                check_path(path)
        if file.old_path is not None:
            present.append(file.old_path)
        if file.new_path is not None and file.new_path != file.old_path:
            added.append(file.new_path)
    return present, added


def _quoted(paths: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, paths))


def _delimiter(text: str) -> str:
    """SWE-bench's end of a here document; another one for a patch that holds it, as only an attack would."""
    delimiter = _DELIMITER
    while re.search(rf"^{delimiter}$", text, re.MULTILINE):
        delimiter = "EOF_" + hashlib.sha256((delimiter + text).encode()).hexdigest()[:24]
    return delimiter
