"""Drawing tokens: one random stream per request, log-probs and entropies as they are drawn.

A request's draws come from a hash of (its seed, token number), so they do not depend on what else is in the batch.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aem_agent.types import EngineError, Sampling

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

Uint64 = np.ndarray[Any, np.dtype[np.uint64]]

AHEAD = 16
"""Uniform numbers per row that are made at once."""

COLDEST = 1e-4
"""Lowest temperature that is not greedy: logits are divided by it in float32."""


def check_sampling(sampling: Sampling) -> None:
    """Raises `EngineError` for what cannot be drawn: a batch would fail with it."""
    temperature, top_p = sampling.temperature, sampling.top_p
    if temperature != 0 and not COLDEST <= temperature < math.inf:
        raise EngineError(f"temperature must be 0 (greedy) or finite and at least {COLDEST}, not {temperature}")
    if not 0 < top_p <= 1:
        raise EngineError(f"top_p must be above 0 and at most 1, not {top_p}")
    if "" in sampling.stop:
        raise EngineError("a stop string is empty: leave it out")


def uniforms(seeds: Sequence[int], start: int | Sequence[int], count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Float[n, count] in (0, 1): numbers `start` … of each seed's stream (SplitMix64, 48 bits: none rounds to 1).

    `start` is one for all or one for each.
    """
    base: Uint64 = np.array([(s * 0xD1342543DE82EF95 + _GOLDEN) & _MASK for s in seeds], dtype=np.uint64)
    first: Uint64 = np.asarray(start, dtype=np.uint64).reshape(-1, 1)
    numbers: Uint64 = np.arange(1, count + 1, dtype=np.uint64)
    steps: Uint64 = (first + numbers) * np.uint64(_GOLDEN)
    x: Uint64 = _mix(base)[:, None] + steps
    x = _mix(x)
    return ((x >> np.uint64(16)).astype(np.float64) + 0.5) * 2.0**-48


def _mix(x: Uint64) -> Uint64:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Streams:
    """The uniform numbers of the running rows, a few tokens ahead."""

    def __init__(self, seeds: Sequence[int], drawn: Sequence[int], device: torch.device) -> None:
        """Stream of each row and how many numbers it has used."""
        self._numbers = torch.from_numpy(uniforms(seeds, drawn, AHEAD)).to(device)
        self._next = 0

    @property
    def left(self) -> int:
        return AHEAD - self._next

    def take(self) -> Tensor:
        """The next number of every row, Float64[n]."""
        self._next += 1
        return self._numbers[:, self._next - 1]

    def keep(self, rows: Tensor) -> None:
        """Carry on with these rows (Long[m])."""
        self._numbers = self._numbers[rows]


class Draw:
    """Draws one token for each running row."""

    def __init__(self, samplings: Sequence[Sampling], device: torch.device) -> None:
        greedy = [s.temperature <= 0 for s in samplings]
        self.greedy = torch.tensor(greedy, device=device)
        self.any_greedy, self.all_greedy = any(greedy), all(greedy)
        self.unit = all(s.temperature in (0, 1) for s in samplings)
        self.scale = torch.tensor([1 / s.temperature if s.temperature > 0 else 1.0 for s in samplings], device=device)
        self.top_p = torch.tensor([s.top_p for s in samplings], device=device)
        self.any_top_p = any(s.top_p < 1 for s in samplings)
        self.entropies = any(s.entropies for s in samplings)

    def keep(self, rows: Tensor) -> None:
        """Carry on with these rows (Long[m])."""
        self.greedy, self.scale, self.top_p = self.greedy[rows], self.scale[rows], self.top_p[rows]

    def __call__(self, logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits Float[n, V], uniforms Float64[n] → tokens Long[n], their log-probs, and entropies in nats.

        Log-probs and entropies are of the full distribution at the sampling temperature, before any top-p cut. They are
        NaN where the logits are not finite, and the token is any.
        """
        logits = logits.float()
        logp = (logits if self.unit else logits * self.scale[:, None]).log_softmax(-1)
        p = logp.exp() if self.entropies or not self.all_greedy else None
        if p is None or self.all_greedy:
            tokens = logits.argmax(-1)
        else:
            tokens = _inverse_cdf(_cut(p, self.top_p) if self.any_top_p else p, uniform)
            if self.any_greedy:
                tokens = torch.where(self.greedy, logits.argmax(-1), tokens)
        chosen, entropies = logp.gather(1, tokens[:, None])[:, 0], None
        if p is not None and self.entropies:  # in place: a third quicker
            entropies = logp.clamp_(min=torch.finfo(logp.dtype).min).mul_(p).sum(-1).neg_()
        return tokens, chosen, entropies


def _inverse_cdf(p: Tensor, uniform: Tensor) -> Tensor:
    """The token whose share of the cumulative distribution holds the uniform number; never one of probability 0.

    Where the distribution is NaN the search ends behind the last token: it is clamped, since an index out of bounds
    ends a CUDA process.
    """
    cdf = p.double().cumsum_(-1)
    found = torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True)
    return found[:, 0].clamp_(max=p.shape[1] - 1)


def _cut(p: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the likeliest tokens that together reach `top_p` (the one that crosses it stays)."""
    ordered, order = p.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = ordered.masked_fill((before >= top_p[:, None]) & (top_p < 1)[:, None], 0.0)
    return torch.zeros_like(p).scatter_(1, order, kept)
