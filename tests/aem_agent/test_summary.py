"""Summaries and comparisons of hand-made episodes."""

import json
from random import Random

import pytest

from aem_agent.comparison import NothingInCommonError, compare
from aem_agent.prices import Prices
from aem_agent.stats import wilson
from aem_agent.summary import data_hash, summarize
from aem_agent.types import Episode, Response, Turn


def episode(
    task: str,
    won: bool,
    *,
    repeat: int = 0,
    kind: str = "pick",
    steps: int = 2,
    error: str | None = None,
    **more: object,
) -> Episode:
    turns = tuple(Turn("see", Response("go", (1, 2, 3)), "go", prompt_token_ids=(1,) * 10) for _ in range(steps))
    fields = {
        "turns": turns,
        "terminated": won,
        "won": won,
        "return_": float(won),
        "score": float(won),
        "data_hash": task,
        **more,
    }
    return Episode("aem/Toy-v0", task, kind, "test", repeat, 0, error=error, **fields)  # type: ignore[arg-type]


def test_the_data_hash_is_the_one_that_all_tasks_share() -> None:
    shared = [episode(task, True, data_hash="0123456789abcdef") for task in "abc"]
    assert data_hash(shared) == "0123456789abcdef"
    other = data_hash([*shared, episode("d", True, data_hash="another")])
    assert len(other) == 16 and other not in ("0123456789abcdef", "another")
    assert data_hash(shared[:1]) != "0123456789abcdef", "one game's own hash says nothing of the others"


def test_summary_by_hand() -> None:
    bad = (
        Turn("see", Response("um"), "", format_valid=False, action_valid=False),
        Turn("see", Response("fly"), "fly", action_valid=False),
    )
    episodes = [
        episode("a", True, steps=4, seconds=1.5),
        episode("b", False, turns=bad, truncated=True, truncation_reason="max_steps", score=0.5, retries=1),
        episode("c", True, kind="heat"),
        episode("d", False, kind="heat", error="EngineError: connection refused: x", seconds=1.0),
    ]
    s = summarize(episodes, env_id="aem/Toy-v0", split="test", planned=6)
    assert (s.n, s.tasks, s.successes, s.errors, s.missing) == (3, 3, 2, 1, 2)
    assert s.success_rate == pytest.approx(2 / 3) and s.success_interval == pytest.approx(wilson(2, 3))
    assert s.mean_score == pytest.approx(2.5 / 3) and s.mean_return == pytest.approx(2 / 3)
    assert s.mean_steps == pytest.approx(8 / 3)
    assert s.invalid_action_rate == pytest.approx(2 / 8) and s.invalid_format_rate == pytest.approx(1 / 8)
    assert s.truncations == {"max_steps": 1} and s.error_types == {"EngineError": 1}
    assert (s.prompt_tokens, s.response_tokens, s.retries, s.seconds) == (60, 18, 1, 2.5)
    assert s.by_task_type["heat"].n == 1 and s.by_task_type["pick"].success_rate == 0.5
    assert s.pass_at_k == {"1": pytest.approx(2 / 3)}


def test_scores_between_lost_and_won_have_intervals_of_their_own() -> None:
    plain = summarize([episode(str(t), t < 5, repeat=r) for t in range(9) for r in range(3)], env_id="e", split="s")
    assert not plain.overall.graded and plain.score_interval == pytest.approx(plain.success_interval)
    shop = [episode(str(t), t < 3, score=1.0 if t < 3 else 0.5, engine=f"shop-{t % 2}") for t in range(9)]
    s = summarize(shop, env_id="e", split="s")
    assert s.overall.graded and s.by_task_type["pick"].graded and s.mean_score == pytest.approx(2 / 3)
    assert s.score_interval.low < 2 / 3 < s.score_interval.high
    assert s.score_interval.high - s.score_interval.low < s.success_interval.high - s.success_interval.low
    assert s.engine == "shop-0, shop-1"
    assert json.loads(json.dumps(s.to_json()))["score_interval"] == list(s.score_interval)


def test_errors_are_neither_success_nor_failure() -> None:
    good = [episode(str(i), i % 2 == 0) for i in range(10)]
    with_errors = good + [episode(f"e{i}", False, error="EngineError: x") for i in range(10)]
    clean, dirty = (summarize(e, env_id="e", split="s") for e in (good, with_errors))
    assert (clean.success_rate, clean.success_interval, clean.n) == (
        dirty.success_rate,
        dirty.success_interval,
        dirty.n,
    )
    assert dirty.errors == 10


def test_repeats_give_pass_at_k_and_clustered_intervals() -> None:
    episodes = [episode(str(t), t < 5, repeat=r) for t in range(10) for r in range(4)]
    s = summarize(episodes, env_id="e", split="s")
    assert s.success_interval == pytest.approx(wilson(5, 10))  # attempts agree: ten trials, not forty
    assert s.pass_at_k == {"1": 0.5, "2": 0.5, "4": 0.5}
    mixed = [episode("a", r == 0, repeat=r) for r in range(4)]
    assert summarize(mixed, env_id="e", split="s").pass_at_k == pytest.approx({"1": 0.25, "2": 0.5, "4": 1.0})


def test_summary_does_not_depend_on_order_and_is_json() -> None:
    episodes = [episode(str(t), t % 3 == 0, repeat=r, seconds=0.1 * t) for t in range(7) for r in range(2)]
    first = summarize(episodes, env_id="e", split="s")
    Random(1).shuffle(episodes)
    assert summarize(episodes, env_id="e", split="s") == first
    data = json.loads(json.dumps(first.to_json(), allow_nan=False))
    assert data["n"] == 14 and data["success_interval"] == list(first.success_interval)
    assert data["by_task_type"]["pick"]["success_interval"] == list(first.success_interval)


def test_nothing_completed_gives_no_rate() -> None:
    s = summarize([episode("a", False, error="X: y")], env_id="e", split="s", planned=1)
    assert s.success_rate is None and s.mean_return is None and s.success_interval == (0, 1) and s.pass_at_k == {}
    json.dumps(s.to_json(), allow_nan=False)


def test_compare_pairs_common_tasks() -> None:
    a = [episode(str(t), t < 2, kind="pick" if t % 2 else "heat") for t in range(8)] + [episode("only a", True)]
    b = [episode(str(t), t < 6, kind="pick" if t % 2 else "heat", steps=3) for t in range(8)]
    b += [episode("x", True), episode("only a", False, error="E: x")]
    c = compare(a, b)
    assert (c.tasks, c.only_a, c.only_b, c.other_data) == (8, 1, 1, 0)
    assert c.means["success"] == (0.25, 0.75)
    assert c.differences["success"].mean == pytest.approx(0.5) and c.differences["success"].interval.low > 0
    assert c.differences["steps"].interval == (1, 1)
    assert c.success_by_task_type["heat"][:3] == (4, 0.25, 0.75)
    assert json.loads(json.dumps(c.to_json()))["differences"]["success"]["difference"] == pytest.approx(0.5)
    assert compare(a, b) == c


def test_compare_sees_other_data_and_refuses_nothing_in_common() -> None:
    other = compare([episode("a", True)], [episode("a", True, data_hash="changed")])
    assert other.other_data == 1
    with pytest.raises(NothingInCommonError, match="same split"):
        compare([episode("a", True)], [episode("b", True)])


def told(*costs: float | None, usage: tuple[int, int] | None = (1000, 100), **more: object) -> Episode:
    """An episode of one turn per cost that its endpoint named, without token ids."""
    turns = tuple(Turn("see", Response("go", usage=usage, cost=cost), "go") for cost in costs)
    return episode("a", True, turns=turns, **more)  # type: ignore[arg-type]


def cost(*episodes: Episode, prices: Prices | None = None) -> float | None:
    s = summarize(episodes, env_id="e", split="s", prices=prices)
    json.dumps(s.to_json(), allow_nan=False)
    return s.cost


def test_costs_are_of_all_that_was_played_or_not_known() -> None:
    prices = Prices(1.0, 10.0)
    assert cost(told(0.5, 0.25)) == 0.75 and cost(told(0.5), prices=prices) == 0.5
    assert cost(told(0.5, None), prices=prices) == pytest.approx(0.5 + 0.002)
    assert cost(told(0.5), told(0.25, repeat=1, error="EngineError: x")) == 0.75, "errored episodes cost, too"
    assert cost(told(0.5), told(None, repeat=1)) is None, "a part is not all of it"
    assert cost(told(0.5), told(None, repeat=1, error="EngineError: x")) is None
    assert cost(told(None, usage=None), prices=prices) is None, "no usage does not mean no cost"
    assert cost(told(None, None), told(None, usage=None, repeat=1), prices=prices) is None
    assert cost(episode("a", True, steps=1), prices=prices) == pytest.approx(4e-5), "of ids, which can be counted"
    assert cost() is None and cost(told()) is None


@pytest.mark.parametrize("wild", [1e308, float("inf"), float("nan"), -1.0])
def test_costs_that_cannot_be_meant_are_not_known(wild: float) -> None:
    assert cost(told(wild, wild)) is None and cost(told(wild), told(0.5, repeat=1)) is None
    assert cost(told(wild), prices=Prices(1.0, 10.0)) == pytest.approx(0.002)
    assert cost(told(None, usage=(10**400, 1)), prices=Prices(1.0, 10.0)) is None
