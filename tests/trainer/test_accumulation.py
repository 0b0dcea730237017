"""An optimiser step cut into micro-batches: the gradient of one big batch for every loss, and budgets that are kept."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

import pytest
import torch
from gradients import Step, difference, make_learner, moved, one_step, planned, scored, stepped
from helpers import assert_same, quick, run
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_models import decoder, episodes
from torch import Tensor, nn
from torch.testing import assert_close

from aem_agent.model.interface import LanguageModel
from aem_agent.types import RolloutGroup
from trainer.batch import Batch, build
from trainer.config import TrainConfig
from trainer.learner import Learner
from trainer.minibatches import micro_batches
from trainer.scoring import Scores
from trainer.update import Plan

AGGREGATES = ("token_mean", "response_mean", "episode_mean", "constant")
EXTRAS = {
    "plain": (),
    "sequence": ("algorithm.ratio=sequence",),
    "kl": ("algorithm.kl_coefficient=0.1", "algorithm.kl_estimator=k2"),
    "bonus": ("algorithm.entropy_bonus=0.05",),
    "critic": ("algorithm.estimator=ppo", "algorithm.value_clip=0.05"),
    "token critic": ("algorithm.estimator=ppo", "algorithm.value_clip=0.05", "algorithm.gae_level=token"),
}


def groups() -> list[RolloutGroup]:
    """Three tasks, of which one was always won: its responses have advantage 0 and are skipped."""
    *varied, uniform = episodes(tasks=3)
    won = tuple(replace(e, terminated=True, truncated=False, return_=1.0, won=True) for e in uniform.episodes)
    return [*varied, replace(uniform, episodes=won)]


class Case(NamedTuple):
    """A batch and what an optimiser step needs; `whole` is the step in one piece."""

    batch: Batch
    config: TrainConfig
    learner: Learner
    scores: Scores
    plan: Plan
    whole: Step

    def cut(self, micro_tokens: int | None, seed: int = 0) -> Step:
        optimiser = replace(self.config.optimiser, micro_tokens=micro_tokens)
        return stepped(
            self.learner, self.batch, self.scores, self.plan, replace(self.config, optimiser=optimiser), seed
        )


@cache
def case(aggregate: str, normaliser: str, extra: str, whole_episodes: bool, exact: bool) -> Case:
    played = groups()
    batch, outcomes = build(played, whole_episodes=whole_episodes)
    settings = (f"algorithm.aggregate={aggregate}", f"algorithm.normaliser={normaliser}", *EXTRAS[extra])
    config, model = one_step(*settings), cast(LanguageModel, decoder(std=0.05))
    if exact:
        cast(nn.Module, model).double()
    learner = make_learner(model, config)
    prompts = [e.turns[-1].prompt_token_ids for group in played for e in group.episodes]
    scores = scored(learner, batch, config, prompts)
    plan, scores = planned(batch, outcomes, scores, config), moved(scores)
    return Case(batch, config, learner, scores, plan, stepped(learner, batch, scores, plan, config))


def longest(batch: Batch) -> int:
    return int(batch.cu_seqlens.diff().max())


@settings(max_examples=40)
@given(
    micro_tokens=st.integers(1, 900),
    seed=st.integers(0, 5),
    aggregate=st.sampled_from(AGGREGATES),
    normaliser=st.sampled_from(["kept", "all"]),
    extra=st.sampled_from(list(EXTRAS)),
    whole_episodes=st.booleans(),
    exact=st.booleans(),
)
@example(1, 0, "token_mean", "kept", "plain", False, False)
@example(1, 0, "response_mean", "all", "sequence", True, True)
@example(1, 0, "episode_mean", "kept", "token critic", True, False)
@example(1, 0, "constant", "all", "kl", False, True)
def test_gradients_of_micro_batches_add_up_to_those_of_one_batch(
    micro_tokens: int, seed: int, aggregate: str, normaliser: str, extra: str, whole_episodes: bool, exact: bool
) -> None:
    one = case(aggregate, normaliser, extra, whole_episodes, exact)
    many = one.cut(micro_tokens, seed)
    assert difference(many.gradients, one.whole.gradients) < 1e-6
    if one.whole.critic:
        assert difference(many.critic, one.whole.critic) < 1e-6
    assert many.metrics.keys() == one.whole.metrics.keys()
    for name in ("loss", "clip_fraction", "approx_kl", "ratio_mean", "grad_norm", "positive_mass", "negative_mass"):
        assert_close(many.metrics[name].double(), one.whole.metrics[name].double(), rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("extra", list(EXTRAS))
def test_each_part_of_the_objective_matters(extra: str) -> None:
    """That the comparison above sees it: without it the gradient is another one."""
    one = case("token_mean", "kept", extra, False, True)
    plain = case("token_mean", "kept", "plain", False, True)
    if extra != "plain":
        assert difference(one.whole.gradients, plain.whole.gradients) > 1e-3
    for aggregate in AGGREGATES[1:]:
        other = case(aggregate, "kept", extra, False, True)
        assert difference(other.whole.gradients, one.whole.gradients) > 1e-3
    if "critic" not in extra:
        kept = [bool(case("token_mean", n, extra, False, True).plan.keep.all()) for n in ("kept", "all")]
        everything = extra in ("kl", "bonus")
        assert kept == [everything] * 2  # what has advantage 0 has a KL term, or an entropy
        over_all = case("token_mean", "all", extra, False, True).whole.gradients
        assert everything or difference(over_all, one.whole.gradients) > 1e-3


@pytest.mark.parametrize("whole_episodes", [False, True])
@pytest.mark.parametrize("micro_tokens", [1, 40, 100, 300, None])
@pytest.mark.parametrize("extra", ["plain", "critic", "token critic"])
def test_budgets_are_honoured_and_the_head_sees_response_positions_only(
    whole_episodes: bool, micro_tokens: int | None, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = case("token_mean", "kept", extra, whole_episodes, False)
    model, sizes, rows = one.learner.model, list[tuple[int, int]](), 0
    inner = model.hidden

    def hidden(tokens: Tensor, cu_seqlens: Tensor, at: Tensor | None = None) -> Tensor:
        nonlocal rows
        sizes.append((len(tokens), len(cu_seqlens) - 1))
        assert at is not None
        rows += len(at)
        return inner(tokens, cu_seqlens, at)

    monkeypatch.setattr(model, "hidden", hidden)
    one.cut(micro_tokens)
    limit = micro_tokens or len(one.batch.tokens)
    assert all(tokens <= limit or sequences == 1 for tokens, sequences in sizes)
    kept = torch.bincount(one.batch.sequence_index[one.plan.keep], minlength=one.batch.n_sequences) > 0
    assert sum(tokens for tokens, _ in sizes) == int(one.batch.cu_seqlens.diff()[kept].sum())  # and none twice
    responses = kept[one.batch.sequence_index]
    said, turns = int(responses[one.batch.span_index].sum()), int(responses.sum())
    assert rows == said + {"plain": 0, "critic": turns, "token critic": said}[extra]
    if micro_tokens and micro_tokens > longest(one.batch):  # neighbours that fit together are together
        lengths = [tokens for tokens, _ in sizes]
        assert all(a + b > micro_tokens for a, b in pairwise(lengths))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 60))
def test_micro_batches_keep_order_lose_nothing_and_open_another_only_when_full(lengths: list[int], budget: int) -> None:
    cu = torch.tensor([0, *lengths]).cumsum(0)
    empty = torch.zeros(0, dtype=torch.long)
    batch = Batch(torch.zeros(int(cu[-1]), dtype=torch.long), cu, empty, empty, empty, empty, empty)
    parts = micro_batches(batch, torch.arange(len(lengths)), budget)
    assert torch.cat(parts).tolist() == list(range(len(lengths)))
    sums = [int(batch.cu_seqlens.diff()[part].sum()) for part in parts]
    assert all(len(part) and (total <= budget or len(part) == 1) for part, total in zip(parts, sums, strict=True))
    for part, total in zip(parts[1:], sums, strict=False):
        assert total + lengths[int(part[0])] > budget


def test_a_run_that_computes_activations_again_is_the_one_that_keeps_them_bit_for_bit(
    whole: Path, tmp_path: Path
) -> None:
    run(quick("scale.checkpoint_activations=true"), tmp_path / "again")
    assert_same(whole, tmp_path / "again")
