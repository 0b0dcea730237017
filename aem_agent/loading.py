"""Policies from model folders and from endpoints. Engines are imported only when one is asked for."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aem_agent.agent_config import AgentConfig
from aem_agent.engines import text_engines, token_engines
from aem_agent.model_policies import ChatPolicy, ModelPolicy
from aem_agent.registry import chat_prompts
from aem_agent.types import AgentError, LocalEngine, Sampling, TextEngine

DEFAULT_NEW_TOKENS = 512
"""For models that do not say: room for a thought and an action."""


class NoEngineError(AgentError):
    """What `--engine` names is no engine of the kind that is needed."""


def endpoint_policy(
    name: str,
    engine_name: str | None,
    base_url: str | None,
    prompt: str | None,
    prompt_options: Mapping[str, Any] | None,
    asked: dict[str, Any],
    concurrency: int,
    env_id: str | None = None,
) -> ChatPolicy:
    """A chat endpoint's model `name`; see `aem_agent.policies.make_policy`."""
    config = AgentConfig(prompt or _chat_prompt(env_id), dict(prompt_options or {}))
    spec, parser = config.build()
    sampling = Sampling(**{"max_new_tokens": DEFAULT_NEW_TOKENS, **asked})
    engine_name = engine_name or "openai"
    factory = text_engines.get(engine_name)
    engine: TextEngine = _engine(TextEngine, engine_name, factory, name, base_url=base_url, concurrency=concurrency)
    return ChatPolicy(spec, engine, parser, sampling, name=f"openai:{name}")


def folder_policy(
    folder: Path,
    engine_name: str | None,
    prompt: str | None,
    prompt_options: Mapping[str, Any] | None,
    asked: dict[str, Any],
    concurrency: int,
    device: str,
    env_id: str | None = None,
) -> ModelPolicy:
    """The model in `folder`; see `aem_agent.policies.make_policy`."""
    frame = chat_frame(folder)
    trained = AgentConfig.load(folder)
    config = trained or AgentConfig(
        prompt="plain" if frame is None else _chat_prompt(env_id), sampling=Sampling(max_new_tokens=DEFAULT_NEW_TOKENS)
    )
    if prompt is not None and prompt != config.prompt:
        config = replace(config, prompt=prompt, prompt_options={}, parser=None, parser_options={})
        config = replace(config, sampling=replace(config.sampling, stop=(), stop_token_ids=()))
    config = replace(config, prompt_options={**config.prompt_options, **(prompt_options or {})})
    spec, parser = config.build()
    engine_name = engine_name or "torch"
    load = getattr(token_engines.get(engine_name), "load", None)
    engine: LocalEngine = _engine(LocalEngine, engine_name, load, folder, device=device, max_batch=max(concurrency, 1))
    limit = min(config.context_limit or engine.max_positions, engine.max_positions)
    new_tokens = min(config.sampling.max_new_tokens, asked.get("max_new_tokens", limit), max(1, limit // 2))
    sampling = replace(config.sampling, **{**asked, "max_new_tokens": new_tokens})
    return ModelPolicy(
        spec, engine, engine.tokenizer, parser, sampling, limit, frame=frame or ("", ""), name=str(folder)
    )


def _chat_prompt(env_id: str | None) -> str:
    return chat_prompts.get((env_id or "").rpartition(":")[2], "think-action")


def _engine(kind: Any, name: str, factory: Any, model: object, **options: Any) -> Any:
    """What `factory` makes of a model, if it is a `kind` (one of the protocols of engines)."""
    try:
        engine = factory(model, **options)
    except TypeError as error:
        raise NoEngineError(f"{name!r} is no {kind.__name__} (aem_agent.types): {error}") from error
    if not isinstance(engine, kind):
        raise NoEngineError(f"{name!r} is no {kind.__name__} (aem_agent.types): it made a {type(engine).__name__}")
    return engine


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
