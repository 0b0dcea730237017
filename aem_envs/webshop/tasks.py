"""The goals of a shop as tasks: their ids, their splits, and how one is drawn."""

import numpy as np

from aem_envs.core import BadOptionError
from aem_envs.webshop.store import Store


class Tasks:
    """Task ids are "<prefix>/<number>", with at least five digits; each goal has one id, written in one way."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self.splits = {name: part for name, part in store.splits.items() if part}
        """Split → numbers of its goals; splits without goals are left out."""

    def id(self, number: int) -> str:
        """The id of a goal."""
        return f"{self._prefix}/{number:05d}"

    def find(self, task_id: str) -> tuple[str, int]:
        """(split, number) of an id; raises `BadOptionError` if no goal is called so."""
        prefix, _, digits = task_id.rpartition("/")
        if prefix == self._prefix and digits.isascii() and digits.isdigit() and len(digits) < 12:
            number = int(digits)
            for name, part in self.splits.items():
                if number in part and task_id == self.id(number):
                    return name, number
        raise BadOptionError(
            f"unknown task_id {task_id[:80]!r}; those of this shop run from {self.id(0)!r} to "
            f"{self.id(self._store.n_goals - 1)!r}"
        )

    def draw(self, split: str, rng: np.random.Generator, skip_first: bool) -> int:
        """The number of a goal of a split, drawn by weight.

        `skip_first` draws as the original does, which counts from one: the first goal never, and the last in its own
        place and in that of the one before it.
        """
        part, weights = self.splits[split], self._store.weights
        before = float(weights[part.start - 1]) if part.start else 0.0
        place = before + rng.random() * (float(weights[part.stop - 1]) - before)
        number = int(np.searchsorted(weights[part.start : part.stop], place, side="right")) + part.start
        return min(number + skip_first, part.stop - 1)
