"""Data sets of the hub: listed, fetched, resumed, checked; hostile answers refused."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from envs_data.errors import DataUnavailableError
from envs_data.fetch import WORKPLACE, BadDownloadError
from envs_data.swebench.download import SETS, download
from envs_data.swebench.rows import read_instances

COMMIT = "1" * 40
LATER = "2" * 40
ROWS = [b"PAR1" + bytes(range(256)) * number + b"PAR1" for number in (4, 8)]
NAME = "R2E-Gym/R2E-Gym-Subset"


class Hub:
    """Answers as the hub does; remembers what was asked."""

    def __init__(self, files: dict[str, bytes], commit: str = COMMIT, **entries: Any) -> None:
        self.files, self.commit, self.entries = files, commit, entries
        self.asked: list[str] = []
        self.ranges: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path)
        if path.startswith(f"/api/datasets/{NAME}/revision/"):
            return httpx.Response(200, json={"sha": self.commit})
        if path.startswith(f"/api/datasets/{NAME}/tree/"):
            if not path.endswith("/data"):
                return httpx.Response(200, json=[{"type": "file", "path": "README.md"}])
            assert path.endswith(f"/{self.commit}/data")
            return httpx.Response(200, json=[self._entry(name) for name in self.files])
        prefix = f"/datasets/{NAME}/resolve/{self.commit}/"
        if path.startswith(prefix) and path.removeprefix(prefix) in self.files:
            return self._file(self.files[path.removeprefix(prefix)], request.headers.get("range"))
        return httpx.Response(404)

    def _entry(self, name: str) -> dict[str, Any]:
        return {
            "type": "file",
            "path": name,
            "lfs": {"oid": hashlib.sha256(self.files[name]).hexdigest()},
        } | self.entries

    def _file(self, body: bytes, wanted: str | None) -> httpx.Response:
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(body):
            return httpx.Response(416, headers={"content-range": f"bytes */{len(body)}"})
        headers = {"content-length": str(len(body) - start)}
        if start:
            headers["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return httpx.Response(206 if start else 200, headers=headers, stream=httpx.ByteStream(body[start:]))


def _shards(*bodies: bytes) -> dict[str, bytes]:
    return {f"data/train-{number:05}-of-{len(bodies):05}.parquet": body for number, body in enumerate(bodies)}


def _get(to: Path, hub: Any, name: str = "r2e-gym", **options: Any) -> list[str]:
    return download(to, name, transport=httpx.MockTransport(hub), **options)


def test_fetched_once_and_the_same_revision_ever_after(tmp_path: Path) -> None:
    hub, seen = Hub(_shards(*ROWS)), []
    names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert _get(tmp_path, hub, progress=lambda *what: seen.append(what)) == names
    assert [(tmp_path / name).read_bytes() for name in names] == ROWS and seen[-1][1] == len(ROWS[1])
    later = Hub(_shards(*ROWS))
    assert _get(tmp_path, later) == [] and not any("revision" in path or "resolve" in path for path in later.asked)
    record = json.loads((tmp_path / WORKPLACE / "record.json").read_text())
    assert record[f"{NAME}:train"] == {"revision": COMMIT, "files": names}
    (tmp_path / names[0]).write_bytes(b"PAR1")
    with pytest.raises(BadDownloadError, match=r"cut off or of another revision .*--force"):
        _get(tmp_path, later)
    fresh = Hub(_shards(ROWS[1], ROWS[0]), LATER)
    assert _get(tmp_path, fresh, force=True) == names and (tmp_path / names[0]).read_bytes() == ROWS[1]


def test_resumes_where_it_was_cut_off(tmp_path: Path) -> None:
    part = tmp_path / WORKPLACE / "train-00000-of-00001.parquet.part"
    part.parent.mkdir()
    part.write_bytes(ROWS[1][:100])
    hub = Hub(_shards(ROWS[1]))
    assert len(_get(tmp_path, hub)) == 1 and hub.ranges == ["bytes=100-"]
    part.write_bytes(b"x" * 100)  # of something else
    hub = Hub(_shards(ROWS[1]))
    assert len(_get(tmp_path, hub, force=True)) == 1 and hub.ranges == ["bytes=100-", None]


@pytest.mark.parametrize(
    ("hub", "reason"),
    [
        (Hub({}), "has no split 'train' as parquet; it has none"),
        (Hub({"data/test-00000-of-00001.parquet": ROWS[0]}), "it has test"),
        (Hub({"data/train-00000-of-00002.parquet": ROWS[0]}), "lists 1 files of split 'train', which should be 2"),
        (Hub(_shards(ROWS[0]), path="data/../../train-00000-of-00001.parquet"), "has no split 'train'"),
        (Hub(_shards(ROWS[0]), path="data/train-00000-of-00001.parquet/x"), "has no split 'train'"),
        (Hub(_shards(ROWS[0]), commit="main; evil"), "which revision is today's"),
        (lambda request: httpx.Response(503), "the server answered 503"),
        (lambda request: httpx.Response(200, content=b"<html>"), "the answer is not JSON"),
        (lambda request: httpx.Response(200, content=b" " * 5_000_000), "longer than 4000000 bytes"),
        (lambda request: httpx.Response(302, headers={"location": str(request.url)}), "redirects"),
    ],
)
def test_what_cannot_be_had_says_what_to_do(tmp_path: Path, hub: Any, reason: str) -> None:
    with pytest.raises(DataUnavailableError, match=reason) as caught:
        _get(tmp_path, hub)
    assert f"fetch train-*.parquet of https://huggingface.co/datasets/{NAME}/tree/" in str(caught.value)
    assert not list(tmp_path.glob("*.parquet"))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDownloadError, match="has changed: SHA-256"):
        _get(tmp_path, Hub(_shards(ROWS[0]), lfs={"oid": "0" * 64}))
    with pytest.raises(BadDownloadError, match="what came is not parquet"):
        _get(tmp_path, Hub(_shards(b"<!DOCTYPE html>"), lfs=None))
    assert not list(tmp_path.glob("*.parquet"))


def test_out_of_reach_and_unknown(tmp_path: Path) -> None:
    def nowhere(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("name not known")

    with pytest.raises(DataUnavailableError, match="name not known"):
        _get(tmp_path, nowhere)
    for name in ("nothing", "../evil/x", "a/b/c"):
        with pytest.raises(DataUnavailableError, match=r"unknown data set .*verified"):
            _get(tmp_path, nowhere, name)
    assert {one.split for one in SETS.values()} == {"test", "train"}


def test_a_fetched_folder_is_read(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    shards = []
    for number in range(2):
        row = {
            "instance_id": f"a__b-{number}",
            "repo": "a/b",
            "base_commit": "0" * 40,
            "problem_statement": "p",
            "patch": "",
            "FAIL_TO_PASS": ["t"],
            "PASS_TO_PASS": '["u"]',
            "version": "1",
            "image": "i",
            "eval_script": "e",
            "log_parser": "p",
        }
        buffer = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist([row]), buffer)
        shards.append(buffer.getvalue())
    _get(tmp_path, Hub(_shards(*shards)))
    assert [one.instance_id for one in read_instances(tmp_path)] == ["a__b-0", "a__b-1"]
