"""Static key–value cache of a running batch.

Row r holds its tokens in columns 0 … length(r) − 1, so that rows of any length live side by side and a finished row's
place can be given to another: `drop` moves rows from the end into the holes, which costs as much as there are holes.
What lies behind a row's end is finite and masked.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from aem_agent.model.packing import Packing


class KVCache:
    """Keys and values, per layer Float[n, KV, width, hd] each; the first `n` rows are in use."""

    def __init__(self, packing: Packing, heads: int, head_dim: int, new_tokens: int) -> None:
        self.n = packing.n
        self.heads, self.head_dim = heads, head_dim
        self.width = packing.longest + new_tokens
        self.longest = packing.longest
        """Columns in use."""
        self.lengths = packing.lengths.clone()
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        device = self.lengths.device
        head = torch.arange(heads, device=device)
        table = packing.wide_table(self.width).view(self.n, 1, self.width)
        self._table = (table * heads + head[:, None]).flatten()
        self._columns = torch.arange(self.width, device=device)
        self._starts = (torch.arange(self.n, device=device)[:, None] * heads + head) * self.width
        self.mask = self._columns[: self.longest] < self.lengths[:, None]
        """Bool[n, longest]: where there is a token."""
        self._bias: Tensor | None = None
        self._places = self._starts

    def fill(self, k: Tensor, v: Tensor) -> None:
        """Add a layer from the keys and values of the prompts' nodes, Float[U, KV, hd] each."""
        for to, x in ((self.keys, k), (self.values, v)):
            rows = x.reshape(-1, self.head_dim).index_select(0, self._table)
            to.append(rows.view(self.n, self.heads, self.width, self.head_dim))

    def grow(self) -> Tensor:
        """Make room for one token per row; returns their positions Long[n]."""
        positions = self.lengths[: self.n].clone()
        self.lengths[: self.n] += 1
        self.longest += 1
        self.mask = self._columns[: self.longest] <= positions[:, None]
        self._bias = None
        self._places = (self._starts[: self.n] + positions[:, None]).flatten()
        return positions

    def append(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Put the newest token's keys and values, Float[n, KV, hd] each, where `grow` made room."""
        for cache, x in ((self.keys, k), (self.values, v)):
            cache[layer].view(-1, self.head_dim).index_copy_(0, self._places, x.reshape(-1, self.head_dim))

    def attend(self, layer: int, q: Tensor) -> Tensor:
        """One query per row: q Float[n, H, hd] → Float[n, H·hd].

        The query heads of one key head are given as if they were successive queries: they share keys and mask.
        """
        n, heads, head_dim = q.shape
        k, v = (x[layer][:n, :, : self.longest] for x in (self.keys, self.values))
        q = q.reshape(n, self.heads, heads // self.heads, head_dim)
        if q.is_cuda or q.dtype != torch.float32:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask[:, None, None])
            return out.reshape(n, heads * head_dim)
        if self._bias is None:
            bias = torch.zeros_like(self.mask, dtype=q.dtype).masked_fill_(~self.mask, float("-inf"))
            self._bias = bias.repeat_interleave(self.heads, 0)[:, None]
        scores = torch.baddbmm(self._bias, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=head_dim**-0.5)
        return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view(n, heads * head_dim)

    def drop(self, rows: list[int]) -> list[int]:
        """Remove rows; returns, for each remaining place, the former row that now lies there."""
        gone = set(rows)
        kept = self.n - len(gone)
        order = list(range(kept))
        holes = [r for r in order if r in gone]
        movers = [r for r in range(kept, self.n) if r not in gone]
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        if holes:
            to, source = torch.tensor([holes, movers], device=self.lengths.device)
            for x in (*self.keys, *self.values):
                x[to, :, : self.longest] = x[source, :, : self.longest]
            self.lengths[to] = self.lengths[source]
        self.n = kept
        return order
