"""Packed sequences: index maps, and causal attention over them without padding anything else.

Layout of three sequences a b | c d e | f: `tokens` = [a b c d e f], `cu_seqlens` = [0 2 5 6], positions = [0 1 0 1 2 0].
Linear layers see the flat tokens. Attention sees a padded view [n, longest] of queries, keys and values; pads come last in
a row, so the causal rule alone hides them. With half precision on CUDA the variable-length kernel needs no view at all.
"""

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from aem_agent.types import ContextOverflowError


@dataclass(frozen=True, slots=True)
class Packing:
    """Index maps of n packed sequences with T tokens in all."""

    n: int
    longest: int
    cu_seqlens: Tensor
    """Int[n + 1]."""
    lengths: Tensor
    """Long[n]."""
    positions: Tensor
    """Long[T]: place of each token within its sequence."""
    rows: Tensor
    """Long[T]: sequence of each token."""

    @classmethod
    def of(cls, cu_seqlens: Tensor, limit: int) -> "Packing":
        """Raises `ContextOverflowError` when a sequence is longer than `limit`, `ValueError` for an empty one."""
        cu = cu_seqlens.long()
        lengths = cu.diff()
        n = lengths.numel()
        shortest, longest = (int(x) for x in torch.aminmax(lengths)) if n else (0, 0)
        if shortest < 1:
            raise ValueError("packed sequences must hold at least one token each")
        if longest > limit:
            raise ContextOverflowError(f"sequence of {longest} tokens, the model takes {limit}: shorten the prompt")
        rows = torch.repeat_interleave(torch.arange(n, device=cu.device), lengths)
        positions = torch.arange(rows.numel(), device=cu.device) - cu[rows]
        return cls(n, longest, cu_seqlens, lengths, positions, rows)

    @property
    def last(self) -> Tensor:
        """Long[n]: flat index of each sequence's last token."""
        return self.cu_seqlens[1:].long() - 1

    @property
    def full(self) -> bool:
        """All sequences have the same length, so the padded view is the flat one."""
        return self.n * self.longest == self.rows.numel()

    def slots(self, width: int) -> Tensor:
        """Long[T]: place of each token in a flattened [n, width] table."""
        return self.rows * width + self.positions


class _Pad(torch.autograd.Function):
    """Float[T, …] to Float[size, …] with zeros in the gaps. Its gradient is `_Unpad`: both are plain row copies."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, slots: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slots)
        return flat.new_zeros(size, *flat.shape[1:]).index_copy_(0, slots, flat)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (slots,) = ctx.saved_tensors
        return grad.index_select(0, slots), None, None


class _Unpad(torch.autograd.Function):
    """Float[size, …] to Float[T, …]; autograd's own index_select would add rows one by one on its way back."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.size = padded.shape[0]
        return padded.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (slots,) = ctx.saved_tensors
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, slots, grad), None


def attend(q: Tensor, k: Tensor, v: Tensor, packing: Packing) -> Tensor:
    """Causal attention within each packed sequence: q Float[T, H, hd], k and v Float[T, KV, hd] → Float[T, H·hd]."""
    if q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and _varlen_arguments() is not None:
        return _attend_varlen(q, k, v, packing)
    n, width = packing.n, packing.longest
    if not packing.full:
        slots = packing.slots(width)
        q, k, v = (cast(Tensor, _Pad.apply(x, slots, n * width)) for x in (q, k, v))
    heads = [x.view(n, width, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)]
    out = F.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
    out = out.transpose(1, 2).reshape(n * width, -1)
    return out if packing.full else cast(Tensor, _Unpad.apply(out, slots))


@cache
def _varlen_arguments() -> dict[str, Any] | None:
    """Keyword arguments that make this torch's `varlen_attn` causal; None where it has none. They changed in 2.12."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    names = inspect.signature(varlen_attn).parameters
    if "window_size" in names:
        return {"window_size": (-1, 0), **({"enable_gqa": True} if "enable_gqa" in names else {})}
    return {"is_causal": True} if "is_causal" in names else None


def _attend_varlen(q: Tensor, k: Tensor, v: Tensor, packing: Packing) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    arguments = _varlen_arguments() or {}
    if "enable_gqa" not in arguments and k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    cu = packing.cu_seqlens.int()
    out = varlen_attn(q, k, v, cu, cu, packing.longest, packing.longest, **arguments)
    return cast(Tensor, out).flatten(1)
