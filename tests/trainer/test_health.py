"""Alarms: each cause by hand, once in a run, and what a run does about them."""

import re
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
from helpers import assert_same, figures, quick, resume, run

from trainer.config import MetricsConfig
from trainer.errors import NonFiniteError
from trainer.finish import write_report
from trainer.health import AlarmError, new_alarms
from trainer.loop import train
from trainer.metrics import Record, read_records
from trainer.progress import Reporter
from trainer.runs import new_run

CONFIG = MetricsConfig(patience=3)


def steps(*records: dict[str, Any]) -> list[Record]:
    return [{"kind": "rl", "stage": 2, "step": n, **record} for n, record in enumerate(records, 1)]


def causes(*records: dict[str, Any]) -> list[str]:
    return [alarm.cause for alarm in new_alarms(steps(*records), CONFIG)]


@pytest.mark.parametrize(
    ("cause", "bad", "good"),
    [
        ("ratio", {"ratio_mean": 10.5}, {"ratio_mean": 9.5}),
        ("ratio", {"ratio_mean": 0.09}, {"ratio_mean": 0.11}),
        ("entropy", {"token_entropy": 0.009, "success_played": 0.2}, {"token_entropy": 0.011}),
        ("kl", {"kl_reference": 2.1}, {"kl_reference": 1.9}),
        ("invalid", {"invalid_rate": 0.96}, {"invalid_rate": 0.94}),
    ],
)
def test_a_cause_holds_over_patience_steps_in_a_row(cause: str, bad: dict[str, Any], good: dict[str, Any]) -> None:
    assert causes(bad, bad, bad) == [cause]
    assert causes(good, bad, bad, bad) == [cause]
    assert causes(bad, bad) == []
    assert causes(bad, good, bad, bad) == []
    assert causes(bad, bad, bad, good) == []
    missing = {"skipped": True}  # steps without the figure are passed over
    assert causes(bad, missing, bad, bad) == [cause]


def test_a_sure_policy_that_wins_has_not_collapsed() -> None:
    sure = {"token_entropy": 0.001}
    assert causes(*[sure | {"success_played": 0.95}] * 3) == []
    assert causes(*[sure | {"success_played": 0.85}] * 3) == ["entropy"]
    assert causes(*[sure | {"success": 0.85}] * 3) == ["entropy"]  # records of earlier versions


def test_gradients_are_compared_with_those_before() -> None:
    usual = [{"grad_norm": 0.4}, {"grad_norm": 0.6}] * 10  # median 0.5
    assert causes(*usual, *[{"grad_norm": 51.0}] * 3) == ["gradient"]
    assert causes(*usual, *[{"grad_norm": 49.0}] * 3) == []
    assert causes(*usual, {"grad_norm": 51.0}, {"grad_norm": 0.5}, {"grad_norm": 51.0}) == []
    assert causes(*usual[1:], *[{"grad_norm": 51.0}] * 3) == []


def test_steps_without_the_figure_do_not_hide_it() -> None:
    skipped = [{"skipped": True, "success_played": 1.0}]
    usual = [{"grad_norm": 0.5}] * 20
    assert causes(*usual[1:], *skipped, *usual[:1], *skipped * 3, *[{"grad_norm": 51.0}] * 3) == ["gradient"]
    bad = [{"ratio_mean": 11.0}, *skipped * 30]
    assert causes(*bad * 3) == ["ratio"]
    assert causes(*bad * 2) == []


@pytest.mark.parametrize(
    "empty", [{"skipped": True}, {"uniform_groups": 1.0, "positive_share": 0.0}, {"kept_share": 0}]
)
def test_nothing_to_learn_from_takes_longer(empty: dict[str, Any]) -> None:
    assert causes(*[empty | {"success_played": 0.0}] * 12) == ["nothing"]
    assert causes(*[empty | {"success_played": 0.0}] * 11) == []
    assert causes(*[empty | {"success_played": 1.0}] * 12) == []
    learnt = {"uniform_groups": 1.0, "positive_share": 0.3, "kept_share": 1.0}  # a critic needs no group
    assert causes(learnt, *[empty] * 11) == []


def test_a_cause_is_raised_once_and_others_still_are() -> None:
    bad = {"ratio_mean": 11.0, "invalid_rate": 1.0}
    first = new_alarms(steps(bad, bad, bad), CONFIG)
    assert [alarm.cause for alarm in first] == ["ratio", "invalid"]
    said: Record = {"kind": "alarm", "stage": 2, "step": 3, **first[0].record()}
    assert [a.cause for a in new_alarms([*steps(bad, bad, bad), said], CONFIG)] == ["invalid"]


def raised(path: Path, cause: str) -> list[int]:
    """The steps of the alarms with that cause: an untrained policy gives other causes too."""
    return [r["step"] for r in read_records(path / "metrics.jsonl") if r["kind"] == "alarm" and r["cause"] == cause]


def test_a_warning_is_said_once_written_down_and_in_the_report(tmp_path: Path) -> None:
    shown, path = StringIO(), tmp_path / "run"
    reporter = Reporter(Console(file=shown, force_terminal=False))
    with new_run(quick("metrics.entropy_floor=100", "metrics.patience=2"), path, reporter) as session:
        train(session)
    assert shown.getvalue().count("alarm at RL step 2: token entropy was below 100 nats in 2 steps") == 1
    assert raised(path, "entropy") == [2]
    assert "RL step 2: token entropy was below 100 nats" in (path / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "stage", "step", "words", "advice"),
    [
        (
            ("warmstart.lr=1e30", "warmstart.save_every=100"),
            0,
            4,
            "warm start step 4: loss became nan",
            "lower learning rate (warmstart.lr)",
        ),
        (
            ("warmstart.lr=1e30", "warmstart.steps=0", "warmstart.explore_steps=2"),
            1,
            2,
            "exploratory step 2: loss became nan",
            "lower learning rate (warmstart.lr)",
        ),
        (
            ("optimiser.lr=1e30", "optimiser.minibatch_responses=100"),
            2,
            2,
            "RL step 2: ",
            "model.path={}/warmstart warmstart.steps=0",
        ),
    ],
)
def test_what_is_not_finite_ends_a_run_as_an_alarm(
    settings: tuple[str, ...], stage: int, step: int, words: str, advice: str, tmp_path: Path
) -> None:
    path, advice = tmp_path / "run", advice.format(tmp_path / "run")
    with pytest.raises(NonFiniteError) as raised:
        run(quick(*settings, "algorithm.invalid_penalty=1.0"), path)
    assert str(raised.value).startswith(words) and advice in str(raised.value) and "resume" not in str(raised.value)
    alarms = [r for r in read_records(path / "metrics.jsonl") if r["kind"] == "alarm" and r["cause"] == "nan"]
    assert [(r["stage"], r["step"]) for r in alarms] == [(stage, step)]
    page = write_report(path).read_text()
    assert words in page and advice in page and "Alarms" in page
    with pytest.raises(NonFiniteError, match=words):  # as the advice has it
        resume(path)
    again = read_records(path / "metrics.jsonl")
    assert [r for r in again if r["kind"] == "alarm" and r["cause"] == "nan"] == alarms


def test_the_advice_can_be_followed(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="another run") as raised:
        run(quick("optimiser.lr=1e30", "algorithm.invalid_penalty=1.0"), tmp_path / "run")
    settings = re.findall(r"[a-z_]+\.[a-z_]+=\S+", str(raised.value))
    assert len(settings) == 3
    run(quick(*settings, "steps=1"), tmp_path / "again")
    first, second = (figures(tmp_path / name, ("evaluation",))[0] for name in ("run", "again"))
    assert {**first, "stage": 2} == second


def test_an_alarm_may_stop_a_run_which_then_goes_on_as_if_it_had_not(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    settings = ("metrics.entropy_floor=100", "metrics.patience=3", "metrics.alarm=stop")
    with pytest.raises(
        AlarmError, match=r"token entropy was below.*explores.*The run is saved: `aem-train resume .*run`"
    ):
        run(quick(*settings), path)
    assert sorted(p.name for p in (path / "checkpoints").iterdir())[-1] == "2-0000003"
    resume(path)
    assert_same(whole, path)
    assert raised(path, "entropy") == [3]
