"""Demands the key on every route of a vLLM server that we start; imported by that server, from a copy of this file.

vLLM itself demands it only below /v1, /v2, /inference and /cohere (seen in 0.32): the development routes, which change
weights and call any method of a worker, would be open to every user of the machine, and to web pages in a browser on
it. The standard library only, so that it runs in any environment.
"""

import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

VARIABLE = "VLLM_API_KEY"
"""Environment variable that holds the key; vLLM reads the same."""
PROOF = "/aem-proof/"
"""Followed by a nonce: the only path that is answered without the key, and shows that the server has it."""

Send = Callable[[dict[str, Any]], Awaitable[None]]


class KeyGuard:
    """ASGI middleware: 401 to every request without `Authorization: Bearer KEY`, whatever its path and method."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._key = os.environ[VARIABLE]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        kind = scope["type"]
        if kind == "http" and scope["path"].startswith(PROOF):
            await _say(send, 200, proof(self._key, scope["path"].removeprefix(PROOF)).encode())
        elif kind not in ("http", "websocket") or self._allowed(scope):
            await self._app(scope, receive, send)
        elif kind == "http":
            await _say(send, 401, b"")
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _allowed(self, scope: dict[str, Any]) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, b"Bearer " + self._key.encode())


def proof(key: str, nonce: str) -> str:
    """What only a holder of the key can say to a nonce."""
    return hmac.new(key.encode(), nonce.encode(), "sha256").hexdigest()


async def _say(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
