"""LoRA: low-rank adapters around linear layers are trained instead of the weights.

    W + (α/r)·B·A,     A Float[r, in] uniform within ±1/√in, B Float[out, r] zero at the start

Only adapters have gradients and optimiser states, so these cost memory in proportion to r. The layers are peft's. The
decoder's stacked matrices (q, k and v; gate and up) have one A each, which their parts share. Adapters are part of the
model's `state_dict`, so checkpoints and resuming need nothing more; `export`, `save` and weight pushes give merged
weights, as if there were no adapters. Source: Hu et al., arXiv 2106.09685.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import LanguageModel
from aem_agent.model.lora_layers import adapted_layers
from aem_agent.model.weights import Put, name_table, split_rows
from trainer.config import ScaleConfig
from trainer.errors import TrainerError

THEIRS = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "out": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""The decoder's layers under the names that most of transformers' models give them, so that one setting suits both."""

HEADS = ("lm_head", "embed_out")
"""The head is not adapted: it may be the embedding too, and then no merged weight could stand for both."""


class LoraError(TrainerError):
    """Adapters cannot be put into the model; the message says why."""


def require_peft() -> Any:
    """The package; raises `LoraError` where it is not installed."""
    try:
        import peft
    except ImportError:
        raise LoraError(
            'scale.lora_rank needs peft, which is not installed: pip install "aem-suite[train]", or set '
            "scale.lora_rank=0"
        ) from None
    return peft


def adapt(model: LanguageModel, scale: ScaleConfig, seed: int) -> None:
    """Put adapters into a model, in place, and leave only them to be trained; before it is sharded.

    The start is the model as it was: B is zero, and A is drawn from `seed`, the same everywhere. A model without
    weights (on the device `meta`) gets adapters without any, for `start` to fill.

    Raises:
        LoraError: peft is not installed, `scale.lora_targets` match nothing, or there are adapters already.
    """
    peft, module = require_peft(), cast(nn.Module, model)
    if adapted_layers(module):
        raise LoraError("the model has adapters already: adapt a model that was loaded anew")
    linear = [name for name, m in module.named_modules() if isinstance(m, nn.Linear)]
    config = peft.LoraConfig(
        r=scale.lora_rank,
        lora_alpha=scale.lora_alpha,
        target_modules=matching(linear, scale.lora_targets),
        lora_dropout=0.0,
        bias="none",
    )
    outline = any(p.is_meta for p in module.parameters())
    with torch.random.fork_rng(devices=[]):  # what peft draws is drawn anew by `start`
        peft.inject_adapter_in_model(config, module, low_cpu_mem_usage=outline)
    module.requires_grad_(False)
    for a, b in _adapters(module):
        a.requires_grad_(True)
        b.requires_grad_(True)
    if not outline:
        start(model, seed)
    module.train(module.training)


@torch.no_grad()
def start(model: LanguageModel, seed: int, put: Put = Tensor.copy_) -> None:
    """What adapters are at the start, whatever they were: B is zero, and A is drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    for a, b in _adapters(cast(nn.Module, model)):
        put(a, (2 * torch.rand(a.shape, generator=generator) - 1) / math.sqrt(a.shape[1]))
        b.zero_()


def _adapters(model: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """(A, B) of each adapter."""
    for layer in adapted_layers(model).values():
        for a, b in zip(layer.lora_A.values(), layer.lora_B.values(), strict=True):
            yield a.weight, b.weight


def matching(linear: Iterable[str], asked: Iterable[str]) -> list[str]:
    """Of the names of a model's linear layers those that end as `scale.lora_targets` asks; raises `LoraError`."""
    linear = [name for name in linear if name.rsplit(".", 1)[-1] not in HEADS]
    found: list[str] = []
    for target in asked:
        mine = _ending(linear, target) or [n for other in THEIRS.get(target, ()) for n in _ending(linear, other)]
        if not mine:
            ends = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise LoraError(
                f"scale.lora_targets: no layer's name ends in {target!r}; choose among {', '.join(ends) or 'none'}"
                + (" (the head is not adapted)" if target in HEADS else "")
            )
        found += mine
    if not found:
        raise LoraError("scale.lora_targets is empty: name layers, such as qkv, or set scale.lora_rank=0")
    return list(dict.fromkeys(found))


def _ending(names: list[str], target: str) -> list[str]:
    return [name for name in names if name == target or name.endswith(f".{target}")]


@contextmanager
def adapters_off(model: LanguageModel) -> Iterator[None]:
    """The model without what adapters add, for a while: the policy that training began from. Gradients and what is
    trained stay as they are; without adapters it is the model itself."""
    layers = list(adapted_layers(cast(nn.Module, model)).values())
    before = [layer.disable_adapters for layer in layers]
    try:
        # peft's own `enable_adapters` also changes which parameters ask for gradients, which optimisers rely on
        for layer in layers:
            layer._disable_adapters = True
        yield
    finally:
        for layer, off in zip(layers, before, strict=True):
            layer._disable_adapters = off


def save_adapter(
    model: LanguageModel, folder: Path, base: str = "", exact: Mapping[str, Tensor] = MappingProxyType({})
) -> None:
    """Write adapter_config.json and adapter_model.safetensors, which peft and vLLM load onto the model in transformers.

    A stacked matrix becomes its parts: each gets the whole A, and its rows of B. `base` is the name or folder of the
    model that was adapted, for information. `exact`: matrices by their names in the model, where its own are rounded.

    Raises:
        LoraError: the model has no adapters.
    """
    peft, module = require_peft(), cast(nn.Module, model)
    layers = adapted_layers(module)
    if not layers:
        raise LoraError("the model has no adapters to be saved: set scale.lora_rank")
    tensors: dict[str, Tensor] = {}
    for name, a, b in _parts(module, layers, exact):
        for letter, x in (("A", a), ("B", b)):
            tensors[f"base_model.model.{name}.lora_{letter}.weight"] = x.contiguous().cpu().clone()
    names = [name.removeprefix("base_model.model.").rsplit(".", 2)[0] for name in tensors]
    first = next(iter(layers.values()))
    rank = next(iter(first.r.values()))
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=first.scaling[next(iter(first.r))] * rank,
        target_modules=sorted(_shortest(module, names)),
        base_model_name_or_path=base,
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def _parts(
    model: nn.Module, layers: dict[str, Any], exact: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(transformers' name of a layer, A, B), with sharded matrices put together."""
    table = name_table(model) if isinstance(model, Decoder) else {}
    for name, layer in layers.items():
        which = next(iter(layer.lora_A))
        a, b = (
            exact.get(f"{name}.{side}.{which}.weight", _whole(getattr(layer, side)[which].weight.detach()))
            for side in ("lora_A", "lora_B")
        )
        if not isinstance(model, Decoder):
            yield name.removeprefix("lm."), a, b
            continue
        for part, rows in split_rows(table[f"{name}.weight"], b, model.config.head_dim):
            yield part.removesuffix(".weight"), a, rows


def _whole(x: Tensor) -> Tensor:
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def _shortest(model: nn.Module, names: list[str]) -> set[str]:
    """Last parts of names where these are all the layers so called, else whole names: as peft matches them."""
    if isinstance(model, Decoder):
        every = {part.removesuffix(".weight") for parts in name_table(model).values() for part, _ in parts}
    else:
        every = {name.removeprefix("lm.").replace(".base_layer", "") for name, _ in model.named_modules()}
    ends = {name.rsplit(".", 1)[-1] for name in names}
    return ends if {name for name in every if name.rsplit(".", 1)[-1] in ends} == set(names) else set(names)
