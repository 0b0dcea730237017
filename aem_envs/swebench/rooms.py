"""Furnishing sandboxes: which repository, image and tools a task's room has. What is prepared is kept:

<cache>/swebench/repositories/<task>-<hash>     an embedded task's repository, one commit
<cache>/swebench/toolbox-<hash>                 pytest, shown as /opt/aem
aem-swe:<hash>                                  container images made from these, or from official ones
"""

import base64
import shlex
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from aem_envs.cache import cache_root
from aem_envs.core import BadOptionError
from aem_envs.swebench.sandbox import make_sandbox
from aem_envs.swebench.sandbox.api import Limits, Room, Sandbox
from aem_envs.swebench.task import Task

Say = Callable[[str], None]


def swebench_cache(given: str | None = None) -> Path:
    """Folder of everything that is prepared for SWE-bench."""
    return cache_root(given) / "swebench"


class RoomMaker:
    """Makes sandboxes of one kind for tasks of one source. Several threads may use it."""

    def __init__(
        self, source: str, kind: str, limits: Limits, cache: str | None = None, allow_unsafe: bool = False
    ) -> None:
        if source == "official" and kind == "local":
            raise BadOptionError(
                "official tasks run in their images: sandbox=docker (the local sandbox has embedded tasks only)"
            )
        if allow_unsafe and kind != "local":
            raise BadOptionError("allow_unsafe goes with sandbox=local")
        self.source, self.kind, self.limits = source, kind, limits
        self._cache = cache
        self._options: dict[str, Any] = {"allow_unsafe": True} if allow_unsafe else {}

    def sandbox(self, task: Task, *, grading: bool = False) -> Sandbox:
        """A sandbox for the task, not started. Raises what `room` and the sandbox's own class raise."""
        return make_sandbox(self.kind, self.room(task, grading=grading), self.limits, **self._options)

    def room(self, task: Task, progress: Say | None = None, *, grading: bool = False) -> Room:
        """The room of a task; what it needs is prepared if it is not there yet. One for `grading` has what no agent may
        see, too.

        Raises:
            DataError: a package's source archive is not to be had.
            SandboxMissingError: no image, no docker daemon.
        """
        if self.source == "official":
            return Room(image=self._official_image(task, grading, progress or _quiet))
        from envs_data.swebench.packages import environment, package_named
        from envs_data.swebench.repository import prepare_embedded
        from envs_data.swebench.toolbox import TOOLBOX, toolbox

        cache = swebench_cache(self._cache)
        instance = task.instance
        repository = cache / "repositories" / f"{task.id}-{task.data_hash}"
        prepare_embedded(instance, repository, cache)
        room = Room(
            repository=repository,
            read_only={TOOLBOX: toolbox(cache, progress)},
            env=environment(package_named(instance.extra["package"])),
        )
        if self.kind != "docker":
            return room
        return self._embedded_image(task, room, cache, progress or _quiet)

    def _embedded_image(self, task: Task, room: Room, cache: Path, progress: Say) -> Room:
        from aem_envs.swebench.base_image import base_image
        from aem_envs.swebench.images import image_from_folder

        assert room.repository is not None
        path = "/opt/aem/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        image = image_from_folder(
            base_image(cache, progress=progress),
            room.repository,
            key=f"{task.id} {task.data_hash}",
            read_only=room.read_only,
            env={**room.env, "PATH": path},
            progress=progress,
        )
        return Room(image=image)

    def _official_image(self, task: Task, grading: bool, progress: Say) -> str:
        """The instance's image with its history squashed."""
        from aem_envs.swebench.image_scripts import SQUASH
        from aem_envs.swebench.images import prepared_image

        script = f"{preparation(task, grading)}{SQUASH}"
        return prepared_image(task.instance.image, script=script, key=_key(script), progress=progress)


def preparation(task: Task, grading: bool) -> str:
    """What is done to the repository of an official image before its history goes: SWE-smith's bug is put in; what
    R2E-Gym hides from agents is taken out, where it is not for grading."""
    lines = []
    bug = task.instance.extra.get("setup_patch")
    if isinstance(bug, str) and bug:
        coded = base64.b64encode(bug.encode()).decode()
        lines.append(f"base64 -d <<<{coded} | git -C /testbed -c safe.directory=* apply --whitespace=nowarn -")
    if grading:  # evaluation scripts install into the image's own Python, which is root's
        lines.append("owner=0:0")
    else:
        hidden = (str(PurePosixPath("/testbed") / path) for path in task.protection.hidden)
        lines += [f"rm -rf -- {shlex.quote(path)}" for path in hidden]
    return "".join(f"{line} || exit 1\n" for line in lines)


def _key(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _quiet(message: str) -> None:
    """Progress that nobody wants to see."""
