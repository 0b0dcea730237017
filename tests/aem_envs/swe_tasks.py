"""Embedded tasks for tests, and patches to grade."""

import subprocess
from functools import cache
from pathlib import Path

from swe_rooms import needs_any

from aem_envs.swebench.grading import Grade, grade
from aem_envs.swebench.rooms import RoomMaker
from aem_envs.swebench.sandbox import Limits
from aem_envs.swebench.sources import EmbeddedTasks
from aem_envs.swebench.task import Task

LIMITS = Limits()


@cache
def tasks() -> EmbeddedTasks:
    return EmbeddedTasks()


def a_task(package: str = "inflection") -> Task:
    """The first task of a small package: a module `inflection/__init__.py`, tests in `test_inflection.py`."""
    names = [task_id for split in tasks().splits for task_id in tasks().ids(split)]
    return tasks().find(next(task_id for task_id in sorted(names) if task_id.startswith(f"{package}-")))


def rooms(kind: str = "local") -> RoomMaker:
    return RoomMaker("embedded", kind, LIMITS)


def graded(task: Task, patch: bytes, kind: str = "local", **options: object) -> Grade:
    maker = rooms(kind)
    return grade(task, patch, lambda: maker.sandbox(task), timeout=120, **options)  # type: ignore[arg-type]


def need_local() -> None:
    """Skip where this machine has no local sandbox."""
    needs_any()


def files(task: Task, folder: Path) -> Path:
    """The task's repository, as a folder to change."""
    source = rooms().room(task).repository
    subprocess.run(["cp", "-r", f"{source}/.", str(folder)], check=True)
    return folder


def patch_of(folder: Path) -> bytes:
    """What changed in a folder of `files`, as a patch, new and ignored files included."""
    git = ["git", "-c", "safe.directory=*", "-C", str(folder)]
    subprocess.run([*git, "add", "-A", "-f"], check=True)
    found = subprocess.run(
        [*git, "diff", "--cached", "--binary", "--no-renames", "HEAD"], check=True, capture_output=True
    )
    return found.stdout


def fixed(task: Task, folder: Path) -> None:
    """Apply the gold patch."""
    git = ["git", "-c", "safe.directory=*", "-C", str(folder), "apply", "-"]
    subprocess.run(git, input=task.instance.patch.encode(), check=True)
