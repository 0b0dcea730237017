"""Reductions over the flat layout: no padding, one index tensor per level.

Two episodes of one task, with responses of 2, 1 and 3 tokens, lie like this:

    token          0  1  2  3  4  5
    span_index     0  0  1  2  2  2      token    → response
    episode_index  0  0  1               response → episode    (responses 0 and 1 are turns 0 and 1 of episode 0)
    group_index    0  0  0               response → group
    cu_seqlens     0  2  3  6            where each response's tokens begin

Indices run from 0; entries of a segment need not be adjacent unless a function says so. All functions are pure, and
differentiable in their values where that makes sense; nothing waits for the device unless its docstring says so.
"""

import torch
from torch import Tensor


def count_segments(index: Tensor) -> int:
    """One more than the largest entry of `index` (0 if empty). Waits for the device: pass known counts instead."""
    return int(index.max()) + 1 if index.numel() else 0


def segment_sum(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Σ over each of `n` segments. values, index [k] → [n]; an empty segment gives 0."""
    return values.new_zeros(n).index_add(0, index, values)


def segment_count(index: Tensor, n: int) -> Tensor:
    """Entries in each of `n` segments: index [k] → int64 [n]."""
    return torch.bincount(index, minlength=n)


def segment_mean(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Mean over each of `n` segments. values, index [k] → [n]; an empty segment gives 0."""
    return segment_sum(values, index, n) / segment_count(index, n).clamp_min(1)


def segment_max(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Largest float of each of `n` segments; an empty segment gives −inf, and NaN wins."""
    return values.new_full((n,), -torch.inf).scatter_reduce(0, index, values, "amax")


def segment_min(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Smallest float of each of `n` segments; an empty segment gives +inf, and NaN wins."""
    return values.new_full((n,), torch.inf).scatter_reduce(0, index, values, "amin")


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Σ of `values` where the boolean `mask` is true. What is masked out may be NaN."""
    return torch.where(mask, values, 0).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where the boolean `mask` is true; 0 where it is true nowhere. What is masked out may be NaN."""
    return masked_sum(values, mask) / mask.sum().clamp_min(1)


def whiten(values: Tensor, mask: Tensor | None = None, *, eps: float = 1e-8) -> Tensor:
    """(x − mean)/(std + eps) with mean and std (ddof 1) over the entries in `mask` (default all); the others become 0.

    values [n], mask bool [n] → [n]. A single entry becomes 0. Source: advantage whitening as customary in PPO.
    """
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    centred = torch.where(mask, values - masked_mean(values, mask), 0)
    variance = centred.square().sum() / (mask.sum() - 1).clamp_min(1)
    return centred / (variance.sqrt() + eps)


def cu_seqlens(lengths: Tensor) -> Tensor:
    """Cumulative lengths as variable-length attention wants them: [n] → int32 [n + 1], first entry 0."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


def index_from_lengths(lengths: Tensor) -> Tensor:
    """lengths [n] → index [Σ lengths]: 0 repeated lengths[0] times, then 1, … (waits for the device)."""
    return torch.repeat_interleave(lengths)


def last_of_segment(index: Tensor) -> Tensor:
    """True at the last entry of each segment: [k] → bool [k]. Segments must be adjacent."""
    last = torch.ones_like(index, dtype=torch.bool)
    last[:-1] = index[1:] != index[:-1]
    return last


def discounted_sum(values: Tensor, index: Tensor, decay: float) -> Tensor:
    """y_k = Σ_{j ≥ k in k's segment} decay^{j−k} · x_j: returns-to-go, and GAE from its δ. values, index [k] → [k].

    Segments must be adjacent and in time order. Window doubling: after each pass y holds twice as many terms, so the
    whole batch takes log2(k) vector operations instead of a loop over time.
    """
    total, reach = values, 1
    while reach < values.shape[0]:
        later = torch.where(index[reach:] == index[:-reach], total[reach:], 0)
        total = total + decay**reach * torch.nn.functional.pad(later, (0, reach))
        reach *= 2
    return total
