"""Repositories of embedded tasks: fetched by hash, unpacked with care, committed to the same hash everywhere."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envs_data.swebench import sdists, toolbox
from envs_data.swebench.embedded import instance, task_ids
from envs_data.swebench.packages import PACKAGES, Package, UnknownPackageError, environment, is_source, package_named
from envs_data.swebench.pip import PipError
from envs_data.swebench.repository import RepositoryError, commit_folder, git, prepare_embedded
from envs_data.swebench.sdists import BadSdistError, MissingSdistError, fetch_sdist, unpack

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def fill(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "a.py").write_bytes(b"x = 1\r\n")
    (folder / "inner" / "run").write_text("#!/bin/sh\n")
    (folder / "inner" / "run").chmod(0o755)
    (folder / ".gitignore").write_text("ignored\n")
    (folder / ".gitattributes").write_text("*.py text eol=lf ident\n")
    (folder / "ignored").write_text("is committed too\n")
    return folder


@needs_git
def test_equal_contents_have_equal_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = fill(tmp_path / "one"), fill(tmp_path / "two")
    (two / "a.py").chmod(0o600)
    os.utime(two / "a.py", (1, 1))
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\n autocrlf = input\n[commit]\n gpgsign = true\n[user]\n name = Somebody\n")
    first = commit_folder(one)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert commit_folder(two) == first == "61b9808f99259348a1a12f314b7431e854ba136a"
    (tmp_path / "three").mkdir()
    fill(tmp_path / "three" / "x")
    (tmp_path / "three" / "x" / "a.py").write_text("x = 2\n")
    assert commit_folder(tmp_path / "three" / "x") != first


@needs_git
def test_a_commit_has_every_file_and_no_history(tmp_path: Path) -> None:
    folder = fill(tmp_path / "one")
    sha = commit_folder(folder)
    assert git(folder, "ls-files").split() == [b".gitattributes", b".gitignore", b"a.py", b"ignored", b"inner/run"]
    assert git(folder, "rev-list", "--all").split() == [sha.encode()]
    assert git(folder, "cat-file", "blob", "HEAD:a.py") == b"x = 1\r\n"
    assert git(folder, "status", "--porcelain") == b""
    assert git(folder, "remote") == git(folder, "tag") == git(folder, "reflog") == b""
    assert not (folder / ".git" / "hooks").exists() and not (folder / ".git" / "logs").exists()


@needs_git
def test_a_repository_is_not_made_over_another(tmp_path: Path) -> None:
    folder = fill(tmp_path / "one")
    (folder / "inner" / ".git").mkdir()
    with pytest.raises(RepositoryError, match="inner holds a repository"):
        commit_folder(folder)


def archive(path: Path, members: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if change:
                change(info)
            tar.addfile(info, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package(sha: str = "0" * 64, **more: object) -> Package:
    return replace(PACKAGES["inflection"], name="small", version="1.0", sha256=sha, **more)  # type: ignore[arg-type]


def test_unpacking_keeps_to_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "small-1.0.tar.gz"
    archive(path, {"small-1.0/a.py": b"x", "other-1.0/b.py": b"y", "small-1.0/../c.py": b"z"})
    with pytest.raises(BadSdistError):
        unpack(package(), path, tmp_path / "out")
    assert not (tmp_path / "c.py").exists()


def test_links_in_an_archive_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "small-1.0.tar.gz"

    def link(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0

    archive(path, {"small-1.0/a.py": b""}, link)
    unpack(package(), path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_edits_are_made_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "small-1.0.tar.gz"
    archive(path, {"small-1.0/setup.cfg": b"one\ntwo\n"})
    unpack(package(edits=(("setup.cfg", "one\n", ""),)), path, tmp_path / "out")
    assert (tmp_path / "out" / "setup.cfg").read_bytes() == b"two\n"
    with pytest.raises(BadSdistError, match="not as expected"):
        unpack(package(edits=(("setup.cfg", "three", ""),)), path, tmp_path / "again")


def test_an_archive_in_the_cache_is_taken_if_it_is_the_pinned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(arguments: list[str]) -> None:
        raise AssertionError("pip was called")

    monkeypatch.setattr(sdists, "run_pip", never)
    (tmp_path / "sdists").mkdir()
    path = tmp_path / "sdists" / "small-1.0.tar.gz"
    sha = archive(path, {"small-1.0/a.py": b"x"})
    assert fetch_sdist(package(sha), tmp_path) == path
    with pytest.raises(BadSdistError, match=sha):
        fetch_sdist(package("1" * 64), tmp_path)


def test_offline_the_message_says_what_to_bring_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(arguments: list[str]) -> None:
        raise PipError("pip said: no network")

    monkeypatch.setattr(sdists, "run_pip", offline)
    monkeypatch.setattr(toolbox, "run_pip", offline)
    with pytest.raises(MissingSdistError) as error:
        fetch_sdist(package("ab" * 32), tmp_path)
    for part in ("small==1.0", "ab" * 32, "small-1.0.tar.gz", str(tmp_path / "sdists"), "no network"):
        assert part in str(error.value)
    with pytest.raises(toolbox.MissingToolboxError, match=r"pytest==.*wheels"):
        toolbox.toolbox(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sdists"] and not list((tmp_path / "sdists").iterdir())


def test_the_toolbox_stands_before_the_repository_and_pins_hashes() -> None:
    env = environment(PACKAGES["marshmallow"])
    assert env["PYTHONPATH"] == "/opt/aem/site:/testbed/src"
    assert environment(PACKAGES["toolz"])["PYTHONPATH"] == "/opt/aem/site:/testbed"
    lines = toolbox.requirements().splitlines()
    assert len(lines) >= 5 and all("==" in line and "--hash=sha256:" in line for line in lines)


def test_tests_are_no_source() -> None:
    toolz = package_named("toolz")
    assert is_source(toolz, "toolz/itertoolz.py")
    for path in ("toolz/tests/test_itertoolz.py", "toolz/_signatures.py", "tlz/_build_tlz.py", "toolz/a.pyx"):
        assert not is_source(toolz, path)
    with pytest.raises(UnknownPackageError, match="known: cachetools"):
        package_named("numpy")


@needs_git
@pytest.mark.slow
def test_a_task_is_prepared_from_pypi(tmp_path: Path) -> None:
    task_id = next(one for one in task_ids("train") if one.startswith("inflection"))
    try:
        prepare_embedded(instance(task_id), tmp_path / "repository", tmp_path)
        tools = toolbox.toolbox(tmp_path)
    except (MissingSdistError, toolbox.MissingToolboxError) as error:
        pytest.skip(f"the package index cannot be reached: {error}")
    made = instance(task_id)
    assert git(tmp_path / "repository", "rev-parse", "HEAD").decode().strip() == made.base_commit
    git(tmp_path / "repository", "apply", "--check", "-", data=made.patch.encode())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{tools / 'site'}"}
    command = [str(tools / "bin" / "pytest"), "--version"]
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == "pytest 9.2.0\n"
    with pytest.raises(RepositoryError, match="do not belong together"):
        prepare_embedded(replace(made, base_commit="0" * 40), tmp_path / "other", tmp_path)
    assert not (tmp_path / "other").exists()
