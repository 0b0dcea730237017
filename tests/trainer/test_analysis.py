"""`aem-train analyse`: figures by hand, what is written, what is refused, and that the same command gives the same."""

import json
import math
import random
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet, rows_of, run
from safetensors.torch import load_file
from test_cli import command

from aem_agent.report.charts import Series, line_chart, scatter_chart
from aem_agent.stats import wilson
from trainer.analysis import entropy_mask, inputs, states
from trainer.analysis.alpha import analyse_alpha
from trainer.analysis.entropy_mask import MODES, analyse_entropy_mask, masked_config, summary_lines
from trainer.analysis.relations import agreement, correlation, student_quantile, trend
from trainer.analysis.results import AnalysisError, standalone, write_csv
from trainer.analysis.surprisal import analyse_surprisal

# -- relations and files -----------------------------------------------------------------------------------------------


def test_correlation_by_hand() -> None:
    found = correlation([1, 2, 3, 4, math.nan], [1, 3, 2, 4, 0])
    assert found.n == 4 and found.r == pytest.approx(0.8)  # Σ dx·dy = 4, Σ dx² = Σ dy² = 5
    half = 1.959964  # 1.96/√(4 − 3)
    assert found.interval == pytest.approx((math.tanh(math.atanh(0.8) - half), math.tanh(math.atanh(0.8) + half)))
    assert correlation([0.0, 1.0, 2.0], [3.0, 2.0, 1.0]).r == pytest.approx(-1)
    assert math.isnan(correlation([0.1] * 5, [1, 2, 3, 4, 5]).r) and "does not vary" in str(correlation([1.0], [1.0]))


def test_agreement_leaves_out_zeros() -> None:
    found = agreement([1.0, -2.0, 0.0, 3.0, math.nan], [2.0, 1.0, 1.0, 0.0, 1.0])
    assert (found.same, found.n) == (1, 2) and found.interval == wilson(1, 2)
    assert str(agreement([], [])) == "0 of 0"


def test_agreement_beside_what_chance_gives() -> None:
    """Positive in 3 of 4 and in 2 of 4: both in 4·(3/4)·(2/4), neither in 4·(1/4)·(2/4)."""
    found = agreement([1, 2, 3, -1], [1, -1, 1, -1])
    assert (found.same, found.expected) == (3, 2.0)
    assert str(found) == "3 of 4 (75 %, interval 30 to 95 %; 2.0 expected by chance)"


def test_trend_by_hand() -> None:
    assert trend([1.0, math.nan, 5.0, 7.0]).slope == pytest.approx(2.0)
    assert math.isnan(trend([1.0]).slope) and str(trend([])) == "unknown" and math.isnan(trend([1.0, 2.0]).error)
    assert trend([1.0, 2.0]).interval == (-math.inf, math.inf)
    found = trend([0.0, 1.0, 1.0])  # residuals −1/6, 1/3, −1/6; Σ e² = 1/6 with one degree of freedom, Σ (x − x̄)² = 2
    assert (found.slope, found.error) == (pytest.approx(0.5), pytest.approx(math.sqrt(1 / 12)))
    assert found.interval == pytest.approx((0.5 - 12.7062 * found.error, 0.5 + 12.7062 * found.error), rel=1e-5)
    # Residuals +2, −1, −2, −1, +2, of slope 0: Σ e² = 14, Σ e·e' = −2 + 2 + 2 − 2 = 0; then with a step in the middle
    assert trend([2, -1, -2, -1, 2]).error == pytest.approx(math.sqrt(14 / 3 / 10))
    stepped = [1, 1, -1, -1, -1, -1, 1, 1]  # Σ e² = 8, Σ e·e' = 3, Σ (x − x̄)² = 42
    assert trend(stepped).error == pytest.approx(math.sqrt(8 / 6 / 42 * (1 + 3 / 8) / (1 - 3 / 8)))


def test_students_quantile() -> None:
    found = [student_quantile(freedom) for freedom in (1, 2, 3, 8, 28, 1000)]
    assert found == pytest.approx([12.7062, 4.30265, 3.18245, 2.30600, 2.04841, 1.96234], rel=1e-5)


def test_figures_stand_alone() -> None:
    """XML that needs no style sheet of a page, with one circle for each point, and one for each legend."""
    series = [Series("a < b", [1.0, 2.0, math.nan], [-1.0, 0.5, 2.0]), Series("c", [0.5], [0.1])]
    text = standalone(scatter_chart(series, x_label="x & z", y_label="y"))
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "var(" not in text
    circles = [e for e in root.iter() if e.tag.endswith("circle")]
    assert len(circles) == 3 + 2
    assert {e.text for e in root.iter() if e.tag.endswith("text")} >= {"x & z", "y: a < b", "c"}
    by_height = sorted((float(c.attrib["cy"]), c) for c in circles if c.attrib["r"] == "3.5")
    assert by_height[0][1].find("{*}title").text == "a < b: 2, 0.5"  # type: ignore[union-attr]
    ElementTree.fromstring(standalone(line_chart([Series("s", [0.0, 1.0], [1.0, 2.0])])))


def test_csv_says_nothing_where_nothing_is_known(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "new" / "a.csv", [{"a": 1, "b": math.nan, "c": "x,y"}, {"a": 0.12345678, "b": None, "c": ""}]
    )
    assert path.read_text() == 'a,b,c\n1,,"x,y"\n0.123457,,\n'


# -- weights -----------------------------------------------------------------------------------------------------------


def test_weights_of_a_checkpoint(trained: Path) -> None:
    config = inputs.run_config(trained)
    first, last = trained / "checkpoints" / "2-0000000", trained / "checkpoints" / "2-0000004"
    folder = inputs.model_folder(trained, config, first)
    assert folder == trained / "analysis" / "weights" / "2-0000000"

    def of(path: Path) -> dict[str, Any]:
        with inputs.speaker(trained, config, path) as spoken:
            return dict(spoken.model.state_dict())

    start, exported, end = of(trained / "warmstart"), of(folder), of(last)
    assert all(start[name].equal(exported[name]) for name in start)
    assert not all(start[name].equal(end[name]) for name in start)
    assert inputs.model_folder(trained, config, trained / "best") == trained / "best"
    with pytest.raises(AnalysisError, match="holds no weights"):
        inputs.model_folder(trained, config, trained / "nothing")


def test_a_checkpoint_with_adapters_is_its_merged_weights(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(quick("scale.lora_rank=2", "steps=1", "evaluation.every=0"), path)
    folder = inputs.model_folder(path, inputs.run_config(path), path / "checkpoints" / "2-0000001")
    merged, best = (load_file(where / "model.safetensors") for where in (folder, path / "best"))
    assert merged.keys() == best.keys() and all(merged[name].equal(best[name]) for name in merged)
    start = load_file(path / "init" / "model.safetensors")
    assert not all(start[name].equal(merged[name]) for name in merged)


# -- entropy under sign masks ------------------------------------------------------------------------------------------


def test_settings_of_the_masked_trainings() -> None:
    config = quick("aem.shuffle=true", "metrics.wandb=mine", "steps=9", "evaluation.every=1", "algorithm.std_floor=0.5")
    made = {mode: masked_config(config, Path("start"), mode, 3) for mode in MODES}
    assert {m: (c.aem.enabled, c.aem.sign_mask) for m, c in made.items()} == {
        "off": (False, "none"),
        "none": (True, "none"),
        "fall": (True, "fall"),
        "rise": (True, "rise"),
    }
    for c in made.values():
        assert (c.warmstart.steps, c.steps, c.evaluation.every, c.metrics.wandb, c.aem.shuffle) == (
            0,
            3,
            0,
            None,
            False,
        )
        assert Path(c.model.path or "").is_absolute() and (c.seed, c.algorithm) == (config.seed, config.algorithm)


def test_entropy_under_sign_masks(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four trainings from the same weights and tasks; what is done is not done again, what is missing is."""
    found = analyse_entropy_mask(trained, steps=2, weights=None, reporter=quiet())
    rows = rows_of(trained / "analysis" / "entropy-mask.csv")
    assert [(r["mode"], r["updates"]) for r in rows] == [(mode, str(i)) for mode in MODES for i in range(2)]
    assert len({r["response_entropy"] for r in rows if r["updates"] == "0"}) == 1
    assert len(found.files) == 3 and all(path.exists() for path in found.files)
    csv_bytes = found.files[0].read_bytes()
    trainings: list[str] = []
    train = entropy_mask.train
    monkeypatch.setattr(entropy_mask, "train", lambda s: trainings.append(s.config.aem.sign_mask) or train(s))
    assert analyse_entropy_mask(trained, steps=2, weights=None, reporter=quiet()) == found and not trainings
    shutil.rmtree(trained / "analysis" / "entropy-mask" / "rise")
    (trained / "analysis" / "entropy-mask" / "fall" / "summary.json").unlink()  # as if it had been interrupted
    assert analyse_entropy_mask(trained, steps=2, weights=None, reporter=quiet()) == found
    assert trainings == ["fall", "rise"] and found.files[0].read_bytes() == csv_bytes
    with pytest.raises(AnalysisError, match="begun with other settings"):
        analyse_entropy_mask(trained, steps=3, weights=None, reporter=quiet())


def masked_records(curves: dict[str, list[float]], **values: Any) -> dict[str, list[dict[str, Any]]]:
    """Records of trainings whose response entropy went so; `values` of every record."""
    given = {"token_entropy": 0.5, "kept_share": 1.0, "positive_mass": 0.0, "negative_mass": -0.1, "guarded_share": 0.5}
    flat = [1.0] * len(next(iter(curves.values())))
    return {m: [{"response_entropy": h, **given, **values} for h in curves.get(m, flat)] for m in MODES}


def test_whether_entropies_part_is_said() -> None:
    def lines(rise: float, fall: float) -> list[str]:
        slopes = {"rise": rise, "fall": fall}
        return summary_lines(masked_records({m: [1 + s * i for i in range(4)] for m, s in slopes.items()}))

    first, steps, apart = lines(0.1, -0.2)
    assert "only A·(α − 1) > 0 -0.2000 ± 0.0000 (+0.0000 ± 0.0000)" in first
    assert "> 0 alone in 4 of 4 steps" in steps
    assert apart.endswith("+0.3000 nats per update (95 % interval +0.3000 to +0.3000, 4 steps), as predicted; one seed")
    assert "against the prediction" in lines(-0.2, 0.1)[2]


def test_noise_is_no_verdict() -> None:
    """Of trainings in which nothing happens one in twenty at most gets a verdict, whatever the sign of its slope."""
    generator = random.Random(1)
    verdicts = []
    for _ in range(100):
        noise = {m: [1 + generator.gauss(0, 0.1) for _ in range(30)] for m in MODES}
        verdicts.append(summary_lines(masked_records(noise))[2])
    assert sum("not distinguishable" in line for line in verdicts) >= 90
    assert any("less with > 0: -" in line for line in verdicts) and any("less with > 0: +" in line for line in verdicts)


def test_what_both_masks_share_is_taken_out() -> None:
    """Each step has its tasks, the same for both masks: they hide each slope, and not the difference."""
    shared = [0.0, 0.5, -0.4, 0.3, -0.5, 0.4, -0.3, 0.2]
    rise = [1 + s + 0.01 * i + 0.001 * (i % 2) for i, s in enumerate(shared)]
    assert "as predicted" in summary_lines(masked_records({"rise": rise, "fall": [1 + s for s in shared]}))[2]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"guarded_share": 1.0, "negative_mass": 0.0, "kept_share": 0.0}, "every α was 1; lower aem.range_guard"),
        ({"guarded_share": 0.5, "negative_mass": 0.0}, "no response with an advantage had an α on that side"),
        ({"guarded_share": None, "kept_share": None, "response_entropy": None}, "every step was skipped"),
    ],
    ids=["guarded", "one-sided", "skipped"],
)
def test_masks_that_trained_nothing_are_not_judged(values: dict[str, Any], words: str) -> None:
    lines = summary_lines(masked_records({"rise": [1.0, 2.0, 3.0]}, **values))
    assert len(lines) == 2 and "nothing was trained with only A·(α − 1) > 0 nor" in lines[1] and words in lines[1]
    assert "predict" not in " ".join(lines)


# -- α over training ---------------------------------------------------------------------------------------------------


def test_alpha_of_a_run_that_goes_on(trained: Path) -> None:
    """From the lines that are there; the last one is just being written."""
    path = trained / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    records = [{**r, "positive_share": r["step"] / 10} for r in lines if r["kind"] == "rl"][:3]
    path.write_text("\n".join([*map(json.dumps, records), '{"kind": "rl", "stage": 2, "st']))
    found = analyse_alpha(trained)
    rows = rows_of(trained / "analysis" / "alpha.csv")
    assert [float(r["alpha_q95"]) for r in rows] == pytest.approx([r["alpha_q95"] for r in records], rel=1e-5)
    assert [r["step"] for r in rows] == ["1", "2", "3"]
    assert f"Σ α·A {records[0]['advantage_sum']:+.1f}" in found.lines[0]
    assert "A > 0 in 10 %" in found.lines[0] and "A > 0 in 30 %" in found.lines[1]
    assert {p.name for p in found.files} == {"alpha.csv", "alpha.svg", "alpha-shares.svg", "drift.svg"}
    old = [{k: v for k, v in r.items() if not k.startswith("entropy_drift")} for r in records]
    path.write_text("\n".join(map(json.dumps, old)))
    assert "drift" not in " ".join(analyse_alpha(trained).lines)
    path.write_text("")
    with pytest.raises(AnalysisError, match="no RL step"):
        analyse_alpha(trained)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_wrote(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command(monkeypatch, capsys, "analyse", "alpha", str(trained))
    assert code == 0 and f"wrote {trained / 'analysis' / 'alpha.svg'}" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("analyse", "alpha", "nowhere"), "holds no run"),
        (("analyse", "surprisal", "nowhere", "--draws", "1"), "must be a whole number from 2"),
        (("analyse", "entropy-mask", "nowhere", "--steps", "x"), "must be a whole number from 2"),
        (("analyse",), "ANALYSIS"),
    ],
)
def test_mistakes_are_said(
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = command(monkeypatch, capsys, *arguments)
    assert code == 2 and words in err


def test_weights_are_needed(trained: Path) -> None:
    (trained / "best").unlink()
    with pytest.raises(AnalysisError, match="holds no weights"):
        analyse_surprisal(trained, states=2, draws=2, reporter=quiet())


def test_variants_take_turns() -> None:
    config = quick("env.train_tasks=5")
    assert [len(tasks) for tasks in states.tasks_by_variant(config, 3, 0)] == [3]
    two = replace(config, env=replace(config.env, variants=({"max_steps": 7}, {"max_steps": 9})))
    assert [len(tasks) for tasks in states.tasks_by_variant(two, 3, 0)] == [2, 1]
    assert [len(tasks) for tasks in states.tasks_by_variant(two, 1, 0)] == [1, 0]
