"""Linear layer, log-softmax and entropy in one: the logits of all response tokens are never held at once.

    z = hidden @ weightᵀ / T        log π(target) = z_target − log Σ e^z        H = −Σ π log π

The forward pass goes over tokens in chunks and keeps few numbers of each: H, and log Σ e^z in two parts, the largest z
and the rest, for beside a large one a small one's digits would be lost. The backward pass makes the logits again, from
which with p = e^(z − log Σ e^z)

    dL/dlogits = g_logπ · (1{target} − p) / T  −  g_H · p · (log p + H) / T

follows without any other intermediate. It goes over tokens too, or, where the vocabulary is the larger, over columns of
it: each chunk then gives its rows of the weight's gradient in one product, which sums them in float32 whatever its
type, while what is added up over chunks, in float32 at least, is the smaller of the two gradients. Small problems keep
log p of all tokens instead: less than autograd would keep, quicker, and but for gradients of entropies bit for bit the
plain way.

Products are in the inputs' type, or autocast's, forward and back; all else in float32 at least. A Triton kernel would
spare passes over a chunk's logits on GPUs; there was none to measure one on.

Source: the closed form follows from dp_i/dz_j = p_i·(1{i = j} − p_j).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_CPU = 262_144
"""Logits of a chunk on a CPU: 1 MB in float32, which stays in a core's cache."""

LEAST = 64
"""Tokens of a chunk on a CPU at least, however large the vocabulary: each chunk reads the whole weight."""

CHUNK = 134_217_728
"""Logits of a chunk elsewhere: 0.5 GB in float32, large enough products at a vocabulary of 152k (not measured)."""

KEEP = 16_777_216
"""Logits (tokens × vocabulary) up to which they are made in one piece, and log p is kept for the backward pass."""

LOWEST = torch.finfo(torch.float32).min
"""What −inf becomes where it meets a probability of zero."""


def linear_logprobs_and_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    *,
    chunk: int | None = None,
    keep: int = KEEP,
) -> tuple[Tensor, Tensor]:
    """log π(target) and entropy of softmax(hidden @ weightᵀ / temperature): two [n], nats, at least float32.

    What `losses.token_logprobs_and_entropy` gives of those logits; differentiable once, in `hidden` and `weight`.
    hidden [n, d] and weight [V, d] of one type, targets int64 [n]. keep: up to so many logits in all they are made in
    one piece, and log p is kept; values and the gradients of log-probs are then bit for bit those of the plain way.
    chunk: logits held at once, None for what suits the device beyond that. Raises ValueError if temperature ≤ 0.
    """
    found = _apply(hidden, weight, targets, temperature, chunk, keep, True)
    return cast(tuple[Tensor, Tensor], found)


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    *,
    chunk: int | None = None,
    keep: int = KEEP,
) -> Tensor:
    """The same without the entropies, and their cost."""
    return _apply(hidden, weight, targets, temperature, chunk, keep, False)[0]


def _apply(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int | None, keep: int, entropies: bool
) -> tuple[Tensor, Tensor | None]:
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}: greedy policies have no log-probs, score at 1")
    logits = len(hidden) * len(weight)
    if chunk is None:
        usual = max(CHUNK_CPU, LEAST * len(weight)) if hidden.device.type == "cpu" else CHUNK
        chunk = logits if logits <= keep else usual
    learning = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    kept = learning and logits <= keep
    by_columns = learning and not kept and len(weight) > len(hidden)
    kind = _autocast_type(hidden)
    if kind is not None:
        hidden, weight = hidden.to(kind), weight.to(kind)
    with _types_as_they_are(hidden):
        found = _Head.apply(  # type: ignore[no-untyped-call]
            hidden, weight, targets, temperature, chunk, kept, by_columns, entropies
        )
    return cast(tuple[Tensor, Tensor | None], found)


def _autocast_type(x: Tensor) -> torch.dtype | None:
    """The type in which autocast would have products of `x`, None where it leaves them alone."""
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) and x.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if on else None


def _types_as_they_are(x: Tensor) -> AbstractContextManager[Any]:
    """No autocast: a backward pass may be inside it or not, and must make the logits that the forward pass made."""
    return nullcontext() if _autocast_type(x) is None else torch.autocast(x.device.type, enabled=False)


class _Head(torch.autograd.Function):
    """The formulas at the head of the module."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        chunk: int,
        kept: bool,
        by_columns: bool,
        entropies: bool,
    ) -> tuple[Tensor, Tensor | None]:
        logprobs, found, totals, log_ps = [], [], [], []
        for at in _chunks(len(hidden), chunk // len(weight)):
            z = _scaled_logits(hidden[at], weight, temperature)
            log_p = z.log_softmax(-1)
            logprobs.append(log_p.gather(-1, targets[at, None]).squeeze(-1))
            if by_columns:
                totals.append(torch.stack((z.amax(-1), -log_p.amax(-1))))
            if kept:
                log_ps.append(log_p)
            if not entropies:
                continue
            p = torch.exp(log_p, out=z)
            # 0·log 0 = 0: a barred token's −inf is made finite before it meets its probability of zero
            finite = log_p.clamp_min(LOWEST) if kept else log_p.clamp_min_(LOWEST)
            found.append(p.mul_(finite).sum(-1).neg_())
        logprob, entropy = torch.cat(logprobs), torch.cat(found) if entropies else None
        ctx.save_for_backward(hidden, weight, targets, entropy, *totals, *log_ps)
        ctx.temperature, ctx.chunk, ctx.kept, ctx.by_columns = temperature, chunk, kept, by_columns
        ctx.set_materialize_grads(False)
        return logprob, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_logprob: Tensor | None, g_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, entropy, *saved = ctx.saved_tensors
        slope = _Slope(targets, entropy, g_logprob, g_entropy, ctx.temperature)
        by = _by_columns if ctx.by_columns else _by_tokens
        with _types_as_they_are(hidden):
            found = by(hidden, weight, slope, saved, ctx.chunk, ctx.needs_input_grad[:2])
        return (*found, None, None, None, None, None, None)


class _Slope:
    """dL/dlogits of chunks, by the closed form."""

    def __init__(
        self,
        targets: Tensor,
        entropy: Tensor | None,
        g_logprob: Tensor | None,
        g_entropy: Tensor | None,
        temperature: float,
    ) -> None:
        self.temperature = temperature
        self.targets = targets
        self.of_target = g_logprob
        """[n], what the target's own logit gets besides."""
        self.of_log_p = None if g_entropy is None else -g_entropy
        """[n], factor of p·log p."""
        self.of_p = torch.zeros_like(targets, dtype=torch.float32)
        """[n], factor of p."""
        if self.of_target is not None:
            self.of_p = self.of_p - self.of_target
        if self.of_log_p is not None and entropy is not None:
            self.of_p = self.of_p + self.of_log_p * entropy

    def exactly(self, log_p: Tensor, at: slice) -> Tensor:
        """As autograd has it, for all columns; `log_p` [m, V] of the tokens `at`."""
        if self.of_log_p is not None or self.of_target is None:
            return self(log_p.exp(), log_p.clamp_min(LOWEST), at)
        d = torch.zeros_like(log_p).scatter_(-1, self.targets[at, None], self.of_target[at, None])
        d = cast(Tensor, torch.ops.aten._log_softmax_backward_data(d, log_p, -1, log_p.dtype))
        return d if self.temperature == 1 else d.div_(self.temperature)

    def __call__(self, p: Tensor, log_p: Tensor | None, at: slice, first: int | None = None) -> Tensor:
        """p [m, k] of the tokens `at`, and of all columns or of k from `first` on → [m, k]; log p, finite, where
        entropies have gradients. In the memory of one of the two."""
        if self.of_log_p is None or log_p is None:
            d = p.mul_(self.of_p[at, None])
        else:  # p·log p before any factor, by which the log alone could become infinite, and NaN where p is 0
            d = log_p.mul_(p).mul_(self.of_log_p[at, None]).addcmul_(p, self.of_p[at, None])
        if self.of_target is not None:
            column, more = self.targets[at], self.of_target[at]
            if first is not None:  # targets elsewhere add nothing; no wait for the device
                column = column - first
                more = torch.where((column >= 0) & (column < d.shape[1]), more, 0)
                column = column.clamp(0, d.shape[1] - 1)
            d.scatter_add_(-1, column[:, None], more[:, None])
        return d if self.temperature == 1 else d.div_(self.temperature)


def _by_tokens(
    hidden: Tensor, weight: Tensor, slope: _Slope, log_ps: list[Tensor], chunk: int, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients, chunks of tokens after one another. log_ps: log p of the chunks, or nothing."""
    d_hidden = torch.empty_like(hidden) if needed[0] else None
    d_weight: Tensor | None = None
    for i, at in enumerate(_chunks(len(hidden), chunk // len(weight))):
        if log_ps:
            d = slope.exactly(log_ps[i], at)
        else:
            z = _scaled_logits(hidden[at], weight, slope.temperature)
            if slope.of_log_p is None:
                d = slope(z.softmax(-1), None, at)
            else:
                log_p = z.log_softmax(-1)
                d = slope(log_p.exp(), log_p.clamp_min_(LOWEST), at)
        d = d.to(hidden.dtype)
        if d_hidden is not None:
            torch.mm(d, weight, out=d_hidden[at])
        if needed[1]:
            d_weight = _add_product(d_weight, d.t(), hidden[at])
    return d_hidden, None if d_weight is None else d_weight.to(weight.dtype)


def _by_columns(
    hidden: Tensor, weight: Tensor, slope: _Slope, totals: list[Tensor], chunk: int, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients, chunks of the vocabulary after one another. totals: of chunks of tokens [2, m], largest z and
    log Σ e^(z − largest)."""
    (largest, rest), everything = torch.cat(totals, -1)[..., None], slice(None)
    d_weight = torch.empty_like(weight) if needed[1] else None
    d_hidden: Tensor | None = None
    for at in _chunks(len(weight), chunk // max(1, len(hidden))):
        log_p = _scaled_logits(hidden, weight[at], slope.temperature).sub_(largest).sub_(rest)
        if slope.of_log_p is None:
            d = slope(log_p.exp_(), None, everything, at.start)
        else:
            d = slope(log_p.exp(), log_p.clamp_min_(LOWEST), everything, at.start)
        d = d.to(hidden.dtype)
        if d_weight is not None:
            torch.mm(d.t(), hidden, out=d_weight[at])
        if needed[0]:
            d_hidden = _add_product(d_hidden, d, weight[at])
    return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight


def _add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """total + a @ b, in place, in float32 at least."""
    if total is None:
        product = a @ b
        return product.to(torch.promote_types(product.dtype, torch.float32))
    return total.addmm_(a, b) if total.dtype == a.dtype else total.add_(a @ b)


def _chunks(n: int, size: int) -> Iterator[slice]:
    """0 … n in slices of at most `size`, at least one."""
    size = max(1, size)
    return (slice(start, min(start + size, n)) for start in range(0, max(1, n), size))


def _scaled_logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """[m, d], [k, d] → [m, k], float32 at least, new memory."""
    z = hidden @ weight.t()
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    return z if temperature == 1 else z.div_(temperature)
