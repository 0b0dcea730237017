"""Policies from model folders and from endpoints. Engines are imported here only when one is asked for."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aem_agent.agent_config import AgentConfig
from aem_agent.model_policies import ChatPolicy, ModelPolicy
from aem_agent.types import Sampling

DEFAULT_NEW_TOKENS = 512
"""For models that do not say: room for a thought and an action."""


def endpoint_policy(
    name: str,
    base_url: str | None,
    prompt: str | None,
    prompt_options: Mapping[str, Any] | None,
    asked: dict[str, Any],
    concurrency: int,
) -> ChatPolicy:
    """A chat endpoint's model `name`; see `aem_agent.policies.make_policy`."""
    from aem_agent.engines.openai_engine import OpenAIEngine

    config = AgentConfig(prompt or "think-action", dict(prompt_options or {}))
    spec, parser = config.build()
    sampling = Sampling(**{"max_new_tokens": DEFAULT_NEW_TOKENS, **asked})
    engine = OpenAIEngine(name, base_url=base_url, concurrency=concurrency)
    return ChatPolicy(spec, engine, parser, sampling, name=f"openai:{name}")


def folder_policy(
    folder: Path,
    prompt: str | None,
    prompt_options: Mapping[str, Any] | None,
    asked: dict[str, Any],
    concurrency: int,
    device: str,
) -> ModelPolicy:
    """The model in `folder` on the torch engine; see `aem_agent.policies.make_policy`."""
    from aem_agent.engines.torch_engine import TorchEngine
    from aem_agent.model.devices import torch_device

    on = torch_device(device)
    frame = chat_frame(folder)
    trained = AgentConfig.load(folder)
    config = trained or AgentConfig(
        prompt="plain" if frame is None else "think-action", sampling=Sampling(max_new_tokens=DEFAULT_NEW_TOKENS)
    )
    if prompt is not None and prompt != config.prompt:
        config = replace(config, prompt=prompt, prompt_options={}, parser=None, parser_options={})
        config = replace(config, sampling=replace(config.sampling, stop=(), stop_token_ids=()))
    config = replace(config, prompt_options={**config.prompt_options, **(prompt_options or {})})
    spec, parser = config.build()
    engine = TorchEngine.load(folder, device=str(on), max_batch=max(concurrency, 1))
    limit = min(config.context_limit or engine.model.max_positions, engine.model.max_positions)
    new_tokens = min(config.sampling.max_new_tokens, asked.get("max_new_tokens", limit), max(1, limit // 2))
    sampling = replace(config.sampling, **{**asked, "max_new_tokens": new_tokens})
    return ModelPolicy(
        spec, engine, engine.tokenizer, parser, sampling, limit, frame=frame or ("", ""), name=str(folder)
    )


def chat_frame(folder: Path) -> tuple[str, str] | None:
    """What a model's chat template puts before and after one user message; None if the folder has no template.

    Rendered once by transformers around a mark; templates are sandboxed there, and no remote code is trusted.
    """
    if not (folder / "chat_template.jinja").is_file():
        try:
            settings = json.loads((folder / "tokenizer_config.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not (isinstance(settings, dict) and settings.get("chat_template")):
            return None
    from transformers import AutoTokenizer

    mark = "\ue000message\ue000"
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
    )
    before, found, after = str(text).partition(mark)
    return (before, after) if found else None
