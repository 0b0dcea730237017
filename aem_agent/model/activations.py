"""Activation checkpointing: each layer is computed again in the backward pass instead of keeping what it computed.

Memory for activations falls from all that each layer computes to the states between layers; the backward pass costs
about one more forward. Gradients are the same, on CPUs bit for bit. Source: Chen et al., arXiv 1604.06174.

What is replaced is a layer's `forward`, so hooks around its call (sharding) run once per pass and see nothing of it.
"""

from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from aem_agent.model.decoder import Block, Decoder
from aem_agent.model.interface import ArchitectureError, LanguageModel


def set_activation_checkpointing(model: LanguageModel, on: bool) -> None:
    """Turn it on or off for all layers of a model, in place; passes without gradients (sampling, scoring) stay as they
    are. Raises `ArchitectureError` where transformers does not mark an architecture's layers as ones that can be."""
    layers = _layers(cast(nn.Module, model))
    if on and not layers:
        raise ArchitectureError(
            f"{type(getattr(model, 'lm', model)).__name__} has no layers that transformers can compute again: set "
            "scale.checkpoint_activations=false"
        )
    for layer in layers:
        layer.__dict__.pop("forward", None)
        if on:
            # a partial of a bound method, unlike a closure, follows its layer when a model is copied
            layer.forward = partial(_recomputed, layer.forward)


def _layers(model: nn.Module) -> list[nn.Module]:
    if isinstance(model, Decoder):
        return [block for block in model.blocks if isinstance(block, Block)]
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]


def _recomputed(forward: Any, *args: Any, **kwargs: Any) -> Any:
    """transformers' own switch needs training mode, and with it dropout; models here stay in evaluation mode."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
