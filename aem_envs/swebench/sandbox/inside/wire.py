"""The channel between a sandbox and its room: frames of one JSON object and some bytes, over two pipes."""

import json
import os
import select
import struct
import time
from typing import Any

_LENGTHS = struct.Struct(">IQ")
_PIECE = 1 << 20


class ChannelError(Exception):
    """The other side is gone, silent for too long, or sent something else; sandboxes raise `SandboxError` for it."""


def send(fd: int, message: dict[str, Any], body: bytes = b"") -> None:
    """Write one frame; raises `ChannelError`."""
    head = json.dumps(message).encode()
    try:
        _write(fd, _LENGTHS.pack(len(head), len(body)) + head)
        _write(fd, body)
    except OSError as error:
        raise ChannelError(f"the other side is gone ({error})") from error


def receive(fd: int, *, timeout: float | None = None, limit: int = 1 << 32) -> tuple[dict[str, Any], bytes]:
    """Read one frame of at most `limit` bytes within `timeout` seconds; raises `ChannelError`."""
    end = None if timeout is None else time.monotonic() + timeout
    head_length, body_length = _LENGTHS.unpack(_read(fd, _LENGTHS.size, end))
    if head_length > 1 << 24 or body_length > limit:
        raise ChannelError(f"a frame of {head_length} and {body_length} bytes is too large")
    message = json.loads(_read(fd, head_length, end))
    if not isinstance(message, dict):
        raise ChannelError("a frame holds no JSON object")
    return message, _read(fd, body_length, end)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:_PIECE]) :]


def _read(fd: int, size: int, end: float | None) -> bytes:
    parts = []
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while size:
        if end is not None and not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            raise ChannelError("no answer in time")
        try:
            part = os.read(fd, min(size, _PIECE))
        except OSError as error:
            raise ChannelError(f"the other side is gone ({error})") from error
        if not part:
            raise ChannelError("the other side is gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
