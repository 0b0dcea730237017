"""Multi-turn text environments behind Gymnasium's API. Importing this registers `aem/…`; nothing heavy is loaded.

import gymnasium as gym
env = gym.make("aem_envs:aem/Toy-v0")          # or: import aem_envs; gym.make("aem/Toy-v0")
observation, info = env.reset(seed=0)
observation, reward, terminated, truncated, info = env.step(info["admissible_actions"][0])
"""

import aem_envs.shared_text  # noqa: F401  # lets AsyncVectorEnv share texts
from aem_envs.checks import check_text_env
from aem_envs.core import (
    AemEnvError,
    BadOptionError,
    BadStateError,
    Capabilities,
    Expert,
    FreeText,
    InfrastructureError,
    ResetNeededError,
    TextEnv,
)
from aem_envs.info import Info, Seconds
from aem_envs.plugins import experts, make_expert
from aem_envs.registration import env_ids, make_env, register

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
    "Seconds",
    "TextEnv",
    "check_text_env",
    "env_ids",
    "experts",
    "make_env",
    "make_expert",
    "register",
]

register("aem/Toy-v0", "aem_envs.toy:ToyEnv")
register("aem/ALFWorld-v0", "aem_envs.alfworld.env:ALFWorldEnv")
register("aem/WebShop-v0", "aem_envs.webshop.env:WebShopEnv")
register("aem/WebShopBrowser-v0", "aem_envs.webshop.browser.env:WebShopBrowserEnv")
register("aem/SWEBench-v0", "aem_envs.swebench.env:SWEBenchEnv")

experts.add("aem/Toy-v0/expert", "aem_envs.toy:ToyExpert")
experts.add("aem/ALFWorld-v0/expert", "aem_envs.alfworld.expert:Expert")
experts.add("aem/ALFWorld-v0/expert-search", "aem_envs.alfworld.expert:SearchExpert")
experts.add("aem/WebShop-v0/expert", "aem_envs.webshop.expert:Expert")
experts.add("aem/WebShop-v0/expert-search", "aem_envs.webshop.reader:SearchExpert")
experts.add("aem/WebShop-v0/first-hit", "aem_envs.webshop.expert:FirstHit")
experts.add("aem/WebShopBrowser-v0/expert", "aem_envs.webshop.expert:Expert")
experts.add("aem/WebShopBrowser-v0/expert-search", "aem_envs.webshop.reader:SearchExpert")
experts.add("aem/WebShopBrowser-v0/first-hit", "aem_envs.webshop.expert:FirstHit")
experts.add("aem/SWEBench-v0/expert", "aem_envs.swebench.expert:Expert")
experts.add("aem/SWEBench-v0/expert-sed", "aem_envs.swebench.expert:LineExpert")
