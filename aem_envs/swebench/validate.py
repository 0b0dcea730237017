"""Which tasks are sound on this machine: unresolved without a patch, resolved by the gold one."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aem_envs.core import AemEnvError, InfrastructureError
from aem_envs.swebench.grading import Grade, grade, tail
from aem_envs.swebench.rooms import RoomMaker
from aem_envs.swebench.task import Task
from envs_data.errors import DataError


class BadValidationError(AemEnvError, ValueError):
    """A file of earlier outcomes that is none; the message names it."""


@dataclass(frozen=True)
class Validation:
    """What came of one task."""

    instance_id: str
    data_hash: str
    valid: bool
    empty: str
    """Verdict without a patch; `error` where grading broke."""
    gold: str
    """Verdict on the gold patch."""
    seconds: float
    """Both gradings."""
    note: str = ""
    """What a reader needs where it is not valid: the error, the failing tests, the end of the log."""


def validate(
    tasks: Sequence[Task],
    rooms: RoomMaker,
    *,
    timeout: float,
    done: Mapping[str, Validation],
    on_each: Callable[[Validation], None],
    workers: int = 2,
) -> list[Validation]:
    """Validate `tasks`, those left out that are in `done` with the same data; in the tasks' order."""

    def one(task: Task) -> Validation:
        kept = done.get(task.id)
        found = kept if kept and kept.data_hash == task.data_hash else validated(task, rooms, timeout)
        on_each(found)
        return found

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, tasks))


def validated(task: Task, rooms: RoomMaker, timeout: float) -> Validation:
    """Grade a task without a patch and with the gold one. What breaks is an outcome, too."""
    try:
        empty, gold = (
            grade(task, patch, lambda: rooms.sandbox(task, grading=True), timeout=timeout, run_empty=True)
            for patch in (b"", task.instance.patch.encode())
        )
    except (InfrastructureError, AemEnvError, DataError) as error:
        return Validation(task.id, task.data_hash, False, "error", "error", 0.0, f"{type(error).__name__}: {error}")
    seconds = sum(empty.seconds.values()) + sum(gold.seconds.values())
    valid = empty.verdict == "unresolved" and gold.resolved
    note = "" if valid else _why(empty, gold)
    return Validation(task.id, task.data_hash, valid, empty.verdict, gold.verdict, round(seconds, 2), note)


def read_outcomes(path: Path) -> dict[str, Validation]:
    """Outcomes that `write_outcomes` wrote; none if there is no such file. Raises `BadValidationError`."""
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
        return {row["instance_id"]: Validation(**row) for row in rows}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadValidationError(f"{path} holds no outcomes of validations ({error}): choose another --out") from error


def write_outcomes(path: Path, found: Iterable[Validation]) -> None:
    """One line of JSON each, whole or not at all."""
    lines = "".join(json.dumps(asdict(each)) + "\n" for each in found)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.new")
    work.write_text(lines, encoding="utf-8")
    work.replace(path)


def _why(empty: Grade, gold: Grade) -> str:
    failing: Any = gold.report.get("tests_status", {})
    lists = [f"{name}: {', '.join(found['failure'][:3])}" for name, found in failing.items() if found.get("failure")]
    return "; ".join(lists) or tail(gold.log or empty.log)
