"""Players and environments of benchmarks that worker processes must be able to import."""

import asyncio
from random import Random
from typing import Any

import gymnasium as gym
from _trivial import Trivial

import aem_envs  # noqa: F401  # registers
from aem_agent.policies import ExpertPolicy
from aem_agent.types import Decision, EpisodePolicy, GenerateRequest, TaskRef
from aem_envs.core import FreeText

ALFWORLD = "aem/ALFWorld-v0"
_ACTIONS = ("look", "inventory", *(f"go to {kind} {n}" for kind in ("cabinet", "shelf", "drawer") for n in (1, 2)))


def make_alfworld(max_steps: int = 50) -> gym.Env[str, str]:
    """Embedded ALFWorld."""
    return gym.make(ALFWORLD, max_steps=max_steps)


class TrivialEnv(Trivial, gym.Env[str, str]):
    """As a Gymnasium environment."""

    observation_space = FreeText()
    action_space = FreeText()


class SlowExpert:
    """The environment's expert, each of whose turns takes so many seconds."""

    name, trainable, needs_env = "slow-expert", False, True

    def __init__(self, latency: float) -> None:
        self.latency = latency

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        return _SlowTurns(ExpertPolicy().start(env, task, seed), self.latency)

    async def aclose(self) -> None:
        """Nothing to close."""


class _SlowTurns:
    def __init__(self, episode: EpisodePolicy, latency: float) -> None:
        self._episode = episode
        self._latency = latency

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        await asyncio.sleep(self._latency)
        return await self._episode.act(observation, info)


def made_up_action(request: GenerateRequest) -> str:
    """An action that depends on the request's seed only; what a fake engine answers."""
    return Random(request.seed).choice(_ACTIONS) + "\n"
