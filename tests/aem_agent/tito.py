"""Token in, token out: what every token engine must keep over an episode of many turns, whatever text would say."""

import asyncio
from typing import Any

import gymnasium as gym
import torch

import aem_envs  # noqa: F401  # registers the environments
from aem_agent.model.interface import LanguageModel
from aem_agent.model_policies import ModelPolicy
from aem_agent.parsers import LineParser
from aem_agent.prompts import PlainFullSpec
from aem_agent.rollout import RolloutManager
from aem_agent.types import (
    Episode,
    GenerateRequest,
    Response,
    Running,
    Sampling,
    TaskRef,
    TokenEngine,
    TokenizerLike,
)

TOY = "aem/Toy-v0"


class Watched:
    """Passes requests on, and notes what went in and came out."""

    def __init__(self, engine: TokenEngine) -> None:
        self.engine = engine
        self.seen: list[tuple[GenerateRequest, Response]] = []

    @property
    def version(self) -> int:
        return self.engine.version

    async def generate(self, request: GenerateRequest) -> Response:
        response = await self.engine.generate(request)
        self.seen.append((request, response))
        return response

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        await self.engine.load_weights(state, running=running)

    async def aclose(self) -> None: ...


def play(engine: TokenEngine, tokenizer: TokenizerLike, sampling: Sampling, turns: int, context: int) -> Episode:
    """One episode of that many turns in the toy, its prompts made of what was sampled before."""
    policy = ModelPolicy(PlainFullSpec(), engine, tokenizer, LineParser(), sampling, context)
    manager = RolloutManager(lambda: gym.make(TOY, max_steps=1000), policy, max_turns=turns, seed=3)
    task = gym.make(TOY).unwrapped.task_ids("train", 1)[0]  # type: ignore[attr-defined]
    (group,) = asyncio.run(manager.run([TaskRef(TOY, task, "train")]))
    assert not group.errored, group.errored[0].error
    return group.episodes[0]


@torch.no_grad()
def forward_logprobs(
    model: LanguageModel, prompt: tuple[int, ...], response: tuple[int, ...], temperature: float
) -> list[float]:
    """log π of each token of a response by one full forward of prompt and response."""
    ids = torch.tensor([*prompt, *response], device=model.device)
    logits = model.head(model.hidden(ids, torch.tensor([0, len(ids)], device=model.device))).float()
    logp = (logits[len(prompt) - 1 : -1] / (temperature or 1.0)).log_softmax(-1)
    found: list[float] = logp.gather(1, ids[len(prompt) :, None])[:, 0].tolist()
    return found


def assert_token_in_token_out(
    engine: TokenEngine,
    model: LanguageModel,
    tokenizer: TokenizerLike,
    *,
    tolerance: float,
    turns: int = 10,
    context: int = 480,
    sampling: Sampling | None = None,
) -> Episode:
    """Play `turns` turns and compare: recorded ids are the sampled ones, earlier answers lie in later prompts as they
    were sampled, though their text would be encoded otherwise, and log-probs equal a full forward of `model`."""
    sampling = sampling or Sampling(temperature=0.7, max_new_tokens=12)
    watched = Watched(engine)
    episode = play(watched, tokenizer, sampling, turns, context)
    assert len(episode.turns) == len(watched.seen) == turns
    reencoded = 0
    for i, (turn, (request, response)) in enumerate(zip(episode.turns, watched.seen)):
        assert turn.prompt_token_ids == request.prompt_token_ids
        assert turn.response.token_ids == response.token_ids and turn.response.logprobs == response.logprobs
        reencoded += tuple(tokenizer.encode(response.text)) != response.token_ids
        if i and not turn.dropped_turns:
            assert _inside(episode.turns[i - 1].response.token_ids, turn.prompt_token_ids)
        want = forward_logprobs(model, turn.prompt_token_ids, response.token_ids, sampling.temperature)
        assert response.logprobs is not None
        worst = max(abs(a - b) for a, b in zip(want, response.logprobs, strict=True))
        assert worst <= tolerance, f"turn {i}: {worst}"
    assert reencoded >= turns // 2, "the answers would survive encoding: this episode proves nothing"
    return episode


def _inside(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))
