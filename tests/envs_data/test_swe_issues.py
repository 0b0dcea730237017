"""Issue texts: written from a failing test, the same for the same failure, and silent about the fault."""

import re

import pytest

from envs_data.swebench.issues import Failure, clean, failure_from, issue_text, quotes

WRONG = Failure("tests/t.py::test_a", "AssertionError", "assert 1 == 2", "assert half(2) == 2", {}, False)
RAISES = Failure("tests/t.py::test_a", "KeyError", "'x'", "x = half(3)\nassert x == 1", {}, True)
SILENT = Failure(
    "tests/t.py::test_a", "Failed", "DID NOT RAISE ZeroError", "with raises(ZeroError):\n    half(0)", {}, False
)
ANOTHER = Failure("tests/t.py::test_a", "KeyError", "0", "with pytest.raises(a.ZeroError):\n    half(0)", {}, True)
CASE = Failure("tests/t.py::T::test_a", "AssertionError", "ZeroError not raised", "self.half(0)", {"x": "1"}, False)


def text(failure: Failure, seed: str = "1", failing: int = 1, function: str = "half") -> str:
    return issue_text(failure, package="small", version="1.0", function=function, failing=failing, seed=seed)


@pytest.mark.parametrize(
    ("failure", "title"),
    [
        (WRONG, "wrong|unexpected outcome|does not behave"),
        (RAISES, "KeyError"),
        (SILENT, "ZeroError"),
        (ANOTHER, "KeyError.*ZeroError|wrong exception"),
        (CASE, "ZeroError"),
    ],
)
def test_the_title_tells_the_sort_of_failure(failure: Failure, title: str) -> None:
    for seed in "abcdefgh":
        first, _, rest = text(failure, seed).partition("\n\n")
        assert re.search(title, first, re.IGNORECASE) and failure.code.split("\n")[0] in rest
        assert failure.message in rest and "{" not in first + rest.replace(failure.code, "")
        assert first[0] == "`" or first[0].isupper()


def test_the_wording_varies_with_the_seed_only() -> None:
    assert text(WRONG) == text(WRONG)
    assert len({text(WRONG, str(seed)) for seed in range(30)}) > 10


def test_numbers_agree() -> None:
    for seed in "abcdefgh":
        one, three = text(CASE, seed, 1), text(CASE, seed, 3)
        assert re.search(r"\b[Oo]ne (?:of the project's tests fails|failing test|test fails)\b", one)
        assert re.search(r"\b3 (?:of the project's tests fail|failing tests|tests fail)\b", three)
        assert "(`test_a`)" in one and "(among them `test_a`)" in three


def test_only_what_users_know_is_named() -> None:
    assert "`half`" in text(WRONG)
    assert "_halve" not in text(WRONG, function="_Machine._halve") and "`half`" in text(WRONG, function="_halve")
    assert "`Machine`" in text(Failure("t", "KeyError", "", "Machine(1)", {}, True), function="Machine._halve")


def test_nothing_of_the_run_stays_in_a_text() -> None:
    said = clean("<a at 0x7f3e>, in /opt/me/testbed/small/code.py:12, line 12")
    assert said == "<a at 0x…>, in code.py, line …"
    drawn = "exists: '/tmp/642782' and '/run/aem/tmp/31', in 21/Nov/2011"
    assert clean(drawn) == "exists: '…' and '…', in 21/Nov/2011", "a name that a test draws is another in each run"


def test_long_tests_and_messages_are_cut() -> None:
    long = Failure("t", "AssertionError", "y\n" * 99, "\n".join(f"x = {n}" for n in range(99)), {}, False)
    assert "x = 98\n" in text(long) and "x = 70\n" not in text(long) and text(long).count("\ny") < 20


def test_quoting_a_line_is_noticed_whatever_its_spaces() -> None:
    assert quotes("see\n   return  a+b*c", "    return a + b * c")
    assert not quotes("return a + b", "return a - b") and not quotes("x = 1", "x = 1")


def test_failures_are_read_as_the_probe_writes_them() -> None:
    row = {"id": "t", "type": "E", "message": "m", "code": "c", "given": {"x": 1}, "inside": 0, "file": "f"}
    assert failure_from(row) == Failure("t", "E", "m", "c", {"x": "1"}, False)
