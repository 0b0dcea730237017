"""What the variable-length kernel is given, on a CPU: a stand-in in plain torch that keeps to its documented contract.

The kernel itself runs on CUDA only. Its signature changed: `is_causal` up to torch 2.11, `window_size` and
`enable_gqa` from 2.12 on; both are stood in for.
"""

import inspect
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.attention.varlen as varlen
from torch import Tensor

from aem_agent.model import packing
from aem_agent.model.packing import Packing, attend

HEADS, WIDTH = 4, 8
SEQUENCES = {
    "shared": [[5, 6, 7, 8, 9, 1], [5, 6, 7, 8], [5, 6, 7, 8, 9, 2, 3], [4]],
    "apart": [[1, 2, 3], [4], [7, 8, 9, 10, 11]],
    "alone": [[3, 1, 4, 1, 5]],
}
Calls = list[dict[str, Any]]


def reference(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, *, causal: bool) -> Tensor:
    """Attention sequence by sequence, as many key heads as query heads."""
    outs = []
    for (a, b), (c, d) in zip(pairwise(cu_q.tolist()), pairwise(cu_k.tolist()), strict=True):
        scores = torch.einsum("qhd,khd->hqk", q[a:b], k[c:d]) * q.shape[-1] ** -0.5
        if causal:
            scores = scores.masked_fill(~torch.ones(b - a, d - c, dtype=torch.bool).tril(), float("-inf"))
        outs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[c:d]))
    return torch.cat(outs)


def checked(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int) -> None:
    """What the kernel demands of its arguments."""
    for x in (q, k, v):
        assert x.dim() == 3 and x.stride(-1) == 1
    for cu, most, x in ((cu_q, max_q, q), (cu_k, max_k, k)):
        assert cu.dtype == torch.int32 and cu.dim() == 1 and int(cu[0]) == 0 and int(cu[-1]) == len(x)
        assert type(most) is int and most == int(cu.diff().max())
    assert len(k) == len(v)


def older(calls: Calls) -> Callable[..., Tensor]:
    """As in torch 2.10 and 2.11."""

    def varlen_attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        is_causal: bool = False,
        return_aux: Any = None,
        scale: float | None = None,
    ) -> Tensor:
        checked(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k)
        assert query.shape[1] == key.shape[1] == value.shape[1], "no grouped queries there"
        calls.append({"causal": is_causal, "heads": key.shape[1], "tokens": len(query)})
        return reference(query, key, value, cu_seq_q, cu_seq_k, causal=is_causal)

    return varlen_attn


def newer(calls: Calls) -> Callable[..., Tensor]:
    """As in torch 2.12 and later."""

    def varlen_attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor | None,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
    ) -> Tensor:
        assert cu_seq_k is not None and window_size in ((-1, -1), (-1, 0))
        checked(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k)
        assert enable_gqa or query.shape[1] == key.shape[1]
        calls.append({"causal": window_size == (-1, 0), "heads": key.shape[1], "tokens": len(query)})
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
        return reference(query, key, value, cu_seq_q, cu_seq_k, causal=window_size == (-1, 0))

    return varlen_attn


@pytest.fixture(autouse=True)
def _fresh_arguments() -> Iterator[None]:
    packing._varlen_arguments.cache_clear()
    yield
    packing._varlen_arguments.cache_clear()


def packed(name: str, kv_heads: int) -> tuple[Packing, Tensor, Tensor, Tensor]:
    """Query, key and value of each node: equal beginnings have equal ones."""
    lengths = [0, *map(len, SEQUENCES[name])]
    tokens, cu = torch.tensor([t for s in SEQUENCES[name] for t in s]), torch.tensor(lengths).cumsum(0)
    made = Packing.of(tokens, cu, 32)
    generator = torch.Generator().manual_seed(0)
    nodes = len(made.positions)
    q, k, v = (torch.randn(nodes, n, WIDTH, generator=generator) for n in (HEADS, kv_heads, kv_heads))
    return made, q, k, v


@pytest.mark.parametrize("make", [older, newer])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("name", list(SEQUENCES))
def test_the_kernel_is_given_what_it_asks_for_and_equals_the_masked_path(
    make: Callable[[Calls], Any], kv_heads: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Calls = []
    monkeypatch.setattr(varlen, "varlen_attn", make(calls))
    made, q, k, v = packed(name, kv_heads)
    assert (made.node_of is not None) == (name == "shared")
    weight = torch.randn(len(q), HEADS * WIDTH, generator=torch.Generator().manual_seed(1))
    found, want = ([x.clone().requires_grad_() for x in (q, k, v)] for _ in range(2))
    one, two = packing._attend_varlen(*found, made), attend(*want, made)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    (one * weight).sum().backward()  # type: ignore[no-untyped-call]
    (two * weight).sum().backward()  # type: ignore[no-untyped-call]
    for x, y in zip(found, want, strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-4)
    heads = HEADS if make is older else kv_heads
    assert calls == [{"causal": True, "heads": heads, "tokens": sum(map(len, SEQUENCES[name]))}]


def test_the_installed_kernel_takes_the_arguments_it_is_given() -> None:
    arguments = packing._varlen_arguments()
    signature = inspect.signature(varlen.varlen_attn)
    assert arguments is not None, "this torch has no causal varlen_attn: attention falls back to padded views"
    bound = signature.bind("q", "k", "v", "cu", "cu", 5, 5, **arguments)
    assert list(bound.arguments)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert ("window_size" in signature.parameters) == (arguments == {"window_size": (-1, 0), "enable_gqa": True})


def test_a_kernel_of_neither_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", lambda query, key, value, cu_seq_q, cu_seq_k, max_q, max_k: query)
    assert packing._varlen_arguments() is None
