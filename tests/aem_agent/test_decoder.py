"""The decoder against transformers: logits, gradients of packed sequences, files both ways, typed errors."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import transformers

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import (
    ArchitectureError,
    ModelFolderError,
    TokenizerMissingError,
    WeightsMismatchError,
    WeightsMissingError,
    load_model,
    load_tokenizer,
)
from aem_agent.types import ContextOverflowError

SHARED = [5, 6, 7, 8]
SEQUENCES = [[*SHARED, 9, 1, 2], [3], [*SHARED, 9, 4, 4, 4, 30, 31, 2], [*SHARED, 9, 1, 2], [11, 12, 13, 14, 15]]
TOKENS = torch.tensor([t for s in SEQUENCES for t in s])
CU = torch.tensor([0, *(len(s) for s in SEQUENCES)]).cumsum(0)


def make(family: str = "qwen2", *, tied: bool = False, kv_heads: int = 2) -> Decoder:
    config = DecoderConfig(
        family="qwen3" if family == "qwen3" else "qwen2",
        vocab_size=40,
        hidden_size=32,
        layers=3,
        heads=4,
        kv_heads=kv_heads,
        head_dim=16 if family == "qwen3" else 8,
        ffn=48,
        tied=tied,
        max_positions=32,
    )
    model = Decoder(config).init_weights(0, 0.3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # norms and biases must matter
        for p in model.parameters():
            if p.dim() == 1:
                p.copy_(0.5 + 0.3 * torch.randn(p.shape, generator=generator))
    return model.eval()


def theirs(folder: Path) -> torch.nn.Module:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([model(TOKENS[None, a:b]).logits[0] for a, b in pairwise(CU.tolist())])


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@torch.no_grad()
def test_logits_equal_transformers(tmp_path: Path, family: str, tied: bool, kv_heads: int) -> None:
    ours = make(family, tied=tied, kv_heads=kv_heads)
    ours.save(tmp_path)
    want = logits_of(theirs(tmp_path))
    found = ours.head(ours.hidden(TOKENS, CU))
    assert want.std() > 0.5
    torch.testing.assert_close(found, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_transformers_folder_loads(tmp_path: Path, family: str, tied: bool) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2, "max_position_embeddings": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = transformers.AutoConfig.for_model(family, vocab_size=40, tie_word_embeddings=tied, **sizes, **heads)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, 0.1, 0.3)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    ours = load_model(tmp_path)
    assert isinstance(ours, Decoder)
    torch.testing.assert_close(ours.head(ours.hidden(TOKENS, CU)), logits_of(model), rtol=0, atol=1e-5)
    exported, own = dict(ours.export()), dict(model.named_parameters())
    assert exported.keys() == own.keys()
    assert all(torch.equal(exported[name], own[name]) for name in own)


def test_saved_folder_is_the_same_model_and_loads_twice_the_same(tmp_path: Path) -> None:
    model = make("qwen3")
    model.save(tmp_path / "a")
    load_model(tmp_path / "a").save(tmp_path / "b")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_gradients_with_shared_beginnings_equal_separate_sequences(family: str) -> None:
    model = make(family)
    at = torch.tensor([6, 0, 3, 18, 10, 25, 30, 7])
    weight = torch.randn(len(at), 40, generator=torch.Generator().manual_seed(2))

    def gradients(hidden: torch.Tensor) -> list[torch.Tensor]:
        model.zero_grad()
        (model.head(hidden) * weight).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    alone = torch.cat([model.hidden(TOKENS[a:b], torch.tensor([0, b - a])) for a, b in pairwise(CU.tolist())])
    want = gradients(alone[at])
    for hidden in (model.hidden(TOKENS, CU)[at], model.hidden(TOKENS, CU, at)):
        torch.testing.assert_close(hidden, alone[at], rtol=0, atol=1e-5)
        for found, expected in zip(gradients(hidden), want, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_equal_beginnings_are_computed_once() -> None:
    model, seen = make(), []
    model.blocks[0].qkv.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    model.hidden(TOKENS, CU)
    distinct = {tuple(s[:i]) for s in SEQUENCES for i in range(1, len(s) + 1)}
    assert seen == [len(distinct)] and len(distinct) < len(TOKENS)


@torch.no_grad()
def test_half_precision_stays_close() -> None:
    model = make()
    want = model.head(model.hidden(TOKENS, CU))
    half = make().to(torch.bfloat16)
    assert (half.head(half.hidden(TOKENS, CU)).float() - want).abs().max() < 0.2 * want.std()


def test_too_long_and_empty_sequences_are_refused() -> None:
    model = make()
    with pytest.raises(ContextOverflowError, match="33 tokens"):
        model.hidden(torch.zeros(33, dtype=torch.long), torch.tensor([0, 33]))
    with pytest.raises(ValueError, match="cu_seqlens"):
        model.hidden(TOKENS[:4], torch.tensor([0, 2, 2, 4]))
    with pytest.raises(ValueError, match="cu_seqlens"):
        model.hidden(TOKENS[:4], torch.tensor([0, 3]))


def test_folder_errors_are_typed(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no model folder"):
        load_model(tmp_path / "absent")
    with pytest.raises(ModelFolderError, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelFolderError, match="cannot read"):
        load_model(tmp_path)
    make().save(tmp_path)
    with pytest.raises(TokenizerMissingError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsMismatchError, match="cannot read"):
        load_model(tmp_path)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsMissingError, match="pickled"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 4}, "lack"),
        ({"num_hidden_layers": 2}, "does not have"),
        ({"intermediate_size": 50}, "asks"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change: dict[str, int], message: str) -> None:
    make().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(WeightsMismatchError, match=message):
        load_model(tmp_path)


def test_remote_code_and_malformed_configs_are_refused(tmp_path: Path) -> None:
    make().save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    with pytest.raises(ArchitectureError, match="not run"):
        load_model(tmp_path)
    path.write_text(json.dumps(config | {"hidden_size": "wide"}))
    with pytest.raises(ModelFolderError, match="malformed"):
        load_model(tmp_path)
    path.write_text(json.dumps(config | {"num_key_value_heads": 3}))
    with pytest.raises(ArchitectureError, match="kv_heads"):
        load_model(tmp_path)


def test_shards_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    make().save(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"model.norm.weight": "../outside.safetensors"}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsMissingError, match="shard"):
        load_model(tmp_path / "model")
