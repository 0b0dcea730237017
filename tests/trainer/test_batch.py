"""The packed layout against the worked example of `trainer/batch.py`, selections, and minibatches."""

from dataclasses import replace

import pytest
import torch

from aem_agent.types import Episode, Response, RolloutGroup, TaskRef, Turn
from trainer.batch import BatchError, Packer, build
from trainer.minibatches import micro_batches, minibatches
from trainer.staleness import fresh_tokens


def turn(
    prompt: list[int], response: list[int], *, valid: bool = True, recorded: bool = True, reward: float = 0.0
) -> Turn:
    numbers = tuple(-0.1 * t for t in response) if recorded else None
    said = Response("x", tuple(response), numbers, tuple(0.1 * t for t in response) if recorded else None)
    return Turn(
        "seen", said, "do", tuple(prompt), action_valid=valid, reward=reward, info={"anchor": f"a{len(prompt)}"}
    )


def episode(*turns: Turn, won: bool = False, error: str | None = None) -> Episode:
    return Episode(
        "e",
        "task",
        "type",
        "train",
        0,
        0,
        turns,
        terminated=won,
        truncated=not won,
        error=error,
        return_=float(won),
        won=won,
    )


def group(*episodes: Episode) -> RolloutGroup:
    return RolloutGroup(TaskRef("e", "task", "train"), episodes)


EXAMPLE = group(episode(turn([1, 2], [7, 8]), turn([1, 2, 7, 8, 3], [9], valid=False, reward=1.0), won=True))


def test_rewards_may_be_the_environments_own_or_success_alone() -> None:
    partly = replace(episode(turn([1], [2]), turn([1, 2], [3], reward=0.5)), return_=0.5, score=0.5)
    whole = replace(episode(turn([1], [2], reward=0.25), turn([1, 2], [3], reward=0.75), won=True), score=1.0)
    _, native = build([group(partly, whole)], reward_scale=10)
    assert native.returns.tolist() == [5.0, 10.0] and native.rewards.tolist() == [0.0, 5.0, 2.5, 7.5]
    _, success = build([group(partly, whole)], reward_scale=10, rewards="success")
    assert success.returns.tolist() == [0.0, 10.0] and success.rewards.tolist() == [0.0, 0.0, 0.0, 10.0]
    assert native.scores.tolist() == success.scores.tolist() == [0.5, 1.0]


def test_step_wise_layout_is_the_worked_example() -> None:
    batch, outcomes = build([EXAMPLE], reward_scale=10)
    assert batch.tokens.tolist() == [1, 2, 7, 8, 1, 2, 7, 8, 3, 9]
    assert batch.cu_seqlens.tolist() == [0, 4, 10]
    assert batch.targets.tolist() == [2, 3, 9]
    assert batch.labels.tolist() == [7, 8, 9]
    assert batch.span_index.tolist() == [0, 0, 1]
    assert batch.sequence_index.tolist() == [0, 1]
    assert batch.prompt_ends.tolist() == [1, 8]
    assert batch.old_logprobs is not None and batch.old_logprobs.tolist() == pytest.approx([-0.7, -0.8, -0.9])
    assert batch.response_mask.nonzero().flatten().tolist() == [2, 3, 9]
    assert outcomes.returns.tolist() == [10.0]
    assert outcomes.rewards.tolist() == [0.0, 10.0]
    assert outcomes.invalid.tolist() == [False, True]
    assert outcomes.anchors == ("reset:task", "a2")


def test_whole_episode_layout_is_the_worked_example() -> None:
    batch, _ = build([EXAMPLE], whole_episodes=True)
    assert batch.tokens.tolist() == [1, 2, 7, 8, 3, 9]
    assert batch.cu_seqlens.tolist() == [0, 6]
    assert batch.targets.tolist() == [2, 3, 5]
    assert batch.span_index.tolist() == [0, 0, 1]
    assert batch.sequence_index.tolist() == [0, 0]
    assert batch.prompt_ends.tolist() == [1, 4]


def test_a_prompt_that_does_not_extend_starts_a_sequence() -> None:
    moved = group(episode(turn([1, 2], [7]), turn([2, 7, 3], [8])), episode(turn([2, 7, 3, 8, 4], [9])))
    batch, _ = build([moved], whole_episodes=True)
    assert batch.cu_seqlens.tolist() == [0, 3, 7, 13]
    assert batch.episode_index.tolist() == [0, 0, 1]


def test_selection_equals_the_batch_of_those_episodes() -> None:
    episodes = [episode(turn([i, 2], [7, i]), turn([i, 2, 7, i, 3, i], [9])) for i in range(10, 15)]
    for whole in (False, True):
        batch, _ = build([group(*episodes)], whole_episodes=whole)
        chosen = torch.tensor([3, 0])
        part = batch.select(chosen)
        parts = [batch.tokens[batch.cu_seqlens[s] : batch.cu_seqlens[s + 1]].tolist() for s in chosen]
        assert part.batch.tokens.tolist() == parts[0] + parts[1]
        assert part.batch.labels.tolist() == batch.labels[part.targets].tolist()
        assert part.batch.old_logprobs is not None and batch.old_logprobs is not None
        assert part.batch.old_logprobs.equal(batch.old_logprobs[part.targets])
        assert part.batch.episode_index.equal(batch.episode_index[part.responses])
        assert part.batch.select(torch.tensor([1])).batch.tokens.tolist() == parts[1]


def sampled_by(t: Turn, *versions: tuple[int, int]) -> Turn:
    return replace(t, response=replace(t.response, policy_versions=versions))


def test_a_response_is_as_old_as_its_oldest_token() -> None:
    spoken = turn([1], [2, 3]), turn([1, 2, 3, 4], [5, 6]), turn([9], [8])
    turns = [sampled_by(t, *v) for t, v in zip(spoken, (((0, 7),), ((0, 7), (1, 8)), ((0, 8),)))]
    for whole in (False, True):
        batch, _ = build([group(episode(*turns))], whole_episodes=whole)
        assert batch.versions is not None and batch.versions.tolist() == [7, 7, 8]
        assert batch.to("cpu").versions is not None
        part = batch.select(torch.arange(batch.n_sequences).flip(0))
        assert part.batch.versions is not None and part.batch.versions.equal(batch.versions[part.responses])
        fresh = fresh_tokens(batch, 8)
        assert fresh is not None and fresh.tolist() == [False, False, False, False, True]
    assert fresh_tokens(batch, None) is None
    assert fresh_tokens(build([group(episode(turns[2]))])[0], 8) is None, "all of them"
    packer = Packer()
    packer.prompt([1, 2], 0, join=False)
    packer.response([3], 0, 0)
    assert packer.batch().versions is None, "demonstrations have none"


def test_errored_episodes_and_missing_records() -> None:
    broken = episode(turn([1], [2]), error="X: y")
    batch, outcomes = build([group(broken, episode(turn([3], [4], recorded=False)))])
    assert batch.tokens.tolist() == [3, 4]
    assert batch.old_logprobs is None and batch.entropies is None
    assert len(outcomes.returns) == 1
    with pytest.raises(BatchError, match="no episode"):
        build([group(broken)])
    with pytest.raises(BatchError, match="token ids"):
        build([group(episode(turn([], [4])))])


def test_minibatches_cover_kept_sequences_once_in_steps_of_equal_size() -> None:
    batch, _ = build([group(*(episode(turn([1], [2]), turn([1, 2, 3], [4])) for _ in range(50)))])
    keep = torch.arange(100) % 4 != 0
    steps = minibatches(batch, keep, responses=30, generator=torch.Generator().manual_seed(1), max_tokens=20)
    assert [sum(len(micro) for micro in step) for step in steps] == [37, 38] or len(steps) in (2, 3)
    seen = torch.cat([micro for step in steps for micro in step])
    assert sorted(seen.tolist()) == keep.nonzero().flatten().tolist()
    sizes = [sum(len(micro) for micro in step) for step in steps]
    assert max(sizes) - min(sizes) <= 1
    lengths = batch.cu_seqlens.diff()
    assert all(lengths[micro].sum() <= 20 for step in steps for micro in step)
    again = minibatches(batch, keep, responses=30, generator=torch.Generator().manual_seed(1), max_tokens=20)
    assert all(a.equal(b) for x, y in zip(steps, again) for a, b in zip(x, y))
    assert minibatches(batch, torch.zeros(100, dtype=torch.bool), responses=30, generator=torch.Generator()) == []


def test_a_sequence_longer_than_the_budget_stays_whole() -> None:
    batch, _ = build([group(episode(turn([1] * 9, [2])), episode(turn([1], [2])))])
    assert [m.tolist() for m in micro_batches(batch, torch.tensor([0, 1]), 5)] == [[0], [1]]
