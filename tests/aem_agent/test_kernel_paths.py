"""What runs on CUDA only, as far as a CPU goes: a loop over sequences stands in for the variable-length kernel."""

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import varlen
from torch.testing import assert_close

from aem_agent.model import decoder, packing
from aem_agent.model.cache import KVCache
from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder

REAL = inspect.signature(varlen.varlen_attn)


def by_sequence(*args: Any, **kwargs: Any) -> Tensor:
    """Causal attention of packed sequences; refuses what the kernel would refuse or do otherwise."""
    given = REAL.bind(*args, **kwargs).arguments
    q, k, v, cu = (given[name] for name in ("query", "key", "value", "cu_seq_q"))
    assert cu.dtype == torch.int32
    assert given["cu_seq_k"] is cu
    assert given["max_q"] == given["max_k"] == int(cu.diff().max())
    assert given["window_size"] == (-1, 0)
    assert given["enable_gqa"]
    assert len(q) == len(k) == len(v) == int(cu[-1])
    outs = []
    for start, end in zip(cu[:-1].tolist(), cu[1:].tolist()):
        q_, k_, v_ = (x[start:end].transpose(0, 1)[None] for x in (q, k, v))
        outs.append(F.scaled_dot_product_attention(q_, k_, v_, is_causal=True, enable_gqa=True)[0].transpose(0, 1))
    return torch.cat(outs)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_the_kernel_sees_what_the_padded_view_shows(monkeypatch: pytest.MonkeyPatch, family: Any, shared: bool) -> None:
    model = Decoder(DecoderConfig(family, 50, 32, 3, 4, 2, 8, 48)).init_weights(0, 0.2).double()
    tokens = torch.randint(0, 50, (27,), generator=torch.Generator().manual_seed(0))
    if shared:
        tokens[12:20] = tokens[:8]
    cu, at = torch.tensor([0, 12, 22, 27]), torch.tensor([11, 3, 14, 26, 3])

    def passes() -> list[Tensor]:
        found: list[Tensor] = []
        for chosen in (at, None):
            states = model.hidden(tokens, cu, at=chosen)
            model.zero_grad()
            (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()  # type: ignore[no-untyped-call]
            found += [states, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
        return found

    expected = passes()
    assert packing._varlen_arguments() == {"window_size": (-1, 0), "enable_gqa": True}
    calls: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(1)
        return by_sequence(*args, **kwargs)

    monkeypatch.setattr(varlen, "varlen_attn", counted)
    for module in (packing, decoder):
        monkeypatch.setattr(module, "has_kernel", lambda x: True)
    found = passes()
    assert len(calls) == 6
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)


def test_a_cache_read_by_kernels_ends_where_its_rows_do() -> None:
    """Kernels (here: for float64) read whole multiples of 16 columns, not all there is room for; others are masked."""
    generator = torch.Generator().manual_seed(0)
    cache = KVCache(1, 2, 4, torch.zeros(1, dtype=torch.float64))
    lengths = [3, 17]
    first = cache.admit(lengths, [60, 60])
    assert cache.width >= 77
    kv = torch.randn(2, 2, 2, 17, 4, generator=generator, dtype=torch.float64)
    cache.kv[:, :2, :, :17] = kv
    cache.kv[:, :2, :, 17:] = 1e3  # finite, masked
    q = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    found = cache.attend(0, q, first)
    for row, length in enumerate(lengths):
        k, v = (kv[i, row, :, :length].repeat_interleave(2, dim=0) for i in (0, 1))
        expected = F.scaled_dot_product_attention(q[row][:, None], k, v)
        assert_close(found[row], expected.flatten())


def test_heads_of_their_own_give_the_same_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA shared heads are spread out: `device.type` is all that differs."""

    class Elsewhere(Tensor):
        @property
        def device(self) -> Any:  # type: ignore[override]
            return torch.device("cuda")

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 5, 4, generator=generator) for heads in (4, 2, 2))
    expected = packing._grouped_attention(q, k, v, is_causal=True)
    seen: list[bool] = []

    def attention(q: Tensor, k: Tensor, v: Tensor, *, enable_gqa: bool, **how: Any) -> Tensor:
        seen.append(enable_gqa or q.shape[1] != k.shape[1])
        return real(q, k, v, enable_gqa=enable_gqa, **how)

    real = F.scaled_dot_product_attention
    monkeypatch.setattr(packing.F, "scaled_dot_product_attention", attention)
    found = packing._grouped_attention(q.as_subclass(Elsewhere), k, v, is_causal=True)
    assert seen == [False]
    assert_close(found.as_subclass(Tensor), expected)
