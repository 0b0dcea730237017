"""Instance files of any form as rows, one after another: JSON, JSONL, parquet, or a folder with one split of them."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from envs_data.swebench.fields import InstanceFileError, shown

SUFFIXES = (".parquet", ".jsonl", ".json")
MAX_JSON = 1 << 30
"""Bytes of a JSON file, which is read at once; JSONL and parquet may be of any size."""
MAX_ROW = 1 << 28
"""Characters of a JSONL row."""
MAX_GROUP = 1 << 32
"""Bytes of a row group of a parquet file, unpacked."""
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(-[0-9a-f]+)?")


class ParquetMissingError(InstanceFileError):
    """Parquet files need pyarrow, which comes with swebench."""


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of every row, where a place is such as "rows.jsonl: line 3".

    Args:
        path: A file, or a folder that holds the files of one split, itself or in `data/`.

    Raises:
        InstanceFileError: absent, cut off, of another form, or larger than anything sensible.
        ParquetMissingError: pyarrow is not installed.
    """
    for file in _split(path):
        readers = {".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}
        if file.suffix not in readers:
            raise InstanceFileError(f"{file}: expected a file of {', '.join(SUFFIXES)}")
        if file.exists() and not file.is_file():  # a pipe, a device: they may never end
            raise InstanceFileError(f"{file}: is no regular file")
        try:
            for where, row in readers[file.suffix](file):
                if not isinstance(row, dict):
                    raise InstanceFileError(f"{where}: expected an object, found {shown(row)}")
                yield where, row
        except OSError as error:
            raise InstanceFileError(f"{file}: cannot be read ({error.strerror or error})") from error


def _split(path: Path) -> list[Path]:
    """The files of one split, in order."""
    if not path.is_dir():
        return [path]
    for folder in (path, path / "data"):
        files = sorted(file for file in folder.glob("*") if file.suffix in SUFFIXES) if folder.is_dir() else []
        splits = {match[1] if (match := _SHARD.fullmatch(file.stem)) else file.name for file in files}
        if len(splits) == 1:
            return files
        if files:
            names = ", ".join(file.name for file in files[:10])
            raise InstanceFileError(f"{folder}: holds several splits ({names}); name one of the files")
    raise InstanceFileError(f"{path}: holds no file of {', '.join(SUFFIXES)}; fetch one, or name another folder")


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    if path.stat().st_size > MAX_JSON:
        raise InstanceFileError(f"{path}: longer than {MAX_JSON} bytes; write it as JSONL or parquet")
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InstanceFileError(f"{path}: cannot be read as JSON ({error}); cut off?") from error
    if isinstance(found, list):
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(found, 1))
    elif isinstance(found, dict) and "instance_id" in found:
        yield f"{path}: row 1", found
    elif isinstance(found, dict):
        for number, (key, row) in enumerate(found.items(), 1):
            yield f"{path}: row {number}", {"instance_id": key} | row if isinstance(row, dict) else row
    else:
        raise InstanceFileError(f"{path}: expected a list of rows or an object of them, found {shown(found)}")


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        number = 0
        try:
            while line := file.readline(MAX_ROW):
                number += 1
                if len(line) >= MAX_ROW:
                    raise InstanceFileError(f"{path}: line {number}: longer than {MAX_ROW} characters; refused")
                if line.strip():
                    yield f"{path}: line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InstanceFileError(f"{path}: line {number}: cannot be read as JSON ({error}); cut off?") from error


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        parquet, arrow = import_module("pyarrow.parquet"), import_module("pyarrow")
    except ImportError as error:
        raise ParquetMissingError(f'{path}: parquet needs pyarrow: pip install "aem-suite[swebench]"') from error
    if not path.is_file():
        raise InstanceFileError(f"{path}: no such file")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for group in range(file.metadata.num_row_groups):
                if file.metadata.row_group(group).total_byte_size > MAX_GROUP:
                    raise InstanceFileError(f"{path}: a row group is longer than {MAX_GROUP} bytes; refused")
            for batch in file.iter_batches(batch_size=32):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (arrow.ArrowException, ValueError, OverflowError) as error:
        raise InstanceFileError(f"{path}: cannot be read as parquet after row {number} ({error}); cut off?") from error
