"""A room's first process, seen from outside: it is started, asked, and ended."""

import contextlib
import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aem_envs.swebench.sandbox.api import SandboxError
from aem_envs.swebench.sandbox.inside.wire import ChannelError, receive, send
from aem_envs.swebench.sandbox.layout import Python

_BOOT = """
import sys, types
for name in ("aem_envs", "aem_envs.swebench", "aem_envs.swebench.sandbox", "aem_envs.swebench.sandbox.inside"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
sys.modules[name].__path__.append(sys.argv[1])
from aem_envs.swebench.sandbox.inside.main import main
main()
"""
_OPENING, _ENDING = 60.0, 15.0
_live: "weakref.WeakSet[Runner]" = weakref.WeakSet()


class Runner:
    """One runner and its channel. Used by one thread at a time; `close` may come from any."""

    def __init__(self, walls: Sequence[str], code: str, hello: dict[str, Any], fds: list[int], marker: str) -> None:
        """Start it; `walls` is the command before its own, `code` its folder as it sees it.

        Raises:
            SandboxError: it did not start; says what it said.
        """
        call = [*walls, Python().executable, "-I", "-S", "-B", "-c", _BOOT, code]
        self._closed = threading.Lock()
        pipe, process = subprocess.PIPE, None
        try:
            # A session of its own: Ctrl-C in the terminal is this process's alone.
            process = subprocess.Popen(
                call, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env={"AEM_SANDBOX": marker}, cwd="/",
                pass_fds=fds, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise SandboxError(f"cannot start {call[0]}: {error}") from error
        finally:
            for fd in fds:
                os.close(fd)
        assert process.stdin and process.stdout and process.stderr
        self._process, self._owner = process, os.getpid()
        self._to, self._from = process.stdin.fileno(), process.stdout.fileno()
        _live.add(self)
        self._open(hello)

    def _open(self, hello: dict[str, Any]) -> None:
        try:
            send(self._to, hello)
            answer, _ = receive(self._from, timeout=_OPENING)
        except ChannelError as error:
            said = self._complaint()
            self.close()
            raise SandboxError(f"the sandbox did not start: {said or error}") from error
        if "error" in answer:
            self.close()
            raise SandboxError(f"the sandbox did not start: {answer['error']}")

    def _complaint(self) -> str:
        """What it wrote to its standard error; waits for its end, which must be near."""
        assert self._process.stderr
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
            os.set_blocking(self._process.stderr.fileno(), False)
            return (self._process.stderr.read() or b"")[-2000:].decode(errors="replace").strip()
        return ""

    def ask(self, message: dict[str, Any], body: bytes = b"", *, timeout: float) -> tuple[dict[str, Any], bytes]:
        """One operation and its answer; raises `ChannelError`, after which the room is closed."""
        if self._process.stdin is None or self._process.stdin.closed:
            raise ChannelError("the sandbox is closed")
        try:
            send(self._to, message, body)
            return receive(self._from, timeout=timeout)
        except ValueError as error:
            self.close()
            raise ChannelError(str(error)) from error
        except BaseException:  # Ctrl-C, too: an answer that nobody took would be taken for the next one
            self.close()
            raise

    def close(self) -> None:
        """End the room: its runner sees the channel's end. Never raises; harmless when repeated."""
        with self._closed:
            if not self.ours:
                return
            process = self._process
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            try:
                process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                self._kill()
            if process.stderr is not None:
                process.stderr.close()

    def _kill(self) -> None:
        """The process that was started and, where it only waits for one in a new namespace, that one first."""
        pid = self._process.pid
        with contextlib.suppress(OSError, ValueError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
                os.kill(int(child), signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    @property
    def ours(self) -> bool:
        """This process started it: a forked child did not."""
        return self._owner == os.getpid()

    def forget(self) -> None:
        """In a forked child: close what would keep the room open after the parent's end."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.returncode = 0  # not this process's child: nothing to wait for or to warn of


def _forget_all() -> None:
    for runner in list(_live):
        runner.forget()


os.register_at_fork(after_in_child=_forget_all)
