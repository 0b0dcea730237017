"""swebench's verdict on a log of tests, within a time limit.

Code under test writes the log. Some of swebench's parsers have patterns whose time grows with the square or the cube of
a line's length, and hold every thread of this process meanwhile; others fail on lines that are no test's. A log that
could keep them busy is read by a process of its own.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 60.0
"""What reading a log may take."""
_EASY = 1_000_000_000
"""Sum of the cubes of the lines' lengths up to which a log is read at once: a thousand lines of tests."""


def read_log(row: dict[str, Any], patch: str, log: str) -> dict[str, Any] | None:
    """swebench's report on the log of one instance, given as a row of a 5.x file; None if the log cannot be read."""
    if sum(len(line) ** 3 for line in log.split("\n")) <= _EASY:
        try:
            return _report(row, patch, log)
        except ImportError:
            raise
        except Exception:  # a parser failed, on what a hostile patch may have printed
            return None
    call = [sys.executable, "-P", __file__]
    try:
        done = subprocess.run(
            call, input=json.dumps([row, patch, log]).encode(), capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return found


def spec(row: dict[str, Any]) -> Any:
    """swebench's TestSpec of an instance. The package takes two seconds to import: once a process."""
    try:
        from swebench.harness.utils import make_test_spec
    except ImportError as error:
        raise ImportError(f'grading needs swebench: pip install "aem-suite[swebench]" ({error})') from error
    return make_test_spec(json.loads(json.dumps(row)))


def _report(row: dict[str, Any], patch: str, log: str) -> dict[str, Any]:
    from swebench.harness.grading import get_eval_report

    name = str(row["instance_id"])
    prediction = {"instance_id": name, "model_name_or_path": "aem-suite", "model_patch": patch}
    with _as_file(log.encode(errors="replace")) as path:
        report: dict[str, Any] = get_eval_report(spec(row), prediction, path, True)[name]
    return report


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path to read `data` from; in memory where the system can: nothing is left when this process is killed."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("log"), "wb") as file:  # noqa: PTH123
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(prefix="aem-grade-") as temporary:
            temporary.write(data)
            temporary.flush()
            yield temporary.name


def main() -> None:
    """Read `[row, patch, log]` from standard input, write the report. Ends by itself if nobody waits any more."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS) + 1))
    answer = json.dumps(_report(*json.load(sys.stdin)))
    sys.stdout.write(answer)


if __name__ == "__main__":
    main()
