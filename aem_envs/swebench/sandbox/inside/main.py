"""The room's first process: makes what is left to make, then does what the sandbox asks for, one thing at a time.

The first frame describes the room; then each frame asks for one operation, and its answer is one frame. When the
channel ends, so does this process, and with it the room.
"""

# Every start of a room waits for these imports, and pathlib is dear.
# ruff: noqa: PTH101, PTH102, PTH103, PTH106, PTH120, PTH112

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aem_envs.swebench.sandbox.inside import changes, files, seccomp, system
from aem_envs.swebench.sandbox.inside.command import House, Outcome, end_all, shell, supervise, watch_children
from aem_envs.swebench.sandbox.inside.walls import build
from aem_envs.swebench.sandbox.inside.wire import ChannelError, receive, send

_OWN_TIME = 120.0
"""Seconds for an operation of the sandbox's own, such as a diff; a hostile tree of files may reach it."""


def main() -> None:
    """Read what the room is to be, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o022)
    control, answers = _take_channel()
    house = None
    with suppress(ChannelError):
        try:
            asked, _ = receive(control)
            if asked["walls"] is not None:
                build(asked["walls"])
            house = House(**asked["house"], control=control)
            _furnish(house, asked["copies"], asked["tmpfs"])
        except OSError as error:
            send(answers, {"error": str(error)})
            os._exit(1)
        send(answers, {"ok": True})
        _serve(house, control, answers)
    if house is not None and not house.own_pids:
        _leave(house)
    os._exit(0)  # nothing is left to tidy up


def _take_channel() -> tuple[int, int]:
    """The two pipes, moved to where no child has them; nothing else is open."""
    control, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    return control, answers


def _furnish(house: House, copies: list[tuple[str, str, bool]], tmpfs: list[tuple[str, int, str]]) -> None:
    """Folders of the room's user and its repository."""
    root = house.uid is not None
    system.shut(subreaper=not house.own_pids)
    if not house.own_pids:
        import subprocess  # noqa: F401  # while it can be read: the room's user may not enter the interpreter's folder
    own = [house.repository, house.env["TMPDIR"], house.env["HOME"]]
    for folder in own:
        os.makedirs(folder, exist_ok=True)
        if not house.own_pids:
            os.chmod(folder, 0o700)  # on the machine's disk, where others could look
    for source, target, given in copies:
        os.makedirs(target, exist_ok=True)
        files.copy_tree(source, target, house.uid if given else None)
    for folder in own:
        if house.uid is not None and folder != "/tmp":
            os.chown(folder, house.uid, house.uid)  # last: from here on, the runner may not write there itself
    system.limit_files({path: megabytes for path, megabytes, _ in tmpfs})
    system.keep_capabilities(tuple(system.CAPABILITIES) if root else ())
    seccomp.install()
    watch_children(house)


def _serve(house: House, control: int, answers: int) -> None:
    while True:
        asked, body = receive(control)
        outcome = _do(house, asked, body)
        answer = {"status": outcome.status, "stopped": outcome.stopped, "seconds": outcome.seconds}
        send(answers, answer, outcome.output)


def _do(house: House, asked: dict[str, Any], body: bytes) -> Outcome:
    match asked["do"]:
        case "run":
            return supervise(house, shell(house, body.decode()), asked["timeout"], house.output_bytes)
        case "put":
            child: Callable[[], Any] = files.put(house.repository, asked["path"], body)
        case "get":
            child = files.get(house.repository, asked["path"], asked["limit"])
        case "snapshot":
            child = files.snapshot(house.repository)
        case "restore":
            child = files.restore(house.repository, body)
        case "diff":
            return _diff(house)
        case other:
            raise ChannelError(f"unknown operation {other!r}")
    return supervise(house, child, _OWN_TIME, asked.get("limit", 1 << 16))


def _diff(house: House) -> Outcome:
    work = f"{house.work}/{os.urandom(8).hex()}"
    os.mkdir(work)
    if house.uid is not None:
        os.chown(work, house.uid, house.uid)
    child = changes.diff(house.repository, _readable(house), work)
    outcome = supervise(house, child, _OWN_TIME, house.output_bytes)
    if outcome.stopped:  # it could not clean up itself
        left = f"rm -rf -- {work}/* {house.repository}/.aem-????????????????"
        supervise(house, shell(house, left), _OWN_TIME, 1 << 16)
    with suppress(OSError):
        os.rmdir(work)
    return outcome


def _readable(house: House) -> str:
    """The pristine repository where the room's user can read but not write it: a copy if that user is not ours."""
    if house.uid is None:
        return house.pristine
    copy = f"{house.work}/pristine"
    if not os.path.isdir(copy):
        os.makedirs(f"{copy}/.git")
        files.copy_tree(f"{house.pristine}/.git", f"{copy}/.git", None)
    return copy


def _leave(house: House) -> None:
    """Without a pid namespace nobody cleans up behind the runner."""
    with suppress(ChannelError):
        end_all(house)
    folder = os.path.dirname(house.repository)
    if house.uid is not None:
        own = [house.repository, house.env["TMPDIR"]]
        with suppress(ChannelError):
            house.control, other = os.pipe()  # the real one has ended, which would stop this
            supervise(house, lambda: files.clear(*own), _OWN_TIME, 1 << 16)
            os.close(other)
    files.tool("rm", "-rf", "--", folder)
