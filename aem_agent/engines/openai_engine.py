"""A text engine for any OpenAI-compatible chat endpoint: vLLM's, llama.cpp's, a vendor's. Evaluation only."""

from collections.abc import Sequence
from typing import Any

import httpx

from aem_agent.engines.endpoint import Endpoint, EndpointRefusedError, valid_text
from aem_agent.engines.endpoint_usage import Usage, Used, read_usage
from aem_agent.prices import Prices
from aem_agent.types import EngineError, FinishReason, Message, Response, Sampling

PATH = "/chat/completions"
MALFORMED = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError)
"""What reading an answer of another shape raises."""
FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "error"}
_NEW_LIMIT = "max_completion_tokens"
"""What newer vendor models want to have instead of max_tokens, and say so."""


class OpenAIEngine:
    """A `TextEngine` over HTTP.

    Args:
        model: name of the model at the endpoint.
        base_url: up to and including `/v1`; None: `$OPENAI_BASE_URL`, else OpenAI's.
        concurrency: requests in flight at once; further ones wait.
        prices: of tokens, where the endpoint does not say what an answer costs.
        transport: replaces the network in tests.
        options: `timeout`, `retries`, `backoff`, `longest`, `key` of `Endpoint`.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        concurrency: int = 16,
        prices: Prices | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,
    ) -> None:
        self.model = model
        self.endpoint = Endpoint(base_url, concurrency=concurrency, prices=prices, transport=transport, **options)
        self._limit_name = "max_tokens"

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self.endpoint.usage

    async def chat(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Response:
        """One reply.

        Raises:
            EngineError: the endpoint refuses the request, answers with something else than a reply, or still fails
                after the last try. Never holds the key.
        """
        limit_name = self._limit_name
        try:
            answer = await self.endpoint.post(PATH, self._payload(messages, sampling, seed))
        except EndpointRefusedError as refused:
            if refused.status != 400 or limit_name == _NEW_LIMIT or _NEW_LIMIT not in refused.text:
                raise
            self._limit_name = _NEW_LIMIT
            answer = await self.endpoint.post(PATH, self._payload(messages, sampling, seed))
        return self._reply(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.endpoint.aclose()

    def _payload(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> dict[str, Any]:
        texts = [{**message, "content": valid_text(message["content"])} for message in messages]
        return {"messages": texts, **drawing(self.model, sampling, seed, self._limit_name)}

    def _reply(self, answer: Any) -> Response:
        try:
            choice = answer["choices"][0]
            text = choice["message"].get("content")
            reason, used = choice.get("finish_reason"), read_usage(answer.get("usage"))
        except MALFORMED:
            raise malformed(self.endpoint, PATH, "a chat completion", answer) from None
        # null where a model spent its tokens on thinking
        return reply(self.endpoint, PATH, "" if text is None else text, reason, used)


def drawing(model: str, sampling: Sampling, seed: int, limit_name: str = "max_tokens") -> dict[str, Any]:
    """What chat and completions endpoints are told of how to draw a response."""
    payload: dict[str, Any] = {
        "model": model,
        "temperature": sampling.temperature,
        limit_name: sampling.max_new_tokens,
        "seed": seed % 2**31,
    }
    if sampling.top_p != 1.0:
        payload["top_p"] = sampling.top_p
    if sampling.stop:
        payload["stop"] = list(sampling.stop)
    return payload


def reply(endpoint: Endpoint, path: str, text: Any, reason: Any, used: Used) -> Response:
    """A response of text, counted; raises `EngineError` if it is none."""
    if not isinstance(text, str):
        raise malformed(endpoint, path, "a text", text)
    endpoint.usage.add(used)
    finish = FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"
    return Response(endpoint.masked(text), finish_reason=finish, usage=used.tokens, cost=used.cost)


def malformed(endpoint: Endpoint, path: str, what: str, answer: Any) -> EngineError:
    """The error for an answer that is not `what`."""
    try:
        shown = endpoint.masked(str(answer))[:300]  # in this order: half a key would not be found
    except RecursionError:
        shown = "(deeply nested)"
    return endpoint.error(path, f"not {what}: {shown}")
