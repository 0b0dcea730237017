"""Checkpoints: whole or absent, the last good one outlives failures, and nothing in them is run."""

import copy
import errno
import gc
import os
import pickle
from pathlib import Path

import pytest
import torch

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.records import RecordWriteError, RunFolderError
from trainer import checkpoints
from trainer.checkpoints import Checkpoint, Progress, load, load_latest, save
from trainer.config import TrainConfig
from trainer.errors import CheckpointError
from trainer.learner import make_learner
from trainer.metrics import MetricsLog, read_records
from trainer.policy import Policy
from trainer.state import capture, put_back


def checkpoint(step: int, stage: int = 2) -> Checkpoint:
    weight = torch.full((2, 3), float(step))
    optimiser = {
        "policy": {"state": {0: {"step": torch.tensor(float(step))}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    }
    return Checkpoint(Progress(stage, step), {"w": weight, "tied": weight}, optimiser)


def test_round_trip_and_keep_last(tmp_path: Path) -> None:
    for step in (2, 10, 4):
        save(tmp_path, checkpoint(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2-0000004", "2-0000010"]
    found = load_latest(tmp_path)
    assert found is not None
    assert found.progress == Progress(2, 10)
    assert found.model["w"].equal(torch.full((2, 3), 10.0))
    assert found.optimiser["policy"]["state"][0]["step"] == 10


def test_tensors_that_share_memory_are_written_apart_and_others_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, torch.Tensor] = {}
    real = checkpoints.save_file
    monkeypatch.setattr(checkpoints, "save_file", lambda tensors, path: written.update(tensors) or real(tensors, path))
    whole, alone = torch.arange(6.0), torch.arange(3.0)
    state = {
        "alone": alone,
        "whole": whole,
        "tied": whole,
        "rows": whole[2:4],
        "turned": torch.arange(4.0).view(2, 2).T,
    }
    found = load(save(tmp_path, Checkpoint(Progress(2, 1), state, {}), keep=1))
    assert all(torch.equal(found.model[name], tensor) for name, tensor in state.items())
    assert [name for name in state if written[name].data_ptr() == state[name].data_ptr()] == ["alone", "whole"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_reading_maps_the_files_and_what_is_put_back_outlives_them(tmp_path: Path) -> None:
    """All processes of a machine share the pages; a removed checkpoint's disk space is free after the resume."""

    def mapped() -> set[str]:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return {line.rpartition("/")[2] for line in lines if f"{tmp_path}/" in line}

    model = Decoder(DecoderConfig("qwen3", 8, 4, 1, 2, 1, 2, 6)).init_weights(0)
    learner = make_learner(Policy(model), 0.1, TrainConfig(), critic=torch.Generator().manual_seed(0))
    assert learner.critic is not None and learner.critic_optimiser is not None
    for parameter in (*model.parameters(), *learner.critic.parameters()):
        parameter.grad = torch.ones_like(parameter)
    learner.optimiser.step()
    learner.critic_optimiser.step()
    before = copy.deepcopy(learner.optimiser.state_dict())
    save(tmp_path, capture(learner, Progress(2, 1), [torch.tensor(1.0)]), keep=1)
    found = load_latest(tmp_path)
    assert found is not None and mapped() == {"model.safetensors", "optimiser.pt"}
    unlogged = put_back(found, learner)
    del found
    gc.collect()
    assert mapped() == set() and unlogged == [torch.tensor(1.0)]
    after = learner.optimiser.state_dict()
    assert after["state"].keys() == before["state"].keys()
    for number, values in before["state"].items():
        assert all(torch.equal(after["state"][number][name], value) for name, value in values.items())


def test_a_later_stage_is_newer(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(900, stage=0), keep=3)
    save(tmp_path, checkpoint(0, stage=2), keep=3)
    found = load_latest(tmp_path)
    assert found is not None and found.progress == Progress(2, 0)


def test_a_full_disk_keeps_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, checkpoint(1), keep=1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"No space left.*2-0000001, is kept"):
        save(tmp_path, checkpoint(2), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["2-0000001"]
    found = load_latest(tmp_path)
    assert found is not None and found.progress.step == 1


def test_safetensors_on_a_full_disk_is_the_same_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save(tmp_path, checkpoint(2), keep=1)
    assert list(tmp_path.iterdir()) == []


def test_half_written_and_damaged_ones_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(1), keep=3)
    save(tmp_path, checkpoint(2), keep=3)
    (tmp_path / ".2-0000003.writing").mkdir()
    (tmp_path / "2-0000002" / "model.safetensors").write_bytes(b"cut off")
    found = load_latest(tmp_path)
    assert found is not None and found.progress.step == 1
    (tmp_path / "2-0000001" / "optimiser.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_latest(tmp_path)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = save(tmp_path, checkpoint(1), keep=1)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o666 & ~umask}


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "nothing") is None


class Trap:
    fired = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return setattr, (Trap, "fired", True)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = save(tmp_path, checkpoint(1), keep=1)
    (path / "optimiser.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load(path)
    torch.save(Trap(), path / "optimiser.pt")
    with pytest.raises(CheckpointError):
        load(path)
    assert not Trap.fired


def test_best_pointer_moves_atomically(tmp_path: Path) -> None:
    for name in ("2-0000001", "2-0000002"):
        checkpoints.write_folder(tmp_path / "models" / name, lambda folder, name=name: (folder / "x").write_text(name))
        checkpoints.point(tmp_path / "best", tmp_path / "models" / name)
        assert (tmp_path / "best" / "x").read_text() == name
    (tmp_path / "models" / "notes").mkdir()
    checkpoints.remove_all_but(tmp_path / "models", tmp_path / "models" / "2-0000002")
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["2-0000002", "notes"]


def test_metrics_that_cannot_be_written_say_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()  # refuses as a full disk does
    with pytest.raises(RunFolderError, match="aem-train resume"):
        MetricsLog(tmp_path / "metrics.jsonl").write("rl", 2, 1, {})


def test_rewinding_loses_no_metrics_when_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.write("rl", 2, step, {"loss": step})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RecordWriteError):
        patch.setattr("os.fsync", full)
        log.rewind(2, 1)
    assert len(read_records(log.path)) == 3
    log.rewind(2, 1)
    assert [record["step"] for record in read_records(log.path)] == [1]
