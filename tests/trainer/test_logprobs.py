"""Log-probs and entropies from logits: values by hand, exact gradients, chunks that keep nothing."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from trainer.losses import chunked_logprobs_and_entropy, token_logprobs, token_logprobs_and_entropy


def test_logprobs_and_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, 5.0]])
    logprobs, entropy = token_logprobs_and_entropy(logits, torch.tensor([0, 1]))
    assert_close(logprobs, torch.tensor([math.log(0.25), math.log(0.5)]))
    assert_close(entropy, torch.tensor([-0.25 * math.log(0.25) - 0.75 * math.log(0.75), math.log(2.0)]))
    assert torch.equal(token_logprobs(logits, torch.tensor([0, 1])), logprobs)


def test_temperature_divides_the_logits() -> None:
    logits = torch.tensor([[0.0, 2 * math.log(3.0)]])
    logprobs, entropy = token_logprobs_and_entropy(logits, torch.tensor([1]), 2.0)
    assert_close(logprobs, torch.tensor([math.log(0.75)]))
    assert_close(entropy, torch.tensor([-0.25 * math.log(0.25) - 0.75 * math.log(0.75)]))
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(logits, torch.tensor([1]), 0.0)


def test_extreme_logits_stay_finite_and_accurate() -> None:
    logits = torch.tensor([[1e4, 1e4, -1e4], [3e4, 0.0, 0.0], [-torch.inf, 1.0, 1.0]], requires_grad=True)
    logprobs, entropy = token_logprobs_and_entropy(logits, torch.tensor([0, 0, 1]))
    assert_close(logprobs, torch.tensor([-math.log(2), 0.0, -math.log(2)]))
    assert_close(entropy, torch.tensor([math.log(2), 0.0, math.log(2)]))
    (logprobs.sum() + entropy.sum()).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_half_precision_logits_are_raised_first() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    logprobs, entropy = token_logprobs_and_entropy(logits, torch.arange(4))
    expected = token_logprobs_and_entropy(logits.double(), torch.arange(4))
    assert logprobs.dtype == torch.float32
    assert_close(logprobs.double(), expected[0], atol=1e-5, rtol=1e-5)
    assert_close(entropy.double(), expected[1], atol=1e-5, rtol=1e-5)


def test_gradients_of_logprobs_and_entropy() -> None:
    logits = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: token_logprobs_and_entropy(z, torch.tensor([4, 0, 2]), 0.7), (logits,))


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_give_the_same_values_and_gradients(chunk: int) -> None:
    weight = torch.randn(6, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    hidden = torch.randn(10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    targets = torch.arange(10) % 11
    whole = token_logprobs_and_entropy(hidden @ weight, targets, 0.8)
    expected = torch.autograd.grad((whole[0] * 2 + whole[1]).sum(), (weight, hidden))
    sizes: list[int] = []

    def head(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return rows @ weight

    parts = chunked_logprobs_and_entropy(hidden, head, targets, 0.8, chunk=chunk)
    got = torch.autograd.grad((parts[0] * 2 + parts[1]).sum(), (weight, hidden))
    assert max(sizes) <= chunk
    assert sum(sizes) == 20  # each row forward, and again in the backward pass: nothing was kept
    for a, b in zip((*parts, *got), (*whole, *expected)):
        assert_close(a, b)
    with torch.no_grad():
        assert_close(chunked_logprobs_and_entropy(hidden, head, targets, 0.8, chunk=chunk)[1], whole[1])
