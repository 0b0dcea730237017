"""The report of a run: what it shows, at any time, and that it needs nothing but itself."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, run

from aem_agent.records import RunFolderError
from aem_agent.run_folder import config_hash
from trainer import cli
from trainer.finish import write_report
from trainer.metrics import Record
from trainer.report import training_page


def rl(step: int, **values: Any) -> Record:
    return {"kind": "rl", "stage": 2, "step": step, **values}


def page(*records: Record) -> str:
    return training_page("t", records, {}, {})


def test_a_run_is_shown_whole_and_alone(whole: Path) -> None:
    text = (whole / "report.html").read_text()
    for words in (
        "Success in evaluation",
        "Mean return",
        "token entropy",
        "response entropy",
        "Drift of response entropy",
        "Drift predicted",
        "α, median",
        "of positive advantage",
        "Probability ratio, mean",
        "Probability ratio, largest",
        "Clipped tokens",
        "old from new policy",
        "Gradient norm",
        "Learning rate",
        "invalid actions",
        "tokens/s",
        "operations per second",
        "Peak memory",
        "Time per phase",
        "rollout.tasks",
    ):
        assert words in text, words
    assert "http" not in text.replace("http-equiv", "") and "<script" not in text
    assert "Alarms" not in text and "MFU" not in text


def test_task_types_have_curves_and_columns() -> None:
    kinds = {f"success/a task of the kind number {n}": 0.5 for n in range(7)}
    evaluated = {"kind": "evaluation", "stage": 2, "step": 0, "when": "before", "temperature": 0.0, "split": "dev"}
    evaluated |= {"success": 0.5, "low": 0.1, "high": 0.9, "n": 4, "success/heat": 0.75}
    text = page(evaluated, rl(1, success=0.5, **kinds))
    assert "Success in training by task type" in text and "a task of the kind number 6" in text
    assert "<td>heat</td>" in text and "75.0 %" in text
    assert "by task type" not in page(rl(1, success=0.5))


def test_figures_of_a_gpu_and_a_reference_are_shown_where_there_are_any() -> None:
    text = page(rl(1, success=0.5, mfu_update=0.45, memory_cuda=80.0, kl_reference=0.1))
    for words in ("MFU", "CUDA at 1: 80", "to the reference at 1: 0.1", "update at 1: 45 %"):
        assert words in text, words


def test_an_alarm_comes_first_and_is_escaped() -> None:
    alarm = {"kind": "alarm", "stage": 2, "step": 7, "cause": "kl", "words": "far <b>off</b>", "advice": "stay"}
    text = page(rl(7, success=0.5), alarm)
    assert "RL step 7: far &lt;b&gt;off&lt;/b&gt;: stay." in text
    assert text.index("Alarms") < text.index("Success in evaluation")


def test_a_report_can_be_written_while_a_run_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.json").write_bytes((whole / "config.json").read_bytes())
    monkeypatch.setattr(sys, "argv", ["aem-train", "report", str(path)])
    for lines, words in ((0, "No evaluation was made"), (1, "Warm start"), (None, "Updates")):
        written = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)[:lines]
        (path / "metrics.jsonl").write_text("".join(written) + '{"kind": "rl", "st')  # in the middle of a line
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0 and "report.html" in capsys.readouterr().out
        assert words in (path / "report.html").read_text()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        write_report(tmp_path)
    path = tmp_path / "run"
    run(quick("steps=0", "warmstart.steps=0"), path)
    config = json.loads((path / "config.json").read_text())
    config["config"]["kind"] = "aem-eval"
    config["config_hash"] = config_hash(config["config"])
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match="not a training run"):
        write_report(path)
