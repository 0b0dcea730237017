"""The modulator against tables worked out by hand, its invariances, and every option."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from trainer.aem import (
    Modulation,
    mean_token_entropy,
    mean_token_surprisal,
    modulate,
    relative_surprisal,
    uncertainty_of,
)

E1, E_HALF = math.exp(-1), math.exp(-0.5)
# Two groups and four episodes. Group 0 has H̄ 1, 2, 3 (H̃ 0, ½, 1); group 1 has 0.50, 0.55 (range below the guard).
ENTROPY = torch.tensor([1.0, 0.50, 3.0, 2.0, 0.55])
GROUP = torch.tensor([0, 1, 0, 0, 1])
TRAJECTORY = torch.tensor([0, 2, 0, 1, 3])
ADVANTAGES = torch.tensor([1.0, 2.0, -1.0, 0.0, -2.0])
MEAN0 = (1 + E_HALF + E1) / 3
ALPHA = torch.tensor([1 / MEAN0, 1.0, E1 / MEAN0, E_HALF / MEAN0, 1.0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_by_hand() -> None:
    got = modulate(ADVANTAGES, ENTROPY, GROUP)
    assert_close(got.alpha, ALPHA)
    assert_close(got.advantages, ALPHA * ADVANTAGES)
    assert got.alpha[0] > 1 > got.alpha[2]  # low entropy is amplified
    assert_close(got.alpha[[0, 2, 3]].mean(), torch.tensor(1.0))


def test_reversed_direction() -> None:
    mean = (1 + math.exp(0.5) + math.e) / 3
    got = modulate(ADVANTAGES, ENTROPY, GROUP, direction="reversed").alpha
    assert_close(got, torch.tensor([1 / mean, 1.0, math.e / mean, math.exp(0.5) / mean, 1.0]))
    assert modulate(ADVANTAGES, ENTROPY, GROUP, direction="reversed", lam=500.0).alpha.isfinite().all()


def test_lam_scales_the_exponent() -> None:
    weights = torch.tensor([1.0, math.exp(-3), math.exp(-1.5)])
    assert_close(modulate(ADVANTAGES, ENTROPY, GROUP, lam=3.0).alpha[[0, 2, 3]], weights / weights.mean())


@pytest.mark.parametrize("scope", ["group", "trajectory", "batch"])
@pytest.mark.parametrize("direction", ["normal", "reversed"])
def test_lam_zero_is_the_identity_bit_for_bit(scope, direction) -> None:
    advantages, entropy = torch.randn(999, generator=seeded()), torch.rand(999, generator=seeded(1)) * 3
    group = torch.arange(999) // 77
    got = modulate(advantages, entropy, group, lam=0.0, scope=scope, direction=direction, trajectory=group)
    assert torch.equal(got.alpha, torch.ones(999))
    assert torch.equal(got.advantages.view(torch.int32), advantages.view(torch.int32))


def test_batch_scope() -> None:
    relative = (ENTROPY - 0.5) / 2.5
    weight = torch.exp(-relative)
    assert_close(modulate(ADVANTAGES, ENTROPY, GROUP, scope="batch").alpha, weight / weight.mean())


def test_trajectory_scope() -> None:
    # only episode 0 has two responses, H̄ 1 and 3; the others have a range of 0
    got = modulate(ADVANTAGES, ENTROPY, GROUP, scope="trajectory", trajectory=TRAJECTORY)
    assert_close(got.alpha, torch.tensor([2 / (1 + E1), 1.0, 2 * E1 / (1 + E1), 1.0, 1.0]))
    assert got.stats["guarded_share"] == 0.75


def test_guard_is_a_threshold_on_the_range_of_the_scope() -> None:
    entropy, group = torch.tensor([0.0, 0.0625]), torch.zeros(2, dtype=torch.int64)
    one = torch.ones(2)
    assert torch.equal(modulate(one, entropy, group).alpha, one)
    assert torch.equal(modulate(one, entropy, group, range_guard=0.0626).alpha, one)
    at_the_guard = modulate(one, entropy, group, range_guard=0.0625).alpha
    assert_close(at_the_guard, torch.tensor([2 / (1 + E1), 2 * E1 / (1 + E1)]))
    assert torch.equal(modulate(one, torch.full((2,), 0.3), group, range_guard=0.0).alpha, one)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_entropies_that_are_not_finite_guard_their_own_group_only(bad: float) -> None:
    entropy = torch.tensor([1.0, 2.0, bad, 1.0, 2.0])
    got = modulate(torch.ones(5), entropy, torch.tensor([0, 0, 0, 1, 1]))
    assert got.alpha[:3].tolist() == [1.0] * 3
    assert_close(got.alpha[3], torch.tensor(2 / (1 + E1)))


@pytest.mark.parametrize("outlier", [1e6, -1e6, torch.nan])
def test_uncounted_responses_neither_count_nor_are_modulated(outlier: float) -> None:
    counted = torch.tensor([True, True, False, True, True])
    changed = ENTROPY.clone()
    changed[2] = outlier
    got = modulate(ADVANTAGES, changed, GROUP, counted=counted)
    weights = torch.tensor([1.0, E1])  # of H̄ 1 and 2, now the extremes
    assert_close(got.alpha[[0, 3]], weights / weights.mean())
    assert got.alpha[2] == 1
    assert got.advantages[2] == ADVANTAGES[2]
    assert got.stats["uncertainty_max"] == 2
    assert_close(got.stats["uncertainty_mean"], torch.tensor((1 + 2 + 0.5 + 0.55) / 4))


def test_zero_advantages_count() -> None:
    """The response with A = 0 is neither the minimum nor the maximum here, yet mean(α) = 1 only with it."""
    with_it, without = (modulate(a, ENTROPY, GROUP).alpha for a in (ADVANTAGES, ADVANTAGES + 1))
    assert torch.equal(with_it, without)


def test_token_advantages_are_modulated_through_span_index() -> None:
    span_index = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4])
    per_token = torch.arange(8.0) - 3
    got = modulate(per_token, ENTROPY, GROUP, span_index=span_index)
    assert_close(got.advantages, per_token * ALPHA[span_index])
    assert_close(got.alpha, ALPHA)


def test_alpha_is_a_constant_for_autograd() -> None:
    advantages, entropy = ADVANTAGES.clone().requires_grad_(), ENTROPY.clone().requires_grad_()
    got = modulate(advantages, entropy, GROUP)
    got.advantages.sum().backward()
    assert entropy.grad is None
    assert not got.alpha.requires_grad
    assert_close(advantages.grad, ALPHA)
    assert not any(value.requires_grad for value in got.stats.values())


def test_sign_mask_keeps_one_predicted_direction() -> None:
    fall = modulate(ADVANTAGES, ENTROPY, GROUP, sign_mask="fall").advantages
    rise = modulate(ADVANTAGES, ENTROPY, GROUP, sign_mask="rise").advantages
    # response 0: A > 0, α > 1; response 2: A < 0, α < 1; response 3: A = 0; responses 1 and 4: α = 1
    assert_close(fall, torch.tensor([ALPHA[0], 0, -ALPHA[2], 0, 0]))
    assert rise.tolist() == [0.0] * 5
    flipped = modulate(-ADVANTAGES, ENTROPY, GROUP, sign_mask="rise").advantages
    assert_close(flipped, -fall)


def test_shuffle_permutes_alpha_within_its_scope() -> None:
    group = torch.arange(60) % 3
    entropy = torch.rand(60, generator=seeded()) * 2 + group
    counted = torch.rand(60, generator=seeded(1)) > 0.2
    plain = modulate(torch.ones(60), entropy, group, counted=counted).alpha
    shuffled = modulate(torch.ones(60), entropy, group, counted=counted, shuffle=True, generator=seeded(5)).alpha
    assert not torch.equal(plain, shuffled)
    for g in range(3):
        inside = (group == g) & counted
        assert torch.equal(plain[inside].sort().values, shuffled[inside].sort().values)
    assert torch.equal(shuffled[~counted], torch.ones(int((~counted).sum())))
    again = modulate(torch.ones(60), entropy, group, counted=counted, shuffle=True, generator=seeded(5)).alpha
    assert torch.equal(shuffled, again)


@pytest.mark.parametrize("per_token", [False, True])
def test_shuffle_by_sign_permutes_alpha_among_responses_of_one_sign(per_token: bool) -> None:
    """α of each sign stays together in its scope, and so does what rewards and punishments weigh."""
    group, span = torch.arange(90) % 3, torch.arange(90).repeat_interleave(2)
    entropy = torch.rand(90, generator=seeded()) * 2 + group
    counted = torch.rand(90, generator=seeded(1)) > 0.2
    sign = torch.tensor([1.0, -1.0, 0.0])[torch.randint(3, (90,), generator=seeded(2))]
    # one per token: the first token's sign is always the same, and says nothing
    advantages = torch.stack([-torch.ones(90), 1 + 2 * sign], 1).flatten() if per_token else sign
    options = {"counted": counted, "span_index": span if per_token else None}
    plain = modulate(advantages, entropy, group, **options).alpha
    got = modulate(advantages, entropy, group, **options, shuffle_by_sign=True, generator=seeded(5))
    assert not torch.equal(plain, got.alpha)
    for g in range(3):
        for s in (1, -1, 0):
            inside = (group == g) & counted & (sign == s)
            assert inside.sum() > 2
            assert torch.equal(plain[inside].sort().values, got.alpha[inside].sort().values)
            assert not torch.equal(plain[inside], got.alpha[inside])
    assert torch.equal(got.alpha[~counted], torch.ones(int((~counted).sum())))


def test_shuffle_is_uniform() -> None:
    """Each of the 6 orders of 3 coefficients about equally often: χ² with 5 degrees of freedom, 0.1 % point 20.5."""
    group, entropy, generator = torch.zeros(3, dtype=torch.int64), torch.tensor([0.0, 1.0, 2.0]), seeded(11)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(1200):
        alpha = modulate(torch.ones(3), entropy, group, shuffle=True, generator=generator).alpha
        order = tuple(alpha.argsort().tolist())
        counts[order] = counts.get(order, 0) + 1
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) + 200 * (6 - len(counts)) < 20.5


def test_stats_by_hand() -> None:
    stats = modulate(ADVANTAGES, ENTROPY, GROUP).stats
    a0, a2 = float(ALPHA[0]), float(ALPHA[2])
    expected = {
        "guarded_share": 0.5,
        "advantage_sum": a0 + 2 - a2 - 2,
        "positive_sum_before": 3.0,
        "negative_sum_before": -3.0,
        "positive_sum": a0 + 2,
        "negative_sum": -a2 - 2,
        "positive_share": 0.4,
        "negative_share": 0.4,
        "uncertainty_min": 0.5,
        "uncertainty_max": 3.0,
        "uncertainty_mean": 7.05 / 5,
    }
    quantiles = torch.quantile(ALPHA, torch.tensor([0.05, 0.5, 0.95])).tolist()
    expected |= dict(zip(("alpha_q05", "alpha_q50", "alpha_q95"), quantiles))
    assert set(stats) == set(expected)
    for name, value in expected.items():
        assert_close(stats[name], torch.tensor(value), msg=lambda text, name=name: f"{name}: {text}")


def test_shares_are_of_responses_where_advantages_are_per_token() -> None:
    """Three responses of 1, 2 and 3 tokens, whose advantages sum to +1, −1 and 0."""
    advantages, spans = torch.tensor([1.0, 1.0, -2.0, 1.0, -1.0, 0.0]), torch.tensor([0, 1, 1, 2, 2, 2])
    stats = modulate(advantages, ENTROPY[:3], GROUP[:3], span_index=spans).stats
    assert_close(stats["positive_share"], torch.tensor(1 / 3))
    assert_close(stats["negative_share"], torch.tensor(1 / 3))
    assert_close(stats["positive_sum_before"], torch.tensor(3.0))  # sums are of entries


def test_nothing_to_count_changes_nothing() -> None:
    got = modulate(ADVANTAGES, ENTROPY, GROUP, counted=torch.zeros(5, dtype=torch.bool))
    assert torch.equal(got.advantages, ADVANTAGES)
    assert got.stats["alpha_q50"].isnan()
    empty = modulate(ADVANTAGES[:0], ENTROPY[:0], GROUP[:0])
    assert empty.advantages.shape == (0,)
    assert (
        modulate(ADVANTAGES, ENTROPY, GROUP, n_segments=9).stats["guarded_share"] == 0.5
    )  # empty groups are not guarded


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"scope": "turn"}, "scope"),
        ({"scope": "trajectory"}, "trajectory="),
        ({"direction": "backwards"}, "direction"),
        ({"sign_mask": "both"}, "sign_mask"),
        ({"lam": -1.0}, "lam"),
        ({"shuffle": True}, "Generator"),
        ({"shuffle_by_sign": True}, "Generator"),
        ({"shuffle": True, "shuffle_by_sign": True}, "choose one"),
        ({"response_group": GROUP[:4]}, "response_group"),
        ({"advantages": torch.ones(8)}, "span_index"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, object], word: str) -> None:
    arguments = {"advantages": ADVANTAGES, "uncertainty": ENTROPY, "response_group": GROUP} | changes
    with pytest.raises(ValueError, match=word):
        modulate(**arguments)  # type: ignore[arg-type]


def test_proxies_by_hand() -> None:
    span_index = torch.tensor([1, 0, 0])
    assert_close(mean_token_entropy(torch.tensor([5.0, 1.0, 2.0]), span_index, 2), torch.tensor([1.5, 5.0]))
    logprobs, entropies = torch.tensor([-5.0, -1.0, -2.0]), torch.tensor([4.0, 1.5, 0.5])
    assert_close(mean_token_surprisal(logprobs, span_index, 2), torch.tensor([1.5, 5.0]))
    assert_close(relative_surprisal(logprobs, entropies, span_index, 2), torch.tensor([0.5, 1.0]))
    for proxy, first in (("mean_token_entropy", 1.0), ("mean_token_surprisal", 1.5), ("relative_surprisal", 0.5)):
        assert float(uncertainty_of(proxy, logprobs, entropies, span_index, 2)[0]) == first


groups_of_entropies = st.lists(st.lists(st.floats(0, 6), min_size=1, max_size=6), min_size=1, max_size=5)


def flat(groups: list[list[float]]) -> tuple[Tensor, Tensor]:
    index = [g for g, members in enumerate(groups) for _ in members]
    return torch.tensor([h for members in groups for h in members], dtype=torch.float64), torch.tensor(index)


def run(entropy: Tensor, group: Tensor, **options: object) -> Modulation:
    advantages = torch.linspace(-2, 3, len(entropy), dtype=entropy.dtype)
    return modulate(advantages, entropy, group, **options)  # type: ignore[arg-type]


@given(groups_of_entropies, st.floats(0, 5), st.sampled_from(["normal", "reversed"]), st.booleans())
def test_mean_alpha_is_one_and_signs_stay(groups, lam: float, direction: str, shuffle: bool) -> None:
    entropy, group = flat(groups)
    got = run(entropy, group, lam=lam, direction=direction, shuffle=shuffle, generator=seeded())
    for g in range(len(groups)):
        assert_close(got.alpha[group == g].mean(), torch.ones((), dtype=torch.float64), atol=1e-12, rtol=0)
    assert (got.alpha > 0).all()
    advantages = torch.linspace(-2, 3, len(entropy), dtype=entropy.dtype)
    assert torch.equal(got.advantages.sign(), advantages.sign())


@given(groups_of_entropies, st.floats(-3, 3), st.randoms(use_true_random=False))
def test_invariances(groups, shift: float, random) -> None:
    """A constant added to a group's entropies, and the order of responses, change nothing; α falls with entropy."""
    groups = [[round(h, 3) for h in members] for members in groups]
    entropy, group = flat(groups)
    alpha = run(entropy, group, range_guard=0.1005).alpha
    shifted = run(entropy + shift * (group + 1), group, range_guard=0.1005).alpha
    assert_close(shifted, alpha, atol=1e-9, rtol=0)
    order = torch.tensor(random.sample(range(len(entropy)), len(entropy)))
    assert_close(run(entropy[order], group[order], range_guard=0.1005).alpha, alpha[order], atol=1e-12, rtol=0)
    for g in range(len(groups)):
        rank = entropy[group == g].argsort(stable=True)
        assert (alpha[group == g][rank].diff() <= 1e-12).all()


@given(groups_of_entropies, st.integers(0, 4))
def test_groups_do_not_feel_each_other(groups, victim: int) -> None:
    entropy, group = flat(groups)
    changed = entropy.where(group != victim, entropy * 3 + 1)
    others = group != victim
    assert torch.equal(run(entropy, group).alpha[others], run(changed, group).alpha[others])


def test_imports_torch_and_nothing_of_the_suites_other_rooms() -> None:
    code = """
import sys, trainer.aem
loaded = {"gymnasium", "transformers", "aem_envs", "aem_agent", "envs_data"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
