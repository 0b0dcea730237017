"""Figures of a run: by hand, all of those that are promised, and each of them documented."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers import figures, quick, run

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.records import RunFolderError
from aem_agent.types import Episode
from trainer.batch import Batch
from trainer.flops import step_flops
from trainer.losses import largest_ratio
from trainer.metrics import MetricsLog, add_metrics, mean_metrics, read_records, success_by_type
from trainer.resources import counted_flops, memory, speed
from trainer.tensors import cu_seqlens

DOCS = Path(__file__).parents[2] / "docs" / "training.md"


def test_success_by_task_type() -> None:
    one = Episode("e", "t", "heat", "train", 0, 0, won=True)
    lost = replace(one, won=False)
    broken = replace(lost, task_type="cool", error="WorkerDiedError: gone")
    assert success_by_type([one, lost, lost, replace(one, task_type="cool"), broken, replace(one, task_type="")]) == {
        "success/cool": 1.0,
        "success/heat": pytest.approx(1 / 3),
    }


@pytest.mark.parametrize("name", ["a\u2028b", "a\u0085b", "größer", "\ud800"])
def test_any_name_can_be_written_and_read(name: str, tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        log.write("rl", 2, step, {f"success/{name}": 0.5})
    assert read_records(log.path) == log.records


def test_files_of_before_and_lines_cut_anywhere_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    record = {"kind": "rl", "stage": 2, "step": 1, "success/über\u2028": 0.5}
    line = json.dumps(record, ensure_ascii=False).encode()  # as it was written once
    for end in range(len(line)):
        path.write_bytes(line + b"\n" + line[:end])
        assert read_records(path) == [record]
    path.write_bytes(line[: line.index(b"ber")] + b"\n" + line)
    with pytest.raises(RunFolderError, match="line 1 is damaged"):
        read_records(path)
    path.write_bytes(line[: line.index(b"\xbc")] + b"\n" + line)
    with pytest.raises(RunFolderError, match="line 1 is damaged"):
        read_records(path)


def test_largest_values_and_operations_are_not_averaged() -> None:
    total: dict[str, torch.Tensor] = {}
    for loss, largest, flops in ((1.0, 3.0, 10.0), (2.0, 2.0, 20.0)):
        values = {"loss": loss, "ratio_max": largest, "flops_update": flops}
        add_metrics(total, {name: torch.tensor(value) for name, value in values.items()})
    assert {k: float(v) for k, v in total.items()} == {"loss": 3, "ratio_max": 3, "flops_update": 30}
    other = {"loss": torch.tensor(5.0), "ratio_max": torch.tensor(1.0), "flops_update": torch.tensor(12.0)}
    means = mean_metrics([total, other])
    assert {k: float(v) for k, v in means.items()} == {"loss": 4, "ratio_max": 3, "flops_update": 42}


def test_the_largest_ratio_is_of_tokens_that_count() -> None:
    new, old = torch.tensor([0.5, 3.0, -1.0]).log_softmax(0), torch.tensor([0.5, 1.0, -1.0]).log_softmax(0)
    ratios = (new - old).exp()
    assert largest_ratio(new, old, torch.tensor([1.0, 1.0, 0.5])) == ratios[1]
    assert largest_ratio(new, old, torch.tensor([1.0, 0.0, 0.5])) == ratios[0]
    assert largest_ratio(new, old, torch.zeros(3)) == 0
    assert largest_ratio(torch.tensor([0.0]), torch.tensor([-900.0]), torch.ones(1)).isfinite()


def test_operations_are_those_of_all_parts_and_shared_beginnings_count_once() -> None:
    config = DecoderConfig("qwen3", 11, 8, 2, 4, 2, 2, 3)
    model = Decoder(config).init_weights(0)
    tokens = torch.tensor([1, 2, 3, 4, 1, 2, 3, 5, 6, 7])
    rows = torch.tensor([0, 1])
    batch = Batch(tokens, cu_seqlens(torch.tensor([4, 6])), torch.tensor([3, 9]), rows, rows, rows, rows * 0)
    metrics = {"flops_score": torch.tensor(1.0, dtype=torch.float64)}
    with counted_flops(model, batch, "flops_score", metrics, backward=False):
        model.hidden(tokens, batch.cu_seqlens)
        inner = {}
        with counted_flops(model, batch, "none", inner, backward=False):
            pass
    assert not inner
    expected = step_flops(config, batch.cu_seqlens, batch.targets, backward=False, nodes=7)
    assert float(metrics["flops_score"]) == 1 + float(expected)


def test_speed_and_memory() -> None:
    assert speed("update", 3e12, 2.0, torch.device("cpu")) == {"tflops_update": 1.5}  # no peak is known of a CPU
    assert speed("update", None, 2.0, torch.device("cpu")) == speed("update", 3e12, 0.0, torch.device("cpu")) == {}
    before = memory(torch.device("cpu"))["memory_process"]
    assert 0.01 < before < 1000
    block = bytearray(int(before * 1e9) + 200_000_000)  # larger than all that the process ever had
    block[::4096] = b"1" * len(range(0, len(block), 4096))  # only what is touched is resident
    assert memory(torch.device("cpu"))["memory_process"] > before + 0.1
    del block


def test_the_share_of_a_known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    found = speed("update", 989e12, 2.0, torch.device("cuda"))
    assert found == {"tflops_update": 494.5, "mfu_update": 0.5}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Unheard Of")
    assert speed("update", 989e12, 2.0, torch.device("cuda")) == {"tflops_update": 494.5}


def test_a_run_logs_what_is_promised(whole: Path, tmp_path: Path) -> None:
    records = [r for r in read_records(whole / "metrics.jsonl") if r["kind"] == "rl" and "grad_norm" in r]
    promised = """
        success return_mean alpha_q05 alpha_q50 alpha_q95 guarded_share response_entropy token_entropy clip_fraction
        clip_low_fraction clip_high_fraction dual_clip_fraction approx_kl ratio_mean ratio_max grad_norm invalid_rate
        tokens_per_second seconds_rollout seconds_update seconds_score learning_rate memory_process tflops_update
        flops_update positive_share negative_share advantage_sum
    """
    assert records and all(not promised_name_missing(r, promised) for r in records)
    assert all(r["ratio_max"] >= r["ratio_mean"] > 0 for r in records)
    for kind in ("rl", "evaluation"):
        played = [r for r in read_records(whole / "metrics.jsonl") if r["kind"] == kind]
        assert all({"success/unlock", "success/walk"} & r.keys() for r in played)
    assert records[0]["learning_rate"] == quick().optimiser.lr
    run(quick("steps=1", "algorithm.kl_coefficient=0.01", "algorithm.mismatch=truncate"), tmp_path / "run")
    assert figures(tmp_path / "run", ("rl",))[0]["kl_reference"] == 0
    assert figures(tmp_path / "run", ("rl",))[0]["flops_score"] > 0


def promised_name_missing(record: dict[str, object], names: str) -> list[str]:
    return [name for name in names.split() if not isinstance(record.get(name), float)]


def test_each_figure_of_a_step_is_documented(whole: Path) -> None:
    text = DOCS.read_text("utf-8")
    table = text[text.index("## Metrics and report") : text.index("## Episodes that break")]
    patterns = [re.escape(n).replace("…", r"\w*").replace("<type>", r".*") for n in re.findall(r"`([^` ]+)`", table)]
    names = {key for r in read_records(whole / "metrics.jsonl") if r["kind"] == "rl" for key in r}
    assert "token_entropy" in names
    assert not [n for n in sorted(names) if not any(re.fullmatch(p, n) for p in patterns)]
