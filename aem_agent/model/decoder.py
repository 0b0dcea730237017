"""A compact decoder of the Qwen2 / Qwen3 family, one module for sampling and training.

Pre-norm blocks of grouped-query attention with rotary positions and a SwiGLU feed-forward. Qwen2 has biases on q, k
and v; Qwen3 normalises each head of q and k instead. Query, key and value weights are one matrix, gate and up another
(fewer, larger products); `weights.py` splits them into transformers' names. Logits equal transformers' to 1e-5 in fp32.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aem_agent.model.cache import KVCache
from aem_agent.model.config import DecoderConfig
from aem_agent.model.extension import Extension
from aem_agent.model.lora_layers import some_rows
from aem_agent.model.packing import Packing, attend, attend_at, has_kernel
from aem_agent.types import ContextOverflowError

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q Float[m, H, hd], k Float[m, KV, hd], v Float[m, KV, hd]) → Float[m, H·hd]."""


class RMSNorm(nn.Module):
    """x / rms(x) · weight over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Block(nn.Module):
    """Attention and feed-forward of one layer, on flat tokens."""

    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        c, self.index = config, index
        self.config = config
        self.norm1 = RMSNorm(c.hidden_size, c.norm_eps)
        self.qkv = nn.Linear(c.hidden_size, (c.heads + 2 * c.kv_heads) * c.head_dim, bias=c.family == "qwen2")
        if c.family == "qwen3":
            self.q_norm, self.k_norm = RMSNorm(c.head_dim, c.norm_eps), RMSNorm(c.head_dim, c.norm_eps)
        self.out = nn.Linear(c.heads * c.head_dim, c.hidden_size, bias=False)
        self.norm2 = RMSNorm(c.hidden_size, c.norm_eps)
        self.gate_up = nn.Linear(c.hidden_size, 2 * c.ffn, bias=False)
        self.down = nn.Linear(c.ffn, c.hidden_size, bias=False)

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        attention: Attention,
        chosen: Tensor | None = None,
        all_queries: bool = False,
    ) -> Tensor:
        """x Float[m, d], rope Complex[m, 1, hd/2] → Float[m, d]; with `chosen` (Long[n]) only those rows are carried
        on, though all give keys and values, and with `all_queries` queries: the final layer needs no more."""
        c = self.config
        h = self.norm1(x)
        if chosen is None or all_queries:
            qkv = self.qkv(h).view(-1, c.heads + 2 * c.kv_heads, c.head_dim)
            qk, v = torch.split(qkv, [c.heads + c.kv_heads, c.kv_heads], dim=1)
            if c.family == "qwen3":
                q, k = torch.split(qk, [c.heads, c.kv_heads], dim=1)
                qk = torch.cat([self.q_norm(q), self.k_norm(k)], dim=1)
            q, k = torch.split(rotate(qk, rope), [c.heads, c.kv_heads], dim=1)
        else:
            cut = c.heads * c.head_dim
            q, kv = some_rows(self.qkv, h[chosen], 0, cut), some_rows(self.qkv, h, cut, self.qkv.out_features)
            q, (k, v) = q.view(-1, c.heads, c.head_dim), kv.view(-1, 2, c.kv_heads, c.head_dim).unbind(1)
            if c.family == "qwen3":
                q, k = self.q_norm(q), self.k_norm(k)
            q, k = rotate(q, rope[chosen]), rotate(k, rope)
        heads = attention(self.index, q, k, v)
        if chosen is not None:
            x, heads = x[chosen], heads[chosen] if all_queries else heads
        x = x + self.out(heads)
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)  # type: ignore[no-any-return]


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotary positions as one complex product: x Float[m, heads, hd] holds (real, imaginary) pairs, rope
    Complex[m, 1, hd/2]."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    pairs = torch.view_as_complex(exact.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rope).flatten(-2).type_as(x)


class Decoder(nn.Module):
    """The decoder; see `interface.LanguageModel` for its methods."""

    rope: Tensor

    def __init__(self, config: DecoderConfig, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.config = config
        self.hidden_size, self.vocab_size = config.hidden_size, config.vocab_size
        self.max_positions = config.max_positions
        self.nodes = 0
        """Tokens that `hidden` has computed so far: those of equal beginnings once."""
        with torch.device(device):
            self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
            self.blocks = nn.ModuleList(Block(config, i) for i in range(config.layers))
            self.norm = RMSNorm(config.hidden_size, config.norm_eps)
            self.lm_head = None if config.tied else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            self.register_buffer(
                "rope", torch.empty(config.max_positions, 1, config.head_dim // 2, 2), persistent=False
            )
        if torch.device(device).type != "meta":
            self.reset_buffers()

    def reset_buffers(self) -> None:
        """Fill the rotary table, in single precision whatever the weights' type."""
        c = self.config
        inverse = 1.0 / c.rope_theta ** (torch.arange(0, c.head_dim, 2, dtype=torch.float32) / c.head_dim)
        angle = torch.outer(torch.arange(c.max_positions, dtype=torch.float32), inverse)
        self.rope = torch.stack([angle.cos(), angle.sin()], -1).unsqueeze(1).to(self.rope.device)

    @torch.no_grad()
    def init_weights(self, seed: int, std: float = 0.02) -> "Decoder":
        """Seeded normal weights, residual outputs scaled by 1/√(2·layers) as in GPT-2; norms 1, biases 0."""
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if p.dim() < 2:
                p.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                residual = name.endswith(("out.weight", "down.weight"))
                scale = std / (2 * self.config.layers) ** 0.5 if residual else std
                p.copy_(torch.randn(p.shape, generator=generator) * scale)
        return self

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    def hidden(self, tokens: Tensor, cu_seqlens: Tensor, at: Tensor | None = None) -> Tensor:
        """Final-norm hidden states Float[T, d] of packed sequences, or Float[P, d] of the tokens `at` only (Long[P]):
        the last layer then carries on no others. Raises `ContextOverflowError`."""
        packing = Packing.of(tokens, cu_seqlens, self.max_positions)
        x = self.embed(packing.nodes(tokens))
        self.nodes += x.shape[0]
        rope = self._rope_at(packing.positions)
        *inner, final = self.blocks
        for block in inner:
            x = block(x, rope, lambda _, q, k, v: attend(q, k, v, packing))
        if at is None:
            x = final(x, rope, lambda _, q, k, v: attend(q, k, v, packing))
            return packing.expand(self.norm(x))
        nodes = at if packing.node_of is None else packing.node_of[at]
        if has_kernel(x):
            return self.norm(final(x, rope, lambda _, q, k, v: attend(q, k, v, packing), nodes, True))  # type: ignore[no-any-return]
        return self.norm(final(x, rope, lambda _, q, k, v: attend_at(q, k, v, packing, at), nodes))  # type: ignore[no-any-return]

    def head(self, hidden: Tensor) -> Tensor:
        """Logits Float[n, V]."""
        return F.linear(hidden, self.embed.weight) if self.lm_head is None else self.lm_head(hidden)

    @property
    def head_weight(self) -> Tensor | None:
        """See `interface.BareHead`."""
        head = self.embed if self.lm_head is None else self.lm_head
        return head.weight if isinstance(head, nn.Embedding | nn.Linear) else None

    def new_cache(self) -> KVCache:
        """An empty cache that `extend` fills."""
        c = self.config
        return KVCache(c.layers, c.kv_heads, c.head_dim, self.embed.weight)

    def prefill(self, tokens: Tensor, cu_seqlens: Tensor, new_tokens: int) -> tuple[Tensor, KVCache]:
        """Hidden states Float[n, d] of the last tokens, and a cache with room; raises `ContextOverflowError`."""
        cache = self.new_cache()
        return self.extend((), tokens, cu_seqlens, [new_tokens] * (len(cu_seqlens) - 1), cache), cache

    @torch.no_grad()
    def extend(
        self, kept: Sequence[Tensor], tokens: Tensor, cu_seqlens: Tensor, new_tokens: Sequence[int], cache: KVCache
    ) -> Tensor:
        """Hidden states Float[n, d] of the last tokens of sequences that join a batch: see `interface.Continuing`."""
        batch = Extension([kv.shape[2] for kv in kept], tokens, cu_seqlens, self.max_positions)
        final = self.config.layers - 1
        for length, new in zip(batch.lengths.tolist(), new_tokens, strict=True):
            if length + new > self.max_positions:
                raise ContextOverflowError(
                    f"prompt of {length} tokens and {new} new ones, the model takes {self.max_positions}"
                )
        batch.open(cache, kept, new_tokens)

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            batch.write(cache, layer, k, v)
            return cache.attend(layer, q, batch.at) if layer == final else batch.attend(cache, layer, q, k, v)

        x = self.embed(batch.nodes)
        rope = self._rope_at(batch.positions)
        for block in self.blocks:
            x = block(x, rope, attention, batch.last if block.index == final else None)
        return self.norm(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def step(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Append one token per row; hidden states Float[n, d]."""

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            cache.append(layer, k, v)
            return cache.attend(layer, q)

        rope = self._rope_at(cache.grow())
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, rope, attention)
        return self.norm(x)  # type: ignore[no-any-return]

    def export(self) -> Iterable[tuple[str, Tensor]]:
        """Weights under transformers' names, one at a time."""
        from aem_agent.model.weights import export_weights

        return export_weights(self)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        from aem_agent.model.weights import save_weights

        save_weights(self, Path(folder))

    def _rope_at(self, positions: Tensor) -> Tensor:
        return torch.view_as_complex(self.rope.float()).index_select(0, positions)
