"""Reading an agent's action, showing it what came of it, and which changes of it count."""

import pytest

from aem_envs.swebench.actions import MAX_ACTION, Command, Edit, EditError, Submit, read
from aem_envs.swebench.output import after, cut, first, status
from aem_envs.swebench.protect import Change, Protection, changes, touched
from aem_envs.swebench.sandbox.api import Result

EDIT = """edit src/a.py
<<<<<<< SEARCH
def one():
    return 2
=======
def one():
    return 1
>>>>>>> REPLACE"""


def test_commands_edits_and_submission_are_told_apart():
    assert read("  ls -la\n") == (Command("ls -la"), None)
    assert read("submit") == (Submit(), None)
    assert read("echo submit") == (Command("echo submit"), None)
    edit, error = read(EDIT)
    assert error is None and edit == Edit("src/a.py", (("def one():\n    return 2\n", "def one():\n    return 1\n"),))
    assert read("edit this line") == (Command("edit this line"), None), "without blocks it is a command like any other"


@pytest.mark.parametrize(
    "action", [None, 3, "", " \n", "x" * (MAX_ACTION + 1), "a\x00b", "\x1b[2J", "l\u202es", "\ud800"]
)
def test_what_is_no_action_is_said_to_be_none(action):
    found, error = read(action)
    assert found is None and error


def test_several_blocks_and_a_new_file():
    edit, error = read(f"{EDIT}\n\n<<<<<<< SEARCH\nx\n=======\n>>>>>>> REPLACE\n")
    assert error is None and isinstance(edit, Edit)
    assert edit.apply("x\ndef one():\n    return 2\n") == "def one():\n    return 1\n"
    made, error = read("edit new.py\n<<<<<<< SEARCH\n=======\na = 1\n>>>>>>> REPLACE")
    assert error is None and isinstance(made, Edit) and made.apply(None) == "a = 1\n"
    for text, why in (("", "0 times"), ("def one():\n    return 2\n" * 2, "2 times"), (None, "no file")):
        with pytest.raises(EditError, match=why):
            edit.apply(text)
    with pytest.raises(EditError, match="contents already"):
        made.apply("b = 1\n")


@pytest.mark.parametrize(
    "blocks", ["x\n=======\ny\n", "x\n=======\ny\n>>>>>>> REPLACE\nand more", "=======\n" * 12_000]
)
def test_a_half_block_is_no_edit(blocks):
    found, error = read(f"edit a.py\n<<<<<<< SEARCH\n{blocks}")
    assert found is None and error is not None and "REPLACE" in error


def test_the_first_marks_count():
    edit, _ = read("edit a.rst\n<<<<<<< SEARCH\nT\n=======\nU\n=======\n<<<<<<< SEARCH\n>>>>>>> REPLACE")
    assert isinstance(edit, Edit) and edit.blocks == (("T\n", "U\n=======\n<<<<<<< SEARCH\n"),)


def test_long_output_keeps_head_and_tail_and_says_what_is_missing():
    text = "a" * 6000 + "b" * 6000
    shown = cut(text, 100)
    assert shown == "a" * 50 + "\n[... 11900 characters left out ...]\n" + "b" * 50
    assert cut(text, 12_000) == text and cut("", 10) == ""


def test_observations_say_how_it_ended_and_what_is_left():
    assert after("out\n\n", "[exit code 3]", 7) == "out\n[exit code 3]\n[7 steps left]"
    assert after("", "[exit code 0]", 1) == "[exit code 0]\n[1 step left]"
    begun = first("toolz", "/testbed", "It breaks.\n", 100)
    assert "It breaks." in begun and "/testbed" in begun and begun.endswith("[100 steps left]")
    told = {None: "exit code 2", "timeout": "more than 60 s", "output": "16,000 bytes", "memory": "1,024 MB"}
    for stopped, words in told.items():
        assert words in status(Result("", 2, 1.0, stopped), 60.0, 16_000, 1024)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "dropped"),
    [
        ("src/pkg/core.py", False),
        ("src/pkg/testing/tools.py", False),
        ("django/test/client.py", False),
        ("docs/index.rst", False),
        ("tests/test_core.py", True),
        ("pkg/tests/data.json", True),
        ("pkg/test_core.py", True),
        ("pkg/core_test.py", True),
        ("conftest.py", True),
        ("src/pkg/conftest.py", True),
        ("pytest.ini", True),
        ("src/pytest.py", True),
        ("src/pytest/__init__.py", True),
        ("src/_pytest/runner.py", True),
        ("src/sitecustomize.py", True),
        ("x.pth", True),
        ("src/pkg/__pycache__/core.cpython-311.pyc", True),
    ],
)
def test_changes_of_tests_and_of_how_they_run_do_not_count(path, dropped):
    assert Protection().drops(Change(path, new=False, link=False)) is dropped


def test_what_the_task_itself_says_comes_first():
    rule = Protection(tests=frozenset({"checks/one.py"}), gold=frozenset({"tests/tools.py"}), sources=("src",))
    assert rule.drops(Change("checks/one.py", False, False))
    folder = Protection(tests=frozenset({"checks"}))
    assert folder.drops(Change("checks/one.json", True, False)) and not folder.drops(Change("checks2", True, False))
    assert not rule.drops(Change("tests/tools.py", False, False)), "the gold patch changes it: it is the task"
    assert rule.drops(Change("docs/a.rst", False, False)) and not rule.drops(Change("src/a.py", False, False))
    assert rule.drops(Change("src/a.py", False, link=True)) and rule.drops(Change("tests/tools.py", False, link=True))
    assert not Protection().drops(Change("setup.cfg", new=False, link=False))
    assert Protection().drops(Change("setup.cfg", new=True, link=False))


def test_changes_are_read_as_git_prints_them():
    raw = (
        ":100644 100644 aa bb M\0src/a.py\0"
        ":000000 120000 00 cc A\0link\nwith odd name\0"
        ":100644 000000 aa 00 D\0gone.py\0"
        ":000000 160000 00 dd A\0module\0"
    )
    assert list(changes(raw)) == [
        Change("src/a.py", False, False),
        Change("link\nwith odd name", True, True),
        Change("gone.py", False, False),
        Change("module", True, True),
    ]
    assert list(changes("")) == []


def test_paths_of_a_patch():
    patch = """diff --git "a/x\\303\\251.py" "b/x\\303\\251.py"
--- "a/x\\303\\251.py"
+++ "b/x\\303\\251.py"
@@ -1 +1 @@
-a
+b
diff --git a/o.py b/n.py
similarity index 100%
rename from o.py
rename to n.py
diff --git a/new.py b/new.py
new file mode 100644
--- /dev/null
+++ b/new.py
@@ -0,0 +1 @@
+x
"""
    assert touched(patch) == {"xé.py", "o.py", "n.py", "new.py"}
    assert touched("--- a/x/y.py\n+++ b/x/z.py\nno hunk\n") == {"x/y.py", "x/z.py"}
    assert touched("") == frozenset()
