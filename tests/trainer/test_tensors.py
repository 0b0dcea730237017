"""Reductions over the flat layout, against values worked out by hand and plain Python loops."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from trainer import tensors

INDEX = torch.tensor([0, 2, 0, 2, 2])
VALUES = torch.tensor([1.0, 2.0, 5.0, -4.0, 8.0])


def test_segment_reductions_by_hand() -> None:
    assert_close(tensors.segment_sum(VALUES, INDEX, 4), torch.tensor([6.0, 0.0, 6.0, 0.0]))
    assert_close(tensors.segment_mean(VALUES, INDEX, 4), torch.tensor([3.0, 0.0, 2.0, 0.0]))
    assert_close(tensors.segment_max(VALUES, INDEX, 4), torch.tensor([5.0, -torch.inf, 8.0, -torch.inf]))
    assert_close(tensors.segment_min(VALUES, INDEX, 4), torch.tensor([1.0, torch.inf, -4.0, torch.inf]))
    assert tensors.segment_count(INDEX, 4).tolist() == [2, 0, 3, 0]
    assert tensors.count_segments(INDEX) == 3
    assert tensors.count_segments(INDEX[:0]) == 0


def test_segment_sum_is_differentiable() -> None:
    values = VALUES.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: tensors.segment_mean(v, INDEX, 3), (values,))


def test_masked_reductions_ignore_what_is_masked_out() -> None:
    values, mask = torch.tensor([1.0, torch.nan, 4.0]), torch.tensor([True, False, True])
    assert tensors.masked_sum(values, mask) == 5
    assert tensors.masked_mean(values, mask) == 2.5
    assert tensors.masked_mean(values, torch.zeros(3, dtype=torch.bool)) == 0


def test_whiten_by_hand() -> None:
    assert_close(tensors.whiten(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([-1.0, 0.0, 1.0]))  # std, ddof 1, is 1
    masked = tensors.whiten(torch.tensor([1.0, 100.0, 3.0]), torch.tensor([True, False, True]))
    assert_close(masked, torch.tensor([-1.0, 0.0, 1.0]) / 2**0.5)
    assert tensors.whiten(torch.tensor([7.0])).tolist() == [0.0]
    assert tensors.whiten(torch.tensor([7.0, 7.0])).tolist() == [0.0, 0.0]


def test_layout_helpers_match_the_worked_example() -> None:
    lengths = torch.tensor([2, 1, 3])
    assert tensors.index_from_lengths(lengths).tolist() == [0, 0, 1, 2, 2, 2]
    starts = tensors.cu_seqlens(lengths)
    assert starts.tolist() == [0, 2, 3, 6]
    assert starts.dtype == torch.int32
    assert tensors.last_of_segment(torch.tensor([0, 0, 1, 2, 2, 2])).tolist() == [False, True, True, False, False, True]


def test_discounted_sum_by_hand() -> None:
    values, index = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), torch.tensor([0, 0, 0, 1, 1])
    assert_close(tensors.discounted_sum(values, index, 0.5), torch.tensor([3.0, 4.0, 4.0, 16.0, 16.0]))
    assert_close(tensors.discounted_sum(values, index, 0.0), values)
    poisoned = torch.tensor([1.0, 2.0, torch.nan])
    assert tensors.discounted_sum(poisoned, torch.tensor([0, 0, 1]), 1.0)[:2].tolist() == [3.0, 2.0]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.floats(0, 1), st.randoms(use_true_random=False))
def test_discounted_sum_equals_the_loop(lengths: list[int], decay: float, random) -> None:
    values = [random.uniform(-1, 1) for _ in range(sum(lengths))]
    expected: list[float] = []
    for length in reversed(lengths):
        running = 0.0
        for value in reversed(values[: len(values) - len(expected)][-length:]):
            running = value + decay * running
            expected.insert(0, running)
    index = tensors.index_from_lengths(torch.tensor(lengths))
    got = tensors.discounted_sum(torch.tensor(values, dtype=torch.float64), index, decay)
    assert_close(got, torch.tensor(expected, dtype=torch.float64))
