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
    """Keys and values; the first `n` rows are in use.

    Args:
        lengths: Long[n], tokens per row; longest is their maximum.
        room: Float[2 · layers, n, KV, width, hd], finite or yet to be filled; keys and values of a layer follow one
            another.
    """

    def __init__(self, lengths: Tensor, longest: int, room: Tensor) -> None:
        self.kv = room
        self.n, self.heads, self.width, self.head_dim = room.shape[1:]
        self.longest = longest
        """Columns in use."""
        self.lengths = lengths.clone()
        device = lengths.device
        self._head = torch.arange(self.heads, device=device)
        self._columns = torch.arange(self.width, device=device)
        self._starts = (torch.arange(self.n, device=device)[:, None] * self.heads + self._head) * self.width
        self.mask = self._columns[:longest] < self.lengths[:, None]
        """Bool[n, longest]: where there is a token."""
        self._bias: Tensor | None = None
        self._places = self._starts

    def keys_values(self, layer: int, rows: int) -> tuple[Tensor, Tensor]:
        """Those of the first rows, Float[rows, KV, longest, hd] each."""
        return self.kv[2 * layer, :rows, :, : self.longest], self.kv[2 * layer + 1, :rows, :, : self.longest]

    def table(self, packing: Packing) -> Tensor:
        """Long[n' · KV · width]: what `fill` has to put where, for the n' sequences of a packing."""
        table = packing.wide_table(self.width).view(packing.n, 1, self.width)
        return (table * self.heads + self._head[:, None]).flatten()

    def fill(self, layer: int, k: Tensor, v: Tensor, table: Tensor, first: int = 0) -> None:
        """Write the rows from `first` on, whole, from the keys and values of nodes, Float[U, KV, hd] each."""
        for i, x in enumerate((k, v)):
            rows = self.kv[2 * layer + i, first:].view(-1, self.head_dim)
            torch.index_select(x.reshape(-1, self.head_dim), 0, table, out=rows)

    def places(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Long[m · KV]: where `put` puts m tokens."""
        return (self._starts[rows] + columns[:, None]).flatten()

    def put(self, layer: int, k: Tensor, v: Tensor, places: Tensor) -> None:
        """Write the keys and values of single tokens, Float[m, KV, hd] each."""
        for i, x in enumerate((k, v)):
            self.kv[2 * layer + i].view(-1, self.head_dim).index_copy_(0, places, x.reshape(-1, self.head_dim))

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
        self.put(layer, k, v, self._places)

    def attend(self, layer: int, q: Tensor) -> Tensor:
        """One query per row: q Float[n, H, hd] → Float[n, H·hd].

        The query heads of one key head are given as if they were successive queries: they share keys and mask.
        """
        n, heads, head_dim = q.shape
        k, v = self.keys_values(layer, n)
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
            for x in self.kv:
                x[to, :, : self.longest] = x[source, :, : self.longest]
            self.lengths[to] = self.lengths[source]
        self.n = kept
        return order
