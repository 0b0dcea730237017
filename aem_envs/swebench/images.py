"""Container images with a prepared repository: made once, found again by their tag.

A prepared image holds in /testbed a repository of one commit, owned by the user `agent` (uid 1000), and in
/opt/aem/git root's own copy of that commit, against which diffs are taken. `docker run IMAGE /bin/bash /eval.sh` as
root works in it, too, as `swebench eval` does it.
"""

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from aem_envs.swebench.sandbox.api import SandboxError, SandboxMissingError
from aem_envs.swebench.sandbox.docker_exec import Container, client, daemon_errors, daemon_host
from aem_envs.swebench.sandbox.docker_reap import LABEL, reap_containers

RECIPE = 1
"""Raise it when what is done to images changes: tags made before are then not used any more."""
NAME = "aem-swe"
COMMIT_LABEL = "aem.commit"
_KEY_LABEL = "aem.key"
_SOURCE_LABEL = "aem.source"
_PREPARING = "aem-preparing-"
_SECONDS = 1800.0
"""What the preparation of one image may take."""

Progress = Callable[[str], None]


def quiet(message: str) -> None:
    """Progress that nobody wants to see."""


def prepared_image(
    source: str, *, script: str, key: str, env: Mapping[str, str] | None = None, progress: Progress = quiet
) -> str:
    """Name of the image that `script` makes of the image `source`; made at the first call only.

    The script runs in bash as root without network. If it leaves /opt/aem/commit, that is the image's commit
    (`image_commit`). `key` names what else the script depends on. A `source` that is not on the docker host is pulled.
    One that has changed there since is prepared again.

    Raises:
        SandboxMissingError: no daemon, or the source is neither there nor to be had.
        SandboxError: the script failed; the message ends with what it said last.
    """
    return _derived(source, script, f"{key}\n{json.dumps(sorted((env or {}).items()))}", env or {}, None, progress)


def image_from_folder(
    base: str,
    folder: Path,
    *,
    key: str,
    read_only: Mapping[str, Path] | None = None,
    env: Mapping[str, str] | None = None,
    progress: Progress = quiet,
) -> str:
    """Name of the image with `folder`, a git repository of one commit, at /testbed on top of `base`; made at the first
    call only. The commit stays.

    Folders in `read_only` (path inside to folder here) become root's, in an image of their own that such images share.
    `env` is set for whatever runs in it. `key` stands for the contents of `folder`: equal keys, equal folders.

    Raises:
        SandboxMissingError, SandboxError: as `prepared_image`.
    """
    from aem_envs.swebench.image_scripts import KEEP, TOOLS

    for path, shown in sorted((read_only or {}).items()):
        fill = _Fill(shown, path, 0)
        base = _derived(base, TOOLS, f"{path}\n{_fingerprint(shown)}", {}, fill, progress)
    settings = json.dumps(sorted((env or {}).items()))
    return _derived(base, KEEP, f"folder\n{key}\n{settings}", env or {}, _Fill(folder, "/testbed", 1000), progress)


def image_commit(image: str) -> str:
    """The commit that a prepared image's repository is at; empty for other images. Raises `SandboxError`."""
    with daemon_errors(f"the image {image} cannot be looked at"):
        return str((client().inspect_image(image)["Config"].get("Labels") or {}).get(COMMIT_LABEL, ""))


def clean_images(progress: Progress = quiet) -> list[str]:
    """Remove all our images, and containers whose process is gone; the removed images. Those in use stay.

    Raises:
        SandboxMissingError: no daemon.
        SandboxError: it does not answer.
    """
    reap_containers()
    api = client()
    gone: set[str] = set()
    for _ in range(10):  # those that others stand on go last
        with daemon_errors("images cannot be listed"):
            found = api.images(all=True, filters={"label": f"{LABEL}=image"})
        before = len(gone)
        for image in found:
            for name in image["RepoTags"] or [image["Id"]]:
                with suppress(Exception):  # used by another image or a container
                    api.remove_image(name)
                    gone.add(name)
                    progress(f"removed {name}")
        if len(gone) == before:
            break
    return sorted(gone)


class _Fill:
    """A folder of this machine that is to lie in an image."""

    def __init__(self, folder: Path, path: str, owner: int) -> None:
        self.folder, self.path, self.owner = folder, path, owner

    def into(self, container: str) -> None:
        """Copy it in."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(self.folder, self.path.lstrip("/"), filter=self._owned)
        with daemon_errors(f"{self.folder} cannot be copied into an image"):
            client().put_archive(container, "/", stream.getvalue())

    def _owned(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = self.owner
        entry.uname = entry.gname = ""
        entry.mode |= 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry if entry.isfile() or entry.isdir() or entry.issym() or entry.islnk() else None


def _derived(source: str, script: str, key: str, env: Mapping[str, str], fill: _Fill | None, progress: Progress) -> str:
    """See `prepared_image`; `fill` is copied in first."""
    digest = hashlib.sha256(json.dumps([RECIPE, source, script, key]).encode()).hexdigest()[:24]
    name = f"{NAME}:{digest}"
    origin = image_id(source)
    made = _labels(name)
    if made is not None and origin in (None, made.get(_SOURCE_LABEL)):
        return name
    if origin is None:
        origin = pull(source, progress)
    progress(f"preparing {name} from {source}")
    box = _builder(source, name, digest, progress)
    if box is None:  # another process has just made it
        return name
    try:
        if fill is not None:
            fill.into(box.id)
        command = ["bash", "-c", script]
        found = box.exec(command, user="0:0", seconds=_SECONDS, limit=1_000_000, env={"HOME": "/root"})
        if found.end != "done" or found.exit_code:
            said = (found.errors.strip() or found.output.strip())[-500:].decode("utf-8", "replace")
            raise SandboxError(f"{source} could not be prepared ({found.exit_code or found.end}): {said}")
        labels = {LABEL: "image", _KEY_LABEL: digest, _SOURCE_LABEL: origin, **_told(found.output)}
        _commit(box, source, labels, env)
    finally:
        box.close()
    return name


def _told(output: bytes) -> dict[str, str]:
    """Labels that a script asks for: lines `label NAME VALUE`."""
    lines = (line.split(" ", 2) for line in output.decode("utf-8", "replace").splitlines())
    return {line[1]: line[2] for line in lines if len(line) == 3 and line[0] == "label"}


def _builder(source: str, name: str, digest: str, progress: Progress) -> Container | None:
    """A container to prepare an image in. Its name is a lock: while another process prepares the same image, wait;
    None if that has made it."""
    import docker

    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            # None of our labels: images would inherit them, and with them every container of an image.
            return Container(source, daemon_host(), name=_PREPARING + digest)
        except SandboxError as error:
            taken = isinstance(error.__cause__, docker.errors.APIError) and error.__cause__.status_code == 409
            if not taken or time.monotonic() > deadline:
                raise
        progress(f"{name} is being prepared by another process: waiting")
        _wait(_PREPARING + digest, deadline)
        if _labels(name) is not None:
            return None


def _wait(container: str, deadline: float) -> None:
    """Wait until a container is gone. One that is made but not started for long is nobody's: remove it."""
    import docker

    stale = time.monotonic() + 30.0
    with daemon_errors("a container cannot be looked at"):
        try:
            while time.monotonic() < deadline:
                status = client().inspect_container(container)["State"]["Status"]
                if status == "created" and time.monotonic() > stale:
                    client().remove_container(container, force=True)
                time.sleep(0.1)
        except docker.errors.NotFound:
            return


def _commit(box: Container, source: str, labels: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Make the image; what the container was started with to keep it alive is set back to the source's."""
    with daemon_errors(f"{source} was prepared, but no image could be made of it"):
        config = client().inspect_image(source)["Config"]
        changes = [f"LABEL {json.dumps(name)}={json.dumps(value)}" for name, value in sorted(labels.items())]
        changes += [
            f"ENV {name}={json.dumps(value).replace('$', chr(92) + '$')}" for name, value in sorted(env.items())
        ]
        changes += [
            f"ENTRYPOINT {json.dumps(config.get('Entrypoint') or [])}",
            f"CMD {json.dumps(config.get('Cmd') or ['/bin/bash'])}",
            f"USER {config.get('User') or 'root'}",
            "WORKDIR /testbed",
        ]
        client().commit(
            box.id, NAME, labels[_KEY_LABEL], changes=changes, conf={"OpenStdin": False, "StdinOnce": False}
        )


def _labels(image: str) -> dict[str, str] | None:
    """Labels of an image; None if there is none."""
    import docker

    with daemon_errors(f"the image {image} cannot be looked at"):
        try:
            return dict(client().inspect_image(image)["Config"].get("Labels") or {})
        except docker.errors.NotFound:
            return None


def image_id(image: str) -> str | None:
    """An image's id; None if it is not on the docker host. Raises `SandboxError`, `SandboxMissingError`."""
    import docker

    with daemon_errors(f"the image {image} cannot be looked at"):
        try:
            return str(client().inspect_image(image)["Id"])
        except docker.errors.NotFound:
            return None


def pull(image: str, progress: Progress) -> str:
    """Pull an image; its id. Raises `SandboxMissingError` if it is not to be had."""
    import docker

    progress(f"pulling {image}")
    try:
        for line in client().pull(image, stream=True, decode=True):
            if "error" in line:
                raise SandboxMissingError(_no_image(image, line["error"]))
    except (docker.errors.DockerException, OSError) as error:
        raise SandboxMissingError(_no_image(image, error)) from error
    found = image_id(image)
    if found is None:
        raise SandboxMissingError(_no_image(image, "the registry did not give it"))
    return found


def _no_image(image: str, why: object) -> str:
    return (
        f"there is no image {image} on the docker host and it cannot be pulled ({why}): check the name, log in to the "
        "registry, or bring it by `docker save` and `docker load` from a machine that has it"
    )


def _fingerprint(folder: Path) -> str:
    """Hash of a folder's names and contents; looked at once per process and time of change of the folder itself."""
    return _contents(folder.resolve(), folder.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _contents(folder: Path, _changed: int) -> str:
    total = hashlib.sha256()
    for path, kind in _walk(folder):
        total.update(f"{path.relative_to(folder)}\0{kind}\0".encode())
        if kind == "file":
            total.update(hashlib.sha256(path.read_bytes()).digest())
        elif kind == "link":
            total.update(str(path.readlink()).encode())
    return total.hexdigest()


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts:
            yield path, "link" if path.is_symlink() else "file" if path.is_file() else "folder"
