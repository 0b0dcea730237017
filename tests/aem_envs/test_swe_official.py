"""Official rows in a container: an image with a history, as SWE-bench's own are; nothing of the fix is left in it."""

import json
from uuid import uuid4

import gymnasium as gym
import pytest
from swe_docker import docker_base, git, image_with_testbed  # noqa: F401  # a fixture among them

from aem_envs.core import BadOptionError
from aem_envs.swebench.expert import apply_commands
from aem_envs.swebench.sandbox.docker_exec import client
from envs_data.errors import DataError

pytest.importorskip("swebench")
BROKEN, FIXED = "def double(x):\n    return x + 1\n", "def double(x):\n    return x + x  # doubled_at_last\n"
CHECK = """import sys
sys.path.insert(0, '/testbed')
from calc import double
for name, held in (('test_two', double(2) == 4), ('test_one', double(1) == 2)):
    print('PASSED' if held else 'FAILED', f'checks.py::{name}')
sys.exit(0 if double(2) == 4 else 1)
"""


@pytest.fixture(scope="module")
def rows(docker_base, tmp_path_factory):  # noqa: F811
    """A file with one row of swebench 5.x, whose image holds the fix in a later commit and in a stash."""
    folder = tmp_path_factory.mktemp("official") / "testbed"
    folder.mkdir()
    (folder / "calc.py").write_text(BROKEN)
    (folder / "checks.py").write_text(CHECK.replace("double(2) == 4", "True"))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "base")
    base = git(folder, "rev-parse", "HEAD")
    (folder / "calc.py").write_text(FIXED)
    patch = git(folder, "diff") + "\n"
    git(folder, "commit", "-q", "-a", "-m", "the fix")
    git(folder, "tag", "v2")
    git(folder, "remote", "add", "origin", "https://example.org/calc.git")
    git(folder, "checkout", "-q", base)
    (folder / "checks.py").write_text(CHECK)
    test_patch = git(folder, "diff") + "\n"
    git(folder, "checkout", "-q", "--", ".")
    image = f"aem-tests-official:{uuid4().hex[:12]}"
    image_with_testbed(docker_base, folder, image)
    script = f"""#!/bin/bash
set -uxo pipefail
cd /testbed
git checkout {base} checks.py
git apply -v - <<'EOF_1'
{test_patch.rstrip(chr(10))}
EOF_1
: '>>>>> Start Test Output'
python3 checks.py
: '>>>>> End Test Output'
git checkout {base} checks.py
"""
    row = {
        "instance_id": "someone__calc-1",
        "repo": "someone/calc",
        "base_commit": base,
        "problem_statement": "double(2) is 3",
        "hints_text": "",
        "created_at": "2020-01-01T00:00:00Z",
        "patch": patch,
        "test_patch": test_patch,
        "FAIL_TO_PASS": ["checks.py::test_two"],
        "PASS_TO_PASS": ["checks.py::test_one"],
        "version": "1",
        "image": image,
        "eval_script": script,
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
    }
    file = folder.parent / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    yield file
    client().remove_image(image, force=True)


@pytest.mark.slow
def test_a_row_is_played_and_graded_and_its_fix_cannot_be_read(rows):
    env = gym.make("aem/SWEBench-v0", source="official", data=str(rows), max_steps=20).unwrapped
    try:
        assert env.splits == ("test",) and env.task_ids("test") == ("someone__calc-1",)
        observation, info = env.reset(seed=0)
        assert "double(2) is 3" in observation and info["details"]["isolation"] == "docker"
        assert env.step("git log --all --oneline | wc -l; git tag; git remote; git stash list; git reflog")[
            0
        ].startswith("1\n")
        everything = env.step(
            "git cat-file --batch --batch-all-objects | tr -d '\\0'; "
            "grep -rs doubled_at_last /testbed /opt /tmp /home /var | head"
        )
        assert "doubled_at_last" not in everything[0] and "return x + 1" in everything[0]
        assert "1000" in env.step("id -u")[0]
        env.step("printf 'print(1)' > checks.py")
        env.step(apply_commands(env.task.instance.patch)[0])
        _, reward, _, _, info = env.step("submit")
        assert reward == 1.0 and info["details"]["dropped"] == ["checks.py"], info["details"]
        env.reset(seed=0)
        env.step("echo '# nothing' >> calc.py")
        assert env.step("submit")[1:3] == (0.0, True)
        assert env.data_hash("someone__calc-1") == info["data_hash"]
        env.require_trainable("test")  # it is of no evaluation set
    finally:
        env.close()


def test_evaluation_sets_are_not_trained_on(tmp_path):
    row = {
        "instance_id": "django__django-1",
        "repo": "django/django",
        "base_commit": "a" * 40,
        "problem_statement": "It breaks.",
        "patch": "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n",
        "test_patch": "--- a/tests/x.py\n+++ b/tests/x.py\n@@ -1 +1 @@\n-a\n+b\n",
        "FAIL_TO_PASS": ["t"],
        "PASS_TO_PASS": [],
        "version": "1",
        "image": "i",
        "eval_script": "true",
        "log_parser": "parse_log_django",
        "eval_type": "pass_and_fail",
        "difficulty": "<15 min fix",
    }
    (tmp_path / "verified.jsonl").write_text(json.dumps(row) + "\n")
    options = {"source": "official", "data": str(tmp_path / "verified.jsonl")}
    with pytest.raises(DataError, match="Verified"):
        gym.make("aem/SWEBench-v0", **options).unwrapped.require_trainable("test")
    gym.make("aem/SWEBench-v0", **options, train_on_evaluation=True).unwrapped.require_trainable("test")
    with pytest.raises(BadOptionError, match="docker"):
        gym.make("aem/SWEBench-v0", **options, sandbox="local")
