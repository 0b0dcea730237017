"""FLOPs of a pass: by hand, and against what torch counts while the decoder runs."""

from typing import cast

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import LanguageModel
from aem_agent.model.packing import Packing
from trainer.batch import Batch
from trainer.config import ScaleConfig
from trainer.flops import decode_bytes, mfu, peak_flops, step_flops
from trainer.lora import adapt, adapters_off
from trainer.resources import counted_flops

SHAPE = DecoderConfig("qwen3", vocab_size=11, hidden_size=8, layers=2, heads=4, kv_heads=2, head_dim=2, ffn=3)


def test_by_hand() -> None:
    """Sequences of 3 and 2 tokens, of which token 2 of the first and token 1 of the second are predicted."""
    found = step_flops(SHAPE, torch.tensor([0, 3, 5]), torch.tensor([2, 4]), backward=False)
    q, kv, out, ffn = 8 * 8, 2 * 8 * 4, 8 * 8, 3 * 8 * 3
    first = 5 * (q + kv + out + ffn) + (1 + 2 + 3 + 1 + 2) * (2 * 8)
    last = 5 * kv + 2 * (q + out + ffn) + (2 + 1) * (2 * 8)
    assert float(found) == 2 * (first + last + 2 * 8 * 11)
    assert float(step_flops(SHAPE, torch.tensor([0, 3, 5]), torch.tensor([2, 4]))) == 3 * float(found)


def test_parts_add_up_and_shared_beginnings_count_once() -> None:
    cu, targets = torch.tensor([0, 4, 9]), torch.tensor([2, 3, 7, 8])
    whole = step_flops(SHAPE, cu, targets)
    parts = step_flops(SHAPE, cu[:2], targets[:2]) + step_flops(SHAPE, cu[1:] - 4, targets[2:] - 4)
    assert float(whole) == float(parts)
    saved = whole - step_flops(SHAPE, cu, targets, nodes=7)
    assert float(saved) == 3 * 2 * 2 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 3 + 2 * 8 * 4)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("shared", [False, True])
def test_as_torch_counts_it(family: str, shared: bool) -> None:
    """torch counts linear layers as they run; of attention it counts masked pairs too, so that is told apart."""
    config = DecoderConfig(family, 50, 32, 3, 4, 2, 8, 48)  # type: ignore[arg-type]
    model = Decoder(config).init_weights(0)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 50, (30,), generator=generator)
    if shared:
        tokens[10:18] = tokens[:8]
    cu, targets = torch.tensor([0, 10, 20, 30]), torch.tensor([8, 9, 17, 28, 29])
    nodes = len(Packing.of(tokens, cu, 100).nodes(tokens))
    assert nodes == (22 if shared else 30)

    with FlopCounterMode(display=False) as counter:
        rows = model.hidden(tokens, cu, at=targets - 1)
        model.head(rows).logsumexp(-1).sum().backward()  # type: ignore[no-untyped-call]
    linear = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "attention" not in str(op))

    pairs = 2 * 3 * 55 + (8 + 9 + 7 + 8 + 9)
    attention = 3 * 2 * pairs * 2 * 4 * 8
    assert float(step_flops(config, cu, targets, nodes=nodes)) == linear + attention


@pytest.mark.parametrize(
    "targets",
    [
        ("qkv", "out", "gate_up", "down"),
        ("qkv",),
        ("out",),
        ("gate_up",),
        ("down",),
        ("blocks.1.down",),
        ("blocks.2.qkv",),
        ("blocks.2.down",),
    ],
    ids="-".join,
)
def test_with_adapters_frozen_weights_have_no_gradients_of_their_own(targets: tuple[str, ...]) -> None:
    """As torch counts; attention told apart: 2 products of the forward pass, and 4 where gradients reach it."""
    config = DecoderConfig("qwen3", 50, 32, 3, 4, 2, 8, 48)
    model = Decoder(config).init_weights(0)
    adapt(cast(LanguageModel, model), ScaleConfig(lora_rank=3, lora_targets=targets), 0)
    tokens = torch.arange(20)
    cu, at = torch.tensor([0, 10, 20]), torch.tensor([8, 9, 17])
    rows = torch.zeros(3, dtype=torch.long)
    metrics: dict[str, torch.Tensor] = {}
    with FlopCounterMode(display=False) as counter:
        batch = Batch(tokens, cu, at, rows, rows, rows, rows)
        with counted_flops(cast(LanguageModel, model), batch, "flops", metrics, backward=True):
            states = model.hidden(tokens, cu, at=at - 1)
        model.head(states).logsumexp(-1).sum().backward()  # type: ignore[no-untyped-call]
    linear = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "attention" not in str(op))
    first = int(targets[0].split(".")[1]) if targets[0].startswith("blocks") else 0
    reached = first if targets[0].endswith("qkv") or len(targets) == 4 else first + 1
    attention = sum((3 if layer >= reached else 1) * (8 + 9 + 7 if layer == 2 else 2 * 55) for layer in range(3))
    assert float(metrics["flops"]) == linear + 2 * attention * 2 * 4 * 8


def test_adapters_that_are_off_cost_nothing() -> None:
    model = cast(LanguageModel, Decoder(SHAPE).init_weights(0))
    rows = torch.zeros(1, dtype=torch.long)
    batch = Batch(torch.arange(5), torch.tensor([0, 5]), torch.tensor([4]), rows, rows, rows, rows)
    found: list[float] = []
    for adapted in (False, True):
        if adapted:
            adapt(model, ScaleConfig(lora_rank=3), 0)
        metrics: dict[str, torch.Tensor] = {}
        with adapters_off(model), counted_flops(model, batch, "flops", metrics, backward=False):
            model.hidden(batch.tokens, batch.cu_seqlens, batch.targets - 1)
        found.append(float(metrics["flops"]))
    with counted_flops(model, batch, "more", metrics, backward=False):
        model.hidden(batch.tokens, batch.cu_seqlens, batch.targets - 1)
    assert found[0] == found[1] < float(metrics["more"])


def test_share_of_the_peak() -> None:
    assert peak_flops("NVIDIA H200") == peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("cpu") is None
    assert mfu(494.5e12, 2.0, 989e12) == 0.25
    assert mfu(1.0, 2.0, None) is None


def test_bytes_of_a_decode_step_by_hand() -> None:
    weights = 2 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 3) + 8 * 11
    assert decode_bytes(SHAPE, rows=3, context=5) == 2 * (weights + 3 * 5 * 2 * 2 * 2 * 2)
