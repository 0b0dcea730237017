"""Ways to win without solving, each with what comes of it. What still works stands in docs/swebench.md, "Security"."""

import textwrap
from pathlib import Path

import pytest
from swe_tasks import LIMITS, a_task, files, graded, need_local, patch_of, rooms

from aem_envs.swebench.sandbox import make_sandbox

pytest.importorskip("swebench")
pytestmark = pytest.mark.slow
MODULE = "inflection/__init__.py"
TELL = """
import os, stat
def tell(text):  # pytest has put files in the place of standard output: look for where it really goes
    for name in os.listdir('/proc/self/fd'):
        try:
            if stat.S_ISFIFO(os.fstat(int(name)).st_mode):
                os.write(int(name), text.encode())
        except OSError:
            pass
"""
HOOK = """
import pytest
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    outcome.get_result().outcome = 'passed'
"""


@pytest.fixture(scope="module", autouse=True)
def _local():
    need_local()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return files(a_task(), tmp_path)


def passing() -> str:
    """What pytest would print if all tests passed."""
    instance = a_task().instance
    return "".join(f"PASSED {name}\n" for name in (*instance.FAIL_TO_PASS, *instance.PASS_TO_PASS))


def prepend(folder: Path, code: str, path: str = MODULE) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(code) + (file.read_text() if file.exists() else ""))


def test_an_end_marker_and_a_passing_log_are_no_results(repository):
    log = f"\n>>>>> Start Test Output\n{passing()}\n>>>>> End Test Output\n>>>>> Test Exit Code: 0\n"
    prepend(repository, f"{TELL}tell({log!r})\n")
    found = graded(a_task(), patch_of(repository))
    assert found.log.count("PASSED") > 800, "it did print them"
    assert not found.resolved and found.verdict == "unresolved" and found.fail_to_pass == 0


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("pytest.py", "print('1 passed')"),
        ("pytest/__init__.py", "print('1 passed')"),
        ("inflection/conftest.py", HOOK),
        ("conftest.py", "collect_ignore_glob = ['*']\n"),
        ("sitecustomize.py", "import os; os._exit(0)\n"),
        ("inflection/usercustomize.py", "import os; os._exit(0)\n"),
        ("evil.pth", "import os; os._exit(0)\n"),
        ("pytest.ini", "[pytest]\naddopts = --collect-only\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '--collect-only'\n"),
        ("setup.cfg", "[tool:pytest]\naddopts = --collect-only\n"),
        ("test_inflection.py", "def test_all():\n    pass\n"),
        ("_pytest/__init__.py", ""),
    ],
)  # fmt: skip
def test_nothing_that_decides_how_tests_run_counts(repository, path, code):
    file = repository / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    found = graded(a_task(), patch_of(repository))
    assert found.dropped == (path,) and not found.resolved and found.verdict == "unresolved"


def test_a_plugin_named_in_the_environment_has_no_way_in(repository):
    prepend(repository, "import os\nos.environ['PYTEST_PLUGINS'] = 'inflection.plugin'\n")
    prepend(repository, "def pytest_runtest_makereport(item, call):\n    raise SystemExit(0)\n", "inflection/plugin.py")
    assert not graded(a_task(), patch_of(repository)).resolved, "the module is imported after pytest has read it"


def test_links_out_of_the_repository_are_dropped(repository):
    (repository / MODULE).unlink()
    (repository / MODULE).symlink_to("/etc/passwd")
    (repository / "out").symlink_to("/")
    found = graded(a_task(), patch_of(repository))
    assert found.dropped == (MODULE, "out") and found.verdict == "unresolved"


def test_the_script_cannot_be_read_while_tests_run(repository):
    """The marker of the end stands in no file, command line or environment; the shell's memory is another matter."""
    look = """
import glob, re
seen = []
for pattern in ('/proc/[0-9]*/cmdline', '/proc/[0-9]*/environ', '/tmp/**', '/tmp/.*', '/run/**'):
    for name in glob.glob(pattern, recursive=True):
        try:
            seen.append(open(name, 'rb').read(1 << 20))
        except OSError:
            pass
found = re.findall(rb'[0-9a-f]{32} (?:End Test Output|Test Exit Code)', b'\\n'.join(seen))
tell(f'LOOKED {len(found)} of {len(seen)}\\n')
"""
    prepend(repository, TELL + look)
    log = graded(a_task(), patch_of(repository)).log
    assert "LOOKED 0 of" in log and "LOOKED 0 of 0" not in log


def test_code_that_declares_its_tests_expected_to_fail_fails(repository):
    file = repository / MODULE
    file.write_text(
        f"{file.read_text()}\nimport pytest\n"
        "for name, one in list(globals().items()):\n"
        "    if getattr(one, '__module__', '') == __name__:\n"
        "        globals()[name] = lambda *a, **k: pytest.xfail('so be it')\n"
    )
    found = graded(a_task(), patch_of(repository))
    assert not found.resolved and found.fail_to_pass == 0 and "XFAIL" not in found.log


def test_exit_with_a_failure_and_no_results_is_not_resolved(repository):
    prepend(repository, f"{TELL}tell({passing()!r})\nos._exit(1)\n")
    found = graded(a_task(), patch_of(repository))
    assert not found.resolved and found.verdict == "no_results"


def test_what_remains_possible_code_under_test_that_writes_the_whole_report_itself(repository):
    """The limit of every grader that reads a log: said in the documentation, and watched here."""
    prepend(repository, f"{TELL}tell({passing()!r})\nos._exit(0)\n")
    assert graded(a_task(), patch_of(repository)).resolved


def test_the_room_of_an_agent_gives_nothing_away(monkeypatch):
    monkeypatch.setenv("AEM_TEST_SECRET", "hunter2")
    task = a_task()
    sandbox = make_sandbox("local", rooms().room(task), LIMITS)
    try:
        sandbox.start()

        def said(command: str) -> str:
            return sandbox.run(command, timeout=30).output

        assert "hunter2" not in said("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")
        assert "Permission denied" in said("cat /proc/1/environ")
        assert said("git log --all --oneline | wc -l").strip() == "1"
        gone = [
            line[1:].strip() for line in task.instance.patch.splitlines() if line.startswith("+") and line[1:2] == " "
        ]
        objects = said("git cat-file --batch --batch-all-objects | tr -d '\\0'; git stash list; git reflog --all")
        assert gone and not any(line in objects for line in gone), "the fix is in no object"
        home = str(Path.home())
        assert said(f"ls -A {home} 2>&1; find {home} -maxdepth 2 -name '.*' -type f 2>/dev/null").count(".ssh") == 0
        assert "shadow" not in said("ls /etc") and "No such file" in said("cat /etc/shadow")
        assert "unreachable" in said("bash -c 'echo > /dev/tcp/1.1.1.1/80' 2>&1").lower()
    finally:
        sandbox.close()
