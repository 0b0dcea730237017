"""Devices by name: those of this machine, and one clear error for any other."""

import pytest
import torch

from aem_agent.model.devices import torch_device
from aem_agent.model.interface import ModelError


def test_the_cpu_is_everywhere() -> None:
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["nope", "", "cuda:99", "meta", "xpu"])
def test_absent_devices_are_a_typed_error_that_names_those_there_are(name: str) -> None:
    with pytest.raises(ModelError, match="available: cpu"):
        torch_device(name)
