"""What a row of any file makes of a task, and what experts make of any patch."""

import subprocess

import pytest

from aem_envs.swebench.expert import LineExpert, apply_commands, sed_commands
from aem_envs.swebench.protect import Change
from aem_envs.swebench.task import task_of
from envs_data.swebench.instance import Instance

PATCH = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-a = 1\n+a = 2\n"


def instance(**extra):
    names = ("instance_id", "repo", "base_commit", "problem_statement")
    row = {name: name for name in names} | {"patch": PATCH, "test_patch": "", "version": "1", "image": "i"}
    return Instance(**row, FAIL_TO_PASS=("t",), PASS_TO_PASS=(), eval_script="true", log_parser="p", extra=extra)


def test_rows_say_where_fixes_lie():
    task = task_of(instance(source=["src"], tests=["src/checks"], hidden_paths=["/h"], task_type="typo"), "train")
    assert (task.task_type, task.protection.sources, task.protection.hidden) == ("typo", ("src",), ("/h",))
    assert task.protection.drops(Change("b.py", new=False, link=False))
    assert task.protection.drops(Change("src/checks/x.txt", new=True, link=False))
    assert not task.protection.drops(Change("src/b.py", new=False, link=False))


@pytest.mark.parametrize("other", ["github", 3, None, {"a": 1}, [1], [""], True])
def test_fields_of_other_data_that_bear_these_names_decide_nothing(other):
    task = task_of(instance(source=other, tests=other, hidden_paths=other, task_type=[other]), "test")
    assert task.task_type == "repo" and task.protection.sources is None and task.protection.hidden == ()
    assert not task.protection.drops(Change("b.py", new=False, link=False))


@pytest.mark.parametrize(
    ("old", "new"),
    [("a = 1\n\nb = 2\n", "a = 1\nc = 3\nb = 2\n"), ("a = 1\r\n", "a = 2\r\n"), ("a = '\f1'\n", "a = '\f2'\n")],
    ids=["an empty line", "Windows line ends", "a form feed"],
)
def test_what_no_short_command_can_say_is_applied_as_a_patch(tmp_path, old, new):
    git = ["git", "-c", "core.autocrlf=false", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    file = tmp_path / "a.py"
    file.write_bytes(old.encode())
    subprocess.run([*git, "add", "a.py"], check=True)
    file.write_bytes(new.encode())
    patch = subprocess.run([*git, "diff"], check=True, capture_output=True).stdout.decode()
    file.write_bytes(old.encode())
    assert sed_commands(patch) == [] and LineExpert().plan(patch) == apply_commands(patch)
    for command in apply_commands(patch):
        command = command.replace("/tmp/patch.b64", f"{tmp_path}/patch.b64")
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert file.read_bytes() == new.encode()
