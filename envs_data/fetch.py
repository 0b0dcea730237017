"""Fetch files over HTTP: resumed where cut off, and the same ever after.

A folder that files are fetched into has a workplace for unfinished ones and for a record of their SHA-256, written when
a file is first seen there.
"""

import json
from collections.abc import Callable
from pathlib import Path

import httpx

from envs_data.errors import DataError

WORKPLACE = ".aem-download"
"""Folder below the target for unfinished files and the record of hashes."""
_ATTEMPTS = 4
_PAGE = 100_000
"""Bytes looked at of a web page that came in place of a file."""

Progress = Callable[[str, int, int | None], None]
"""Called with (file, bytes so far, bytes in all or None)."""


class BadDownloadError(DataError):
    """A fetched file is damaged, has changed, or holds what it should not."""


class UnreachableError(DataError):
    """A file cannot be fetched from one place; says why. Callers say what to do about it."""


def new_client(transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """An HTTP client as downloads need it; `transport` in place of the network, for tests."""
    plain = {"Accept-Encoding": "identity"}  # bytes on the way are bytes of the file, so that one can resume
    timeout = httpx.Timeout(60.0, connect=15.0)
    return httpx.Client(follow_redirects=True, timeout=timeout, transport=transport, headers=plain)


def fetch(client: httpx.Client, name: str, url: str, part: Path, progress: Progress) -> None:
    """Bring `part` to the whole of what lies at `url`, going on where it ends.

    Raises:
        UnreachableError: not to be had there; what came so far stays.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _stream(client, name, url, part, progress)
        except httpx.HTTPStatusError as error:
            raise UnreachableError(f"the server answered {error.response.status_code}") from error
        except httpx.TransportError as error:
            if attempt + 1 == _ATTEMPTS or isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
                raise UnreachableError(str(error) or type(error).__name__) from error
        except httpx.RequestError as error:
            raise UnreachableError(str(error)) from error
    raise AssertionError("the last attempt returns or raises")


def _stream(client: httpx.Client, name: str, url: str, part: Path, progress: Progress) -> None:
    """Append to `part` what is missing; start over where the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    with client.stream("GET", url, headers={"Range": f"bytes={have}-"} if have else {}) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("content-range") == f"bytes */{have}":
                return  # it was complete already
            part.unlink()
            raise httpx.ReadError("the unfinished file does not fit the one on the server; fetched afresh")
        response.raise_for_status()
        if response.headers.get("content-type", "").startswith("text/html"):
            raise UnreachableError(_page_says(response))
        if (coding := response.headers.get("content-encoding", "identity")) != "identity":
            raise UnreachableError(f"the server sends the file packed ({coding[:20]}) though asked not to")
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
                progress(name, have, total)
    if total is not None and have != total:
        raise httpx.ReadError(f"cut off after {have} of {total} bytes")


def _page_says(response: httpx.Response) -> str:
    """Why a web page came in place of a file, as far as one can tell: Google Drive answers so, with status 200."""
    page = b""
    for chunk in response.iter_bytes():
        page += chunk
        if len(page) > _PAGE:
            break
    page = page.lower()
    if b"quota" in page:
        return "a web page came instead of the file: its download quota is used up, try again tomorrow"
    if b"virus scan" in page:
        return "a web page came instead of the file: it asks a person to confirm, open it in a browser"
    return "a web page came instead of the file"


def same_as_ever(part: Path, name: str, digest: str, expected: object) -> None:
    """Refuse a file that is not what it was.

    Raises:
        BadDownloadError: `expected` is another hash than `digest`; `part` is removed.
    """
    if expected and digest != expected:
        part.unlink()
        raise BadDownloadError(
            f"{name} has changed: SHA-256 {digest}, recorded {expected}; if it was published anew, remove its entry "
            f"from {part.parent / 'record.json'} and run again"
        )


def read_record(work: Path) -> dict[str, dict[str, object]]:
    """What is known of files by name, such as {"one.zip": {"sha256": …}}; of a damaged record nothing."""
    try:
        record = json.loads((work / "record.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    entries = record.items() if isinstance(record, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def write_record(work: Path, name: str, entry: dict[str, object]) -> None:
    """Replace what is known of one file."""
    record = read_record(work) | {name: entry}
    fresh = work / "record.json.new"
    fresh.write_text(json.dumps(record, indent=1), "utf-8")
    fresh.replace(work / "record.json")
