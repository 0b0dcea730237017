"""Where benchmarks find official ALFWorld games."""

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


@contextmanager
def official_games(data: Path | None) -> Iterator[Path | None]:
    """The folder named by `data`, else by `$ALFWORLD_DATA`, else the sample archive under `$AEM_TEST_DATA` (default
    `../shared/official` beside the repository), unpacked for the time of the block; None where there is none."""
    named = data or os.environ.get("ALFWORLD_DATA")
    root = Path(os.environ.get("AEM_TEST_DATA") or REPOSITORY.parent / "shared" / "official")
    archive = root / "alfworld" / "json_2.1.1_valid_seen_sample.tar.xz"
    if named or not archive.is_file():
        yield Path(named) if named else None
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder)
