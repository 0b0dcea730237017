"""Policies without a model (random, scripted, the environments' experts), and `make_policy`, which makes any by name.

What a policy without a model says depends on the texts it gets and its episode's seed only.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from aem_agent.prices import Prices
from aem_agent.registry import policies
from aem_agent.types import AgentError, Decision, EpisodePolicy, Policy, Response, TaskRef
from aem_envs.plugins import UnknownPluginError, experts, make_expert

Chooser = Callable[[str, dict[str, Any]], str]
"""(newest observation, info) → action"""


class UnknownPolicyError(AgentError):
    """No such policy; the message says which there are."""


class BadScriptError(AgentError):
    """A script of actions that cannot be read."""


class _Choosing:
    """An episode's policy that answers with what a function chooses."""

    __slots__ = ("choose",)
    waits = False  # hosts of policies need no event loop for it

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
    needs_env = False

    async def aclose(self) -> None:
        """Nothing to close."""


class RandomPolicy(_Modelless):
    """What the environment takes for acting without an idea (`TextEnv.random_action`)."""

    name = "random"
    needs_env = True

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        rng = Random(seed)
        return _Choosing(lambda observation, info: env.random_action(info, rng))


class ScriptedPolicy(_Modelless):
    """Says what it is told: one list of actions for every task, a list per task id, or a function of (observation,
    info).

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
    """An environment's expert, by any name it has: `expert` may read the engine's state, `expert-search` reads texts
    only.

    Options go to the expert's factory: `noise` is the chance per turn of a random admissible action, for
    demonstrations that show mistakes and recovery.
    """

    needs_env = True

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


def make_policy(
    model: str,
    *,
    engine: str | None = None,
    env_id: str | None = None,
    prompt: str | None = None,
    prompt_options: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_new_tokens: int | None = None,
    base_url: str | None = None,
    tokenizer: str | None = None,
    prices: Prices | None = None,
    concurrency: int = 16,
    device: str = "cpu",
    trust: bool = False,
    **options: Any,
) -> Policy:
    """The policy that a command line's `-m` names.

    Args:
        model: `random`, `expert`, `expert-search` or another expert of the environment, `scripted:FILE`, `openai:NAME`,
            a model folder, or a registered policy, by name or as `module:factory`.
        engine: of a model folder or an endpoint: a name in `aem_agent.engines`, or "module:Class"; None: torch, openai.
        env_id: if given, experts are looked up at once, so that a mistake shows before anything is played.
        prompt: prompt spec, with `prompt_options`; None: what the model folder's `aem.json` says, else, for endpoints
            and for folders with a chat template, the environment's (`bash` for SWE-bench) or `think-action`; `plain`
            for other folders.
        temperature, top_p: None: as in `aem.json`.
        max_new_tokens: at most so many; a model trained with fewer keeps to them.
        base_url: of an OpenAI-compatible endpoint; its key comes from the environment.
        tokenizer: of `openai:NAME`: the folder of the model's tokenizer. Token ids are then sent and sampled ones come
            back, for which the server must be able to give them (vLLM).
        prices: of the tokens of `openai:NAME`, where the endpoint does not say what it costs.
        concurrency: requests in flight at once, for endpoints; rows of a batch, for local models.
        trust: import `module:attribute` that the `aem.json` of a model folder names, too; what is named here always is.
        options: of the expert or registered policy, such as `noise`.

    Raises:
        AgentError, AemEnvError: nothing by that name, or one that cannot be loaded.
    """
    kind, _, rest = model.partition(":")
    _refuse_misfits(model, engine, tokenizer)
    if kind == "scripted" and rest:
        return ScriptedPolicy.from_file(Path(rest))
    if _names_expert(model, env_id):
        if env_id is not None:
            make_expert(env_id, model, **options)
        return ExpertPolicy(model, **options)
    wanted = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    asked = {name: value for name, value in wanted.items() if value is not None}
    if kind == "openai" and rest:
        server = {"base_url": base_url, "concurrency": concurrency} | ({"prices": prices} if prices else {})
        return _endpoint(rest, engine, tokenizer, (prompt, prompt_options or {}, asked, env_id, trust), server)
    if Path(model).is_dir():
        _refuse_run_folder(Path(model))
        from aem_agent.loading import Asked, folder_policy

        wish = Asked(prompt, prompt_options or {}, asked, env_id, trust)
        return folder_policy(Path(model), engine, wish, concurrency, device)
    return _registered(model, env_id, options)


def _refuse_misfits(model: str, engine: str | None, tokenizer: str | None) -> None:
    """An engine or a tokenizer for what has no use for it."""
    served = model.partition(":")[0] == "openai"
    if engine is not None and not (served or Path(model).is_dir()):
        raise UnknownPolicyError(f"{model!r} runs on no engine: leave out {engine!r}, or give a model folder")
    if tokenizer is not None and not served:
        raise UnknownPolicyError(f"{model!r} has no endpoint that takes token ids: leave out the tokenizer")


def _endpoint(
    name: str, engine: str | None, tokenizer: str | None, wish: tuple[Any, ...], server: Mapping[str, Any]
) -> Policy:
    """The model of an endpoint, spoken to by texts, or with a tokenizer by token ids; `wish`: what `Asked` takes."""
    from aem_agent.loading import Asked, endpoint_policy, served_policy

    if tokenizer is not None:
        return served_policy(name, Path(tokenizer), engine, Asked(*wish), server)
    return endpoint_policy(name, engine, Asked(*wish), server)


def _registered(model: str, env_id: str | None, options: Mapping[str, Any]) -> Policy:
    """A policy by its name in the registry or as `module:factory`, checked to be one."""
    if "/" in model or model.startswith("."):
        raise UnknownPolicyError(f"there is no model folder {model!r}")
    try:
        made = policies.get(model)(**options)
    except UnknownPluginError as error:
        raise UnknownPolicyError(
            f"unknown policy {model!r}; give random, {', '.join(_own_experts(env_id)) or 'expert'}, scripted:FILE, "
            "openai:NAME, or a folder"
        ) from error
    except TypeError as error:
        raise UnknownPolicyError(f"policy {model!r} does not take {options}: {error}") from error
    if lacking := [name for name in ("name", "trainable", "start", "aclose") if not hasattr(made, name)]:
        raise UnknownPolicyError(f"{model!r} is no policy (aem_agent.types.Policy): it lacks {', '.join(lacking)}")
    policy: Policy = made
    return policy


def _own_experts(env_id: str | None) -> list[str]:
    """Names of an environment's experts; without one, of all there are."""
    start = "" if env_id is None else f"{env_id.rpartition(':')[2]}/"
    return sorted({key.rpartition("/")[2] for key in experts.names() if key.startswith(start)})


def _names_expert(model: str, env_id: str | None) -> bool:
    if "/" in model or ":" in model:  # a path such as experts/model is a folder
        return False
    return model.startswith("expert") or model in _own_experts(env_id)


def _refuse_run_folder(folder: Path) -> None:
    """A run of `aem-train` is no model: its models lie in it."""
    if (folder / "best").is_dir() and not any(folder.glob("*.safetensors")):
        raise UnknownPolicyError(f"{folder} is a training run, not a model folder: give -m {folder / 'best'}")
