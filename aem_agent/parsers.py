"""Parsers: from a response's text to an action, or a typed reason why there is none.

A response without an action is recorded as such (`Turn.format_valid`, `Turn.format_error`), and what was said is sent
to the environment trimmed, which will answer that it is not valid: a badly formed response costs a step and never
ends an episode.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from aem_agent.types import AgentError

Reason = Literal["missing_action", "unclosed_action", "empty_action", "too_long", "missing_think"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """An action, and why it is not one that was asked for."""

    action: str
    """What to send to the environment."""
    reason: Reason | None = None
    """None: the response had the form asked for."""


class Parser(Protocol):
    """Reads a response. Registered in `aem_agent.registry.parsers`."""

    name: str

    def __call__(self, text: str) -> Parsed: ...


@dataclass(frozen=True, slots=True)
class LineParser:
    """The first line that is not blank is the action; a leading "> " is forgiven."""

    max_length: int = 1000
    """Characters an action may have; what is longer is cut and `too_long`."""
    name = "line"

    def __post_init__(self) -> None:
        _check_length(self.max_length)

    def __call__(self, text: str) -> Parsed:
        for line in text.split("\n"):
            action = line.strip().removeprefix(">").strip()
            if action:
                return _bounded(action, self.max_length)
        return Parsed("", "empty_action")


@dataclass(frozen=True, slots=True)
class ThinkActionParser:
    """The first `<action>…</action>` after the thinking, else the first at all; tags in any case."""

    require_think: bool = False
    """A response without `<think>…</think>` before its action is ill-formed, though its action is used."""
    max_length: int = 1000
    """Characters an action may have; what is longer is cut and `too_long`."""
    name = "think-action"

    def __post_init__(self) -> None:
        _check_length(self.max_length)

    def __call__(self, text: str) -> Parsed:
        # ASCII only: lower() of other letters can change the length, and with it the positions
        lower = text.translate(_LOWER)
        thought = lower.find("</think>")
        # an action mentioned while thinking is not taken if one follows
        start = lower.find("<action>", thought) if thought >= 0 else -1
        start = start if start >= 0 else lower.find("<action>")
        if start < 0:
            return Parsed(_bounded(text.strip(), self.max_length).action, "missing_action")
        start += len("<action>")
        end = lower.find("</action>", start)
        if end < 0:
            return Parsed(_bounded(text[start:].strip(), self.max_length).action, "unclosed_action")
        action = text[start:end].strip()
        if not action:
            return Parsed("", "empty_action")
        if self.require_think and not 0 <= lower.find("<think>") < thought:
            return Parsed(_bounded(action, self.max_length).action, "missing_think")
        return _bounded(action, self.max_length)


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _bounded(action: str, length: int) -> Parsed:
    return Parsed(action) if len(action) <= length else Parsed(action[:length].rstrip(), "too_long")


def _check_length(length: int) -> None:
    if length < 1:
        raise AgentError(f"max_length must be at least 1, not {length}")
