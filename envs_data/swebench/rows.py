"""Instances from files of SWE-bench and its kin, and back into the form that `swebench eval FILE` reads."""

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from envs_data.swebench.adapters import read_row
from envs_data.swebench.fields import Fields, InstanceFieldError, InstanceFileError
from envs_data.swebench.files import read_rows
from envs_data.swebench.instance import Instance
from envs_data.swebench.legacy import Completion, read_specs


def read_instances(
    path: Path,
    *,
    specs: Path | None = None,
    namespace: str | None = None,
    image: str | None = None,
    limit: int | None = None,
    dataset: str | None = None,
) -> list[Instance]:
    """The instances of a file.

    Args:
        path: JSON (a list, or an object by instance id), JSONL or parquet; or a folder with one split of them.
        specs: A JSON file that completes rows of swebench 4.x: see docs/swebench-data.md.
        namespace: Where prebuilt images lie, such as "swebench".
        image: An image for every row; "{instance_id}" in it is replaced.
        limit: How many to read.
        dataset: The family of all rows; by default each row's fields tell: see `envs_data.swebench.adapters`.

    Raises:
        InstanceFileError: the file cannot be read, or a row does not fit; with row, instance and field.
    """
    completion = Completion({} if specs is None else read_specs(specs), namespace, image)
    return list(itertools.islice(_instances(path, completion, dataset), limit))


def write_jsonl(instances: Iterable[Instance], path: Path) -> None:
    """Write rows of swebench 5.x: whole or not at all.

    Lists are written as lists, which swebench 5 takes as they are, and all but ASCII is escaped: its reader breaks
    lines at every character that Unicode calls a line end. What else a row held is kept, and the family as `dataset`.

    Raises:
        InstanceFileError: two instances have one id, or the file cannot be written.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    seen: set[str] = set()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("w", encoding="ascii", newline="\n") as file:
            for instance in instances:
                if instance.instance_id in seen:
                    raise InstanceFileError(f"{path}: instance {instance.instance_id!r} would be written twice")
                seen.add(instance.instance_id)
                row = {**instance.extra, **instance.row(), "dataset": instance.dataset}
                file.write(json.dumps(row, default=_plain) + "\n")
        fresh.replace(path)
    except OSError as error:
        raise InstanceFileError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        fresh.unlink(missing_ok=True)


def _instances(path: Path, completion: Completion, dataset: str | None) -> Iterator[Instance]:
    places: dict[str, str] = {}
    for where, row in read_rows(path):
        instance = read_row(Fields(row, where), completion, dataset)
        first = places.setdefault(instance.instance_id, where)
        if first != where:
            raise InstanceFieldError(f"{where}: instance {instance.instance_id!r} stands in {first} already")
        yield instance


def _plain(value: Any) -> str:
    """What JSON has no form for: dates of parquet files."""
    if isinstance(value, date):
        return value.isoformat()
    raise InstanceFileError(f"an instance holds a {type(value).__name__}, which JSON has no form for")
