"""torch devices by name, checked before anything is loaded on them."""

import torch

from aem_agent.model.interface import ModelError


def torch_device(name: str) -> torch.device:
    """The device `name` ("cpu", "cuda", "cuda:1", "mps", …).

    Raises:
        ModelError: no such device on this machine, or no such name; says which there are.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # torch knows the names of devices that this build or machine lacks
    except Exception as error:  # of many types: torch raises AssertionError where it was built without CUDA
        raise ModelError(f"device {name!r} cannot be used here; available: {', '.join(available())}") from error
    if device.type == "meta":
        raise ModelError(f"device 'meta' holds no numbers; available: {', '.join(available())}")
    return device


def available() -> list[str]:
    """The devices of this machine that torch can use."""
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return found + (["mps"] if torch.backends.mps.is_available() else [])
