"""Passes without gradients over a whole batch, divided among the processes; all then know all of what was computed."""

from collections.abc import Iterator

import torch
from torch import Tensor

from trainer.batch import Batch, Part
from trainer.minibatches import divided, micro_batches
from trainer.world import ALONE, World


def parts(batch: Batch, max_tokens: int, world: World = ALONE) -> Iterator[tuple[Part, bool]]:
    """This process's parts of `batch`, of at most `max_tokens` tokens, and whether they count (see `divided`)."""
    chunks = micro_batches(batch, torch.arange(batch.n_sequences), max_tokens)
    for sequences, counts in divided(batch, chunks, max_tokens, world):
        yield batch.select(sequences.to(batch.tokens.device)), counts


class Rows:
    """One number for each of `n` rows of a batch, computed in parts."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._rows: list[Tensor] = []
        self._values: list[Tensor] = []

    def add(self, rows: Tensor, values: Tensor, counts: bool = True) -> None:
        """Numbers of the rows `rows` (int64 [k]): [k]."""
        self._rows.append(rows if counts else rows[:0])
        self._values.append(values if counts else values[:0])

    def of_all(self, world: World = ALONE) -> Tensor:
        """All of them, in order: [n]. Alone, parts were added in order, and every row once."""
        if world.size == 1:
            return torch.cat(self._values)
        values = torch.cat(self._values)
        return world.sum(values.new_zeros(self.n).index_copy_(0, torch.cat(self._rows), values))
