"""Policies with a model: a prompt spec, an engine and a parser. Imports no torch: engines are handed in."""

import itertools
import math
from dataclasses import replace
from typing import Any

from aem_agent.parsers import Parser
from aem_agent.prompter import TextPrompter, TokenPrompter, cached_encoder
from aem_agent.prompts import PromptSpec
from aem_agent.seeds import turn_seed
from aem_agent.types import (
    AgentError,
    Decision,
    EngineError,
    EpisodePolicy,
    GenerateRequest,
    Response,
    Sampling,
    TaskRef,
    TextEngine,
    TokenEngine,
    TokenizerLike,
)

ROUNDING = 1e-3
"""Nats by which a log-prob may exceed 0."""

_conversation_numbers = itertools.count()
"""One for each episode of any policy: policies may share an engine, and an episode that is played again must not
continue what the first left there."""


class ModelPolicy:
    """Plays with a token engine. What it sampled is recorded as ids, so its episodes can be trained on.

    Args:
        context_limit: tokens that prompt and response may have together.
        frame: texts before and after a chat spec's prompt, from the model's chat template; plain specs ignore it.
    """

    trainable = True

    def __init__(
        self,
        spec: PromptSpec,
        engine: TokenEngine,
        tokenizer: TokenizerLike,
        parser: Parser,
        sampling: Sampling,
        context_limit: int,
        *,
        frame: tuple[str, str] = ("", ""),
        name: str = "model",
    ) -> None:
        if context_limit <= sampling.max_new_tokens:
            raise AgentError(
                f"a context of {context_limit} tokens cannot hold a prompt and {sampling.max_new_tokens} new ones: "
                "lower max_new_tokens"
            )
        self.spec = spec
        self.engine = engine
        self.parser = parser
        self.sampling = _with_stop(sampling, spec)
        self.name = name
        self.encode = cached_encoder(tokenizer)
        self.prompt_limit = context_limit - sampling.max_new_tokens
        self.frame = frame if spec.chat else ("", "")

    def with_sampling(self, **changes: Any) -> "ModelPolicy":
        """The same policy sampling otherwise (evaluation during training); shares the engine and the cache."""
        other: ModelPolicy = object.__new__(type(self))
        other.__dict__.update(self.__dict__, sampling=replace(self.sampling, **changes))
        other.prompt_limit = self.prompt_limit + self.sampling.max_new_tokens - other.sampling.max_new_tokens
        return other

    def prompter(self, env_id: str) -> TokenPrompter:
        """The prompts of one episode, as this policy sees them (demonstrations are rendered with it too)."""
        return TokenPrompter(self.spec, env_id, self.encode, self.prompt_limit, self.frame)

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        return _ModelEpisode(self, self.prompter(task.env_id), seed)

    async def aclose(self) -> None:
        """Close the engine."""
        await self.engine.aclose()


class _ModelEpisode:
    __slots__ = ("_conversation", "_policy", "_prompter", "_seed", "_turn")

    def __init__(self, policy: ModelPolicy, prompter: TokenPrompter, seed: int) -> None:
        self._policy = policy
        self._prompter = prompter
        self._seed = seed
        self._turn = 0
        self._conversation = next(_conversation_numbers)

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        policy, prompter = self._policy, self._prompter
        ids, dropped = prompter.prompt(observation, info)
        request = GenerateRequest(ids, policy.sampling, turn_seed(self._seed, self._turn), self._conversation)
        self._turn += 1
        response = _checked(await policy.engine.generate(request))
        parsed = policy.parser(response.text)
        action = prompter.mean(parsed.action)
        prompter.said(observation, response, action)
        return Decision(response, action, ids, parsed.reason is None, parsed.reason, dropped)


class ChatPolicy:
    """Plays with a text engine: evaluation only, since nothing is known of the tokens it sampled."""

    trainable = False

    def __init__(
        self, spec: PromptSpec, engine: TextEngine, parser: Parser, sampling: Sampling, *, name: str = "chat"
    ) -> None:
        self.spec = spec
        self.engine = engine
        self.parser = parser
        self.sampling = sampling  # without the spec's stop strings: endpoints cut them off, closing tags would be lost
        self.name = name

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        return _ChatEpisode(self, TextPrompter(self.spec, task.env_id), seed)

    async def aclose(self) -> None:
        """Close the engine."""
        await self.engine.aclose()


class _ChatEpisode:
    __slots__ = ("_policy", "_prompter", "_seed", "_turn")

    def __init__(self, policy: ChatPolicy, prompter: TextPrompter, seed: int) -> None:
        self._policy = policy
        self._prompter = prompter
        self._seed = seed
        self._turn = 0

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        policy = self._policy
        messages = self._prompter.messages(observation, info)
        seed = turn_seed(self._seed, self._turn)
        self._turn += 1
        response = await policy.engine.chat(messages, policy.sampling, seed)
        parsed = policy.parser(response.text)
        action = self._prompter.mean(parsed.action)
        self._prompter.said(observation, response, action)
        return Decision(response, action, (), parsed.reason is None, parsed.reason)


def _with_stop(sampling: Sampling, spec: PromptSpec) -> Sampling:
    return sampling if sampling.stop or sampling.stop_token_ids else replace(sampling, stop=spec.stop)


def _checked(response: Response) -> Response:
    """Engines are other people's code: what they return is checked before it is trained on."""
    n = len(response.token_ids)
    if n == 0:
        raise EngineError("the engine returned no token, not even an end token")
    for name in ("logprobs", "entropies"):
        values = getattr(response, name)
        if values is None:
            continue
        if len(values) != n:
            raise EngineError(f"the engine returned {len(values)} {name} for {n} tokens")
        if not all(map(math.isfinite, values)):
            raise EngineError(f"the engine returned {name} that are not finite: the model's weights may have diverged")
    if response.logprobs is not None and max(response.logprobs) > ROUNDING:
        raise EngineError(f"the engine returned a log-prob of {max(response.logprobs):.3g}, above 0")
    return response
