"""One process of several that are not there: writes its shards of a model. FOLDER RANK SIZE LORA_RANK"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.testing._internal.distributed.fake_pg import FakeStore

from trainer.config import ScaleConfig
from trainer.weights import Weights
from trainer.world import World

folder, rank, size, lora = Path(sys.argv[1]), *map(int, sys.argv[2:])
dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)


class Alone(World):
    """The others never answer."""

    def together(self, function):  # type: ignore[no-untyped-def]
        return function()


scale = ScaleConfig(shard=True, lora_rank=lora)
weights = Weights(scale, folder, torch.device("cpu"), Alone(rank, size), seed=7, keeps=False)
shards = {name: p.detach().to_local().clone() for name, p in weights.model.named_parameters()}  # type: ignore[attr-defined]
save_file(shards, folder / "shards.safetensors")
