"""Dr. GRPO, REINFORCE++, GiGPO and EMPG against tables worked out by hand."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parent))
from test_batch import episode, group, turn

from aem_agent.types import Turn
from trainer import scoring
from trainer.advantages import Signals, estimators
from trainer.advantages.empg import empg, entropy_modulated
from trainer.advantages.gigpo import gigpo, number_anchors
from trainer.advantages.reinforce_pp import reinforce_pp
from trainer.batch import build
from trainer.scoring import Scores
from trainer.tensors import whiten


def signals(**changes: Tensor | int | None) -> Signals:
    """One task, three episodes of 2, 1 and 2 turns; turns of 2, 1, 1, 1 and 2 tokens; the first and the last are won.

    Turns 0, 2 and 3 begin in one state, turns 1 and 4 each in one of their own.
    """
    base = {
        "returns": torch.tensor([8.0, 0.0, 4.0]),
        "rewards": torch.tensor([0.0, 8.0, 0.0, 0.0, 4.0]),
        "episode_index": torch.tensor([0, 0, 1, 2, 2]),
        "group_of_episode": torch.tensor([0, 0, 0]),
        "n_groups": 1,
        "terminated": torch.tensor([True, False, True]),
        "span_index": torch.tensor([0, 0, 1, 2, 3, 4, 4]),
        "anchor_index": torch.tensor([0, 1, 0, 0, 2]),
        "uncertainty": torch.tensor([1.0, 3.0, 2.0, 1.0, 2.0]),
        "reference_kl": torch.tensor([1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0]),
    }
    return Signals(**(base | changes))  # type: ignore[arg-type]


def test_dr_grpo_centres_and_no_more() -> None:
    got = estimators.get("dr_grpo")(signals())
    assert_close(got.values, torch.tensor([4.0, 4.0, -4.0, 0.0, 0.0]))
    assert (got.per, got.targets) == ("response", None)


def test_reinforce_pp_by_hand() -> None:
    # r per token, each turn's with its last: 0 0 8 | 0 | 0 0 4; γ ½: 2 4 8 | 0 | 1 2 4
    plain = reinforce_pp(signals(), gamma=0.5, whitened=False)
    assert_close(plain.values, torch.tensor([2.0, 4.0, 8.0, 0.0, 1.0, 2.0, 4.0]))
    assert plain.per == "token"
    # less ½·KL: −½ 0 8 | −1 | 0 0 3½; γ 1: 7½ 8 8 | −1 | 3½ 3½ 3½. A penalty reaches earlier tokens, never later ones
    taxed = reinforce_pp(signals(), kl_coefficient=0.5, whitened=False)
    assert_close(taxed.values, torch.tensor([7.5, 8.0, 8.0, -1.0, 3.5, 3.5, 3.5]))


def test_a_turns_reward_arrives_with_its_last_token() -> None:
    # r 0 2 6 | 0 | 3 0 1
    got = reinforce_pp(signals(rewards=torch.tensor([2.0, 6.0, 0.0, 3.0, 1.0])), gamma=0.5, whitened=False)
    assert_close(got.values, torch.tensor([2.5, 5.0, 6.0, 0.0, 3.25, 0.5, 1.0]))


def test_reinforce_pp_is_whitened_over_the_tokens_of_the_batch() -> None:
    plain, white = reinforce_pp(signals(), whitened=False).values, reinforce_pp(signals()).values
    assert_close(white, whiten(plain))
    assert_close(white.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(white.std(), torch.tensor(1.0))


def test_reinforce_pp_of_equal_returns_is_exactly_zero() -> None:
    rewards = torch.tensor([0.0, 0.1, 0.1, 0.0, 0.1])
    assert reinforce_pp(signals(rewards=rewards)).values.tolist() == [0.0] * 7


def test_reinforce_pp_needs_a_reference_for_its_penalty() -> None:
    with pytest.raises(ValueError, match="reference_kl"):
        reinforce_pp(signals(reference_kl=None), kl_coefficient=0.1)
    assert reinforce_pp(signals(reference_kl=None)).values.isfinite().all()


def test_gigpo_by_hand() -> None:
    # Episodes: 8, 0, 4 less 4. To go with γ ½: 4 8 | 0 | 2 4. State 0 holds 4, 0, 2: mean 2; the others one turn each.
    got = gigpo(signals(), gamma=0.5, step_weight=2.0, normalise=False)
    assert_close(got.values, torch.tensor([4.0 + 2 * 2, 4.0, -4.0 - 2 * 2, 0.0, 0.0]))
    assert (got.per, got.targets) == ("response", None)
    # stds (ddof 1): of the episodes 4, of the state 2
    scaled = gigpo(signals(), gamma=0.5)
    assert_close(scaled.values, torch.tensor([1.0 + 1, 1.0, -1.0 - 1, 0.0, 0.0]), atol=1e-5, rtol=0)
    floored = gigpo(signals(), gamma=0.5, std_floor=8.0)
    assert_close(floored.values, torch.tensor([0.5 + 0.25, 0.5, -0.5 - 0.25, 0.0, 0.0]), atol=1e-5, rtol=0)


def test_gigpo_without_equal_states_is_grpo() -> None:
    alone = gigpo(signals(anchor_index=torch.arange(5)))
    assert torch.equal(alone.values, estimators.get("grpo")(signals()).values)
    with pytest.raises(ValueError, match="anchor_index"):
        gigpo(signals(anchor_index=None))


def test_gigpo_discounts_by_five_per_cent_and_weighs_steps_fully() -> None:
    # To go: 7.6 8 | 0 | 3.8 4; state 0: 7.6, 0, 3.8, mean 3.8
    got = gigpo(signals(), normalise=False)
    assert_close(got.values, torch.tensor([4.0 + 3.8, 4.0, -4.0 - 3.8, 0.0, 0.0]))


def test_anchors_are_numbered_within_groups_and_empty_ones_are_like_no_other() -> None:
    anchors, groups = ("a", "b", "a", "", "a", "", "b"), (0, 0, 0, 0, 1, 0, 0)
    assert number_anchors(anchors, groups) == [0, 1, 0, 2, 3, 4, 1]
    assert number_anchors((), ()) == []


def test_a_turn_taken_again_in_the_first_state_is_compared_with_first_turns() -> None:
    """One episode's first action changes nothing; it then goes on and wins. The other goes on at once and fails."""

    def began(t: Turn, after: str) -> Turn:
        return replace(t, info={"anchor": after})

    won = episode(began(turn([1], [2]), "s0"), began(turn([1], [2]), "s1"), began(turn([1], [2], reward=10), "end"))
    lost = episode(began(turn([1], [2]), "s1"), began(turn([1], [2]), "end"))
    played = [replace(won, start_anchor="s0", return_=10.0), replace(lost, start_anchor="s0")]
    batch, outcomes = build([group(*played)])
    assert outcomes.anchors == ("s0", "s0", "s1", "s0", "s1")
    seen = scoring.signals(batch, outcomes, Scores(torch.zeros(5), torch.zeros(5)))
    # Episodes: ±5. State s0 holds 10, 10 and 0, of mean 20/3; s1 holds 10 and 0
    got = gigpo(seen, gamma=1.0, normalise=False).values
    assert_close(got, torch.tensor([5 + 10 / 3, 5 + 10 / 3, 5.0 + 5, -5 - 20 / 3, -5.0 - 5]))


def test_empg_by_hand() -> None:
    # H̃ 0 1 ½ 0 ½; g ∝ 1 e⁻¹ e^−½ 1 e^−½; bonus from the next turn of the episode: e⁻¹ – – e^−½ –
    e1, half = math.exp(-1), math.exp(-0.5)
    mean = (2 + e1 + 2 * half) / 5
    advantages = torch.tensor([4.0, 4.0, -4.0, 0.0, 0.0])
    scaled = torch.tensor([4 / mean, 4 * e1 / mean, -4 * half / mean, 0.0, 0.0])
    before = scaled + 0.05 * torch.tensor([e1, 0.0, 0.0, half, 0.0])
    assert_close(empg(signals(), normalise=False).values, before - before.mean())
    episode, uncertainty = signals().episode_index, signals().uncertainty
    assert uncertainty is not None
    got = entropy_modulated(advantages, uncertainty, episode, strength=2.0, bonus_strength=0.0, bonus=1.0)
    scale = torch.tensor([1.0, e1**2, half**2, 1.0, half**2])
    expected = advantages * scale / scale.mean() + torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
    assert_close(got, expected - expected.mean())


def test_empg_of_equal_entropies_is_the_centred_baseline_and_the_bonus() -> None:
    got = empg(signals(uncertainty=torch.full((5,), 0.7)), normalise=False).values
    expected = torch.tensor([4.05, 4.0, -4.0, 0.05, 0.0])
    assert_close(got, expected - expected.mean())
    with pytest.raises(ValueError, match="uncertainty"):
        empg(signals(uncertainty=None))
