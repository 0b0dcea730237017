"""What a pool and its workers say to each other: records of a number, a kind and a pickled payload.

The number names an environment and is never used again, so that a late answer reaches nobody else. Pickles pass between
our own processes only. Each payload is pickled by itself: one that cannot be, or that is too large, fails alone.
"""

import pickle
import struct
from collections.abc import Iterator
from typing import Any

from aem_envs.core import InfrastructureError
from aem_envs.sanitize import plain

HEADER = struct.Struct("<qIB")
"""Number of the environment (0: the worker itself), bytes of the payload, kind."""
MAX_RECORD = 64 << 20
"""Bytes that one payload may have."""
CHUNK = 1 << 18
"""Bytes read at once."""
SMALL = 1024
"""Bytes of a pickled decision up to which it is kept, in case that the same is made again."""
MAX_ERROR = 1 << 16
"""Bytes of a pickled error; a larger one is told by its text."""

RESULT, ERROR, READY = range(3)
"""Kinds of replies. READY, once: the worker has made its first environment, and says whether it is `blocking`."""

RESET, STEP, ACT, CLOSE = range(4)
"""What a request asks for, its first element:
`(RESET, task id, split, seed)`, `(STEP, action)`, `(ACT, start, seen)`, `(CLOSE,)`.

`start` begins a policy's episode, `(pickled policy, env id, task id, split, seed)`, else None; `seen` is (observation,
info), None for those that the environment gave last. CLOSE is not answered.
To number 0 goes `make_env` first, and then anything to make the worker quit.
"""


def record(number: int, kind: int, payload: bytes) -> bytes:
    """One record as it is sent."""
    return HEADER.pack(number, len(payload), kind) + payload


def packed(value: Any, what: str) -> bytes:
    """`value` pickled; raises `InfrastructureError` if it cannot be, or is too large. `what` names it."""
    try:
        data = pickle.dumps(value, 5)
    except Exception as error:
        raise InfrastructureError(
            f"{what} cannot be sent to another process ({type(error).__name__}: {error}); keep to plain data"
        ) from error
    if len(data) > MAX_RECORD:
        raise InfrastructureError(
            f"{what} has {len(data) >> 20} MiB, more than the {MAX_RECORD >> 20} MiB that are sent"
        )
    return data


class Records:
    """Cuts what arrives into records."""

    __slots__ = ("_bytes", "_need")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._need = HEADER.size

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """The records that `data` completes, as (number, kind, payload)."""
        waiting = self._bytes
        waiting += data
        if len(waiting) < self._need:
            return
        at, end, head = 0, len(waiting), HEADER.size
        while end - at >= head:
            number, size, kind = HEADER.unpack_from(waiting, at)
            if end - at - head < size:
                self._need = head + size
                break
            at += head
            payload = bytes(waiting[at : at + size])
            at += size
            yield number, kind, payload
        else:
            self._need = head
        del waiting[:at]


def deliverable(error: BaseException) -> Exception:
    """What an environment or a policy raised, as an error that may be raised elsewhere: one that would end a process, a
    task or a generator there becomes an `InfrastructureError`."""
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    return InfrastructureError(f"{type(error).__name__}: {error}")


def packed_error(error: BaseException) -> bytes:
    """What an environment or a policy raised, with its text in case that it cannot be had as it is."""
    text = "it has no text: its __str__ failed"
    try:
        text = plain(str(error))[:MAX_ERROR]
        data = pickle.dumps(deliverable(error), 5)
        if len(data) > MAX_ERROR or not isinstance(pickle.loads(data), Exception):
            data = b""
    except Exception:  # it has no pickle
        data = b""
    return pickle.dumps((data, type(error).__name__, text), 5)


def unpacked_error(payload: bytes) -> Exception:
    """The error itself where it can be had here, else an `InfrastructureError` with its type and text."""
    data, name, text = pickle.loads(payload)
    try:
        error = pickle.loads(data)
        if isinstance(error, Exception):
            return error
    except Exception:  # of a class that cannot be imported here, or without a pickle
        pass
    return InfrastructureError(f"{name}: {text}")


def unpacked(payload: bytes) -> Any:
    """What a worker answered; raises `InfrastructureError` if it holds what does not exist here."""
    try:
        return pickle.loads(payload)
    except Exception as error:
        raise InfrastructureError(
            f"the environment's answer cannot be read here ({type(error).__name__}: {error}); keep to plain data"
        ) from error
