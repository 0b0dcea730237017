"""Contents of episodes, a few hundred kilobytes of JSON at a time, deflated, in base64: the page inflates on demand.

Base64 has no `<`, so nothing that an episode says can end the element that holds it.
"""

import base64
import json
import zlib
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Self

CHUNK = 1 << 18
"""Characters of JSON from which a chunk is closed: one is inflated within a frame or two."""


def packed(data: Any) -> bytes:
    """JSON, deflated (zlib's format), in base64."""
    encoded = json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii")
    return base64.b64encode(zlib.compress(encoded, 6))


class ChunkWriter:
    """Collects episodes into chunks, which wait in a temporary file. Use it as a context."""

    def __init__(self, size: int = CHUNK) -> None:
        self.size = size
        self.count = 0
        """Chunks closed so far."""
        self._spool: IO[bytes] = TemporaryFile(prefix="aem-view-")  # noqa: SIM115  closed by __exit__
        self._lengths: list[int] = []
        self._open: list[str] = []
        self._held = 0

    def add(self, episode: Any) -> tuple[int, int]:
        """Take an episode's data; (its chunk, its place within)."""
        place = self.count, len(self._open)
        line = json.dumps(episode, separators=(",", ":"), allow_nan=False)
        self._open.append(line)
        self._held += len(line)
        if self._held >= self.size:
            self.flush()
        return place

    def flush(self) -> None:
        """Close the open chunk."""
        if not self._open:
            return
        joined = f"[{','.join(self._open)}]".encode("ascii")
        self._lengths.append(self._spool.write(base64.b64encode(zlib.compress(joined, 6))))
        self.count += 1
        self._open, self._held = [], 0

    def copy(self, out: IO[bytes], before: bytes, after: bytes) -> None:
        """Write all chunks to `out`, each between `before`, in which `%d` is its number, and `after`."""
        self._spool.seek(0)
        for number, length in enumerate(self._lengths):
            out.write(before % number)
            out.write(self._spool.read(length))
            out.write(after)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._spool.close()
