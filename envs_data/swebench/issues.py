"""Issue texts: what a user would report who met the fault, written from one failing test.

The text tells code, outcome and expectation; it names no file or line of the fault, and does not quote it.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

_CODE_LINES = 28
_HEAD_LINES = 10
_MESSAGE_LINES = 14
_WIDTH = 200
_GIVEN = 6


@dataclass(frozen=True)
class Failure:
    """How one test failed."""

    test: str
    """Its id."""
    type: str
    """Name of the exception's class."""
    message: str
    code: str
    """The test's statements up to the one that failed; empty where there are none, as for a text of doctests."""
    given: Mapping[str, str]
    """Values of its parameters."""
    inside: bool
    """The exception came out of the package, rather than from an assertion in the test."""


def failure_from(row: Mapping[str, Any]) -> Failure:
    """A failure as the probe wrote it."""
    given = {str(name): str(value) for name, value in dict(row["given"]).items()}
    names = (str(row["id"]), str(row["type"]), str(row["message"]), str(row["code"]))
    return Failure(*names, given, bool(row["inside"]))


_OPENINGS = {
    "another": (
        "{thing} raises {type} instead of {wanted}",
        "{type} rather than {wanted} from {thing}",
        "{thing}: wrong exception",
    ),
    "raises": (
        "{thing} raises {type}",
        "Unexpected {type} from {thing}",
        "{type} when using {thing}",
    ),
    "silent": (
        "{thing} does not raise {type} any more",
        "No {type} from {thing}",
        "{thing} accepts what should raise {type}",
    ),
    "wrong": (
        "{thing} gives a wrong result",
        "Wrong result from {thing}",
        "{thing}: unexpected outcome",
        "{thing} does not behave as documented",
    ),
}
_INTRODUCTIONS = (
    "With {package} {version}, the following does not work as it should:",
    "I ran into this with {package} {version}. To reproduce:",
    "Since the last change to {package} this code fails:",
    "Minimal example, {package} {version}:",
    "The following used to work in {package} and does not now:",
)
_EXPECTED = {
    "another": (
        "I expected {wanted}.",
        "This should raise {wanted}.",
        "{wanted} is what should be raised here.",
    ),
    "raises": (
        "I expected it to run through without an error.",
        "No exception should be raised here.",
        "This is valid use, so it should work.",
    ),
    "silent": (
        "I expected {type} to be raised.",
        "It should raise {type}.",
        "{type} should be raised here, as it used to be.",
    ),
    "wrong": (
        "I expected the check at the end to hold.",
        "The last statement should pass.",
        "The assertion at the end should hold.",
    ),
}
_HAPPENED = {
    "another": ("Instead I get:", "What is raised:", "Actual outcome:"),
    "raises": ("Instead it fails with:", "What I get:", "Actual outcome:"),
    "silent": ("Nothing is raised:", "What happens instead:", "Actual outcome:"),
    "wrong": ("Instead:", "What I get:", "Actual outcome:"),
}
_EXTENT = (
    "{count} of the project's tests {fail} because of this{among}.",
    "Running the test suite, I see {count} failing {tests}{among}.",
    "In the test suite {count} {tests} {fail} with it{among}.",
)

_COMMON_NAMES = """list dict set tuple len str int float raises isinstance sorted range repr type print bool iter next
map zip bytes hasattr getattr id sum min max any all partial partialmethod object Mock patch lambda frozenset open
super"""
"""Calls in a test that tell nothing of what it is about."""


def issue_text(failure: Failure, *, package: str, version: str, function: str, failing: int, seed: str) -> str:
    """The issue, its title in the first line. The same arguments give the same text."""
    random = Random(seed)
    sort, raised, wanted = _sort(failure)
    plural, name = "" if failing == 1 else "s", failure.test.partition("[")[0].rpartition("::")[2]
    words = {
        "package": package,
        "version": version,
        "thing": _thing(package, function, failure.code),
        "type": f"`{raised}`",
        "wanted": f"`{wanted}`",
        "count": "one" if failing == 1 else str(failing),
        "tests": f"test{plural}",
        "fail": "fails" if failing == 1 else "fail",
        "among": f" ({'among them ' if failing > 1 else ''}`{name}`)"
        if failure.given or "self." in failure.code
        else "",
    }

    def say(choices: tuple[str, ...]) -> str:
        said = random.choice(choices).format(**words)
        return said[0].upper() + said[1:]

    parts = [say(_OPENINGS[sort]), say(_INTRODUCTIONS), f"```python\n{_code(failure)}\n```", say(_EXPECTED[sort])]
    parts += [f"{say(_HAPPENED[sort])}\n\n```\n{_outcome(failure)}\n```", say(_EXTENT)]
    return "\n\n".join(parts) + "\n"


def _sort(failure: Failure) -> tuple[str, str, str]:
    """(sort of failure, exception raised or missed, exception that should have been raised)."""
    first = failure.message.partition("\n")[0]
    found = re.search(r"DID NOT (?:RAISE|WARN)\b.*?(\w+)['\">)\s]*$", first)
    if found := found or re.match(r"([\w.]+) not raised", first):
        return "silent", found[1], found[1]
    if failure.type in ("AssertionError", "Failed"):
        return "wrong", failure.type, ""
    wanted = _awaited(failure.code)
    if wanted and wanted != failure.type:
        return "another", failure.type, wanted
    return "raises", failure.type, ""


def _awaited(code: str) -> str:
    """The exception that the last statement of a test waits for, such as in `with raises(ValueError)`; or nothing."""
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return ""
    if not body or not isinstance(body[-1], (ast.With, ast.Expr)):
        return ""
    found = re.findall(r"\b(?:raises|assertRaises\w*)\(\s*([\w.]+)", ast.unparse(body[-1]))
    return found[-1].rpartition(".")[2] if found else ""


def quotes(text: str, line: str) -> bool:
    """Whether a text holds a line of code, spaces aside; very short lines tell nothing and count as not held."""
    squeezed = re.sub(r"\s+", "", line)
    return len(squeezed) >= 8 and squeezed in re.sub(r"\s+", "", text)


def _thing(package: str, function: str, code: str) -> str:
    """What the report is about: the function, if users know it and the code calls it; else the package."""
    names = [name for name in function.split(".") if name != "<locals>"]
    public = [name for name in names if not name.startswith("_")]
    if len(public) == len(names) and re.search(rf"\b{re.escape(names[-1])}\b", code):
        return f"`{function}`" if "<locals>" not in function else f"`{names[0]}`"
    if public and re.search(rf"\b{re.escape(public[0])}\b", code):
        return f"`{public[0]}`"
    known = [name for name in _called(code) if name not in _COMMON and not re.match("test|assert|_", name)]
    return f"`{known[-1]}`" if known else package


def _called(code: str) -> list[str]:
    """Names of what code calls, in the order of the text, but for its own functions and one-letter names."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return []
    own = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    places: list[tuple[int, int, str]] = []
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            places.append((node.lineno, node.col_offset, name))
    return [name for *_, name in sorted(places) if name not in own and len(name) > 2]


_COMMON = frozenset(re.findall(r"\w+", _COMMON_NAMES))


def _code(failure: Failure) -> str:
    given = [f"# with {name} = {value}" for name, value in list(failure.given.items())[:_GIVEN]]
    lines = failure.code.split("\n")
    if len(lines) > _CODE_LINES:
        lines = [*lines[:_HEAD_LINES], "# …", *lines[_HEAD_LINES - _CODE_LINES :]]
    return "\n".join([*(clean(one) for one in given), *(line.rstrip() for line in lines)])


def _outcome(failure: Failure) -> str:
    text = clean(failure.message) or "(no message)"
    lines = [line[:_WIDTH] for line in text.split("\n") if line.strip() and "Use -v to get" not in line]
    if len(lines) > _MESSAGE_LINES:
        lines = [*lines[:_MESSAGE_LINES], "…"]
    head = "" if failure.type in ("Failed",) else f"{failure.type}: "
    return head + "\n".join(lines)


def clean(text: str) -> str:
    """Without what differs from run to run or from machine to machine: addresses, places of files, numbers of lines."""
    text = re.sub(r"\bat 0x[0-9a-f]+", "at 0x…", text)
    text = re.sub(r"(?<!\w)(?:/[\w.+-]+)+/\d+(?![\w.+/-])", "…", text)  # names that a test draws, in whatever folder
    text = re.sub(r"(?:/[\w.+-]+){2,}/([\w.+-]+)", r"\1", text)
    text = re.sub(r"(\w+\.py):\d+", r"\1", text)
    return re.sub(r"(?i)\bline \d+", "line …", text)
