"""Prepared images: made once, one commit, nothing of the history."""

import subprocess
import threading
from pathlib import Path

import pytest
from swe_docker import docker_base, docker_room, git, small_repository  # noqa: F401  # fixtures

from aem_envs.swebench import base_image, images
from aem_envs.swebench.image_scripts import SQUASH
from aem_envs.swebench.images import clean_images, image_commit, image_from_folder, prepared_image
from aem_envs.swebench.sandbox import Room, SandboxError, SandboxMissingError
from aem_envs.swebench.sandbox.docker import DockerSandbox
from aem_envs.swebench.sandbox.docker_exec import client

FIX = "def double(x):\n    return 2 * x\n"


@pytest.fixture
def foreign(docker_base, tmp_path):  # noqa: F811
    """An image as others make them: root's repository with history, and the commit that holds the fix."""
    repository = small_repository(tmp_path / "repository")
    (repository / "kept.log").write_text("ignored\n")
    (repository / "sub").mkdir()
    small_repository(repository / "sub", {"f.py": "1\n"})
    git(repository, "checkout", "-q", "-b", "fix")
    (repository / "pkg/numbers.py").write_text(FIX)
    git(repository, "commit", "-qam", "the fix")
    fix = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "v2")
    git(repository, "remote", "add", "origin", "https://example.invalid/x")
    git(repository, "checkout", "-q", "main")
    (repository / ".git/hooks").mkdir(exist_ok=True)
    (repository / ".git/hooks/post-checkout").write_text("#!/bin/sh\ntouch /hooked\n")
    name = f"aem-test-foreign:{fix[:12]}"
    tar = subprocess.run(["tar", "-C", str(tmp_path), "-c", "repository"], check=True, capture_output=True).stdout
    api = client()
    made = api.create_container(
        docker_base, ["bash", "-c", "rm -rf /testbed; mv /repository /testbed; chown -R 0:0 /testbed"]
    )
    try:
        api.put_archive(made["Id"], "/", tar)
        api.start(made["Id"])
        assert api.wait(made["Id"])["StatusCode"] == 0
        api.commit(made["Id"], *name.split(":"))
        yield name, fix
    finally:
        api.remove_container(made["Id"], force=True)
        _remove(name)


def _remove(name):
    client().remove_image(name, force=True)


def _inside(image, command, **options):
    sandbox = DockerSandbox(Room(image=image), **options)
    sandbox.start()
    try:
        return sandbox.run(command, timeout=20), sandbox.diff()
    finally:
        sandbox.close()


def test_history_is_squashed_and_the_second_call_does_nothing(foreign):
    source, fix = foreign
    said = []
    image = prepared_image(source, script=SQUASH, key="k", progress=said.append)
    try:
        assert said
        number = client().inspect_image(image)["Id"]
        assert prepared_image(source, script=SQUASH, key="k", progress=pytest.fail) == image
        assert client().inspect_image(image)["Id"] == number
        look = (
            "git log --all --oneline | wc -l; git remote; git tag; git reflog; git stash list; find / -xdev -path "
            f"'*/git/logs*' 2>/dev/null; ls .git/hooks .git/logs 2>/dev/null; for d in .git /opt/aem/git; do git -C $d "
            f"cat-file -e {fix} 2>/dev/null && echo found; done; git rev-parse HEAD; cat kept.log; cat sub/f.py; "
            "ls /hooked 2>/dev/null; git status --short; grep -r 2 pkg"
        )
        found, patch = _inside(image, look)
        assert found.output.split() == ["1", image_commit(image), "ignored", "1"] and patch == b""
        _remove(image)
        assert prepared_image(source, script=SQUASH, key="k") == image
        assert image_commit(image) == found.output.split()[1]  # the same commit each time
        config = client().inspect_image(image)["Config"]
        assert not config["Entrypoint"] and not config.get("OpenStdin") and config["User"] in ("", "root")
        assert config["Labels"]["aem.suite"] == "image" and "aem.owner" not in config["Labels"]
    finally:
        _remove(image)


def test_a_source_that_has_changed_is_prepared_again(foreign, docker_base):  # noqa: F811
    source, _ = foreign
    image = prepared_image(source, script=SQUASH, key="changed")
    first = image_commit(image)
    api = client()
    try:
        made = api.create_container(source, ["bash", "-c", "echo more >>/testbed/README.md"])
        api.start(made["Id"])
        api.wait(made["Id"])
        api.commit(made["Id"], *source.split(":"))
        api.remove_container(made["Id"])
        assert prepared_image(source, script=SQUASH, key="changed") == image and image_commit(image) != first
    finally:
        _remove(image)


def test_folders_tools_and_settings(docker_base, tmp_path):  # noqa: F811
    repository = small_repository(tmp_path / "repository")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "hello").write_text("#!/bin/sh\necho hello\n")
    (tools / "hello").chmod(0o700)
    env = {"GREETING": 'a "b" $HOME', "PATH": "/opt/tools:/usr/bin:/bin:/usr/local/bin"}
    settings = {"key": "tests: tools", "read_only": {"/opt/tools": tools}, "env": env}
    image = image_from_folder(docker_base, repository, **settings)
    try:
        assert image_from_folder(docker_base, repository, **settings, progress=pytest.fail) == image
        found, _ = _inside(image, 'hello; echo "$GREETING"; python -V; touch /opt/tools/x pkg/y; ls -a')
        assert found.output.startswith('hello\na "b" $HOME\nPython 3') and "/opt/tools/x" in found.output
        assert "pkg/y" not in found.output
        # as `swebench eval` runs things: root, bash, git in a folder that is another's
        made = client().create_container(image, ["/bin/bash", "-c", "cd /testbed && git status && git diff HEAD"])
        client().start(made["Id"])
        assert client().wait(made["Id"])["StatusCode"] == 0
        client().remove_container(made["Id"])
    finally:
        _remove(image)


def test_threads_that_need_the_same_image_make_it_once(docker_base, tmp_path):  # noqa: F811
    repository = small_repository(tmp_path / "repository")
    said, names = [], []

    def make():
        names.append(image_from_folder(docker_base, repository, key="tests: threads", progress=said.append))

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    try:
        assert len(names) == 3 and len(set(names)) == 1
        assert not client().containers(all=True, filters={"name": images._PREPARING + names[0].split(":")[1]})
    finally:
        _remove(names[0])


def test_failures_say_what_the_script_said(docker_room):  # noqa: F811
    with pytest.raises(SandboxError, match=r"\(7\): it broke"):
        prepared_image(docker_room.image, script="echo it broke >&2; exit 7", key="broken")
    with pytest.raises(SandboxMissingError, match="docker load"):
        prepared_image("localhost:1/no/such:image", script="true", key="none")


def test_clean_images_removes_ours_only(foreign, monkeypatch):
    source, _ = foreign
    image = prepared_image(source, script=SQUASH, key="clean")
    only = [entry for entry in client().images(filters={"label": "aem.suite=image"}) if image in entry["RepoTags"]]
    assert len(only) == 1
    real = client().images
    monkeypatch.setattr(
        client(), "images", lambda **options: [one for one in real(**options) if one["Id"] == only[0]["Id"]]
    )
    assert clean_images() == [image]
    monkeypatch.undo()
    assert images.image_id(image) is None and images.image_id(source) is not None


def test_a_base_of_ones_own_is_looked_at(docker_base, monkeypatch):  # noqa: F811
    bad = prepared_image(docker_base, script="rm $(command -v git)", key="tests: no git")
    try:
        monkeypatch.setenv(base_image.VARIABLE, bad)
        with pytest.raises(SandboxMissingError, match="it has no git"):
            base_image.base_image(Path("nowhere"))
        monkeypatch.setenv(base_image.VARIABLE, docker_base)
        assert base_image.base_image(Path("nowhere")) == docker_base
    finally:
        _remove(bad)


def test_without_any_base_the_ways_to_one_are_named(docker_base, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delenv(base_image.VARIABLE, raising=False)
    monkeypatch.setattr(base_image, "_RECIPE", "none")
    monkeypatch.setattr(base_image, "_PULLED", "localhost:1/python:none")
    monkeypatch.setattr(base_image.shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxMissingError, match=r"apt-get install debootstrap.*AEM_SWE_BASE"):
        base_image.base_image(tmp_path)
    monkeypatch.undo()
    monkeypatch.delenv(base_image.VARIABLE, raising=False)
    assert base_image.base_image(tmp_path, progress=pytest.fail).startswith("aem-swe-base:")
