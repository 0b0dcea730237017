"""Memory of machines and room on disks: by hand, and beside what real runs load and write."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from helpers import llama_folder, quick, quiet, run

from trainer import weights
from trainer.config import TrainConfig
from trainer.host import checkpoint_bytes, folder_bytes, host_memory
from trainer.memory import Estimate, Shape, adapter_parameters, critic_parameters
from trainer.memory_text import model_lines
from trainer.overrides import override
from trainer.runs import load_recipe, new_run
from trainer.shapes import folder_shape
from trainer.world import World

SHAPE = Shape(1000, 200, 10, hidden_size=4, layers=8, heads=2, kv_heads=1, head_dim=2, ffn=6, max_positions=64)
DEVICE = Estimate({"weights": 300}, {"cache": 50}, tokens=1, bounded=True, sleeps=False)
HALF = ("scale.shard=true", "scale.precision=bfloat16")


def config(*settings: str) -> TrainConfig:
    return override(TrainConfig(), ["device=cuda", *settings])


def test_a_machine_with_gpus_by_hand() -> None:
    found = host_memory(SHAPE, config("scale.processes=16", *HALF), DEVICE, here=8)
    assert found.parts == {"a checkpoint as it is saved": (4 + 8) * 1000} and found.total == 12_000
    theirs = replace(SHAPE, other_linear=(("lm.up", 4, 6),))
    found = host_memory(theirs, config("scale.processes=16"), DEVICE, here=8)
    assert found.parts == {"a checkpoint as it is saved": 4000, "a whole model as it loads": 4000}
    assert found.total == 4000, "one after the other"
    assert host_memory(SHAPE, config(), DEVICE, here=1).parts["a checkpoint as it is saved"] == 4000
    asleep = replace(DEVICE, sleeps=True)
    for rollouts, engines in (("each", 8), ("first", 1)):
        vllm = config("rollout.engine=vllm", "scale.processes=8", f"scale.rollouts={rollouts}")
        assert host_memory(SHAPE, vllm, asleep, here=8).parts["weights of engines asleep"] == engines * 2 * 1000
    lora = config("scale.lora_rank=2", *HALF)
    adapters = adapter_parameters(SHAPE, 2, lora.scale.lora_targets)
    saved = host_memory(SHAPE, lora, DEVICE, here=1).parts["a checkpoint as it is saved"]
    assert saved == 4 * (1000 + adapters) + 8 * adapters


def test_processes_on_cpus_share_the_machine() -> None:
    found = host_memory(SHAPE, config("device=cpu", "scale.processes=3"), DEVICE, here=3)
    assert found.parts == {"3 processes": 3 * 350} and found.total == 1050
    found = host_memory(SHAPE, config("device=cpu", "scale.shard=true"), DEVICE, here=1)
    assert found.total == 350 + 12_000


def test_room_on_the_disk_by_hand() -> None:
    assert (checkpoint_bytes(SHAPE, config()), folder_bytes(SHAPE, config())) == (12_000, 4000)
    assert (checkpoint_bytes(SHAPE, config(*HALF)), folder_bytes(SHAPE, config(*HALF))) == (12_000, 2000)
    assert checkpoint_bytes(SHAPE, config("algorithm.estimator=ppo")) == 12_000 + 12 * critic_parameters(SHAPE)
    lora = config("scale.lora_rank=2")
    assert checkpoint_bytes(SHAPE, lora) == 4000 + 12 * adapter_parameters(SHAPE, 2, lora.scale.lora_targets)


@pytest.mark.parametrize(
    "settings", [(), ("algorithm.estimator=ppo",), ("scale.lora_rank=2",), HALF], ids=["plain", "ppo", "lora", "half"]
)
def test_files_are_as_large_as_estimated(settings: tuple[str, ...], tmp_path: Path) -> None:
    """But for names and headers."""
    asked = quick(*settings, "steps=2", "evaluation.tasks=1")
    run(asked, tmp_path / "run")
    shape = folder_shape(tmp_path / "run" / "init")
    written = sum(path.stat().st_size for path in (tmp_path / "run" / "checkpoints" / "2-0000002").iterdir())
    assert 0 < written - checkpoint_bytes(shape, asked) < 50_000
    weights_file = tmp_path / "run" / "best" / "model.safetensors"
    assert 0 < weights_file.stat().st_size - folder_bytes(shape, asked) < 5000


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_what_is_sharded_is_never_whole_unless_transformers_makes_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trained one, the reference, and at the end the best one: of ours no model is loaded, only its shards are
    filled; what transformers makes is loaded in turn."""
    made: list[int] = []
    turns: list[bool] = []
    real, in_turn = weights.load_model, World.in_turn

    def turn(world: World, function: Any) -> Any:
        turns.append(True)
        try:
            return in_turn(world, function)
        finally:
            turns.pop()

    def load(source: Path, **options: Any) -> nn.Module:
        assert turns or kind == "ours"
        model: Any = real(source, **options)
        if options.get("dtype", torch.float32) == torch.float32:
            made.append(sum(p.nbytes for p in model.parameters()))
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr(weights, "load_model", load)
    monkeypatch.setattr(World, "in_turn", turn)
    asked = quick(*HALF, "algorithm.kl_coefficient=0.01", "warmstart.steps=0")
    if kind == "theirs":
        asked = override(asked, [f"model.path={llama_folder(tmp_path / 'llama')}"])
    with new_run(asked, tmp_path / "run", quiet()) as session:
        assert session.reference is not None
        shape = folder_shape(session.source)
        session.weights.adopt(session.source)
    found = host_memory(shape, override(asked, ["device=cuda"]), DEVICE, here=1).parts
    assert made == [found["a whole model as it loads"]] * 3 if kind == "theirs" else made == [] and shape.ours


def test_a_dry_run_tells_of_machine_and_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    lines = " ".join(" ".join(model_lines(load_recipe("swebench-grpo-pp-32b"))).split())
    assert "host memory of the first machine with 8 of 64 processes, estimated, one after the other:" in lines
    assert "a checkpoint as it is saved 393.145 GB" in lines  # 12 × 32,762,123,264
    assert "weights of engines asleep 65.524 GB" in lines
    assert "disk: 393.145 GB a checkpoint, of which 2 stay" in lines and "; 65.524 GB a model folder" in lines
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert "the first machine with 4 of 8 processes" in "\n".join(model_lines(load_recipe("webshop-grpo-7b")))
