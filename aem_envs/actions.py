"""Reading an action: an agent may send anything, and nothing it sends may raise."""

from typing import Any

MAX_ACTION = 10_000
"""Characters of the longest action that is looked at."""


def unusable(action: Any, limit: int = MAX_ACTION) -> str | None:
    """Why `action` cannot be looked at; None if it is a string of valid Unicode, of at most `limit` characters."""
    if not isinstance(action, str):
        return f"an action is a string, not {type(action).__name__}"
    if len(action) > limit:
        return f"an action has at most {limit} characters, not {len(action)}"
    if not action.isascii():
        try:
            action.encode()
        except UnicodeEncodeError:
            return "the action is not valid Unicode"
    return None


def read_action(action: Any) -> tuple[str | None, str | None]:
    """(action stripped, spaces collapsed, lower case; None), or (None or "", why it cannot be an action)."""
    if error := unusable(action):
        return None, error
    parsed = " ".join(action.lower().split())
    return parsed, None if parsed else "the action is empty"


def shown(action: Any) -> str:
    """`action` for a person's eyes: never raises, whatever was sent."""
    return action[:1_000] if isinstance(action, str) else f"({type(action).__name__})"
