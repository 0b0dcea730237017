"""Try a fault: put it into a fresh repository, run the package's tests in a sandbox, read which fail."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aem_envs.swebench import probe
from aem_envs.swebench.sandbox import Limits, Room, SandboxError, make_sandbox
from envs_data.swebench.evalscript import END, START
from envs_data.swebench.evaluation import eval_script, test_command
from envs_data.swebench.issues import Failure, failure_from
from envs_data.swebench.packages import Package, environment
from envs_data.swebench.toolbox import TOOLBOX, toolbox

PROBE = "/opt/aem-probe"
_REPORT = ".aem-probe.json"
CPU = "ulimit -t 15\n"
"""Seconds of processor time for one run of a package's tests, which takes at most three: a fault that makes it longer
is no task, on a busy machine and on an idle one."""
_FIXED = "fixed=; if setarch -R true 2>/dev/null; then fixed='setarch -R'; fi\n"
"""Addresses decide the order in which sets that hold None are shown: keep them, where that is allowed."""
SECONDS = 90.0
"""Time on the clock, for faults that make tests wait for ever."""


@dataclass(frozen=True)
class Ran:
    """What a script printed in a sandbox, and the file it left, if one was asked for."""

    output: str
    stopped: bool
    file: bytes | None = None


RunTests = Callable[[Package, Path, str, str | None], Ran]
"""(package, repository, script, file to bring back) to what came of it; in a sandbox of its own, from many threads."""


def in_sandbox(cache: Path, kind: str = "local", **options: Any) -> RunTests:
    """Runs scripts in sandboxes of a kind, with the toolbox from `cache`."""
    tools, plugin = toolbox(cache), Path(probe.__file__).parent

    def run(package: Package, repository: Path, script: str, file: str | None) -> Ran:
        env = environment(package) | {"AEM_PROBE_FOLDER": PROBE}
        room = Room(repository, None, {TOOLBOX: tools, PROBE: plugin}, env)
        sandbox = make_sandbox(kind, room, Limits(), **options)
        try:
            sandbox.start()
            result = sandbox.run(CPU + script.replace("/testbed", sandbox.repository), timeout=SECONDS)
            found = _brought(sandbox, file) if file and not result.stopped else None
            return Ran(result.output, result.stopped is not None, found)
        finally:
            sandbox.close()

    return run


def _brought(sandbox: Any, file: str) -> bytes | None:
    try:
        data: bytes = sandbox.get(file)
        return data
    except SandboxError:
        return None  # the tests never came so far as to write it


@cache
def _parser() -> Any:
    from swebench.harness.log_parsers import PARSER_REGISTRY  # type: ignore[import-not-found, unused-ignore]

    return PARSER_REGISTRY["parse_log_pytest"]


@dataclass(frozen=True)
class Statuses:
    """What swebench's parser reads in a log."""

    status: Mapping[str, str]
    """Test to PASSED, FAILED, …"""
    ambiguous: frozenset[str]
    """Ids that stand for several tests, as the parser cuts them at white space: no use as a name."""
    complete: bool
    """The tests ran to their end, and every file of tests could be loaded."""

    def passed(self) -> list[str]:
        """Ids of tests that passed, in the log's order, without the ambiguous ones."""
        return [test for test, status in self.status.items() if status == "PASSED" and test not in self.ambiguous]


def statuses(ran: Ran) -> Statuses:
    """Read a run of an evaluation script."""
    begin, _, rest = ran.output.partition(START)
    log, _, end = rest.partition(END)
    found: dict[str, str] = _parser()(log, None)
    names = re.findall(r"^(?:PASSED|FAILED|ERROR|XFAIL|XPASS|SKIPPED) (\S+)", log, re.MULTILINE)
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    loaded = all("::" in name for name, status in found.items() if status == "ERROR")
    complete = bool(begin and end and found and loaded and not ran.stopped and "Interrupted:" not in log)
    return Statuses(found, frozenset(name for name, count in counts.items() if count > 1), complete)


def run_suite(run_tests: RunTests, package: Package, repository: Path, commit: str) -> Statuses:
    """The whole suite, by the evaluation script."""
    return statuses(run_tests(package, repository, eval_script(package, commit), None))


@dataclass(frozen=True)
class Probed:
    """What the probe saw."""

    lines: Mapping[str, frozenset[int]]
    failures: list[Failure]


def run_probed(run_tests: RunTests, package: Package, repository: Path, files: list[str], *, lines: bool) -> Probed:
    """Run `files` (all if none) under the probe, and note which lines ran or how tests failed."""
    below = "AEM_PROBE_LINES=/testbed/ " if lines else ""
    command = test_command(package, files or package.tests).replace("pytest ", "pytest -p aem_probe ", 1)
    settings = f'AEM_PROBE=/testbed/{_REPORT} {below}PYTHONPATH="$PYTHONPATH:$AEM_PROBE_FOLDER"'
    script = f"{_FIXED}{settings} $fixed {command}\n"
    ran = run_tests(package, repository, script, _REPORT)
    data = json.loads(ran.file) if ran.file else {"lines": {}, "failures": []}
    seen = {str(path): frozenset(map(int, numbers)) for path, numbers in data["lines"].items()}
    return Probed(seen, [failure_from(row) for row in data["failures"]])
