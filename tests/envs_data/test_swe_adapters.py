"""Training rows of R2E-Gym, SWE-Gym and SWE-smith."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envs_data.swebench.adapters import read_row
from envs_data.swebench.diffs import read_diff
from envs_data.swebench.fields import Fields, InstanceFieldError
from envs_data.swebench.instance import Instance
from envs_data.swebench.legacy import Completion, LegacyRowError
from envs_data.swebench.trainable import evaluation_set

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def _read(row: dict[str, Any], dataset: str | None = None, **completion: Any) -> Instance:
    return read_row(Fields(row, "rows: row 1"), Completion(**completion), dataset)


# --- SWE-smith ---------------------------------------------------------------------------------------------------

BUG = (
    "diff --git a/pkg/a.py b/pkg/a.py\nindex 1111111..2222222 100644\n--- a/pkg/a.py\n+++ b/pkg/a.py\n"
    "@@ -1,2 +1,2 @@\n def f():\n-    return 1\n+    return 2\n"
)
SMITH: dict[str, Any] = {
    "instance_id": "owner__name.0a1b2c3d.func_basic__x1",
    "repo": "swesmith/owner__name.0a1b2c3d",
    "image_name": "swebench/swesmith.x86_64.owner_1776_name.0a1b2c3d",
    "patch": BUG,
    "FAIL_TO_PASS": ["tests/test_a.py::test_f"],
    "PASS_TO_PASS": ["tests/test_a.py::test_g", "tests/test_b.py::test_h"],
    "problem_statement": "f is wrong",
}


def test_swesmith_rows() -> None:
    instance = _read(SMITH)
    assert (instance.dataset, instance.base_commit) == ("swe-smith", "HEAD")
    assert instance.extra["setup_patch"] == BUG and "-    return 2\n+    return 1\n" in instance.patch
    assert "index 2222222..1111111 100644" in instance.patch
    assert instance.PASS_TO_PASS == ("tests/test_a.py::test_g",), "only of files that are run"
    assert "pytest -rA --disable-warnings --color=no --tb=no tests/test_a.py\n" in instance.eval_script
    assert "git checkout HEAD tests/test_a.py\n" in instance.eval_script
    assert evaluation_set(instance) is None
    assert instance.image == SMITH["image_name"]
    assert _read(SMITH, namespace="me").image == "me/swesmith.x86_64.owner_1776_name.0a1b2c3d"
    bare = SMITH | {"image_name": "swesmith.x86_64.owner__name.0a1b2c3d"}
    assert _read(bare).image == "jyangballin/swesmith.x86_64.owner_1776_name.0a1b2c3d"
    assert "- tests/test_a.py::test_f\n" in _read(SMITH | {"problem_statement": ""}).problem_statement


def test_swesmith_rows_that_do_not_fit() -> None:
    go = SMITH | {"FAIL_TO_PASS": ["TestThing/sub"]}
    with pytest.raises(LegacyRowError, match="not pytest's; give a file of specs"):
        _read(go)
    specs = {str(SMITH["repo"]): {"test_cmd": "go test -v ./...", "log_parser": "parse_log_gotest"}}
    assert "\ngo test -v ./...\n" in _read(go, specs=specs).eval_script
    with pytest.raises(InstanceFieldError, match=r"field 'patch'.*can be reversed"):
        _read(SMITH | {"patch": BUG[:-20]})
    with pytest.raises(InstanceFieldError, match="is no path of a file"):
        _read(SMITH | {"FAIL_TO_PASS": ["../evil.py::test"]})
    assert "'tests/a; rm -rf b.py'" in _read(SMITH | {"FAIL_TO_PASS": ["tests/a; rm -rf b.py::t"]}).eval_script


# --- SWE-Gym -----------------------------------------------------------------------------------------------------


def _gym(repo: str, **change: Any) -> dict[str, Any]:
    file = "tests/test_a.py"
    test_patch = f"diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-a\n+b\n"
    return {
        "instance_id": f"{repo.replace('/', '__')}-12",
        "repo": repo,
        "base_commit": "0" * 40,
        "patch": BUG,
        "test_patch": test_patch,
        "problem_statement": "wrong",
        "hints_text": "",
        "version": "4.0",
        "created_at": "2022-01-01",
        "FAIL_TO_PASS": ["tests/test_a.py::test_f"],
        "PASS_TO_PASS": [],
        **change,
    }


def test_swegym_rows() -> None:
    instance = _read(_gym("Project-MONAI/MONAI"))
    assert (instance.dataset, instance.image) == (
        "swe-gym",
        "xingyaoww/sweb.eval.x86_64.project-monai_s_monai-12:latest",
    )
    assert "\npytest -rA tests/test_a.py\n" in instance.eval_script and "conda activate" in instance.eval_script
    assert evaluation_set(instance) is None
    specs = {"getmoto/moto": {"test_cmd": "pytest -n0 -rA"}}
    assert "\npytest -n0 -rA tests/test_a.py\n" in _read(_gym("getmoto/moto"), specs=specs).eval_script
    names = ["mypy/test/testcheck.py::TypeCheckSuite::check-a.test::testOne"]
    mypy = _read(_gym("python/mypy", FAIL_TO_PASS=names, PASS_TO_PASS=[names[0] + "Two"]))
    assert "\npytest -rA mypy/test/testcheck.py -k 'testOne or testOneTwo'\n" in mypy.eval_script
    with pytest.raises(LegacyRowError):
        _read(_gym("owner/other"))
    assert _read(_gym("owner/other"), "swe-gym").dataset == "swe-gym"
    with pytest.raises(InstanceFieldError, match="unknown dataset 'x'; known: swebench"):
        _read(SMITH, "x")


# --- R2E-Gym -----------------------------------------------------------------------------------------------------


def _diff(path: str, *lines: tuple[str, str], old: int = 1, misc: str | None = None) -> dict[str, Any]:
    descriptor = {"old_range": {"start": old, "length": old}, "new_range": {"start": 1, "length": 1}, "section": ""}
    all_lines = [{"type": kind, "content": text} for kind, text in lines]
    hunks = [{"descriptor": descriptor, "line_group": {"all_lines": all_lines}}]
    return {"header": {"file": {"path": path}, "misc_line": misc}, "hunks": hunks, "is_binary_file": False}


def _r2e(**change: Any) -> dict[str, Any]:
    commit, note = "c" * 40, ("note", "No newline at end of file")
    files = [
        _diff("pkg/a.py", ("deleted", "x = 1"), ("added", "x = 2")),
        _diff("pkg/new.py", ("added", "y = 1"), note, old=0, misc="new file mode 100644"),
        _diff("tests/test_a.py", ("deleted", "a"), ("added", "b")),
    ]
    before = (
        "=== short test summary info ===\nPASSED r2e_tests/test_1.py::TestA::test_keeps\n"
        "FAILED r2e_tests/test_1.py::test_fix[a b] - boo\n"
    )
    row = {
        "repo_name": "pkg",
        "docker_image": f"namanjain12/pkg_final:{commit}",
        "commit_hash": commit,
        "problem_statement": "[ISSUE]\n**x** is one\n[/ISSUE]",
        "expected_output_json": json.dumps(
            {"TestA.test_keeps": "PASSED", "test_fix[a b]": "PASSED", "\x1b[1mtest_old\x1b[0m": "FAILED"}
        ),
        "parsed_commit_content": json.dumps({"file_diffs": files, "new_commit_hash": commit}),
        "execution_result_content": json.dumps({"old_commit_res_stdout": before}),
        "prompt": "the answer",
    }
    return row | change


def test_r2e_rows() -> None:
    instance = _read(_r2e())
    assert instance.instance_id == "pkg__" + "c" * 40 and instance.problem_statement == "**x** is one\n"
    assert (instance.FAIL_TO_PASS, instance.PASS_TO_PASS) == (("test_fix[a_b]",), ("TestA.test_keeps",))
    assert "answer" not in json.dumps([instance.row(), dict(instance.extra)])
    assert [file.new_path for file in read_diff(instance.patch)] == ["pkg/a.py", "pkg/new.py"]
    assert evaluation_set(instance) is None
    assert _read(_r2e(), namespace="me").image == instance.image.replace("namanjain12/", "me/")
    blind = _read(_r2e(execution_result_content=None))
    assert set(blind.FAIL_TO_PASS) == {"TestA.test_keeps", "test_fix[a_b]"} and blind.PASS_TO_PASS == ()


@needs_git
def test_the_solution_of_an_r2e_row_applies(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("x = 1\n")
    subprocess.run(["git", "apply", "-"], input=_read(_r2e()).patch, text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "pkg" / "a.py").read_text() == "x = 2\n"
    assert (tmp_path / "pkg" / "new.py").read_text() == "y = 1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expected_output_json": "[]"}, "field 'expected_output_json' is a list; expected an object"),
        ({"expected_output_json": '{"a": "FAILED"}'}, "a test that the commit makes pass"),
        ({"expected_output_json": '{"a": 1}'}, "test names and statuses"),
        ({"parsed_commit_content": "{"}, "field 'parsed_commit_content'"),
        ({"parsed_commit_content": "{}"}, "'file_diffs'"),
        ({"parsed_commit_content": {"file_diffs": [7]}}, "headers and hunks"),
        ({"parsed_commit_content": {"file_diffs": [_diff("../a.py", ("added", "x"), old=0)]}}, "is no path"),
        ({"docker_image": "x y"}, "field 'docker_image'"),
        ({"commit_hash": "$(reboot)"}, "field 'commit_hash'"),
    ],
)
def test_r2e_rows_that_do_not_fit(change: dict[str, object], message: str) -> None:
    with pytest.raises(InstanceFieldError, match=message):
        _read(_r2e(**change))


TESTS = """
import pytest
class TestA:
    def test_keeps(self): pass
@pytest.mark.parametrize("x", ["a b"])
def test_fix(x):
    assert {right}, "a - message with - dashes"
def test_old(): assert False
"""


@needs_git
@pytest.mark.skipif(shutil.which("sed") is None, reason="sed is not installed")
@pytest.mark.parametrize("right", [True, False])
def test_an_r2e_script_is_graded_by_swebench(tmp_path: Path, right: bool) -> None:
    """The image's own runner, with colours, and the log as the official grading reads it."""
    grading, utils = pytest.importorskip("swebench.harness.grading"), pytest.importorskip("swebench.harness.utils")
    instance = _read(_r2e())
    testbed, tests = tmp_path / "testbed", tmp_path / "r2e_tests"
    testbed.mkdir()
    tests.mkdir()
    (tests / "test_1.py").write_text(TESTS.replace("{right}", str(right)))
    command = f"{sys.executable} -m pytest -p no:cacheprovider --color=yes -rA -c /dev/null --rootdir=. r2e_tests\n"
    (testbed / "run_tests.sh").write_text(command)
    spec = utils.make_test_spec(instance.row())
    script = spec.eval_script.replace("/root/", f"{tmp_path}/root/")
    script = script.replace("/testbed", str(testbed)).replace("/r2e_tests /", f"{tests} /")
    done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (tmp_path / "log").write_text(done.stdout)
    prediction = {"instance_id": instance.instance_id, "model_patch": "x", "model_name_or_path": "x"}
    report = grading.get_eval_report(spec, prediction, str(tmp_path / "log"), True)[instance.instance_id]
    assert report["resolved"] is right, done.stdout
    assert report["tests_status"]["PASS_TO_PASS"]["success"] == ["TestA.test_keeps"]
    assert len(report["tests_status"]["FAIL_TO_PASS"]["success"]) == right
