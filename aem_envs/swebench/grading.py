"""Grading by swebench: a patch on a pristine copy, the instance's own evaluation script, the package's own verdict.

    patch → fresh sandbox → git apply → changes of tests dropped → eval script → log → `get_eval_report`

The markers around the test output carry a nonce while the script runs, and the log is rebuilt with the plain ones:
what code under test prints cannot end the test output early, or begin another one. It can still print lines that look
like results: see "Security" in the documentation.
"""

import base64
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any

from aem_envs.core import InfrastructureError
from aem_envs.swebench.protect import changes
from aem_envs.swebench.report import read_log, spec
from aem_envs.swebench.sandbox.api import Sandbox, SandboxError
from aem_envs.swebench.task import Task

MARK = ">>>>>"
"""Begins swebench's markers."""
_MARKER = re.compile(rf"{MARK} (Start Test Output|End Test Output|Test Exit Code)")
_APPLY = """export GIT_LITERAL_PATHSPECS=1 GIT_CONFIG_GLOBAL=/dev/null
git update-index -q --refresh
git apply --index --whitespace=nowarn "$TMPDIR/aem.patch" || exit 97
echo
git diff --cached --raw -z --no-renames --no-abbrev HEAD 2>/dev/null | base64 -w 0
"""
"""The last line says what changed, in base64: names are bytes, and what git complains of stands before it."""
_DROP = """export GIT_LITERAL_PATHSPECS=1 GIT_CONFIG_GLOBAL=/dev/null
paths() { [ ! -s "$TMPDIR/$1" ] || git "${@:2}" --pathspec-from-file="$TMPDIR/$1" --pathspec-file-nul; }
paths aem.new rm -q -f && paths aem.old checkout -q HEAD
"""
_INLINE = 40_000
"""Bytes of a file that travels in a command; two such fit into one."""
_RUN = 'git reset -q; script=$(cat "$TMPDIR/aem.eval"; echo .); rm -f "$TMPDIR"/aem.*; eval "${script%.}"'
"""The script is gone from the disk, and on no command line, before any code under test runs."""
_DOUBTFUL = ("no_results", "grade_timeout", "sandbox_died", "sandbox_broke")
"""Verdicts that a patch can bring about, and a broken machine as well."""


class GradingError(InfrastructureError):
    """Grading broke: nothing is known of the patch."""


@dataclass(frozen=True)
class Grade:
    """What grading found."""

    resolved: bool
    verdict: str
    """`resolved`, `unresolved`; why there are no results: `no_patch`, `patch_refused`, `patch_too_large`,
    `patch_unreadable`, `grade_timeout`, `sandbox_died`, `sandbox_broke`, `no_results`."""
    fail_to_pass: float = 0.0
    """Share of the tests that the patch shall make pass which pass."""
    pass_to_pass: float | None = None
    """Share of the tests that passed before which still do; None where nothing was run."""
    dropped: tuple[str, ...] = ()
    """Changed files that did not count."""
    report: dict[str, Any] = field(default_factory=dict)
    """swebench's own, of this instance."""
    log: str = ""
    """What the evaluation script printed."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase: start, apply, tests, report, close."""


def grade(
    task: Task, patch: bytes, open_room: Callable[[], Sandbox], *, timeout: float = 300.0, run_empty: bool = False
) -> Grade:
    """Grade `patch` in a sandbox of its own, which is closed at the end.

    Args:
        open_room: makes a sandbox that was not started.
        run_empty: run the tests for an empty patch too (validation), which without it is unresolved at once.

    Raises:
        SandboxError, GradingError: the infrastructure broke, without the patch as well; nothing is known of it.
    """
    if not patch.strip() and not run_empty:
        return Grade(False, "no_patch")
    clock = _Clock()
    found = _in_a_room(task, patch, open_room, timeout, clock)
    if found.verdict == "sandbox_broke":  # once may be chance
        found = _in_a_room(task, patch, open_room, timeout, clock)
    if found.verdict in _DOUBTFUL and (patch.strip() or found.verdict == "sandbox_broke"):
        # whose fault is it? without the patch, tests run, or nothing runs here at all
        control = _in_a_room(task, b"", open_room, timeout, clock) if patch.strip() else found
        if control.verdict in _DOUBTFUL:
            raise GradingError(f"{task.id}: without a patch too there is {control.verdict}: {tail(control.log)}")
    return replace(found, seconds=clock.spent)


def _in_a_room(task: Task, patch: bytes, open_room: Callable[[], Sandbox], timeout: float, clock: "_Clock") -> Grade:
    sandbox = open_room()
    try:
        sandbox.start()
        clock("start")
        try:
            return _graded(task, patch, sandbox, timeout, clock)
        except SandboxError as error:
            return Grade(False, "sandbox_broke", log=str(error))
    finally:
        sandbox.close()
        clock("close")


def _graded(task: Task, patch: bytes, sandbox: Sandbox, timeout: float, clock: "_Clock") -> Grade:
    dropped: tuple[str, ...] = ()
    script, nonces = with_nonces(evaluation_script(task, sandbox.repository))
    bring = _bring("aem.eval", script.encode(), sandbox)
    if not patch.strip():
        sandbox.run(bring, timeout=60)
    else:
        applied = sandbox.run(bring + _bring("aem.patch", patch, sandbox) + _APPLY, timeout=60)
        if applied.exit_code != 0:
            return Grade(False, "patch_refused" if applied.exit_code == 97 else "no_results", log=applied.output)
        restored = _drop(task, applied.output, sandbox)
        if restored is None:
            return Grade(False, "no_results", log=applied.output)
        dropped = restored
    clock("apply")
    result = sandbox.run(_RUN, timeout=timeout)
    clock("tests")
    log = rebuilt(result.output, nonces)
    if result.stopped is not None:
        verdict = {"timeout": "grade_timeout", "died": "sandbox_died"}.get(result.stopped, "no_results")
        return Grade(False, verdict, dropped=dropped, log=log)
    grade = _judged(task, patch, log, dropped)
    clock("report")
    return grade


def _bring(name: str, data: bytes, sandbox: Sandbox) -> str:
    """A command that makes a file in the scratch folder: a short one travels in it, which spares a call. It has ended
    before any code under test runs."""
    if len(data) > _INLINE:
        sandbox.put(f"{sandbox.scratch}/{name}", data)
        return ""
    return f'base64 -d >"$TMPDIR/{name}" <<<{base64.b64encode(data).decode()}\n'


def _drop(task: Task, told: str, sandbox: Sandbox) -> tuple[str, ...] | None:
    """Undo the changes that do not count; their paths, None if that failed, as in a room that the patch has filled."""
    raw = base64.b64decode(told.rpartition("\n")[2]).decode("utf-8", "surrogateescape")
    found = [change for change in changes(raw) if task.protection.drops(change)]
    if not found:
        return ()
    for name, new in (("aem.new", True), ("aem.old", False)):
        paths = [change.path for change in found if change.new is new]
        sandbox.put(f"{sandbox.scratch}/{name}", "\0".join(paths).encode("utf-8", "surrogateescape"))
    if sandbox.run(_DROP, timeout=60).exit_code != 0:
        return None
    return tuple(sorted(change.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for change in found))


def evaluation_script(task: Task, repository: str) -> str:
    """The instance's script as it runs in a sandbox: the base commit is HEAD, the repository perhaps elsewhere."""
    script = "\n".join(spec(task.instance.row()).eval_script_list)
    if re.fullmatch(r"[0-9a-f]{7,64}", task.instance.base_commit):
        script = re.sub(rf"\b{task.instance.base_commit}\b", "HEAD", script)
    if repository != "/testbed":
        script = re.sub(r"/testbed(?=$|[^\w.-])", repository, script, flags=re.MULTILINE)
    return f"set -uxo pipefail\n{script}\n"


def with_nonces(script: str) -> tuple[str, dict[str, str]]:
    """(the script with a nonce in each of its markers, marker → nonce)."""
    nonces: dict[str, str] = {}

    def marked(found: re.Match[str]) -> str:
        return f"{MARK} {nonces.setdefault(found[1], token_hex(16))} {found[1]}"

    return _MARKER.sub(marked, script), nonces


def rebuilt(log: str, nonces: dict[str, str]) -> str:
    """The log with plain markers where those with nonces stood, and with everything else that looks like one marred."""
    told, place = [], 0
    for found in re.finditer(rf"{MARK} ([0-9a-f]{{32}}) (Start Test Output|End Test Output|Test Exit Code)", log):
        if nonces.get(found[2]) == found[1]:
            told += [log[place : found.start()].replace(MARK, "> > >"), f"{MARK} {found[2]}"]
            place = found.end()
    return "".join([*told, log[place:].replace(MARK, "> > >")])


def _judged(task: Task, patch: bytes, log: str, dropped: tuple[str, ...]) -> Grade:
    """swebench's verdict on a log; raises `GradingError` where the row names no parser of swebench's."""
    from swebench.harness.log_parsers import PARSER_REGISTRY

    if task.instance.log_parser not in PARSER_REGISTRY:
        raise GradingError(f"{task.id}: swebench has no log parser {task.instance.log_parser!r}: correct the row")
    report = read_log(task.instance.row(), patch.decode("utf-8", "replace"), log) or {}
    tests = report.get("tests_status")
    if tests is None:
        return Grade(False, "no_results", dropped=dropped, report=report, log=log)
    return Grade(
        bool(report["resolved"]),
        "resolved" if report["resolved"] else "unresolved",
        fail_to_pass=_share(tests["FAIL_TO_PASS"]),
        pass_to_pass=_share(tests["PASS_TO_PASS"]),
        dropped=dropped,
        report=report,
        log=log,
    )


def _share(found: dict[str, list[str]]) -> float:
    passed, failed = len(found["success"]), len(found["failure"])
    return passed / (passed + failed) if passed + failed else 1.0


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._since = time.perf_counter()

    def __call__(self, phase: str) -> None:
        now = time.perf_counter()
        self.spent[phase] = self.spent.get(phase, 0.0) + now - self._since
        self._since = now


def tail(output: str) -> str:
    """The end of an output, in one line, for a message."""
    return " ".join(output.split())[-500:]
