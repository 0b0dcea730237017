"""Sandboxes in Docker containers: no network, no capabilities, bounded memory, processors and processes."""

import time
from posixpath import join, normpath
from typing import Any

from aem_envs.swebench.sandbox import docker_scripts as scripts
from aem_envs.swebench.sandbox.api import (
    REPOSITORY,
    Limits,
    PatchTooLargeError,
    Result,
    Room,
    SandboxError,
    SandboxMissingError,
    Stopped,
)
from aem_envs.swebench.sandbox.docker_exec import Container, Exec, client, daemon_errors, daemon_host
from aem_envs.swebench.sandbox.docker_reap import labels, reap_containers_once

HOME = "/home/agent"
USER_LABEL = "aem.user"
"""Label of prepared images: whom commands run as, `uid:gid`."""
_MIB = 1 << 20
_SLACK = 2 * _MIB
"""A container may hold twice its `disk_mb`, while one file is bounded by just that: a command that fills it sees an
error, and another one can clean up."""
_FULL = "more was written than it may hold"
_LONGEST = 100_000
"""Bytes of a command: the kernel takes no argument of 128 KiB."""
_STOPPED: dict[str, Stopped] = {"deadline": "timeout", "limit": "output", "disk": "died", "gone": "died"}


class DockerSandbox:
    """A container of `room.image`; see `Sandbox` for what its methods promise.

    Commands run as the user that the image names (label `aem.user`, else USER), else as the owner of the repository,
    and as root (without capabilities) only where that is root too: prepare such an image first
    (`aem_envs.swebench.images`). /tmp is held in memory, and counts as such. What is written elsewhere is looked at
    each second and after each command: no file may be larger than `disk_mb`, and the container is removed once it has
    written more than twice that.

    Args:
        room: Its `image` must be there; its folders are not used.
        limits: For all processes of the container together.
        user: Run commands as this user (`name`, `uid` or `uid:gid`).
        timeout: Seconds for `put`, `get`, `diff`, `snapshot`, `restore`.
    """

    repository = REPOSITORY
    scratch = "/tmp"

    def __init__(
        self, room: Room, limits: Limits | None = None, *, user: str | None = None, timeout: float = 120.0
    ) -> None:
        if room.image is None:
            raise SandboxMissingError("the docker sandbox needs a room with an image: see aem_envs.swebench.images")
        self.isolation = "docker"
        self._room, self._image, self._limits = room, room.image, limits or Limits()
        self._user, self._timeout = user or "", timeout
        self._container: Container | None = None
        self._root = False
        self._ended = ""

    def start(self) -> None:
        """See `Sandbox`."""
        self.close()
        reap_containers_once()
        config = self._image_config()
        limits = self._limits
        if not self._user:
            self._user = (config.get("Labels") or {}).get(USER_LABEL) or config.get("User") or ""
        home = {"HOME": HOME} if USER_LABEL in (config.get("Labels") or {}) else {}
        self._container = Container(
            self._image,
            _host(limits),
            labels=labels(),
            working_dir=REPOSITORY,
            environment={**home, "LANG": "C.UTF-8", "TMPDIR": "/tmp", **self._room.env},
        )
        self._ended = ""
        try:
            if not self._user:
                self._user = self._script("stat -c %u:%g /testbed", user="0:0", limit=100).decode().strip()
        except BaseException:
            self.close()
            raise
        self._root = self._user.partition(":")[0] in ("0", "root")
        self.isolation = "docker/root" if self._root else "docker"

    def run(self, command: str, *, timeout: float) -> Result:
        """See `Sandbox`."""
        box, start = self._open(), time.monotonic()
        if len(command.encode("utf-8", "replace")) > _LONGEST or "\0" in command:
            return Result("bash: argument list too long, or a zero byte in it\n", 126, 0.0)
        found = box.exec(
            ["bash", "-c", scripts.run(self._root), "aem", f"{timeout:.3f}", command],
            user=self._user,
            seconds=timeout + 4.0,
            limit=self._limits.output_bytes,
            written=self._limits.disk_mb * _SLACK,
        )
        seconds = time.monotonic() - start
        stopped = _STOPPED.get(found.end)
        if stopped is None and found.exit_code in (124, 137) and seconds >= timeout:
            stopped = "timeout"
        elif found.exit_code == 137 and scripts.OUT_OF_MEMORY.encode() in found.errors.splitlines()[-1:]:
            stopped = "memory"
        text = found.output.decode("utf-8", "replace")
        if (found.end != "done" or found.exit_code == 137) and not self._sweep(box, found):
            stopped = "died"
        elif found.end != "disk" and box.written() > self._limits.disk_mb * _SLACK:
            stopped = "died"
            self._end(_FULL)
        if stopped == "died":
            text += f"\n[the sandbox ended: {self._ended}]\n"
        return Result(text, None if stopped else found.exit_code, seconds, stopped)

    def put(self, path: str, data: bytes) -> None:
        """See `Sandbox`."""
        self._script(scripts.PUT, _inside(path), str(len(data)), "644", stdin=data, what=f"{path!r} cannot be written")

    def get(self, path: str, *, limit: int = 16_000_000) -> bytes:
        """See `Sandbox`."""
        what = f"{path!r} cannot be read"
        found = self._script(scripts.GET, _inside(path), str(limit + 1), limit=limit + 1, what=what)
        if len(found) > limit:
            raise SandboxError(f"{what}: over {limit} bytes")
        return found

    def diff(self) -> bytes:
        """See `Sandbox`."""
        what, limit = "the changes cannot be read", self._limits.output_bytes
        return self._script(scripts.DIFF, limit=limit, what=what, too_long=PatchTooLargeError)

    def snapshot(self) -> bytes:
        """See `Sandbox`."""
        return self._script(scripts.SNAPSHOT, limit=1 << 31, what="no snapshot can be taken")

    def restore(self, snapshot: bytes) -> None:
        """See `Sandbox`."""
        self._script(scripts.RESTORE, str(len(snapshot)), stdin=snapshot, what="the snapshot cannot be restored")

    def close(self) -> None:
        """See `Sandbox`."""
        self._end("it was closed")

    def _end(self, why: str) -> None:
        box, self._container = self._container, None
        self._ended = self._ended or why
        if box is not None:
            box.close()

    def _open(self) -> Container:
        if self._container is None:
            raise SandboxError(f"the sandbox does not run ({self._ended or 'not started'}): call start()")
        return self._container

    def _image_config(self) -> dict[str, Any]:
        import docker

        with daemon_errors(f"the image {self._image} cannot be looked at"):
            try:
                config: dict[str, Any] = client().inspect_image(self._image)["Config"]
            except docker.errors.ImageNotFound as error:
                raise SandboxMissingError(
                    f"there is no image {self._image} on the docker host: `docker pull` it, or prepare it "
                    "(aem_envs.swebench.images)"
                ) from error
        return config

    def _sweep(self, box: Container, found: Exec) -> bool:
        """Kill what a command left that was cut off or killed; False if the container is gone, or has to go."""
        why = _FULL if found.end == "disk" else "a command brought it down"
        if found.end not in ("disk", "gone"):
            script = ["bash", "-c", scripts.kill_all(self._root)]
            try:
                swept = box.exec(script, user=self._user, seconds=10.0, limit=10_000)
            except SandboxError:
                if box.alive():
                    raise
                swept = None
            if swept and swept.output.startswith(b"swept "):
                return True
        self._end(why)
        return False

    def _script(
        self,
        script: str,
        *arguments: str,
        stdin: bytes | None = None,
        user: str | None = None,
        limit: int = 10_000,
        what: str = "the sandbox's repository cannot be read",
        too_long: type[SandboxError] = SandboxError,
    ) -> bytes:
        """Standard output of a script of ours. Raises `SandboxError`: it failed, or wrote more than `limit` bytes."""
        box = self._open()
        if user is None:
            script = scripts.kill_user(self._root) + script
        command = ["bash", "-c", script, "aem", *arguments]
        found = box.exec(command, user=user or self._user, seconds=self._timeout, limit=limit, stdin=stdin)
        if found.end != "done":
            self._sweep(box, found)
            if found.end == "limit":
                raise too_long(f"{what}: over {limit} bytes")
            raise SandboxError(f"{what}: {'the container is gone' if found.end == 'gone' else 'it took too long'}")
        if found.exit_code:
            raise SandboxError(f"{what}: {found.errors.decode('utf-8', 'replace').strip()[:500] or found.exit_code}")
        return found.output


def _inside(path: str) -> str:
    """The path as the container sees it. Raises `SandboxError` for one with a zero byte."""
    if "\0" in path or not path:
        raise SandboxError(f"{path!r} is no path")
    return normpath(join(REPOSITORY, path))


def _host(limits: Limits) -> Any:
    """What the daemon is told about a sandbox."""
    from docker.types import Ulimit

    memory, files = limits.memory_mb * _MIB, limits.disk_mb * _MIB
    bounds = {"core": 0, "nofile": 4096, "fsize": files}
    return daemon_host(
        mem_limit=memory,
        memswap_limit=memory,
        nano_cpus=int(limits.cpus * 1e9),
        pids_limit=limits.pids,
        cap_drop=["ALL"],
        ulimits=[Ulimit(name=name, soft=value, hard=value) for name, value in bounds.items()],
        tmpfs={"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={min(files, memory // 2)}"},
    )
