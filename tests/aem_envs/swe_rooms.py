"""Sandboxes of every kind for tests, as fixtures, each with the same small repository; a look at what they leave."""

import importlib
import os
import subprocess
import tempfile
import warnings
from pathlib import Path

import pytest

from aem_envs.swebench.sandbox import Limits, Room, Sandbox, make_sandbox
from aem_envs.swebench.sandbox.levels import probe
from aem_envs.swebench.sandbox.local import UnsafeSandboxWarning
from aem_envs.swebench.sandbox.reap import FOLDER, marked_processes

FILES = {
    "README.md": "A repository for tests.\n",
    ".gitignore": "*.log\n__pycache__/\n",
    "pkg/__init__.py": "",
    "pkg/numbers.py": "def double(x):\n    return x + x\n",
}
REAL = ["local/bwrap", "local/userns", "local/rlimits", "docker"]
KINDS = [*REAL, "fake"]


def repository(folder: Path, files=FILES) -> Path:
    """A git repository with the files in one commit."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        who = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
        subprocess.run(["git", "-C", str(folder), *who, *command], check=True)
    return folder


PLAIN = {
    "bwrap": "bwrap --unshare-pid --unshare-net --ro-bind / / --proc /proc --dev /dev true",
    "userns": "unshare --user --map-root-user --mount --pid --net --fork true",
}
"""What has to work for a level to work, without any code of ours."""


def needs(level: str) -> None:
    """Skip where this machine has no such level."""
    if level != "rlimits" and (reason := lacking(level)):
        pytest.skip(f"no {level} on this machine: {reason}")


def needs_any() -> None:
    """Skip where this machine has no local sandbox with walls."""
    reasons = [lacking(level) for level in PLAIN]
    if all(reasons):
        pytest.skip(f"no local sandbox on this machine: {'; '.join(map(str, reasons))}")


def lacking(level: str) -> str | None:
    """Why this machine has no such level. Where it has all that the level stands on, the fault is ours, and raised."""
    reason = probe(level)
    if reason is not None:
        plain = subprocess.run(["bash", "-c", PLAIN[level]], capture_output=True)
        assert plain.returncode != 0, f"{PLAIN[level]} works here, and level {level} does not: {reason}"
    return reason


def local(folder: Path, level: str, limits: Limits | None = None, **room):
    """A local sandbox of the level, not started; the warning of rlimits is expected."""
    needs(level)
    return make_sandbox("local", Room(repository=folder, **room), limits, level=level, allow_unsafe=level == "rlimits")


def start(box):
    """Start it, without the warning of rlimits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnsafeSandboxWarning)
        box.start()
    return box


def make(kind: str, request: pytest.FixtureRequest, limits: Limits | None = None):
    """A started sandbox of the kind; the test skips where this machine cannot run it."""
    name, _, level = kind.partition("/")
    if name == "docker":
        return start(make_sandbox("docker", _docker_room(request), limits))
    folder = request.getfixturevalue("small_repository")
    if name == "fake":
        return start(make_sandbox("fake", Room(repository=folder), limits))
    return start(local(folder, level, limits))


def walled(kind: str) -> None:
    """Skip for rlimits of a user who is not root: its commands are that user's."""
    if kind == "local/rlimits" and os.geteuid() != 0:
        pytest.skip("rlimits without root has no walls")


def left(word: str) -> list[str]:
    """Processes of this machine with the word in their command line or marker, and temp folders with it."""
    found = [f"process {pid}" for pid, mark in marked_processes() if word in mark]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(f"process {path.parent.name}: {path.read_bytes()!r}")
        except OSError:
            continue
    return found + [str(path) for path in Path(tempfile.gettempdir()).glob(f"{FOLDER}*") if word in path.name]


def _docker_room(request: pytest.FixtureRequest) -> Room:
    try:
        module = importlib.import_module("swe_docker")
    except ImportError as error:
        pytest.skip(f"no docker for tests: {error}")
    assert module.docker_room  # a fixture, which the test module re-exports
    room: Room = request.getfixturevalue("docker_room")
    return room


@pytest.fixture(scope="session")
def small_repository(tmp_path_factory):
    return repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def opened(request):
    """Opens sandboxes, and closes them after the test."""
    boxes: list[Sandbox] = []

    def open_(kind, **limits):
        boxes.append(make(kind, request, Limits(**limits)))
        return boxes[-1]

    yield open_
    for box in boxes:
        box.close()


@pytest.fixture(params=KINDS)
def any_box(request, opened):
    return opened(request.param)


@pytest.fixture(params=REAL)
def kind(request):
    return request.param


@pytest.fixture
def box(kind, opened):
    return opened(kind)
