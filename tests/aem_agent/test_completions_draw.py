"""What a token engine over HTTP asks for, and which ids it takes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from aem_agent.engines.completions_engine import CompletionsEngine
from aem_agent.engines.fake import ByteTokenizer
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.model_policies import ModelPolicy
from aem_agent.policies import make_policy
from aem_agent.types import EngineError, GenerateRequest, Response, Sampling


class Sized(ByteTokenizer):
    vocab_size = 257


def draw(ids: list[int], tokenizer: ByteTokenizer, seen: list[Any] | None = None, **options: Any) -> Response:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(json.loads(request.content))
        choice = {"token_ids": ids, "logprobs": {"token_logprobs": [-1] * len(ids)}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice]})

    transport = httpx.MockTransport(answer)
    engine = CompletionsEngine("m", tokenizer, base_url="http://x.test/v1", transport=transport, **options)
    return asyncio.run(engine.generate(GenerateRequest((7,), Sampling(), 5)))


def test_the_draw_is_asked_for_in_full() -> None:
    seen: list[Any] = []
    draw([97, 256], ByteTokenizer(), seen)
    wanted = {"ignore_eos": True, "skip_special_tokens": False, "logprobs": 0, "return_token_ids": True}
    assert {name: seen[0].get(name) for name in wanted} == wanted
    assert type(seen[0]["logprobs"]) is int, "of the sampled token alone; false would be none"


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    assert draw([97, 256], Sized()).token_ids == (97, 256)
    with pytest.raises(EngineError, match="token 257 is outside the vocabulary of 257"):
        draw([97, 257], Sized())
    assert draw([97, 257], Sized(), vocab_size=258).token_ids == (97, 257), "rows that fill up an embedding"
    assert draw([97, 2**31 - 1], ByteTokenizer()).token_ids[1] == 2**31 - 1, "of an unknown size"


def test_policies_know_the_vocabulary_of_their_folder(tmp_path: Path) -> None:
    shape = PresetConfig(tokenizer="byte-bpe", vocab_size=300, hidden_size=16, layers=1, ffn=16)
    folder = make_preset(shape, tmp_path, 0, ["go east west north south"])
    config = json.loads((folder / "config.json").read_text())

    def size() -> int:
        policy = make_policy("openai:m", base_url="http://x.test/v1", tokenizer=str(folder))
        assert isinstance(policy, ModelPolicy) and isinstance(policy.engine, CompletionsEngine)
        return policy.engine._vocab_size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompletionsEngine, "max_positions", 4096)
        own = size()
        assert own == config["vocab_size"] <= 300
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": own + 64}))
        assert size() == own + 64
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": "many"}))
        assert size() == own
