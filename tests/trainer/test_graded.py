"""Runs on environments that give partial scores: shown beside success where they say more, and only there."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from aem_agent.report.evaluation import evaluation_page
from aem_agent.summary import summarize
from aem_agent.terminal import print_summary
from aem_agent.types import Episode, Response, RolloutGroup, TaskRef, Turn
from trainer.evaluation import Evaluation, evaluation_of
from trainer.progress import Reporter
from trainer.report import training_page


def episodes(scores: list[float]) -> list[Episode]:
    turns = (Turn("seen", Response("buy"), "buy"),)
    return [
        Episode("e", f"task {n}", "food", "dev", 0, 0, turns, terminated=True, won=score == 1, score=score,
                return_=score, data_hash="abc", engine="shop-9")
        for n, score in enumerate(scores)
    ]  # fmt: skip


def evaluation(scores: list[float]) -> Evaluation:
    return evaluation_of([RolloutGroup(TaskRef("e", "t", "dev"), tuple(episodes(scores)))], "dev", 0.0)


def shown(found: Evaluation) -> str:
    out = StringIO()
    reporter = Reporter(Console(file=out, width=120))
    reporter.evaluated("before", [found])
    record = found.summary()
    reporter.finished({"before": {"greedy": record}, "after": {"greedy": record}, "seconds": {}}, Path("run"))
    return out.getvalue()


def page(found: Evaluation) -> str:
    base = {"stage": 2, "step": 0, "kind": "evaluation", "when": "before"}
    rl = {"stage": 2, "step": 1, "kind": "rl", "success": 0.5, "score_mean": 0.6}
    return training_page("t", [{**base, **found.summary()}, rl], {}, {})


def test_an_evaluation_knows_its_score_data_and_engine() -> None:
    graded = evaluation([1.0, 0.5, 0.0])
    assert graded.score == 0.5 and graded.graded and graded.score_interval.low < 0.5 < graded.score_interval.high
    record = graded.summary()
    assert (record["mean_score"], record["engine"], record["data_hash"]) == (0.5, "shop-9", "abc")
    plain = evaluation([1.0, 0.0])
    assert not plain.graded and plain.score_interval == plain.interval


def test_scores_are_shown_where_they_say_more_than_success() -> None:
    graded, plain = evaluation([1.0, 0.5, 0.0]), evaluation([1.0, 0.0])
    assert "score 0.500" in shown(graded) and "mean score" in shown(graded) and "0.500 (" in shown(graded)
    assert "score" not in shown(plain)
    assert "mean score 0.500" in page(graded) and ">Mean score<" in page(graded)
    assert "ean score" not in page(plain)
    for found in (graded, plain):
        assert f"data {found.summary()['data_hash']} · shop-9" in page(found)


def test_episodes_lost_to_infrastructure_are_said_where_there_are_any() -> None:
    whole = evaluation([1.0, 0.0])
    lost = replace(whole, errors=3)
    assert "3 errors" in shown(lost) and "errors" not in shown(whole)
    assert ">errors<" in page(lost) and ">errors<" not in page(whole)
    assert lost.n == 2 and lost.success == whole.success


def test_evaluations_say_scores_with_intervals_data_and_engine() -> None:
    for scores, words in (([1.0, 0.5, 0.0], "score (95 %)"), ([1.0, 0.0], "score  ")):
        summary, out = summarize(episodes(scores), env_id="e", split="dev"), StringIO()
        print_summary(Console(file=out, width=120), summary, "model")
        assert words in out.getvalue() and f"data {summary.data_hash} · shop-9" in out.getvalue()
        html = evaluation_page(summary, {}, episodes(scores))
        assert f"data {summary.data_hash} · shop-9" in html
        assert (f"95 %: {summary.score_interval.low:.3f}" in html) == (0.5 in scores)
