"""What an engine computes with, bit for bit, told in a few numbers: the proof that weights arrived.

Log-probs of a probe differ by up to a tenth of a nat between two half-precision forward passes, which hides whole steps
of training. Digests are exact. A worker takes them of the numbers that its kernels use, not of what it was sent: on
CPUs, vLLM computes with packed copies, of which the columns are read by multiplying with unit vectors (a one and zeros:
no rounding in any precision).

A digest neither depends on the order of a tensor's elements nor on zeros: that of a fused matrix is the sum of its
parts', and transposing or padding one changes nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aem_agent.types import WeightParityError

Digest = tuple[int, int]
"""Sums of the elements' bits as integers, and of their squares, modulo 2^64."""

_BLOCK = 1 << 18
"""Elements that are summed at a time: few enough for a processor's cache, four times as fast there."""
_ROWS = 256
"""Unit vectors that are multiplied at a time."""
_LEAST = torch.finfo(torch.float32).smallest_normal
"""What is no larger counts as zero: some kernels take it so."""


@torch.no_grad()
def digest(weight: Tensor, dtype: torch.dtype) -> Digest:
    """Of a tensor in `dtype`: float32, bfloat16 or float16."""
    flat = weight.detach().to(dtype).reshape(-1)
    whole = torch.int32 if flat.element_size() == 4 else torch.int16
    sums = torch.zeros(2, dtype=torch.int64, device=flat.device)
    for part in torch.split(flat, _BLOCK):
        bits = part.masked_fill(part.abs() <= _LEAST, 0).view(whole).to(torch.int64)
        sums += torch.stack([bits.sum(), (bits * bits).sum()])
    first, second = sums.tolist()
    return first % 2**64, second % 2**64


def added(digests: Sequence[Digest]) -> Digest:
    """The digest of all together."""
    return sum(d[0] for d in digests) % 2**64, sum(d[1] for d in digests) % 2**64


def asked(sent: Mapping[str, Digest], dtype: torch.dtype) -> str:
    """The question to a worker, for `told`."""
    return json.dumps({"dtype": str(dtype).removeprefix("torch."), "names": list(sent)})


def told(model: nn.Module, question: str) -> str:
    """A worker's answer, as JSON: [names of sent tensors, digests of what holds all of them together] for each of
    vLLM's own tensors; no digests where it cannot be told (quantised weights, names that this code does not find)."""
    given = json.loads(question)
    with torch.inference_mode():
        return json.dumps(list(_told(model, given["names"], getattr(torch, given["dtype"]))))


def assert_arrived(sent: Mapping[str, Digest], answer: Any) -> int:
    """Compare a worker's answer with what was sent; returns how many tensors could be. Raises `WeightParityError`."""
    try:
        groups = [(list(names), [(int(a), int(b)) for a, b in found]) for names, found in json.loads(answer)]
    except (TypeError, ValueError):
        raise WeightParityError(f"the engine does not tell which weights it has: {str(answer)[:80]!r}") from None
    if sorted(name for name in {n for names, _ in groups for n in names}) != sorted(sent):
        raise WeightParityError("the engine tells of other weights than those it was sent")
    odd = sorted(n for names, found in groups for n in names if {*found} - {added([sent[x] for x in names])})
    if odd:
        raise WeightParityError(
            f"vLLM computes with other weights than those it was sent: {', '.join(odd[:3])}{' …' * (len(odd) > 3)}. "
            "It answers no request before weights are loaded that arrive"
        )
    return len({name for names, found in groups if found for name in names})


def _told(model: nn.Module, names: Sequence[str], dtype: torch.dtype) -> Iterator[tuple[list[str], list[Digest]]]:
    modules = dict(model.named_modules(remove_duplicate=False))
    fused = getattr(model, "packed_modules_mapping", None) or {}
    held: dict[str, list[str]] = {}
    for name in names:
        held.setdefault(_holder(name, modules, fused), []).append(name)
    embeddings = []
    for holder, parts in held.items():
        path, _, kind = holder.rpartition(".")
        module = modules.get(path)
        yield parts, [] if module is None else list(_used(module, kind, dtype))
        if module is not None and kind == "weight" and hasattr(module, "org_vocab_size"):
            embeddings.append(module)
            (name,) = parts
    for module in modules.values():
        # a tied head has no weights of its own, yet it may compute with a copy of the embedding's
        if len(embeddings) == 1 and hasattr(module, "org_vocab_size") and module is not embeddings[0]:
            yield [name], list(_used(module, "weight", dtype))


def _holder(name: str, modules: Mapping[str, nn.Module], fused: Mapping[str, Sequence[str]]) -> str:
    """vLLM's tensor that holds a sent one; "" where it is not found."""
    path, _, kind = name.rpartition(".")
    if path in modules:
        return name
    above, _, last = path.rpartition(".")
    for whole, parts in fused.items():
        if last in parts and f"{above}.{whole}" in modules:
            return f"{above}.{whole}.{kind}"
    return ""


def _used(module: Any, kind: str, dtype: torch.dtype) -> Iterator[Digest]:
    """Of each copy of a tensor that a layer may compute with."""
    method, weight = getattr(module, "quant_method", None), getattr(module, kind, None)
    if not isinstance(weight, Tensor) or not (method is None or type(method).__name__.startswith("Unquantized")):
        return
    rows = getattr(module, "org_vocab_size", None)
    if weight.numel():
        yield digest(weight[:rows], dtype)
    if kind == "weight" and hasattr(module, "cpu_linear"):
        yield added([digest(columns[:, :rows], dtype) for columns in _columns(module, weight)])


def _columns(module: Any, weight: Tensor) -> Iterator[Tensor]:
    """The matrix that a linear layer multiplies with, transposed, some rows at a time."""
    width = int(getattr(module, "embedding_dim", 0) or module.input_size_per_partition)
    for first in range(0, width, _ROWS):
        units = torch.zeros(min(_ROWS, width - first), width, dtype=weight.dtype, device=weight.device)
        units[torch.arange(len(units)), torch.arange(first, first + len(units))] = 1
        yield module.quant_method.apply(module, units, None)
