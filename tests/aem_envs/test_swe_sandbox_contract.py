"""What every kind of sandbox promises: the same tests for all."""

# ruff: noqa: F811  # fixtures are imported, then named as arguments

import io
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from swe_rooms import any_box, box, kind, opened, repository, small_repository, start, walled  # noqa: F401

from aem_envs.swebench.sandbox import PatchTooLargeError, SandboxError

with suppress(ImportError):
    from swe_docker import docker_base, docker_room  # noqa: F401


def test_a_command_has_output_exit_code_and_folder(kind, box):
    assert box.isolation == kind.rpartition("/")[2]
    result = box.run("pwd; echo wrong >&2; ls; exit 7", timeout=20)
    assert result.output == f"{box.repository}\nwrong\nREADME.md\npkg\n"
    assert (result.exit_code, result.stopped) == (7, None)
    assert 0 < result.seconds < 20
    assert box.run("kill -9 $$", timeout=20).exit_code == 128 + 9
    assert box.run("cat; exit 3", timeout=20).exit_code == 3, "there is no input to wait for"
    assert box.run("no-such-program", timeout=20).exit_code == 127
    assert box.run("printf 'a\\xff\\0b'", timeout=20).output == "a\ufffd\0b"
    assert box.run("", timeout=20).exit_code == 0
    assert box.run("python3 -c 'print(1)'; git --version", timeout=20).exit_code == 0


def test_commands_share_files_and_nothing_else(box):
    box.run("cd pkg; export A=1; echo new > file; mkdir -p ../deep/er; cd ../deep/er", timeout=20)
    assert box.run("pwd; echo $A; cat pkg/file", timeout=20).output == f"{box.repository}\n\nnew\n"


def test_nothing_of_the_parent_is_seen(monkeypatch, request, opened, kind):
    walled(kind)
    monkeypatch.setenv("AEM_TEST_SECRET", "s3cret-word")
    box = opened(kind)
    seen = box.run("env; cat /proc/[0-9]*/environ /proc/1/cmdline | tr '\\0' '\\n'; exit 0", timeout=20).output
    assert "s3cret" not in seen
    assert "PATH=" in seen
    assert box.run("cat /proc/1/environ; ls /proc/1/fd/ /proc/$PPID/fd/", timeout=20).exit_code != 0
    assert box.run("head -c 1 /proc/$PPID/mem", timeout=20).exit_code != 0


def test_put_and_get(any_box):
    data = bytes(range(256)) * 300
    any_box.put("new/folder/file.bin", data)
    assert any_box.get("new/folder/file.bin") == data
    assert any_box.get(f"{any_box.repository}/new/folder/file.bin", limit=len(data)) == data
    any_box.put("new/folder/file.bin", b"")
    assert any_box.get("new/folder/file.bin") == b""
    for path, limit in (("missing", 10), ("pkg", 10), ("README.md", 5)):
        with pytest.raises(SandboxError):
            any_box.get(path, limit=limit)
    with pytest.raises(SandboxError):
        any_box.put("pkg", b"")
    assert any_box.get("pkg/numbers.py") == b"def double(x):\n    return x + x\n"


def test_get_takes_only_regular_files(box):
    box.run("ln -s README.md link; mkfifo fifo; ln -s /dev/zero zero; truncate -s 40M large", timeout=20)
    for path in ("link", "fifo", "zero", "/dev/zero", "large"):
        with pytest.raises(SandboxError):
            box.get(path)
    box.run("rm link; ln -s /tmp/elsewhere link", timeout=20)
    box.put("link", b"new")
    assert box.get("link") == b"new"
    assert box.run("test -e /tmp/elsewhere", timeout=20).exit_code == 1


def pristine(box, folder):
    """The repository as it is now, on this machine."""
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(box.snapshot())) as archive:
        archive.extractall(folder, filter="tar")
    return folder


def applied(folder, patch):
    """Apply a patch; contents, links and executable files then, and what git lists as changed."""
    subprocess.run(["git", "-C", str(folder), "apply", "--binary", "-"], input=patch, check=True)
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = path.readlink()
        elif path.is_file() and not name.startswith(".git/"):
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found


def test_diff_of_any_kind(any_box, tmp_path):
    assert any_box.diff() == b""
    folder = repository(tmp_path / "pristine")
    any_box.put("pkg/numbers.py", b"def double(x):\r\n    return 2 * x")
    any_box.put("new file.txt", b"one\ntwo\n")
    any_box.put("data.bin", bytes(range(256)))
    any_box.put("pkg/__pycache__/numbers.pyc", b"no")
    found = applied(folder, any_box.diff())
    assert found["pkg/numbers.py"] == (b"def double(x):\r\n    return 2 * x", False)
    assert found["new file.txt"] == (b"one\ntwo\n", False)
    assert found["data.bin"] == (bytes(range(256)), False)
    assert not [name for name in found if name.endswith(".pyc")]


_CHANGES = """
rm README.md; printf 'x = 1' > pkg/numbers.py; chmod +x pkg/__init__.py; printf '\\0\\1\\377' > bin.dat
mkdir -p 'a b/c' .pytest_cache; echo "ümlaut" > 'a b/c/ü.txt'; ln -s ../pkg/numbers.py 'a b/link'
echo no > x.log; echo no > y.pyc; echo no > .pytest_cache/v; mkfifo fifo; echo closed > closed; chmod 0 closed
"""


def test_diff_holds_all_changes_and_applies(box, tmp_path):
    folder = pristine(box, tmp_path / "pristine")
    assert box.run(_CHANGES, timeout=20).exit_code == 0
    found = applied(folder, box.diff())
    assert {name: value for name, value in found.items() if name != ".gitignore"} == {
        "pkg/numbers.py": (b"x = 1", False),
        "pkg/__init__.py": (b"", True),
        "bin.dat": (b"\0\1\xff", False),
        "a b/c/ü.txt": ("ümlaut\n".encode(), False),
        "a b/link": Path("../pkg/numbers.py"),
        "closed": (b"closed\n", False),
    }


_HOSTILE_GIT = """
git config core.fsmonitor 'touch /tmp/owned'; git config core.hooksPath hooks
git config diff.external 'touch /tmp/owned'
git config filter.f.clean 'touch /tmp/owned'; git config diff.d.textconv 'touch /tmp/owned'; git config core.bare true
git config --global diff.noprefix true; git config --global core.excludesFile /testbed/pkg/numbers.py
mkdir hooks; printf '#!/bin/sh\\ntouch /tmp/owned\\n' > hooks/post-index-change; chmod +x hooks/*
printf '* filter=f diff=d -text\\n*.py binary\\n' > .gitattributes; cp .gitattributes pkg/
echo 'numbers.py' > .git/info/exclude; echo '*.py -diff' > .git/info/attributes
echo 'y = 1' > pkg/numbers.py; git update-index --assume-unchanged pkg/numbers.py
mkdir -p sub/pkg; cd sub; git init -q; echo z > pkg/z; echo gitdir: /nowhere > pkg/.git; ln -s / root; cd ..
rm -rf .git/objects; echo broken > .git/HEAD; mkdir -p new/.git; echo w > new/w
"""


def test_git_of_the_room_has_no_say_in_the_diff(box, tmp_path):
    folder = pristine(box, tmp_path / "pristine")
    box.run(_HOSTILE_GIT, timeout=20)
    patch = box.diff()
    assert b"-def double(x):\n-    return x + x\n+y = 1\n" in patch, "binary, were the room's attributes read"
    found = applied(folder, patch)
    assert found["pkg/numbers.py"] == (b"y = 1\n", False)
    assert found["sub/pkg/z"] == (b"z\n", False)
    assert found["new/w"] == (b"w\n", False)
    assert str(found["sub/root"]) == "/"
    assert found["pkg/.gitattributes"][0].startswith(b"* filter=f")
    assert box.run("ls /tmp/owned", timeout=20).exit_code != 0
    assert box.run("rm -rf .git; ls -a", timeout=20).output.count(".aem") == 0
    assert box.diff() == patch, "without .git, too"


def test_a_repository_that_was_shut_is_opened(box, tmp_path):
    folder = pristine(box, tmp_path / "pristine")
    saved = box.snapshot()
    box.run("echo y > new; chmod 0 .", timeout=20)
    assert applied(folder, box.diff())["new"] == (b"y\n", False)
    box.run("chmod 0 /testbed 2>/dev/null || chmod 0 .", timeout=20)
    assert box.snapshot()
    box.run("chmod 0 /testbed 2>/dev/null || chmod 0 .", timeout=20)
    box.restore(saved)
    assert box.diff() == b""


def test_a_patch_that_is_too_large_is_named(kind, opened):
    box = opened(kind, output_bytes=100_000)
    box.run("head -c 300000 /dev/urandom > large", timeout=20)
    with pytest.raises(PatchTooLargeError):
        box.diff()
    assert box.run("rm large", timeout=20).exit_code == 0
    assert box.diff() == b""


def test_diff_of_an_emptied_repository(box, tmp_path):
    folder = pristine(box, tmp_path / "pristine")
    box.run("rm -rf * .git .gitignore", timeout=20)
    assert applied(folder, box.diff()) == {}


def test_snapshot_and_restore(any_box, tmp_path):
    any_box.put("pkg/new.py", b"1\n")
    saved, patch = any_box.snapshot(), any_box.diff()
    any_box.put("pkg/new.py", b"2\n")
    any_box.put("pkg/other.py", b"3\n")
    any_box.restore(saved)
    assert any_box.diff() == patch
    assert any_box.get("pkg/new.py") == b"1\n"
    with pytest.raises(SandboxError):
        any_box.get("pkg/other.py")
    with pytest.raises(SandboxError):
        any_box.restore(b"no archive at all" * 100)


def test_snapshot_holds_git_links_and_modes(box):
    box.run("chmod +x README.md; ln -s README.md link; mkdir shut; echo x > shut/file; chmod 0 shut", timeout=20)
    saved = box.snapshot()
    box.run("chmod 700 shut; rm -rf * .git; mkdir -p README.md/a; chmod 0 README.md", timeout=20)
    box.restore(saved)
    found = box.run("test -x README.md; readlink link; cat shut/file; git log --format=%s", timeout=20)
    assert found.output == "README.md\nx\none\n"


def test_start_again_and_close(any_box):
    any_box.put("new", b"1")
    start(any_box)
    assert any_box.diff() == b""
    any_box.close()
    any_box.close()
    for call in (any_box.diff, lambda: any_box.run("true", timeout=5), lambda: any_box.get("new")):
        with pytest.raises(SandboxError):
            call()
