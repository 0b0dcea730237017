"""Linear layers around which peft has put LoRA adapters, as the rest of the model reads them.

    y = x·Wᵀ + b + (α/r)·x·Aᵀ·Bᵀ,        A Float[r, in], B Float[out, r];        merged: W + (α/r)·B·A

peft itself is not imported: `trainer.lora` puts adapters in, and a model without any needs no peft.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE = ".base_layer"
"""What peft adds to the name of a layer's own weights."""


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """The layers with adapters, by name; none in a model that was never adapted."""
    return {name: m for name, m in model.named_modules() if hasattr(m, "base_layer") and hasattr(m, "lora_A")}


def adapter_ranks(model: nn.Module) -> dict[str, int] | None:
    """Ranks by the names of layers whose adapters are on; None for a model that was never adapted."""
    layers = adapted_layers(model)
    ranks = {name: sum(a.shape[0] for a, _, _ in _pairs(layer)) for name, layer in layers.items()}
    return {name: rank for name, rank in ranks.items() if rank} if layers else None


def some_rows(layer: nn.Module, x: Tensor, start: int, stop: int) -> Tensor:
    """The outputs `start` … `stop` of a linear layer, its adapters included: x Float[m, in] → Float[m, stop − start].

    peft's layers offer the weight of the layer that they are around as their own: to slice that would leave out what
    they add.
    """
    base: Any = getattr(layer, "base_layer", layer)
    bias = None if base.bias is None else base.bias[start:stop]
    y = F.linear(x, base.weight[start:stop], bias)
    for a, b, scale in _pairs(layer):
        y = y + F.linear(F.linear(x.to(a.dtype), a), b[start:stop]).to(y.dtype) * scale
    return y


def merged_weight(layer: Any) -> Tensor:
    """Float[out, in]: the layer's weight and what its adapters add, on or off, in the weight's type."""
    weight: Tensor = layer.base_layer.weight.detach()
    for a, b, scale in _pairs(layer, whether_on_or_off=True):
        weight = weight + ((b.detach() @ a.detach()) * scale).to(weight.dtype)
    return weight


def _pairs(layer: Any, *, whether_on_or_off: bool = False) -> Iterator[tuple[Tensor, Tensor, float]]:
    """(A, B, α/r) of a layer's adapters; none where there are none, or where they are off."""
    if hasattr(layer, "base_layer") and (whether_on_or_off or not layer.disable_adapters):
        for name in layer.active_adapters:
            yield layer.lora_A[name].weight, layer.lora_B[name].weight, float(layer.scaling[name])


class Merged(Mapping[str, Tensor]):
    """A model's `state_dict` as if it had been trained without adapters: merged as each weight is asked for, so that
    only one is there twice. Without adapters it is the `state_dict`."""

    def __init__(self, model: nn.Module) -> None:
        layers = adapted_layers(model)
        prefixes = tuple(f"{name}.lora_" for name in layers)
        self._layers = {f"{name}.weight": layer for name, layer in layers.items()}
        own = {n: tensor for n, tensor in model.state_dict().items() if not (prefixes and n.startswith(prefixes))}
        self._state: dict[str, Tensor] = {n.replace(f"{BASE}.", ".") if layers else n: own[n] for n in own}

    def __getitem__(self, name: str) -> Tensor:
        layer = self._layers.get(name)
        return self._state[name] if layer is None else merged_weight(layer)

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


@torch.no_grad()
def take_merged(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights that `Merged` has given: they become the layers' own, and adapters add nothing any more."""
    layers = adapted_layers(model)
    names = {f"{name}.{kind}": f"{name}{BASE}.{kind}" for name in layers for kind in ("weight", "bias")}
    own = {names.get(name, name): tensor for name, tensor in state.items()}
    prefixes = tuple(f"{name}.lora_" for name in layers)
    kept = {name: tensor for name, tensor in model.state_dict().items() if prefixes and name.startswith(prefixes)}
    model.load_state_dict(own | kept)
    silence(model)


@torch.no_grad()
def silence(model: nn.Module) -> None:
    """Adapters add nothing from now on: B is zero."""
    for layer in adapted_layers(model).values():
        for b in layer.lora_B.values():
            b.weight.zero_()
