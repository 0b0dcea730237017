"""What is shown while a step's rollouts are played: in a terminal beside the bar, elsewhere a line now and then."""

from io import StringIO

import pytest
from rich.console import Console

from trainer import progress
from trainer.progress import Reporter


@pytest.mark.parametrize("terminal", [True, False])
def test_how_a_collection_goes_on_is_shown(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY", -1.0)
    shown = StringIO()
    reporter = Reporter(Console(file=shown, force_terminal=terminal, width=200))
    reporter.goes_on("before anything")
    with reporter.phase("evaluation before RL"):
        reporter.goes_on("evaluation: 3/8 episodes")
    with reporter.steps("RL", 4) as advance:
        reporter.goes_on("rollouts of step 1: 5/96 episodes")
        advance(1, "success 0.25")
        with reporter.phase("evaluation during RL"):
            reporter.goes_on("evaluation: 6/8 episodes")
        reporter.goes_on("rollouts of step 2: 7/96 episodes")
    reporter.goes_on("after everything")
    text = shown.getvalue()
    assert "evaluation: 3/8" in text
    assert "before anything" not in text and "after everything" not in text
    if terminal:
        assert "success 0.25 │ rollouts of step 2: 7/96 episodes" in text
    else:
        for words in ("rollouts of step 1: 5/96", "evaluation: 6/8", "rollouts of step 2: 7/96"):
            assert f"\nRL, {words} episodes\n" in text


def test_lines_outside_a_terminal_come_now_and_then() -> None:
    shown = StringIO()
    reporter = Reporter(Console(file=shown, force_terminal=False))
    with reporter.phase("evaluation before RL"):
        for number in range(100):
            reporter.goes_on(f"evaluation: {number}/100 episodes")
    assert shown.getvalue() == "evaluation before RL …\n"
