"""The ways of the fused head, and a small problem for them."""

import torch
from torch import Tensor

WAYS: dict[str, dict[str, int]] = {
    "kept, one piece": {},
    "kept, chunks": {"chunk": 26},
    "tokens again": {"keep": 0},
    "tokens again, chunks": {"keep": 0, "chunk": 3 * 13 + 5},
    "a token at a time": {"keep": 0, "chunk": 1},
}
"""With 14 tokens and 13 columns; with 10 tokens those that keep nothing go over columns."""


def problem(n: int = 14, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    hidden, weight = (torch.randn(k, 5, dtype=torch.float64, generator=generator).to(dtype) for k in (n, 13))
    return hidden.requires_grad_(), weight.requires_grad_(), torch.arange(n) * 5 % 13
