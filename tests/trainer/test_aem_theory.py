"""The theorem AEM stands on, in closed form: under a natural-gradient step the entropy drifts by A·(S − H).

Exact derivatives (float64, forward mode), enumerable policies, atol 1e-12 + rtol 1e-9. The log-probs and entropies come
from the functions that training uses.
"""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import jacrev, jvp
from torch.testing import assert_close

from trainer.aem import modulate
from trainer.losses import token_logprobs, token_logprobs_and_entropy

EXACT = {"atol": 1e-12, "rtol": 1e-9}
VOCABULARY, LENGTH, END = 3, 3, 0


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 1.5


def entropy(logits: Tensor) -> Tensor:
    """H of one categorical distribution."""
    return token_logprobs_and_entropy(logits[None], torch.zeros(1, dtype=torch.int64))[1][0]


def natural_gradient(log_prob_of_all: Tensor, scores: Tensor, chosen: int, advantage: float) -> Tensor:
    """F⁺ ∇ A·log π(chosen), F the Fisher matrix of the whole distribution. scores: [responses, parameters]."""
    fisher = scores.T @ (log_prob_of_all.exp()[:, None] * scores)
    return torch.linalg.pinv(fisher, hermitian=True, rtol=1e-12) @ (advantage * scores[chosen])


@pytest.mark.parametrize("advantage", [1.0, -0.7, 0.0])
@pytest.mark.parametrize("chosen", range(6))
def test_entropy_drift_of_a_tabular_policy(chosen: int, advantage: float) -> None:
    logits = random_logits(6, seed=chosen)
    pi = logits.softmax(0)
    taken = torch.eye(6, dtype=torch.float64)[chosen]
    step = advantage * taken / pi  # the closed form, in logits

    _, pi_drift = jvp(lambda z: z.softmax(0), (logits,), (step,))
    assert_close(pi_drift, advantage * (taken - pi), **EXACT)
    entropy_now, drift = jvp(entropy, (logits,), (step,))
    assert_close(drift, advantage * (-pi[chosen].log() - entropy_now), **EXACT)


def test_the_closed_form_is_the_natural_gradient() -> None:
    """F⁺∇ and A·1{b=a}/π(a) differ by a constant in the logits, which the softmax does not see."""
    logits = random_logits(5)
    log_p = logits.log_softmax(0)
    step = natural_gradient(log_p, jacrev(lambda z: z.log_softmax(0))(logits), 2, 1.3)
    closed = 1.3 * torch.eye(5, dtype=torch.float64)[2] / log_p[2].exp()
    difference = step - closed
    assert_close(difference, difference.mean().expand(5), atol=1e-9, rtol=1e-9)


def responses() -> list[tuple[int, ...]]:
    """All token strings that end with END or reach LENGTH."""
    strings = product(range(VOCABULARY), repeat=LENGTH)
    return sorted({s[: s.index(END) + 1] if END in s else s for s in strings})


PREFIXES = sorted({r[:k] for r in responses() for k in range(len(r))})


def response_logprobs(logits: Tensor) -> Tensor:
    """log π(response) of every response; logits [prefixes, vocabulary], one free row per prefix."""
    totals = []
    for response in responses():
        rows = logits[[PREFIXES.index(response[:k]) for k in range(len(response))]]
        totals.append(token_logprobs(rows, torch.tensor(response)).sum())
    return torch.stack(totals)


def response_entropy(logits: Tensor) -> Tensor:
    log_p = response_logprobs(logits)
    return -(log_p.exp() * log_p).sum()


def test_chain_rule_of_response_entropy() -> None:
    """H_resp = E[Σ_k H(π(·|prefix_k))], and log π(response) = Σ_k log π(token_k): a distribution over 15 responses."""
    logits = random_logits(len(PREFIXES), VOCABULARY, seed=3)
    log_p = response_logprobs(logits)
    assert len(log_p) == 15
    assert_close(log_p.exp().sum(), torch.ones((), dtype=torch.float64), **EXACT)
    along = []
    for response in responses():
        rows = logits[[PREFIXES.index(response[:k]) for k in range(len(response))]]
        along.append(token_logprobs_and_entropy(rows, torch.tensor(response))[1].sum())
    assert_close((log_p.exp() * torch.stack(along)).sum(), response_entropy(logits), **EXACT)


@pytest.mark.parametrize("chosen", [0, 4, 9, 14])
def test_response_entropy_drift_of_an_autoregressive_policy(chosen: int) -> None:
    """The theorem for whole responses, with the Fisher matrix of the autoregressive policy inverted numerically."""
    logits = random_logits(len(PREFIXES), VOCABULARY, seed=chosen) / 3
    flat = logits.flatten()

    def unflatten(z: Tensor) -> Tensor:
        return z.view_as(logits)

    log_p = response_logprobs(logits)
    step = natural_gradient(log_p, jacrev(lambda z: response_logprobs(unflatten(z)))(flat), chosen, -1.1)
    entropy_now, drift = jvp(lambda z: response_entropy(unflatten(z)), (flat,), (step,))
    assert_close(drift, -1.1 * (-log_p[chosen] - entropy_now), **EXACT)


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=20), st.sampled_from([1.0, -1.0]), st.floats(0, 3))
def test_modulation_steers_entropy_as_claimed(relative_surprisal: list[float], sign: float, lam: float) -> None:
    """Given the exact relative surprisal: negative advantages raise entropy more (or lower it less) with α than
    without, positive ones the other way; reversed α does the opposite."""
    surprisal = torch.tensor(relative_surprisal, dtype=torch.float64)
    advantages, group = torch.full_like(surprisal, sign), torch.zeros(len(surprisal), dtype=torch.int64)
    plain = (advantages * surprisal).sum()
    normal = (modulate(advantages, surprisal, group, lam=lam).advantages * surprisal).sum()
    backwards = (modulate(advantages, surprisal, group, lam=lam, direction="reversed").advantages * surprisal).sum()
    assert sign * (normal - plain) <= 1e-9
    assert sign * (backwards - plain) >= -1e-9


def test_the_drift_of_a_small_step_is_that_of_the_formula() -> None:
    """The same without automatic derivatives: a central difference along the natural gradient, relative error 1e-6."""
    logits, chosen, advantage, step = random_logits(7, seed=4), 3, 0.8, 1e-4
    pi = logits.softmax(0)
    direction = advantage * torch.eye(7, dtype=torch.float64)[chosen] / pi
    moved = entropy(logits + step * direction) - entropy(logits - step * direction)
    expected = advantage * (-pi[chosen].log() - entropy(logits))
    assert abs(float(expected)) > 0.1
    assert_close(moved / (2 * step), expected, atol=0, rtol=1e-6)


def test_a_constant_advantage_moves_no_entropy_on_average() -> None:
    """E[S − H] = 0, so what is left on average is the covariance of advantage and surprisal."""
    logits = random_logits(9, seed=8)
    pi, advantages = logits.softmax(0), random_logits(9, seed=9)
    relative = -pi.log() - entropy(logits)
    assert_close((pi * 1.7 * relative).sum(), torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0)
    covariance = (pi * (advantages - (pi * advantages).sum()) * relative).sum()
    assert_close((pi * advantages * relative).sum(), covariance, **EXACT)


@pytest.mark.parametrize("direction", ["normal", "reversed"])
def test_modulated_responses_of_one_state_drift_by_the_sum_of_their_parts(direction) -> None:
    """Σ α·A·∇log π through the Fisher matrix: the entropy moves by Σ α·A·(S − H), α being what `modulate` gives."""
    logits = random_logits(len(PREFIXES), VOCABULARY, seed=6) / 3
    flat, sampled = logits.flatten(), [0, 3, 7, 7, 12]
    log_p = response_logprobs(logits)
    proxies = []
    for response in (responses()[number] for number in sampled):
        rows = logits[[PREFIXES.index(response[:k]) for k in range(len(response))]]
        proxies.append(token_logprobs_and_entropy(rows, torch.tensor(response))[1].mean())
    advantages = torch.tensor([1.0, -0.5, 0.25, -2.0, 0.75], dtype=torch.float64)
    group = torch.zeros(5, dtype=torch.int64)
    got = modulate(advantages, torch.stack(proxies), group, direction=direction, range_guard=0.0)
    assert (got.alpha != 1).any()
    scores = jacrev(lambda z: response_logprobs(z.view_as(logits)))(flat)
    step = sum(natural_gradient(log_p, scores, a, float(A)) for a, A in zip(sampled, got.advantages))
    entropy_now, drift = jvp(lambda z: response_entropy(z.view_as(logits)), (flat,), (step,))
    expected = (got.advantages * (-log_p[sampled] - entropy_now)).sum()
    assert_close(drift, expected, atol=1e-9, rtol=1e-6)


SCOPES = st.sampled_from(["group", "trajectory", "batch"])


@given(SCOPES, st.integers(0, 2**30), st.floats(-2, 2), st.floats(0.2, 5.0))
def test_alpha_knows_order_and_spacing_of_entropies_only(scope: str, seed: int, shift: float, scale: float) -> None:
    """Another zero or another unit of entropy, and another order of responses, change nothing, whatever the scope."""
    generator = torch.Generator().manual_seed(seed)
    uncertainty = torch.rand(12, dtype=torch.float64, generator=generator)
    advantages = torch.randn(12, dtype=torch.float64, generator=generator)
    group, trajectory = torch.arange(12) // 6, torch.arange(12) // 3

    def modulated(order: Tensor, entropies: Tensor) -> Tensor:
        return modulate(
            advantages[order],
            entropies[order],
            group[order],
            scope=scope,
            trajectory=trajectory[order],
            range_guard=0.0,
        ).advantages

    in_order, mixed = torch.arange(12), torch.randperm(12, generator=generator)
    plain = modulated(in_order, uncertainty)
    assert_close(modulated(in_order, scale * uncertainty + shift), plain, atol=1e-9, rtol=0)
    assert_close(modulated(mixed, uncertainty), plain[mixed], atol=1e-12, rtol=0)


@given(SCOPES, st.integers(0, 2**30), st.floats(0.0, 2.0))
def test_the_guard_leaves_a_scope_alone_exactly_below_its_range(scope: str, seed: int, guard: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    uncertainty = torch.rand(12, dtype=torch.float64, generator=generator)
    index = {"group": torch.arange(12) // 6, "trajectory": torch.arange(12) // 3, "batch": torch.zeros(12).long()}
    alpha = modulate(
        torch.ones(12, dtype=torch.float64),
        uncertainty,
        index["group"],
        scope=scope,  # type: ignore[arg-type]
        trajectory=index["trajectory"],
        range_guard=guard,
    ).alpha
    for number in index[scope].unique():
        inside = index[scope] == number
        spread = uncertainty[inside].max() - uncertainty[inside].min()
        assert bool((alpha[inside] != 1).any()) == bool(spread >= guard)
        assert_close(alpha[inside].mean(), torch.ones((), dtype=torch.float64), atol=1e-12, rtol=0)
