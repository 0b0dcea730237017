"""What a run takes of its machines' own memory and of the disk, estimated from sizes as in `trainer.memory`.

Not counted: Python, environments and their workers, and files that are mapped, whose pages the system may drop.
"""

from dataclasses import dataclass

from trainer.config import TrainConfig
from trainer.memory import (
    FLOAT,
    Estimate,
    Shape,
    adapter_parameters,
    critic_parameters,
    engine_width,
    trained_parameters,
)


@dataclass(frozen=True, slots=True)
class Host:
    """Bytes of one machine's memory, the first one's."""

    parts: dict[str, int]
    together: bool
    """Whether the parts are there at once, or one after the other."""

    @property
    def total(self) -> int:
        """The most that is held at once."""
        return (sum if self.together else max)(self.parts.values())


def host_memory(shape: Shape, config: TrainConfig, device: Estimate, *, here: int) -> Host:
    """Of a machine on which `here` of the processes run, the first among them.

    With GPUs: whole weights are gathered for a checkpoint, with Adam's moments where they are sharded; weights of
    engines that sleep wait here; and a model of transformers is made in float32 before it is spread or moved to its
    device (the reference likewise, later), by one process after the other. Our decoder is mapped, and copied from its
    files one parameter at a time. On CPUs the devices' memory is the machine's too.
    """
    scale = config.scale
    saved = FLOAT * _weights(shape, config)
    if scale.shard:
        saved += 2 * FLOAT * trained_parameters(shape, config)
    if config.device == "cpu":
        parts = {f"{here} processes" if here > 1 else "the process": here * device.total}
        return Host(parts | ({"a checkpoint as it is saved": saved} if scale.shard else {}), together=True)
    parts = {"a checkpoint as it is saved": saved}
    if not shape.ours:
        parts["a whole model as it loads"] = FLOAT * shape.parameters
    if device.sleeps:
        engines = 1 if scale.rollouts == "first" else here
        parts["weights of engines asleep"] = engines * engine_width(config) * shape.parameters
    return Host(parts, together=False)


def checkpoint_bytes(shape: Shape, config: TrainConfig) -> int:
    """A checkpoint on the disk: weights, and two moments of all that is trained, in float32."""
    moments = 2 * trained_parameters(shape, config)
    critic = 3 * critic_parameters(shape) if config.algorithm.estimator == "ppo" else 0
    return FLOAT * (_weights(shape, config) + moments + critic)


def folder_bytes(shape: Shape, config: TrainConfig) -> int:
    """The weights in a model folder that the run writes, adapters merged."""
    half = config.scale.shard and config.scale.precision == "bfloat16"
    return (2 if half else FLOAT) * shape.parameters


def _weights(shape: Shape, config: TrainConfig) -> int:
    """Those of the model, and of its adapters."""
    rank, targets = config.scale.lora_rank, config.scale.lora_targets
    return shape.parameters + (adapter_parameters(shape, rank, targets) if rank else 0)
