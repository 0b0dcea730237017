"""Whether entropy collapses early, by the rule that was registered."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import report
from designs import PRIMARY, SCREENS, Arm
from screens import Collapse, collapse
from synthetic import write_results


def test_collapse_by_hand() -> None:
    """Averages of five: success gains 0.5 and is at 0.1, 0.2, 0.3 from step 5 on, counted from 0: half is made at 7."""
    success = np.array([0.0] * 5 + [0.5] * 5)
    early = collapse(np.array([1.0] + [0.4] * 9), success)  # 1, 0.7, 0.6, 0.55, 0.52, 0.4
    assert early == Collapse(5, 7) and early.verdict == "yes"
    late = collapse(np.array([1.0] * 5 + [0.0] * 5), success)  # 0.8, 0.6, 0.4 from step 5 on: not before success
    assert late == Collapse(7, 7) and late.verdict == "no"
    never = collapse(np.array([1.0] + [0.5] * 9), success)
    assert never == Collapse(None, 7) and never.verdict == "no"  # half is not below half
    short = collapse(np.array([1.0, 0.4, 0.2, 0.2]), np.array([0.0, 0.0, 1.0, 1.0]))  # averages of two
    assert short == Collapse(2, 2)
    with pytest.raises(ValueError, match="three steps"):
        collapse(np.ones(2), np.ones(2))


def test_success_that_gains_nothing_tells_no_early_from_late() -> None:
    entropy = np.array([1.0] + [0.4] * 9)
    for nothing in (np.linspace(0.5, 0.2, 10), np.full(10, 0.3), np.array([0.2, 0.3] * 5)):
        found = collapse(entropy, nothing)
        assert found == Collapse(5, None) and found.verdict == "no gain"


def test_a_gain_is_twice_its_standard_error() -> None:
    """Steps that go up and down by 0.1: differences of 0.1 nine times, five up, sd √((0.09 − 0.01/9)/8) = 0.10541.

    σ = 0.10541/√2 = 0.07454, and the gain's standard error σ·√(2/5) = 0.04714. Of a rise of s each step the gain is
    5·s + 0.02, which is twice that at s = 0.01486; the rise leaves σ as it is.
    """
    noise, entropy = np.array([0.2, 0.3] * 5), np.ones(10)
    assert collapse(entropy, noise + 0.0147 * np.arange(10)).verdict == "no gain"
    assert collapse(entropy, noise + 0.0150 * np.arange(10)).verdict == "no"


def test_screens_share_a_table_and_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = [replace(SCREENS[0], name=f"screen-{name}", arms={"off": Arm()}, seeds=(900, 901)) for name in "ab"]
    monkeypatch.setattr(report, "STUDIES", {study.name: study for study in (PRIMARY, *studies)})
    write_results(studies[0], tmp_path / "results", (900, 901), steps=12)
    write_results(studies[1], tmp_path / "results", (900,), steps=120)
    page = tmp_path / "docs" / "study.md"
    page.parent.mkdir()
    page.write_text("<!-- study:screens:begin -->\n<!-- study:screens:end -->\n")
    places = ["--results", str(tmp_path / "results"), "--docs", str(tmp_path / "docs")]
    for arguments in ([], ["--check"], ["primary"]):
        monkeypatch.setattr(sys, "argv", ["report.py", *places, *arguments])
        assert report.main() == 0
    lines = page.read_text().splitlines()
    (short,) = [line for line in lines if line.startswith("| `a` | 2 of 2 |")]
    assert "| never |" in short and short.endswith("| no (no, no) |")
    (long,) = [line for line in lines if line.startswith("| `b` | 1 of 2 |")]
    assert "| never |" not in long and long.endswith("| yes (yes) |")
    assert any(line.startswith("No gain: ") for line in lines)
    assert "![Baselines:" in lines[-2] and (tmp_path / "docs" / "assets" / "study" / "screens.svg").exists()
    assert not list((tmp_path / "results").glob("*/contrasts.json"))
