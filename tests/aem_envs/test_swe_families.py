"""Rows of every family, in images laid out as theirs are: played with the gold patch and without, in containers."""

import json
from uuid import uuid4

import gymnasium as gym
import pytest
from swe_docker import docker_base, git, image_with_testbed  # noqa: F401  # a fixture among them

from aem_envs.swebench.expert import apply_commands
from aem_envs.swebench.sandbox.docker_exec import client
from envs_data.swebench.diffs import reverse_diff

pytest.importorskip("swebench")
SOUND, BROKEN = "def double(x):\n    return x + x\n", "def double(x):\n    return x + 1\n"
TEST = "from calc import double\n\n\ndef test_one():\n    assert double(1) == 2\n"
MORE = "\n\ndef test_two():\n    assert double(2) == 4\n"
PYTEST = """#!/usr/bin/env python3
import importlib.util, os, sys
sys.path[:0] = [os.getcwd(), os.path.join(os.getcwd(), "tests")]
print("== short test summary info ==")
for file in [word for word in sys.argv[1:] if word.endswith(".py")]:
    spec = importlib.util.spec_from_file_location("tested", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in [name for name in vars(module) if name.startswith("test_")]:
        try:
            vars(module)[name]()
            print("PASSED", f"{file}::{name}")
        except AssertionError:
            print("FAILED", f"{file}::{name} - assert False")
"""
RUN = "PYTHONWARNINGS=ignore pytest -rA r2e_tests/test_1.py\n"
CONDA = 'conda() { export AEM_CONDA="$2"; }\n'
PROGRAMS = (("usr/local/bin/pytest", PYTEST), ("opt/miniconda3/bin/activate", CONDA))
NAMES = {"FAIL_TO_PASS": ["tests/test_calc.py::test_two"], "PASS_TO_PASS": ["tests/test_calc.py::test_one"]}


def row_of_swebench(folder, image):
    """A row of 4.x: the image holds the broken state; a later commit the fix."""
    fix = change(folder, "calc.py", BROKEN, SOUND)
    test = change(folder, "tests/test_calc.py", TEST, TEST + MORE)
    shared = {"problem_statement": "double(2) is 3", "version": "1.0", "hints_text": "", "created_at": ""}
    return {"base_commit": git(folder, "rev-parse", "HEAD"), "patch": fix, "test_patch": test, **shared, **NAMES}


def swebench_4(folder, image):
    spec = {"test_cmd": "pytest -rA", "log_parser": "parse_log_pytest", "image": image}
    return {"instance_id": "someone__calc-1", "repo": "someone/calc", **row_of_swebench(folder, image)}, spec


def swe_gym(folder, image):
    return {"instance_id": "iterative__dvc-1", "repo": "iterative/dvc", **row_of_swebench(folder, image)}, {
        "image": image
    }


def swe_smith(folder, image):
    bug = reverse_diff(change(folder, "calc.py", BROKEN, SOUND))
    (folder / "calc.py").write_text(SOUND)
    (folder / "tests/test_calc.py").write_text(TEST + MORE)
    git(folder, "commit", "-q", "-a", "-m", "sound")
    git(folder, "branch", "someone__calc.1.bug__2")
    row = {"instance_id": "someone__calc.12345678.func__1", "repo": "swesmith/someone__calc.12345678", "patch": bug}
    return {**row, "image_name": image, "problem_statement": "", **NAMES}, None


def r2e_gym(folder, image):
    header = {"file": {"path": "calc.py"}, "misc_line": None}
    ranges = {"old_range": {"start": 2, "length": 1}, "new_range": {"start": 2, "length": 1}, "section": ""}
    lines = [
        {"type": "deleted", "content": "    return x + 1"},
        {"type": "added", "content": "    return x + x"},
    ]
    hunk = {"descriptor": ranges, "line_group": {"all_lines": lines}}
    (folder / "run_tests.sh").write_text(RUN)
    (folder / "r2e_tests").mkdir()
    (folder / "r2e_tests/test_1.py").write_text(TEST + MORE)
    before = "== short test summary info ==\nPASSED r2e_tests/test_1.py::test_one\nFAILED r2e_tests/test_1.py::test_two"
    return {
        "repo_name": "calc",
        "docker_image": image,
        "commit_hash": "a" * 40,
        "problem_statement": "[ISSUE]\ndouble(2) is 3\n[/ISSUE]",
        "expected_output_json": json.dumps({"test_one": "PASSED", "test_two": "PASSED"}),
        "parsed_commit_content": json.dumps({"file_diffs": [{"header": header, "hunks": [hunk]}]}),
        "execution_result_content": json.dumps({"old_commit_res_stdout": before}),
    }, None


def change(folder, name, old, new):
    """The patch that turns one file's text into another; the folder is left as it was."""
    (folder / name).write_text(new)
    patch = git(folder, "diff") + "\n"
    (folder / name).write_text(old)
    return patch


@pytest.fixture
def furnished(docker_base, tmp_path):  # noqa: F811
    """Makes the image and the file of a family's one row."""
    image = f"aem-tests/families:{uuid4().hex[:12]}"
    folder = tmp_path / "testbed"
    (folder / "tests").mkdir(parents=True)
    (folder / "calc.py").write_text(BROKEN)
    (folder / "tests/test_calc.py").write_text(TEST)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "base")

    def make(family):
        row, spec = family(folder, image)
        image_with_testbed(docker_base, folder, image, PROGRAMS)
        (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
        options = {"source": "official", "data": str(tmp_path / "rows.jsonl")}
        if spec:
            (tmp_path / "specs.json").write_text(json.dumps({row["repo"]: spec}))
            options["specs"] = str(tmp_path / "specs.json")
        return options

    yield make
    client().remove_image(image, force=True)


@pytest.mark.slow
@pytest.mark.parametrize("family", [swebench_4, swe_gym, swe_smith, r2e_gym], ids=lambda family: family.__name__)
def test_a_row_is_won_by_its_gold_patch_and_by_nothing_else(furnished, family):
    env = gym.make("aem/SWEBench-v0", **furnished(family), max_steps=20).unwrapped
    try:
        observation, _ = env.reset(seed=0)
        assert "double(2) is 3" in observation or "tests/test_calc.py::test_two" in observation
        assert env.splits == (("test",) if family is swebench_4 else ("train",))
        shown = env.step("git log --all --oneline | wc -l; git status --short; cat calc.py; ls")[0]
        assert shown.startswith("1\n") and "return x + 1" in shown and "return x + x" not in shown
        assert "run_tests.sh" not in shown and "r2e_tests" not in shown
        env.step("echo '# nothing' >> calc.py")
        _, reward, _, _, info = env.step("submit")
        assert reward == 0.0 and info["details"]["verdict"] == "unresolved"
        assert (info["details"]["fail_to_pass"], info["details"]["pass_to_pass"]) == (0.0, 1.0)
        env.reset(seed=0)
        for command in apply_commands(env.task.instance.patch):
            assert "[exit code 0]" in env.step(command)[0]
        _, reward, _, _, info = env.step("submit")
        assert reward == 1.0 and info["details"]["verdict"] == "resolved", info["details"]
    finally:
        env.close()
