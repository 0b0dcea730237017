"""Policies from model folders and from endpoints. Engines are imported only when one is asked for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for besides the model; see `aem_agent.policies.make_policy`."""

    prompt: str | None
    prompt_options: Mapping[str, Any]
    sampling: Mapping[str, Any]
    """Fields of `Sampling`."""
    env_id: str | None
    trust: bool = False
    """Code that a model folder's `aem.json` names may be imported."""


def endpoint_policy(name: str, engine_name: str | None, asked: Asked, server: Mapping[str, Any]) -> ChatPolicy:
    """The model `name` behind an endpoint, by texts; `server` holds what its engine takes besides."""
    engine_name = engine_name or "openai"
    factory = text_engines.get(engine_name)
    continues = getattr(factory, "continues", None) is True
    config = AgentConfig(
        asked.prompt or ("plain" if continues else _chat_prompt(asked.env_id)), dict(asked.prompt_options)
    )
    spec, parser = config.build()
    sampling = Sampling(**{"max_new_tokens": DEFAULT_NEW_TOKENS, **asked.sampling})
    if continues and all(stop.isspace() for stop in spec.stop):  # nothing else may be cut off an answer
        sampling = replace(sampling, stop=spec.stop)
    engine: TextEngine = _engine(TextEngine, engine_name, factory, name, **server)
    return ChatPolicy(spec, engine, parser, sampling, name=f"openai:{name}")


def served_policy(
    name: str, folder: Path, engine_name: str | None, asked: Asked, server: Mapping[str, Any]
) -> ModelPolicy:
    """The model `name` behind an endpoint, by token ids; `folder` holds its tokenizer."""
    if engine_name not in (None, "completions"):
        raise NoEngineError(f"with a tokenizer the engine is completions, which sends token ids, not {engine_name!r}")
    from aem_agent.engines.completions_engine import CompletionsEngine
    from aem_agent.model.interface import load_tokenizer, read_config

    tokenizer = load_tokenizer(folder)
    sizes = (getattr(tokenizer, "vocab_size", None), read_config(folder).get("vocab_size"))
    vocabulary = max((size for size in sizes if isinstance(size, int)), default=None)
    engine = CompletionsEngine(name, tokenizer, vocab_size=vocabulary, **server)
    return _token_policy(f"openai:{name}", folder, lambda: engine, asked)


def folder_policy(folder: Path, engine_name: str | None, asked: Asked, concurrency: int, device: str) -> ModelPolicy:
    """The model in `folder`."""
    engine_name = engine_name or "torch"
    kind = token_engines.get(engine_name)
    options = {"device": device, "max_batch": max(concurrency, 1), **getattr(kind, "evaluation_options", {})}

    def make() -> LocalEngine:
        engine: LocalEngine = _engine(LocalEngine, engine_name, getattr(kind, "load", None), folder, **options)
        return engine

    return _token_policy(str(folder), folder, make, replace(asked, sampling={**asked.sampling, "entropies": True}))


def _token_policy(name: str, folder: Path, make: Callable[[], Any], asked: Asked) -> ModelPolicy:
    """Spoken to as `folder` says. The engine, which may take minutes to start, is made last."""
    frame = chat_frame(folder)
    trained = AgentConfig.load(folder, trust=asked.trust, prompt=asked.prompt)
    config = trained or AgentConfig(
        prompt="plain" if frame is None else _chat_prompt(asked.env_id),
        sampling=Sampling(max_new_tokens=DEFAULT_NEW_TOKENS),
    )
    if asked.prompt is not None and asked.prompt != config.prompt:
        config = replace(config, prompt=asked.prompt, prompt_options={}, parser=None, parser_options={})
        config = replace(config, sampling=replace(config.sampling, stop=(), stop_token_ids=()))
    config = replace(config, prompt_options={**config.prompt_options, **asked.prompt_options})
    spec, parser = config.build()
    engine = make()
    limit = min(config.context_limit or engine.max_positions, engine.max_positions)
    new_tokens = min(config.sampling.max_new_tokens, asked.sampling.get("max_new_tokens", limit), max(1, limit // 2))
    sampling = replace(config.sampling, **{**asked.sampling, "max_new_tokens": new_tokens})
    return ModelPolicy(spec, engine, engine.tokenizer, parser, sampling, limit, frame=frame or ("", ""), name=name)


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
