"""Gradients of several processes become one sum, and are clipped by the norm of all of them."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from trainer.sharding import sharded, whole
from trainer.world import World


def backward(value: Tensor, parameters: Iterable[nn.Parameter], world: World) -> None:
    """Add the gradients of this process's share of the loss. FSDP2 takes the mean over processes, and shares of a loss
    are to be summed, so with shards each counts times the number of processes (exact, where that is a power of two).
    """
    (value * world.size if world.size > 1 and sharded(parameters) else value).backward()  # type: ignore[no-untyped-call]


def add_up(trained: Iterable[nn.Parameter], others: Iterable[nn.Parameter], world: World) -> None:
    """After the last `backward` of an optimiser step: the sum over processes, where FSDP2 has not made it.

    trained: those that `backward` was told of. others: parameters that are never sharded, such as a critic's.
    """
    if world.size == 1:
        return
    of_shards = sharded(trained := list(trained))
    plain = [*([] if of_shards else trained), *others]
    gradients = _gradients(plain, world)
    world.sum_all(gradients)
    if of_shards:
        for gradient in gradients:
            gradient.div_(world.size)  # `backward` scaled these too


def _gradients(parameters: list[nn.Parameter], world: World) -> list[Tensor]:
    """The gradients of the parameters that have one on any process, zeros where this one did not come to them (an
    expert of a mixture that got no token): all processes list the same parameters."""
    if not parameters:
        return []
    anywhere = world.sum(torch.tensor([int(p.grad is not None) for p in parameters]))
    found = []
    for parameter, processes in zip(parameters, anywhere.tolist(), strict=True):
        if processes and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            found.append(parameter.grad)
    return found


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to `limit` where their norm, over all shards, is larger; returns it as it was."""
    norm: Tensor = nn.utils.clip_grad_norm_(list(parameters), limit)
    return whole(norm)
