"""R2E-Gym (https://huggingface.co/R2E-Gym: -Subset with 4,578 rows, -Lite, -V1): commits of eleven repositories, each
with an image that holds the repository before the commit, and tests beside it.

Read are repo_name, docker_image, commit_hash, problem_statement, expected_output_json (test name → status after the
commit), parsed_commit_content (the commit, hunk by hunk) and execution_result_content (old_commit_res_stdout: pytest's
summary before it). Fields as R2E-Gym's code and several programs that read the data have them; the data could not be
looked at here.

Two differences from R2E-Gym's own reward, which wants every test to end exactly as expected: tests that are to fail or
to break off are not looked at (swebench's grading knows no such list), and tests beyond the expected ones do no harm.
"""

import re
from typing import Any

from envs_data.swebench.diffs import DiffFormatError, read_diff
from envs_data.swebench.evalscript import check_path, eval_script
from envs_data.swebench.fields import MAX_TEST, MAX_TESTS, Fields
from envs_data.swebench.instance import Instance
from envs_data.swebench.legacy import Completion

HIDDEN = ("run_tests.sh", "r2e_tests", "/r2e_tests", "/root/run_tests.sh", "/root/r2e_tests")
"""What an agent must not see (relative paths are the repository's): the tests, and what runs them."""
_SUMMARY = "short test summary info"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RESULT = re.compile(r"(PASSED|FAILED|ERROR)\s+[^:\s]*::(.*)")

# The names of expected_output_json are pytest's without the file, and with "." for "::". swebench's parsers take lines
# of pytest, and of a name its first word: so lines are rewritten, with "_" for spaces in names, here and in `_key`.
_REWRITE = (
    r"sed -E -e 's/\x1b\[[0-9;]*m//g' "
    r"-e '/^(PASSED|FAILED|ERROR)[[:space:]]+[^:[:space:]]*::/{"
    r"s/^([A-Z]+)[[:space:]]+[^:[:space:]]*::/\1:/;s/ - .*$//;s/[[:space:]]+$//;s/::/./g;s/[[:space:]]/_/g;s/:/ /}'"
)
_SETUP = (
    "export PATH=/testbed/.venv/bin:$PATH",
    "for tests in /r2e_tests /root/r2e_tests; do "
    'if [ -d "$tests" ]; then rm -rf r2e_tests; ln -s "$tests" r2e_tests; break; fi; done',
    "run=run_tests.sh; if [ -f /root/run_tests.sh ]; then run=/root/run_tests.sh; fi",
)


def read_r2e(fields: Fields, completion: Completion) -> Instance:
    """A row of R2E-Gym. Its image runs its own `run_tests.sh`; the log is rewritten for `parse_log_pytest`.

    Raises:
        InstanceFieldError: a field is unfit, or no test is expected to pass.
    """
    repo, commit = fields.repo("repo_name"), fields.commit("commit_hash")
    expected = _expected(fields)
    before = _summary(fields)
    wanted = [name for name, status in expected.items() if status == "PASSED"]
    failing = tuple(name for name in wanted if before.get(name) != "PASSED")
    if not failing:
        raise fields.fault("expected_output_json", "a test that the commit makes pass", "without one")
    image = completion.prebuilt(fields.image("docker_image"))
    instance_id = f"{repo.rsplit('/', 1)[-1]}__{commit}"
    return Instance(
        instance_id=instance_id,
        repo=repo,
        base_commit="HEAD",
        problem_statement=_issue(fields.prose("problem_statement")),
        patch=_solution(fields),
        test_patch="",
        FAIL_TO_PASS=failing,
        PASS_TO_PASS=tuple(name for name in wanted if before.get(name) == "PASSED"),
        version=commit,
        image=completion.image_for(fields, instance_id, image),
        eval_script=eval_script(f'bash "$run" 2>&1 | {_REWRITE}', setup=_SETUP),
        log_parser="parse_log_pytest",
        dataset="r2e-gym",
        extra={"hidden_paths": list(HIDDEN)},
    )


def _key(name: str) -> str:
    """A test's name as the rewritten log has it."""
    return re.sub(r"\s", "_", _COLOUR.sub("", name).split(" - ")[0].rstrip(), flags=re.ASCII)


def _expected(fields: Fields) -> dict[str, str]:
    name, found = "expected_output_json", fields.document("expected_output_json")
    if len(found) > MAX_TESTS:
        raise fields.fault(name, f"at most {MAX_TESTS} tests", f"{len(found)} of them")
    for test, status in found.items():
        if not isinstance(status, str) or len(test) > MAX_TEST:
            raise fields.fault(name, "an object of test names and statuses", status)
        if "\0" in test or re.search("[\ud800-\udfff]", test):
            raise fields.fault(name, "test names", test)
    return {key: status for test, status in found.items() if (key := _key(test))}


def _summary(fields: Fields) -> dict[str, str]:
    """Statuses before the commit, as far as the row tells; none of them: every expected test counts as failing."""
    if not fields.has("execution_result_content"):
        return {}
    log = fields.document("execution_result_content").get("old_commit_res_stdout")
    if not isinstance(log, str):
        return {}
    lines = _COLOUR.sub("", log.rsplit(_SUMMARY, 1)[-1]).split("\n") if _SUMMARY in log else []
    found = (match for line in lines if (match := _RESULT.match(line)))
    return {_key(match[2].replace("::", ".")): match[1] for match in found}


def _issue(text: str) -> str:
    """The issue alone: R2E-Gym keeps it between [ISSUE] and [/ISSUE]."""
    return text.split("[ISSUE]", 1)[-1].split("[/ISSUE]", 1)[0].strip() + "\n"


def _solution(fields: Fields) -> str:
    """The commit as a patch: Python files that are no tests, as R2E-Gym's solutions are checked."""
    name = "parsed_commit_content"
    files = fields.document(name).get("file_diffs")
    if not isinstance(files, list):
        raise fields.fault(name, "an object with a list 'file_diffs'", files)
    try:
        patch = "".join(_file(file) for file in files if _is_source(_path(file)))
        for file in read_diff(patch):
            check_path(file.new_path or file.old_path or "")
    except (KeyError, TypeError, AttributeError, DiffFormatError) as error:
        what = f"{type(error).__name__}: {error}"
        raise fields.fault(name, f"files with headers and hunks as R2E-Gym writes them ({what})", files) from error
    return patch


def _path(file: dict[str, Any]) -> str:
    return str(file["header"]["file"]["path"])


def _is_source(path: str) -> bool:
    *folders, name = path.split("/")
    tests = {"test", "tests", "Test", "Tests"} & set(folders) or name.startswith("test_") or name.endswith("_test.py")
    return name.endswith(".py") and not tests


def _file(file: dict[str, Any]) -> str:
    """One file of the commit in git's form."""
    path = _path(file)
    lines = [f"diff --git a/{path} b/{path}"]
    misc = file["header"].get("misc_line")
    if isinstance(misc, str) and re.fullmatch(r"(new|deleted) file mode \d{6}", misc):
        lines.append(misc)
    hunks = file.get("hunks") or []
    if hunks:
        lines.append("--- /dev/null" if str(misc).startswith("new ") else f"--- a/{path}")
        lines.append("+++ /dev/null" if str(misc).startswith("deleted ") else f"+++ b/{path}")
    for hunk in hunks:
        descriptor = hunk["descriptor"]
        section = f" {descriptor['section']}" if descriptor.get("section") else ""
        lines.append(f"@@ -{_range(descriptor['old_range'])} +{_range(descriptor['new_range'])} @@{section}")
        marks = {"context": " ", "added": "+", "deleted": "-", "note": "\\ "}
        lines += [marks[line["type"]] + line["content"] for line in hunk["line_group"]["all_lines"]]
    return "".join(f"{line}\n" for line in lines)


def _range(found: dict[str, Any]) -> str:
    start, length = int(found["start"]), found.get("length")
    return f"{start}" if length is None else f"{start},{int(length)}"
