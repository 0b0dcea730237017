"""Docker for tests: a room with a small prepared image, skipped with a clear word where no daemon is reachable."""

import io
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from aem_envs.swebench.base_image import base_image
from aem_envs.swebench.images import image_from_folder
from aem_envs.swebench.rooms import swebench_cache
from aem_envs.swebench.sandbox import Room, SandboxMissingError
from aem_envs.swebench.sandbox.docker import DockerSandbox
from aem_envs.swebench.sandbox.docker_exec import client

FILES = {
    "README.md": "A repository for tests.\n",
    ".gitignore": "*.log\n__pycache__/\n",
    "pkg/__init__.py": "",
    "pkg/numbers.py": "def double(x):\n    return x + x\n",
}


def small_repository(folder: Path, files=FILES) -> Path:
    """A git repository with the files in one commit, the same each time."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "symbolic-ref", "HEAD", "refs/heads/main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def git(folder, *arguments):
    who = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def docker_base() -> str:
    """The base image of embedded tasks."""
    try:
        client()
        return base_image(swebench_cache())
    except SandboxMissingError as error:
        pytest.skip(f"docker daemon not reachable, or no base image: {error}")


@pytest.fixture(scope="session")
def docker_room(docker_base, tmp_path_factory) -> Room:
    """A room with a repository of `FILES`."""
    folder = small_repository(tmp_path_factory.mktemp("repository"))
    return Room(image=image_from_folder(docker_base, folder, key="tests: small repository"))


@pytest.fixture
def box(docker_room):
    """A started docker sandbox with small limits."""
    sandbox = DockerSandbox(docker_room)
    sandbox.start()
    yield sandbox
    sandbox.close()


def image_with_testbed(base, folder, name, programs=()):
    """An image as official ones are: a folder as /testbed, history and all, and (path, text) of programs beside it."""
    api = client()
    container = api.create_container(base, ["true"])["Id"]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(folder, "testbed")
        for path, text in programs:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    api.put_archive(container, "/", stream.getvalue())
    repository, _, tag = name.partition(":")
    api.commit(container, repository, tag)
    api.remove_container(container)


def containers(mark=None):
    """Ids of sandboxes' containers, of one owner or all."""
    label = [f"aem.owner={mark}"] if mark else ["aem.owner"]
    return [found["Id"] for found in client().containers(all=True, filters={"label": label})]


def soon(condition, seconds=15.0):
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()
