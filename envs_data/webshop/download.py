"""Fetch the official WebShop files: resumed where cut off, checked against the hashes they are known by.

The original's setup names files on Google Drive, whose daily quota is mostly used up. Two public mirrors hold the same
bytes; whichever place a file comes from, its SHA-256 must be the known one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
from envs_data.webshop.official import VARIABLE

Size = Literal["1000", "all"]

MIRRORS = (
    "https://huggingface.co/datasets/YWZBrandon/webshop-data/resolve/ce990fff5aee388db2706f07820c578ab68e0453/",
    "https://huggingface.co/datasets/HongbangYuan/webshop/resolve/0129d4a81dbdb827e76afd20a1e2c38b61098613/",
)
"""Fixed revisions of public copies; asked in this order, before Google Drive."""
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


@dataclass(frozen=True)
class DataFile:
    """An official file."""

    name: str
    """File name, here and on the mirrors; also its key in the record."""
    urls: tuple[str, ...]
    """Where it lies: places to ask, in order."""
    sha256: str
    """What it must be; "": whatever came first in this folder."""


def _file(name: str, drive_id: str, sha256: str) -> DataFile:
    return DataFile(name, (*(mirror + name for mirror in MIRRORS), DRIVE + drive_id), sha256)


# Drive ids: the original's setup.sh. Hashes: those that projects using these files have published, all the same ones.
_HUMAN = _file(
    "items_human_ins.json",  # 5 MB: 10,136 products
    "14Kb5SPBk_jfdLZ_CDBNitW98QLDlKR5O",
    "cf78667548a71786e1d9049c24b802e48e1084ad4bb021cae56ce1f6d96954a3",
)
FILES: dict[Size, tuple[DataFile, ...]] = {
    "1000": (
        _HUMAN,
        _file(
            "items_ins_v2_1000.json",  # 0.1 MB
            "1IduG0xl544V_A_jv3tHXC0kyFi7PnyBu",
            "f88a36314a397b53b3d9c3fa5878e5f7b26d35019a51ec83fbedeca61a948f6f",
        ),
        _file(
            "items_shuffle_1000.json",  # 4.5 MB: 1,000 products
            "1EgHdxQ_YxqIQlvvq5iKlCrkEKR6-j0Ib",
            "30a4765c3a327af72d9a9a95a6b2486d516f0fa1d3ecd83681901ce82a21b269",
        ),
    ),
    "all": (
        _HUMAN,
        _file(
            "items_ins_v2.json",  # 186 MB
            "1s2j6NgHljiZzQNL3veZaAiyW_qDEgBNi",
            "1d36af476bdb8f82a5da62bd8acdabe54cd8de2fa84010d37da5c4890feb447e",
        ),
        _file(
            "items_shuffle.json",  # 5.5 GB: 1,181,436 products
            "1A2whVgOO0euk5O13n2iYDM0bQRkkRduB",
            "2ef591d65df3af89e972ab72468eb82cbf124d876552d9f3678667edd620a6c8",
        ),
    ),
}
"""What each size needs."""


def download(
    to: Path,
    *,
    size: Size = "1000",
    files: Sequence[DataFile] | None = None,
    progress: Progress = lambda name, done, total: None,
    force: bool = False,
    transport: httpx.BaseTransport | None = None,
) -> list[str]:
    """Fetch into `to`; returns the names of the files that were not there already.

    Args:
        to: The folder that `$WEBSHOP_DATA` will name; made if absent.
        size: "1000" products, or "all" of them.
        files: What to fetch in place of `FILES[size]`.
        progress: Told about every piece.
        force: Fetch again what is there already.
        transport: In place of the network, for tests.

    Raises:
        DataUnavailableError: not to be had from any place; says how to do it by hand.
        BadDownloadError: a file that is there already is not the official one.
    """
    wanted = FILES[size] if files is None else files
    work = to / WORKPLACE
    work.mkdir(parents=True, exist_ok=True)
    fetched = []
    with new_client(transport) as client:
        for file in wanted:
            target, known = to / file.name, file.sha256 or read_record(work).get(file.name, {}).get("sha256")
            if target.exists() and not force:
                digest = _checked(target, known, work)
            else:
                part, digest = _fetch(client, file, known, work, progress, wanted)
                part.replace(target)
                fetched.append(file.name)
            write_record(work, file.name, {"sha256": digest})
    return fetched


def _checked(target: Path, known: object, work: Path) -> str:
    digest = file_sha256(target, work)
    if known and digest != known:
        raise BadDownloadError(
            f"{target} is cut off or not the official file (SHA-256 {digest}, expected {known}); "
            "move it away, or fetch it again with --force"
        )
    return digest


def _fetch(
    client: httpx.Client, file: DataFile, known: object, work: Path, progress: Progress, wanted: Iterable[DataFile]
) -> tuple[Path, str]:
    """(the whole file in the workplace, its SHA-256), from the first place that has it."""
    part, reasons = work / f"{file.name}.part", []
    for url in file.urls:
        for _ in range(2):  # an unfinished file of another place or time may not fit: then once more from the start
            resumed = part.exists()
            try:
                fetch(client, file.name, url, part, progress)
                digest = file_sha256(part)
                _is_json(part)
                same_as_ever(part, file.name, digest, known)
                return part, digest
            except (UnreachableError, BadDownloadError) as error:
                reasons.append(f"{url}: {error}")
            if part.exists() or not resumed:
                break
    names = ", ".join(f"{one.name} ({one.urls[0]})" for one in wanted)
    raise DataUnavailableError(
        f"cannot fetch {file.name} from any place: {'; '.join(reasons)}. Where the internet is out of reach: fetch "
        f"{names} elsewhere, put them into {work.parent}, and set {VARIABLE}={work.parent}"
    )


def _is_json(part: Path) -> None:
    """Refuse what does not begin as a list or an object, such as a web page that did not say it was one."""
    with part.open("rb") as file:
        start = file.read(100).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] not in (b"[", b"{"):
        part.unlink()
        raise BadDownloadError(f"what came is not JSON (it begins {start[:30]!r})")
