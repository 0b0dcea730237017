"""Writers: what they are sent, over resumes too, and that they never end a training."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, run

from trainer import writers
from trainer.dry_run import check_recipe
from trainer.metrics import MetricsLog, Record, read_records
from trainer.writers import TensorBoardWriter, WriterError, Writers, scalars

RL = 2


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a curve."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


class Kept:
    """A writer that keeps what it is sent."""

    name = "kept"

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def write(self, number: int, record: Record) -> None:
        self.sent.append((number, record["step"]))

    def rewrite(self, records: Sequence[Record]) -> None:
        self.sent = [f"{len(records)} records"]

    def close(self) -> None:
        self.sent.append("closed")


class Broken(Kept):
    name = "broken"

    def write(self, number: int, record: Record) -> None:
        super().write(number, record)
        raise ConnectionError("no network")

    def close(self) -> None:
        super().close()
        raise RuntimeError("nor now")


def test_numbers_of_records_by_name() -> None:
    rl = {"kind": "rl", "stage": 2, "step": 3, "loss": 0.5, "skipped": True, "grad_norm": None, "success/cool": 1.0}
    assert scalars(rl) == {"rl/loss": 0.5, "rl/success/cool": 1.0}
    evaluated = {"kind": "evaluation", "stage": 2, "step": 3, "when": "before", "split": "dev", "success": 0.25}
    assert scalars(evaluated | {"temperature": 0.0}) == {"evaluation/dev/greedy/success": 0.25}
    assert scalars(evaluated | {"temperature": 0.4}) == {"evaluation/dev/sampled/success": 0.25}
    assert scalars({"kind": "alarm", "stage": 2, "step": 3, "cause": "kl", "words": "…"}) == {"alarm/kl": 1.0}


def test_a_writer_that_fails_is_dropped_with_one_warning(tmp_path: Path) -> None:
    said: list[str] = []
    broken, kept = Broken(), Kept()
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.writers = Writers([broken, kept], said.append)
    for step in (1, 2):
        log.write("rl", RL, step, {"loss": 0.5})
    log.close()
    assert broken.sent == [(0, 1), "closed"] and kept.sent == [(0, 1), (1, 2), "closed"]
    assert len(said) == 1 and "broken failed (ConnectionError: no network)" in said[0]
    assert [r["step"] for r in read_records(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_rewind_reaches_them(tmp_path: Path) -> None:
    kept = Kept()
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.writers = Writers([kept], print)
    for step in (1, 2, 3):
        log.write("rl", RL, step, {})
    log.rewind(RL, 2)
    log.write("rl", RL, 3, {})
    assert kept.sent == ["2 records", (2, 3)]


def test_tensorboard_shows_each_step_once_after_a_rewind(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for start, done, value in ((0, 5, 1.0), (3, 6, 2.0)):
        log = MetricsLog(tmp_path / "metrics.jsonl")
        log.writers = Writers([TensorBoardWriter(tmp_path)], pytest.fail)
        if start:
            log.rewind(RL, start)
        for step in range(start + 1, done + 1):
            log.write("rl", RL, step, {"loss": value * step})
        log.close()
    assert points(tmp_path / "tensorboard", "rl/loss") == [(1, 1), (2, 2), (3, 3), (4, 8), (5, 10), (6, 12)]


def test_a_run_with_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    path = tmp_path / "run"
    run(quick("steps=2", "metrics.tensorboard=true"), path)
    records = read_records(path / "metrics.jsonl")
    for name in ("loss", "token_entropy", "learning_rate"):
        expected = [(r["step"], r[name]) for r in records if r["kind"] == "rl" and r.get(name) is not None]
        shown = points(path / "tensorboard", f"rl/{name}")
        assert [step for step, _ in shown] == [step for step, _ in expected]
        assert [value for _, value in shown] == pytest.approx([value for _, value in expected], rel=1e-6)
    split = next(r["split"] for r in records if r["kind"] == "evaluation")
    assert len(points(path / "tensorboard", f"evaluation/{split}/greedy/success")) == 2


@pytest.mark.parametrize(("setting", "package"), [("tensorboard=true", "tensorboard"), ("wandb=agents", "wandb")])
@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)])
def test_a_missing_package_is_said_before_anything_is_written(
    setting: str, package: str, found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "find_spec", lambda name: found)
    config = quick(f"metrics.{setting}")
    with pytest.raises(WriterError, match=rf'{package}, which is not installed: pip install "aem-suite\[{package}\]"'):
        check_recipe(config)
    with pytest.raises(WriterError):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
