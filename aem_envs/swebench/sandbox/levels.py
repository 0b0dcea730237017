"""How a room is opened at each level of isolation, and which levels this machine allows."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aem_envs.core import AemEnvError
from aem_envs.swebench.sandbox import bwrap, users
from aem_envs.swebench.sandbox.api import REPOSITORY, Limits, Room
from aem_envs.swebench.sandbox.inside.wire import ChannelError
from aem_envs.swebench.sandbox.layout import CODE, PRISTINE, WORK, Python, check, environment, layout, processes
from aem_envs.swebench.sandbox.reap import FOLDER, MARKER, kill_marked, owner_mark
from aem_envs.swebench.sandbox.runner import Runner

_INSIDE = str(Path(__file__).resolve().parent / "inside")


@dataclass
class Opened:
    """A room that runs, and what must be undone after it."""

    runner: Runner
    repository: str
    scratch: str
    uid: int | None
    marker: str
    folder: Path | None = None
    """What it has on the machine's disk."""

    def close(self) -> None:
        """Never raises."""
        self.runner.close()
        if self.folder is not None and self.runner.ours:
            kill_marked(self.marker)  # a hostile command may have killed the runner, which would have done this
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.uid is not None:
            users.give_back(self.uid)


def _with_walls(room: Room, limits: Limits, marker: str, by_bubblewrap: bool) -> Opened:
    uid = users.take() if os.geteuid() == 0 else None
    try:
        plan = layout(room, limits, os.getuid() if uid is None else uid)
        env = environment(room, "/tmp/home", "/tmp", Python().folder)
        house = _house(limits, uid, env, repository=REPOSITORY, pristine=PRISTINE, work=WORK, own_pids=True)
        hello: dict[str, Any] = {"house": house, "walls": None, "copies": [[PRISTINE, REPOSITORY, True]], "tmpfs": []}
        if by_bubblewrap:
            call, fds = bwrap.command(plan)
            runner = Runner(call, CODE, {**hello, "tmpfs": plan.tmpfs}, fds, marker)
        else:
            runner = Runner([], _INSIDE, {**hello, "walls": plan.plain()}, [], marker)
    except BaseException:
        if uid is not None:
            users.give_back(uid)
        raise
    return Opened(runner, REPOSITORY, "/tmp", uid, marker)


def _bwrap(room: Room, limits: Limits, marker: str) -> Opened:
    return _with_walls(room, limits, marker, by_bubblewrap=True)


def _userns(room: Room, limits: Limits, marker: str) -> Opened:
    return _with_walls(room, limits, marker, by_bubblewrap=False)


def _rlimits(room: Room, limits: Limits, marker: str) -> Opened:
    """A folder on the disk, and a user of its own where we are root; paths of the room in `env` become folders here."""
    check(room)
    uid = users.take() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{owner_mark()}."))
    try:
        folder.chmod(0o711)
        (folder / "work").mkdir(mode=0o711)
        places, copies = _places(room, folder, uid)
        repository = str(folder / "repository")
        real = Room(env={name: _replaced(value, places | {REPOSITORY: repository}) for name, value in room.env.items()})
        python = Python().folder if uid is None or _open_to_all(Python().folder) else None
        env = environment(real, f"{folder}/tmp/home", f"{folder}/tmp", python) | {MARKER: marker}
        if tools := places.get("/opt/aem"):
            env["PATH"] = f"{tools}/bin:{env['PATH']}"
        inside = {"repository": repository, "pristine": str(room.repository), "work": f"{folder}/work"}
        house = _house(limits, uid, env, own_pids=False, **inside)
        copies += [[str(room.repository), repository, True]]
        runner = Runner([], _INSIDE, {"house": house, "walls": None, "copies": copies, "tmpfs": []}, [], marker)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if uid is not None:
            users.give_back(uid)
        raise
    return Opened(runner, repository, f"{folder}/tmp", uid, marker, folder)


LEVELS: dict[str, Callable[[Room, Limits, str], Opened]] = {"bwrap": _bwrap, "userns": _userns, "rlimits": _rlimits}


@cache
def probe(level: str) -> str | None:
    """Why this machine does not allow a level, found by opening such a room once; None if it does."""
    with tempfile.TemporaryDirectory(prefix=f"{FOLDER}{owner_mark()}.") as folder:
        opened = None
        try:
            opened = LEVELS[level](Room(repository=Path(folder)), Limits(disk_mb=16), f"{owner_mark()}:probe")
            answer, output = opened.runner.ask({"do": "run", "timeout": 10.0}, b"echo open", timeout=20.0)
            return None if output == b"open\n" else f"its shell failed ({answer['status']}): {output[-500:]!r}"
        except (AemEnvError, ChannelError) as error:
            return str(error)
        finally:
            if opened is not None:
                opened.close()


def _house(limits: Limits, uid: int | None, env: dict[str, str], **places: Any) -> dict[str, Any]:
    """`inside.command.House` as plain data."""
    return {
        "uid": uid, "env": env, "memory_mb": limits.memory_mb, "disk_mb": limits.disk_mb,
        "output_bytes": limits.output_bytes, "pids": processes(limits, places["own_pids"]), **places,
    }  # fmt: skip


def _places(room: Room, folder: Path, uid: int | None) -> tuple[dict[str, str], list[list[Any]]]:
    """Where each path of the room lies here; those that the room's user cannot reach are copied."""
    places, copies = {}, []
    for number, (inside, source) in enumerate(room.read_only.items()):
        places[inside] = str(source.resolve())
        if uid is not None and not _open_to_all(places[inside]):
            copies.append([places[inside], f"{folder}/shown{number}", False])
            places[inside] = f"{folder}/shown{number}"
    return places, copies


def _open_to_all(path: str) -> bool:
    """Every folder on the way may be entered by other users."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in [Path(path), *Path(path).parents])


def _replaced(value: str, places: dict[str, str]) -> str:
    for inside, folder in sorted(places.items(), key=lambda item: -len(item[0])):
        value = value.replace(inside, folder)
    return value
