"""Hashes of files: remembered while path, size and time of change stay; records are never trusted blindly."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envs_data import filehash
from envs_data.errors import DataUnavailableError
from envs_data.filehash import file_sha256


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the files that were really hashed."""
    names: list[str] = []
    digest = filehash.hashlib.file_digest

    def spy(file: Any, kind: str) -> Any:
        names.append(Path(file.name).name)
        return digest(file, kind)

    monkeypatch.setattr(filehash.hashlib, "file_digest", spy)
    yield names


def test_hashes_of_unchanged_files_are_remembered(tmp_path: Path, hashed: list[str]) -> None:
    cache, path = tmp_path / "cache" / "deep", tmp_path / "x.json"
    path.write_text("one")
    first = file_sha256(path, cache)
    assert first == file_sha256(path, cache) == file_sha256(path) and len(hashed) == 2
    assert [kept.name for kept in cache.iterdir()] == ["sha256.json"]
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert file_sha256(path, cache) != first and len(hashed) == 3
    record = cache / "sha256.json"
    for damaged in ("{", "[]", json.dumps({str(path): 3}), json.dumps({str(path): [3, 1]}), "[" * 100_000, "\udcff"):
        record.write_text(damaged, errors="surrogateescape")
        hashed.clear()
        file_sha256(path, cache)
        assert hashed == ["x.json"]
    with pytest.raises(DataUnavailableError, match="cannot be read"):
        file_sha256(tmp_path / "gone")


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, hashed: list[str]) -> None:
    (tmp_path / "file").write_text("x")
    for cache in (tmp_path / "file", Path("/proc/nowhere")):
        assert file_sha256(tmp_path / "file", cache) == file_sha256(tmp_path / "file", cache)
    assert len(hashed) == 4
