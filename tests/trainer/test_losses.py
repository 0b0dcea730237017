"""Weights, clipped loss, KL, value loss: values by hand, exact gradients, exact accumulation."""

import math

import pytest
import torch
from torch.testing import assert_close

from trainer.kl import kl_estimate
from trainer.losses import (
    Loss,
    aggregation_weights,
    entropy_bonus,
    kl_loss,
    losses,
    normalise_weights,
    policy_loss,
    token_logprobs_and_entropy,
    value_loss,
)

# Three responses of 2, 1 and 3 tokens; the first two are the turns of episode 0.
SPAN, EPISODE = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 0, 1])
ONE = torch.ones(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------------------- aggregation


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("token_mean", [1 / 6] * 6),
        ("response_mean", [1 / 6, 1 / 6, 1 / 3, 1 / 9, 1 / 9, 1 / 9]),
        ("episode_mean", [1 / 6] * 6),
    ],
)
def test_weights_by_hand(aggregate, expected: list[float]) -> None:
    assert_close(aggregation_weights(aggregate, SPAN, EPISODE, 2), torch.tensor(expected))


def test_weights_of_episodes_of_unequal_length() -> None:
    got = aggregation_weights("episode_mean", SPAN, torch.tensor([0, 1, 1]), 2)
    assert_close(got, torch.tensor([1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8]))


def test_masked_tokens_have_no_weight_and_empty_units_do_not_count() -> None:
    mask = torch.tensor([True, False, False, True, True, False])
    got = [aggregation_weights(a, SPAN, EPISODE, 2, mask=mask) for a in ("token_mean", "response_mean", "episode_mean")]
    assert_close(got[0], torch.tensor([1 / 3, 0, 0, 1 / 3, 1 / 3, 0]))
    assert_close(got[1], torch.tensor([1 / 2, 0, 0, 1 / 4, 1 / 4, 0]))  # response 1 has no token left
    assert_close(got[2], torch.tensor([1 / 2, 0, 0, 1 / 4, 1 / 4, 0]))
    nothing = aggregation_weights("response_mean", SPAN, EPISODE, 2, mask=torch.zeros(6, dtype=torch.bool))
    assert nothing.tolist() == [0.0] * 6


def test_constant_weights() -> None:
    assert_close(aggregation_weights("constant", SPAN, EPISODE, 2, constant=8.0), torch.full((6,), 0.125))
    with pytest.raises(ValueError, match="constant="):
        aggregation_weights("constant", SPAN, EPISODE, 2)
    with pytest.raises(ValueError, match="aggregate"):
        aggregation_weights("mean", SPAN, EPISODE, 2)  # type: ignore[arg-type]


def test_a_minibatch_share_of_the_batchs_weights() -> None:
    whole = aggregation_weights("episode_mean", SPAN, torch.tensor([0, 1, 1]), 2)
    assert_close(normalise_weights(whole[:3]), torch.tensor([0.4, 0.4, 0.2]))


# ---------------------------------------------------------------------------------------------------------- policy loss


def loss_at(ratio: float, advantage: float, **options: object) -> tuple[float, float, Loss]:
    """Loss and d loss / d log π of one token with r = ratio and weight 1."""
    old = torch.tensor([-1.5], dtype=torch.float64)
    logprobs = (old + math.log(ratio)).requires_grad_()
    got = policy_loss(logprobs, old, torch.tensor([advantage], dtype=torch.float64), ONE, **options)  # type: ignore[arg-type]
    got.value.backward()
    assert logprobs.grad is not None
    return float(got.value.detach()), float(logprobs.grad), got


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "gradient", "clipped"),
    [
        (1.0, 2.0, -2.0, -2.0, None),
        (1.1, 2.0, -2.2, -2.2, None),
        (1.3, 2.0, -2.5, 0.0, "high"),  # min(2.6, 1.25·2)
        (0.5, 2.0, -1.0, -1.0, None),  # pessimistic: min(1.0, 0.9·2) is not clipped
        (0.5, -2.0, 1.8, 0.0, "low"),  # min(−1, 0.9·−2)
        (1.3, -2.0, 2.6, 2.6, None),
        (5.0, -2.0, 10.0, 10.0, None),
    ],
)
def test_clip_cases_by_hand(ratio: float, advantage: float, value: float, gradient: float, clipped: str | None) -> None:
    got, slope, loss = loss_at(ratio, advantage, clip_low=0.1, clip_high=0.25)
    assert got == pytest.approx(value)
    assert slope == pytest.approx(gradient)
    for name in ("high", "low"):
        assert loss.metrics[f"clip_{name}_fraction"] == (clipped == name)
    assert loss.metrics["clip_fraction"] == (clipped is not None)


def test_dual_clip_bounds_negative_advantages_only() -> None:
    assert loss_at(5.0, -2.0, dual_clip=3.0)[:2] == pytest.approx((6.0, 0.0))
    assert loss_at(2.0, -2.0, dual_clip=3.0)[:2] == pytest.approx((4.0, 4.0))
    assert loss_at(5.0, 2.0, dual_clip=3.0)[0] == pytest.approx(-2.4)
    assert loss_at(5.0, -2.0, dual_clip=3.0)[2].metrics["dual_clip_fraction"] == 1
    with pytest.raises(ValueError, match="dual_clip"):
        loss_at(1.0, 1.0, dual_clip=1.0)


def test_the_default_clip_is_a_fifth_both_ways() -> None:
    assert loss_at(1.3, 1.0)[0] == pytest.approx(-1.2)
    assert loss_at(0.5, -1.0)[0] == pytest.approx(0.8)


def test_on_policy_gradient_is_minus_weighted_advantage() -> None:
    logprobs = torch.randn(6, generator=seeded()).requires_grad_()
    advantages, weights = torch.randn(6, generator=seeded(1)), torch.rand(6, generator=seeded(2))
    policy_loss(logprobs, logprobs.detach(), advantages, weights).value.backward()
    assert_close(logprobs.grad, -weights * advantages)


def test_sequence_ratio_by_hand() -> None:
    """GSPO: response 0 has log-ratios 0.2, 0.4 → s = exp(0.3) for both tokens, each gradient half of it."""
    old, log_ratio = torch.zeros(3), torch.tensor([0.2, 0.4, -0.1])
    logprobs, advantages = (old + log_ratio).requires_grad_(), torch.tensor([1.0, 1.0, 2.0])
    span = torch.tensor([0, 0, 1])
    weights = aggregation_weights("response_mean", span, torch.tensor([0, 0]), 1)
    loss = policy_loss(
        logprobs, old, advantages, weights, clip_high=9.0, ratio="sequence", span_index=span, n_responses=2
    )
    s0, s1 = math.exp(0.3), math.exp(-0.1)
    assert_close(loss.value, torch.tensor(-(s0 + 2 * s1) / 2))
    loss.value.backward()
    assert_close(logprobs.grad, torch.tensor([-s0 / 4, -s0 / 4, -s1]))
    with pytest.raises(ValueError, match="span_index"):
        policy_loss(logprobs, old, advantages, weights, ratio="sequence")
    with pytest.raises(ValueError, match="ratio"):
        policy_loss(logprobs, old, advantages, weights, ratio="word")  # type: ignore[arg-type]


@pytest.mark.parametrize("aggregate", ["token_mean", "response_mean", "episode_mean"])
def test_micro_batches_add_up_exactly(aggregate) -> None:
    logprobs = torch.randn(6, dtype=torch.float64, generator=seeded()).requires_grad_()
    old = logprobs.detach() + 0.3 * torch.randn(6, dtype=torch.float64, generator=seeded(3))
    advantages = torch.randn(6, dtype=torch.float64, generator=seeded(1))
    weights = aggregation_weights(aggregate, SPAN, EPISODE, 2)
    whole = policy_loss(logprobs, old, advantages, weights)
    (expected,) = torch.autograd.grad(whole.value, logprobs)
    cuts = slice(0, 2), slice(2, 3), slice(3, 6)
    parts = [policy_loss(logprobs[cut], old[cut], advantages[cut], weights[cut]) for cut in cuts]
    (got,) = torch.autograd.grad(sum(part.value for part in parts), logprobs)  # type: ignore[arg-type]
    assert_close(got, expected)
    for name, value in whole.metrics.items():
        assert_close(sum(part.metrics[name] for part in parts), value)


def test_advantage_mass_and_kl_metrics_by_hand() -> None:
    old = torch.zeros(3, dtype=torch.float64)
    logprobs = torch.tensor([math.log(2.0), 0.0, math.log(0.5)], dtype=torch.float64)
    metrics = policy_loss(logprobs, old, torch.tensor([1.0, -2.0, 4.0]), torch.tensor([0.5, 0.25, 0.25])).metrics
    assert metrics["positive_mass"] == 1.5
    assert metrics["negative_mass"] == -0.5
    assert float(metrics["ratio_mean"]) == pytest.approx(1.375)
    assert float(metrics["approx_kl"]) == pytest.approx(0.5 * (1 - math.log(2)) + 0.25 * (-0.5 + math.log(2)))
    assert metrics["weight"] == 1


def test_a_runaway_token_does_not_overflow() -> None:
    logprobs = torch.tensor([0.0, -1.0], requires_grad=True)
    loss = policy_loss(logprobs, torch.tensor([-500.0, -1.0]), torch.tensor([-1.0, 1.0]), torch.tensor([0.5, 0.5]))
    loss.value.backward()
    assert loss.value.isfinite()
    assert logprobs.grad is not None
    assert logprobs.grad.isfinite().all()


def test_losses_are_found_by_name() -> None:
    assert losses.get("clip") is policy_loss


# -------------------------------------------------------------------------------------------- KL, entropy, value losses


def test_kl_estimators_by_hand() -> None:
    logprobs, ref = torch.tensor([-1.0]), torch.tensor([-1.0 + math.log(2.0)])  # Δ = log 2
    assert_close(kl_estimate(logprobs, ref, "k1"), torch.tensor([-math.log(2.0)]))
    assert_close(kl_estimate(logprobs, ref, "k2"), torch.tensor([math.log(2.0) ** 2 / 2]))
    assert_close(kl_estimate(logprobs, ref), torch.tensor([1 - math.log(2.0)]))
    with pytest.raises(ValueError, match="k1, k2 or k3"):
        kl_estimate(logprobs, ref, "k4")  # type: ignore[arg-type]
    assert kl_estimate(torch.tensor([-1e3]), torch.tensor([0.0])).isfinite().all()


def test_kl_estimators_expectations_and_gradients() -> None:
    """Summed over all outcomes: E[k1] = E[k3] = KL; the expected gradients are 0, the KL's, and the reverse KL's."""
    logits = torch.randn(5, dtype=torch.float64, generator=seeded()).requires_grad_()
    ref = torch.randn(5, dtype=torch.float64, generator=seeded(1)).log_softmax(0)
    log_p = logits.log_softmax(0)
    p = log_p.detach().exp()
    kl = (log_p.exp() * (log_p - ref)).sum()
    for name in ("k1", "k3"):
        assert_close((p * kl_estimate(log_p, ref, name)).sum(), kl)
    gradients = {
        name: torch.autograd.grad(kl_loss(kl_estimate(log_p, ref, name), p), logits, retain_graph=True)[0]
        for name in ("k1", "k2", "k3")
    }
    assert_close(gradients["k1"], torch.zeros_like(p), atol=1e-12, rtol=0)
    assert_close(gradients["k2"], torch.autograd.grad(kl, logits, retain_graph=True)[0])
    reverse = (ref.exp() * (ref - log_p)).sum()
    assert_close(gradients["k3"], torch.autograd.grad(reverse, logits)[0])


def test_entropy_bonus_pushes_entropy_up() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    before = token_logprobs_and_entropy(logits, torch.tensor([0]))[1]
    loss = entropy_bonus(before, ONE)
    assert_close(loss, -before.sum())
    loss.backward()
    after = token_logprobs_and_entropy(logits.detach() - 0.1 * logits.grad, torch.tensor([0]))[1]
    assert after > before


def test_value_loss_by_hand() -> None:
    # v 2, old 1, so clipped v 1.5. Target 1.25: the larger of 0.75² and 0.25². Target 3: the larger of 1² and 1.5².
    values = torch.tensor([2.0, 2.0], requires_grad=True)
    loss = value_loss(values, torch.tensor([1.0, 1.0]), torch.tensor([1.25, 3.0]), torch.tensor([0.5, 0.5]))
    assert_close(loss.value, torch.tensor((0.5625 + 2.25) / 4))
    assert_close(loss.metrics["value_clip_fraction"], torch.tensor(0.5))
    assert_close(loss.metrics["value_error"], torch.tensor((0.5625 + 1) / 2))
    assert_close(loss.metrics["value_mean"], torch.tensor(2.0))
    loss.value.backward()
    assert_close(values.grad, torch.tensor([0.375, 0.0]))
    free = value_loss(values, torch.tensor([1.0, 1.0]), torch.tensor([1.25, 3.0]), torch.tensor([0.5, 0.5]), clip=None)
    assert_close(free.value, torch.tensor((0.5625 + 1) / 4))
