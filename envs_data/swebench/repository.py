"""Repositories as agents meet them: one commit, no history, and the same hash for the same contents everywhere."""

import os
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from envs_data.errors import DataError
from envs_data.swebench.instance import Instance
from envs_data.swebench.packages import package_named
from envs_data.swebench.sdists import fetch_sdist, unpack

_MESSAGE = "Initial commit"
_WHEN = "2000-01-01T00:00:00+0000"
_ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "aem-suite",
    "GIT_AUTHOR_EMAIL": "aem-suite@localhost",
    "GIT_AUTHOR_DATE": _WHEN,
    "GIT_COMMITTER_NAME": "aem-suite",
    "GIT_COMMITTER_EMAIL": "aem-suite@localhost",
    "GIT_COMMITTER_DATE": _WHEN,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_SETTINGS = (
    "safe.directory=*",
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.ignoreCase=false",
    "core.precomposeUnicode=false",
    f"core.excludesFile={os.devnull}",
    f"core.attributesFile={os.devnull}",
    f"core.hooksPath={os.devnull}",
    "core.logAllRefUpdates=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "advice.addEmbeddedRepo=false",
)
_SECONDS = 300
_ATTRIBUTES = "* -text -ident -filter -working-tree-encoding -export-subst\n"
"""What the repository's own .gitattributes would change on the way in: nothing, bytes stay bytes."""


class RepositoryError(DataError):
    """A repository cannot be made, or is not the one that the task was made with."""


def git(folder: Path, *arguments: str, data: bytes | None = None) -> bytes:
    """Run git in a folder without any of the user's settings; what it printed. Raises `RepositoryError`."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.devnull, **_ENVIRONMENT}
    environment["GIT_CEILING_DIRECTORIES"] = str(folder.resolve().parent)  # a repository around it has no say
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    try:
        done = subprocess.run(
            ["git", *settings, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            timeout=_SECONDS,
            **given,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RepositoryError(f"git {arguments[0]} could not run ({error}); is git installed?") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-400:]
        raise RepositoryError(f"git {arguments[0]} failed in {folder.name}: {said}")
    output: bytes = done.stdout
    return output


def commit_folder(folder: Path) -> str:
    """Turn a folder into a git repository of one commit, and return its hash, which depends on the contents only.

    Ignored files are committed, too; modes become 644 or 755. The repository has one branch, no remote, tag, hook or
    reflog, and one pack.

    Raises:
        RepositoryError: git failed, or there is a repository in the folder already.
    """
    for parent, folders, files in os.walk(folder):
        if ".git" in folders or ".git" in files:
            raise RepositoryError(f"{Path(parent).name} holds a repository already; remove its .git first")
        for name in files:
            path = Path(parent) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                path.chmod(0o755 if mode & 0o100 else 0o644)
            elif not stat.S_ISLNK(mode):
                raise RepositoryError(f"{name} is neither a file, a folder nor a link; remove it first")
    git(folder, "init", "--quiet", "--initial-branch=main", "--object-format=sha1", "--template=")
    inner = folder / ".git"
    (inner / "info").mkdir(exist_ok=True)
    (inner / "info" / "attributes").write_text(_ATTRIBUTES, "utf-8")
    git(folder, "config", "core.logAllRefUpdates", "false")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "--no-verify", "--message", _MESSAGE)
    git(folder, "repack", "--quiet", "-a", "-d")
    for left in ("logs", "COMMIT_EDITMSG", "ORIG_HEAD", "description", "hooks", "branches"):
        path = inner / left
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return git(folder, "rev-parse", "HEAD").decode().strip()


def prepare_embedded(instance: Instance, to: Path, cache: Path) -> None:
    """Make the repository of an embedded task: the package with the task's fault in it, as one commit.

    `to` appears whole or not at all; where it exists already, it is left as it is. Source archives are fetched into
    `cache`.

    Raises:
        MissingSdistError, BadSdistError: the package's archive is not to be had, or is another.
        RepositoryError: the outcome is not what the task was made with.
    """
    if to.exists():
        return
    package = package_named(instance.extra["package"])
    archive = fetch_sdist(package, cache)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".prepare-", dir=to.parent) as work:
        made = Path(work) / "repository"
        unpack(package, archive, made)
        reverse(made, instance.patch)
        commit = commit_folder(made)
        if commit != instance.base_commit:
            raise RepositoryError(
                f"the repository of {instance.instance_id} has commit {commit}, the task was made with "
                f"{instance.base_commit}: the manifest and {package.archive} do not belong together"
            )
        with suppress(OSError):  # another process was quicker
            made.rename(to)
    if not to.is_dir():
        raise RepositoryError(f"{to.name} could not be put in its place: is the disk full, or read-only?")


def reverse(folder: Path, patch: str) -> None:
    """Undo a patch in a folder that is no repository; raises `RepositoryError`."""
    git(folder, "apply", "--reverse", "--whitespace=nowarn", "-", data=patch.encode())
