"""Advantage estimators against tables worked out by hand."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from aem_envs.plugins import UnknownPluginError
from trainer.advantages import Advantages, Signals, estimators, penalise_invalid
from trainer.advantages.grpo import group_advantages
from trainer.advantages.ppo import gae
from trainer.advantages.rloo import leave_one_out_advantages

NOTES = Path(__file__).resolve().parents[2] / "docs" / "algorithms.md"
NO_GROUPS = torch.zeros(2, dtype=torch.int64)


def signals(**changes: Tensor | int | None) -> Signals:
    """Two episodes of one task: the first terminates after two turns, the second is truncated after one."""
    base = {
        "returns": torch.tensor([10.0, 0.0]),
        "rewards": torch.tensor([0.0, 10.0, 0.0]),
        "episode_index": torch.tensor([0, 0, 1]),
        "group_of_episode": torch.tensor([0, 0]),
        "n_groups": 1,
        "terminated": torch.tensor([True, False]),
        "span_index": torch.tensor([0, 0, 1, 2]),
        "values": torch.tensor([4.0, 6.0, 2.0]),
        "final_values": torch.tensor([100.0, 3.0]),
    }
    return Signals(**(base | changes))  # type: ignore[arg-type]


def test_grpo_by_hand() -> None:
    # group 0: mean 4, deviations −4 −4 8, std (ddof 1) √48; group 1: mean 0.5, std √0.5
    returns, group = torch.tensor([0.0, 1.0, 0.0, 0.0, 12.0]), torch.tensor([0, 1, 0, 1, 0])
    root48, root_half = 48**0.5 + 1e-6, 0.5**0.5 + 1e-6
    expected = torch.tensor([-4 / root48, 0.5 / root_half, -4 / root48, -0.5 / root_half, 8 / root48])
    assert_close(group_advantages(returns, group), expected)
    assert_close(group_advantages(returns, group, n_groups=2), expected)
    centred = group_advantages(returns, group, normalise=False)
    assert_close(centred, torch.tensor([-4.0, 0.5, -4.0, -0.5, 8.0]))


def test_the_six_decimals_are_added_not_maximised() -> None:
    # deviations ±5e-7, std √2·5e-7: the 1e-6 is felt
    got = group_advantages(torch.tensor([0.0, 1e-6], dtype=torch.float64), NO_GROUPS)
    assert_close(got, torch.tensor([-1.0, 1.0], dtype=torch.float64) * 5e-7 / (0.5**0.5 * 1e-6 + 1e-6))


def test_std_floor_is_a_lower_bound() -> None:
    returns = torch.tensor([0.0, 0.5, 0.0, 10.0])
    group = torch.tensor([0, 0, 1, 1])
    got = group_advantages(returns, group, std_floor=1.0)
    assert_close(got[:2], torch.tensor([-0.25, 0.25]))  # floored
    assert_close(got[2:], torch.tensor([-1.0, 1.0]) / 2**0.5)  # std √50 is above the floor


def test_a_length_weighted_baseline_balances_the_tokens() -> None:
    # group 0: b = (2·10 + 6·0)/8 = 2.5, std √50 around the plain mean; group 1: equal returns
    returns, group = torch.tensor([10.0, 4.0, 0.0, 4.0]), torch.tensor([0, 1, 0, 1])
    lengths = torch.tensor([2.0, 5.0, 6.0, 1.0])
    assert_close(
        group_advantages(returns, group, lengths=lengths, normalise=False), torch.tensor([7.5, 0.0, -2.5, 0.0])
    )
    scaled = group_advantages(returns, group, lengths=lengths)
    assert_close(scaled, torch.tensor([7.5, 0.0, -2.5, 0.0]) / 50**0.5)
    assert_close((lengths * scaled).sum(), torch.tensor(0.0), atol=1e-6, rtol=0)
    # the estimator counts response tokens: episode 0 has three of them, episode 1 one; b = 7.5
    got = estimators.get("grpo")(signals(), baseline="length", normalise=False)  # type: ignore[call-arg]
    assert_close(got.values, torch.tensor([2.5, 2.5, -7.5]))


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.3, -7.7])
def test_equal_returns_give_exactly_zero(value: float) -> None:
    got = group_advantages(torch.full((7,), value), torch.zeros(7, dtype=torch.int64))
    assert got.tolist() == [0.0] * 7


def test_a_group_of_one_gives_zero() -> None:
    assert group_advantages(torch.tensor([10.0, 3.0, 5.0]), torch.tensor([0, 1, 1]))[0] == 0


def test_grpo_estimator_gives_every_response_its_episodes_advantage() -> None:
    got = estimators.get("grpo")(signals())
    assert_close(got.values, torch.tensor([1.0, 1.0, -1.0]) / 2**0.5, atol=1e-6, rtol=1e-5)
    assert (got.per, got.targets) == ("response", None)


def test_leave_one_out_by_hand() -> None:
    # group 0: 0, 0, 12 less the mean of the other two: −6, −6, 12; group 1: 1, 0 less the other; group 2: alone
    returns, group = torch.tensor([0.0, 1.0, 0.0, 0.0, 12.0, 7.0]), torch.tensor([0, 1, 0, 1, 0, 2])
    expected = torch.tensor([-6.0, 1.0, -6.0, -1.0, 12.0, 0.0])
    assert_close(leave_one_out_advantages(returns, group), expected)
    assert_close(leave_one_out_advantages(returns, group, n_groups=4), expected)  # a group that lost all its episodes
    assert leave_one_out_advantages(torch.full((7,), 0.1), torch.zeros(7, dtype=torch.int64)).tolist() == [0.0] * 7


def test_leave_one_out_estimator_gives_every_response_its_episodes_advantage() -> None:
    got = estimators.get("rloo")(signals())
    assert_close(got.values, torch.tensor([10.0, 10.0, -10.0]))
    assert (got.per, got.targets) == ("response", None)


def test_gae_by_hand() -> None:
    # γ = ½, λ = ½, decay ¼. Episode 0 (V 4, 6; r 0, 10; bootstrap 0): δ = 0 + 3 − 4, 10 − 6 = −1, 4; A = −1 + 1, 4.
    # Episode 1 (V 2; r 0; bootstrap 3): δ = 1.5 − 2 = −½.
    advantages, targets = gae(
        torch.tensor([0.0, 10.0, 0.0]),
        torch.tensor([4.0, 6.0, 2.0]),
        torch.tensor([0.0, 3.0]),
        torch.tensor([0, 0, 1]),
        gamma=0.5,
        lam=0.5,
    )
    assert_close(advantages, torch.tensor([0.0, 4.0, -0.5]))
    assert_close(targets, torch.tensor([4.0, 10.0, 1.5]))


def test_gae_limits() -> None:
    rewards, values = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.25, 0.125])
    bootstrap, one = torch.tensor([0.0]), torch.zeros(3, dtype=torch.int64)
    monte_carlo, _ = gae(rewards, values, bootstrap, one, gamma=1.0, lam=1.0)
    assert_close(monte_carlo, torch.tensor([6.0, 5.0, 3.0]) - values)
    _, one_step = gae(rewards, values, bootstrap, one, gamma=1.0, lam=0.0)
    assert_close(one_step, torch.tensor([1.25, 2.125, 3.0]))


def ppo(data: Signals, **options: object) -> Advantages:
    return estimators.get("ppo")(data, **options)  # type: ignore[call-arg]


def test_ppo_over_turns_bootstraps_only_the_truncated_episode() -> None:
    got = ppo(signals(), gamma=0.5, lam=0.5, whitened=False)
    assert_close(got.values, torch.tensor([0.0, 4.0, -0.5]))  # the terminated episode's final value of 100 is not used
    assert got.targets is not None
    assert_close(got.targets, torch.tensor([4.0, 10.0, 1.5]))
    assert got.per == "response"


@pytest.mark.parametrize("level", ["turn", "token"])
def test_ppo_counts_nothing_after_a_truncated_episode_that_ends(level: str) -> None:
    """As if it had terminated, and its last state's value were not known; the other episode is as it was."""
    values = torch.tensor([4.0, 6.0, 2.0]) if level == "turn" else torch.tensor([4.0, 5.0, 6.0, 2.0])
    options = {"level": level, "gamma": 0.5, "lam": 0.5, "whitened": False}
    got = ppo(signals(values=values, final_values=None), truncation_ends=True, **options)
    assert_close(got.values, ppo(signals(values=values, terminated=torch.tensor([True, True])), **options).values)
    assert got.values[-1] == -2 and got.targets is not None and got.targets[-1] == 0
    assert_close(got.values[:-1], ppo(signals(values=values), **options).values[:-1])


def test_ppo_over_tokens_by_hand() -> None:
    # Tokens: episode 0 has V 4, 5, 6 and r 0, 0, 10 (turn 0's reward 0 at token 1, turn 1's at token 2); γ = λ = ½:
    # δ = 2.5 − 4, 3 − 5, 10 − 6 = −1.5, −2, 4; A = −1.5 − 0.5 + 0.25, −2 + 1, 4. Episode 1: δ = 1.5 − 2.
    got = ppo(signals(values=torch.tensor([4.0, 5.0, 6.0, 2.0])), level="token", gamma=0.5, lam=0.5, whitened=False)
    assert_close(got.values, torch.tensor([-1.75, -1.0, 4.0, -0.5]))
    assert got.targets is not None
    assert_close(got.targets, torch.tensor([2.25, 4.0, 10.0, 1.5]))
    assert got.per == "token"


def test_a_turns_reward_arrives_with_its_last_token() -> None:
    rewarded = signals(values=torch.zeros(4), final_values=torch.zeros(2), rewards=torch.tensor([8.0, 0.0, 0.0]))
    got = ppo(rewarded, level="token", gamma=0.5, lam=1.0, whitened=False)
    assert_close(got.values, torch.tensor([4.0, 8.0, 0.0, 0.0]))


def test_ppo_whitens_advantages_but_not_targets() -> None:
    plain, white = ppo(signals(), whitened=False), ppo(signals())
    assert_close(white.values.mean(), torch.tensor(0.0))
    assert_close(white.values.std(), torch.tensor(1.0))
    assert_close(white.values, (plain.values - plain.values.mean()) / plain.values.std())
    assert torch.equal(white.targets, plain.targets)  # type: ignore[arg-type]


def test_ppo_refuses_missing_or_misplaced_values() -> None:
    with pytest.raises(ValueError, match="critic"):
        ppo(signals(values=None))
    with pytest.raises(ValueError, match="need 4 values, one per token, got 3"):
        ppo(signals(), level="token")


def test_penalty_is_subtracted_at_invalid_steps_only() -> None:
    advantages, invalid = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([False, True, True])
    assert_close(penalise_invalid(advantages, invalid, 0.25), torch.tensor([1.0, -1.25, -0.25]))
    per_token = penalise_invalid(torch.zeros(4), invalid, 0.5, span_index=torch.tensor([0, 0, 1, 2]))
    assert_close(per_token, torch.tensor([0.0, 0.0, -0.5, -0.5]))


def test_registry_names_what_it_knows() -> None:
    assert {"grpo", "ppo", "rloo"} <= set(estimators.names())
    with pytest.raises(UnknownPluginError, match="grpo"):
        estimators.get("gppo")


def test_the_estimator_of_the_notes_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", NOTES.read_text(encoding="utf-8"), flags=re.S)
    (tmp_path / "my_estimators.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    estimator = estimators.get("my_estimators:sign_of_return")
    got = estimator(signals(), scale=2.0)  # type: ignore[call-arg]
    assert got.values.tolist() == [2.0, 2.0, -2.0]
