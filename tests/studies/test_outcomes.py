"""What is made of rows of results: pairs, contrasts, corrections over all that was registered."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import report
import tables
from checks import check
from designs import PRIMARY, Arm, Study
from inside import inside
from outcomes import (
    Contrast,
    MixedResults,
    by_arm,
    contrasts,
    corrected,
    curves,
    endpoints,
    episodes_played,
    estimate,
    noticed,
)
from pages import study_text
from settings import fingerprint
from tables import Row

SMALL = Study(
    name="small",
    question="?",
    start="weak",
    arms={"off": Arm(), "aem": Arm(), "other": Arm()},
    contrasts=(("aem", "off"), ("other", "off")),
    seeds=(0, 1, 2, 3),
    temperatures=(1.0,),
    signs=(1, -1),
)
SUCCESS, HELD_OUT = endpoints(SMALL)[:2]


def row(arm: str, seed: int, success: float, won: str = "01", settings: str = "same") -> Row:
    values = {"success": success, "success_last_quarter": success}
    return {"arm": arm, "seed": str(seed), "settings": settings, "won_1": won, **{k: str(v) for k, v in values.items()}}


def test_endpoints_are_those_that_were_registered() -> None:
    assert [e.column for e in endpoints(PRIMARY)] == ["success", "heldout_1", "heldout_0.4", "success_last_quarter"]
    assert [e.won for e in endpoints(PRIMARY)] == [None, "won_1", "won_0.4", None]


def test_contrasts_use_common_seeds_only() -> None:
    rows = [row("off", 0, 0.1), row("off", 1, 0.2), row("off", 2, 0.9), row("aem", 0, 0.2), row("aem", 1, 0.5)]
    rows.append(row("aem", 3, 0.0))
    found, other = contrasts(SMALL, by_arm(SMALL, rows), SUCCESS)
    assert found.seeds == (0, 1) and found.difference is not None
    assert found.difference.mean == pytest.approx(0.2) and found.difference.interval is None  # of two seeds
    assert found.sd == pytest.approx(0.02**0.5) and found.p == 0.5
    assert other.seeds == () and other.difference is None and other.p is None
    alone = estimate(by_arm(SMALL, rows)["off"], SUCCESS)
    assert alone is not None and alone.mean == pytest.approx(0.4) and alone.interval is None
    assert estimate({}, SUCCESS) is None


def test_held_out_differences_are_paired_by_task() -> None:
    """Tasks that one of the two did not complete are left out of that pair: (1 − 0, 1 − 1) and (0 − 1)."""
    rows = [row("off", 0, 0, "010-"), row("aem", 0, 0, "11-1"), row("off", 1, 0, "1---"), row("aem", 1, 0, "0111")]
    (found, _) = contrasts(SMALL, by_arm(SMALL, rows), HELD_OUT)
    assert found.difference is not None and found.difference.mean == pytest.approx((0.5 - 1) / 2)
    assert found.sd == pytest.approx(1.5 / 2**0.5) and found.p == 1.0  # 0.5 and −1: no assignment is nearer to zero


def test_what_was_noticed_later_is_compared_and_not_tested() -> None:
    """In a column for each endpoint, a line for each pair: arm less baseline, and no part of any correction."""
    study = replace(SMALL, noticed=(("other", "aem"),))
    levels = {"off": 0.1, "aem": 0.2, "other": 0.5}
    arms = by_arm(study, [{**row(a, s, x), "episodes_played": "8"} for s in range(4) for a, x in levels.items()])
    (found,) = noticed(study, arms, SUCCESS)
    assert (found.arm, found.baseline) == ("other", "aem") and found.difference.mean == pytest.approx(0.3)
    assert [c.arm for c in contrasts(study, arms, SUCCESS)] == ["aem", "other"]
    page = study_text(study, arms, {}, {e: contrasts(study, arms, e) for e in endpoints(study)}, ["More."], [])
    assert "| `other` − `aem` | +30.0 | +0.0 | +30.0 |" in page.partition("Not registered")[2]
    assert page.endswith("More.")


def test_inside_training_shows_ends_and_means() -> None:
    """Entropy falls from 6 to 1, gradients are 1 and 3; AEM is off in one arm, and the third has not run."""
    steps = [
        {"arm": arm, "seed": str(seed), "step": str(t + 1), "grad_norm": str(1 + 2 * seed)}
        | {"token_entropy": str(6 - t // 5 * 5), "alpha_q50": "" if arm == "off" else "1.25", "negative_mass": "-0.5"}
        for arm in ("off", "aem")
        for seed in (0, 1)
        for t in range(10)
    ]
    note, lines = inside(SMALL, steps)
    head, _, off, aem = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines())
    assert "Σ w·A" in note and inside(SMALL, []) == []
    shown = dict(zip(head, zip(off, aem)))
    assert shown["arm"] == ("`off`", "`aem`") and "critic's value" not in shown
    valued = [row | ({"value_mean": "7"} if (row["arm"], row["seed"]) == ("aem", "1") else {}) for row in steps]
    assert [line.split("|")[-2].strip() for line in inside(SMALL, valued)[1].splitlines()[2:]] == ["–", "7.00 to 7.00"]
    assert shown["token entropy"] == ("6.00 to 1.00",) * 2
    assert shown["gradient norm"] == ("2.00",) * 2 and shown["of A < 0"] == ("−0.50",) * 2
    assert shown["median"] == ("–", "1.25") and shown["response entropy"] == ("–", "–")


def test_holm_counts_contrasts_that_have_not_run() -> None:
    rows = [row(arm, seed, (arm == "aem") * 0.1) for arm in ("off", "aem") for seed in SMALL.seeds]
    found = corrected(contrasts(SMALL, by_arm(SMALL, rows), SUCCESS))
    assert [c.p for c in found] == [2 / 16, None] and [c.p_corrected for c in found] == [4 / 16, None]
    assert found[0].to_json() == {
        "arm": "aem",
        "baseline": "off",
        "endpoint": "success",
        "n": 4,
        "seeds": [0, 1, 2, 3],
        "difference": 0.1,
        "low": None,
        "high": None,
        "p": 0.125,
        "p_corrected": 0.25,
        "sd": 0.0,
        "level": 0.025,
        "detectable_80": None,
        "predicted": 1,
        "holds": None,
    }


def judged(study: Study, gains: dict[str, Sequence[float]]) -> list[Contrast]:
    """Contrasts of runs whose success is above that of `off` by so much, seed by seed."""
    rows = [row(arm, s, 0.5 + gain) for arm, of in gains.items() for s, gain in enumerate(of)]
    rows += [row("off", seed, 0.5) for seed in study.seeds]
    return corrected(contrasts(study, by_arm(study, rows), SUCCESS))


def test_predictions_are_judged_when_all_seeds_are_in() -> None:
    """Eight differences of one sign give 2/256, and 4/256 corrected for two."""
    study = replace(SMALL, seeds=tuple(range(8)))
    up, down, mixed = [0.1] * 8, [-0.1] * 8, [0.1, -0.1] * 4
    for gains, expected in (
        ((up, down), [True, True]),
        ((up, up), [True, False]),  # far from chance, and the other way
        ((mixed, down), [False, True]),
        ((up, down[:7]), [None, None]),  # one seed of the other may yet move the correction
    ):
        found = judged(study, dict(zip(("aem", "other"), gains)))
        assert [c.holds for c in found] == expected
        assert [c.predicted for c in found] == [1, -1]
    assert [c.p_corrected for c in judged(study, {"aem": up, "other": down})] == [4 / 256, 4 / 256]
    assert [c.holds for c in judged(replace(study, signs=()), {"aem": up, "other": down})] == [None, None]
    rows = [row(arm, seed, 0.5, "11" if arm == "aem" else "00") for arm in study.arms for seed in study.seeds]
    (held_out, _) = corrected(contrasts(study, by_arm(study, rows), HELD_OUT))
    assert held_out.p_corrected == 4 / 256 and held_out.holds is None  # described only


def test_detectable_is_for_the_strictest_step() -> None:
    """Eight differences of ±0.1 about 0.1; t(1 − 0.025/2) and t(0.8) of 7 degrees are 2.84124 and 0.896030."""
    study = replace(SMALL, seeds=tuple(range(8)))
    found, fewer = judged(study, {"aem": [0.0, 0.2] * 4, "other": [0.0, 0.2, 0.0, 0.2, 0.0]})
    assert found.level == 0.025 and found.sd == pytest.approx(0.1 * (8 / 7) ** 0.5)
    assert found.detectable == pytest.approx((2.84124 + 0.896030) * 0.1 / 7**0.5, rel=1e-5)
    assert fewer.level == 0.025 and fewer.detectable is None


def test_episodes_are_told_where_arms_differ() -> None:
    rows = [{**row("off", s, 0.1), "episodes_played": "64"} for s in (0, 1)]
    rows += [{**row("aem", s, 0.1), "episodes_played": str(64 + 10 * s)} for s in (0, 1)]
    assert episodes_played(by_arm(SMALL, rows)) == {"off": 64, "aem": 69}
    assert episodes_played(by_arm(SMALL, rows[:3])) == {}


def test_a_family_is_corrected_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kin = [replace(SMALL, name=name, family="regimes") for name in ("one", "two")]
    studies = [*kin, replace(SMALL, name="alone")]
    monkeypatch.setattr(report, "STUDIES", {study.name: study for study in studies})
    for study in studies:
        runs = [
            {**row(arm, seed, 0.1 * (arm == "aem"), settings=fingerprint(study, arm, seed)), "start": "a", "steps": "0"}
            for arm in study.arms
            for seed in study.seeds
        ]
        tables.add(study.name, {"runs": runs}, tmp_path)

    def corrected_p(names: Sequence[str]) -> list[float | None]:
        found = report.reported([study for study in studies if study.name in names], tmp_path)
        assert [one.study.name for one in found] == list(names)
        return [one.contrasts[SUCCESS][0].p_corrected for one in found]

    assert corrected_p(["one", "two", "alone"]) == [4 * 2 / 16, 4 * 2 / 16, 2 * 2 / 16]
    assert corrected_p(["two"]) == [4 * 2 / 16]  # also where only one of them is reported


def test_rows_that_are_not_one_arm_are_refused() -> None:
    with pytest.raises(MixedResults, match="different settings"):
        by_arm(SMALL, [row("off", 0, 0.1), row("off", 1, 0.1, settings="others")])
    with pytest.raises(MixedResults, match="two rows"):
        by_arm(SMALL, [row("off", 0, 0.1), row("off", 0, 0.1)])
    with pytest.raises(MixedResults, match="different numbers of tasks"):
        by_arm(SMALL, [row("off", 0, 0.1, "01"), row("aem", 0, 0.1, "011")])
    unregistered = [row("new", 0, 0.1), row("off", 77, 0.1, settings="others"), row("off", 0, 0.1)]
    assert {arm: list(rows) for arm, rows in by_arm(SMALL, unregistered).items()} == {
        "off": [0],
        "aem": [],
        "other": [],
    }


def test_runs_are_whole_of_todays_settings_and_truly_paired() -> None:
    runs = [
        {**row(arm, seed, 0.1, settings=fingerprint(SMALL, arm, seed)), "start": f"w{seed}", "steps": "2"}
        for arm in SMALL.arms
        for seed in (0, 3)
    ]
    steps = [{"arm": r["arm"], "seed": r["seed"], "step": str(t)} for r in runs for t in (1, 2)]
    check(SMALL, by_arm(SMALL, runs), steps)
    check(SMALL, by_arm(SMALL, []), [])
    check(SMALL, by_arm(SMALL, runs[:-1]), steps)  # a run's own row comes last
    with pytest.raises(MixedResults, match=r"small other 3: 1 rows in steps.csv of 2: remove"):
        check(SMALL, by_arm(SMALL, runs), steps[:-1])
    with pytest.raises(MixedResults, match=r"small off 0: 3 rows in steps.csv of 2"):
        check(SMALL, by_arm(SMALL, runs), [*steps, steps[0]])
    with pytest.raises(MixedResults, match=r"small aem 0: of other settings than designs.py has"):
        check(SMALL, by_arm(SMALL, [{**r, "settings": "x"} if r["arm"] == "aem" else r for r in runs]), steps)
    harder = replace(SMALL, tasks=SMALL.tasks + 1)
    with pytest.raises(MixedResults, match="other settings"):
        check(harder, by_arm(harder, runs), steps)
    with pytest.raises(MixedResults, match="small other 3: began from other weights than off"):
        check(SMALL, by_arm(SMALL, [*runs[:-1], {**runs[-1], "start": "w0"}]), steps)


def test_curves_have_a_gap_where_a_step_is_missing() -> None:
    steps = [("off", 0, 1, "0.5"), ("off", 0, 3, "0.25"), ("off", 2, 2, "1"), ("off", 2, 3, ""), ("new", 0, 1, "1")]
    rows = [{"arm": a, "seed": str(s), "step": str(t), "success": v} for a, s, t, v in steps]
    found = curves(SMALL, rows, "success")
    assert list(found) == ["off"] and found["off"][0].tolist() == [1, 2, 3]
    expected = [[0.5, float("nan"), 0.25], [float("nan"), 1.0, float("nan")]]
    assert found["off"][1].tolist() == [pytest.approx(line, nan_ok=True) for line in expected]
    assert curves(SMALL, rows, "nothing") == {}
