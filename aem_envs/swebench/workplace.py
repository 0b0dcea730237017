"""An agent's place of work: one started sandbox, the actions done in it, and what they changed."""

import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aem_envs.swebench import output
from aem_envs.swebench.actions import Command, Edit, EditError, Submit
from aem_envs.swebench.sandbox.api import Limits, Sandbox, SandboxError, SandboxMissingError

_LOOK = "if [ -L {0} ]; then exit 93; elif [ -f {0} ]; then exit 0; elif [ -e {0} ]; then exit 93; else exit 94; fi"
_PLACE = 'mkdir -p -- {folder} && cat -- "$TMPDIR/.aem-edit" > {path}; code=$?; rm -f "$TMPDIR/.aem-edit"; exit $code'


_AT_ONCE = 3
"""Sandboxes that an environment may have open at once: the agent's, and those of grading, one after another."""


@dataclass(frozen=True)
class Acted:
    """What came of an action."""

    shown: str = ""
    """What it printed, whole."""
    status: str = ""
    """How it ended, in brackets."""
    error: str | None = None
    """Why nothing was done."""
    exit_code: int | None = None
    died: bool = False
    """It took the sandbox with it."""
    seconds: dict[str, float] = field(default_factory=dict)


def refused(why: str) -> Acted:
    """An action that was not done."""
    return Acted(status=f"[not done: {why}]", error=why)


class OpenRooms:
    """The sandboxes that an environment has open, so that another thread can end whatever it waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[Sandbox] = []
        self._closed = False

    def hold(self, sandbox: Sandbox) -> Sandbox:
        """Take note of a sandbox that is about to be started. Raises `SandboxError` after `close`."""
        with self._lock:
            self.require()
            self._held = [*self._held[-_AT_ONCE:], sandbox]
        return sandbox

    def require(self) -> None:
        """Raise `SandboxError` after `close`: what died then was ended by it."""
        if self._closed:
            raise SandboxError("the environment was closed meanwhile")

    def close(self) -> None:
        """Close all of them, and let none be opened until `reopen`."""
        with self._lock:
            self._closed, held, self._held = True, self._held, []
        for sandbox in held:
            sandbox.close()

    def reopen(self) -> None:
        """Sandboxes may be opened again."""
        with self._lock:
            self._closed = False


class Workplace:
    """Opens its room when it is made, and closes it with `close`; a broken one raises `SandboxError`."""

    def __init__(self, sandbox: Sandbox, limits: Limits, timeout: float) -> None:
        self.sandbox = sandbox
        self._limits, self._timeout = limits, timeout
        try:
            sandbox.start()
        except BaseException:
            sandbox.close()
            raise

    def act(self, action: Command | Edit | Submit) -> Acted:
        """Do what an agent asks for; raises `SandboxError`."""
        if isinstance(action, Submit):
            return Acted(status="[submitted]")
        if isinstance(action, Edit):
            return self._edit(action)
        result = self.sandbox.run(action.text, timeout=self._timeout)
        status = output.status(result, self._timeout, self._limits.output_bytes, self._limits.memory_mb)
        died = result.stopped == "died"
        return Acted(result.output, status, None, result.exit_code, died, {"commands": result.seconds})

    def apply(self, patch: bytes) -> bool:
        """Apply a patch that `diff` gave; whether it could be. Raises `SandboxError`."""
        if not patch:
            return True
        self.sandbox.put(f"{self.sandbox.scratch}/.aem-patch", patch)
        command = 'git apply --whitespace=nowarn "$TMPDIR/.aem-patch"; code=$?; rm -f "$TMPDIR/.aem-patch"; exit $code'
        return self.sandbox.run(command, timeout=60).exit_code == 0

    def close(self) -> None:
        """Close the room; harmless when repeated."""
        self.sandbox.close()

    def _edit(self, edit: Edit) -> Acted:
        started = time.perf_counter()
        try:
            text = edit.apply(self._text(edit.path))
            self._place(edit.path, text)
        except EditError as error:
            return refused(str(error))
        changed = "1 place" if len(edit.blocks) == 1 else f"{len(edit.blocks)} places"
        return Acted(status=f"[edited {edit.path}: {changed}]", seconds={"commands": time.perf_counter() - started})

    def _text(self, path: str) -> str | None:
        """A file's text, None if there is none; raises `EditError` where it is no text."""
        code = self.sandbox.run(_LOOK.format(shlex.quote(_plain(path))), timeout=self._timeout).exit_code
        if code == 94:
            return None
        if code != 0:
            raise EditError(f"{path} is no regular file")
        try:
            return self.sandbox.get(path).decode()
        except SandboxError as error:
            raise EditError(f"{path} cannot be read: {error}") from error
        except UnicodeDecodeError:
            raise EditError(f"{path} is not UTF-8 text: change it by a command") from None

    def _place(self, path: str, text: str) -> None:
        try:
            self.sandbox.put(f"{self.sandbox.scratch}/.aem-edit", text.encode())
        except SandboxError as error:  # the agent may have filled its disk
            raise EditError(f"{path} cannot be written: {error}") from error
        name = shlex.quote(_plain(path))
        folder = shlex.quote(_plain(path.rpartition("/")[0] or "."))
        done = self.sandbox.run(_PLACE.format(folder=folder, path=name), timeout=self._timeout)
        if done.exit_code != 0:
            raise EditError(f"{path} cannot be written: {' '.join(done.output.split())[-200:]}")


def works(open_room: Callable[[], Sandbox]) -> bool:
    """Whether a room that nobody has been in opens, runs a command and tells its changes; it is closed again. Where it
    does, a like room that broke was broken by what was done in it."""
    sandbox = None
    try:
        sandbox = open_room()
        sandbox.start()
        return sandbox.run("true", timeout=60).exit_code == 0 and sandbox.diff() == b""
    except (SandboxError, SandboxMissingError):
        return False
    finally:
        if sandbox is not None:
            sandbox.close()


def _plain(path: str) -> str:
    """A path that no shell test takes for an operator."""
    return path if path.startswith("/") else f"./{path}"
