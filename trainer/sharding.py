"""Weights, gradients and optimiser states spread over processes (FSDP2), and put together again.

Each block of a model is sharded, then the whole policy with what is left (embedding, final norm, head). A pass gathers
a block's weights, in `scale.precision`, and drops them again; gradients are summed in float32 into the shards, which
are the float32 master weights, with the optimiser's states beside them. Source: torch's FSDP2 (`fully_shard`).

Whole weights are only ever gathered one at a time. What gathers (`whole`, `whole_…`, `refresh`) is a collective: every
process calls it. To shard, to `put` and to `load_…` is each process's own affair: it keeps its part of what it has.
torch's own modules for all this are loaded when something is sharded: they take most of a second.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from aem_agent.model.interface import LanguageModel
from trainer.config import ScaleConfig
from trainer.policy import Policy
from trainer.world import World

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def mesh_of(world: World, device: torch.device) -> "DeviceMesh":
    """All processes in a row, each with its device; a collective."""
    from torch.distributed.device_mesh import init_device_mesh

    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # FSDP2 takes the current one
    return init_device_mesh(device.type, (world.size,))


def shard(policy: Policy, scale: ScaleConfig, mesh: "DeviceMesh", device: torch.device) -> Policy:
    """Shard a policy in place over all processes; it may lie on the CPU, its shards come to `device`.

    Without weights (on the device `meta`) it gets memory on `device` for the shards alone, to be filled by `put`.
    Adapters must be in it already; optimisers are made afterwards.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    outline = any(p.is_meta for p in policy.parameters())
    precision = MixedPrecisionPolicy()
    if scale.precision == "bfloat16":
        precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in blocks(policy.model):
        fully_shard(block, mesh=mesh, mp_policy=precision)
    # the root too is dropped after a pass: whoever looks at parameters between two passes sees shards
    fully_shard(policy, mesh=mesh, mp_policy=precision, reshard_after_forward=True)
    for method in ("states_at", "cross_entropies"):
        register_fsdp_forward_method(policy, method)
    if outline:
        policy.to_empty(device=device)
    else:
        _move_buffers(policy, device)
    return policy


def blocks(model: nn.Module) -> list[nn.Module]:
    """A model's layers: of its lists of modules the one that holds the most parameters."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]

    def size(found: Iterable[nn.Module]) -> int:
        return sum(p.numel() for module in found for p in module.parameters())

    return list(max(lists, key=size)) if lists else []


def _move_buffers(module: nn.Module, device: torch.device) -> None:
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(device)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this process may hold a part."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else cast(Tensor, gather())


def sharded(parameters: Iterable[Tensor]) -> bool:
    """Whether any of them is a shard (a DTensor): of a model's all are, or none."""
    return any(hasattr(p, "full_tensor") for p in parameters)


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's part of a whole tensor, which all hold, spread as `other` is."""
    if not sharded([other]) or tensor.shape != other.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    there = tensor.to(other.device)
    return distribute_tensor(there, other.device_mesh, other.placements, src_data_rank=None)


@torch.no_grad()
def put(parameter: Tensor, values: Tensor) -> None:
    """Whole values, which all processes have, into a parameter of which this one may hold a part, in its type."""
    parameter.copy_(like(values, parameter))


def whole_state(module: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """`state_dict` with whole tensors, on the CPU where they had to be gathered; without `keep` an empty one: for
    processes that only help to gather."""
    return dict(_kept(module.state_dict().items(), keep))


def _kept(named: Iterable[tuple[str, Tensor]], keep: bool) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in named:
        full = whole(tensor)
        if keep:
            yield name, full.cpu() if sharded([tensor]) else full


def whole_trained(module: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """Whole parameters of those that are trained, in the type they are trained in; see `whole_state`."""
    return dict(_kept(((name, p.detach()) for name, p in module.named_parameters() if p.requires_grad), keep))


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Whole tensors, which all processes hold, into a module that may be sharded."""
    own = module.state_dict()
    module.load_state_dict({name: like(tensor, own[name]) if name in own else tensor for name, tensor in state.items()})


def whole_optimiser(optimiser: torch.optim.Optimizer, *, keep: bool = True) -> dict[str, Any]:
    """An optimiser's `state_dict` with whole tensors, as one that was never sharded gives it; see `whole_state`."""
    found = optimiser.state_dict()
    state = {number: dict(_kept(values.items(), keep)) for number, values in found["state"].items()}
    return {"state": state, "param_groups": found["param_groups"]} if keep else {}


def load_optimiser(optimiser: torch.optim.Optimizer, found: Mapping[str, Any]) -> None:
    """What `whole_optimiser` gave, on all processes, into an optimiser whose parameters may be sharded; copied, as it
    may be a file's pages."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state = {
        number: {name: like(value, parameters[number]).clone() for name, value in values.items()}
        for number, values in found["state"].items()
    }
    optimiser.load_state_dict({"state": state, "param_groups": found["param_groups"]})


@torch.no_grad()
def refresh(copy: LanguageModel | None, policy: Policy) -> None:
    """The weights of a sharded policy into a whole model of the same layers, in that one's type; None: only help."""
    target = {} if copy is None else dict(cast(nn.Module, copy).named_parameters())
    for name, parameter in policy.model.named_parameters():
        full = whole(parameter.detach())
        if copy is not None:
            target[name].copy_(full)
