"""The Docker daemon as the sandbox needs it: containers that live as long as this process, commands with a deadline.

Everything goes through the Docker SDK's low-level client, one per process and thread.
"""

import os
import select
import struct
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from aem_envs.swebench.sandbox.api import SandboxError, SandboxMissingError
from aem_envs.swebench.sandbox.docker_stream import buffered, hang_up, let_go, receive, send

API_SECONDS = 120.0
"""What one request to the daemon may take; a busy daemon needs long to start a container."""
_ERRORS = 10_000
_here = threading.local()

End = Literal["done", "deadline", "limit", "disk", "gone"]
"""Why reading a command's output ended."""


@dataclass(frozen=True)
class Exec:
    """What came of a command run by `Container.exec`."""

    output: bytes
    """Standard output."""
    errors: bytes
    """The last of standard error."""
    exit_code: int | None
    """None unless `end` is `done`."""
    end: End


def client() -> Any:
    """The SDK's low-level client of this process and thread (`docker.APIClient`), by the usual `DOCKER_*` variables.

    Raises:
        SandboxMissingError: no SDK, or no daemon answers.
    """
    key = (os.getpid(), *(os.environ.get(name) for name in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")))
    if getattr(_here, "key", None) != key:
        _here.api, _here.key = _connect(), key
    return _here.api


def _connect() -> Any:
    try:
        import docker
    except ImportError as error:
        raise SandboxMissingError(
            'the Docker SDK is not installed: pip install "aem-suite[swebench]", or use sandbox="local"'
        ) from error
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        return docker.from_env(timeout=API_SECONDS, max_pool_size=4).api
    except (docker.errors.DockerException, OSError, ValueError) as error:
        raise SandboxMissingError(
            f"docker daemon not reachable at {where} ({error}): start one, or set DOCKER_HOST to where it listens "
            '(a developer with root: `. .ci/docker.sh`), or use sandbox="local"'
        ) from error


@contextmanager
def daemon_errors(what: str) -> Iterator[None]:
    """Turn what the SDK raises into `SandboxError`."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise SandboxError(f"{what}: {getattr(error, 'explanation', None) or error}") from error


def daemon_host(**settings: Any) -> Any:
    """A host configuration with what all our containers have: no network, no log, an init, gone when they end."""
    fixed = {"network_mode": "none", "init": True, "auto_remove": True, "log_config": {"Type": "none"}}
    return client().create_host_config(**fixed, security_opt=["no-new-privileges"], **settings)


class Container:
    """A running container, kept alive by a `cat` that reads from us.

    Its standard input is a connection of this process. When the process ends, however it ends, the daemon sees the
    connection close, `cat` ends, and the container is stopped and removed. The `cat` is root's without capabilities,
    so that other users in the container cannot end it.
    """

    def __init__(self, image: str, host: Any, *, name: str | None = None, **settings: Any) -> None:
        """Start one. `settings` are those of `docker.APIClient.create_container`.

        Raises:
            SandboxError: the image is not there, the name is taken, the daemon refuses.
        """
        api = client()
        self._stdin: Any = None
        self._owner = os.getpid()
        with daemon_errors(f"no container of {image} could be started"):
            made = api.create_container(
                image,
                ["cat"],
                name=name,
                entrypoint=[""],
                user="0:0",
                stdin_open=True,
                healthcheck={"test": ["NONE"]},
                host_config=host,
                **settings,
            )
        self.id: str = made["Id"]
        try:
            with daemon_errors(f"no container of {image} could be started"):
                self._stdin = api.attach_socket(self.id, {"stdin": 1, "stream": 1})
                weakref.finalize(self, let_go, self._stdin, self._owner)  # for one that is forgotten
                api.start(self.id)
        except BaseException:
            self.close()
            raise

    def exec(
        self,
        command: Sequence[str],
        *,
        user: str,
        seconds: float,
        limit: int,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        written: int | None = None,
    ) -> Exec:
        """Run a command and read what it writes, for at most `seconds` and `limit` bytes.

        One that is cut off goes on inside: kill it. With `written`, it is cut off, too, once the container has
        written more than so many bytes to its own layer.

        Raises:
            SandboxError: the container has gone before, or the daemon cannot be reached.
        """
        api = client()
        with daemon_errors("no command can be run in the container"):
            number = api.exec_create(
                self.id, list(command), user=user, stdin=stdin is not None, environment=dict(env or {}), workdir=workdir
            )["Id"]
            deadline = time.monotonic() + seconds
            raw = api.exec_start(number, socket=True)
        stream = getattr(raw, "_sock", raw)
        try:
            first = buffered(raw, stream)
            output, errors, end = self._read(stream, first, stdin or b"", deadline, limit, written)
        except OSError as error:
            raise SandboxError(f"the docker daemon hung up in the middle of a command: {error}") from error
        finally:
            hang_up(raw)
        if end != "done":
            return Exec(output, errors, None, end)
        code, end = self._exit_code(number, deadline)
        return Exec(output, errors, code, end)

    def _read(
        self, stream: Any, pending: bytes, stdin: bytes, deadline: float, limit: int, written: int | None
    ) -> tuple[bytes, bytes, End]:
        """Read frames (an 8-byte head: stream, length; then so many bytes) to their end; write `stdin` meanwhile."""
        frames, data, errors, total = bytearray(pending), [], b"", 0
        left = memoryview(stdin)
        look = time.monotonic() + 1.0
        stream.setblocking(False)
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        while True:
            while len(frames) >= 8 and len(frames) >= 8 + (length := struct.unpack(">xxxxL", frames[:8])[0]):
                if frames[0] == 2:
                    errors = (errors + frames[8 : 8 + length])[-_ERRORS:]
                else:
                    data.append(bytes(frames[8 : 8 + length]))
                    total += length
                del frames[: 8 + length]
            now = time.monotonic()
            if total > limit:
                return b"".join(data)[:limit], errors, "limit"
            if now >= deadline:
                return b"".join(data), errors, "deadline"
            if written is not None and now >= look:
                if self.written() > written:
                    return b"".join(data), errors, "disk"
                look = time.monotonic() + 1.0
            until = min(deadline, look) if written is not None else deadline
            poll.modify(stream, select.POLLIN | (select.POLLOUT if left else 0))
            poll.poll(max(0.0, 1000 * (until - now)) + 1)
            if left:
                left = send(stream, left)
            chunk = receive(stream)
            if chunk == b"":
                return b"".join(data), errors, "done"
            frames += chunk or b""

    def _exit_code(self, number: str, deadline: float) -> tuple[int | None, End]:
        """The exit code of a command whose output has ended."""
        import docker

        with daemon_errors("the command's exit code cannot be read"):
            while True:
                try:
                    found = client().exec_inspect(number)
                except docker.errors.APIError as error:
                    if error.status_code in (404, 409):
                        return None, "gone"
                    raise
                if not found["Running"] and found["ExitCode"] is not None:
                    return int(found["ExitCode"]), "done"
                if time.monotonic() > deadline:  # it closed its output and goes on
                    return None, "deadline"
                time.sleep(0.005)

    def alive(self) -> bool:
        """Whether it still runs. Raises `SandboxError` if the daemon cannot be reached."""
        import docker

        with daemon_errors("the docker daemon cannot be reached"):
            try:
                return bool(client().inspect_container(self.id)["State"]["Running"])
            except docker.errors.NotFound:
                return False

    def written(self) -> int:
        """Bytes in the container's own layer; 0 if it is gone."""
        import docker

        api = client()
        with daemon_errors("the docker daemon cannot be reached"):
            try:
                return int(
                    api._result(api._get(api._url("/containers/{0}/json", self.id), params={"size": 1}), True)["SizeRw"]
                )
            except (docker.errors.NotFound, KeyError):
                return 0

    def close(self) -> None:
        """Kill everything in it and remove it, volumes too; may be repeated, never raises. Not for a forked process."""
        if os.getpid() != self._owner:
            return
        with suppress(Exception):  # if the daemon does not answer, hanging up does the same later
            client().remove_container(self.id, v=True, force=True)
        if self._stdin is not None:
            hang_up(self._stdin)
            self._stdin = None
