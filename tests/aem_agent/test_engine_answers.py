"""What a policy makes of an engine's answers: they are checked before anything is trained on them."""

import asyncio
import math

import pytest

from aem_agent.engines.fake import ByteTokenizer, FakeTokenEngine
from aem_agent.model_policies import ModelPolicy
from aem_agent.parsers import LineParser
from aem_agent.pools import InProcessPool
from aem_agent.prompts import PlainFullSpec
from aem_agent.rollout import RolloutManager
from aem_agent.types import GenerateRequest, Response, RolloutGroup, Sampling, TaskRef
from aem_envs.registration import make_env

TOY = "aem/Toy-v0"


class Returning(FakeTokenEngine):
    """Always answers the same."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response

    async def generate(self, request: GenerateRequest) -> Response:
        return self.response


def played(response: Response) -> RolloutGroup:
    engine = Returning(response)
    policy = ModelPolicy(PlainFullSpec(), engine, ByteTokenizer(), LineParser(), Sampling(max_new_tokens=20), 5000)
    manager = RolloutManager(InProcessPool(lambda: make_env(TOY, max_steps=3)), policy, retries=1)
    (group,) = asyncio.run(manager.run([TaskRef(TOY, "rooms4-start1-red", "train")]))
    return group


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (Response("x"), "no token"),
        (Response("x", (1, 2), (-0.1,)), "1 logprobs for 2 tokens"),
        (Response("x", (1,), (-0.1,), (0.1, 0.2)), "2 entropies for 1 tokens"),
        (Response("x", (1, 2), (-0.1, math.nan)), "logprobs that are not finite"),
        (Response("x", (1, 2), (-math.inf, -0.1)), "logprobs that are not finite"),
        (Response("x", (1, 2), (-0.1, -0.2), (0.5, math.nan)), "entropies that are not finite"),
        (Response("x", (1, 2), (-0.1, 0.002)), "a log-prob of 0.002, above 0"),
    ],
)
def test_what_an_engine_returns_is_checked(response: Response, problem: str) -> None:
    (episode,) = played(response).errored
    assert str(episode.error).startswith("EngineError: the engine returned") and problem in str(episode.error)
    assert episode.retries == 1


def test_rounding_above_certainty_is_no_error() -> None:
    (episode,) = played(Response("x", (1, 2), (0.0, 0.0009), (0.0, -1e-7))).episodes
    assert len(episode.turns) == 3
