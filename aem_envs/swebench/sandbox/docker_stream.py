"""A connection to the docker daemon that the SDK has handed over: read and written without ever waiting."""

import os
import socket
import ssl
from contextlib import suppress
from typing import Any

_CHUNK = 1 << 16


def let_go(raw: Any, owner: int) -> None:
    """`hang_up`, in the process whose connection it is: in a forked one it is the parent's, too."""
    if os.getpid() == owner:
        hang_up(raw)


def hang_up(raw: Any) -> None:
    """End a connection, whoever else still knows of it."""
    with suppress(OSError, AttributeError):  # closed already
        stream = getattr(raw, "_sock", raw)
        stream.shutdown(socket.SHUT_RDWR)
        stream.close()
    with suppress(OSError):
        raw.close()


def send(stream: Any, data: memoryview) -> memoryview:
    """Send what goes at once; what is left. Nothing is if the other side does not read any more."""
    try:
        return data[stream.send(data[:_CHUNK]) :]
    except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
        return data
    except OSError:
        return data[:0]


def receive(stream: Any) -> bytes | None:
    """What is there to be read, up to a megabyte; empty at the end, None if there is nothing yet."""
    found: list[bytes] = []
    try:
        while len(found) < 16 and (chunk := stream.recv(_CHUNK)):
            found.append(chunk)
    except (BlockingIOError, ssl.SSLWantReadError):
        return b"".join(found) or None
    except ConnectionResetError:
        pass
    return b"".join(found)


def buffered(raw: Any, stream: socket.socket) -> bytes:
    """What the HTTP client has read of the stream together with the answer's head."""
    response = getattr(raw, "_response", None)
    reader = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
    if reader is None:
        return b""
    stream.setblocking(False)
    ahead = reader.peek(1)
    return bytes(reader.read1(len(ahead))) if ahead else b""
