"""The benchmarks of a GPU and of a step's size run, at tiny sizes, and judge. How fast anything is, is not tested."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench"


def bench(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(BENCH.parent), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture
def bench_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the benchmarks can be imported from."""
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--recompute", "--only", "passes")])
def test_without_a_gpu_all_of_it_runs_and_nothing_is_judged(tmp_path: Path, more: tuple[str, ...]) -> None:
    done = bench("gpu.py", *more, "--out", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    assert "NO GPU FIGURES" in done.stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["goals"] == {}
    parts = found["parts"]
    assert list(parts) == (["passes"] if more else ["head", "decode", "passes", "step"])
    assert parts["passes"]["activations_recomputed"] == bool(more)
    assert parts["passes"]["scoring_tflops"] > 0
    if not more:
        assert parts["head"]["memory_ratio"] < 1  # all tokens are one piece of the fused head's
        assert parts["decode"]["share_of_data_sheet"] is None
        for kind in ("with AEM", "without"):
            shares = parts["step"][kind]["phase_shares"]
            assert sum(shares.values()) == pytest.approx(1)
            assert {"rollout", "score", "modulate", "update", "push"} <= shares.keys()


def test_goals_are_judged(bench_modules: None, capsys: pytest.CaptureFixture[str]) -> None:
    import gpu

    parts: dict[str, Any] = {
        "passes": {"update_mfu": 0.46, "scoring_mfu": 0.54},
        "head": {"memory_ratio": 0.1},
        "decode": {"share_of_bound": 0.7},
    }
    found: dict[str, Any] = {"device": "x", "torch": "y", "parts": parts}
    assert not gpu.table(found, judged=True)
    assert {name: goal["met"] for name, goal in found["goals"].items()} == {
        "update MFU": True,
        "scoring MFU": False,
        "fused head's memory": True,
        "decode, of the bound": True,
    }
    assert "scoring MFU: 54.0%, wanted ≥ 55%: MISSED" in capsys.readouterr().out
    parts["passes"]["scoring_mfu"] = 0.55
    assert gpu.table(found, judged=True)
    parts["decode"] = {"broken": "OutOfMemoryError: all of it"}
    assert not gpu.table(found, judged=True)
    assert "decode   BROKEN: OutOfMemoryError" in capsys.readouterr().out


@pytest.mark.parametrize("parts_done", [0, 1, 2])
def test_a_run_that_does_not_open_or_close_is_a_broken_part(
    bench_modules: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parts_done: int
) -> None:
    """It breaks when the run opens; in the first part and when the run closes; when it closes. Figures are on disk
    after each part."""
    import _gpu_model
    import _gpu_parts
    import gpu

    out, seen = tmp_path / "gpu.json", []

    @contextmanager
    def opened(*_: Any) -> Iterator[str]:
        if parts_done == 0:
            raise RuntimeError("NCCL error")
        yield "session"
        raise RuntimeError("NCCL error")

    def work(*_: Any) -> dict[str, Any]:
        seen.append(json.loads(out.read_text())["parts"] if out.exists() else {})
        if parts_done == len(seen) == 1:
            raise RuntimeError("out of memory")
        return {"figure": len(seen)}

    monkeypatch.setattr(_gpu_model, "opened", opened)
    for name in ("decode", "passes"):
        monkeypatch.setattr(_gpu_parts, name, work)
    command = ["gpu.py", "--small", "--device", "cpu", "--only", "decode", "passes", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    assert gpu.main() == 1
    nccl, memory = {"broken": "RuntimeError: NCCL error"}, {"broken": "RuntimeError: out of memory"}
    assert json.loads(out.read_text())["parts"] == (
        {"decode": nccl, "passes": nccl},
        {"decode": memory, "passes": {"figure": 2}, "closing": nccl},
        {"decode": {"figure": 1}, "passes": {"figure": 2}, "closing": nccl},
    )[parts_done]  # fmt: skip
    assert seen == ([], [{}, {"decode": memory}], [{}, {"decode": {"figure": 1}}])[parts_done]


def test_share_of_the_data_sheet(bench_modules: None) -> None:
    from _gpu_parts import share_of_data_sheet

    assert share_of_data_sheet(1.2e12, "NVIDIA H200") == 0.25
    assert share_of_data_sheet(1.2e12, "CPU (x86_64)") is None


def test_heads_memory_by_hand(bench_modules: None) -> None:
    """Plain, in float32 units of its logits: logits, their quotient by T and log-probs; then log-probs, their gradient
    and that of the logits. At the full size (counted, not computed) the fused one holds less than a quarter."""
    from _gpu_model import FULL, VOCABULARY, Watch
    from _gpu_parts import _backward, plain_head

    from trainer.head import linear_logprobs_and_entropy

    def most(fused: bool, n: int, width: int, vocabulary: int, dtype: torch.dtype) -> float:
        hidden, weight = (torch.empty(k, width, dtype=dtype, device="meta") for k in (n, vocabulary))
        targets = torch.empty(n, dtype=torch.int64, device="meta")
        hidden.requires_grad_(), weight.requires_grad_()

        def work() -> None:
            head = (
                linear_logprobs_and_entropy(hidden, weight, targets, keep=0)
                if fused
                else plain_head(hidden, weight, targets)
            )
            _backward(head, hidden, weight)

        return Watch(torch.device("meta")).peak_bytes(work) / (4 * n * vocabulary)

    assert most(False, 512, 8, 4096, torch.float32) == pytest.approx(3, rel=1e-3)
    full = (FULL.head_tokens, FULL.head_width, VOCABULARY, torch.bfloat16)
    assert most(True, *full) < 0.25 * most(False, *full)


def test_memory_held_at_once_by_hand(bench_modules: None) -> None:
    from _gpu_model import Held, Watch

    def work() -> None:
        a = torch.ones(1000)
        b = a + 1
        del a
        b.view(10, 100).mul_(2)
        c = b.double()
        del b, c
        torch.ones(10)

    with Held() as held:
        work()
    assert held.most == 4000 + 8000
    assert Watch(torch.device("cpu")).peak_bytes(work) == 12_000


@pytest.mark.slow
def test_scaling_table_and_plot(tmp_path: Path) -> None:
    out, svg = tmp_path / "scaling.json", tmp_path / "scaling.svg"
    done = bench("scaling.py", "--most", 32, "--rounds", 1, "--out", out, "--plot", svg)
    assert done.returncode == ("MISSED" in done.stdout), done.stderr
    found = json.loads(out.read_text())
    assert [row["episodes"] for row in found["rows"]["episodes"]] == [16, 32]
    assert [row["turns_played"] for row in found["rows"]["turns"]] == [4, 8, 16, 32]
    assert svg.read_text().startswith("<svg xmlns=")
    assert "more episodes (exponent" in svg.read_text()


def test_exponent_by_hand(bench_modules: None, capsys: pytest.CaptureFixture[str]) -> None:
    import scaling

    assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert scaling.exponent([16, 1024], [1, 8]) == pytest.approx(0.5)
    rows = {
        "episodes": [{"episodes": n, "seconds": n} for n in (16, 32, 64)],
        "turns": [{"turns": n, "seconds": n**1.5} for n in (4, 8, 16)],
    }
    fits, well = scaling.report(rows)
    assert fits["episodes"]["met"]
    assert not fits["turns"]["met"]
    assert not well
    assert "turns^1.50 (last two: 1.50), wanted ≤ 1.3: MISSED" in capsys.readouterr().out
