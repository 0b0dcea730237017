"""What changed in the repository, told by git with settings that nothing in the room can reach.

git works with the pristine repository, an index and new objects of its own, on a tree of hard links that leaves out
what would mislead it: folders named .git (their files are files) and .gitattributes, so that it finds those of the
first commit in its index. Changed .gitattributes are then added as they are, unread.
"""

# Every start of a room waits for these imports, and pathlib is dear.
# ruff: noqa: PTH101, PTH102, PTH119, PTH120, PTH123

import os
from collections.abc import Callable

from aem_envs.swebench.sandbox.inside.files import TOOLS, tool, walk

_EXCLUDES = "__pycache__/\n*.py[cod]\n.pytest_cache/\n.hypothesis/\n"
_LONGEST = 4000
"""Bytes of a path that git can still take; what lies deeper is left out."""
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.splitIndex=false",
    "core.untrackedCache=false",
    "core.ignoreCase=false",
    "core.bare=false",
    "core.safecrlf=false",
    "advice.addEmbeddedRepo=false",
    "gc.auto=0",
)
_PRINT = "-r -p --binary --full-index --no-renames --no-ext-diff --no-textconv --no-color -O/dev/null"


def diff(repository: str, pristine: str, work: str) -> Callable[[], int]:
    """Print the patch from the pristine repository's HEAD to the folder; `work` is an empty folder of the user's."""

    def run() -> int:
        tree = f"{repository}/.aem-{os.urandom(8).hex()}"
        try:
            return _diff(repository, pristine, work, tree)
        finally:
            tool("rm", "-rf", "--", tree, work)

    return run


def _diff(repository: str, pristine: str, work: str, tree: str) -> int:
    for folder in ("objects", "empty"):
        os.mkdir(f"{work}/{folder}")
    attributes = link(repository, tree)
    git = Git(pristine, work, tree)
    git("read-tree", "HEAD")
    with open(git.index, "rb") as old, open(f"{work}/base", "wb") as new:
        new.write(old.read())
    git("add", "-A", "--", ".", ":(exclude,glob)**/.gitattributes")
    _add_attributes(git, attributes)
    after = git("write-tree").decode().strip()
    git.env |= {"GIT_INDEX_FILE": f"{work}/base", "GIT_WORK_TREE": f"{work}/empty"}
    git.folder = f"{work}/empty"
    os.chdir(git.folder)
    return tool(*git.call, "diff-tree", *_PRINT.split(), "HEAD", after, env=git.env)


class Git:
    """git with the pristine repository and everything else its own."""

    def __init__(self, pristine: str, work: str, tree: str) -> None:
        with open(f"{work}/excludes", "w", encoding="utf-8") as file:
            file.write(_EXCLUDES)
        self.index = f"{work}/index"
        self.folder = tree
        settings = [part for setting in (*_SETTINGS, f"core.excludesFile={work}/excludes") for part in ("-c", setting)]
        self.call = ["git", *settings]
        self.env = {
            **TOOLS,
            "GIT_DIR": f"{pristine}/.git",
            "GIT_WORK_TREE": tree,
            "GIT_INDEX_FILE": self.index,
            "GIT_OBJECT_DIRECTORY": f"{work}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f"{pristine}/.git/objects",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
        }

    def __call__(self, *command: str, data: bytes = b"", codes: tuple[int, ...] = (0,)) -> bytes:
        """Its standard output; raises OSError with what it said."""
        import subprocess  # not at each start of a room

        done = subprocess.run(
            [*self.call, *command], env=self.env, cwd=self.folder, input=data, capture_output=True, check=False
        )
        if done.returncode not in codes:
            raise OSError(f"git {command[0]}: {done.stderr[-2000:].decode(errors='replace').strip()}")
        return done.stdout


def link(repository: str, tree: str) -> list[str]:
    """Make `tree`, inside `repository`, the same files by hard links; relative paths of .gitattributes, left out."""
    attributes = []
    own = os.path.basename(tree)
    if not os.access(repository, os.R_OK | os.W_OK | os.X_OK):
        os.chmod(repository, 0o700)
    os.mkdir(tree)

    def skipped(entry: os.DirEntry[str]) -> bool:
        return entry.name in (".git", own) or len(os.fsencode(entry.path)) > _LONGEST

    for entry in walk(repository, skip=skipped):
        name = entry.path.removeprefix(f"{repository}/")
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(f"{tree}/{name}")
        elif entry.name == ".gitattributes":
            if entry.is_file(follow_symlinks=False):
                attributes.append(name)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            os.link(entry.path, f"{tree}/{name}", follow_symlinks=False)
    return attributes


def _add_attributes(git: Git, found: list[str]) -> None:
    """Bring .gitattributes into the index as they lie in the repository, those that are ignored left out."""
    base = {name.decode(errors="surrogateescape") for name in git("ls-files", "-z").split(b"\0") if name}
    base = {name for name in base if name.rpartition("/")[2] == ".gitattributes"}
    new = [name for name in found if name not in base]
    if new:
        asked = "\0".join(new).encode(errors="surrogateescape")
        ignored = git("check-ignore", "--no-index", "-z", "--stdin", data=asked, codes=(0, 1)).split(b"\0")
        new = [name for name in new if name.encode(errors="surrogateescape") not in ignored]
    lines = []
    for name in base.difference(found):
        lines.append(f"0 {'0' * 40}\t{name}")
    repository = os.path.dirname(git.folder)
    for name in [*base.intersection(found), *new]:
        path = f"{repository}/{name}"
        blob = git("hash-object", "-w", "--no-filters", "--", path).decode().strip()
        mode = "100755" if os.lstat(path).st_mode & 0o100 else "100644"
        lines.append(f"{mode} {blob}\t{name}")
    if lines:
        git("update-index", "-z", "--index-info", data="\0".join([*lines, ""]).encode(errors="surrogateescape"))
