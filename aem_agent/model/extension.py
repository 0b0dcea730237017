"""Prompts of which some continue kept keys and values: only what is new of them is computed.

Layout of a batch whose first sequence a b c d continues a kept a b, and whose others are new: `tokens` = [c d | packed
new sequences]. Linear layers see them flat. Attention of the continuing rows goes from their new tokens to the running
batch's cache, into which the kept keys and values were copied; the new sequences attend among themselves.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aem_agent.model.cache import KVCache
from aem_agent.model.packing import Packing, attend


class Extension:
    """Index maps of n sequences, the first `len(bases)` of which continue that many kept tokens each.

    Args:
        bases: kept tokens per continuing sequence.
        tokens: Long[T], without the kept ones.
        cu_seqlens: Int[n + 1] of `tokens`.
        limit: tokens that a sequence may have, the kept ones included.

    Raises:
        ContextOverflowError: a sequence to be packed is longer than `limit`.
        ValueError: a sequence without new tokens.
    """

    def __init__(self, bases: Sequence[int], tokens: Tensor, cu_seqlens: Tensor, limit: int) -> None:
        self.first, device = len(bases), tokens.device
        """Continuing sequences."""
        cut = int(cu_seqlens[self.first])
        self.cut = cut
        """Tokens of theirs."""
        self.packing: Packing | None = None
        nodes, positions, last, lengths = [], [], [], []
        longest = 0
        if self.first:
            sizes = cu_seqlens[: self.first + 1].diff().cpu().numpy().astype(np.int64)
            if sizes.min() < 1:
                raise ValueError("a continued sequence needs at least one new token")
            starts = np.asarray(bases, dtype=np.int64)
            rows = np.repeat(np.arange(self.first), sizes)
            ranks = np.arange(cut) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            self.most = int(sizes.max())
            there = (rows, starts[rows] + ranks, starts, rows * self.most + ranks)
            self.rows, self.columns, self.starts, self.padded = (torch.from_numpy(x).to(device) for x in there)
            self.even = cut == self.first * self.most
            longest = int((starts + sizes).max())
            self.reach = longest
            nodes.append(tokens[:cut])
            positions.append(self.columns)
            last.append(torch.from_numpy(np.cumsum(sizes) - 1).to(device))
            lengths.append(torch.from_numpy(starts + sizes).to(device))
        if self.first < len(cu_seqlens) - 1:
            self.packing = packing = Packing.of(tokens[cut:], cu_seqlens[self.first :] - cut, limit)
            nodes.append(packing.nodes(tokens[cut:]))
            positions.append(packing.positions)
            last.append(packing.last + cut)
            lengths.append(packing.lengths)
            longest = max(longest, packing.longest)
        self.longest = longest
        """Tokens of the longest sequence, the kept ones included."""
        self.nodes, self.positions, self.last, self.lengths = map(_joined, (nodes, positions, last, lengths))
        self._places = self._table = self._bias = torch.empty(0)

    def open(self, room: Tensor, kept: Sequence[Tensor]) -> KVCache:
        """The running batch's cache, with kept keys and values Float[2 · layers, KV, base, hd] copied into it."""
        cache = KVCache(self.lengths, self.longest, room)
        for row, kv in enumerate(kept):
            cache.kv[:, row, :, : kv.shape[2]] = kv
        if self.first:
            self._places = cache.places(self.rows, self.columns)
        if self.packing is not None:
            self._table = cache.table(self.packing)
        return cache

    def write(self, cache: KVCache, layer: int, k: Tensor, v: Tensor) -> None:
        """Put the keys and values of all nodes, Float[U, KV, hd] each, into the cache."""
        if self.first:
            cache.put(layer, k[: self.cut], v[: self.cut], self._places)
        if self.packing is not None:
            cache.fill(layer, k[self.cut :], v[self.cut :], self._table, self.first)

    def attend(self, cache: KVCache, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q Float[U, H, hd], k and v Float[U, KV, hd], written already → Float[U, H·hd]."""
        parts = []
        if self.first:
            parts.append(self._continue(cache, layer, q[: self.cut]))
        if self.packing is not None:
            parts.append(attend(q[self.cut :], k[self.cut :], v[self.cut :], self.packing))
        return _joined(parts)

    def _continue(self, cache: KVCache, layer: int, q: Tensor) -> Tensor:
        """q Float[cut, H, hd] → Float[cut, H·hd], through a view padded to the most new tokens of a row."""
        n, most, heads, head_dim = self.first, self.most, q.shape[1], q.shape[2]
        keys = cache.heads
        k, v = (x[:, :, : self.reach] for x in cache.keys_values(layer, n))
        if not self.even:
            q = q.new_zeros(n * most, heads, head_dim).index_copy_(0, self.padded, q)
        # heads that share a key head are taken as further queries of it
        q = q.view(n, most, keys, heads // keys, head_dim).permute(0, 2, 3, 1, 4).reshape(n, keys, -1, head_dim)
        if layer == 0:
            ends = self.starts[:, None] + torch.arange(most, device=q.device)
            seen = torch.arange(self.reach, device=q.device) <= ends[:, :, None]
            bias = torch.zeros_like(seen, dtype=q.dtype).masked_fill_(~seen, float("-inf"))
            self._bias = bias.repeat(1, heads // keys, 1)[:, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias)
        out = out.view(n, keys, heads // keys, most, head_dim).permute(0, 3, 1, 2, 4).reshape(n * most, -1)
        return out if self.even else out.index_select(0, self.padded)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
