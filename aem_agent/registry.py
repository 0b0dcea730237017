"""Registries of the agent room. A name, or `module:attribute` of the user's own code, gives a factory `(**options) ->
object`.

Entries are strings, so that importing this module imports none of what it names.
"""

from typing import Any

from aem_envs.plugins import Registry

prompt_specs: "Registry[Any]" = Registry("prompt_specs")
"""Name to a factory of `aem_agent.prompts.PromptSpec`."""
prompt_specs.add("plain", "aem_agent.prompts:PlainSpec")
prompt_specs.add("plain-full", "aem_agent.prompts:PlainFullSpec")
prompt_specs.add("think-action", "aem_agent.prompts:ThinkActionSpec")
prompt_specs.add("bash", "aem_agent.bash_prompt:BashSpec")

chat_prompts = {"aem/SWEBench-v0": "bash"}
"""Environment id to the prompt spec that instruct models are asked with if none is named; others get think-action."""

parsers: "Registry[Any]" = Registry("parsers")
"""Name to a factory of `aem_agent.parsers.Parser`."""
parsers.add("line", "aem_agent.parsers:LineParser")
parsers.add("think-action", "aem_agent.parsers:ThinkActionParser")
parsers.add("bash", "aem_agent.bash_prompt:BashParser")

env_texts: "Registry[Any]" = Registry("env_texts")
"""Environment id to a factory of `aem_agent.env_texts.EnvText`: how prompts read that environment's texts."""
env_texts.add("aem/ALFWorld-v0", "aem_agent.env_texts:AlfworldText")
env_texts.add("aem/WebShop-v0", "aem_agent.webshop_text:WebshopText")
env_texts.add("aem/WebShopBrowser-v0", "aem_agent.webshop_text:WebshopText")
env_texts.add("aem/SWEBench-v0", "aem_agent.bash_prompt:SwebenchText")

policies: "Registry[Any]" = Registry("policies")
"""Name to a factory `(**options) -> aem_agent.types.Policy` of a policy without a model."""
policies.add("random", "aem_agent.policies:RandomPolicy")
policies.add("scripted", "aem_agent.policies:ScriptedPolicy")
