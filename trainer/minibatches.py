"""Which sequences go into which optimiser step."""

import torch
from torch import Tensor

from trainer.batch import Batch
from trainer.world import ALONE, World


def minibatches(
    batch: Batch, keep: Tensor, *, responses: int, generator: torch.Generator, max_tokens: int | None = None
) -> list[list[Tensor]]:
    """One pass over the sequences that hold a response with `keep` (bool [R]), in random order.

    Returns optimiser steps, each a list of micro-batches (int64 sequence numbers): about `responses` kept responses a
    step, steps of nearly equal size so that no small rest gets a full-size step; at most `max_tokens` tokens per
    micro-batch (a single longer sequence stays whole).
    """
    kept = torch.bincount(batch.sequence_index[keep], minlength=batch.n_sequences)
    order = torch.nonzero(kept).squeeze(1).cpu()
    if not len(order):
        return []
    order = order[torch.randperm(len(order), generator=generator)]
    total = kept.cpu()[order].cumsum(0)
    steps = max(1, round(int(total[-1]) / responses))
    step_of = ((total - 1) * steps) // total[-1]
    parts = [order[step_of == i] for i in range(steps)]
    # Sequences of like length go together: attention sees a padded view of each micro-batch.
    lengths = batch.cu_seqlens.diff().cpu()
    return [micro_batches(batch, part[lengths[part].argsort(stable=True)], max_tokens) for part in parts if len(part)]


def micro_batches(batch: Batch, sequences: Tensor, max_tokens: int | None) -> list[Tensor]:
    """`sequences` in chunks of at most `max_tokens` tokens, at least one sequence each, kept in order.

    Without a limit they stay together.
    """
    if max_tokens is None:
        return [sequences]
    lengths = batch.cu_seqlens.diff().cpu()[sequences].tolist()
    chunks: list[list[int]] = [[]]
    room = max_tokens
    for sequence, length in zip(sequences.tolist(), lengths):
        if chunks[-1] and length > room:
            chunks.append([])
            room = max_tokens
        chunks[-1].append(sequence)
        room -= length
    return [torch.tensor(chunk) for chunk in chunks]


def divided(
    batch: Batch, chunks: list[Tensor], max_tokens: int | None, world: World = ALONE
) -> list[tuple[Tensor, bool]]:
    """What this process computes of micro-batches that all processes share: sequence numbers, and whether they count.

    Alone all of them, as they are. Of several each takes sequences worth about the same number of tokens, in chunks of
    at most `max_tokens`. All have the same number of passes, as sharded ones wait for each other: who has fewer repeats
    a short sequence that does not count.
    """
    if world.size == 1:
        return [(chunk, True) for chunk in chunks]
    sequences = torch.cat(chunks)
    lengths = batch.cu_seqlens.diff().cpu()[sequences].tolist()
    load, shares = [0] * world.size, [[] for _ in range(world.size)]  # type: ignore[var-annotated]
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        least = load.index(min(load))
        load[least] += lengths[place]
        shares[least].append(place)
    pieces = [micro_batches(batch, sequences[share[::-1]], max_tokens) if share else [] for share in shares]
    spare = sequences[lengths.index(min(lengths))][None]
    mine = pieces[world.rank]
    return [(piece, True) for piece in mine] + [(spare, False)] * (max(map(len, pieces)) - len(mine))
