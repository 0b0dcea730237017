"""Which changes of an agent do not count: those of tests, and of what decides how tests run. Pure rules over paths."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from envs_data.swebench.diffs import DiffFormatError, read_diff

_TESTS = re.compile(
    r"(?:^|/)(?:tests?_[^/]*|[^/]*_tests?|tests|conftest|sitecustomize|usercustomize)\.(?:py|pyc|pyx|so)$"
)
_FOLDERS = re.compile(r"(?:^|/)(?:tests|__pycache__|\.git)(?:/|$)")
_RUNNERS = re.compile(
    r"(?:^|/)(?:pytest\.ini|\.pytest\.ini|pytest\.toml|\.pytest\.toml|tox\.ini|\.coveragerc|[^/]*\.pth|_?pytest(?:/.*|\.py))$"
)
_NEW_ONLY = re.compile(r"(?:^|/)(?:setup\.cfg|pyproject\.toml)$")


@dataclass(frozen=True)
class Protection:
    """What counts of a patch to one task."""

    tests: frozenset[str] = frozenset()
    """Files that the task's own test patch touches, and files and folders that its tests lie in."""
    gold: frozenset[str] = frozenset()
    """Files of the gold patch: whatever their names, changing them is the task."""
    hidden: tuple[str, ...] = ()
    """Paths that grading needs and agents never see."""
    sources: tuple[str, ...] | None = None
    """Only changes under these paths count; None: everywhere but in tests."""

    def drops(self, change: "Change") -> bool:
        """Whether a change is dropped. Links always are: they could lead out of the repository."""
        path = change.path
        if change.link or path in self.gold:
            return change.link
        if below(path, self.tests) or below(path, self.hidden):
            return True
        if self.sources is not None and not below(path, self.sources):
            return True
        if _TESTS.search(path) or _FOLDERS.search(path) or _RUNNERS.search(path):
            return True
        return change.new and bool(_NEW_ONLY.search(path))


def below(path: str, tops: Iterable[str]) -> bool:
    """Whether `path` is one of `tops`, or lies in one of them."""
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def touched(patch: str) -> frozenset[str]:
    """Paths of the files that a patch changes, makes, removes or moves; of one in no form of git's, what its `+++` and
    `---` lines name."""
    try:
        files = read_diff(patch)
        return frozenset(path for file in files for path in (file.old_path, file.new_path) if path is not None)
    except DiffFormatError:
        found = re.findall(r"^(?:---|\+\+\+) (?:[ab]/)?([^\t\n]+)", patch, re.MULTILINE)
        return frozenset(found) - {"/dev/null"}


@dataclass(frozen=True)
class Change:
    """One file that a patch changed."""

    path: str
    new: bool
    """It is not in the repository at the base commit."""
    link: bool
    """It is no regular file now: a symbolic link, or another repository."""


def changes(raw: str) -> Iterable[Change]:
    """The changes that `git diff --raw -z --no-renames` printed."""
    fields = raw.split("\0")
    for head, path in zip(fields[::2], fields[1::2]):
        if head.startswith(":"):
            old, new = head[1:].split(" ", 2)[:2]
            yield Change(path, new=old == "000000", link=new in ("120000", "160000"))
