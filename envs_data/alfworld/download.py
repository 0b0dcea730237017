"""Fetch the official ALFWorld archives: resumed where cut off, checked, unpacked without surprises.

Archives come from the alfworld project's releases (the places its own `alfworld-download` names). Their SHA-256 is
recorded when first seen in a folder and must be the same ever after.
"""

import stat
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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

_RELEASES = "https://github.com/alfworld/alfworld/releases/download"
MAX_UNPACKED = 20_000_000_000
"""Bytes; an archive that claims more is refused."""


@dataclass(frozen=True)
class Archive:
    """A zip file to fetch."""

    name: str
    """File name, also its key in the record."""
    url: str
    """Where it lies."""
    holds: str
    """What is in it, for messages."""


ARCHIVES = (
    Archive("json_2.1.1_json.zip", f"{_RELEASES}/0.2.2/json_2.1.1_json.zip", "trajectories (traj_data.json)"),
    Archive("json_2.1.2_tw-pddl.zip", f"{_RELEASES}/0.4.0/json_2.1.2_tw-pddl.zip", "text games (game.tw-pddl)"),
)
"""All that text games need; archives for the visual simulator and the detectors are left out."""


def download(
    to: Path,
    *,
    archives: Sequence[Archive] = ARCHIVES,
    progress: Progress = lambda name, done, total: None,
    force: bool = False,
    transport: httpx.BaseTransport | None = None,
) -> list[str]:
    """Fetch and unpack below `to`; returns the names of the archives that were not there already.

    Args:
        to: The folder that `$ALFWORLD_DATA` will name; made if absent.
        archives: What to fetch.
        progress: Told about every piece.
        force: Fetch and unpack again what is there already.
        transport: In place of the network, for tests.

    Raises:
        DataUnavailableError: not reachable from here; says how to place the files by hand.
        BadDownloadError: an archive is damaged or not the one it was.
    """
    work = to / WORKPLACE
    work.mkdir(parents=True, exist_ok=True)
    fetched = []
    with new_client(transport) as client:
        for archive in archives:
            record = read_record(work)
            if record.get(archive.name, {}).get("unpacked") and not force:
                continue
            part = work / f"{archive.name}.part"
            try:
                fetch(client, archive.name, archive.url, part, progress)
            except UnreachableError as error:
                raise _unreachable(archive, to, str(error)) from error
            digest = _check(part, archive, record.get(archive.name, {}).get("sha256"))
            write_record(work, archive.name, {"sha256": digest})
            _unpack(part, to, work)
            write_record(work, archive.name, {"sha256": digest, "unpacked": True})
            part.unlink()
            fetched.append(archive.name)
    return fetched


def _unreachable(archive: Archive, to: Path, why: str) -> DataUnavailableError:
    return DataUnavailableError(
        f"cannot fetch {archive.url} ({why}). Where the internet is out of reach: fetch "
        f"{' and '.join(a.url for a in ARCHIVES)} elsewhere, unzip them into {to}, so that it holds "
        f"json_2.1.1/valid_seen/…/game.tw-pddl with traj_data.json beside it, and set ALFWORLD_DATA={to}"
    )


def _check(part: Path, archive: Archive, expected: object) -> str:
    """SHA-256 of a whole archive; a damaged or changed one is removed and refused."""
    digest = file_sha256(part)
    same_as_ever(part, archive.name, digest, expected)
    try:
        with zipfile.ZipFile(part) as zipped:
            damaged = zipped.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        damaged = str(error)
    if damaged:
        part.unlink()
        raise BadDownloadError(f"{archive.name} arrived damaged ({damaged}) and was removed; run the download again")
    return digest


def _unpack(part: Path, to: Path, work: Path) -> None:
    """Unpack beside the target, then move file by file: no file is ever there in half."""
    with zipfile.ZipFile(part) as zipped, tempfile.TemporaryDirectory(dir=work) as fresh:
        entries = zipped.infolist()
        if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
            raise BadDownloadError(f"{part.name} would unpack to more than {MAX_UNPACKED} bytes; refused")
        for entry in entries:
            _check_entry(entry)
        zipped.extractall(fresh)
        for entry in entries:
            if not entry.is_dir():
                target = to / entry.filename
                if not target.parent.resolve().is_relative_to(to.resolve()):
                    raise BadDownloadError(f"{target} would be written outside {to} (a link there?); refused")
                target.parent.mkdir(parents=True, exist_ok=True)
                (Path(fresh) / entry.filename).replace(target)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    mode = entry.external_attr >> 16
    odd = path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename
    if odd or not path.parts or path.parts[0] == WORKPLACE or stat.S_ISLNK(mode):
        raise BadDownloadError(
            f"the archive holds {entry.filename[:120]!r}, as no data archive should; nothing unpacked"
        )
