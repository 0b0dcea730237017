"""The benchmarks of a training step: the step that is measured is a right one, and the verdicts are."""

import math
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the benchmarks can be imported from."""
    monkeypatch.syspath_prepend(str(BENCH))
    torch.set_num_threads(1)


@pytest.mark.slow
def test_steps_with_and_without_a_scoring_pass_agree(tmp_path: Path) -> None:
    """Both ways see the same tokens, entropies and gradients; without AEM there are no statistics of it."""
    from _grpo_ours import OurStep, model_folder

    folder = model_folder(tmp_path)
    recorded, scored = OurStep(folder), OurStep(folder, scoring=True)
    recorded(), scored()
    for name in ("token_entropy", "token_surprisal", "return_mean", "uncertainty_max", "advantage_sum", "grad_norm"):
        assert recorded.metrics[name] == pytest.approx(scored.metrics[name], rel=1e-4, abs=1e-4), name
    assert recorded.metrics["guarded_share"] < 1
    recorded.aem = False
    recorded()
    assert "guarded_share" not in recorded.metrics
    assert recorded.metrics["token_entropy"] == 0


def test_interval_of_a_median_by_ranks() -> None:
    """n = 6: (1/2)^6 lies below the smallest; n = 16: the fourth from either end, as P(X ≤ 3) = 1.06 %."""
    from aem_step import interval

    assert interval([3.0, 1.0, 6.0, 2.0, 5.0, 4.0]) == (1.0, 6.0)
    assert interval([float(n) for n in range(1, 17)]) == (4.0, 13.0)
    assert interval([float(n) for n in range(1, 17)], 0.0125) == (3.0, 14.0)  # P(X ≤ 2) = 0.21 %
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) == (-math.inf, math.inf)  # (1/2)^5 > 2.5 %


@pytest.mark.parametrize(
    ("ratios", "rounds", "verdict"),
    [
        ([1.0, 1.01] * 8, 16, True),
        ([1.012, 1.05] * 8, 16, False),
        ([0.95, 1.05] * 4 + [1.0] * 56, 32, True),  # the median alone would be met at once
        ([0.95, 1.05] * 32, 64, None),
    ],
    ids=["ok", "missed", "ok after as many again", "open"],
)
def test_the_interval_decides(ratios: list[float], rounds: int, verdict: bool | None) -> None:
    from aem_step import decide, looks

    assert looks(16, 100) == [16, 32, 64]
    pairs, (low, high), met = decide(iter([(2 * x, 2.0) for x in ratios]), looks(16, 100))
    assert (len(pairs), met) == (rounds, verdict)
    assert low <= high


def test_verdict_is_of_the_slowest_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    from grpo_step import report

    def found(*ours: float) -> dict[str, dict[str, object]]:
        names = ("ours", "ours-scoring", "ours-distinct")
        rows = {"trl": 10.0} | dict(zip(names, ours))
        return {name: {"about": "", "seconds": [value + 1, value, value - 1]} for name, value in rows.items()}

    assert report(found(2.0, 3.0, 5.0))
    assert not report(found(2.0, 3.0, 5.1))
    assert "MISSED" in capsys.readouterr().out
