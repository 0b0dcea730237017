"""Checkpoints: whole or absent, the last good one outlives failures, and nothing in them is run."""

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from aem_agent.records import RecordWriteError, RunFolderError
from trainer import checkpoints
from trainer.checkpoints import Checkpoint, Progress, load, load_latest, save
from trainer.errors import CheckpointError
from trainer.metrics import MetricsLog, read_records


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
    for name in ("a", "b"):
        checkpoints.write_folder(tmp_path / "models" / name, lambda folder, name=name: (folder / "x").write_text(name))
        checkpoints.point(tmp_path / "best", tmp_path / "models" / name)
        assert (tmp_path / "best" / "x").read_text() == name
    checkpoints.remove_all_but(tmp_path / "models", tmp_path / "models" / "b")
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["b"]


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
