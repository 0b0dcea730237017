"""Packed sequences: shared beginnings computed once, and causal attention without padding anything else.

Layout of three sequences a b | a b c | d: `tokens` = [a b a b c d], `cu_seqlens` = [0 2 5 6]. A causal model's state at
a token depends on what came before only, so equal beginnings are computed once: the *nodes* are a b c d, and token →
node is [0 1 0 1 2 3]. Rollout prompts repeat task, room and history over episodes and turns, so this often halves the
work (to find them takes a CPU less than a millisecond for 32k tokens). Linear layers see nodes. Attention sees a padded
view [n, longest] of them; pads come last in a row, so the causal rule alone hides them. With half precision on CUDA the
variable-length kernel needs no view at all.
"""

import inspect
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aem_agent.types import ContextOverflowError

Array = np.ndarray[Any, np.dtype[np.int64]]

WORTH_SHARING = 0.9
"""Nodes per token above which equal beginnings are not shared: gathering costs a little too."""


@dataclass(frozen=True)
class Packing:
    """Index maps of n packed sequences with T tokens and U nodes, U ≤ T."""

    n: int
    longest: int
    lengths: Tensor
    """Long[n]."""
    cu_seqlens: Tensor
    """Long[n + 1]."""
    rows: Tensor
    """Long[T]: sequence of each token."""
    columns: Tensor
    """Long[T]: place of each token within its sequence."""
    node_of: Tensor | None
    """Long[T]: node of each token; None when every token is its own."""
    token_of: Tensor | None
    """Long[U]: one token of each node."""

    @classmethod
    def of(cls, tokens: Tensor, cu_seqlens: Tensor, limit: int) -> "Packing":
        """Raises `ContextOverflowError` when a sequence is longer than `limit`, `ValueError` for an empty one."""
        cu = cu_seqlens.long()
        sizes = cu.diff().cpu().numpy()
        if sizes.size == 0 or sizes.min() < 1 or sizes.sum() != tokens.numel():
            raise ValueError("cu_seqlens must rise from 0 to the number of tokens, each sequence at least one long")
        longest = int(sizes.max())
        if longest > limit:
            raise ContextOverflowError(f"sequence of {longest} tokens, the model takes {limit}: shorten the prompt")
        rows = np.repeat(np.arange(sizes.size), sizes)
        columns = np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        tree = _prefix_tree(tokens.cpu().numpy(), sizes, rows, columns)
        maps = (None, None) if tree is None else tuple(torch.from_numpy(x).to(cu.device) for x in tree)
        there = (torch.from_numpy(x).to(cu.device) for x in (sizes, rows, columns))
        lengths, rows_, columns_ = there
        return cls(sizes.size, longest, lengths, cu, rows_, columns_, *maps)

    @cached_property
    def positions(self) -> Tensor:
        """Long[U]: place of each node within its sequence."""
        return self.columns if self.token_of is None else self.columns[self.token_of]

    @cached_property
    def ends(self) -> Tensor:
        """Int[n + 1]: `cu_seqlens` as kernels take it."""
        return self.cu_seqlens.int()

    @cached_property
    def last(self) -> Tensor:
        """Long[n]: node of each sequence's last token."""
        last = self.cu_seqlens[1:] - 1
        return last if self.node_of is None else self.node_of[last]

    @cached_property
    def table(self) -> Tensor | None:
        """Long[n · longest]: node at each place of the padded view (node 0 at pads); None when view and nodes agree."""
        flat = self.node_of is None and self.n * self.longest == self.rows.numel()
        return None if flat else self.wide_table(self.longest)

    @cached_property
    def places(self) -> Tensor:
        """Long[U]: a place of each node in the padded view."""
        places = self.rows * self.longest + self.columns
        return places if self.token_of is None else places[self.token_of]

    def wide_table(self, width: int) -> Tensor:
        """Long[n · width]: `table` with more columns."""
        nodes = torch.arange(self.rows.numel(), device=self.rows.device) if self.node_of is None else self.node_of
        return nodes.new_zeros(self.n * width).index_copy_(0, self.rows * width + self.columns, nodes)

    def nodes(self, tokens: Tensor) -> Tensor:
        """Long[T] → Long[U]."""
        return tokens if self.token_of is None else tokens[self.token_of]

    def expand(self, x: Tensor) -> Tensor:
        """Float[U, …] → Float[T, …]."""
        return x if self.node_of is None else x.index_select(0, self.node_of)


def _prefix_tree(tokens: Array, sizes: Array, rows: Array, columns: Array) -> tuple[Array, Array] | None:
    """(node of each token, one token of each node), or None where sharing would not pay.

    Sorted as byte strings, sequences with equal beginnings are neighbours: a token opens a node where its sequence has
    left the one above, else it belongs to the node above it in its column.
    """
    n, width = sizes.size, int(sizes.max())
    if n < 2:
        return None
    table = np.full((n, width), 0xFFFFFFFF, dtype=">u4")
    table[rows, columns] = tokens
    order = np.argsort(table.view(f"V{4 * width}").ravel(), kind="stable")
    table = table[order]
    opens = np.ones((n, width), dtype=bool)
    np.logical_or.accumulate(table[1:] != table[:-1], axis=1, out=opens[1:])
    opens &= np.arange(width) < sizes[order][:, None]
    count = int(opens.sum())
    if count > WORTH_SHARING * tokens.size:
        return None
    nodes = np.zeros((n, width), dtype=np.int64)
    nodes[opens] = np.arange(count)
    np.maximum.accumulate(nodes, axis=0, out=nodes)
    back = np.empty(n, dtype=np.int64)
    back[order] = np.arange(n)
    opened_row, opened_column = np.nonzero(opens)
    starts = np.cumsum(sizes) - sizes
    return nodes[back[rows], columns], starts[order[opened_row]] + opened_column


def attend(q: Tensor, k: Tensor, v: Tensor, packing: Packing) -> Tensor:
    """Causal attention within each sequence: q Float[U, H, hd], k and v Float[U, KV, hd] → Float[U, H·hd]."""
    if has_kernel(q):
        return _attend_varlen(q, k, v, packing)
    n, width, table = packing.n, packing.longest, packing.table
    views = []
    for x in (q, k, v):
        rows = x if table is None else x.flatten(1).index_select(0, table)
        views.append(rows.view(n, width, *x.shape[1:]).transpose(1, 2))
    out = _grouped_attention(views[0], views[1], views[2], is_causal=True)
    out = out.transpose(1, 2).reshape(n * width, -1)
    return out if table is None else out.index_select(0, packing.places)


def attend_at(q: Tensor, k: Tensor, v: Tensor, packing: Packing, at: Tensor) -> Tensor:
    """As `attend` for the queries of some tokens: q Float[P, H, hd] of tokens `at` (Long[P]) → Float[P, H·hd]."""
    n, width, device = packing.n, packing.longest, q.device
    rows, columns = packing.rows[at], packing.columns[at]
    counts = torch.bincount(rows, minlength=n)
    order = rows.argsort(stable=True)
    rank = torch.empty_like(rows)
    rank[order] = torch.arange(len(at), device=device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    most = int(counts.max())
    places = rows * most + rank
    chosen = places.new_zeros(n * most).index_copy_(0, places, torch.arange(len(at), device=device))
    mask = torch.arange(width, device=device) <= columns[chosen].view(n, 1, most, 1)
    table = packing.wide_table(width) if packing.table is None else packing.table
    views = [
        x.flatten(1).index_select(0, index).view(n, -1, *x.shape[1:]).transpose(1, 2)
        for x, index in ((q, chosen), (k, table), (v, table))
    ]
    out = _grouped_attention(views[0], views[1], views[2], attn_mask=mask)
    return out.transpose(1, 2).reshape(n * most, -1).index_select(0, places)


def _grouped_attention(q: Tensor, k: Tensor, v: Tensor, **how: Any) -> Tensor:
    """q Float[n, H, m, hd], k and v Float[n, KV, w, hd] → as q. CUDA's kernels for single precision and for masks do
    not know shared heads, and without a kernel all scores would be held at once: there they are given their own."""
    grouped = q.shape[1] != k.shape[1]
    if grouped and q.device.type == "cuda":
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        grouped = False
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=grouped, **how)


def has_kernel(x: Tensor) -> bool:
    """Whether attention over tensors like this goes through the variable-length kernel. It takes no mask: who needs
    some of the queries only asks for all, which is cheaper than masked attention over a padded view."""
    return x.is_cuda and x.dtype in (torch.float16, torch.bfloat16) and _varlen_arguments() is not None


@cache
def _varlen_arguments() -> dict[str, Any] | None:
    """Keyword arguments that make this torch's `varlen_attn` causal; None where it has none. They changed by 2.12."""
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
    q, k, v = (packing.expand(x) for x in (q, k, v))
    cu, longest = packing.ends, packing.longest
    out = cast(Tensor, varlen_attn(q, k, v, cu, cu, longest, longest, **arguments)).flatten(1)
    return out if packing.token_of is None else out.index_select(0, packing.token_of)
