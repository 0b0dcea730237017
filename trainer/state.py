"""What a checkpoint holds of a run, and back."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from trainer.checkpoints import Checkpoint, Progress, load, load_latest
from trainer.errors import CheckpointError
from trainer.learner import Learner
from trainer.sharding import load_optimiser, load_state, whole_optimiser, whole_state
from trainer.world import World


def capture(learner: Learner, progress: Progress, unlogged: Sequence[Tensor]) -> Checkpoint:
    """The present state, whole however it is sharded, on the first process; of the others' what is sharded is left out.
    `unlogged`: losses of the warm start (scalars) that no record has averaged yet."""
    first = learner.world.first
    model = whole_state(cast(nn.Module, learner.model), keep=first)
    optimiser = {"policy": whole_optimiser(learner.optimiser, keep=first), "torch_rng": torch.get_rng_state()}
    if learner.critic is not None and learner.critic_optimiser is not None:
        optimiser |= {"critic": learner.critic.state_dict(), "critic_optimiser": learner.critic_optimiser.state_dict()}
    if unlogged:
        optimiser["unlogged"] = torch.stack(list(unlogged)).cpu()
    return Checkpoint(progress, model, optimiser)


def newest(root: Path, world: World) -> Checkpoint | None:
    """The newest readable checkpoint under `root` that the first process sees, which all load; None if there is none.

    Raises:
        CheckpointError: there are checkpoints and none can be read, or a process cannot read that one.
    """
    mine: list[Checkpoint] = []

    def find() -> str | None:
        mine.extend(filter(None, [load_latest(root)]))
        return mine[0].progress.name if mine else None

    name = world.only_first(find)
    return None if name is None else world.together(lambda: mine[0] if mine else load(root / name))


def put_back(found: Checkpoint, learner: Learner) -> list[Tensor]:
    """The state of a checkpoint into fresh optimisers; returns the losses that no record has averaged yet.

    Raises:
        CheckpointError: it is of another model, or holds something else.
    """
    try:
        return _put_back(found, learner)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:  # as whoever reads a part of it
        raise CheckpointError(
            f"checkpoint {found.progress.name} does not fit this run ({type(error).__name__}: {error}): remove it"
        ) from error


def _put_back(found: Checkpoint, learner: Learner) -> list[Tensor]:
    load_state(cast(nn.Module, learner.model), found.model)
    load_optimiser(learner.optimiser, found.optimiser["policy"])
    if learner.critic is not None and learner.critic_optimiser is not None:
        learner.critic.load_state_dict(found.optimiser["critic"])
        load_optimiser(learner.critic_optimiser, found.optimiser["critic_optimiser"])
    torch.set_rng_state(found.optimiser["torch_rng"])
    unlogged = found.optimiser.get("unlogged")  # none in checkpoints of earlier versions
    return [] if unlogged is None else list(unlogged.to(learner.model.device, copy=True).unbind())
