"""Policies without a model: random, scripted, and the environments' experts. Each depends on its episode's seed only."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from aem_agent.types import AgentError, Decision, EpisodePolicy, Response, TaskRef
from aem_envs.plugins import make_expert

Chooser = Callable[[str, dict[str, Any]], str]
"""(newest observation, info) → action"""


class BadScriptError(AgentError):
    """A script of actions that cannot be read."""


class _Choosing:
    """An episode's policy that answers with what a function chooses."""

    __slots__ = ("choose",)

    def __init__(self, choose: Chooser) -> None:
        self.choose = choose

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        return _said(self.choose(observation, info))


@lru_cache(maxsize=4096)
def _said(action: str) -> Decision:
    """The same few actions are said over and over: their (immutable) decisions are shared."""
    return Decision(Response(action), action)


class _Modelless:
    trainable = False

    async def aclose(self) -> None:
        """Nothing to close."""


class RandomPolicy(_Modelless):
    """Uniform over the admissible actions; samples the action space where the environment does not list any."""

    name = "random"

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        rng = Random(seed)
        space = None

        def choose(observation: str, info: dict[str, Any]) -> str:
            nonlocal space
            actions = info.get("admissible_actions")
            if actions:
                return str(actions[int(rng.random() * len(actions))])
            if space is None:  # a copy: environments are shared by episodes in an order that is not fixed
                space = deepcopy(env.action_space)
                space.seed(seed % 2**32)
            return str(space.sample())

        return _Choosing(choose)


class ScriptedPolicy(_Modelless):
    """Says what it is told: one list of actions for every task, a list per task id, or a function of (observation, info).

    After the end of a list it says nothing (""), until the environment ends the episode.
    """

    name = "scripted"

    def __init__(self, script: Sequence[str] | Mapping[str, Sequence[str]] | Chooser) -> None:
        self._script = script

    @classmethod
    def from_file(cls, path: Path) -> "ScriptedPolicy":
        """Read a script: JSON (a list of actions, or task id → list), else one action per line.

        Raises:
            BadScriptError: not readable as either.
        """
        try:
            text = path.read_text(encoding="utf-8")
            script = json.loads(text) if text.lstrip()[:1] in ("[", "{") else text.splitlines()
        except (OSError, ValueError, RecursionError) as error:
            raise BadScriptError(f"cannot read the script {path}: {error}") from error
        lists = list(script.values()) if isinstance(script, dict) else [script]
        if not all(isinstance(actions, list) and all(isinstance(a, str) for a in actions) for actions in lists):
            raise BadScriptError(f"{path} must hold a list of actions, or an object of task id → list of actions")
        return cls(script)

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        script = self._script
        if callable(script):
            return _Choosing(script)
        actions = iter(script.get(task.task_id, ()) if isinstance(script, Mapping) else script)
        return _Choosing(lambda observation, info: next(actions, ""))


class ExpertPolicy(_Modelless):
    """An environment's expert, by name: `expert` may read the engine's state, `expert-search` reads texts only.

    Options go to the expert's factory: `noise` is the chance per turn of a random admissible action, for demonstrations that
    show mistakes and recovery.
    """

    def __init__(self, name: str = "expert", **options: Any) -> None:
        self.name = name
        self._options = options

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        expert = make_expert(task.env_id, self.name, **self._options)
        act = expert.act

        def first(observation: str, info: dict[str, Any]) -> str:
            expert.reset(env, observation, info)
            episode.choose = act
            return act(observation, info)

        episode = _Choosing(first)
        return episode
