"""What every sandbox is: a closed room with one repository in it, in which commands run. Plain types, no back end.

A kind of sandbox (`local`, `docker`, `fake`, one of your own) is one class with the methods of `Sandbox`, made from a
`Room` and `Limits`, and registered in `aem_envs.swebench.sandbox.sandboxes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from aem_envs.core import AemEnvError, InfrastructureError

REPOSITORY = "/testbed"
"""Where the repository lies in a sandbox that has its own file system, as in SWE-bench's images."""

Stopped = Literal["timeout", "output", "memory", "died"]
"""Why a command was stopped: its time, what it printed, what it held in memory; or it took the sandbox with it."""


class SandboxError(InfrastructureError):
    """The sandbox broke, or could not be started, through no fault of a command in it."""


class PatchTooLargeError(SandboxError):
    """What changed in a repository is more than `Limits.output_bytes`."""


class SandboxMissingError(AemEnvError):
    """This machine cannot run such a sandbox; the message says what to install or to allow."""


@dataclass(frozen=True)
class Limits:
    """What all processes of a sandbox may use together."""

    memory_mb: int = 1024
    cpus: float = 1.0
    """Share of processors, where the kind can bound it."""
    pids: int = 256
    """Processes and threads at once."""
    disk_mb: int = 512
    """The repository and /tmp together, where the kind can bound it."""
    output_bytes: int = 16_000_000
    """What one command may print; one that prints more is stopped."""


@dataclass(frozen=True)
class Room:
    """What a sandbox is furnished with."""

    repository: Path | None = None
    """Folder on this machine with the prepared repository: one commit, no history. It is copied, never written to."""
    image: str | None = None
    """Container image that holds the prepared repository in `REPOSITORY`."""
    read_only: Mapping[str, Path] = field(default_factory=dict)
    """Path inside → folder on this machine that is shown there, read only, such as site-packages with pytest. A kind
    without a file system of its own replaces the path by the folder in `env`. Images hold them already."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of every command, beside PATH, HOME, LANG and TMPDIR; nothing of the parent's is passed on."""


@dataclass(frozen=True)
class Result:
    """What came of a command."""

    output: str
    """Its standard output and error, as they were written, in one text; bytes that are no UTF-8 are replaced."""
    exit_code: int | None
    """As a shell reports it (128 + signal if it was killed); None if it was stopped."""
    seconds: float
    stopped: Stopped | None = None


class Sandbox(Protocol):
    """One room. Used by one thread at a time; every method but `close` needs `start` before it.

    Commands are stateless: each is one `bash -c` in the repository, and what it leaves running is killed when it ends.
    Commands are hostile. Whatever one does, `run` returns within its time limit and a few seconds, `close` leaves
    nothing behind, and when this process goes (`kill -9` too), everything in the room goes with it.
    """

    isolation: str
    """How commands are kept in: `bwrap`, `userns`, `rlimits`, `docker`, `fake`; set by `start`."""
    repository: str
    """Where the repository lies, as commands see it."""
    scratch: str
    """Folder for temp files, as commands see it (their TMPDIR): of this room alone."""

    def start(self) -> None:
        """Open the room, with a fresh copy of its repository.

        Raises:
            SandboxMissingError: this machine cannot.
            SandboxError: it can, and this time it failed.
        """
        ...

    def run(self, command: str, *, timeout: float) -> Result:
        """Run `bash -c command` in the repository, with no input. Only `SandboxError` is ever raised."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a file (its folder is made; relative paths are the repository's); raises `SandboxError`."""
        ...

    def get(self, path: str, *, limit: int = 16_000_000) -> bytes:
        """A file's contents. Raises `SandboxError`: no regular file (a link is none), or over `limit` bytes."""
        ...

    def diff(self) -> bytes:
        """Everything that changed in the repository since `start`, new files included, ignored ones not: a patch that
        `git apply` takes, binary parts included. The room's own git settings have no say. Raises `SandboxError`, and
        `PatchTooLargeError` for more than `Limits.output_bytes`."""
        ...

    def snapshot(self) -> bytes:
        """The repository's folder as a tar archive, .git included. Raises `SandboxError`."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Replace the repository's folder by what `snapshot` gave. Raises `SandboxError`."""
        ...

    def close(self) -> None:
        """End everything that runs in the room and remove it; harmless when repeated, never raises. Another thread may
        call it: a command that runs then ends in a `SandboxError`."""
        ...
