"""Builds a search index in little memory: postings go to disk in sorted runs, which `finish` merges term by term."""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aem_envs.webshop.search.analyser import term, words
from aem_envs.webshop.search.files import ARRAYS, term_hash, write_header
from aem_envs.webshop.search.scoring import impacts, inverse_norms, length_bytes, weights

RUN_WORDS = 4_000_000
"""Words after which a run is sorted and written."""

BLOCK_POSTINGS = 4_000_000
"""Postings merged at once; terms with more are merged alone."""

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class IndexBuilder:
    """Add documents, then `finish`. Memory: terms (some 200 bytes each), 5 bytes a document, and about 250 MB."""

    def __init__(self, folder: Path) -> None:
        """Writes into `folder`, which is made where missing; other files there are left alone."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._terms = _Terms()
        self._words = array("i")
        """Term numbers of the words of this run; -1 for words that are no terms."""
        self._sizes = array("i")
        """Words of each document of this run."""
        self._lengths: list[NDArray[np.int32]] = []
        self._runs: list[tuple[Path, Path]] = []
        self._documents = 0

    def add(self, text: str) -> None:
        """Adds a document; the first has number 0."""
        before = len(self._words)
        self._words.extend(map(self._terms.__getitem__, words(text)))
        self._sizes.append(len(self._words) - before)
        if len(self._words) >= RUN_WORDS:
            self._write_run()

    def finish(self, order: NDArray[np.integer] | None = None) -> None:
        """Writes the index. Document `order[i]` gets number i, in which order documents of equal score are found.

        Raises:
            ValueError: `order` is no permutation of the documents.
            OSError: no space is left.
        """
        self._write_run()
        lengths = np.concatenate(self._lengths)
        if order is None:
            order = np.arange(self._documents)
        if not np.array_equal(np.sort(order), np.arange(self._documents)):
            raise ValueError(f"order must hold each of 0 … {self._documents - 1} once")
        rank = np.empty(self._documents, np.uint64)
        rank[order] = np.arange(self._documents, dtype=np.uint64)
        lengths = lengths[order]
        self._merge(rank, lengths)
        for paths in self._runs:
            for path in paths:
                path.unlink()
        self._runs.clear()

    def _write_run(self) -> None:
        """Sorts the words since the last run by term and document, counts equal ones, writes and forgets them."""
        numbers = np.frombuffer(self._words, np.int32) if self._words else np.empty(0, np.int32)
        local = np.repeat(np.arange(len(self._sizes), dtype=np.uint64), np.array(self._sizes, np.int64))
        used = numbers >= 0
        local = local[used]
        self._lengths.append(np.bincount(local.astype(np.int64), minlength=len(self._sizes)).astype(np.int32))
        keys = (numbers[used].astype(np.uint64) << _HALF) | (local + np.uint64(self._documents))
        keys.sort()
        first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.empty(0, np.int64)
        counts = np.diff(np.r_[first, len(keys)]).astype(np.int32)
        paths = tuple(self._folder / f"run-{len(self._runs)}-{what}.npy" for what in ("keys", "counts"))
        np.save(paths[0], keys[first])
        np.save(paths[1], counts)
        self._runs.append((paths[0], paths[1]))
        self._documents += len(self._sizes)
        self._words, self._sizes = array("i"), array("i")

    def _merge(self, rank: NDArray[np.uint64], lengths: NDArray[np.int32]) -> None:
        """Runs to arrays."""
        runs = [(np.load(keys, mmap_mode="r"), np.load(counts, mmap_mode="r")) for keys, counts in self._runs]
        sizes = np.zeros(self._terms.count, np.int64)
        most = 0
        for keys, counts in runs:
            sizes += np.bincount((keys >> _HALF).astype(np.int64), minlength=len(sizes))
            most = max(most, int(counts.max(initial=0)))
        starts = np.r_[0, np.cumsum(sizes)]
        filled = int(np.count_nonzero(lengths))
        average = float(lengths.sum(dtype=np.int64)) / max(1, filled)
        codes = length_bytes(lengths.astype(np.int64))
        inverse = inverse_norms(average or 1.0)
        idf = weights(sizes, filled)
        total = int(starts[-1])
        docs = self._new("docs", total)
        tallies = self._new("counts", total, np.min_scalar_type(most))
        scores = self._new("impacts", total)
        bounds = np.zeros(len(sizes), np.float32)
        for low, high in _blocks(starts):
            keys, counts = _gathered(runs, low, high, rank)
            part = slice(starts[low], starts[high])
            docs[part] = keys & _LOW
            tallies[part] = counts
            scores[part] = impacts(np.repeat(idf[low:high], sizes[low:high]), counts, inverse[codes[docs[part]]])
            bounds[low:high] = np.maximum.reduceat(scores[part], starts[low:high] - starts[low])
        hashes = np.fromiter(map(term_hash, self._terms.names()), np.uint64, len(sizes))
        by_hash = np.argsort(hashes)
        self._new("hashes", len(sizes))[:] = hashes[by_hash]
        self._new("starts", len(sizes))[:] = starts[:-1][by_hash]
        self._new("sizes", len(sizes))[:] = sizes[by_hash]
        self._new("bounds", len(sizes))[:] = bounds[by_hash]
        self._new("lengths", len(codes))[:] = codes
        facts = {"documents": len(codes), "filled": filled, "average": average, "terms": len(sizes), "postings": total}
        write_header(self._folder, facts)

    def _new(self, name: str, length: int, dtype: np.dtype | None = None) -> NDArray:
        path = self._folder / f"{name}.npy"
        if not length:
            np.save(path, np.empty(0, dtype or ARRAYS[name]))
            return np.empty(0, dtype or ARRAYS[name])
        array: NDArray = np.lib.format.open_memmap(path, "w+", dtype or np.dtype(ARRAYS[name]), (length,))
        if hasattr(os, "posix_fallocate"):  # on a full disk an error now, where a write to the map would be a SIGBUS
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array


def _blocks(starts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of terms with at most `BLOCK_POSTINGS` postings, or of one term."""
    low = 0
    while low < len(starts) - 1:
        high = int(np.searchsorted(starts, starts[low] + BLOCK_POSTINGS, side="right")) - 1
        high = max(high, low + 1)
        yield low, high
        low = high


def _gathered(
    runs: list[tuple[NDArray[np.uint64], NDArray[np.int32]]], low: int, high: int, rank: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Keys with final document numbers, ascending, and counts, of the terms from `low` to before `high`."""
    edges = np.array([low, high], np.uint64) << _HALF
    spans = [slice(*np.searchsorted(keys, edges)) for keys, _ in runs]
    keys = np.concatenate([keys[span] for (keys, _), span in zip(runs, spans)])
    counts = np.concatenate([counts[span] for (_, counts), span in zip(runs, spans)])
    keys = (keys & ~_LOW) | rank[keys & _LOW]
    order = np.argsort(keys, kind="stable")
    return keys[order], counts[order]


class _Terms(dict[str, int]):
    """Number of the term of each word met, -1 for none; forgets words, never terms, when there are many."""

    LIMIT = 1_000_000

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[str, int] = {}

    def __missing__(self, word: str) -> int:
        name = term(word)
        number = -1 if name is None else self._numbers.setdefault(name, len(self._numbers))
        if len(self) >= self.LIMIT:
            self.clear()
        self[word] = number
        return number

    @property
    def count(self) -> int:
        return len(self._numbers)

    def names(self) -> Iterator[str]:
        """Terms by number."""
        return iter(self._numbers)
