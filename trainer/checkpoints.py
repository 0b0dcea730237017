"""Checkpoints that survive `kill -9` and full disks, and load without running code.

A checkpoint is a folder `checkpoints/<stage>-<step>`: `model.safetensors` (raw parameters), `optimiser.pt` (tensors and
numbers, read with `weights_only=True`) and `state.json`. It is written under another name, flushed to disk and then
renamed, so a folder with that name is complete. Older ones are removed only afterwards.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aem_agent.files import own_folder
from trainer.errors import CheckpointError


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `step` optimiser or RL steps of `stage` are done."""

    stage: int
    """Index in `STAGES`."""
    step: int

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.step:07d}"


STAGES = ("warmstart", "explore", "rl")
_FILES = ("state.json", "model.safetensors", "optimiser.pt")
_STEP = re.compile(r"\d-\d{7,}", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run continues from."""

    progress: Progress
    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    """`state_dict` of the optimiser, and of the critic with its own under `critic`."""


def save(root: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `checkpoint` under `root`, then drop all but the newest `keep`.

    The last good checkpoint is untouched until the new one is complete.

    Raises:
        CheckpointError: the disk is full or refuses; the message names the checkpoint that is kept.
    """
    target = root / checkpoint.progress.name
    try:
        own_folder(root.parent, root.name)
    except OSError as error:
        raise CheckpointError(f"cannot write {root}: {error.strerror}") from error

    def write(folder: Path) -> None:
        save_file(_apart(checkpoint.model), folder / "model.safetensors")
        torch.save(dict(checkpoint.optimiser), folder / "optimiser.pt")
        state = {"stage": checkpoint.progress.stage, "step": checkpoint.progress.step}
        (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")

    kept = latest_path(root)
    try:
        write_folder(target, write)
    except CheckpointError as error:
        rest = f"the last good one, {kept}, is kept" if kept else "there is no earlier one"
        raise CheckpointError(f"{error}; {rest}; free space, then `aem-train resume`") from error
    for old in _complete(root)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, copied where they share memory: safetensors writes none that do."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        here = tensor.detach().contiguous().cpu()
        place = here.untyped_storage().data_ptr()
        found[name] = here.clone() if place in taken else here
        taken.add(place)
    return found


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder through `write` so that `target` is, at every moment, absent, the old one or the whole new one.

    Files get the permissions that the umask leaves (safetensors writes for the owner alone). Raises `CheckpointError`,
    of a full disk for example; the half-written folder is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.writing"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        write(temporary)
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(temporary.stat().st_mode & 0o666)  # the folder was made as the umask says
                _flush(path)
        _flush(temporary)
        if target.is_dir():
            shutil.rmtree(target)  # only ever the same step written again after a resume
        temporary.rename(target)
        _flush(target.parent)
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: what torch.save makes of a failed write
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"cannot write {target}: {str(error).splitlines()[0]}") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def point(link: Path, target: Path) -> None:
    """Let the symbolic link `link` point to its neighbour `target`, atomically."""
    temporary = link.with_name(f".{link.name}.writing")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)
    _flush(link.parent)


def remove_all_but(folder: Path, kept: Path) -> None:
    """Remove the folders beside `kept` that are named as a step is; what cannot be removed stays."""
    for path in folder.iterdir():
        if path != kept and _is_step(path):
            shutil.rmtree(path, ignore_errors=True)


def latest_path(root: Path) -> Path | None:
    """The newest complete checkpoint under `root`."""
    complete = _complete(root)
    return complete[-1] if complete else None


def load_latest(root: Path) -> Checkpoint | None:
    """The newest readable checkpoint, None if there is none.

    A damaged newest one is passed over for the one before it.

    Raises:
        CheckpointError: there are checkpoints and none can be read.
    """
    complete = _complete(root)
    for path in reversed(complete):
        try:
            return load(path)
        except CheckpointError as error:
            last = error
    if complete:
        raise last
    return None


def load(path: Path) -> Checkpoint:
    """Read one checkpoint folder; raises `CheckpointError`. No code of the file is run.

    Its tensors are pages of the files, which all processes of a machine share: copy what is to outlive the files.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        model = load_file(path / "model.safetensors")
        optimiser = torch.load(path / "optimiser.pt", weights_only=True, map_location="cpu", mmap=True)
        progress = Progress(int(state["stage"]), int(state["step"]))
        if not (0 <= progress.stage < len(STAGES) and 0 <= progress.step < 2**53):
            raise ValueError(f"there is no step {progress.step} of stage {progress.stage}")
    except Exception as error:  # a damaged file raises whatever its format's reader likes
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({type(error).__name__}: {error}); remove it"
        ) from error
    return Checkpoint(progress, model, optimiser)


def _complete(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first: names sort by stage and step."""
    return sorted(p for p in root.glob("[0-9]-[0-9]*") if _is_step(p) and all((p / name).is_file() for name in _FILES))


def _is_step(path: Path) -> bool:
    """A folder, and no link, that `Progress.name` names."""
    return _STEP.fullmatch(path.name) is not None and path.is_dir() and not path.is_symlink()


def _flush(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
