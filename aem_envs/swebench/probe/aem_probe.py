"""A plugin of pytest that runs inside a sandbox and writes down what tests do. It stands alone: nothing of this project
is there.

AEM_PROBE is the file that it writes, as JSON:
    {"lines": {path: [line, …]}, "failures": [{"id", "file", "type", "message", "code", "given", "inside"}, …]}
Lines are those that ran during tests, of files below AEM_PROBE_LINES (none if that is not set).
"""

import ast
import inspect
import json
import os
import sys
import textwrap
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

_lines: dict[str, set[int]] = {}
_failures: list[dict[str, object]] = []
_below = os.environ.get("AEM_PROBE_LINES", "")
_MESSAGE = 3000


def _trace(frame: Any, event: str, argument: Any) -> Any:
    name = frame.f_code.co_filename
    if not name.startswith(_below):
        return None
    _lines.setdefault(name, set()).add(frame.f_lineno)
    return _trace


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: Any) -> Iterator[None]:
    if _below:
        sys.settrace(_trace)
    yield
    sys.settrace(None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Generator[None, Any, None]:
    report = (yield).get_result()
    if report.failed and call.excinfo is not None:
        _failures.append(_failure(item, call.excinfo))


def pytest_sessionfinish(session: Any) -> None:
    with Path(os.environ["AEM_PROBE"]).open("w", encoding="utf-8") as file:
        lines = {os.path.relpath(name): sorted(found) for name, found in _lines.items()}
        json.dump({"lines": lines, "failures": _failures}, file)


def _failure(item: Any, excinfo: Any) -> dict[str, object]:
    function = inspect.unwrap(getattr(item, "function", None) or (lambda: None))
    here = [entry for entry in excinfo.traceback if entry.frame.code.raw is function.__code__]
    last = excinfo.traceback[-1]
    callspec = getattr(item, "callspec", None)
    given = {name: repr(value)[:200] for name, value in (callspec.params if callspec else {}).items()}
    return {
        "id": item.nodeid,
        "file": os.path.relpath(str(item.path)),
        "type": excinfo.type.__name__,
        "message": str(excinfo.value)[:_MESSAGE],
        "code": _code(function, here[-1].lineno + 1) if here else "",
        "given": given,
        "inside": bool(here)
        and last.frame.code.raw is not function.__code__
        and str(last.path).startswith(str(Path.cwd()))
        and str(last.path) != str(item.path),
    }


def _code(function: Any, line: int) -> str:
    """The test's statements up to the one that failed, without its head and docstring."""
    lines, first = inspect.getsourcelines(function)
    try:
        tree: Any = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except SyntaxError:
        return ""
    body = [one for one in tree.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
    upto = [one for one in body if one.lineno + first - 1 <= line]
    if not upto:
        return ""
    start, end = upto[0].lineno - 1, upto[-1].end_lineno
    return textwrap.dedent("".join(lines[start:end])).rstrip()
