"""The fused head where numbers are large or of several types, and without entropies."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parent))
from head_ways import WAYS, problem

from trainer.head import linear_logprobs, linear_logprobs_and_entropy


@pytest.mark.parametrize("n", [1, 14])
@pytest.mark.parametrize("way", WAYS)
def test_large_gradients_of_entropies_stay_finite(way: str, n: int) -> None:
    """p of (60, 0, −60) is (1, e^−60, 0 in float32), where log 0 times 3 has no finite float32: its share is 0 all the
    same. dH/dz = −p·(log p + H): of the middle one 3·60·e^−60 ≈ 1.58e−24, 1 too small to see beside it."""
    hidden = torch.tensor([[60.0, 0.0]]).repeat(n, 1).requires_grad_()
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], requires_grad=True)
    _, entropy = linear_logprobs_and_entropy(hidden, weight, torch.zeros(n, dtype=torch.long), **WAYS[way])
    (3 * entropy).sum().backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None and weight.grad is not None
    assert weight.grad.isfinite().all()
    assert hidden.grad[:, 1].tolist() == pytest.approx([3 * 60 * math.exp(-60)] * n, rel=1e-4)


def test_a_large_common_part_of_the_logits_costs_no_digits() -> None:
    """Logits 30,000 and 30,000 + k/4, which float32 has exactly, in more columns than tokens, made again by columns:
    their log-sum lies between two floats 0.002 apart, the probabilities do not."""
    hidden = torch.tensor([[3e4, 1.0]], requires_grad=True)
    weight = torch.stack([torch.ones(16), torch.arange(16) / 4], 1).requires_grad_()
    linear_logprobs(hidden, weight, torch.tensor([3]), keep=0).backward()  # type: ignore[no-untyped-call]
    expected = -torch.softmax(torch.arange(16) / 4, 0)
    expected[3] += 1
    assert weight.grad is not None
    assert_close(weight.grad[:, 1], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("n", [14, 10])
@pytest.mark.parametrize("way", WAYS)
def test_autocast_is_the_same_forward_and_back(way: str, n: int, inside: bool) -> None:
    """Under autocast the gradients are those of the half-precision inputs, wherever the backward pass runs."""
    hidden, weight, targets = problem(n, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logprobs, entropy = linear_logprobs_and_entropy(hidden, weight, targets, **WAYS[way])
        if inside:
            (logprobs + entropy).sum().backward()  # type: ignore[no-untyped-call]
    if not inside:
        (logprobs + entropy).sum().backward()  # type: ignore[no-untyped-call]
    lower = [x.detach().bfloat16().requires_grad_() for x in (hidden, weight)]
    expected = linear_logprobs_and_entropy(*lower, targets, **WAYS[way])
    sum(expected).sum().backward()  # type: ignore[union-attr,no-untyped-call]
    assert torch.equal(logprobs, expected[0]) and torch.equal(entropy, expected[1])
    for x, y in zip((hidden, weight), lower, strict=True):
        assert x.grad is not None and y.grad is not None
        assert torch.equal(x.grad, y.grad.float())


@pytest.mark.parametrize("n", [14, 10])
@pytest.mark.parametrize("way", WAYS)
def test_log_probs_alone_are_the_same(way: str, n: int) -> None:
    hidden, weight, targets = problem(n, torch.float32)
    alone = linear_logprobs(hidden, weight, targets, 0.7, **WAYS[way])
    both = linear_logprobs_and_entropy(hidden, weight, targets, 0.7, **WAYS[way])[0]
    grads = [torch.autograd.grad((x * torch.arange(n)).sum(), (hidden, weight)) for x in (alone, both)]
    assert all(torch.equal(a, b) for a, b in zip((alone, *grads[0]), (both, *grads[1]), strict=True))
