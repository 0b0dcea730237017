"""The fused head against logits, log-softmax and entropy one after the other: values, gradients, and what it keeps."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parent))
from head_ways import WAYS, problem

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from trainer.batch import Batch
from trainer.head import linear_logprobs, linear_logprobs_and_entropy
from trainer.losses import token_logprobs_and_entropy
from trainer.policy import Policy


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    return token_logprobs_and_entropy(F.linear(hidden, weight), targets, temperature)


@pytest.mark.parametrize("n", [14, 10, 1])
@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_exact(way: str, n: int) -> None:
    hidden, weight, targets = problem(n)

    def both(h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return linear_logprobs_and_entropy(h, w, targets, 0.7, **WAYS[way])

    assert torch.autograd.gradcheck(both, (hidden, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [14, 10])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_plain_one(way: str, n: int, dtype: torch.dtype) -> None:
    hidden, weight, targets = problem(n, dtype)
    mine = linear_logprobs_and_entropy(hidden, weight, targets, 1.3, **WAYS[way])
    theirs = plain(hidden, weight, targets, 1.3)
    upstream = torch.linspace(-1, 2, n, dtype=dtype)
    for chosen in ([0], [1], [0, 1]):
        a, b = (
            torch.autograd.grad(
                sum((pair[i] * upstream * (i + 1)).sum() for i in chosen), (hidden, weight), retain_graph=True
            )
            for pair in (mine, theirs)
        )
        assert_close((*mine, *a), (*theirs, *b), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        quiet = linear_logprobs_and_entropy(hidden, weight, targets, 1.3, **WAYS[way])
    assert_close(quiet, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("n", "vocabulary", "width"), [(14, 13, 5), (400, 600, 64), (1000, 300, 32)])
def test_small_problems_give_the_same_bits(n: int, vocabulary: int, width: int, temperature: float) -> None:
    """Runs of models made before there was a fused head repeat."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(k, width, generator=generator).requires_grad_() for k in (n, vocabulary))
    targets = torch.randint(vocabulary, (n,), generator=generator)
    upstream = torch.randn(n, generator=generator)
    found = []
    for way in (linear_logprobs_and_entropy, plain):
        with torch.no_grad():
            scored = way(hidden, weight, targets, temperature)
        pair = way(hidden, weight, targets, temperature)
        found.append([*scored, *pair, *torch.autograd.grad((pair[0] * upstream).sum(), (hidden, weight))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_half_precision_rounds_products_only(way: str) -> None:
    hidden, weight, targets = problem(dtype=torch.bfloat16)
    mine = linear_logprobs_and_entropy(hidden, weight, targets, **WAYS[way])
    theirs = plain(hidden, weight, targets)
    assert mine[0].dtype == mine[1].dtype == torch.float32
    assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    a, b = (torch.autograd.grad((x[0] * 2 + x[1]).sum(), (hidden, weight)) for x in (mine, theirs))
    assert a[0].dtype == a[1].dtype == torch.bfloat16
    assert_close(a, b, atol=0.05, rtol=0.05)


def test_half_precision_sums_the_weights_gradient_in_float32() -> None:
    """4,096 equal steps in bfloat16 would stop to add up at 256 of the smallest: the sum must not depend on chunks."""
    hidden = torch.ones(4096, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    logprobs, _ = linear_logprobs_and_entropy(hidden, weight, torch.zeros(4096, dtype=torch.long), chunk=2, keep=0)
    logprobs.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [2048.0, -2048.0]


@pytest.mark.parametrize("way", WAYS)
def test_barred_tokens_and_extreme_logits(way: str) -> None:
    """A logit of −inf, as (−1)·inf gives it, has no probability, no share of the entropy, and stops no gradient."""
    hidden = torch.tensor([[1.0], [1.0], [1.0]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[-torch.inf], [1e4], [1e4], [-1e4]], dtype=torch.float64)
    logprobs, entropy = linear_logprobs_and_entropy(hidden, weight, torch.tensor([1, 2, 0]), **WAYS[way])
    half = torch.tensor(0.5, dtype=torch.float64).log()
    assert_close(logprobs, torch.stack([half, half, torch.full_like(half, -torch.inf)]))
    assert_close(entropy, -half.expand(3))
    finite = torch.tensor([[-1e300], [1e4], [1e4], [-1e4]], dtype=torch.float64, requires_grad=True)
    pair = linear_logprobs_and_entropy(hidden, finite, torch.tensor([1, 2, 1]), **WAYS[way])
    (pair[0].sum() + pair[1].sum()).backward()  # type: ignore[no-untyped-call]
    assert finite.grad is not None
    assert_close(finite.grad.flatten(), torch.tensor([0.0, 0.5, -0.5, 0.0], dtype=torch.float64))


def test_only_what_is_asked_for_gets_gradients() -> None:
    for way in WAYS.values():
        for frozen in (0, 1):
            hidden, weight, targets = problem()
            parts = [hidden, weight]
            parts[frozen].requires_grad_(False)
            linear_logprobs_and_entropy(hidden, weight, targets, **way)[0].sum().backward()  # type: ignore[no-untyped-call]
            assert parts[frozen].grad is None
            assert parts[1 - frozen].grad is not None
    with pytest.raises(ValueError, match="temperature"):
        linear_logprobs_and_entropy(*problem(), 0.0)


class Made(torch.utils._python_dispatch.TorchDispatchMode):
    """The largest tensor that any operation makes, in elements."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            self.most = max(self.most, x.numel() if isinstance(x, Tensor) else 0)
        return out


@pytest.mark.parametrize("n", [40, 10])
def test_nothing_as_large_as_all_logits_is_kept_or_made(n: int) -> None:
    """Largest tensor that lives between the passes, and that any operation makes, counted in elements: inputs and their
    gradients, of 5 columns, are larger than a chunk of 52 logits; all logits are 13 columns."""
    hidden, weight, targets = problem(n)
    kept: list[int] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    with Made() as made, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        logprobs, entropy = linear_logprobs_and_entropy(hidden, weight, targets, keep=0, chunk=52)
        (logprobs.sum() + entropy.sum()).backward()  # type: ignore[no-untyped-call]
    assert max(kept) == made.most == 5 * max(n, 13)


def test_large_problems_are_cut_by_default() -> None:
    """500,000 logits, beyond what is made in one piece: 64 tokens' at a time, be it forward or back."""
    hidden, weight = torch.ones(100, 2, requires_grad=True), torch.zeros(5000, 2, requires_grad=True)
    with Made() as made:
        logprobs, _ = linear_logprobs_and_entropy(hidden, weight, torch.zeros(100, dtype=torch.long), keep=499_999)
        logprobs.sum().backward()  # type: ignore[no-untyped-call]
    assert made.most == 64 * 5000
    assert weight.grad is not None
    assert weight.grad[0].tolist() == pytest.approx([100 - 100 / 5000] * 2, rel=1e-5)


@pytest.mark.parametrize("bare", [True, False])
def test_a_warm_start_makes_no_large_problem_at_once(bare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor is a chunk of 1,024 tokens' logits, where the head is more than a weight."""
    model = Decoder(DecoderConfig("qwen3", 500, 8, 1, 2, 1, 4, 8, max_positions=64)).init_weights(0, 0.3)
    policy = Policy(model if bare else Shifted(model))  # type: ignore[arg-type]
    monkeypatch.setattr("trainer.policy.LOGITS_IN_ONE_PIECE", 499_999)
    monkeypatch.setitem(linear_logprobs.__kwdefaults__, "keep", 499_999)
    monkeypatch.setattr("trainer.head.CHUNK_CPU", 1000)
    tokens, ends, at = torch.arange(2048) * 7 % 500, torch.arange(0, 2049, 64), torch.arange(2047)
    with Made() as made:
        found = policy.cross_entropies(tokens, ends, at)
        found.sum().backward()  # type: ignore[no-untyped-call]
    assert made.most < 2047 * 500
    with torch.no_grad():
        logits = policy.model.head(model.hidden(tokens, ends, at=at))  # type: ignore[operator]
    assert_close(found, F.cross_entropy(logits, tokens[1:], reduction="none"), atol=1e-5, rtol=1e-5)


def test_a_small_warm_start_gives_the_same_bits() -> None:
    """Runs of models made before it went through the fused head repeat."""
    model = Decoder(DecoderConfig("qwen3", 300, 32, 2, 2, 1, 16, 24)).init_weights(0, 0.3)
    tokens, ends, at = torch.arange(100) * 7 % 300, torch.arange(0, 101, 50), torch.arange(90)

    def plainly() -> Tensor:
        return F.cross_entropy(model.head(model.hidden(tokens, ends, at=at)), tokens[1:91], reduction="none")

    found = []
    for loss in (Policy(model).cross_entropies(tokens, ends, at), plainly()):
        found.append([loss, *torch.autograd.grad(loss.mean(), list(model.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


class Shifted(nn.Module):
    """A decoder whose head is more than a weight."""

    def __init__(self, inner: Decoder) -> None:
        super().__init__()
        self.inner, self.vocab_size = inner, inner.vocab_size

    def hidden(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.inner.hidden(*args, **kwargs)

    def head(self, hidden: Tensor) -> Tensor:
        return self.inner.head(hidden) + torch.arange(self.vocab_size) / 10


@pytest.mark.parametrize("tied", [False, True])
def test_the_policy_takes_the_weight_where_the_head_is_one(tied: bool) -> None:
    model = Decoder(DecoderConfig("qwen3", 30, 16, 2, 2, 1, 8, 24, tied=tied)).init_weights(0, 0.3)
    batch = Batch(
        tokens=torch.arange(12) % 7,
        cu_seqlens=torch.tensor([0, 5, 12]),
        targets=torch.tensor([3, 4, 10, 11]),
        span_index=torch.tensor([0, 0, 1, 1]),
        sequence_index=torch.tensor([0, 1]),
        episode_index=torch.tensor([0, 1]),
        group_index=torch.tensor([0, 0]),
    )

    def check(policy: Policy, head: Any) -> list[Tensor | None]:
        said = policy(batch, 0.9)
        states = model.hidden(batch.tokens, batch.cu_seqlens)[batch.targets - 1]
        expected = token_logprobs_and_entropy(head(states), batch.labels, 0.9)
        assert_close(said[:2], expected, atol=1e-5, rtol=1e-5)
        grads = []
        for pair in (said, expected):
            model.zero_grad()
            (pair[0].sum() + 2 * pair[1].sum()).backward()
            grads.append([p.grad for p in model.parameters()])
        for a, b in zip(*grads):
            assert_close(a, b, atol=1e-5, rtol=1e-5)
        return grads[0]

    assert model.head_weight is (model.embed.weight if model.lm_head is None else model.lm_head.weight)
    assert all(g is not None for g in check(Policy(model), model.head))
    shifted = Shifted(model)
    check(Policy(shifted), shifted.head)  # type: ignore[arg-type]
    if model.lm_head is not None:
        model.lm_head = nn.Sequential(model.lm_head, nn.Identity())  # as an adapter stands around a layer
        assert model.head_weight is None
        check(Policy(model), model.head)
