"""Engines: what turns prompts into responses.

`token_engines` and `text_engines` map names to classes; `module:Class` of your own works wherever a name does, as in
`aem-eval run --engine`.
"""

from typing import Any

from aem_envs.plugins import Registry

token_engines: "Registry[Any]" = Registry("token_engines")
"""Name to a class of `aem_agent.types.LocalEngine`s."""
token_engines.add("torch", "aem_agent.engines.torch_engine:TorchEngine")
token_engines.add("fake", "aem_agent.engines.fake:FakeTokenEngine")
token_engines.add("vllm", "aem_agent.engines.vllm_engine:VllmEngine")
token_engines.add("vllm-server", "aem_agent.engines.vllm_server_engine:VllmServerEngine")

text_engines: "Registry[Any]" = Registry("text_engines")
"""Name to a class `(model, *, base_url, concurrency) -> aem_agent.types.TextEngine`; `prices=` is given too where there
are any."""
text_engines.add("openai", "aem_agent.engines.openai_engine:OpenAIEngine")
text_engines.add("completions", "aem_agent.engines.completions_engine:CompletionsTextEngine")
