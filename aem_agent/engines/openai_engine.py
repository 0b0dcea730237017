"""A text engine for any OpenAI-compatible chat endpoint: vLLM's, llama.cpp's, a vendor's. Evaluation only.

The key comes from the environment (`OPENAI_API_KEY`) and goes into the request's header, nowhere else: no message of an
error, no record and no representation holds it.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from aem_agent.types import EngineError, FinishReason, Message, Response, Sampling

DEFAULT_BASE_URL = "https://api.openai.com/v1"
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Status codes that may pass by themselves."""
LONGEST_WAIT = 60.0
"""Seconds between two tries at most, whatever the server asks for."""


@dataclass(slots=True)
class Usage:
    """What an engine used so far, as the endpoint counts it."""

    requests: int = 0
    """Answered ones."""
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class OpenAIEngine:
    """A `TextEngine` over HTTP.

    Args:
        model: name of the model at the endpoint.
        base_url: up to and including `/v1`; None: `$OPENAI_BASE_URL`, else OpenAI's.
        concurrency: requests in flight at once; further ones wait.
        timeout: seconds for one request, answer included.
        retries: further tries on 408, 409, 425, 429, 5xx, time-outs and lost connections.
        backoff: seconds before the first of them; doubled each time, unless the server names a time.
        transport: replaces the network in tests.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 1.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url = (base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")
        self.model = model
        self.usage = Usage()
        self._url = _checked_url(url)
        self._key = _key(needed=url == DEFAULT_BASE_URL)
        self._timeout = timeout
        self._retries = retries
        self._backoff = backoff
        self._slots = asyncio.Semaphore(concurrency)
        self._jitter = random.Random()
        self._limit_name = "max_tokens"
        self._client = httpx.AsyncClient(
            timeout=timeout,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            transport=transport,
        )

    async def chat(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Response:
        """One reply.

        Raises:
            EngineError: the endpoint refuses the request, answers with something else than a reply, or still fails
            after
                the last try. Never holds the key.
        """
        async with self._slots:
            for attempt in range(self._retries + 1):
                if attempt:
                    self.usage.retries += 1
                try:
                    async with asyncio.timeout(self._timeout):  # httpx limits the wait for each part, not for all
                        answer = await self._client.post(self._url, json=self._payload(messages, sampling, seed))
                except (httpx.TransportError, TimeoutError) as error:
                    failure, wait = f"{type(error).__name__}: {error}", None
                else:
                    if answer.status_code == 200:
                        return self._reply(answer)
                    failure, wait = f"status {answer.status_code}: {self._quoted(answer)}", _asked_wait(answer)
                    if answer.status_code == 400 and self._limit_name == "max_tokens" and _NEW_LIMIT in answer.text:
                        self._limit_name, wait = _NEW_LIMIT, 0.0
                    elif answer.status_code not in RETRIED:
                        raise self._error(failure)
                if attempt < self._retries:
                    pause = self._backoff * 2**attempt * (1 + self._jitter.random()) if wait is None else wait
                    await asyncio.sleep(min(pause, LONGEST_WAIT))
        raise self._error(f"{failure} (after {self._retries + 1} tries)")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _payload(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "model": self.model,
            "messages": [{**message, "content": _valid_text(message["content"])} for message in messages],
            "temperature": sampling.temperature,
            self._limit_name: sampling.max_new_tokens,
            "seed": seed % 2**31,
        }
        if sampling.top_p != 1.0:
            payload["top_p"] = sampling.top_p
        if sampling.stop:
            payload["stop"] = list(sampling.stop)
        return payload

    def _reply(self, answer: httpx.Response) -> Response:
        try:
            data = answer.json()
            choice = data["choices"][0]
            text = choice["message"].get("content") or ""  # null where a model spent its tokens on thinking
            reason, used = choice.get("finish_reason"), data.get("usage")
            counts = (used.get("prompt_tokens"), used.get("completion_tokens")) if used else (None, None)
            prompt, completion = (int(count or 0) for count in counts)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
            raise self._error(f"not a chat completion: {self._quoted(answer)}") from None
        if not isinstance(text, str):
            raise self._error(f"not a text: {self._quoted(answer)}")
        self.usage.requests += 1
        self.usage.prompt_tokens += prompt
        self.usage.completion_tokens += completion
        return Response(
            text,
            finish_reason=_FINISH.get(reason, "stop") if isinstance(reason, str) else "stop",
            usage=None if counts == (None, None) else (prompt, completion),
        )

    def _quoted(self, answer: httpx.Response) -> str:
        """The start of an answer without the key, which some endpoints repeat in their refusals."""
        return self._without_key(answer.text)[:300]

    def _error(self, what: str) -> EngineError:
        return EngineError(f"{self._url}: {self._without_key(what)}")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


_FINISH: dict[str, FinishReason] = {"length": "length", "content_filter": "error"}
_NEW_LIMIT = "max_completion_tokens"
"""What newer vendor models want to have instead of max_tokens, and say so."""


def _key(needed: bool) -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if needed and not key:
        raise EngineError("no key for api.openai.com: set OPENAI_API_KEY, or name another endpoint with --base-url")
    if not (key.isascii() and key.isprintable()):  # httpx would quote it in its error
        raise EngineError("OPENAI_API_KEY holds characters that a header cannot")
    return key


def _checked_url(base: str) -> str:
    try:
        url = httpx.URL(base)
    except (httpx.InvalidURL, ValueError):
        raise EngineError("the base URL is malformed; it must look like http://127.0.0.1:8000/v1") from None
    if url.userinfo:
        raise EngineError("the base URL holds credentials; put the key into OPENAI_API_KEY instead")
    if url.scheme not in ("http", "https") or not url.host:
        raise EngineError(f"the base URL {base!r} is not one; it must look like http://127.0.0.1:8000/v1")
    return f"{base}/chat/completions"


def _asked_wait(answer: httpx.Response) -> float | None:
    """Seconds of a Retry-After header; None if absent, a date, or nonsense."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() and value.isascii() and len(value) < 9 else None


def _valid_text(text: str) -> str:
    """Lone surrogates cannot be sent."""
    return text.encode("utf-8", "replace").decode()
