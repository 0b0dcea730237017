"""Patches read and reversed, against git itself."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_data.swebench.diffs import DiffFormatError, read_diff, reverse_diff

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

Tree = dict[str, tuple[bytes, bool]]
"""Path → (contents, executable)."""


def _git(folder: Path, *arguments: str, data: bytes | None = None) -> bytes:
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": str(folder)}
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false"]
    command = ["git", *who, *arguments]
    done = subprocess.run(command, cwd=folder, input=data, capture_output=True, env={**os.environ, **settings})
    assert done.returncode == 0, (arguments, done.stderr, data)
    return done.stdout


def _put(folder: Path, tree: Tree) -> None:
    for path in folder.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, (contents, executable) in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)
        (folder / name).chmod(0o755 if executable else 0o644)


def _seen(folder: Path) -> Tree:
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {str(path.relative_to(folder)): (path.read_bytes(), os.access(path, os.X_OK)) for path in files}


LINE = st.sampled_from(
    ["a", "b", "-- a", "++ b", "@@ -1 +1 @@", "diff --git a/x b/x", "", " ", "\\ No newline", "é\r", "\f"]
)
CONTENTS = st.builds(
    lambda lines, end: ("\n".join(lines) + end).encode() if lines else b"",
    st.lists(LINE, max_size=12),
    st.sampled_from(["", "\n"]),
)
FILE = st.tuples(CONTENTS, st.booleans())
TREE = st.dictionaries(st.sampled_from(["x", "d/y.py", "a file", 'd/qu"ote', "naïve\tname"]), FILE, max_size=4)


@needs_git
@settings(max_examples=40)
@given(before=TREE, after=TREE, renames=st.booleans())
def test_the_reverse_undoes_what_git_wrote(before: Tree, after: Tree, renames: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _git(folder, "init", "-q")
        commits = []
        for tree in (before, after):
            _put(folder, tree)
            _git(folder, "add", "-A")
            _git(folder, "commit", "-qm", "x", "--allow-empty")
            commits.append(_git(folder, "rev-parse", "HEAD").decode().strip())
        find = "-M10%" if renames else "--no-renames"
        diff = _git(folder, "diff", find, "--text", *commits).decode()
        back = reverse_diff(diff)
        assert bool(back) == bool(diff)
        if diff:
            _git(folder, "apply", "--whitespace=nowarn", "-", data=back.encode())
            assert _seen(folder) == before
            _git(folder, "apply", "--whitespace=nowarn", "-", data=reverse_diff(back).encode())
            assert _seen(folder) == after
            touched = {path for file in read_diff(diff) for path in (file.old_path, file.new_path) if path}
            assert touched == {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


@needs_git
def test_a_rename_with_a_change_is_reversed(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(30)).encode()
    _git(tmp_path, "init", "-q")
    _put(tmp_path, {"old name": (lines, False)})
    _git(tmp_path, "add", "-A")
    _git(tmp_path, "commit", "-qm", "x")
    _put(tmp_path, {"new/näme": (lines + b"more\n", True)})
    _git(tmp_path, "add", "-A")
    diff = _git(tmp_path, "diff", "-M", "--cached").decode()
    assert "rename from old name" in diff
    _git(tmp_path, "apply", "-", data=reverse_diff(diff).encode())
    assert _seen(tmp_path) == {"old name": (lines, False)}


@pytest.mark.parametrize(
    ("diff", "message"),
    [
        ("--- a/x\n+++ b/x\n", "has no hunks"),
        ("--- a/x\n+++ b/x\n@@ -1,3 +1 @@\n-a\n", "has not the lines"),
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n?a\n", "is no part of its hunk"),
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\nmore\n", "belongs to no file: 'more'"),
        ("diff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n", "changes a binary file"),
        ("diff --git a/x b/y\ncopy from x\ncopy to y\n", "copies a file"),
        ("diff --git what\n", "does not say which file"),
    ],
)
def test_patches_that_cannot_be_reversed(diff: str, message: str) -> None:
    with pytest.raises(DiffFormatError, match=message):
        [file.new_path for file in read_diff(diff)]
        reverse_diff(diff)
