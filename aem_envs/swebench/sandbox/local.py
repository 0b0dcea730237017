"""Sandboxes without a daemon: namespaces of Linux around one small runner, no file of an episode on any disk.

Three levels, the best that this machine allows: `bwrap` (bubblewrap), `userns` (the same walls, made by ourselves) and
`rlimits` (hardly any walls: an opt-in). A process that is root gives each room an unprivileged user of its own.
"""

import itertools
import threading
import time
import warnings
import weakref
from typing import Any

from aem_envs.core import one_of
from aem_envs.swebench.sandbox.api import (
    REPOSITORY,
    Limits,
    PatchTooLargeError,
    Result,
    Room,
    SandboxError,
    SandboxMissingError,
)
from aem_envs.swebench.sandbox.inside.wire import ChannelError
from aem_envs.swebench.sandbox.levels import LEVELS, Opened, probe
from aem_envs.swebench.sandbox.reap import owner_mark, reap_once

_GRACE = 20.0
"""Seconds after a time limit in which the runner has killed everything and answers, or is taken for dead."""
_OWN_TIME = 150.0
_numbers = itertools.count()
_probing = threading.Lock()


class UnsafeSandboxWarning(UserWarning):
    """Commands of an agent run with hardly any walls around them."""


class LocalSandbox:
    """A `Sandbox` (see `api`) on this machine's own kernel."""

    def __init__(
        self, room: Room, limits: Limits | None = None, *, allow_unsafe: bool = False, level: str | None = None
    ) -> None:
        """Nothing is started yet.

        Args:
            room: needs a `repository`; its `image` is not used.
            limits: `cpus` cannot be bounded here.
            allow_unsafe: take level `rlimits` where nothing better is to be had.
            level: this level and no other; `rlimits` needs `allow_unsafe` all the same.

        Raises:
            BadOptionError: no such level.
        """
        if level is not None:
            one_of("level", level, list(LEVELS))
        self.room, self.limits = room, limits or Limits()
        self.isolation, self.repository, self.scratch = "", REPOSITORY, "/tmp"
        self._levels = LEVELS if level is None else (level,)
        self._unsafe = allow_unsafe
        self._opened: Opened | None = None
        self._finalizer: Any = None

    def start(self) -> None:
        """See `Sandbox.start`."""
        self.close()
        reap_once()
        self.isolation = self._choose()
        opened = LEVELS[self.isolation](self.room, self.limits, f"{owner_mark()}:{next(_numbers)}")
        self._opened, self.repository, self.scratch = opened, opened.repository, opened.scratch
        self._finalizer = weakref.finalize(self, opened.close)

    def _choose(self) -> str:
        reasons = []
        for level in self._levels:
            if level == "rlimits":
                if self._unsafe:
                    warnings.warn(_UNSAFE, UnsafeSandboxWarning, stacklevel=3)
                    return level
                reasons.append("rlimits: no isolation; allowed only by allow_unsafe=True")
                continue
            with _probing:
                reason = probe(level)
            if reason is None:
                return level
            reasons.append(f"{level}: {reason}")
        raise SandboxMissingError(f"{_MISSING} ({'; '.join(reasons)})")

    def run(self, command: str, *, timeout: float) -> Result:
        """See `Sandbox.run`."""
        start = time.monotonic()
        opened = self._live()
        data = command.replace("\0", "").encode(errors="surrogateescape" if command.isprintable() else "replace")
        try:
            asked = {"do": "run", "timeout": timeout}
            answer, output = opened.runner.ask(asked, data, timeout=timeout + _GRACE)
        except ChannelError:
            self.close()
            return Result("", None, time.monotonic() - start, "died")
        status = answer["status"]
        code = 128 - status if status is not None and status < 0 else status
        text = output[: self.limits.output_bytes].decode(errors="replace")
        return Result(text, code, answer["seconds"], answer["stopped"])

    def put(self, path: str, data: bytes) -> None:
        """See `Sandbox.put`."""
        self._do({"do": "put", "path": path}, data)

    def get(self, path: str, *, limit: int = 16_000_000) -> bytes:
        """See `Sandbox.get`."""
        return self._do({"do": "get", "path": path, "limit": limit})

    def diff(self) -> bytes:
        """See `Sandbox.diff`."""
        return self._do({"do": "diff"})

    def snapshot(self) -> bytes:
        """See `Sandbox.snapshot`."""
        return self._do({"do": "snapshot", "limit": 2 * self.limits.disk_mb << 20})

    def restore(self, snapshot: bytes) -> None:
        """See `Sandbox.restore`."""
        self._do({"do": "restore"}, snapshot)

    def close(self) -> None:
        """See `Sandbox.close`."""
        if self._finalizer is not None:
            self._finalizer()
        self._opened = self._finalizer = None

    def _live(self) -> Opened:
        if self._opened is None:
            raise SandboxError("the sandbox is not open: call start()")
        return self._opened

    def _do(self, message: dict[str, Any], body: bytes = b"") -> bytes:
        """An operation of the sandbox's own; what it printed."""
        opened = self._live()
        try:
            answer, output = opened.runner.ask(message, body, timeout=_OWN_TIME)
        except ChannelError as error:
            self.close()
            raise SandboxError(f"{message['do']}: {error}") from error
        what = f"{message['do']} {message.get('path', '')}".strip()
        if answer["stopped"]:
            kind = PatchTooLargeError if (message["do"], answer["stopped"]) == ("diff", "output") else SandboxError
            raise kind(f"{what}: stopped by its limit on {answer['stopped']}")
        if answer["status"] != 0:
            said = output[-2000:].decode(errors="replace").strip()
            raise SandboxError(f"{what}: {said or 'exit code ' + str(answer['status'])}")
        return output


_MISSING = (
    "no local sandbox on this machine: install bubblewrap >= 0.8 (Debian: apt-get install bubblewrap), allow user "
    "namespaces (sysctl kernel.unprivileged_userns_clone=1), or use sandbox='docker'"
)
_UNSAFE = (
    "commands of the agent run WITHOUT ISOLATION (level rlimits): they can read this machine's files, use its network "
    "and, unless this process is root, end its user's processes. Install bubblewrap, or use sandbox='docker'."
)
