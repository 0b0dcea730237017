"""What all engines over HTTP share: connections, the key, tries and pauses, limits, and what it all costs.

The key comes from the environment, or from memory for servers of our own, and goes into requests' headers and nowhere
else: no error, record, log line or representation holds it, not even where a server repeats it. Waits are counted by
the event loop's clock; the wall clock plays no part.
"""

import asyncio
import json
import os
import random
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from aem_agent.engines.endpoint_key import Key
from aem_agent.engines.endpoint_url import checked_url, is_local
from aem_agent.engines.endpoint_usage import Usage
from aem_agent.prices import Prices
from aem_agent.types import EngineError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
RETRIED = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501, 505}
"""Status codes that may pass by themselves."""
LASTING = ("insufficient_quota", "CERTIFICATE_VERIFY_FAILED")
"""Words of failures that look as if they might pass, and do not."""
LONGEST_WAIT = 60.0
"""Seconds between two tries at most, whatever the server asks for."""
LONGEST_ANSWER = 16 << 20
"""Bytes of an answer at most: some 100,000 tokens with their log-probs."""
LONGEST_REFUSAL = 1 << 16
"""Bytes that are read of an answer that is no success."""
NOW_TRIES = 3
"""Of `get_now`, at most."""
NOW_SECONDS = 30.0
"""Of `get_now`, all its tries and pauses together."""


class EndpointRefusedError(EngineError):
    """An endpoint refused a request, and would refuse it again: `status` is its code, `text` what it said."""

    def __init__(self, message: str, status: int, text: str) -> None:
        super().__init__(message)
        self.status = status
        self.text = text


@dataclass(slots=True)
class _Connections:
    """Of one event loop: neither connections nor semaphores can move to another."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    holder: "AsyncGenerator[httpx.AsyncClient]"
    """Closes the client when it is closed itself."""


class Endpoint:
    """JSON over HTTP with one server.

    Args:
        base_url: up to and including `/v1`; None: `$OPENAI_BASE_URL`, else OpenAI's.
        key: None: `$OPENAI_API_KEY`.
        concurrency: requests in flight at once; further ones wait.
        timeout: seconds for one try, answer included.
        retries: further tries on 408, 409, 425, 429, 5xx, time-outs and lost connections. The defaults outlast a
            minute of failures.
        backoff: seconds before the first of them; doubled each time, and longer if the server asks for it.
        longest: bytes of an answer at most.
        prices: of tokens, where the endpoint does not say what an answer costs.
        lost: asked before another try: why none can help, or "".
        reuse: keep connections for further requests. A server that closes an idle one may do so in the very moment
            another request is sent on it, which is then lost: not for what must not be sent twice.
        transport: replaces the network in tests.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        key: Key | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        retries: int = 6,
        backoff: float = 1.0,
        longest: int = LONGEST_ANSWER,
        prices: Prices | None = None,
        lost: Callable[[], str] = str,
        reuse: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL)
        self.key = Key.from_environment(needed=self.url == DEFAULT_BASE_URL) if key is None else key
        self.usage = Usage(prices)
        self._concurrency = concurrency
        self._timeout = timeout
        self._retries = retries
        self._backoff = backoff
        self._longest = longest
        self._lost = lost
        self._reuse = reuse
        self._transport = transport
        self._jitter = random.Random()
        self._closed = False
        self._connections: dict[asyncio.AbstractEventLoop, _Connections] = {}

    async def post(self, path: str, payload: Any, *, timeout: float | None = None, tries: int = 0) -> Any:
        """The JSON that a POST to `path` (which begins with "/", after the base URL) is answered with, or None.

        `timeout` and `tries`, where given, stand for the endpoint's own limit and number of tries.

        Raises:
            EndpointRefusedError: a status code that is no success and not worth another try.
            EngineError: no answer after the last try, one too long, or no JSON. Never holds the key.
        """
        return await self._json("POST", path, json.dumps(payload).encode(), timeout=timeout, tries=tries)

    async def get(self, path: str) -> Any:
        """As `post`, for a GET."""
        return await self._json("GET", path, None)

    def get_now(self, path: str) -> Any:
        """As `get`, for callers outside of any event loop who wait for it: few tries, and Ctrl-C ends it at once."""
        outcome: Future[Any] = Future()

        async def ask() -> Any:
            try:
                async with asyncio.timeout(NOW_SECONDS):
                    return await self._json("GET", path, None, tries=min(NOW_TRIES, self._retries + 1))
            except TimeoutError:
                raise self.error(path, f"no answer within {NOW_SECONDS:g} s") from None

        def work() -> None:
            try:
                outcome.set_result(asyncio.run(ask()))
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=work, name="endpoint", daemon=True).start()  # not waited for after Ctrl-C
        return outcome.result()

    async def aclose(self) -> None:
        """Close the connections; further requests are refused."""
        self._closed = True
        await self._disconnect()

    def masked(self, text: str) -> str:
        """`text` without the key."""
        return self.key.masked(text)

    def error(self, path: str, what: str) -> EngineError:
        """An error about what was answered at `path`; never holds the key."""
        return EngineError(f"{self.url}{path}: {self.masked(what)}")

    async def _json(self, method: str, path: str, body: bytes | None, **limits: Any) -> Any:
        data = await self._answer(method, path, body, **limits)
        try:
            return json.loads(data) if data else None
        except (ValueError, RecursionError):
            raise self.error(path, f"not a JSON text: {self._quoted(data)!r}") from None

    async def _answer(
        self, method: str, path: str, body: bytes | None, *, timeout: float | None = None, tries: int = 0
    ) -> bytes:
        """The body of a success, after as many tries as it takes."""
        tries = tries or self._retries + 1
        here = await self._here()
        async with here.slots:
            for attempt in range(tries):
                self.usage.retries += attempt > 0
                wait = None
                try:
                    async with asyncio.timeout(timeout or self._timeout):  # httpx limits that of each part, not of all
                        async with here.client.stream(method, f"{self.url}{path}", content=body) as answer:
                            data = await self._read(answer, path)
                except (httpx.HTTPError, OSError) as error:  # TimeoutError is an OSError
                    failure = f"{type(error).__name__}: {error}"  # masked where it is raised
                else:
                    status = answer.status_code
                    if 200 <= status < 300:
                        return data
                    text = self._quoted(data)
                    failure, wait = f"status {status}: {text}", asked_wait(answer.headers)
                    if status not in RETRIED:
                        raise EndpointRefusedError(f"{self.url}{path}: {failure}", status, text)
                if reason := self._lost():
                    raise EngineError(self.masked(f"{reason} ({failure})"))
                if any(word in failure for word in LASTING):
                    raise self.error(path, failure)
                if attempt + 1 < tries:
                    await asyncio.sleep(self._pause(attempt, wait))
        raise self.error(path, f"{failure} (after {tries} tries)")

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Seconds; what a server asks for is spread a little, lest all come back at once. It may ask for more than we
        would wait by ourselves, not for less: some ask for 0 whenever they fail."""
        own: float = self._backoff * 2**attempt * (1 + self._jitter.random())
        wanted = 0.0 if asked is None else asked + min(asked, 1.0) * self._jitter.random()
        return min(max(own, wanted), LONGEST_WAIT)

    async def _read(self, answer: httpx.Response, path: str) -> bytes:
        """The whole body, as it is sent: one that is compressed, though nobody asked, could grow without bound."""
        good = 200 <= answer.status_code < 300
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            if good:
                raise self.error(path, "a compressed answer, which was not asked for")
            return b"(a compressed answer)"
        data = bytearray()
        async for chunk in answer.aiter_bytes():
            data += chunk
            if good and len(data) > self._longest:
                raise self.error(path, f"an answer of more than {self._longest} bytes")
            if not good and len(data) > LONGEST_REFUSAL:
                break
        return bytes(data)

    def _quoted(self, data: bytes) -> str:
        """The start of an answer without the key, which some endpoints repeat in their refusals."""
        return self.masked(data.decode("utf-8", "replace"))[:300]

    async def _here(self) -> _Connections:
        if self._closed:
            raise EngineError("the engine is closed")
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            for other in [other for other in list(self._connections) if other.is_closed()]:
                self._connections.pop(other, None)
            holder = self._held()
            client = await anext(holder)
            self._connections[loop] = _Connections(client, asyncio.Semaphore(self._concurrency), holder)
        return self._connections[loop]

    async def _held(self) -> "AsyncGenerator[httpx.AsyncClient]":
        """The client of this event loop. `asyncio.run` closes generators that are still open at its end, and this one
        its connections: nobody else could, once the loop is closed."""
        client = self._client()
        try:
            yield client
        finally:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=None,  # one limit over all of a try is enough
            limits=httpx.Limits(
                max_connections=self._concurrency,
                max_keepalive_connections=self._concurrency if self._reuse else 0,
            ),
            headers={**self.key.header(), "Accept-Encoding": "identity", "Content-Type": "application/json"},
            trust_env=not is_local(self.url),  # no proxy between us and this machine
            transport=self._transport,
        )

    async def _disconnect(self) -> None:
        here = self._connections.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.holder.aclose()


def valid_text(text: str) -> str:
    """Lone surrogates cannot be sent."""
    return text.encode("utf-8", "replace").decode()


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; None if absent or nonsense.

    A date is taken relative to the answer's own Date: this machine's clock may be wrong, or jump.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal() and len(value) < 9:
        return float(value)
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        then, now = (parsedate_to_datetime(date) for date in (value, headers.get("date", "")))
        return max(0.0, (then - now).total_seconds())
    return None
