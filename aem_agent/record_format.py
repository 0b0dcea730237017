"""Episodes as plain JSON data and back. Fields at their default are left out; unknown fields are refused."""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from functools import partial
from typing import Any

from aem_agent.types import Episode, Response, Turn


class BadRecordError(ValueError):
    """Data that is not an episode; says which field."""


_RESPONSE_DEFAULTS = Response("")
_NO_TOKENS: tuple[int, ...] = ()
_FIRST_VERSION = _RESPONSE_DEFAULTS.policy_versions


def to_json(episode: Episode) -> dict[str, Any]:
    """An episode as dicts, lists, strings and numbers. Written out by hand: it runs once per turn played."""
    data: dict[str, Any] = {}
    for name, default in _EPISODE_DEFAULTS:
        value = getattr(episode, name)
        if value != default:
            data[name] = value
    data["turns"] = [_turn_to_json(turn) for turn in episode.turns]
    return data


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    said = turn.response
    response: dict[str, Any] = {"text": said.text}
    if said.token_ids:
        response["token_ids"] = said.token_ids
    if said.logprobs is not None:
        response["logprobs"] = said.logprobs
    if said.entropies is not None:
        response["entropies"] = said.entropies
    if said.finish_reason != "stop":
        response["finish_reason"] = said.finish_reason
    if said.policy_versions != _FIRST_VERSION:
        response["policy_versions"] = said.policy_versions
    if said.usage is not None:
        response["usage"] = said.usage
    data: dict[str, Any] = {"observation": turn.observation, "response": response, "action": turn.action}
    if turn.prompt_token_ids:
        data["prompt_token_ids"] = turn.prompt_token_ids
    if not turn.format_valid:
        data["format_valid"] = False
    if turn.format_error is not None:
        data["format_error"] = turn.format_error
    if not turn.action_valid:
        data["action_valid"] = False
    if turn.reward:
        data["reward"] = turn.reward
    if turn.info:
        data["info"] = turn.info
    if turn.dropped_turns:
        data["dropped_turns"] = turn.dropped_turns
    return data


def from_json(data: Any) -> Episode:
    """The episode that `to_json` described.

    Raises:
        BadRecordError: a missing, unknown or wrongly typed field.
    """
    return Episode(**_checked(data, Episode, _EPISODE_READERS, "episode"))


Reader = Callable[[Any], Any]


def _checked(data: Any, kind: type, readers: dict[str, Reader], where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise BadRecordError(f"{where} is not an object")
    unknown = data.keys() - readers.keys()
    missing = [f.name for f in fields(kind) if _required(f) and f.name not in data]
    if unknown or missing:
        named = ", ".join(sorted(map(str, unknown))[:5]) or ", ".join(missing)
        raise BadRecordError(f"{where} {'has unknown' if unknown else 'lacks the'} fields: {named}")
    values = {}
    for name, value in data.items():
        try:
            values[name] = readers[name](value)
        except BadRecordError as error:
            raise BadRecordError(f"{where}.{name}: {error}") from error
    return values


def _required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _is(kind: type, value: Any) -> Any:
    # bool is an int to Python, and not to a record
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRecordError(f"{str(value)[:40]!r} is not of type {kind.__name__}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecordError(f"{str(value)[:40]!r} is not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise BadRecordError("a number too large") from error


def _optional(reader: Reader, value: Any) -> Any:
    return None if value is None else reader(value)


def _tuple_of(reader: Reader, value: Any) -> tuple[Any, ...]:
    return tuple([reader(item) for item in _is(list, value)])


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, list) and len(value) == 2 else (None, None)
    return _int(first), _int(second)


def _finish_reason(value: Any) -> str:
    if value not in ("stop", "length", "error"):
        raise BadRecordError(f"{str(value)[:40]!r} is not a finish reason")
    return str(value)


_str: Reader = partial(_is, str)
_int: Reader = partial(_is, int)
_bool: Reader = partial(_is, bool)
_ids = partial(_tuple_of, _int)
_numbers = partial(_optional, partial(_tuple_of, _number))

_RESPONSE_READERS: dict[str, Reader] = {
    "text": _str,
    "token_ids": _ids,
    "logprobs": _numbers,
    "entropies": _numbers,
    "finish_reason": _finish_reason,
    "policy_versions": partial(_tuple_of, _pair),
    "usage": partial(_optional, _pair),
}


def _response(value: Any) -> Response:
    return Response(**_checked(value, Response, _RESPONSE_READERS, "response"))


_TURN_READERS: dict[str, Reader] = {
    "observation": _str,
    "response": _response,
    "action": _str,
    "prompt_token_ids": _ids,
    "format_valid": _bool,
    "format_error": partial(_optional, _str),
    "action_valid": _bool,
    "reward": _number,
    "info": partial(_is, dict),
    "dropped_turns": _int,
}


def _turn(value: Any) -> Turn:
    return Turn(**_checked(value, Turn, _TURN_READERS, "turn"))


_EPISODE_READERS: dict[str, Reader] = {
    **dict.fromkeys(("env_id", "task_id", "task_type", "split", "final_observation", "data_hash", "engine"), _str),
    **dict.fromkeys(("repeat", "seed", "retries"), _int),
    **dict.fromkeys(("terminated", "truncated", "won"), _bool),
    **dict.fromkeys(("truncation_reason", "error"), partial(_optional, _str)),
    **dict.fromkeys(("return_", "score", "seconds"), _number),
    "turns": partial(_tuple_of, _turn),
}

_EPISODE_DEFAULTS = [
    (f.name, object() if f.default is MISSING else f.default) for f in fields(Episode) if f.name != "turns"
]
"""A field without a default is always written."""
