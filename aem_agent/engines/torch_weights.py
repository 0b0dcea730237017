"""Weights from one module to another in place, and the proof that both then say the same."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aem_agent.model.interface import LanguageModel, WeightsMismatchError
from aem_agent.model.lora_layers import Merged
from aem_agent.types import WeightParityError

PARITY_TOLERANCE = 1e-4
"""Largest difference in log-probs, nats, between trainer and engine after a weight sync in float32."""

PARITY_TOLERANCE_HALF = 0.5
"""The same when either side computes in half precision: from 16 on neighbouring logits of bfloat16 are 0.125 apart, and
a pass in batches adds to that. Old weights are closer: they are found by comparing the weights, bit for bit."""

LIKELY = 1e-3
"""Share of the likeliest token's probability from which on tokens are compared in half precision."""


def check_fit(state: Any, model: LanguageModel) -> Mapping[str, Tensor]:
    """The tensors of a module or state dict that a model can take; raises `WeightsMismatchError`."""
    source: Mapping[str, Tensor] = Merged(state) if isinstance(state, nn.Module) else state
    target = model.state_dict()
    if source.keys() != target.keys():
        odd = sorted(source.keys() ^ target.keys())
        raise WeightsMismatchError(f"weights of another architecture: {', '.join(odd[:3])} …")
    for name, tensor in source.items():
        if tensor.shape != target[name].shape:
            raise WeightsMismatchError(f"{name!r} is {tuple(tensor.shape)}, the engine's {tuple(target[name].shape)}")
    return source


@torch.no_grad()
def copy_weights(source: Mapping[str, Tensor], model: LanguageModel) -> None:
    """Copy in place, and compare what the model then has, bit for bit; raises `WeightParityError`."""
    target = model.state_dict()
    for name, tensor in source.items():
        target[name].copy_(tensor)
    target = model.state_dict()  # once more: what it gave may have been copies, which nothing is sampled from
    for name, tensor in source.items():
        if not torch.equal(target[name], tensor.to(target[name])):
            cause = "two names share one tensor?" if tensor.isfinite().all() else "they are not finite, they diverged"
            raise WeightParityError(f"{name!r} differs from the weights just loaded: {cause}")


@torch.no_grad()
def assert_parity(trainer: LanguageModel, engine: LanguageModel, tokens: int = 12) -> None:
    """Compare the trainer's packed forward with the engine's cached steps on a probe of fixed tokens: all logits of the
    last half, in half precision those of tokens that either finds likely; raises `WeightParityError`.

    It shows that the engine computes what the trainer does. That its weights are the newest is for `copy_weights`.
    """
    tokens = min(tokens, engine.max_positions)
    ids = [(7 * i + 3) % engine.vocab_size for i in range(tokens)]
    half = tokens // 2
    there = torch.tensor(ids, device=trainer.device)
    want = trainer.head(trainer.hidden(there, torch.tensor([0, tokens], device=trainer.device))[half - 1 :])
    here = torch.tensor(ids, device=engine.device)
    hidden, cache = engine.prefill(here[:half], torch.tensor([0, half], device=engine.device), tokens - half)
    got = [engine.head(hidden)]
    got += [engine.head(engine.step(here[i : i + 1], cache)) for i in range(half, tokens)]
    want, found = (x.float().log_softmax(-1).cpu() for x in (want, torch.cat(got)))
    whole = all(next(m.parameters()).dtype == torch.float32 for m in (trainer, engine))
    difference = (want - found).abs()
    if not whole:
        either = torch.maximum(want, found)
        unlikely = either < either.amax(-1, keepdim=True) + math.log(LIKELY)  # not what is no number: that is found
        difference = difference[~unlikely]
    worst = float(difference.max())
    limit = PARITY_TOLERANCE if whole else PARITY_TOLERANCE_HALF
    if not worst <= limit:
        raise WeightParityError(
            f"log-probs of trainer and engine differ by {worst:.2g} nats (allowed {limit:.0e}) after a sync"
        )
