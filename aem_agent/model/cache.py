"""Static key–value cache of a running batch.

Row r holds its tokens in columns 0 … length(r) − 1, so that rows of any length live side by side and a finished row's
place can be given to another: `drop` moves rows from the end into the holes, `admit` takes places behind the last row.
What lies behind a row's end is finite and masked.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.int64]]

WIDTHS = 16
"""Widths are multiples of this: kernels like aligned masks."""

SLACK = 1.1
"""How much wider than needed an empty cache is made: those who join later are often a little longer."""

WHOLE = 1.5
"""Up to this many times the columns in use, attention reads all that there are: on CPUs steps from head to head that
leave out more than a few hundred bytes take twice as long (measured: 384 heads of 100 to 400 columns)."""


class KVCache:
    """Keys and values; the first `n` rows are in use.

    Args:
        layers: of the model.
        heads, head_dim: of its keys and values.
        like: a tensor of the right type and place.
    """

    joins = True
    """Rows can be added while others run."""

    def __init__(self, layers: int, heads: int, head_dim: int, like: Tensor) -> None:
        self.layers, self.heads, self.head_dim = layers, heads, head_dim
        self.n = self.longest = self.width = self.rows = 0
        """Rows in use, columns in use, columns and rows that there is room for."""
        self.lengths = np.zeros(0, dtype=np.int64)
        """Tokens per row, n of them."""
        self._like = like.detach()
        self._memory = self._like.new_zeros(0)
        self._shape(0, 0)

    def _shape(self, rows: int, width: int) -> None:
        """Lay out the memory, which is the same each time as long as it suffices: fresh pages cost more than copies."""
        self.rows, self.width = rows, width
        shape = (2 * self.layers, rows, self.heads, width, self.head_dim)
        count = int(np.prod(shape))
        if count > self._memory.numel():
            self._memory = self._like.new_zeros(count + count // 2)
        device = self._like.device
        self.kv = self._memory[:count].view(shape)
        """Float[2 · layers, rows, KV, width, hd], finite; keys and values of a layer follow one another."""
        self._bias = self._like.new_empty(rows, self.heads, width)
        """0 where there is a token, −∞ elsewhere; the same for all heads."""
        self._ends = torch.zeros(rows, dtype=torch.long, device=device)
        """`lengths`, where the weights are."""
        head = torch.arange(self.heads, device=device)
        self._starts = (torch.arange(rows, device=device)[:, None] * self.heads + head) * width
        self._columns = torch.arange(width, device=device)
        self._places = self._starts

    def admit(self, lengths: Sequence[int], new_tokens: Sequence[int]) -> int:
        """Take rows of these lengths, with room for new tokens each, to be written; returns the first one's number."""
        first, more = self.n, len(lengths)
        need = max(a + b for a, b in zip(lengths, new_tokens, strict=True))
        self._make_room(first + more, need)
        self.n += more
        self.lengths = np.concatenate([self.lengths[:first], np.asarray(lengths, dtype=np.int64)])
        self.longest = int(self.lengths.max())
        ends = torch.from_numpy(self.lengths[first:]).to(self._ends.device)
        self._ends[first : self.n] = ends
        self._bias[first : self.n] = torch.where(self._columns < ends[:, None, None], 0.0, float("-inf"))
        return first

    def _make_room(self, rows: int, width: int) -> None:
        """An empty cache is shaped anew, by what it is to hold only; one in use grows, by a part of itself at least."""
        if not self.n:
            self._shape(rows, _rounded(SLACK * width))
            return
        if rows <= self.rows and width <= self.width:
            return
        kv, bias, n, longest = self.kv, self._bias, self.n, self.longest
        ends = self._ends[:n]
        rows = self.rows if rows <= self.rows else max(rows, self.rows + self.rows // 2)
        width = self.width if width <= self.width else _rounded(max(SLACK * width, 1.25 * self.width))
        self._memory = self._like.new_zeros(0)
        self._shape(rows, width)
        self.kv[:, :n, :, :longest] = kv[:, :n, :, :longest]
        self._bias[:n] = float("-inf")
        self._bias[:n, :, :longest] = bias[:n, :, :longest]
        self._ends[:n] = ends

    def clear(self) -> None:
        """Drop all rows."""
        self.n = self.longest = 0

    def places(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Long[m · KV]: where `put` puts m tokens."""
        return (self._starts[rows] + columns[:, None]).flatten()

    def put(self, layer: int, k: Tensor, v: Tensor, places: Tensor) -> None:
        """Write the keys and values of single tokens, Float[m, KV, hd] each."""
        for i, x in enumerate((k, v)):
            self.kv[2 * layer + i].view(-1, self.head_dim).index_copy_(0, places, x.reshape(-1, self.head_dim))

    def grow(self) -> Tensor:
        """Make room for one token per row; returns their positions Long[n]."""
        positions = self._ends[: self.n].clone()
        self._ends[: self.n] += 1
        self.lengths += 1
        self.longest = int(self.lengths.max())
        self._places = (self._starts[: self.n] + positions[:, None]).flatten()
        self._bias.view(-1).index_fill_(0, self._places, 0.0)
        return positions

    def append(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Put the newest token's keys and values, Float[n, KV, hd] each, where `grow` made room."""
        self.put(layer, k, v, self._places)

    def attend(self, layer: int, q: Tensor, first: int = 0) -> Tensor:
        """One query for each row from `first` on: q Float[n', H, hd] → Float[n', H·hd].

        The query heads of one key head are given as if they were successive queries: they share keys and mask.
        """
        n, heads, head_dim = q.shape
        rows = slice(first, first + n)
        kernel = q.is_cuda or q.dtype != torch.float32
        longest = self.width if self.width <= WHOLE * self.longest else self.longest
        if kernel:  # what they read is what they cost
            longest = _rounded(self.longest)
        k, v = self.kv[2 * layer, rows, :, :longest], self.kv[2 * layer + 1, rows, :, :longest]
        bias = self._bias[rows, :, :longest]
        q = q.reshape(n, self.heads, heads // self.heads, head_dim)
        if kernel:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, :, None])
            return out.reshape(n, heads * head_dim)
        scores = torch.baddbmm(
            bias.flatten(0, 1)[:, None],
            q.flatten(0, 1),
            k.flatten(0, 1).transpose(1, 2),
            alpha=head_dim**-0.5,
        )
        return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view(n, heads * head_dim)

    def drop(self, rows: Sequence[int]) -> list[int]:
        """Remove rows; returns, for each remaining place, the former row that now lies there."""
        gone = set(rows)
        kept = self.n - len(gone)
        order = list(range(kept))
        holes = [r for r in order if r in gone]
        movers = [r for r in range(kept, self.n) if r not in gone]
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        if holes:
            to, source = torch.tensor([holes, movers], device=self._ends.device)
            filled = int(self.lengths[movers].max())
            for x in self.kv:
                x[to, :, :filled] = x[source, :, :filled]
            self._bias[to, :, : self.longest] = self._bias[source, :, : self.longest]
            self._ends[to] = self._ends[source]
        self.lengths = self.lengths[order]
        self.n = kept
        self.longest = int(self.lengths.max()) if kept else 0
        return order


def _rounded(width: float) -> int:
    return -(-int(width) // WIDTHS) * WIDTHS


def lengths_of(cu_seqlens: Tensor) -> Array:
    """Cumulative lengths Int[n + 1] → lengths on the host."""
    ends: Array = cu_seqlens.cpu().numpy().astype(np.int64)
    return ends[1:] - ends[:-1]
