"""The run whose theory is looked at, and what is kept of its analyses."""

from pathlib import Path

import analyse
import pytest
import tables
from designs import STUDIES
from rich.console import Console
from theory import FOLDER

from trainer.analysis.results import Found


def test_its_seed_is_no_study_s() -> None:
    assert all(analyse.SEED not in study.seeds for study in STUDIES.values())


def test_tables_are_kept_and_figures_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name that the page gives them; what was there before is replaced."""
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    csv, svg = tmp_path / "surprisal.csv", tmp_path / "surprisal.svg"
    svg.write_text("<svg/>")
    for text in ("group\n1\n", "group\n2\n"):
        csv.write_text(text)
        analyse.kept("name", lambda: Found(("a line",), (csv, svg)), Console(quiet=True))
    assert [(p.name, p.read_text()) for p in (tmp_path / "results" / FOLDER / "name").iterdir()] == [
        ("surprisal.csv", "group\n2\n")
    ]


def test_a_finished_run_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyse, "opened", lambda *_: pytest.fail("it began a run"))
    (tmp_path / "summary.json").write_text("{}")
    assert analyse.trained("weak", tmp_path, Console(quiet=True)) == tmp_path
