"""Parsers: the action, or a typed reason; never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aem_agent.parsers import LineParser, Parsed, ThinkActionParser
from aem_agent.registry import parsers
from aem_agent.types import AgentError


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("go to shelf 1\n", Parsed("go to shelf 1")),
        ("\n \n  look  \nopen fridge 1\n", Parsed("look")),
        ("> look", Parsed("look")),
        ("", Parsed("", "empty_action")),
        (" \n\t\n>\n", Parsed("", "empty_action")),
        ("x" * 11, Parsed("x" * 10, "too_long")),
    ],
)
def test_line(text: str, parsed: Parsed) -> None:
    assert LineParser(max_length=10 if "x" in text else 100)(text) == parsed


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("<think>hm</think><action>look</action>", Parsed("look")),
        ("<think>hm</think>\n<action>\n go east \n</action> <action>no</action>", Parsed("go east")),
        ("<action>look</action>", Parsed("look")),
        ("<think>maybe <action>jump</action>? no</think><action>look</action>", Parsed("look")),
        ("<think><action>jump</action></think> done", Parsed("jump")),
        ("<ACTION>Look</Action>", Parsed("Look")),
        ("İİİ<action>é ü</action>", Parsed("é ü")),
        ("go east", Parsed("go east", "missing_action")),
        ("", Parsed("", "missing_action")),
        ("<think>x</think><action>go ea", Parsed("go ea", "unclosed_action")),
        ("<action> </action>", Parsed("", "empty_action")),
        (f"<action>{'x' * 1001}</action>", Parsed("x" * 1000, "too_long")),
    ],
)
def test_think_action(text: str, parsed: Parsed) -> None:
    assert ThinkActionParser()(text) == parsed


def test_thinking_can_be_required() -> None:
    strict = ThinkActionParser(require_think=True)
    assert strict("<think>hm</think><action>look</action>") == Parsed("look")
    assert strict("<action>look</action>") == Parsed("look", "missing_think")
    assert strict("</think><action>look</action>") == Parsed("look", "missing_think")


@given(st.lists(st.sampled_from(["<think>", "</think>", "<action>", "</action>", "go", "\n", " ", "İ", "\ud800"])))
def test_any_text_gives_a_bounded_action(pieces: list[str]) -> None:
    for name in ("line", "think-action"):
        parsed = parsers.get(name)(max_length=5)("".join(pieces))
        assert len(parsed.action) <= 5 and parsed.action == parsed.action.strip()
        assert parsed.action or parsed.reason


def test_options_are_checked() -> None:
    with pytest.raises(AgentError):
        LineParser(max_length=0)
