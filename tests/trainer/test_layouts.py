"""Step-wise and whole-episode samples of a policy whose prompt is the full history: the same log-probs, the same
gradient, less to compute; and a loss on response tokens only."""

from dataclasses import replace
from itertools import product
from typing import cast

import pytest
import torch
from gradients import difference, make_learner, moved, one_step, planned, scored, stepped
from tiny_models import KINDS, VOCABULARY, episodes, made
from torch import Tensor, nn
from torch.testing import assert_close

from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import LanguageModel
from trainer.aem import mean_token_entropy
from trainer.batch import Batch, build

GROUPS = episodes()
LAYOUTS = [build(GROUPS, whole_episodes=whole) for whole in (False, True)]
STEPS, WHOLE = (batch for batch, _ in LAYOUTS)
AGGREGATES = ("token_mean", "response_mean", "episode_mean", "constant")
RICH = ("algorithm.kl_coefficient=0.1", "algorithm.entropy_bonus=0.02", "algorithm.skip_zero=false")


def distinct(batch: Batch) -> set[tuple[int, ...]]:
    """The beginnings of all sequences: what must be computed of them."""
    found = batch.tokens.tensor_split(batch.cu_seqlens[1:-1])
    return {tuple(s[: i + 1].tolist()) for s in found for i in range(len(s))}


def test_both_layouts_hold_the_same_responses_and_the_second_each_beginning_once() -> None:
    assert torch.equal(STEPS.labels, WHOLE.labels) and torch.equal(STEPS.span_index, WHOLE.span_index)
    assert torch.equal(STEPS.episode_index, WHOLE.episode_index) and torch.equal(STEPS.group_index, WHOLE.group_index)
    played = [episode for group in GROUPS for episode in group.episodes]
    last = [len(e.turns[-1].prompt_token_ids) + len(e.turns[-1].response.token_ids) for e in played]
    assert STEPS.n_sequences == STEPS.n_responses > WHOLE.n_sequences == len(played)
    assert WHOLE.cu_seqlens.diff().tolist() == last and len(STEPS.tokens) > 1.5 * len(WHOLE.tokens)
    assert distinct(STEPS) == distinct(WHOLE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exact", [False, True], ids=["float32", "float64"])
def test_both_layouts_give_the_same_logprobs_and_gradient(kind: str, exact: bool) -> None:
    """For every aggregation, with AEM and without, KL and entropy bonus included."""
    model = made(kind)
    if exact:
        cast(nn.Module, model).double()
    learner = make_learner(model, one_step())
    one, two = (scored(learner, batch, one_step()) for batch in (STEPS, WHOLE))
    inside = (
        1e-12 if exact and not kind.startswith("llama") else 1e-5
    )  # Llama's norms and rotary positions are float32 ones always
    assert_close(two.logprobs, one.logprobs, rtol=0, atol=inside)
    assert_close(two.entropies, one.entropies, rtol=0, atol=inside)
    spread = mean_token_entropy(one.entropies, STEPS.span_index, STEPS.n_responses)
    assert one.logprobs.std() > 0.3 and spread.max() - spread.min() > 0.3  # AEM has something to do
    for aggregate, aem in product(AGGREGATES, ("true", "false")):
        config = one_step(f"algorithm.aggregate={aggregate}", f"aem.enabled={aem}", *RICH)
        steps = [
            stepped(learner, batch, moved(one), planned(batch, outcomes, one, config), config)
            for batch, outcomes in LAYOUTS
        ]
        # with exact gradients what is left is the sum of weights, which are float32
        assert difference(steps[1].gradients, steps[0].gradients) < (
            2e-7 if exact and not kind.startswith("llama") else 1e-5
        )
        for name in ("loss", "clip_fraction", "approx_kl", "ratio_mean", "grad_norm", "positive_mass"):
            found, want = (step.metrics[name].double() for step in reversed(steps))
            assert_close(found, want, rtol=1e-5, atol=1e-6, msg=name)
        assert 0 < steps[0].metrics["clip_fraction"] < 1


@pytest.mark.parametrize("level", ["turn", "token"])
def test_both_layouts_give_a_critic_the_same_gradient(level: str) -> None:
    config = one_step("algorithm.estimator=ppo", f"algorithm.gae_level={level}", "algorithm.value_clip=0.05")
    learner = make_learner(made("qwen3"), config)
    prompts = [e.turns[-1].prompt_token_ids for group in GROUPS for e in group.episodes]
    steps = []
    for batch, outcomes in LAYOUTS:
        scores = scored(learner, batch, config, prompts)
        steps.append(stepped(learner, batch, moved(scores), planned(batch, outcomes, scores, config), config))
    assert difference(steps[1].gradients, steps[0].gradients) < 1e-5
    assert difference(steps[1].critic, steps[0].critic) < 1e-5


@pytest.mark.parametrize("batch", [STEPS, WHOLE], ids=["steps", "whole"])
def test_shared_beginnings_are_computed_once(batch: Batch) -> None:
    """Layers see each beginning once in either layout; the last one carries on response positions only."""
    model = cast(Decoder, made("qwen3"))
    seen: list[int] = []
    model.blocks[0].qkv.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    model.blocks[-1].down.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    config = one_step()
    scored(make_learner(cast(LanguageModel, model), config), batch, config)
    assert seen == [len(distinct(batch)), len(batch.targets)]


def test_a_transformers_model_computes_far_fewer_places_of_whole_episodes() -> None:
    seen: list[int] = []
    for batch in (STEPS, WHOLE):
        model = made("llama")
        layer = cast(nn.Module, model).lm.model.layers[0].self_attn.q_proj  # type: ignore[union-attr]
        layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][..., 0].numel()))  # type: ignore[union-attr, operator]
        scored(make_learner(model, one_step()), batch, one_step())
    lengths = WHOLE.cu_seqlens.diff()
    assert seen[1] == len(lengths) * int(lengths.max()) and seen[0] > 1.5 * seen[1]


@pytest.mark.parametrize("kind", ["qwen3-tied", "llama"])
@pytest.mark.parametrize("number", [0, 1], ids=["steps", "whole"])
def test_what_follows_an_observation_token_is_no_label(kind: str, number: int) -> None:
    """The model reads the tokens as they are; all that the loss could take for labels is changed, but responses."""
    (batch, outcomes), model = LAYOUTS[number], made(kind)
    config = one_step(*RICH)
    inner, asked = model.hidden, []

    def hidden(tokens: Tensor, cu_seqlens: Tensor, at: Tensor | None = None) -> Tensor:
        asked.append(at)
        return inner(tokens % VOCABULARY, cu_seqlens, at)

    model.hidden = hidden  # type: ignore[method-assign]
    learner = make_learner(model, config)
    scores = scored(learner, batch, config)
    plan = planned(batch, outcomes, scores, config)
    want = stepped(learner, batch, moved(scores), plan, config)
    others = torch.where(batch.response_mask, batch.tokens, batch.tokens + VOCABULARY)  # no row of the head is that far
    assert (others != batch.tokens).any()
    found = stepped(learner, replace(batch, tokens=others), moved(scores), plan, config)
    assert all(map(torch.equal, found.gradients, want.gradients))
    assert all(at is not None and len(at) == len(batch.targets) for at in asked)  # nothing else meets the head
    said = batch.tokens.clone()
    said[batch.targets[0]] = said[batch.targets[0]] % (VOCABULARY - 1) + 1  # this is a label, and read as well
    assert (
        difference(stepped(learner, replace(batch, tokens=said), moved(scores), plan, config).gradients, want.gradients)
        > 1e-4
    )


def test_what_the_environment_says_after_the_last_response_of_an_episode_changes_nothing_before_it() -> None:
    """Causal: other observations change only log-probs of responses that come after one."""
    first = [i for i, t in enumerate(WHOLE.span_index.tolist()) if _is_first_turn(t)]
    config = one_step()
    learner = make_learner(made("qwen3"), config)
    other, _ = build(episodes(shift=5), whole_episodes=True)
    assert torch.equal(other.labels, WHOLE.labels) and not torch.equal(other.tokens, WHOLE.tokens)
    one, two = (scored(learner, batch, config).logprobs for batch in (WHOLE, other))
    changed = ((one - two).abs() > 1e-4).nonzero().flatten().tolist()
    assert changed and not set(changed) & set(first)


def _is_first_turn(response: int) -> bool:
    before = WHOLE.episode_index[:response]
    return int(WHOLE.episode_index[response]) not in before.tolist()
