"""Where tasks come from: the embedded manifest, or a file of official rows."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from aem_envs.core import BadOptionError
from aem_envs.swebench.task import Task, task_of
from envs_data.swebench.instance import Instance

SourceName = Literal["embedded", "official"]
DATA = "SWEBENCH_DATA"
"""Environment variable that names the official rows' file."""
TRAINED_ON = ("r2e-gym", "swe-gym", "swe-smith")
"""Families of rows that are made for training: their split is `train`, that of all others `test`."""


class Tasks(Protocol):
    """Tasks by split and id."""

    splits: tuple[str, ...]

    def ids(self, split: str) -> Sequence[str]:
        """Ids of a split, in their fixed order."""
        ...

    def find(self, task_id: str) -> Task:
        """The task; raises `BadOptionError`."""
        ...

    def split_of(self, task_id: str) -> str:
        """The split that holds a task; raises `BadOptionError`."""
        ...

    def refuse_training(self, split: str) -> None:
        """Raise a `DataError` where a split must not be trained on."""
        ...


class EmbeddedTasks:
    """The tasks of the manifest in this distribution."""

    def __init__(self) -> None:
        from envs_data.swebench import embedded

        self._data = embedded
        self.splits = tuple(embedded.SPLITS)
        self._split = {task_id: split for split in self.splits for task_id in embedded.task_ids(split)}

    def ids(self, split: str) -> Sequence[str]:
        return self._data.task_ids(split)

    def find(self, task_id: str) -> Task:
        split = self.split_of(task_id)
        return task_of(self._data.instance(task_id), split)

    def split_of(self, task_id: str) -> str:
        if task_id not in self._split:
            raise unknown_task(task_id)
        return self._split[task_id]

    def refuse_training(self, split: str) -> None:
        """Any embedded split may be trained on; which ones are held out is the recipe's affair."""


class OfficialTasks:
    """The rows of one file: one split."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._instances: Mapping[str, Instance] = {i.instance_id: i for i in instances}
        trained = all(i.dataset in TRAINED_ON for i in instances)
        self.splits: tuple[str, ...] = ("train",) if trained else ("test",)

    def ids(self, split: str) -> Sequence[str]:
        return tuple(self._instances)

    def find(self, task_id: str) -> Task:
        split = self.split_of(task_id)
        return task_of(self._instances[task_id], split)

    def split_of(self, task_id: str) -> str:
        if task_id not in self._instances:
            raise unknown_task(task_id)
        return self.splits[0]

    def refuse_training(self, split: str) -> None:
        from envs_data.swebench.trainable import require_trainable

        require_trainable(list(self._instances.values()), force=False)


def unknown_task(task_id: str) -> BadOptionError:
    """The error for a task that there is none of."""
    return BadOptionError(f"unknown task_id {task_id!r}: env.task_ids(split, limit) lists them")


def open_tasks(
    source: SourceName, data: str | None, specs: str | None, namespace: str | None, image: str | None
) -> Tasks:
    """The tasks, read once per process.

    Raises:
        BadOptionError: no file was named, or a setting of official rows was given for embedded ones.
        DataError: the file cannot be read, or holds something else.
    """
    if source == "embedded":
        given = {"data": data, "specs": specs, "namespace": namespace, "image": image}
        if wrong := [name for name, value in given.items() if value is not None]:
            raise BadOptionError(f"{wrong[0]} goes with source=official")
        return _embedded()
    path = data or os.environ.get(DATA)
    if not path:
        raise BadOptionError(f"say which file of rows: data=FILE (.json, .jsonl, .parquet), or set {DATA}")
    file = Path(path).expanduser()
    stamp = file.stat().st_mtime_ns if file.exists() else 0
    return _official(file, Path(specs).expanduser() if specs else None, namespace, image, stamp)


@lru_cache(maxsize=1)
def _embedded() -> EmbeddedTasks:
    return EmbeddedTasks()


@lru_cache(maxsize=4)
def _official(path: Path, specs: Path | None, namespace: str | None, image: str | None, stamp: int) -> OfficialTasks:
    from envs_data.swebench.rows import read_instances

    instances = read_instances(path, specs=specs, namespace=namespace, image=image)
    if not instances:
        raise BadOptionError(f"{path} holds no rows: name another file, or fetch it again")
    return OfficialTasks(instances)
