"""Digests of what an engine computes with: stand-ins for vLLM's layers, packed and not. Needs no vLLM."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aem_agent.engines.vllm_digest import added, asked, assert_arrived, digest, told
from aem_agent.types import WeightParityError

HALF = torch.bfloat16


class UnquantizedMethod:
    """As vLLM's: computes with a packed copy where a layer has one."""

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        result: Tensor = layer.cpu_linear(x) if hasattr(layer, "cpu_linear") else x @ layer.weight.t()
        return result


class Linear(nn.Module):
    def __init__(self, weight: Tensor, *, packed: bool, vocabulary: int = 0) -> None:
        super().__init__()
        self.quant_method: Any = UnquantizedMethod()
        self.input_size_per_partition = weight.shape[1]
        self.weight = nn.Parameter(weight, requires_grad=False)
        if vocabulary:
            self.org_vocab_size = vocabulary
        if packed:
            copy = weight.clone()
            self.cpu_linear = lambda x: x @ copy.t()
            if not vocabulary:
                self.weight = nn.Parameter(torch.empty(0, dtype=weight.dtype), requires_grad=False)


class Norm(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)


class Served(nn.Module):
    """A layer, an embedding whose rows are filled up, and a head tied to it."""

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}  # noqa: RUF012 - vLLM's form

    def __init__(self, sent: dict[str, Tensor], packed: bool) -> None:
        super().__init__()
        self.attn = nn.Module()
        fused = torch.cat([sent[f"attn.{part}_proj.weight"] for part in "qkv"])
        self.attn.qkv_proj = Linear(fused, packed=packed)
        self.embed = Linear(nn.functional.pad(sent["embed.weight"], (0, 0, 0, 3)), packed=packed, vocabulary=5)
        self.norm = Norm(sent["norm.weight"])
        self.lm_head = Linear(self.embed.weight.detach(), packed=packed, vocabulary=5)


def weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embed.weight": (5, 600), "norm.weight": (600,)} | {f"attn.{p}_proj.weight": (8, 600) for p in "qkv"}
    return {name: (0.02 * torch.randn(shape, generator=generator)).to(HALF) for name, shape in shapes.items()}


def compared(sent: dict[str, Tensor], model: nn.Module) -> int:
    digests = {name: digest(weight, HALF) for name, weight in sent.items()}
    return assert_arrived(digests, told(model, asked(digests, HALF)))


@pytest.mark.parametrize("packed", [True, False])
def test_weights_that_arrived_are_all_compared(packed: bool) -> None:
    assert compared(weights(0), Served(weights(0), packed)) == 5


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["embed.weight", "norm.weight", "attn.k_proj.weight"])
def test_one_element_by_one_bit_is_noticed(packed: bool, name: str) -> None:
    sent = weights(0)
    sent[name] = sent[name].clone()
    sent[name].view(torch.int16).view(-1)[3] += 1
    with pytest.raises(WeightParityError, match=name):
        compared(sent, Served(weights(0), packed))


def test_a_stale_copy_of_a_tied_head_is_noticed() -> None:
    """The embedding is new, the head's packed copy old."""
    old, new = Served(weights(0), packed=True), Served(weights(1), packed=True)
    new.lm_head.cpu_linear = old.lm_head.cpu_linear
    with pytest.raises(WeightParityError, match="embed"):
        compared(weights(1), new)


def test_what_cannot_be_told_is_left_to_the_probe() -> None:
    served = Served(weights(0), packed=True)
    served.attn.qkv_proj.quant_method = object()
    assert compared(weights(0), served) == 2
    assert compared(weights(0) | {"elsewhere.weight": torch.ones(2, dtype=HALF)}, served) == 2


@pytest.mark.parametrize("answer", ["[]", "nothing", None, '[[["a"], [[1]]]]'])
def test_an_answer_that_is_none_is_no_proof(answer: Any) -> None:
    with pytest.raises(WeightParityError):
        assert_arrived({"a": (1, 2)}, answer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_digests_add_up_and_depend_on_neither_order_nor_zeros(dtype: torch.dtype) -> None:
    a, b = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([-0.0, 0.0, 1.0])
    together = torch.cat([a.t().reshape(-1), b, torch.zeros(9)])
    assert digest(together, dtype) == added([digest(a, dtype), digest(b, dtype)])
    assert digest(a, dtype) != digest(-a, dtype)
    assert digest(torch.tensor([1.0, 4.0]), dtype) != digest(torch.tensor([2.0, 3.0]), dtype)
