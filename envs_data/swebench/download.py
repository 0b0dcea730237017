"""Fetch SWE-bench's and its kin's public data sets from the Hugging Face hub: parquet files, resumed where cut off.

The hub says which files a revision has and, of each, the SHA-256; a record in the folder keeps the revision, so that a
second run asks for the same files, and one that has changed is refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from envs_data.errors import DataUnavailableError
from envs_data.fetch import (
    WORKPLACE,
    BadDownloadError,
    Progress,
    UnreachableError,
    fetch,
    new_client,
    read_record,
    same_as_ever,
    write_record,
)
from envs_data.filehash import file_sha256

HUB = "https://huggingface.co"
_FILE = re.compile(r"(?:data/)?([A-Za-z0-9_]+)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.parquet")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA = re.compile(r"[0-9a-f]{64}")
_MAX_LISTING = 4_000_000
"""Bytes of what the hub says about a data set."""


@dataclass(frozen=True)
class HubSet:
    """A data set of the hub."""

    repository: str
    """Its name there."""
    split: str
    """Which split is meant if none is named."""
    about: str


SETS = {
    "verified": HubSet("SWE-bench/SWE-bench_Verified", "test", "500 instances people have checked; for evaluation"),
    "lite": HubSet("SWE-bench/SWE-bench_Lite", "test", "300 instances; for evaluation"),
    "full": HubSet("SWE-bench/SWE-bench", "test", "2,294 instances; for evaluation"),
    "r2e-gym": HubSet("R2E-Gym/R2E-Gym-Subset", "train", "4,578 instances; for training"),
    "r2e-gym-lite": HubSet("R2E-Gym/R2E-Gym-Lite", "train", "a choice of R2E-Gym; for training"),
    "swe-gym": HubSet("SWE-Gym/SWE-Gym", "train", "2,438 instances; for training"),
    "swe-gym-lite": HubSet("SWE-Gym/SWE-Gym-Lite", "train", "230 instances; for training"),
    "swe-smith": HubSet("SWE-bench/SWE-smith", "train", "some 59,000 bugs; for training"),
}
"""What can be fetched, by the name that `download` takes."""


@dataclass(frozen=True)
class HubFile:
    """A file of a data set."""

    path: str
    """Below the data set's root."""
    sha256: str
    """What the hub says it is; "" if it does not."""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def download(
    to: Path,
    name: str,
    *,
    split: str | None = None,
    revision: str | None = None,
    progress: Progress = lambda name, done, total: None,
    force: bool = False,
    transport: httpx.BaseTransport | None = None,
) -> list[str]:
    """Fetch a split into `to`, a folder that `read_instances` then takes; returns the names of files fetched now.

    Args:
        to: A folder of its own for this split; made if absent.
        name: One of `SETS`, or "owner/name" of another data set with parquet files.
        split: By default the set's own.
        revision: A commit of the data set; by default the one fetched first, else today's.
        progress: Told about every piece.
        force: Fetch again, and today's revision.
        transport: In place of the network, for tests.

    Raises:
        DataUnavailableError: unknown, or not to be had; says how to do it by hand.
        BadDownloadError: a file is not what the hub says it is.
    """
    hub_set = _known(name)
    split = split or hub_set.split
    work = to / WORKPLACE
    work.mkdir(parents=True, exist_ok=True)
    key = f"{hub_set.repository}:{split}"
    recorded = read_record(work).get(key, {}).get("revision")
    if revision is None and not force and isinstance(recorded, str) and _COMMIT.fullmatch(recorded):
        revision = recorded
    with new_client(transport) as client:
        try:
            commit = _commit(client, hub_set.repository, revision or "main")
            files = _files(client, hub_set.repository, commit, split)
            fetched = [
                file.name for file in files if _bring(client, hub_set.repository, commit, file, to, progress, force)
            ]
        except (UnreachableError, httpx.HTTPError) as error:
            place = f"{HUB}/datasets/{hub_set.repository}/tree/{revision or 'main'}/data"
            raise DataUnavailableError(
                f"cannot fetch {hub_set.repository} ({error or type(error).__name__}). Where the internet is out of "
                f"reach: fetch {split}-*.parquet of {place} elsewhere and put it into {to}"
            ) from error
    write_record(work, key, {"revision": commit, "files": [file.name for file in files]})
    return fetched


def _known(name: str) -> HubSet:
    if name in SETS:
        return SETS[name]
    if re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", name, re.ASCII):
        return HubSet(name, "train", "")
    raise DataUnavailableError(f"unknown data set {name!r}; known: {', '.join(SETS)}, or owner/name of one on {HUB}")


def _commit(client: httpx.Client, repository: str, revision: str) -> str:
    """The commit that a revision names."""
    if _COMMIT.fullmatch(revision):
        return revision
    found = _ask(client, f"{HUB}/api/datasets/{repository}/revision/{quote(revision, safe='')}")
    commit = found.get("sha") if isinstance(found, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise UnreachableError("the hub does not say which revision is today's")
    return commit


def _files(client: httpx.Client, repository: str, commit: str, split: str) -> list[HubFile]:
    """The parquet files of a split, in order. Names from outside are taken only where they have the usual form."""
    entries: list[Any] = []
    for folder in ("/data", ""):
        found = _ask(client, f"{HUB}/api/datasets/{repository}/tree/{commit}{folder}", absent=[])
        entries += found if isinstance(found, list) else []
    files, splits, shards = {}, set(), 0
    for entry in entries:
        path = entry.get("path") if isinstance(entry, dict) else None
        if isinstance(path, str) and (match := _FILE.fullmatch(path)):
            splits.add(match[1])
            if match[1] == split:
                shards = int(match[3])
                lfs = entry.get("lfs")
                sha = lfs.get("oid") if isinstance(lfs, dict) else None
                known = sha if isinstance(sha, str) and _SHA.fullmatch(sha) else ""
                files[path.rsplit("/", 1)[-1]] = HubFile(path, known)
    if not files:
        raise UnreachableError(f"it has no split {split!r} as parquet; it has {', '.join(sorted(splits)) or 'none'}")
    if len(files) != shards:
        raise UnreachableError(f"it lists {len(files)} files of split {split!r}, which should be {shards}")
    return [files[name] for name in sorted(files)]


def _ask(client: httpx.Client, url: str, absent: object = None) -> Any:
    """What the hub answers; `absent` where it has no such thing."""
    with client.stream("GET", url) as response:
        if response.status_code == httpx.codes.NOT_FOUND and absent is not None:
            return absent
        if response.status_code != httpx.codes.OK:
            raise UnreachableError(f"{url}: the server answered {response.status_code}")
        body = b""
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > _MAX_LISTING:
                raise UnreachableError(f"{url}: the answer is longer than {_MAX_LISTING} bytes")
    try:
        return httpx.Response(200, content=body).json()
    except (ValueError, RecursionError) as error:
        raise UnreachableError(f"{url}: the answer is not JSON") from error


def _bring(
    client: httpx.Client, repository: str, commit: str, file: HubFile, to: Path, progress: Progress, force: bool
) -> bool:
    """Have a file in the folder, checked; whether it was fetched now."""
    target, work = to / file.name, to / WORKPLACE
    recorded = None if force else read_record(work).get(file.name, {}).get("sha256")
    known = file.sha256 or recorded
    if target.exists() and not force:
        digest = file_sha256(target, work)
        if known and digest != known:
            raise BadDownloadError(
                f"{target} is cut off or of another revision (SHA-256 {digest}, expected {known}); move it away, or "
                "fetch it again with --force"
            )
        write_record(work, file.name, {"sha256": digest})
        return False
    part = work / f"{file.name}.part"
    for last in (False, True):  # an unfinished file of another revision may not fit: then once more from the start
        fetch(client, file.name, f"{HUB}/datasets/{repository}/resolve/{commit}/{file.path}", part, progress)
        digest = file_sha256(part)
        try:
            _is_parquet(part)
            same_as_ever(part, file.name, digest, known)
            break
        except BadDownloadError:
            if last:
                raise
    part.replace(target)
    write_record(work, file.name, {"sha256": digest})
    return True


def _is_parquet(part: Path) -> None:
    """Refuse what does not begin and end as parquet does, such as a page that did not say it was one."""
    with part.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, part.stat().st_size - 4))
        whole = start == b"PAR1" == file.read(4)
    if not whole:
        part.unlink()
        raise BadDownloadError(f"what came is not parquet (it begins {start!r})")
