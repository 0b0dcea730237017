"""What an index is on disk: plain arrays and one JSON file that says their sizes and checksums."""

import json
import zlib
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aem_envs.core import AemEnvError
from aem_envs.webshop.search.analyser import ANALYSIS_VERSION

INDEX_VERSION = f"1.{ANALYSIS_VERSION}"
"""Of the format and of the analysis of texts: an index of another version has to be built again."""

HEADER = "index.json"
ARRAYS: dict[str, str] = {
    "hashes": "<u8",
    "starts": "<i8",
    "sizes": "<i4",
    "bounds": "<f4",
    "docs": "<i4",
    "counts": "u",
    "impacts": "<f4",
    "lengths": "u1",
}
"""Type of each array ("u": the smallest unsigned one that fits). Per term, in ascending order of its hash: `hashes`,
`starts` and `sizes` of its postings, `bounds` the largest of their impacts. Per posting, those of a term in ascending
order of documents: `docs`, `counts` (of the term in the document), `impacts` (what the term adds to its score).
Per document: `lengths`, as one byte."""
PER_TERM = ("hashes", "starts", "sizes", "bounds")
PER_POSTING = ("docs", "counts", "impacts")


class BadIndexError(AemEnvError):
    """An index that is missing, damaged or of another version. Build it again."""


def term_hash(term: str) -> int:
    """64 bits of a term; two of a million terms share theirs once in 37 million catalogues."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def write_header(folder: Path, facts: dict[str, Any]) -> None:
    """Completes an index whose arrays are in `folder`; their checksums are added to `facts`."""
    checksums = {name: _checksum(folder / f"{name}.npy") for name in ARRAYS}
    text = json.dumps({"version": INDEX_VERSION, **facts, "checksums": checksums}, indent=1)
    (folder / HEADER).write_text(text + "\n", "utf-8")


def read_header(folder: Path) -> dict[str, Any]:
    """What `write_header` wrote.

    Raises:
        BadIndexError: it cannot be read, or is of another version.
    """
    try:
        header = json.loads((folder / HEADER).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadIndexError(f"search index {folder} cannot be read ({error}); build it again") from error
    version = header.get("version") if isinstance(header, dict) else None
    if version != INDEX_VERSION:
        raise BadIndexError(f"search index {folder} is of version {version!r}, not {INDEX_VERSION!r}; build it again")
    return dict(header)


def open_array(folder: Path, name: str, length: int) -> NDArray[Any]:
    """One array, memory-mapped and read-only.

    Raises:
        BadIndexError: the file is missing or cut off, or holds another type or length.
    """
    try:
        path = folder / f"{name}.npy"
        array: NDArray[Any] = np.lib.format.open_memmap(path, "r") if length else np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError) as error:
        raise BadIndexError(f"search index {folder}: {name}.npy cannot be read ({error}); build it again") from error
    kind = ARRAYS[name]
    fits = array.dtype.kind == "u" if kind == "u" else array.dtype == np.dtype(kind)
    if not fits or array.shape != (length,):
        holds = f"{name}.npy holds {array.dtype} {array.shape}, not {kind} ({length},)"
        raise BadIndexError(f"search index {folder}: {holds}; build it again")
    return array.view(np.ndarray)  # slices of it are made faster than a memmap's


def verify(folder: Path) -> None:
    """Reads all of an index (a second per gigabyte or so).

    Raises:
        BadIndexError: a file is not as it was written.
    """
    checksums = read_header(folder).get("checksums")
    for name in ARRAYS:
        if not isinstance(checksums, dict) or _checksum(folder / f"{name}.npy") != checksums.get(name):
            raise BadIndexError(f"search index {folder}: {name}.npy is damaged; build it again")


def _checksum(path: Path) -> int:
    value = 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                value = zlib.crc32(block, value)
    except OSError as error:
        raise BadIndexError(f"search index {path.parent}: {path.name} cannot be read ({error})") from error
    return value
