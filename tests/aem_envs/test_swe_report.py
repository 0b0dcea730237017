"""Reading a log that a hostile patch may have written: within a time limit, and without an error of the parser's."""

import pytest
from swe_tasks import a_task

from aem_envs.swebench import report
from aem_envs.swebench.report import read_log

pytest.importorskip("swebench")
pytestmark = pytest.mark.slow


def log(text: str) -> str:
    return f">>>>> Start Test Output\n{text}\n>>>>> End Test Output\n"


def row(**changed: object) -> dict[str, object]:
    return {**a_task().instance.row(), **changed}


def test_both_ways_to_read_a_log_give_the_same(monkeypatch):
    instance = a_task().instance
    passing = log("".join(f"PASSED {name}\n" for name in (*instance.FAIL_TO_PASS, *instance.PASS_TO_PASS)))
    here = read_log(row(), "x", passing)
    assert here is not None and here["resolved"]
    monkeypatch.setattr(report, "_EASY", 0)
    assert read_log(row(), "x", passing) == here, "in a process of its own"


@pytest.mark.parametrize(
    ("parser", "line"),
    [("parse_log_pytest_options", "PASSED a" + "[" * 300_000), ("parse_log_sympy", " " * 300_000 + "ok")],
)
def test_a_log_made_to_be_slow_is_given_up(monkeypatch, parser, line):
    monkeypatch.setattr(report, "SECONDS", 4.0)
    assert read_log(row(log_parser=parser), "x", log(line)) is None


def test_a_parser_that_fails_gives_no_report():
    assert read_log(row(log_parser="parse_log_django"), "x", log("ERROR: \n... ")) is None
