"""Prompts that join a running batch, of which some continue kept keys and values: only what is new is computed.

Layout of two joining sequences, the first of which, a b c d, continues a kept a b: `tokens` = [c d | packed new
sequences]. Linear layers see them flat. They take the places behind the batch's rows in its cache, into which the kept
keys and values are copied and the new ones written; attention reads them there.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aem_agent.model.cache import KVCache, lengths_of
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
        sizes = lengths_of(cu_seqlens)
        self.lengths = sizes + np.asarray([*bases, *[0] * (len(sizes) - self.first)], dtype=np.int64)
        """Tokens per sequence, the kept ones included."""
        cut = int(sizes[: self.first].sum())
        self.cut = cut
        """New tokens of the continuing sequences."""
        self.packing: Packing | None = None
        nodes, positions, last = [], [], []
        if self.first:
            sizes = sizes[: self.first]
            if sizes.min() < 1:
                raise ValueError("a continued sequence needs at least one new token")
            starts = np.asarray(bases, dtype=np.int64)
            rows = np.repeat(np.arange(self.first), sizes)
            ranks = np.arange(cut) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            self.most = int(sizes.max())
            there = (rows, starts[rows] + ranks, starts, rows * self.most + ranks)
            self.rows, self.columns, self.starts, self.padded = (torch.from_numpy(x).to(device) for x in there)
            self.even = cut == self.first * self.most
            self.reach = int(self.lengths[: self.first].max())
            nodes.append(tokens[:cut])
            positions.append(self.columns)
            last.append(torch.from_numpy(np.cumsum(sizes) - 1).to(device))
        if self.first < len(self.lengths):
            self.packing = packing = Packing.of(tokens[cut:], cu_seqlens[self.first :] - cut, limit)
            nodes.append(packing.nodes(tokens[cut:]))
            positions.append(packing.positions)
            last.append(packing.last + cut)
        self.nodes, self.positions, self.last = map(_joined, (nodes, positions, last))
        self.at = 0
        """Row of the first sequence in the cache."""
        self._places = self._bias = torch.empty(0)

    def open(self, cache: KVCache, kept: Sequence[Tensor], new_tokens: Sequence[int]) -> None:
        """Take places in a cache, with kept keys and values Float[2 · layers, KV, base, hd] copied into them."""
        self.at = cache.admit(self.lengths.tolist(), new_tokens)
        for row, kv in enumerate(kept, self.at):
            cache.kv[:, row, :, : kv.shape[2]] = kv
        if self.first:
            self._places = cache.places(self.rows + self.at, self.columns)

    def write(self, cache: KVCache, layer: int, k: Tensor, v: Tensor) -> None:
        """Put the keys and values of all nodes, Float[U, KV, hd] each, into the cache."""
        if self.first:
            cache.put(layer, k[: self.cut], v[: self.cut], self._places)
        if self.packing is not None:
            for there, x in zip(self._new(cache, layer), (k, v), strict=True):
                there.copy_(_padded(x[self.cut :], self.packing))

    def attend(self, cache: KVCache, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q Float[U, H, hd], k and v Float[U, KV, hd], written already → Float[U, H·hd]."""
        parts = []
        if self.first:
            parts.append(self._continue(cache, layer, q[: self.cut]))
        if self.packing is not None and q.is_cuda:
            parts.append(attend(q[self.cut :], k[self.cut :], v[self.cut :], self.packing))
        elif self.packing is not None:
            parts.append(self._begin(cache, layer, q[self.cut :], self.packing))
        return _joined(parts)

    def _new(self, cache: KVCache, layer: int) -> tuple[Tensor, Tensor]:
        """Where the packed sequences lie in the cache: Float[n', KV, longest, hd] of keys and of values."""
        assert self.packing is not None
        first, longest = self.at + self.first, self.packing.longest
        rows = slice(first, first + self.packing.n)
        return cache.kv[2 * layer, rows, :, :longest], cache.kv[2 * layer + 1, rows, :, :longest]

    def _begin(self, cache: KVCache, layer: int, q: Tensor, packing: Packing) -> Tensor:
        """As `packing.attend`, with keys and values from where they were written."""
        k, v = self._new(cache, layer)
        grouped = q.shape[1] != k.shape[1]
        out = F.scaled_dot_product_attention(_padded(q, packing), k, v, is_causal=True, enable_gqa=grouped)
        out = out.transpose(1, 2).reshape(packing.n * packing.longest, -1)
        return out if packing.table is None else out.index_select(0, packing.places)

    def _continue(self, cache: KVCache, layer: int, q: Tensor) -> Tensor:
        """q Float[cut, H, hd] → Float[cut, H·hd], through a view padded to the most new tokens of a row."""
        n, most, heads, head_dim = self.first, self.most, q.shape[1], q.shape[2]
        keys, rows = cache.heads, slice(self.at, self.at + n)
        k, v = cache.kv[2 * layer, rows, :, : self.reach], cache.kv[2 * layer + 1, rows, :, : self.reach]
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


def _padded(x: Tensor, packing: Packing) -> Tensor:
    """Nodes Float[U, h, hd] → Float[n, h, longest, hd]."""
    rows = x if packing.table is None else x.flatten(1).index_select(0, packing.table)
    return rows.view(packing.n, packing.longest, *x.shape[1:]).transpose(1, 2)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
