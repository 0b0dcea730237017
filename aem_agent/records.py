"""Episode records: one JSON line per episode, written as it ends, read back equal; and the folder of a run around them.

Lines are ASCII: every character of a text that is not, lone surrogates included, is written as `\\uXXXX`, so that any
policy's output can be recorded and read again. (Two surrogates that form a pair are read as the one character they
spell.)
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aem_agent.files import open_to_append, open_to_read
from aem_agent.record_format import BadRecordError, from_json, to_line
from aem_agent.types import AgentError, Episode

try:
    import fcntl
except ImportError:  # no advisory locks on this system
    fcntl = None  # type: ignore[assignment]

SCHEMA_VERSION = 1
"""Of a run folder: raised when the meaning of its files changes."""


MAX_LINE = 1 << 30
"""Bytes of an episode's line, read or written, at most: a thousand turns of 128,000 prompt tokens take less. What is
read takes many times its line's length in memory."""


class RecordError(AgentError):
    """A line of a record file is not an episode. Names the file and the line."""


class RecordWriteError(AgentError):
    """A record could not be written (disk full, folder gone). Everything recorded before is intact."""


class RunFolderError(AgentError):
    """A run folder that is absent, in use, not empty, damaged, of another version, or of another configuration."""


def dump_line(episode: Episode) -> bytes:
    """One episode as a line of JSON, newline included."""
    return (to_line(episode) + "\n").encode("ascii")


def read_episodes(path: Path) -> Iterator[Episode]:
    """The episodes of a file, in the order written. A torn last line (a run that was killed) is left out.

    Raises:
        RecordError: a complete line that is not an episode, or a file that cannot be read.
    """
    return (episode for _, episode in located_episodes(path))


def located_episodes(path: Path) -> Iterator[tuple[int, Episode]]:
    """As `read_episodes`, each with the byte at which its line begins, for `episode_at`."""
    try:
        with open_to_read(path) as file:
            end = 0
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE + 1), b""), 1):
                start, end = end, end + len(line)
                if len(line) > MAX_LINE:
                    raise RecordError(f"{path}, line {number}: longer than {MAX_LINE:,} bytes")
                try:
                    yield start, parse_line(line)
                except BadRecordError as error:
                    if not line.endswith(b"\n"):
                        return
                    raise RecordError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error


def episode_at(path: Path, start: int) -> Episode:
    """The episode whose line begins at this byte; raises `RecordError`."""
    try:
        with open_to_read(path) as file:
            file.seek(start)
            return parse_line(file.readline(MAX_LINE))
    except (BadRecordError, OSError) as error:
        raise RecordError(f"cannot read the episode at byte {start} of {path}: {error}") from error


def parse_line(line: bytes) -> Episode:
    """The episode in one line; raises `BadRecordError` on anything else."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"not JSON: {error}") from error
    return from_json(data)


class EpisodeWriter:
    """Appends episodes to a file, each handed to the operating system before `write` returns.

    Opening repairs a torn last line; a line that could not be written whole is taken back, so that the file always ends
    with a complete episode. One writer per file at a time.

    Raises:
        RecordWriteError: the file cannot be opened, is in use by another run, or `write` failed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = open_to_append(path)
        except OSError as error:
            raise RecordWriteError(f"cannot open {path}: {error.strerror}") from error
        try:
            self._lock()
            self._repair()
        except BaseException:
            self.close()
            raise

    def write(self, episode: Episode) -> None:
        """Append one episode."""
        line = memoryview(dump_line(episode))
        if len(line) > MAX_LINE:
            raise RecordWriteError(f"an episode of {episode.task_id} has more than {MAX_LINE:,} bytes: limit its steps")
        start = os.fstat(self._fd).st_size
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            with suppress(OSError):  # if even this fails, the next opening repairs the line
                os.ftruncate(self._fd, start)
            raise RecordWriteError(
                f"cannot write to {self.path}: {error.strerror}; free some space and resume, earlier episodes are kept"
            ) from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _lock(self) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RecordWriteError(
                    f"{self.path} is being written by another run; wait for it or use --out"
                ) from error

    def _repair(self) -> None:
        """Complete a last line that lacks only its newline; remove one that is torn."""
        size = os.fstat(self._fd).st_size
        if size == 0:
            return
        with os.fdopen(os.dup(self._fd), "rb") as file:
            start = _last_line_start(file, size)
            file.seek(start)
            last = file.read()
        if last.endswith(b"\n"):
            return
        try:
            parse_line(last)
        except BadRecordError:
            os.ftruncate(self._fd, start)
        else:
            os.write(self._fd, b"\n")


def _last_line_start(file: Any, size: int, block: int = 1 << 16) -> int:
    """Where the last line of an open file begins; a newline at the very end belongs to it."""
    end = size - 1
    while end > 0:
        start = max(0, end - block)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        end = start
    return 0
