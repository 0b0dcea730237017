"""A model's size, and what memory and disk a run of it takes, in words, beside what this machine has."""

import os
from collections.abc import Mapping
from contextlib import suppress

import torch

from trainer.config import TrainConfig
from trainer.head import CHUNK, KEEP
from trainer.host import checkpoint_bytes, folder_bytes, host_memory
from trainer.memory import Estimate, estimate, sequence_limit
from trainer.shapes import Found, shape_of

GB = 1e9

GPUS_PER_MACHINE = 8
"""Processes that are taken to share a machine, where this one has no GPU."""


def model_lines(config: TrainConfig) -> list[str]:
    """Parameters, and an estimate of the memory of each device and of its machine by what it is for, and of the disk;
    nothing is loaded."""
    found = shape_of(config.model)
    if found is None:
        return [f"parameters and memory: of {config.model.path!r} nothing is known before its folder is here"]
    guess = estimate(found.shape, config, head_logits=CHUNK if config.device.startswith("cuda") else KEEP)
    return [_parameters(found), *_memory(found, config, guess), *_host(found, config, guess), _disk(found, config)]


def _parameters(found: Found) -> str:
    shape = found.shape
    if not found.per_word:
        return f"{shape.parameters:,} parameters ({found.source})"
    besides = shape.parameters - found.per_word * shape.vocab_size
    return (
        f"{besides:,} parameters and {found.per_word} for each word of the vocabulary, which is made when the run "
        f"starts: with {shape.vocab_size:,} words, the most there can be, {shape.parameters:,}"
    )


def _memory(found: Found, config: TrainConfig, guess: Estimate) -> list[str]:
    scale = config.scale
    which = "each" if scale.rollouts == "each" else "the first"
    each = f"{which} of {scale.processes} devices" if scale.processes > 1 else "the device"
    how = ["sharded"] if scale.shard else []
    how += [scale.precision, "activations computed again" if scale.checkpoint_activations else "all activations kept"]
    passes = f"{guess.tokens:,} tokens a pass"
    if not guess.bounded:
        passes = f"at most {passes} (optimiser.micro_tokens would bound them)"
    parts = {**guess.training, **guess.engine}
    return [
        f"memory of {each}, estimated ({', '.join(how)}; {passes}; sequences of at most "
        f"{sequence_limit(found.shape, config):,} tokens):",
        *_table(parts),
        _total(guess.total)
        + _beside_device(guess.total, config.device)
        + (" (the engine sleeps during updates)" if guess.sleeps else ""),
    ]


def _host(found: Found, config: TrainConfig, guess: Estimate) -> list[str]:
    processes = config.scale.processes
    here = processes if config.device == "cpu" else min(processes, torch.cuda.device_count() or GPUS_PER_MACHINE)
    host = host_memory(found.shape, config, guess, here=here)
    which = "the first machine" if processes > here else "the machine"
    when = "" if host.together else ", one after the other"
    with_them = f" with {here} of {processes} processes" if processes > 1 else ""
    words = f"host memory of {which}{with_them}, estimated{when}"
    beside = _beside_machine(host.total) if config.device == "cpu" or torch.cuda.is_available() else ""
    if len(host.parts) == 1:
        return [f"{words.removesuffix(when)}: {host.total / GB:,.3f} GB ({next(iter(host.parts))}){beside}"]
    return [f"{words}:", *_table(host.parts), _total(host.total) + beside]


def _disk(found: Found, config: TrainConfig) -> str:
    one, folder = checkpoint_bytes(found.shape, config), folder_bytes(found.shape, config)
    return (
        f"disk: {one / GB:,.3f} GB a checkpoint, of which {config.checkpoint.keep} stay and one more is being written; "
        f"{folder / GB:,.3f} GB a model folder (warmstart, best)"
    )


def _table(parts: Mapping[str, int]) -> list[str]:
    return [f"  {name:28}{size / GB:10,.3f} GB" for name, size in parts.items()]


def _total(size: int) -> str:
    return f"  {'at most at once':28}{size / GB:10,.3f} GB"


def _beside_device(total: int, device: str) -> str:
    """How the total compares with a GPU, where one is here."""
    if not (device.startswith("cuda") and torch.cuda.is_available()):
        return ""
    found = torch.cuda.get_device_properties(torch.device(device))
    return _beside(total, found.total_memory, found.name)


def _beside_machine(total: int) -> str:
    size = 0
    with suppress(AttributeError, ValueError, OSError):  # not every system tells
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _beside(total, size, "this machine's memory") if size else ""


def _beside(total: int, size: int, name: str) -> str:
    return f", {'MORE than' if total > size else 'of'} the {size / GB:,.1f} GB of {name}"
