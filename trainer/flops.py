"""Floating-point operations of a decoder's passes, counted exactly, and the share of a device's peak they are (MFU).

    step_flops(config, cu_seqlens, targets, backward=True, nodes=None)    FLOPs of one scoring or training pass
    peak_flops(device_name)                                               FLOP/s of the device, None if not known
    mfu(flops, seconds, peak)                                             flops / seconds / peak

Counted are products of matrices, a multiplication and an addition as two: linear layers for every token, attention for
every pair of a query and a key that it may see (causally, in its own sequence), the head at response positions only.
The last layer is counted as the decoder computes it: keys and values of all tokens, the rest where a response token is
predicted. The backward pass is twice the forward pass where all weights are trained. Where only adapters are, frozen
weights have no product for their own gradient, and nothing below the first adapter has any: about once, and adapters.
Norms, rotations, softmax and the optimiser count as nothing, and neither does what is computed twice (recomputed
activations, logits in chunks) or for nothing (padding).

Source: the usual count, as in PaLM (arXiv 2204.02311, appendix B), with causal pairs instead of all.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

PEAKS: tuple[tuple[str, float], ...] = (
    ("H200 NVL", 835e12),
    ("H100 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H200", 989e12),
    ("H100", 989e12),
    ("A100", 312e12),
)
"""Dense bfloat16 FLOP/s by a part of the device's name, the first that fits; from NVIDIA's data sheets (those
of PCIe and NVL cards from memory: check them before you quote an MFU)."""


class Shape(Protocol):
    """What of a decoder its FLOPs depend on; `aem_agent.model.config.DecoderConfig` has it."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def ffn(self) -> int: ...


def step_flops(
    config: Shape,
    cu_seqlens: Tensor,
    targets: Tensor,
    *,
    backward: bool = True,
    nodes: Tensor | int | None = None,
    adapters: Mapping[str, int] | None = None,
) -> Tensor:
    """FLOPs of one pass over packed sequences that scores the tokens `targets`: float64 scalar, on their device.

    cu_seqlens [S + 1] and targets [N] (positions of the response tokens) are those of `trainer.batch.Batch`; passes
    over parts of a batch add up to that of the whole. `backward` adds the backward pass. `nodes`: for how many tokens
    the linear layers are computed, where equal beginnings of sequences are shared (`aem_agent.model.packing`); None:
    for all. `adapters`: ranks of LoRA adapters by the decoder's layers (`blocks.0.qkv`), if only these are trained;
    None: all weights are.
    """
    cu, at = cu_seqlens.double(), targets.to(cu_seqlens.dtype)
    lengths = cu.diff()
    tokens = cu[-1] if nodes is None else torch.as_tensor(nodes, dtype=torch.float64, device=cu.device)
    pairs = (lengths * (lengths + 1) / 2).sum()
    # the query that predicts a target stands before it: it sees as many keys as there are tokens before the target
    seen = (at - cu_seqlens[torch.searchsorted(cu_seqlens, at, right=True) - 1]).double().sum()
    per_token, per_target, per_pair, per_seen = _products(config, adapters, backward)
    return 2 * (tokens * per_token + len(targets) * per_target + pairs * per_pair + seen * per_seen)


def _products(c: Shape, adapters: Mapping[str, int] | None, backward: bool) -> tuple[int, int, int, int]:
    """Multiplications for each token; for each predicted one, besides; for each pair of a query and a key in all layers
    but the last; and in the last."""
    q, kv = c.heads * c.head_dim, 2 * c.kv_heads * c.head_dim
    trained = flows = adapters is None  # `flows`: gradients reach the states at this place
    per_token = per_target = per_pair = per_seen = 0

    def linear(name: str, inputs: int, outputs: int) -> int:
        """Of a layer, for one token: its own weight's, and its adapter's A and B."""
        rank = (adapters or {}).get(name, 0)
        own, a, b = inputs * outputs, rank * inputs, rank * outputs
        forward = own + a + b
        states, weights = flows * (own + a) + b, trained * own + a + b
        return forward + backward * (states + weights)

    for layer in range(c.layers):
        qkv, out, gate_up, down = (f"blocks.{layer}.{name}" for name in ("qkv", "out", "gate_up", "down"))
        queries, keys = linear(qkv, c.hidden_size, q), linear(qkv, c.hidden_size, kv)
        whole = linear(qkv, c.hidden_size, q + kv)
        flows = flows or qkv in (adapters or {})
        pair = 2 * q * (1 + 2 * (backward and flows))
        after = 0
        for name, inputs, outputs in (
            (out, q, c.hidden_size),
            (gate_up, c.hidden_size, 2 * c.ffn),
            (down, c.ffn, c.hidden_size),
        ):
            after += linear(name, inputs, outputs)
            flows = flows or name in (adapters or {})
        if layer < c.layers - 1:
            per_token, per_pair = per_token + whole + after, per_pair + pair
        else:
            per_token, per_target, per_seen = per_token + keys, queries + after, pair
    return per_token, per_target + linear("lm_head", c.hidden_size, c.vocab_size), per_pair, per_seen


def decode_bytes(config: Shape, rows: int, context: int, *, width: int = 2) -> int:
    """Least bytes that drawing one token for each of `rows` sequences of `context` tokens must read: every weight that
    takes part once, and all keys and values; `width` bytes per number."""
    c = config
    block = c.hidden_size * (2 * c.heads + 2 * c.kv_heads) * c.head_dim + 3 * c.hidden_size * c.ffn
    weights = c.layers * block + c.hidden_size * c.vocab_size
    cached = rows * context * c.layers * 2 * c.kv_heads * c.head_dim
    return (weights + cached) * width


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device named as `torch.cuda.get_device_name` does; None if it is not known."""
    return next((peak for part, peak in PEAKS if part.lower() in device_name.lower()), None)


def mfu(flops: float, seconds: float, peak: float | None) -> float | None:
    """Model FLOP utilisation: the share of `peak` FLOP/s that `flops` in `seconds` are; None without a peak or time."""
    return None if peak is None or seconds <= 0 else flops / seconds / peak
