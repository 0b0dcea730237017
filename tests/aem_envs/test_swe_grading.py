"""Grading in fresh local sandboxes: swebench's verdict, what is dropped, what a nonce keeps out, whose fault it is."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from swe_tasks import LIMITS, a_task, files, fixed, graded, need_local, patch_of, rooms

from aem_envs.swebench import grading
from aem_envs.swebench.grading import GradingError, rebuilt, with_nonces
from aem_envs.swebench.sandbox import SandboxError, make_sandbox

pytest.importorskip("swebench")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _local():
    need_local()


def test_gold_is_resolved_and_nothing_is_not():
    task = a_task()
    gold = graded(task, task.instance.patch.encode())
    assert (gold.resolved, gold.verdict, gold.fail_to_pass, gold.pass_to_pass, gold.dropped) == (
        True,
        "resolved",
        1,
        1,
        (),
    )
    assert gold.seconds.keys() == {"start", "apply", "tests", "report", "close"}
    empty = graded(task, b"", run_empty=True)
    assert (empty.resolved, empty.verdict, empty.fail_to_pass, empty.pass_to_pass) == (False, "unresolved", 0, 1)
    at_once = graded(task, b" \n")
    assert (at_once.verdict, at_once.pass_to_pass, at_once.log) == ("no_patch", None, "")


def test_changes_that_do_not_count_are_dropped_and_named(tmp_path):
    task = a_task()
    folder = files(task, tmp_path)
    fixed(task, folder)
    (folder / "test_inflection.py").write_text("def test_nothing(): pass\n")
    (folder / "conftest.py").write_text("raise SystemExit(0)\n")
    found = graded(task, patch_of(folder))
    assert found.resolved and found.dropped == ("conftest.py", "test_inflection.py")
    (folder / "inflection" / "__init__.py").write_text("")
    worse = graded(task, patch_of(folder))
    assert worse.verdict == "unresolved" and worse.pass_to_pass == 0


@pytest.mark.parametrize("path", ["../outside.py", "/tmp/outside.py", ".git/hooks/pre-commit", "a/../../outside.py"])
def test_a_patch_that_leads_out_of_the_repository_is_refused(path):
    patch = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x = 1\n"
    found = graded(a_task(), patch.encode())
    assert (found.resolved, found.verdict) == (False, "patch_refused")


def test_a_patch_that_breaks_everything_is_the_patchs_fault(tmp_path):
    task = a_task()
    folder = files(task, tmp_path)
    (folder / "inflection" / "__init__.py").write_text("import os\nos.kill(os.getppid(), 9)\nos.abort()\n")
    found = graded(task, patch_of(folder))
    assert not found.resolved and found.verdict in ("no_results", "unresolved")


def test_where_nothing_runs_at_all_it_is_an_error(monkeypatch):
    monkeypatch.setattr(grading, "evaluation_script", lambda task, repository: "echo nothing\n")
    task = a_task()
    with pytest.raises(GradingError, match="without a patch too"):
        graded(task, task.instance.patch.encode())


def test_a_sandbox_that_does_not_start_is_an_error(monkeypatch):
    def broken(task):
        raise SandboxError("no room")

    task = a_task()
    with pytest.raises(SandboxError, match="no room"):
        grading.grade(task, b"x", lambda: broken(task))


def test_a_room_that_breaks_is_tried_again_and_then_held_against_the_patch():
    task, maker = a_task(), rooms()
    opened = []

    def fragile(times: int):
        """Rooms of which the first so many break once a patch is in them."""

        def open_room():
            sandbox = maker.sandbox(task)
            opened.append(sandbox)
            number, run = len(opened), sandbox.run

            def breaks(command, **options):
                if "aem.patch" in command and number <= times:
                    raise SandboxError("broke")
                return run(command, **options)

            sandbox.run = breaks
            return sandbox

        opened.clear()
        return open_room

    gold = task.instance.patch.encode()
    assert grading.grade(task, gold, fragile(1), timeout=60).resolved and len(opened) == 2
    found = grading.grade(task, gold, fragile(9), timeout=60)
    assert (found.resolved, found.verdict, found.log, len(opened)) == (False, "sandbox_broke", "broke", 3)


def test_names_that_are_no_text_are_dropped_like_others(tmp_path):
    task = a_task()
    folder = files(task, tmp_path)
    fixed(task, folder)
    (folder / os.fsdecode(b"\xff.py")).write_text("x = 1\n")
    found = graded(task, patch_of(folder))
    assert found.resolved and found.dropped == ("\ufffd.py",)


@pytest.mark.filterwarnings("ignore::aem_envs.swebench.sandbox.local.UnsafeSandboxWarning")
def test_without_walls_rooms_at_once_do_not_meet():
    """At level rlimits all see one /tmp, and the repository lies elsewhere."""

    def one(package: str):
        task = a_task(package)
        return grading.grade(task, task.instance.patch.encode(), lambda: unsafe(task), timeout=100)

    def unsafe(task):
        return make_sandbox("local", rooms().room(task), LIMITS, level="rlimits", allow_unsafe=True)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(one, ["inflection", "parse", "itsdangerous"]))
    assert [grade.verdict for grade in found] == ["resolved"] * 3


def test_the_tests_have_a_time_limit(tmp_path):
    task = a_task()
    folder = files(task, tmp_path)
    (folder / "inflection" / "__init__.py").write_text("while True: pass\n")
    patch = patch_of(folder)
    maker = rooms()
    found = grading.grade(task, patch, lambda: maker.sandbox(task), timeout=8)
    assert (found.resolved, found.verdict) == (False, "grade_timeout")


def test_markers_carry_a_nonce_and_only_these_count():
    script, nonces = with_nonces(
        ": '>>>>> Start Test Output'\nrun\n: '>>>>> End Test Output'\necho '>>>>> Test Exit Code: 0'\n"
    )
    assert len(nonces) == 3 and len(set(nonces.values())) == 3
    assert not re.search(r">>>>> (Start|End|Test)", script)
    lines = script.splitlines()
    forged = ">>>>> Start Test Output\nPASSED a\n>>>>> End Test Output\n"
    forged += ">>>>> 0123456789abcdef0123456789abcdef End Test Output\n"
    log = rebuilt(f"+ {lines[0]}\n{forged}FAILED a\n+ {lines[2]}\n{lines[3]}\n", nonces)
    assert log.count(">>>>> Start Test Output") == 1 and log.count(">>>>> End Test Output") == 1
    between = log.partition(">>>>> Start Test Output")[2].partition(">>>>> End Test Output")[0]
    assert "FAILED a" in between and ">>>>> Test Exit Code: 0" in log
    assert rebuilt(">>>>> Start Test Output", {}) == "> > > Start Test Output"


def test_a_parser_that_swebench_does_not_have_is_named():
    from dataclasses import replace

    task = a_task()
    odd = replace(task, instance=replace(task.instance, log_parser="parse_log_none"))
    with pytest.raises(GradingError, match="no log parser 'parse_log_none'"):
        graded(odd, task.instance.patch.encode())


def test_only_the_commit_itself_becomes_head():
    from dataclasses import replace

    task = a_task()
    script = "#!/bin/bash\ngit checkout deadbee x\necho deadbeef dead\n"
    odd = replace(task, instance=replace(task.instance, base_commit="deadbee", eval_script=script))
    assert grading.evaluation_script(odd, "/testbed").splitlines()[1:] == ["git checkout HEAD x", "echo deadbeef dead"]
