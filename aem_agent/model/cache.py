"""Static key–value cache of a running batch.

Row r holds its tokens in columns 0 … length(r) − 1, so that rows of any length live side by side and a finished row's
place can be given to another: `drop` moves rows from the end into the holes, which costs as much as there are holes.
"""

import torch
from torch import Tensor


class KVCache:
    """Keys and values Float[layers, n, width, KV, hd] each; the first `n` rows are in use.

    Zero-filled: what lies behind a row's end is hidden by a weight of zero, and zero times a stray NaN would be NaN.
    """

    def __init__(self, layers: int, n: int, width: int, heads: int, head_dim: int, like: Tensor) -> None:
        self.n = n
        self.width = width
        self.keys = like.new_zeros(layers, n, width, heads, head_dim)
        self.values = torch.zeros_like(self.keys)
        self.lengths = torch.zeros(n, dtype=torch.long, device=like.device)
        self._columns = torch.arange(width, device=like.device)
        self._row_starts = torch.arange(n, device=like.device) * width
        self.longest = 0
        """Columns in use."""

    def write(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Put k, v Float[m, KV, hd] at flat places row · width + column (Long[m])."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, k)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, v)

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values Float[n, KV, longest, hd] of the rows and columns in use (views)."""
        k, v = (x[layer, : self.n, : self.longest].transpose(1, 2) for x in (self.keys, self.values))
        return k, v

    def append(self) -> tuple[Tensor, Tensor, Tensor]:
        """Make room for one token per row: its flat place Long[n], position Long[n], and attention mask Bool[n, longest]."""
        positions = self.lengths[: self.n].clone()
        self.longest += 1
        self.lengths[: self.n] += 1
        mask = self._columns[: self.longest] <= positions[:, None]
        return self._row_starts[: self.n] + positions, positions, mask

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
            used = slice(0, self.longest)
            self.keys[:, to, used] = self.keys[:, source, used]
            self.values[:, to, used] = self.values[:, source, used]
            self.lengths[to] = self.lengths[source]
        self.n = kept
        return order
