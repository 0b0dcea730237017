"""The model of a run: what is trained, and the whole one that engines get and files are made of.

They are one module, unless it is sharded. Then the whole one is a copy in the type that passes compute in (bfloat16
with `scale.precision=bfloat16`, so that no second float32 model is held), which the own sampler uses as it is. It is
written to between an update and a push; processes that play nothing have none.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from aem_agent.model.activations import set_activation_checkpointing
from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import LanguageModel, decoder_outline, load_model
from aem_agent.model.lora_layers import silence, take_merged
from aem_agent.model.weights import load_weights
from trainer import lora, sharding
from trainer.agent import Agent
from trainer.batch import Packer
from trainer.config import ScaleConfig
from trainer.export import export_model
from trainer.parity import parity
from trainer.policy import Policy
from trainer.world import World

T = TypeVar("T")

PROBE_TOKENS = 16


def loaded(world: World, folder: Path, load: Callable[[], T]) -> T:
    """`load()`, which loads a model from `folder`, by all processes; by one of a machine after the other where it is
    whole in main memory for a while, as what transformers makes is and our decoder is not."""
    return (world.together if decoder_outline(folder) is not None else world.in_turn)(load)


class Weights:
    """Loaded from the folder `source`.

    seed: of adapters. keeps: whether this process needs the whole model: to play, or to write files.
    """

    def __init__(
        self, scale: ScaleConfig, source: Path, device: torch.device, world: World, *, seed: int, keeps: bool
    ) -> None:
        self._scale, self._source, self._device, self._world, self._seed = scale, source, device, world, seed
        self._mesh = sharding.mesh_of(world, device) if scale.shard else None
        self.policy = self._policy(source, trained=True)
        self.model = cast(LanguageModel, self.policy.model)
        """What is trained; its parameters may be shards."""
        self._exact: dict[str, Tensor] = {}
        """Adapters as they are trained, where the whole model has them in half precision."""
        self.whole: LanguageModel | None = self.model
        if scale.shard:
            half = scale.precision == "bfloat16"
            dtype = torch.bfloat16 if half else torch.float32
            self.whole = loaded(world, source, lambda: self._copy(dtype) if keeps else None)

    def frozen(self, folder: Path) -> Policy:
        """Another model, which is not trained, sharded where the run's is."""
        return self._policy(folder, trained=False)

    def _policy(self, source: Path, *, trained: bool) -> Policy:
        """A model under its training interface. To be sharded, our decoder is spread before it has any weights, and
        each process fills its shards from the files; what is transformers' own is whole in main memory for a while."""
        if not self._scale.shard:
            return loaded(self._world, source, lambda: self._wrapped(load_model(source, device=self._device), trained))
        outline = decoder_outline(source)
        if outline is None:
            return loaded(self._world, source, lambda: self._wrapped(load_model(source), trained))

        def filled() -> Policy:
            model = cast(LanguageModel, outline)
            policy = self._wrapped(model, trained)
            load_weights(outline, source, sharding.put)
            if trained and self._scale.lora_rank:
                lora.start(model, self._seed, sharding.put)
            return policy

        return self._world.together(filled)

    def _copy(self, dtype: torch.dtype) -> LanguageModel:
        model = load_model(self._source, device=self._device, dtype=dtype)
        if self._scale.lora_rank:
            lora.adapt(model, self._scale, self._seed)
        return model

    def _wrapped(self, model: LanguageModel, trained: bool) -> Policy:
        if not trained:
            cast(nn.Module, model).requires_grad_(False)
        elif self._scale.lora_rank:
            lora.adapt(model, self._scale, self._seed)
        if trained and self._scale.checkpoint_activations:
            set_activation_checkpointing(model, True)
        policy = Policy(model)
        return policy if self._mesh is None else sharding.shard(policy, self._scale, self._mesh, self._device)

    def gather(self, temperature: float, limit: float) -> None:
        """The newest weights into the whole model, where there are two; both must then say the same.

        Raises:
            ParityError: they differ by more than `limit` nats on a probe.
        """
        if self._scale.shard:
            sharding.refresh(self.whole, self.policy)
            if self._scale.lora_rank and self._scale.precision == "bfloat16":
                self._exact = sharding.whole_trained(self.policy.model, keep=self.whole is not None)
            self._compare(temperature, limit)

    @torch.no_grad()
    def _compare(self, temperature: float, limit: float) -> None:
        length = min(PROBE_TOKENS, self.model.max_positions)
        tokens = [(7 * place + 3) % self.model.vocab_size for place in range(length)]
        packer = Packer()
        packer.prompt(tokens[: length // 2], 0, join=False)
        packer.response(tokens[length // 2 :], 0, 0)
        batch = packer.batch().to(self._device)
        now = self.policy(batch, temperature).logprobs
        there = now if self.whole is None else Policy(self.whole)(batch, temperature).logprobs
        parity(now, there, None, limit, self._world)

    def adopt(self, folder: Path) -> None:
        """Weights that were written before become the whole model's, and engines' with the next push. Where that is a
        copy, what is trained stays as it is: only for the end of a run."""

        def adopt() -> None:
            whole = self.whole
            if isinstance(whole, Decoder):
                load_weights(whole, folder)
                silence(whole)
            elif whole is not None:
                take_merged(cast(nn.Module, whole), load_model(folder).state_dict())

        loaded(self._world, folder, adopt)

    def write(self, agent: Agent, folder: Path, *, adapter: bool = True) -> None:
        """The whole model as a model folder, by processes that have it; adapters merged, with `adapter` also apart, in
        the type they are trained in."""
        assert self.whole is not None
        export_model(self.whole, agent, self._source, folder)
        if self._scale.lora_rank and adapter:
            lora.save_adapter(self.whole, folder / "adapter", str(self._source), self._exact)
