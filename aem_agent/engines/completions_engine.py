"""Engines over `/v1/completions`: text for servers without a chat template, token ids for servers that give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import httpx

from aem_agent.engines.endpoint import Endpoint, valid_text
from aem_agent.engines.endpoint_usage import Usage, Used, read_usage
from aem_agent.engines.openai_engine import FINISH, MALFORMED, OpenAIEngine, drawing, malformed, reply
from aem_agent.prices import Prices
from aem_agent.types import (
    ContextOverflowError,
    EngineError,
    GenerateRequest,
    Message,
    Response,
    Running,
    Sampling,
    TokenizerLike,
)

PATH = "/completions"
ROUNDING = 1e-4
"""Nats by which a log-prob may exceed 0."""


class CompletionsTextEngine(OpenAIEngine):
    """A `TextEngine` for servers without a chat template: base models, and small ones of one's own. Evaluation only.

    All but the request and its answer is `OpenAIEngine`'s. One message is sent as it is; of several, each has the name
    of its speaker before it.
    """

    continues = True
    """It continues a text, rather than answer messages."""

    async def chat(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Response:
        """One continuation. Raises `EngineError`."""
        payload = {"prompt": valid_text(joined(messages)), **drawing(self.model, sampling, seed)}
        answer = await self.endpoint.post(PATH, payload)
        try:
            choice = answer["choices"][0]
            text, reason, used = choice["text"], choice.get("finish_reason"), read_usage(answer.get("usage"))
            if reason == "stop" and isinstance(text, str):
                text += _stopped_by(choice, sampling)
        except MALFORMED:
            raise malformed(self.endpoint, PATH, "a completion", answer) from None
        return reply(self.endpoint, PATH, text, reason, used)


class CompletionsEngine:
    """A `TokenEngine` over HTTP: sends ids and gets ids, so that its episodes can be trained on.

    The server must answer `return_token_ids` (vLLM from 0.10.2). Whatever its defaults are, every setting of the draw
    is sent. Log-probs are passed on where they are known to be at the sampling temperature over the whole vocabulary:
    servers report them at temperature 1 unless told otherwise (vLLM: `--logprobs-mode processed_logprobs`). Elsewhere
    they are None, and a trainer scores the tokens itself.

    Args:
        model: its name at the server.
        tokenizer: the model's own.
        processed: the server is known to report log-probs at the sampling temperature.
        max_positions: tokens of prompt and response together; None: as the server's list of models says.
        vocab_size: ids of the model; None: of the tokenizer, where it says so. Models may have more: rows that fill up
            their embedding.
        base_url, concurrency, prices, transport, options: as of `OpenAIEngine`.
    """

    def __init__(
        self,
        model: str,
        tokenizer: TokenizerLike,
        *,
        base_url: str | None = None,
        concurrency: int = 16,
        processed: bool = False,
        max_positions: int | None = None,
        vocab_size: int | None = None,
        prices: Prices | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.version = 0
        self.endpoint = Endpoint(base_url, concurrency=concurrency, prices=prices, transport=transport, **options)
        self._processed = processed
        self._max_positions = max_positions
        known = getattr(tokenizer, "vocab_size", None) if vocab_size is None else vocab_size
        self._vocab_size = known if isinstance(known, int) else 2**31

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self.endpoint.usage

    @property
    def max_positions(self) -> int:
        """Tokens that prompt and response may have together. The first time, asks the server; raises `EngineError`."""
        if self._max_positions is None:
            self._max_positions = self._asked_positions()
        return self._max_positions

    async def generate(self, request: GenerateRequest) -> Response:
        """Draw one response.

        Raises:
            ContextOverflowError: prompt and response exceed `max_positions`.
            EngineError: as `Endpoint.post`, or the answer lacks ids, or holds what was not asked for.
        """
        self._check(request)
        drawn = await self._draw(request.prompt_token_ids, request.sampling, request.seed)
        if drawn.reason not in FINISH:
            reason = self.endpoint.masked(drawn.reason)[:40]
            raise self.endpoint.error(PATH, f"the response ended for the reason {reason!r}")
        return self._response(drawn, request.sampling, ((0, self.version),))

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        """Refused: a server that was started elsewhere keeps its weights. Raises `EngineError`."""
        raise EngineError(
            f"the server at {self.endpoint.url} was not started from here and takes no weights: train with the engine "
            "torch, vllm or vllm-server"
        )

    async def aclose(self) -> None:
        """Close the connections; refuse what comes."""
        await self.endpoint.aclose()

    def _check(self, request: GenerateRequest) -> None:
        prompt, new = len(request.prompt_token_ids), request.sampling.max_new_tokens
        if prompt < 1 or new < 1:
            raise EngineError(f"a request needs a prompt and room for a token, not {prompt} and {new}")
        if self._max_positions is not None and prompt + new > self._max_positions:
            raise ContextOverflowError(
                f"prompt of {prompt} tokens and {new} new ones, the server takes {self._max_positions}: "
                "shorten the history"
            )

    async def _draw(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> "Drawn":
        payload = {
            **drawing(self.model, sampling, seed),
            "prompt": list(prompt),
            "logprobs": 0,
            "return_token_ids": True,
            "include_stop_str_in_output": True,
            "ignore_eos": True,  # the end token is the tokenizer's, whatever the server takes for one
            "stop_token_ids": sorted({self.tokenizer.eos_token_id, *sampling.stop_token_ids}),
            "skip_special_tokens": False,
            "top_p": sampling.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
        answer = await self.endpoint.post(PATH, payload)
        drawn = self._read(answer, prompt, sampling.max_new_tokens)
        self.endpoint.usage.add(drawn.used)
        return drawn

    def _read(self, answer: Any, prompt: Sequence[int], most: int) -> "Drawn":
        try:
            choice = answer["choices"][0]
            ids, logprobs = choice.get("token_ids"), choice.get("logprobs")
            logprobs = logprobs["token_logprobs"] if logprobs else None
            used, heard = read_usage(answer.get("usage")), choice.get("prompt_token_ids")
            drawn = Drawn(_ids(ids), _logprobs(logprobs), str(choice.get("finish_reason")), used)
        except _NotGivenError as lacking:
            raise self.endpoint.error(
                PATH,
                f"the server sends no {lacking}, so that nothing is known of what it sampled: evaluate with the chat "
                "engine (leave out --tokenizer), or serve the model with vLLM 0.10.2 or later",
            ) from None
        except MALFORMED:
            raise malformed(self.endpoint, PATH, "a completion with token ids and log-probs", answer) from None
        if len(drawn.logprobs) != len(drawn.ids):
            raise self.endpoint.error(PATH, f"{len(drawn.logprobs)} log-probs for {len(drawn.ids)} tokens")
        if len(drawn.ids) > most or (not drawn.ids and drawn.reason in FINISH):
            raise self.endpoint.error(PATH, f"{len(drawn.ids)} tokens, where 1 to {most} were asked for")
        if drawn.ids and max(drawn.ids) >= self._vocab_size:
            raise self.endpoint.error(PATH, f"token {max(drawn.ids)} is outside the vocabulary of {self._vocab_size}")
        if heard is not None and heard != list(prompt):
            raise self.endpoint.error(PATH, "the server changed the prompt's tokens")
        return drawn

    def _response(self, drawn: "Drawn", sampling: Sampling, versions: tuple[tuple[int, int], ...]) -> Response:
        known = sampling.top_p == 1.0 and (self._processed or sampling.temperature in (0.0, 1.0))
        end = self._end(drawn.ids, sampling.stop)
        text = self.tokenizer.decode(drawn.ids[:end])
        if self.endpoint.masked(text) != text:  # ids are what was sampled, or nothing: they cannot be masked
            raise self.endpoint.error(PATH, "the server repeats the key in its tokens")
        return Response(
            text=text,
            token_ids=drawn.ids[:end],
            logprobs=drawn.logprobs[:end] if known else None,
            finish_reason=FINISH[drawn.reason] if end is None else "stop",
            policy_versions=tuple(v for v in versions if v[0] == 0 or end is None or v[0] < end),
            cost=drawn.used.cost,
        )

    def _end(self, ids: Sequence[int], stops: Sequence[str]) -> int | None:
        """How many tokens complete a stop string; None: there is none. Servers look for it in text of their own
        making, part by part."""

        def holds(end: int) -> bool:
            text = self.tokenizer.decode(ids[:end])
            return any(stop in text for stop in stops)

        end = len(ids)
        if not stops or not holds(end):
            return None
        while end > 1 and holds(end - 1):
            end -= 1
        return end

    def _asked_positions(self) -> int:
        try:
            models = {model["id"]: model for model in self.endpoint.get_now("/models")["data"]}
        except MALFORMED:
            raise self.endpoint.error("/models", "not a list of models") from None
        if self.model not in models:
            raise self.endpoint.error("/models", f"no model {self.model!r}; there are {', '.join(map(str, models))}")
        found = models[self.model].get("max_model_len")
        if not isinstance(found, int) or found < 2:
            raise self.endpoint.error("/models", "the server does not say how many tokens its model takes (vLLM does)")
        return found


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one answer holds."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: str
    used: Used


class _NotGivenError(EngineError):
    """An answer without what was asked for."""


def joined(messages: Sequence[Message]) -> str:
    """Messages as one plain text."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join([*(f"{message['role']}: {message['content']}" for message in messages), "assistant:"])


def _stopped_by(choice: Any, sampling: Sampling) -> str:
    """The stop string that ended a text, which servers cut off; "" if they do not name it: it may have been the end
    token."""
    named = choice.get("stop_reason")
    return named if named in sampling.stop else ""


def _ids(value: Any) -> tuple[int, ...]:
    if value is None:
        raise _NotGivenError("token ids")
    if not all(type(token) is int and 0 <= token < 2**31 for token in value):
        raise ValueError("not token ids")
    return tuple(value)


def _logprobs(value: Any) -> tuple[float, ...]:
    if value is None:
        raise _NotGivenError("log-probs")
    if not all(type(x) in (int, float) and isfinite(x) and x <= ROUNDING for x in value):
        raise ValueError("not log-probs")
    return tuple(min(float(x), 0.0) for x in value)
