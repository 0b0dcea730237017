"""Episodes as plain JSON data and back. Fields at their default are left out; unknown fields are refused."""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from functools import partial
from json import JSONEncoder
from json.encoder import encode_basestring_ascii
from math import isfinite
from operator import itemgetter
from typing import Any

from aem_agent.types import Episode, Response, Turn


class BadRecordError(ValueError):
    """Data that is not an episode; says which field."""


MAX_NUMBER = 1e100
"""Rewards and scores are no larger: sums of them, and means, stay finite."""
MAX_SUM = 1e150
"""Nor are sums over an episode."""

_encode = JSONEncoder(check_circular=False, separators=(",", ":"), default=repr).encode
_FIRST_VERSION = Response("").policy_versions
_ESCAPED = bytes({*range(0x20), ord('"'), ord("\\")} - {ord("\n")})
_KEPT = frozenset(("score", "won", "anchor", "action_error"))
_kept = itemgetter("score", "won", "anchor", "action_error")


def to_line(episode: Episode) -> str:
    """An episode as one line of JSON, ASCII, without a newline. Written out by hand: it runs once per turn played."""
    head = {}
    for name, default in _EPISODE_DEFAULTS:
        value = getattr(episode, name)
        if value != default:
            head[name] = value
    turns = ",".join([_turn_line(turn) for turn in episode.turns])
    return f'{_encode(head)[:-1]},"turns":[{turns}]}}'


def _turn_line(turn: Turn) -> str:
    said = turn.response
    line = f'{{"observation":{_text(turn.observation)},"response":{{"text":{_text(said.text)}'
    if said.token_ids:
        line += f',"token_ids":{_encode(said.token_ids)}'
    if said.logprobs is not None:
        line += f',"logprobs":{_encode(said.logprobs)}'
    if said.entropies is not None:
        line += f',"entropies":{_encode(said.entropies)}'
    if said.finish_reason != "stop":
        line += f',"finish_reason":{_text(said.finish_reason)}'
    if said.policy_versions is not _FIRST_VERSION and said.policy_versions != _FIRST_VERSION:
        line += f',"policy_versions":{_encode(said.policy_versions)}'
    if said.usage is not None:
        line += f',"usage":{_encode(said.usage)}'
    if said.cost is not None:
        line += f',"cost":{_encode(said.cost)}'
    line += f'}},"action":{_text(turn.action)}'
    if turn.prompt_token_ids:
        line += f',"prompt_token_ids":{_encode(turn.prompt_token_ids)}'
    if not turn.format_valid:
        line += ',"format_valid":false'
    if turn.format_error is not None:
        line += f',"format_error":{_text(turn.format_error)}'
    if not turn.action_valid:
        line += ',"action_valid":false'
    if turn.reward:
        line += f',"reward":{_encode(turn.reward)}'
    if turn.dropped_turns:
        line += f',"dropped_turns":{turn.dropped_turns}'
    return f"{line}{_info(turn.info)}}}"


def _info(info: dict[str, Any]) -> str:
    """What `kept_info` keeps, by hand, anything else by the encoder."""
    if not info:
        return ""
    if info.keys() == _KEPT:
        score, won, anchor, error = _kept(info)
        if type(score) is float and isfinite(score) and type(won) is bool and type(anchor) is str and error is None:
            word = "true" if won else "false"
            return f',"info":{{"score":{score!r},"won":{word},"anchor":{_text(anchor)},"action_error":null}}'
    return f',"info":{_encode(info)}'


def _text(text: str) -> str:
    """A string of JSON. Where nothing but line ends needs an escape, finding that out is quicker than escaping."""
    if len(text) > 100 and text.isascii():
        plain = text.encode()
        if len(plain.translate(None, _ESCAPED)) == len(plain):
            return '"' + text.replace("\n", "\\n") + '"'
    return encode_basestring_ascii(text)


def from_json(data: Any) -> Episode:
    """The episode that `to_line` wrote, as `json.loads` reads it.

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


def _int(value: Any) -> int:
    whole: int = _is(int, value)
    if whole.bit_length() > 128:  # Python's have no end, and whoever adds or prints such a one has
        raise BadRecordError("a number too large")
    return whole


def _bounded(most: float, value: Any) -> float:
    number = _number(value)
    if not abs(number) <= most:
        raise BadRecordError(f"{number} is not between ±{most:g}")
    return number


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


def _tuple_of_one(kind: type, reader: Reader, value: Any) -> tuple[Any, ...]:
    """As `_tuple_of`. A prompt has thousands of ids: where all are exactly of `kind`, they are not looked at singly."""
    if type(value) is list and set(map(type, value)) <= {kind}:
        return tuple(value)
    return _tuple_of(reader, value)


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, list) and len(value) == 2 else (None, None)
    return _int(first), _int(second)


def _finish_reason(value: Any) -> str:
    if value not in ("stop", "length", "error"):
        raise BadRecordError(f"{str(value)[:40]!r} is not a finish reason")
    return str(value)


_str: Reader = partial(_is, str)
_bool: Reader = partial(_is, bool)
_ids = partial(_tuple_of_one, int, _int)
_numbers = partial(_optional, partial(_tuple_of_one, float, _number))

_RESPONSE_READERS: dict[str, Reader] = {
    "text": _str,
    "token_ids": _ids,
    "logprobs": _numbers,
    "entropies": _numbers,
    "finish_reason": _finish_reason,
    "policy_versions": partial(_tuple_of, _pair),
    "usage": partial(_optional, _pair),
    "cost": partial(_optional, _number),
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
    "reward": partial(_bounded, MAX_NUMBER),
    "info": partial(_is, dict),
    "dropped_turns": _int,
}


def _turn(value: Any) -> Turn:
    return Turn(**_checked(value, Turn, _TURN_READERS, "turn"))


_EPISODE_READERS: dict[str, Reader] = {
    **dict.fromkeys(("env_id", "task_id", "task_type", "split", "final_observation"), _str),
    **dict.fromkeys(("data_hash", "engine", "start_anchor"), _str),
    **dict.fromkeys(("repeat", "seed", "retries"), _int),
    **dict.fromkeys(("terminated", "truncated", "won"), _bool),
    **dict.fromkeys(("truncation_reason", "error"), partial(_optional, _str)),
    "score": partial(_bounded, MAX_NUMBER),
    **dict.fromkeys(("return_", "seconds"), partial(_bounded, MAX_SUM)),
    "turns": partial(_tuple_of, _turn),
}

_EPISODE_DEFAULTS = [
    (f.name, object() if f.default is MISSING else f.default) for f in fields(Episode) if f.name != "turns"
]
"""A field without a default is always written."""
