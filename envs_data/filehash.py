"""SHA-256 of large files, remembered while they do not change."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from envs_data.errors import DataUnavailableError

RECORD = "sha256.json"
"""Name of the record in the cache folder."""


def file_sha256(path: Path, cache: Path | None = None) -> str:
    """SHA-256 of a file; taken from the record in `cache` where path, size and time of change are the same.

    A record that cannot be read or written is done without.

    Raises:
        DataUnavailableError: the file cannot be read.
    """
    try:
        state = path.stat()
        key, seen = str(path.resolve()), [state.st_size, state.st_mtime_ns]
        known = _read(cache)
        if known.get(key, [])[:2] == seen:
            return str(known[key][2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataUnavailableError(f"{path}: cannot be read ({error.strerror or error})") from error
    _write(cache, known | {key: [*seen, digest]})
    return digest


def _read(cache: Path | None) -> dict[str, list[Any]]:
    try:
        known = json.loads((cache / RECORD).read_text("utf-8")) if cache else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: value for key, value in known.items() if isinstance(value, list) and len(value) == 3}


def _write(cache: Path | None, known: Mapping[str, list[Any]]) -> None:
    if cache is None:
        return
    fresh = cache / f"{RECORD}.{os.getpid()}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(known, indent=1), "utf-8")
        fresh.replace(cache / RECORD)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
