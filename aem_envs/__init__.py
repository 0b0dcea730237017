"""Multi-turn text environments behind Gymnasium's API. Importing this registers `aem/…`; nothing heavy is loaded.

import gymnasium as gym
env = gym.make("aem_envs:aem/Toy-v0")          # or: import aem_envs; gym.make("aem/Toy-v0")
observation, info = env.reset(seed=0)
observation, reward, terminated, truncated, info = env.step(info["admissible_actions"][0])
"""

import gymnasium as gym

import aem_envs.shared_text  # noqa: F401  # lets AsyncVectorEnv share texts
from aem_envs.core import (
    AemEnvError,
    BadOptionError,
    BadStateError,
    Capabilities,
    Expert,
    FreeText,
    Info,
    InfrastructureError,
    ResetNeededError,
    TextEnv,
)
from aem_envs.plugins import experts, make_expert

__all__ = [
    "AemEnvError",
    "BadOptionError",
    "BadStateError",
    "Capabilities",
    "Expert",
    "FreeText",
    "Info",
    "InfrastructureError",
    "ResetNeededError",
    "TextEnv",
    "env_ids",
    "experts",
    "make_expert",
    "register",
]


def register(env_id: str, entry_point: str) -> None:
    """Register a `TextEnv` the way this project does: `entry_point` "module:Class" is imported by the first `gym.make`.

    No wrappers are asked for: a `TextEnv` enforces the order of calls and its step limit itself, and says why in `info`
    (`gym.make(…, max_episode_steps=)` would truncate without a reason: use the environment's own `max_steps`).
    Registering enrols the environment in `aem-envs ls` and in the contract tests.
    """
    gym.register(id=env_id, entry_point=entry_point, order_enforce=False, disable_env_checker=True)


def env_ids() -> list[str]:
    """Ids of the registered environments of this project, sorted."""
    return sorted(env_id for env_id in gym.registry if env_id.startswith("aem/"))


register("aem/Toy-v0", "aem_envs.toy:ToyEnv")
register("aem/ALFWorld-v0", "aem_envs.alfworld.env:ALFWorldEnv")

experts.add("aem/Toy-v0/expert", "aem_envs.toy:ToyExpert")
experts.add("aem/ALFWorld-v0/expert", "aem_envs.alfworld.expert:Expert")
experts.add("aem/ALFWorld-v0/expert-search", "aem_envs.alfworld.expert:SearchExpert")
