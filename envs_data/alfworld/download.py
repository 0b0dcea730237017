"""Fetch the official ALFWorld archives: resumed where cut off, checked, unpacked without surprises.

Archives come from the alfworld project's releases (the places its own `alfworld-download` names). Their SHA-256 is
recorded when first seen in a folder and must be the same ever after.
"""

import hashlib
import json
import stat
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx

from envs_data.errors import DataError, DataUnavailableError

_RELEASES = "https://github.com/alfworld/alfworld/releases/download"
WORKPLACE = ".aem-download"
"""Folder below the target for unfinished archives and the record of hashes."""
MAX_UNPACKED = 20_000_000_000
"""Bytes; an archive that claims more is refused."""
_ATTEMPTS = 4

Progress = Callable[[str, int, int | None], None]
"""Called with (archive, bytes so far, bytes in all or None)."""


class ArchiveError(DataError):
    """A fetched archive is damaged, has changed, or holds what no data archive should."""


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
        ArchiveError: an archive is damaged or not the one it was.
    """
    work = to / WORKPLACE
    work.mkdir(parents=True, exist_ok=True)
    fetched = []
    with httpx.Client(follow_redirects=True, timeout=60.0, transport=transport) as client:
        for archive in archives:
            record = _read_record(work)
            if record.get(archive.name, {}).get("unpacked") and not force:
                continue
            part = _fetch(client, archive, work, progress)
            digest = _check(part, archive, record.get(archive.name, {}).get("sha256"))
            _write_record(work, archive.name, {"sha256": digest})
            _unpack(part, to, work)
            _write_record(work, archive.name, {"sha256": digest, "unpacked": True})
            part.unlink()
            fetched.append(archive.name)
    return fetched


def _fetch(client: httpx.Client, archive: Archive, work: Path, progress: Progress) -> Path:
    part = work / f"{archive.name}.part"
    for attempt in range(_ATTEMPTS):
        try:
            _stream(client, archive, part, progress)
            return part
        except httpx.HTTPStatusError as error:
            raise _unreachable(archive, work.parent, f"the server answered {error.response.status_code}") from error
        except httpx.TransportError as error:
            if attempt + 1 == _ATTEMPTS or isinstance(error, httpx.ConnectError):
                raise _unreachable(archive, work.parent, str(error) or type(error).__name__) from error
    raise AssertionError("the last attempt returns or raises")


def _stream(client: httpx.Client, archive: Archive, part: Path, progress: Progress) -> None:
    """Append to `part` what is missing; start over where the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    with client.stream("GET", archive.url, headers={"Range": f"bytes={have}-"} if have else {}) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("content-range") == f"bytes */{have}":
                return  # it was complete already
            part.unlink()
            raise httpx.ReadError("the unfinished file does not fit the one on the server; fetched afresh")
        response.raise_for_status()
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            if not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
                part.unlink()
                raise httpx.ReadError("the server resumed at another place; fetched afresh")
        else:
            have = 0
        length = response.headers.get("content-length")
        total = have + int(length) if length and length.isdigit() else None
        with part.open("ab" if have else "wb") as file:
            for chunk in response.iter_raw():  # as it comes: what has arrived before a break is kept
                file.write(chunk)
                have += len(chunk)
                progress(archive.name, have, total)
    if total is not None and have != total:
        raise httpx.ReadError(f"cut off after {have} of {total} bytes")


def _unreachable(archive: Archive, to: Path, why: str) -> DataUnavailableError:
    return DataUnavailableError(
        f"cannot fetch {archive.url} ({why}). Where the internet is out of reach: fetch "
        f"{' and '.join(a.url for a in ARCHIVES)} elsewhere, unzip them into {to}, so that it holds "
        f"json_2.1.1/valid_seen/…/game.tw-pddl with traj_data.json beside it, and set ALFWORLD_DATA={to}"
    )


def _check(part: Path, archive: Archive, expected: object) -> str:
    """SHA-256 of a whole archive; a damaged or changed one is removed and refused."""
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if expected and digest != expected:
        part.unlink()
        raise ArchiveError(
            f"{archive.name} has changed: SHA-256 {digest}, recorded {expected}; if the project did publish it anew, "
            f"remove its entry from {part.parent / 'record.json'} and run again"
        )
    try:
        with zipfile.ZipFile(part) as zipped:
            damaged = zipped.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        damaged = str(error)
    if damaged:
        part.unlink()
        raise ArchiveError(f"{archive.name} arrived damaged ({damaged}) and was removed; run the download again")
    return digest


def _unpack(part: Path, to: Path, work: Path) -> None:
    """Unpack beside the target, then move file by file: no file is ever there in half."""
    with zipfile.ZipFile(part) as zipped, tempfile.TemporaryDirectory(dir=work) as fresh:
        entries = zipped.infolist()
        if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
            raise ArchiveError(f"{part.name} would unpack to more than {MAX_UNPACKED} bytes; refused")
        for entry in entries:
            _check_entry(entry)
        zipped.extractall(fresh)
        for entry in entries:
            if not entry.is_dir():
                target = to / entry.filename
                if not target.parent.resolve().is_relative_to(to.resolve()):
                    raise ArchiveError(f"{target} would be written outside {to} (a link there?); refused")
                target.parent.mkdir(parents=True, exist_ok=True)
                (Path(fresh) / entry.filename).replace(target)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    mode = entry.external_attr >> 16
    odd = path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename
    if odd or not path.parts or path.parts[0] == WORKPLACE or stat.S_ISLNK(mode):
        raise ArchiveError(f"the archive holds {entry.filename[:120]!r}, as no data archive should; nothing unpacked")


def _read_record(work: Path) -> dict[str, dict[str, object]]:
    try:
        record = json.loads((work / "record.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    entries = record.items() if isinstance(record, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _write_record(work: Path, name: str, entry: dict[str, object]) -> None:
    record = _read_record(work) | {name: entry}
    fresh = work / "record.json.new"
    fresh.write_text(json.dumps(record, indent=1), "utf-8")
    fresh.replace(work / "record.json")
