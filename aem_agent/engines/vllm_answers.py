"""Requests that vLLM may have, and its answers as responses."""

from typing import cast

from aem_agent.engines import vllm_compat as compat
from aem_agent.engines.vllm_settings import VllmSettings
from aem_agent.types import ContextOverflowError, EngineError, FinishReason, GenerateRequest, Response, TokenizerLike

Versions = tuple[tuple[int, int], ...]
"""(first token, weights version) ranges of a response."""


def check_request(request: GenerateRequest, settings: VllmSettings) -> None:
    """Raise `ContextOverflowError` or `EngineError` for a request that cannot be answered."""
    prompt, sampling = request.prompt_token_ids, request.sampling
    if len(prompt) + sampling.max_new_tokens > settings.max_model_len:
        raise ContextOverflowError(
            f"prompt of {len(prompt)} tokens and {sampling.max_new_tokens} new ones, vLLM was given "
            f"{settings.max_model_len}: shorten the history"
        )
    if not prompt or sampling.max_new_tokens < 1:
        raise EngineError(
            f"a request needs a prompt and room for a token, not {len(prompt)} and {sampling.max_new_tokens}"
        )
    low, high, vocabulary = min(prompt), max(prompt), settings.vocab_size
    if low < 0 or high >= vocabulary:
        raise EngineError(f"token {low if low < 0 else high} is outside the vocabulary of {vocabulary}")
    if 0 < sampling.temperature < compat.LEAST_TEMPERATURE:
        raise EngineError(f"vLLM draws at {compat.LEAST_TEMPERATURE} or above, or greedily at 0")


def response(request: GenerateRequest, answer: compat.Answer, versions: Versions, tokenizer: TokenizerLike) -> Response:
    """vLLM's answer as a response; raises `EngineError` for one that is none."""
    if answer.reason not in ("stop", "length"):
        raise EngineError(f"vLLM ended a request with {answer.reason!r}")
    ids, logprobs = answer.token_ids, answer.logprobs
    if not ids or len(ids) != len(logprobs) or any(x != x for x in logprobs):
        raise EngineError(f"vLLM answered with {len(ids)} tokens and {len(logprobs)} log-probs, or with NaN")
    text, reason, stops = tokenizer.decode(ids), answer.reason, request.sampling.stop
    if stops and any(stop in text for stop in stops):
        reason = "stop"
        # vLLM looks for stop strings in text of its own making: a response ends with the token that completes one
        while len(ids) > 1 and any(stop in (shorter := tokenizer.decode(ids[:-1])) for stop in stops):
            ids, logprobs, text = ids[:-1], logprobs[:-1], shorter
    return Response(
        text=text,
        token_ids=ids,
        logprobs=tuple(min(x, 0.0) for x in logprobs),
        finish_reason=cast(FinishReason, reason),
        policy_versions=tuple(v for v in versions if v[0] == 0 or v[0] < len(ids)),
    )
