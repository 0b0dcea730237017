"""Environments by id: registering them, listing them, making them with clear errors."""

import inspect
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from aem_envs.core import AemEnvError, BadOptionError, TextEnv

NAMESPACE = "aem/"


class UnknownEnvError(AemEnvError, gym.error.UnregisteredEnv):
    """No such environment; the message lists those there are."""


def register(env_id: str, entry_point: str) -> None:
    """Register a `TextEnv` the way this project does: `entry_point` "module:Class" is imported by the first `gym.make`.

    No wrappers are asked for: a `TextEnv` enforces the order of calls and its step limit itself, and says why in `info`
    (`gym.make(…, max_episode_steps=)` would truncate without a reason: use the environment's own `max_steps`).
    Registering enrols the environment in `aem-envs ls` and in the contract tests.
    """
    gym.register(id=env_id, entry_point=entry_point, order_enforce=False, disable_env_checker=True)


def env_ids() -> list[str]:
    """Ids of the registered environments of this project, sorted."""
    return sorted(env_id for env_id in gym.registry if env_id.startswith(NAMESPACE))


def env_class(env_id: str) -> type[TextEnv]:
    """The class behind `env_id` ("module:EnvId" imports the module first).

    Raises:
        UnknownEnvError: no such id.
        ImportError: its module, or a package it needs, is not installed.
        AemEnvError: it is not a `TextEnv`.
    """
    if ":" in env_id:
        module, _, env_id = env_id.partition(":")
        if not module:
            raise UnknownEnvError("no module before the colon: write module:EnvId, as in my_envs:me/Game-v0")
        __import__(module)
    creator: Any = known_spec(env_id).entry_point
    if isinstance(creator, str):
        creator = load_env_creator(creator)
    if not (isinstance(creator, type) and issubclass(creator, TextEnv)):
        raise AemEnvError(f"{env_id} is not a TextEnv: these commands play environments of aem_envs.core.TextEnv only")
    return creator


def known_spec(env_id: str) -> EnvSpec:
    """Gymnasium's entry for a registered id (without a module); raises `UnknownEnvError`."""
    try:
        return gym.spec(env_id)
    except gym.error.Error as error:
        raise UnknownEnvError(
            f"unknown environment {env_id!r}; known: {', '.join(env_ids())}, or module:EnvId"
        ) from error


def keyword_arguments(cls: type[TextEnv]) -> dict[str, inspect.Parameter]:
    """What `gym.make` may pass to the environment, by name."""
    return {name: parameter for name, parameter in inspect.signature(cls).parameters.items() if name != "self"}


def make_env(env_id: str, **settings: Any) -> TextEnv:
    """`gym.make(env_id, **settings).unwrapped`, with unknown settings refused by name.

    Raises:
        BadOptionError: the environment takes no such setting.

    Besides, what `env_class` and the environment itself raise.
    """
    known = keyword_arguments(env_class(env_id))
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    if not takes_all and (unknown := sorted(settings.keys() - known.keys())):
        raise BadOptionError(f"{env_id} takes no setting {unknown[0]!r}; known: {', '.join(known)}")
    env = gym.make(env_id, **settings).unwrapped
    assert isinstance(env, TextEnv)
    return env
