"""Embedded tasks: faults put into small packages of PyPI, read from the manifest that lies beside this module."""

import hashlib
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from envs_data.errors import DataError, UnknownSplitError, UnknownTaskError
from envs_data.swebench.evaluation import eval_script
from envs_data.swebench.instance import Instance
from envs_data.swebench.packages import PACKAGES, Package, package_named

SPLITS = ("train", "dev", "test")
WHOLE = {"schema": "dev", "parse": "test", "itsdangerous": "test"}
"""Packages all of whose tasks are in one split: train never sees their code."""
_SHARES = (("train", 86), ("dev", 90), ("test", 100))
"""Of the functions of the other packages, in hundredths, added up."""


class ManifestError(DataError):
    """A file of the manifest is missing, damaged, or made for another package; says what to do."""


def split_of_function(package: str, path: str, function: str) -> str:
    """The split of all faults in one function; functions within it go with it."""
    if package in WHOLE:
        return WHOLE[package]
    outermost = function.partition(".<locals>")[0]
    digest = hashlib.sha256(f"{package} {path} {outermost}".encode()).digest()
    place = int.from_bytes(digest[:4], "big") % 100
    return next(split for split, bound in _SHARES if place < bound)


def task_ids(split: str) -> tuple[str, ...]:
    """Ids such as `toolz-0007` of a split, in their fixed order; raises `UnknownSplitError`."""
    if split not in SPLITS:
        raise UnknownSplitError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    return _by_split()[split]


def split_of(task_id: str) -> str:
    """The task's split; raises `UnknownTaskError`."""
    package, row = _row(task_id)
    return split_of_function(package.name, row["path"], row["function"])


def package_of(task_id: str) -> str:
    """Name of the task's package; raises `UnknownTaskError`."""
    name = task_id.rpartition("-")[0]
    if name not in PACKAGES or task_id not in _tasks(name):
        raise UnknownTaskError(f"unknown embedded task {task_id!r}; ids look like {task_ids('train')[0]}")
    return name


def instance(task_id: str) -> Instance:
    """The task in swebench's schema; raises `UnknownTaskError`."""
    package, row = _row(task_id)
    failing = tuple(row["FAIL_TO_PASS"])
    files = tuple(dict.fromkeys(sorted(test.partition("::")[0] for test in failing))) if package.narrow else ()
    kept = set(failing)
    passing = (test for test in _manifest(package.name)["tests"] if test not in kept)
    return Instance(
        instance_id=task_id,
        repo=f"embedded/{package.name}",
        base_commit=row["base_commit"],
        problem_statement=row["problem_statement"],
        patch=row["patch"],
        test_patch="",
        FAIL_TO_PASS=failing,
        PASS_TO_PASS=tuple(test for test in passing if not files or test.partition("::")[0] in files),
        version=package.version,
        image=f"aem-swe/{package.name}:{task_id}",
        eval_script=eval_script(package, row["base_commit"], files),
        log_parser="parse_log_pytest",
        dataset="embedded",
        extra={
            "package": package.name,
            "split": split_of(task_id),
            "task_type": row["kind"],
            "function": row["function"],
            "source": list(package.sources),
            "tests": list(package.tests),
            "protected": list(package.restored),
        },
    )


@cache
def manifest_hash() -> str:
    """16 hex digits that stand for all tasks."""
    digest = hashlib.sha256()
    for name in PACKAGES:
        digest.update(_bytes(name) or b"")
    return digest.hexdigest()[:16]


def data_folder() -> Path:
    """Where the manifest lies: NAME.json for every package, and NOTICES.txt with their licences."""
    return Path(str(resources.files("envs_data.swebench") / "data"))


def _bytes(package: str) -> bytes | None:
    """The package's file; None where no tasks are made of it."""
    path = data_folder() / f"{package}.json"
    return path.read_bytes() if path.is_file() else None


@cache
def _manifest(name: str) -> dict[str, Any]:
    data, package = _bytes(name), PACKAGES[name]
    if data is None:
        return {"tests": [], "tasks": []}
    try:
        whole: dict[str, Any] = json.loads(data)
        pinned = (whole["version"], whole["sha256"])
        if not isinstance(whole["tests"], list) or not isinstance(whole["tasks"], list):
            raise ValueError("no lists")
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"the manifest of {name} is damaged ({error}): install the package anew") from error
    if pinned != (package.version, package.sha256):
        raise ManifestError(f"the manifest of {name} was made from another archive: run `aem-data swebench generate`")
    return whole


@cache
def _tasks(name: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in _manifest(name)["tasks"]}


def _row(task_id: str) -> tuple[Package, dict[str, Any]]:
    package = package_named(package_of(task_id))
    return package, _tasks(package.name)[task_id]


@cache
def _by_split() -> dict[str, tuple[str, ...]]:
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in PACKAGES:
        for task_id in _tasks(name):
            ids[split_of(task_id)].append(task_id)
    return {split: tuple(found) for split, found in ids.items()}
