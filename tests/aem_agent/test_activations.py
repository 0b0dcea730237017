"""Activation checkpointing: the same gradients bit for bit, less kept for the backward pass."""

import copy
from typing import cast

import pytest
import torch
import transformers
from torch import Tensor, nn

from aem_agent.model.activations import set_activation_checkpointing
from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.model.hf import TransformersModel
from aem_agent.model.interface import ArchitectureError, LanguageModel

SIZES = {"vocab_size": 20, "hidden_size": 16}
TOKENS = torch.arange(48) % 19 + 1
CU = torch.tensor([0, 20, 24, 48])
AT = torch.tensor([3, 18, 22, 40, 46])


def make(kind: str) -> LanguageModel:
    if kind == "llama":
        llama = transformers.LlamaConfig(
            **SIZES,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=40,
            max_position_embeddings=64,
            attention_dropout=0.5,  # nothing may be dropped
        )
        return cast(LanguageModel, TransformersModel(transformers.LlamaForCausalLM(llama)).eval())
    config = DecoderConfig("qwen3" if kind == "qwen3" else "qwen2", 20, 16, 4, 4, 2, 8, 40)
    return Decoder(config).init_weights(0, 0.3).eval()


def passed(model: LanguageModel, at: Tensor | None) -> tuple[Tensor, list[Tensor], int]:
    """Logits, gradients, and numbers kept for the backward pass beside the weights."""
    own = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.numel()
        return x

    cast(nn.Module, model).zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        logits = model.head(model.hidden(TOKENS, CU, at))
    logits.square().sum().backward()  # type: ignore[no-untyped-call]
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None], sum(kept.values())


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("at", [None, AT], ids=["all", "at"])
def test_gradients_are_the_same_and_less_is_kept(kind: str, at: Tensor | None) -> None:
    model = make(kind)
    want, gradients, kept = passed(model, at)
    set_activation_checkpointing(model, True)
    set_activation_checkpointing(model, True)  # once is enough
    found, same, less = passed(model, at)
    assert torch.equal(want, found)
    assert len(gradients) == len(same) > 20 and all(map(torch.equal, gradients, same))
    assert less < kept / 2
    set_activation_checkpointing(model, False)
    assert passed(model, at)[2] == kept


def test_what_is_kept_does_not_grow_with_what_a_layer_computes() -> None:
    """The states between layers are kept: their number, times the tokens, times the width; the feed-forward is not."""
    counts = []
    for ffn in (40, 400):
        model = Decoder(DecoderConfig("qwen3", 20, 16, 4, 4, 2, 8, ffn)).init_weights(0, 0.3).eval()
        set_activation_checkpointing(model, True)
        counts.append(passed(model, None)[2])
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_copy_computes_with_its_own_layers(kind: str) -> None:
    model = make(kind)
    set_activation_checkpointing(model, True)
    want, _, _ = passed(model, AT)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert torch.equal(passed(other, AT)[0], want)


def test_layers_run_once_without_gradients_and_twice_with() -> None:
    model, seen = make("qwen3"), []
    cast(Decoder, model).blocks[1].qkv.register_forward_hook(lambda *_: seen.append(1))
    set_activation_checkpointing(model, True)
    with torch.inference_mode():
        _, cache = model.prefill(TOKENS[:5], torch.tensor([0, 5]), 2)
        model.step(TOKENS[5:6], cache)
    assert len(seen) == 2
    passed(model, None)
    assert len(seen) == 4


def test_an_architecture_without_layers_of_that_kind_is_refused() -> None:
    model = make("llama")
    cast(TransformersModel, model).lm.model.layers = nn.ModuleList()
    with pytest.raises(ArchitectureError, match="checkpoint_activations=false"):
        set_activation_checkpointing(model, True)
    set_activation_checkpointing(model, False)
