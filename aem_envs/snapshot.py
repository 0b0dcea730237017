"""Snapshots as plain JSON: packing, and unpacking of bytes that may come from anywhere."""

import json
from typing import Any, NoReturn

import numpy as np

from aem_envs.core import BadStateError

MAX_BYTES = 1 << 24
"""Largest snapshot that is looked at."""
MAX_SEED = (1 << 256) - 1
"""Largest seed a snapshot may name."""

_PCG64_WORD = 1 << 128


def pack(kind: str, fields: dict[str, Any]) -> bytes:
    """`fields` (plain JSON values) under the name and version of their format, as UTF-8 JSON."""
    return json.dumps({"format": kind, **fields}, separators=(",", ":"), allow_nan=False).encode()


def unpack(state: object, kind: str, fields: dict[str, type]) -> dict[str, Any]:
    """The fields of a snapshot of `pack(kind, …)`: exactly those named, each of exactly that type.

    Raises:
        BadStateError: anything else.
    """
    if not isinstance(state, bytes | bytearray) or len(state) > MAX_BYTES:
        raise BadStateError(f"a snapshot is bytes of at most {MAX_BYTES}, as get_state returns them")
    try:
        found = json.loads(bytes(state).decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadStateError(f"not a snapshot: {type(error).__name__}") from None
    if not isinstance(found, dict) or found.pop("format", None) != kind:
        raise BadStateError(
            f"not a snapshot of the format {kind!r}: take one with get_state of the same environment and version"
        )
    if found.keys() != fields.keys():
        raise BadStateError(f"a snapshot {kind!r} holds exactly: {', '.join(fields)}")
    for name, expected in fields.items():
        if type(found[name]) is not expected:
            raise BadStateError(f"snapshot field {name!r} must be {expected.__name__}")
    return found


def within(value: int, low: int, high: int, name: str) -> int:
    """`value` if it lies in [low, high]; raises `BadStateError`."""
    if not low <= value <= high:
        raise BadStateError(f"snapshot field {name!r} must lie in {low}..{high}")
    return value


def steps_taken(steps: int, running: bool, limit: int) -> int:
    """`steps` if an episode of at most `limit` can have taken so many; raises `BadStateError`. One that runs on has one
    left at least: the last would have ended it."""
    return within(steps, 0, limit - running, "steps")


def rng_to_json(rng: np.random.Generator) -> list[int]:
    """State of Gymnasium's generator (PCG64) as four integers."""
    state: Any = rng.bit_generator.state
    return [state["state"]["state"], state["state"]["inc"], state["has_uint32"], state["uinteger"]]


def rng_from_json(words: list[Any]) -> np.random.Generator:
    """A generator in the state that `rng_to_json` gave; raises `BadStateError`."""
    if len(words) != 4 or any(type(word) is not int for word in words):
        raise BadStateError("snapshot field 'rng' must hold four integers")
    state, inc, has_uint32, uinteger = words
    if not (
        0 <= state < _PCG64_WORD
        and 0 <= inc < _PCG64_WORD
        and inc % 2
        and has_uint32 in (0, 1)
        and 0 <= uinteger < 1 << 32
    ):
        raise BadStateError("snapshot field 'rng' is out of range")
    generator = np.random.PCG64(0)
    generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": inc},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(generator)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
