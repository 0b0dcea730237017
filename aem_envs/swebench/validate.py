"""Which tasks are sound on this machine: unresolved without a patch, resolved by the gold one."""

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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
    where: str = ""
    """Sandbox and machine that it holds for, as `here` says it."""


def here(rooms: RoomMaker) -> str:
    """What an outcome depends on beside the task: the kind of sandbox, and the machine by name and architecture."""
    return f"{rooms.kind} on {platform.node()} ({platform.machine()})"


def validate(
    tasks: Sequence[Task],
    rooms: RoomMaker,
    *,
    timeout: float,
    done: Mapping[str, Validation],
    on_each: Callable[[Validation], None],
    workers: int = 2,
) -> list[Validation]:
    """Validate `tasks`, but for those that are in `done` with the same data, sandbox and machine, and did not break; in
    the tasks' order. `on_each` is called in the caller's thread, as they end.
    """

    def one(task: Task) -> Validation:
        kept = done.get(task.id)
        if kept and (kept.data_hash, kept.where) == (task.data_hash, here(rooms)) and kept.empty != "error":
            return kept
        return validated(task, rooms, timeout)

    pool = ThreadPoolExecutor(workers)
    try:
        running = [pool.submit(one, task) for task in tasks]
        for ended in as_completed(running):
            on_each(ended.result())
        return [each.result() for each in running]
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C or an error: those that run end, no other begins


def validated(task: Task, rooms: RoomMaker, timeout: float) -> Validation:
    """Grade a task without a patch and with the gold one. What breaks is an outcome, too."""
    try:
        empty, gold = (
            grade(task, patch, lambda: rooms.sandbox(task, grading=True), timeout=timeout, run_empty=True)
            for patch in (b"", task.instance.patch.encode())
        )
    except (InfrastructureError, AemEnvError, DataError) as error:
        why = f"{type(error).__name__}: {error}"
        return Validation(task.id, task.data_hash, False, "error", "error", 0.0, why, here(rooms))
    seconds = sum(empty.seconds.values()) + sum(gold.seconds.values())
    valid = empty.verdict == "unresolved" and gold.resolved
    note = "" if valid else _why(empty, gold)
    verdicts = empty.verdict, gold.verdict
    return Validation(task.id, task.data_hash, valid, *verdicts, round(seconds, 2), note, here(rooms))


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
    work = path.with_name(f".{path.name}.{os.getpid()}.new")
    work.write_text(lines, encoding="utf-8")
    work.replace(path)


def _why(empty: Grade, gold: Grade) -> str:
    failing: Any = gold.report.get("tests_status", {})
    lists = [f"{name}: {', '.join(found['failure'][:3])}" for name, found in failing.items() if found.get("failure")]
    return "; ".join(lists) or tail(gold.log or empty.log)
