"""The entropy drift of an update, predicted and measured: by hand, on a policy that can be enumerated, in the loop."""

import math
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parent))
from helpers import figures, quick, quiet, run

from trainer import loop
from trainer.batch import Batch
from trainer.config import TrainConfig
from trainer.drift import chosen, entropy_drift, measured_drift, places, predicted_drift
from trainer.runs import new_run

SPANS = torch.tensor([4, 4, 1])
"""Two responses, of two tokens and of one; the numbers between are of responses that were not chosen."""


def test_predicted_drift_by_hand() -> None:
    logprobs, entropies = -torch.tensor([2.0, 0.5, 1.0]), torch.tensor([1.0, 1.0, 0.25])
    advantages, weights = torch.tensor([2.0, 2.0, -1.0]), torch.tensor([0.1, 0.1, 0.3])
    # 2·(2.5 − 2) = 1 with weight 0.1, and −1·(1 − 0.25) = −0.75 with 0.3
    expected = torch.tensor((0.1 * 1 - 0.3 * 0.75) / 0.4)
    assert_close(predicted_drift(logprobs, entropies, advantages, weights, SPANS, 5), expected)
    none = predicted_drift(logprobs, entropies, advantages, torch.zeros(3), SPANS, 5)
    assert_close(none, torch.tensor(0.0))


def test_places_begin_anew_with_each_response() -> None:
    assert places(torch.tensor([7, 7, 7, 0, 2, 2])).tolist() == [0, 1, 2, 0, 0, 1]
    assert places(torch.tensor([], dtype=torch.int64)).tolist() == []


def test_measured_drift_by_hand() -> None:
    old, new = torch.tensor([-2.0, -0.5, -1.0]), torch.tensor([-2.0 + math.log(1.5), -9.0, -3.0])
    before, after = torch.tensor([1.0, 1.0, 0.5]), torch.tensor([1.25, 2.0, 0.25])
    weights = torch.tensor([0.1, 0.1, 0.3])
    # First tokens have ratio 1. Where the first response says its second one, the other has ended, e⁻² as likely
    for cap, ratio in ((10.0, 1.5), (1.2, 1.2)):
        first = (0.1 * 1.25 + 0.3 * 0.25) / 0.4
        second = 0.1 * ratio * 2 / (0.1 * ratio + 0.3 * math.exp(-2))
        expected = torch.tensor(first + second - (0.1 * 2 + 0.3 * 0.5) / 0.4)
        assert_close(measured_drift(old, before, new, after, weights, SPANS, 5, cap=cap), expected)
    assert_close(measured_drift(old, before, new, after, torch.zeros(3), SPANS, 5), torch.tensor(0.0))


def test_what_is_punished_throughout_does_not_make_entropy_seem_to_fall() -> None:
    """All responses half as likely after their first token, and each token's entropy as it was: nothing has moved."""
    old, entropies = torch.full((4,), -1.0), torch.full((4,), 0.7)
    new = old - math.log(2) * torch.tensor([1.0, 0, 1, 0])
    spans = torch.tensor([0, 0, 1, 1])
    assert_close(measured_drift(old, entropies, new, entropies, torch.ones(4), spans, 2), torch.tensor(0.0))


VOCABULARY, LENGTH, END = 3, 3, 0
RESPONSES = sorted(
    {s[: s.index(END) + 1] if END in s else s for s in product(range(VOCABULARY), repeat=LENGTH)}  # 15 of them
)
PREFIXES = sorted({r[:k] for r in RESPONSES for k in range(len(r))})

Policy = dict[tuple[int, ...], Tensor]
"""The distribution of the next token after every prefix, float64."""


def of_tokens(policy: Policy) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of the tokens of all responses, response after response."""
    rows = [(policy[r[:k]], r[k]) for r in RESPONSES for k in range(len(r))]
    entropies = torch.stack([-(p * p.log()).sum() for p, _ in rows])
    return torch.stack([p.log()[token] for p, token in rows]), entropies


@pytest.mark.parametrize("length", [1, LENGTH])
def test_drift_of_a_natural_gradient_step(length: int) -> None:
    """Every response, weighted by its probability as many samples would be, after one small natural-gradient step:
    measured is the true change of H_resp, Cov(A, S) per step; at the same prefixes it is as predicted. With responses
    of one token there is but one prefix, and all three are the same."""
    generator = torch.Generator().manual_seed(3)
    policy = {p: (torch.randn(VOCABULARY, generator=generator, dtype=torch.float64)).softmax(0) for p in PREFIXES}
    if length == 1:  # after any first token but END only END follows: no entropy is left
        sure = torch.tensor([1 - 2e-15, 1e-15, 1e-15], dtype=torch.float64)
        policy |= {p: sure for p in PREFIXES if p}
    spans = torch.tensor([i for i, r in enumerate(RESPONSES) for _ in r])
    n = len(RESPONSES)
    logprobs, entropies = of_tokens(policy)
    surprisal = torch.zeros(n, dtype=torch.float64).index_add(0, spans, -logprobs)
    probability = (-surprisal).exp()
    advantage = torch.randn(n, generator=generator, dtype=torch.float64)

    step = 1e-6
    moved: Policy = {}
    for prefix, p in policy.items():  # dπ(b | prefix) = π·(mean A of what goes on with b − mean A of what goes on)
        below = [torch.tensor([r[: len(prefix) + 1] == (*prefix, b) for r in RESPONSES]) for b in range(VOCABULARY)]
        mean = torch.stack([(probability[m] @ advantage[m]) / probability[m].sum() for m in below])
        moved[prefix] = p * (1 + step * (mean - p @ mean))
    new_logprobs, new_entropies = of_tokens(moved)

    given = (logprobs, entropies)
    weights = probability[spans]
    predicted = predicted_drift(*given, advantage[spans], weights, spans, n)
    measured = measured_drift(*given, new_logprobs, new_entropies, weights, spans, n)
    same = measured_drift(*given, logprobs, new_entropies, weights, spans, n)

    entropy = probability @ surprisal
    new_surprisal = torch.zeros(n, dtype=torch.float64).index_add(0, spans, -new_logprobs)
    assert_close(measured, (-new_surprisal).exp() @ new_surprisal - entropy, atol=1e-14, rtol=0)
    covariance = probability @ (advantage * (surprisal - entropy))
    assert_close(measured / step, covariance, rtol=1e-4, atol=1e-6)
    assert_close(same / step, predicted, rtol=1e-4, atol=1e-6)
    if length == 1:
        assert_close(predicted, covariance, rtol=1e-6, atol=1e-6)
    else:
        assert abs(predicted - covariance) > 0.01  # what early tokens decide of the later ones' entropy


def batch_of(responses_per_sequence: list[int]) -> Batch:
    """Sequences with a prompt of one token and so many responses of one token each."""
    sequence = torch.tensor([s for s, count in enumerate(responses_per_sequence) for _ in range(count)])
    starts = torch.tensor([0, *(1 + count for count in responses_per_sequence)]).cumsum(0)
    total = int(starts[-1])
    targets = torch.tensor([i for i in range(total) if i not in starts.tolist()])
    spans, zeros = torch.arange(len(sequence)), torch.zeros(len(sequence), dtype=torch.int64)
    return Batch(torch.zeros(total, dtype=torch.int64), starts, targets, spans, sequence, zeros, zeros)


@pytest.mark.parametrize(("count", "most"), [(0, 0), (1, 5), (4, 5), (5, 7), (7, 7), (8, 9), (1000, 9)])
def test_whole_sequences_are_drawn_for_a_number_of_responses(count: int, most: int) -> None:
    """Three sequences of three responses on average: one for 4 of them, two for 5."""
    batch = batch_of([2, 5, 2, 2])
    keep = torch.tensor([True] * 9 + [False] * 2)  # nothing of the last sequence takes part
    seen, reached = set(), set()
    for seed in range(40):
        drawn = chosen(batch, keep, count, torch.Generator().manual_seed(seed))
        assert drawn.equal(chosen(batch, keep, count, torch.Generator().manual_seed(seed)))
        assert 3 not in drawn
        reached.add(sum([2, 5, 2][s] for s in drawn.tolist()))
        seen.add(tuple(sorted(drawn.tolist())))
    assert max(reached) == most
    assert (len(seen) > 1) == (0 < count < 8) and all(seen) == (count > 0)


def test_long_episodes_are_drawn_as_often_as_short_ones() -> None:
    """Of eight short and eight long episodes, for 64 responses: each is one of the four drawn (64 · 16 sequences / 288
    responses, rounded) in a quarter of the steps, so half of those drawn are long."""
    batch = batch_of([6] * 8 + [30] * 8)
    keep = torch.ones(288, dtype=torch.bool)
    drawn = [chosen(batch, keep, 64, torch.Generator().manual_seed(seed)) for seed in range(500)]
    assert {len(sequences) for sequences in drawn} == {4}
    long = sum(int((sequences >= 8).sum()) for sequences in drawn)
    assert abs(long - 1000) < 3.3 * math.sqrt(500 * 4 / 4 * 12 / 15)  # hypergeometric: 4 of 16 without replacement


def test_nothing_is_computed_where_nothing_is_asked_for() -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("a forward pass was made")

    class Kept:
        keep = torch.ones(9, dtype=torch.bool)

    nobody: Any = Kept()
    config = quick("metrics.drift_responses=0")
    assert entropy_drift(refuse, batch_of([2, 5, 2]), nobody, nobody, config, torch.Generator()) == {}  # type: ignore[arg-type]
    nobody.keep = torch.zeros(9, dtype=torch.bool)
    assert entropy_drift(refuse, batch_of([2, 5, 2]), nobody, nobody, quick(), torch.Generator()) == {}  # type: ignore[arg-type]


MIXED = ("rollout.tasks=4", "rollout.group_size=4", "algorithm.invalid_penalty=1.0", "aem.range_guard=0")


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("model.prompt=plain-full", "rollout.whole_episodes=true", "optimiser.micro_tokens=200"),
        ("model.prompt=plain-full", "rollout.whole_episodes=true", "algorithm.normaliser=all"),
        ("algorithm.mismatch=truncate",),
    ],
    ids=["turns", "episodes", "some left out", "tokens weighed"],
)
def test_the_loop_logs_the_drift_of_its_update(
    settings: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All figures again from plain sums over the responses that took part, with the weights as they are after."""
    seen: list[Any] = []

    def recorded(policy: Any, batch: Any, scores: Any, plan: Any, config: TrainConfig, generator: Any) -> Any:
        if config.algorithm.normaliser == "all":  # then those left out have weights too
            plan = replace(plan, keep=plan.keep & (torch.arange(batch.n_responses) % 3 > 0))
        if scores.importance is not None:  # all 1 here, as the engine has the trainer's own weights
            scores = replace(scores, importance=(torch.arange(len(batch.targets)) % 3) / 2)
        seen[:] = [batch, scores, plan]
        return entropy_drift(policy, batch, scores, plan, config, generator)

    monkeypatch.setattr(loop, "entropy_drift", recorded)
    config = quick(*MIXED, "metrics.drift_responses=10000", *settings)
    with new_run(config, tmp_path / "run", quiet()) as session:
        metrics = loop.rl_step(session, 0)
        batch, scores, plan = seen
        with torch.no_grad():
            said = session.learner.policy(batch, config.rollout.temperature)
        assert session.clock.seconds["drift"] > 0
    assert plan.keep.any()
    total = predicted = before = same = 0.0
    rows: list[tuple[float, list[float], list[float]]] = []
    for i in range(batch.n_responses):
        if not plan.keep[i]:
            continue
        at = (batch.span_index == i).nonzero().squeeze(1).tolist()
        weight = float(plan.weights[at[0]])
        gain = [float(said.logprobs[k] - scores.logprobs[k]) for k in at]
        ratios = [min(10.0, math.exp(sum(gain[:k]))) for k in range(len(at) + 1)]
        rows.append((weight, ratios, [float(said.entropies[k]) for k in at]))
        total += weight
        applied = plan.advantages if scores.importance is None else plan.advantages * scores.importance
        predicted += weight * sum(float(applied[k] * (-scores.logprobs[k] - scores.entropies[k])) for k in at)
        before += weight * sum(float(scores.entropies[k]) for k in at)
        same += weight * sum(float(said.entropies[k] - scores.entropies[k]) for k in at)
    after = 0.0
    for k in range(max(len(entropies) for _, _, entropies in rows)):
        share = [weight * ratios[min(k, len(ratios) - 1)] for weight, ratios, _ in rows]
        after += sum(w * h[k] for w, (_, _, h) in zip(share, rows) if k < len(h)) / sum(share)
    measured = after * total - before
    assert metrics["entropy_drift_predicted"] == pytest.approx(predicted / total, rel=1e-3, abs=1e-5)
    assert metrics["entropy_drift_measured"] == pytest.approx(measured / total, rel=1e-3, abs=1e-5)
    assert metrics["entropy_drift_same_prefixes"] == pytest.approx(same / total, rel=1e-3, abs=1e-5)
    assert abs(measured) > 1e-4 and measured != pytest.approx(same, rel=1e-3)


def test_measuring_changes_nothing_else(tmp_path: Path) -> None:
    records = []
    for responses in (0, 8):
        path = tmp_path / str(responses)
        run(quick(*MIXED, "steps=2", f"metrics.drift_responses={responses}"), path)
        records.append(figures(path, ("rl",)))
    without, measured = records
    names = {name for r in measured for name in r if name.startswith("entropy_drift_")}
    assert names == {"entropy_drift_predicted", "entropy_drift_measured", "entropy_drift_same_prefixes"}
    assert not any(name in r for r in without for name in names)
    assert [{k: v for k, v in r.items() if k not in names} for r in measured] == without
